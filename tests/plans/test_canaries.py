"""Canaries are what their kind says, apart from every side of the plan, and members by fair coins of their own."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy import stats

from memberscope.config.outside import PlanStudyConfig
from memberscope.config.shared import CanaryConfig
from memberscope.config.training import SweepStudyConfig, TrainStudyConfig
from memberscope.datasets import LabeledData, Table, TableColumn
from memberscope.errors import UserError
from memberscope.plans.canaries import (
    KINDS,
    Canaries,
    canary_membership,
    draw_canaries,
    flip_coins,
    plant,
)
from memberscope.plans.shadow import make_shadow_plan


def _data(n: int = 400, *, classes: int = 5, seed: int = 0, **changes: Any) -> LabeledData:
    """Records of which the first two numbers are the record's position, so that each can be recognized."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 50, (n, 6)).astype(np.uint8)
    x[:, 0], x[:, 1] = np.arange(n) % 256, np.arange(n) // 256
    made = LabeledData(
        name="made", x=x, y=rng.integers(0, classes, n), class_names=tuple("abcdefghij"[:classes]), source="a test"
    )
    return dataclasses.replace(made, **changes)


USED = np.arange(0, 400, 2)


def _drawn(data: LabeledData, *, kind: str = "natural", count: int = 100, seed: int = 3, **more: Any) -> Canaries:
    return draw_canaries(data, USED, kind=kind, count=count, seed=seed, **more)


@pytest.mark.parametrize(("kind", "copies"), [("natural", 1), ("mislabelled", 1), ("duplicated", 3)])
def test_canaries_of_the_data_are_different_records_on_no_side(kind: str, copies: int) -> None:
    data = _data()
    found = _drawn(data, kind=kind, copies=copies)
    assert found.records is not None
    assert not np.isin(found.records, USED).any()
    assert len(np.unique(found.records)) == 100
    np.testing.assert_array_equal(found.x, data.x[found.records])
    same = found.y == data.y[found.records]
    assert same.all() if kind != "mislabelled" else not same.any()
    assert found.tests_one_record == (copies == 1)


def test_mislabelled_canaries_get_each_other_class_alike() -> None:
    data = _data(6000, classes=5)
    found = draw_canaries(data, np.arange(1000), kind="mislabelled", count=4000, seed=1)
    assert found.records is not None
    shift = (found.y - data.y[found.records]) % 5
    counts = np.bincount(shift, minlength=5)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:]).pvalue > 1e-3


def test_natural_canaries_share_the_label_noise_of_the_sides() -> None:
    data = _data()
    found = _drawn(data, noise=0.2)
    assert found.records is not None
    assert (found.y != data.y[found.records]).sum() == 20
    clean = _drawn(data)
    np.testing.assert_array_equal(found.records, clean.records)


def test_noise_has_the_values_of_each_feature_and_nothing_between_them() -> None:
    rng = np.random.default_rng(0)
    bit = rng.random(3000) < 0.1
    x = np.stack([bit, bit, rng.random(3000) < 0.7], axis=1)
    data = _data(3000, x=x, y=rng.integers(0, 5, 3000))
    found = draw_canaries(data, np.arange(100), kind="noise", count=2000, seed=0)
    assert found.records is None
    assert found.x.dtype == np.bool_
    np.testing.assert_allclose(found.x.mean(axis=0), [0.1, 0.1, 0.7], atol=0.03)
    assert (found.x[:, 0] == found.x[:, 1]).mean() == pytest.approx(0.82, abs=0.03)  # in the data set they are equal
    assert stats.chisquare(np.bincount(found.y, minlength=5)).pvalue > 1e-3


def _table(n: int, words: tuple[str, ...], *, seed: int, name: str = "age") -> LabeledData:
    rng = np.random.default_rng(seed)
    x = np.stack([rng.integers(18, 90, n), rng.integers(0, len(words), n), rng.random(n)], axis=1).astype(np.float64)
    x[0, 1] = np.nan
    columns = (
        TableColumn(name=name, kind="number", whole=True), TableColumn(name="town", kind="word", categories=words),
        TableColumn(name="share", kind="number"),
    )  # fmt: skip
    return LabeledData(
        name=f"table{seed}",
        x=x,
        y=rng.integers(0, 2, n),
        class_names=("no", "yes"),
        source="a test",
        table=Table(columns=columns),
    )


@pytest.mark.parametrize("kind", ["natural", "mislabelled", "noise", "duplicated"])
def test_canaries_of_a_table_make_frames_of_its_columns(kind: str) -> None:
    data = _table(300, ("Bern", "Oslo", "Rome"), seed=0)
    found = draw_canaries(data, np.arange(100), kind=kind, count=60, seed=0, copies=2 if kind == "duplicated" else 1)
    planted = plant(data, found)
    assert data.table is not None
    frame = data.table.frame(planted.data.x[planted.rows])
    assert frame["age"].dtype == np.int64
    assert set(frame["town"].dropna()) == {"Bern", "Oslo", "Rome"}


