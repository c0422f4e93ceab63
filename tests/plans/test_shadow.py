"""Shadow plans keep what their designs promise."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memberscope.errors import UserError
from memberscope.plans.shadow import ShadowPlan, make_shadow_plan


def _labels(n: int, classes: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, n)


def _plan(n: int = 500, **changes: object) -> ShadowPlan:
    options = {
        "design": "half", "members": 100, "population": "auto", "shadows": 6, "targets": 3, "coin_flips": False, "seed": 0,
    }  # fmt: skip
    return make_shadow_plan(_labels(n), **(options | changes))  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    n=st.integers(120, 400), classes=st.integers(2, 12), pairs=st.integers(1, 5), coins=st.booleans(), seed=st.integers(0, 99),
    members=st.integers(10, 60),
)  # fmt: skip
def test_half_is_complementary_and_the_rest_hold_each_record_half_the_time(
    n: int, classes: int, pairs: int, coins: bool, seed: int, members: int
) -> None:
    plan = make_shadow_plan(
        _labels(n, classes, seed), design="half", members=members, population="auto", shadows=2 * pairs, targets=2 * pairs + 2,
        coin_flips=coins, seed=seed,
    )  # fmt: skip
    assert plan.n_models == 2 * pairs + 2
    assert (plan.member[0::2] ^ plan.member[1::2]).all()
    assert len(plan.records) == 2 * members
    assert not np.intersect1d(plan.records, plan.population).size
    for target in plan.targets:
        rest = plan.member[plan.shadows_of(int(target))]
        assert len(rest) == 2 * pairs
        assert (rest.sum(axis=0) == pairs).all()
    if not coins:
        assert (plan.member.sum(axis=1) == members).all()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    n=st.integers(160, 400), shadows=st.integers(1, 5), targets=st.integers(1, 3), coins=st.booleans(), seed=st.integers(0, 99),
    members=st.integers(10, 40),
)  # fmt: skip
def test_no_record_of_the_targets_is_in_a_disjoint_shadow_pool(
    n: int, shadows: int, targets: int, coins: bool, seed: int, members: int
) -> None:
    plan = make_shadow_plan(
        _labels(n),
        design="disjoint",
        members=members,
        population="auto",
        shadows=shadows,
        targets=targets,
        coin_flips=coins,
        seed=seed,
    )
    own = set(plan.records[plan.audited].tolist())
    for target in plan.targets:
        assert set(plan.members(int(target)).tolist()) <= own
        for shadow in plan.shadows_of(int(target)):
            assert not own & set(plan.members(int(shadow)).tolist())
    assert len(plan.shadows_of(int(plan.targets[0]))) == shadows
    assert not own & set(plan.population.tolist())
    assert len(own) == 2 * members


def test_halves_are_balanced_by_class() -> None:
    plan = _plan(members=150)
    of_class = _labels(500)[plan.records]
    for row in plan.member:
        for label in range(5):
            here = row[of_class == label]
            assert abs(here.sum() - len(here) / 2) <= 1.0


def test_coin_flips_are_independent_and_fair() -> None:
    plan = _plan(4000, members=1500, coin_flips=True)
    sizes = plan.member.sum(axis=1)
    assert len(set(sizes[::2].tolist())) > 1, "sizes vary with coins"
    assert (np.abs(sizes - 1500) < 4.5 * np.sqrt(3000 / 4)).all()
    together = (plan.member[0] == plan.member[2]).mean()
    assert abs(together - 0.5) < 4.5 / np.sqrt(4 * 3000)


def test_same_seed_same_plan_and_another_seed_another() -> None:
    assert _plan().digest == _plan().digest
    assert _plan().digest != _plan(seed=1).digest
    assert _plan().digest != _plan(coin_flips=True).digest


def test_targets_come_from_different_pairs_first() -> None:
    assert _plan(targets=4, shadows=6).targets.tolist() == [0, 2, 4, 6]
    assert _plan(targets=6, shadows=6).targets.tolist() == [0, 2, 4, 6, 1, 3]


def test_a_plan_goes_to_a_file_and_back(tmp_path: Path) -> None:
    plan = _plan()
    plan.save(tmp_path / "plan.npz")
    again = ShadowPlan.load(tmp_path / "plan.npz")
    assert again.digest == plan.digest
    np.testing.assert_array_equal(again.member, plan.member)
    np.savez(tmp_path / "other.npz", records=plan.records)
    with pytest.raises(UserError, match=r"other.npz: not a shadow plan"):
        ShadowPlan.load(tmp_path / "other.npz")


def test_a_broken_promise_is_refused() -> None:
    plan = _plan()
    member = plan.member.copy()
    member[0, 0] = ~member[0, 0]
    with pytest.raises(ValueError, match="complementary"):
        dataclasses.replace(plan, member=member)
    plan = _plan(design="disjoint", members=50)
    member = plan.member.copy()
    member[-1, 0] = True
    with pytest.raises(ValueError, match="trained on a record of the targets"):
        dataclasses.replace(plan, member=member)
    with pytest.raises(ValueError, match="repeat a record"):
        dataclasses.replace(plan, population=plan.records[:3])
    with pytest.raises(ValueError, match="must be different models of it"):
        dataclasses.replace(plan, targets=np.array([0, plan.n_models]))
    with pytest.raises(ValueError, match="must be bool"):
        dataclasses.replace(plan, member=plan.member.astype(np.int64))
    with pytest.raises(ValueError, match="design=quarter: unknown"):
        dataclasses.replace(plan, design="quarter")
    plan = _plan()
    with pytest.raises(ValueError, match="all of its records"):
        dataclasses.replace(plan, block=~plan.block)


def test_a_pool_of_other_records_changes_the_shadows_and_nothing_else() -> None:
    plan = _plan(design="disjoint", members=50, targets=2, population=100)
    labels = np.concatenate([_labels(500), np.arange(60) % 5])
    other = plan.with_pool(np.arange(500, 560), labels, seed=1)
    for target in plan.targets:
        np.testing.assert_array_equal(other.members(int(target)), plan.members(int(target)))
    for shadow in other.shadows_of(0):
        index = other.members(int(shadow))
        assert index.min() >= 500
        assert len(index) == 30
        assert np.bincount(labels[index], minlength=5).tolist() == [6] * 5
    np.testing.assert_array_equal(other.population, plan.population)
    with pytest.raises(ValueError, match="repeat a record"):
        plan.with_pool(plan.population[:30], labels, seed=1)
    with pytest.raises(UserError, match="shadow_data: 19 records in the pool; allowed: at least 20"):
        plan.with_pool(np.arange(500, 519), labels, seed=1)
    with pytest.raises(UserError, match="design=half: shadows have no pool"):
        _plan().with_pool(np.arange(500, 560), labels, seed=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"members": 251}, "members=251: design=half needs 2 x members, and the data set has 500 records; allowed: 10 to 250"),
        ({"design": "disjoint", "members": 126}, "needs 4 x members, and the data set has 500 records; allowed: 10 to 125"),
        ({"members": 200, "population": 200}, "and 200 for the population, and the data set has 500 records; allowed: 10 to 150"),
        ({"population": 490}, "population=490: design=half needs 2 x members and 490"),
        ({"shadows": 0}, "shadows=0: none; allowed: at least 2"),
        ({"shadows": 5}, "shadows=5: odd; design=half trains complementary pairs; allowed: 4 or 6"),
        ({"design": "disjoint", "shadows": 0}, "shadows=0: none; allowed: at least 1"),
        ({"targets": 9}, "targets=9: allowed: 1 to 8"),
        ({"design": "halves"}, "design=halves: unknown; allowed: half, disjoint; nearest: half"),
    ],
)  # fmt: skip
def test_what_does_not_fit_gets_one_line_with_what_does(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as error:
        _plan(**changes)
    assert message in str(error.value)


@pytest.mark.parametrize(("design", "shadows", "expected"), [("half", 2, 4), ("half", 16, 8), ("disjoint", 2, 8)])
def test_the_usual_number_of_targets_fits_the_models(design: str, shadows: int, expected: int) -> None:
    labels = np.random.default_rng(0).integers(0, 3, 400)
    plan = make_shadow_plan(
        labels, design=design, members=50, population=0, shadows=shadows, targets="auto", coin_flips=False, seed=0
    )
    assert len(plan.targets) == expected
