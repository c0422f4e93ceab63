"""Canaries in sweeps: each trial plants its own, and a search can be steered by one half of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_artifacts import unlisted

from memberscope.audit import artifacts
from memberscope.config.training import SweepStudyConfig
from memberscope.datasets import LabeledData
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.metrics.rounding import logged
from memberscope.plans.canaries import CanaryRequest, flip_coins
from memberscope.studies import setup
from memberscope.studies.sweep import study as sweep
from memberscope.studies.sweep.work import Job, canaries_of
from memberscope.sweeps.cells import Part
from memberscope.sweeps.grids import make_grid
from memberscope.sweeps.selection import select
from memberscope.tracking import MemoryTracker

from .conftest import Own

SIZES = {"members": 100, "nonmembers": 100, "validation": 40, "workers": 1, "seeds": 1}
M = 120


def _run(own: Own, folder: Path, factors: str, **values: Any) -> tuple[Any, MemoryTracker]:
    (folder / "space.yaml").write_text(f"factors:\n{factors}\n")
    tracker = MemoryTracker()
    settings = {"trainer": own.spec, "dataset": own.data, "space": str(folder / "space.yaml"), "folder": str(folder / "sweeps")}
    settings |= {"canaries": M, "canary_kind": "mislabelled"}
    config = SweepStudyConfig.from_mapping({**SIZES, **settings, **values})
    return sweep.run(config, tracker, StopFlag()), tracker


def test_every_trial_of_a_grid_plants_canaries_and_audits_them_apart(own: Own, tmp_path: Path) -> None:
    _, tracker = _run(own, tmp_path, "  k: [1, 41]", sampler="grid", canary_cost="yes")
    rows = tracker.artifacts["results.csv"].set_index("level")
    assert rows.loc[1, "canary_auc"] > rows.loc[41, "canary_auc"] + 0.1
    assert 0.7 < rows.loc[1, "canary_auc"] < 0.97
    assert rows.loc[1, "canary_accuracy_cost"] > 0.05
    assert sorted(own.trained()) == [(1, 0), (1, 0), (41, 0), (41, 0)], "each with its canaries, and without"
    child = next(child for child in tracker.children if child.name == "k1-s0")
    of_child = child.artifacts["canaries.csv"]
    exact = of_child[(of_child["attack"] == "rmia_offline") & (of_child["metric"] == "auc")].iloc[0]
    assert exact["value"] == pytest.approx(rows.loc[1, "canary_auc"], abs=1e-6)
    expected = logged("canary/auc", "rmia_offline", exact["value"], exact["ci_low"], exact["ci_high"])
    assert child.latest("canary/auc/rmia_offline") == expected["canary/auc/rmia_offline"]
    assert {artifacts.CANARIES, artifacts.CANARY_COST, artifacts.BOUNDS} <= set(child.artifacts)
    assert not unlisted(tracker)
    assert set(child.artifacts[artifacts.ATTACKS]["n_member"]) == {100}, "ordinary records are audited as ever"
    _, again = _run(own, tmp_path, "  k: [1, 41]", sampler="grid", canary_cost="yes")
    assert not again.children, "the same sweep is finished"
    assert len(own.trained()) == 4


def test_sweeps_with_other_canaries_are_other_sweeps(own: Own) -> None:
    names = set()
    for options in (
        {"canaries": 0},
        {},
        {"canary_kind": "noise"},
        {"canaries": 60},
        {"canary_copies": 2},
        {"canary_cost": "yes"},
    ):
        given = {
            "trainer": own.spec,
            "dataset": own.data,
            "grid": "size",
            "levels": "60,90",
            "canaries": 50,
            **SIZES,
            **options,
        }
        config = SweepStudyConfig.from_mapping(given)
        data, trainer = setup.load_data(config), setup.trainer_for(config, config)
        plan = sweep.plan_of(data, config, trainer)
        space = sweep.space_of(plan, data, config, trainer, setup.canary_request(config, config, data))
        names.add(sweep.study_name(space, config))
    assert len(names) == 6


def test_a_search_is_steered_by_one_half_of_the_canaries_and_reports_the_other(own: Own, tmp_path: Path) -> None:
    _, tracker = _run(own, tmp_path, "  k: [1, 61]", sampler="random", trials=2, objectives="canary_auc")
    frame = tracker.artifacts["results.csv"]
    assert {"objective_canary_auc", "canary_auc"} <= set(frame)
    assert (frame["objective_canary_auc"] != frame["canary_auc"]).any(), "other canaries"
    sides = {tuple(child.artifacts[artifacts.CANARIES][["n_member", "n_nonmember"]].iloc[0]) for child in tracker.children}
    assert {sum(one) for one in sides} == {M // 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"canaries": 0, "canary_kind": "natural", "objectives": "canary_auc"}, "objectives=canary_auc: canary_auc needs canaries; .*=80"),
        ({"canaries": 60}, "canaries=60: a search halves them; allowed: 0, or 80 or more"),
        ({"canaries": 161}, "members=100: the data set has 400 records, .* and 161 canaries; allowed: at most 99"),
    ],
)  # fmt: skip
def test_a_search_that_its_canaries_do_not_fit_is_refused_before_any_training(
    own: Own, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        _run(own, tmp_path, "  k: [1, 61]", sampler="random", trials=1, **options)
    assert not own.trained()


def _data() -> LabeledData:
    rng = np.random.default_rng(0)
    return LabeledData(
        name="some", x=rng.normal(size=(900, 3)), y=np.arange(900) % 6, class_names=tuple("abcdef"), source="a test"
    )


PART = Part(classes=3, members=100, nonmembers=60, validation=20, audited_members=60, audited_nonmembers=60)


@pytest.mark.parametrize("treatment", ["kept", "head", "merged"])
@pytest.mark.parametrize("kind", ["natural", "mislabelled", "noise"])
def test_canaries_of_a_cell_are_of_its_classes_and_on_no_side(treatment: str, kind: str) -> None:
    part = dataclasses.replace(PART, treatment=treatment)
    plain = select(_data(), part, seed=0)
    chosen = plain.with_canaries(CanaryRequest(kind=kind, count=100), seed=0)
    assert chosen.plan.digest == plain.plan.digest
    assert chosen.canaries is not None
    canaries = chosen.canaries.planted.canaries
    assert set(canaries.y) == set(plain.data.y[plain.plan.members]), "classes that the members have, and each of them"
    if canaries.records is not None:
        assert not np.isin(canaries.records, np.concatenate(list(plain.plan.sides.values()))).any()
        same = canaries.y == plain.data.y[canaries.records]
        assert same.all() if kind == "natural" else not same.any()
        if treatment != "merged":
            kept = set(_data().y[plain.plan.members])
            assert set(_data().y[canaries.records]) <= kept
    np.testing.assert_array_equal(chosen.canaries.member, flip_coins(100, seed=0))
    assert len(chosen.trained_on) == 100 + chosen.canaries.member.sum()
    np.testing.assert_array_equal(chosen.unplanted().trained_on, plain.plan.members)


def test_a_grid_leaves_records_for_canaries_in_every_cell_or_is_refused() -> None:
    config = SweepStudyConfig.from_mapping({"grid": "classes", "canaries": 100})
    grid = make_grid("classes", _data(), config)
    for cell in grid.cells.values():
        for seed in (0, 1):
            select(_data(), cell.part, seed=seed).with_canaries(CanaryRequest(kind="natural", count=100), seed=seed)
    sizes = make_grid("size", _data(), SweepStudyConfig.from_mapping({"grid": "size", "canaries": 100}))
    assert max(cell.part.members for cell in sizes.cells.values()) == 900 - 150 - 75 - 100
    with pytest.raises(
        UserError,
        match=r"^canaries=100: 6 classes of some may have only 900 .* cell .* needs 845; allowed: at most 55",
    ):
        make_grid("size", _data(), SweepStudyConfig.from_mapping({"grid": "size", "canaries": 100, "levels": "300,620"}))


def test_records_of_another_set_reach_the_workers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=rng.random((300, 4)), y=rng.integers(0, 2, 300))
    np.savez(tmp_path / "o.npz", x=rng.random((200, 4)), y=rng.integers(0, 2, 200))
    given = {"dataset": str(tmp_path / "d.npz"), "canaries": 50, "canary_kind": "out_of_distribution"}
    config = SweepStudyConfig.from_mapping({**given, "canary_data": str(tmp_path / "o.npz")})
    request = setup.canary_request(config, config, setup.load_data(config))
    assert request is not None
    job = Job(url="", study="s", heartbeat=1, data="", canaries=sweep.of_job(request, tmp_path / "sweeps"))
    found = canaries_of(Job.from_json(job.to_json()))
    assert found is not None
    assert found.other is not None
    assert request.other is not None
    assert (found.kind, found.count, found.copies) == ("out_of_distribution", 50, 1)
    assert (found.other.digest, found.other.keyed) == (request.other.digest, True)
    assert canaries_of(Job(url="", study="s", heartbeat=1, data="")) is None