def test_words_of_another_table_keep_their_meaning() -> None:
    data, other = _table(300, ("Bern", "Oslo", "Rome"), seed=0), _table(200, ("Aachen", "Oslo", "Rome"), seed=1)
    assert data.table is not None
    assert other.table is not None
    found = draw_canaries(data, np.arange(100), kind="out_of_distribution", count=100, seed=0, other=other)
    towns = data.table.frame(found.x)["town"]
    assert set(towns.dropna()) == {"Oslo", "Rome"}  # Aachen cannot be said in the columns of the data set
    given = {(age, share): town for age, town, share in other.table.frame(other.x).itertuples(index=False)}
    for age, town, share in data.table.frame(found.x).dropna().itertuples(index=False):
        assert given[age, share] == town


def test_records_of_another_set_are_stored_as_the_data_set_stores_its_own() -> None:
    data = _data()
    x = np.random.default_rng(1).random((150, 6)).astype(np.float32)
    other = LabeledData(name="other", x=x, y=np.zeros(150, np.int64), class_names=("z",), source="a test")
    found = draw_canaries(data, USED, kind="out_of_distribution", count=100, seed=0, other=other)
    assert found.x.dtype == np.uint8
    stored = {tuple(row) for row in np.round(x * 255).astype(int).tolist()}
    assert {tuple(row) for row in found.x.tolist()} <= stored
    assert len({tuple(row) for row in found.x.tolist()}) == 100


@pytest.mark.parametrize("copies", [1, 3])
def test_planted_canaries_lie_behind_the_data_set_and_are_trained_on_with_all_their_copies(copies: int) -> None:
    data = _data(groups=np.arange(400) // 2, same=np.arange(400))
    found = _drawn(data, kind="mislabelled", count=50, copies=copies)
    planted = plant(data, found)
    assert len(planted.data) == 400 + 50 * copies
    np.testing.assert_array_equal(planted.data.x[:400], data.x)
    np.testing.assert_array_equal(planted.data.x[planted.rows], found.x)
    coins = flip_coins(50, seed=1)
    index = planted.members(coins)
    assert len(np.unique(index)) == len(index) == copies * coins.sum()
    assert index.min() >= 400
    values, counts = np.unique(planted.data.x[index], axis=0, return_counts=True)
    assert (counts == copies).all()
    assert {tuple(row) for row in values.tolist()} == {tuple(row) for row in found.x[coins].tolist()}
    assert planted.data.groups is not None
    own = planted.data.groups[400:].reshape(copies, 50)
    assert (own == own[0]).all()
    assert len(np.unique(own)) == 50
    assert not np.isin(own, data.groups).any()


def test_no_two_canaries_are_of_one_group() -> None:
    data = _data(groups=np.arange(400) // 4)
    found = draw_canaries(data, np.arange(160), kind="natural", count=60, seed=0)
    assert found.records is not None
    assert len(np.unique(found.records // 4)) == 60
    with pytest.raises(UserError, match=r"^canaries=61: 60 groups of records of made .*; allowed: at most 60"):
        draw_canaries(data, np.arange(160), kind="natural", count=61, seed=0)


def test_copies_of_records_on_a_side_are_no_canaries() -> None:
    same = np.arange(400)
    same[200:300] = same[:100]  # copies of members that were kept
    found = draw_canaries(_data(same=same), np.arange(100), kind="natural", count=200, seed=0)
    assert found.records is not None
    assert not np.isin(same[found.records], np.arange(100)).any()


def test_coins_are_fair_and_independent() -> None:
    coins = np.stack([flip_coins(200, seed=seed) for seed in range(200)])
    assert stats.binomtest(int(coins.sum()), coins.size).pvalue > 1e-3
    per_seed = coins.sum(axis=1)  # binomial, not balanced: variance 50
    assert 35 < per_seed.var(ddof=1) < 70
    assert abs(np.corrcoef(coins[:-1].ravel(), coins[1:].ravel())[0, 1]) < 0.02


def test_each_pair_of_a_fleet_has_each_canary_once_and_each_model_flips_fair_coins() -> None:
    member = np.concatenate([canary_membership(100, design="half", models=8, seed=seed) for seed in range(60)], axis=1)
    assert (member[0::2] ^ member[1::2]).all()
    assert all(stats.binomtest(int(row.sum()), member.shape[1]).pvalue > 1e-4 for row in member[0::2])
    others = member[[2, 4, 6]]
    for row in others:  # nothing about a target follows from the models of other pairs
        assert abs(np.corrcoef(member[0], row)[0, 1]) < 0.06


def test_shadows_of_a_disjoint_fleet_see_no_canary() -> None:
    plan = make_shadow_plan(
        np.zeros(200, np.int64), design="disjoint", members=20, population=10, shadows=4, targets=2, coin_flips=True, seed=0
    )
    member = canary_membership(80, design="disjoint", models=plan.n_models, targets=plan.targets, seed=0)
    shadow = np.setdiff1d(np.arange(plan.n_models), plan.targets)
    assert not member[shadow].any()
    assert all(20 < row.sum() < 60 for row in member[plan.targets])
    assert (member[0] != member[1]).any()


def test_another_seed_draws_other_canaries_and_other_coins() -> None:
    data = _data()
    for kind in ("natural", "mislabelled", "noise"):
        first, again, other = (_drawn(data, kind=kind, seed=seed) for seed in (3, 3, 4))
        np.testing.assert_array_equal(first.x, again.x)
        np.testing.assert_array_equal(first.y, again.y)
        assert not np.array_equal(first.x, other.x)
        assert plant(data, first).data.digest == plant(data, again).data.digest != plant(data, other).data.digest
    assert not np.array_equal(flip_coins(100, seed=3), flip_coins(100, seed=4))


OTHER = LabeledData(name="other", x=np.zeros((50, 7), np.uint8), y=np.zeros(50, np.int64), class_names=("z",), source="a test")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "natural", "count": 201}, "canaries=201: 200 records of made are on no side of the plan; allowed: at most 200, or lower"),
        ({"kind": "neutral"}, "canary_kind=neutral: unknown; allowed: natural, .*; nearest: natural"),
        ({"kind": "duplicated", "copies": 1}, "canary_copies=1: too few for canary_kind=duplicated; allowed: 2 or more"),
        ({"kind": "out_of_distribution"}, "canary_kind=out_of_distribution: needs another data set; allowed: canary_data=NAME_OR_PATH"),
        (
            {"kind": "out_of_distribution", "other": OTHER},
            r"canary_data=other: records of shape \(7,\); allowed: \(6,\), the shape of the records of made",
        ),
        (
            {"kind": "out_of_distribution", "other": dataclasses.replace(OTHER, x=np.zeros((50, 6), np.uint8))},
            "canaries=100: canary_data=other has 50 records to plant; allowed: at most 50",
        ),
        (
            {"kind": "out_of_distribution", "other": dataclasses.replace(OTHER, x=np.full((50, 6), 7.0)), "count": 40},
            r"canary_data=other: numbers stored as float64; allowed: uint8, in which made stores its own, or numbers in \[0, 1\]",
        ),
        (
            {"kind": "out_of_distribution", "other": _table(300, ("Bern",), seed=0)},
            "canary_data=table0: a table; allowed: an array, as made is",
        ),
    ],
)  # fmt: skip
def test_canaries_that_cannot_be_drawn_are_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}") as caught:
        _drawn(_data(), **options)
    assert "\n" not in str(caught.value)


def test_another_table_without_a_column_is_refused() -> None:
    data, other = _table(300, ("Bern",), seed=0), _table(300, ("Bern",), seed=1, name="years")
    with pytest.raises(UserError, match=r"^canary_data=table1: has no column age; allowed: a table with the columns of table0"):
        draw_canaries(data, np.arange(9), kind="out_of_distribution", count=40, seed=0, other=other)


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (TrainStudyConfig, {"canaries": 39}, "canaries=39: too few to be audited; allowed: 0, or 40 or more"),
        (TrainStudyConfig, {"canary_kind": "noise"}, "canary_kind=noise: given without canaries; allowed: canaries=40 or more"),
        (TrainStudyConfig, {"canary_copies": 3}, "canary_copies=3: given without canaries"),
        (TrainStudyConfig, {"canaries": 50, "canary_kind": "noisy"}, "canary_kind=noisy: unknown; allowed: natural, .*nearest: noise"),
        (
            SweepStudyConfig, {"canaries": 50, "canary_kind": "duplicated", "canary_copies": 1},
            "canary_copies=1: too few for canary_kind=duplicated; allowed: 2 or more, or auto",
        ),
        (TrainStudyConfig, {"canaries": 50, "canary_kind": "out_of_distribution"}, "canary_data=: missing; allowed with"),
        (
            TrainStudyConfig, {"canaries": 50, "canary_data": "cifar10"},
            "canary_data=cifar10: canary_kind=natural takes no records of it; allowed: nothing, or canary_kind=out_of_distribution",
        ),
        (PlanStudyConfig, {"canaries": 50}, "canaries=50: coin_flips=no, and canaries are members by coin flips; allowed: coin_flips=yes"),
    ],
)  # fmt: skip
def test_options_of_canaries_that_do_not_fit_each_other_are_refused(
    config: type[CanaryConfig], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        config(**options)


def test_the_options_name_the_kinds_and_what_they_take_of_the_data_set() -> None:
    for kind in KINDS:
        data = {"canary_data": "cifar10"} if kind == "out_of_distribution" else {}
        config = TrainStudyConfig(canaries=50, canary_kind=kind, **data)  # type: ignore[arg-type]
        assert config.reserved == (0 if kind in ("noise", "out_of_distribution") else 50)
        assert config.copies == (4 if kind == "duplicated" else 1)
    assert PlanStudyConfig(canaries=50, coin_flips=True).reserved == 50
