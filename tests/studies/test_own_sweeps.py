"""Sweeps of a user's own trainer: its parameters as factors, each trial a fleet of one model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memberscope.config.training import SweepStudyConfig
from memberscope.datasets import LabeledData
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.studies import setup
from memberscope.studies.sweep import study as sweep
from memberscope.studies.sweep.work import Job, trainer_of
from memberscope.sweeps.cells import Cell, Grid
from memberscope.sweeps.grids import make_grid
from memberscope.sweeps.space import read_space, space_grid
from memberscope.tracking import MemoryTracker
from memberscope.training.outside.program import OutsideSpec
from memberscope.training.outside.source import find_source

from .conftest import Own, evidence_of

SIZES = {"members": 120, "nonmembers": 120, "validation": 60, "workers": 1}


def _run(own: Own, folder: Path, factors: str, **values: Any) -> tuple[Any, MemoryTracker]:
    (folder / "space.yaml").write_text(f"factors:\n{factors}\n")
    tracker = MemoryTracker()
    settings = {"trainer": own.spec, "dataset": own.data, "space": str(folder / "space.yaml"), "folder": str(folder / "sweeps")}
    config = SweepStudyConfig.from_mapping({**SIZES, **settings, "seeds": 1, **values})
    return sweep.run(config, tracker, StopFlag()), tracker


def test_a_sweep_over_a_parameter_has_a_row_for_each_value(own: Own, tmp_path: Path) -> None:
    result, tracker = _run(own, tmp_path, "  k: [1, 9, 41]", sampler="grid")
    rows = tracker.artifacts["results.csv"].set_index("level")
    assert rows.index.tolist() == [1, 9, 41]
    assert (rows["factor"] == "k").all()
    assert rows.loc[1, "train_accuracy"] == 1.0
    assert 0.6 < rows.loc[1, "auc"] < 0.95
    assert 0.4 < rows.loc[41, "auc"] < rows.loc[9, "auc"] < rows.loc[1, "auc"] - 0.02, "by the number of neighbours"
    assert "parameters" not in rows, "nobody has counted them"
    assert "k 1 -> 41 (k_averaged): advantage_heldout" in result.answer
    child = next(child for child in tracker.children if child.name == "k9-s0")
    assert (child.logged_params["trainer.k"], child.logged_params["trainer.name"]) == (9, "near")
    assert not {"model.parameters", "train.clip_norm"} & set(child.logged_params)
    assert {step: child.logged_metrics["train/loss"][step] for step in (0, 1)} == {0: 1.0, 1: 0.5}, "as reported"
    assert child.logged_metrics["auc/threshold_loss"].keys() == {2}, "the final audit alone"
    assert own.trained() == [(1, 0), (9, 0), (41, 0)]
    run = evidence_of(tracker, study="sweep")
    assert [(row["level"], row["replicate"], row["auc"]) for row in run["tables"]["trials"]] == [
        (level, 1, rows.loc[level, "auc"]) for level in (1, 9, 41)
    ]
    assert len(run["tables"]["verdicts"]) == len(tracker.artifacts["verdicts.csv"])
    assert "children" not in run
    again, second = _run(own, tmp_path, "  k: [1, 9, 41]", sampler="grid")
    assert (again, second.children, len(own.trained())) == (result, [], 3)
    path = Path(own.spec.removesuffix(":train"))
    path.write_text(path.read_text() + "# changed\n")
    _, third = _run(own, tmp_path, "  k: [1, 9]", sampler="grid")
    assert len(third.children) == 2, "another source is another sweep"


def test_a_search_over_a_range_samples_it(own: Own, tmp_path: Path) -> None:
    _, tracker = _run(own, tmp_path, "  k: {low: 1, high: 60, log: true}\n  members: [80, 120]", sampler="random", trials=3)
    frame = tracker.artifacts["results.csv"]
    assert len(frame) == 3
    assert frame["k"].between(1, 60).all()
    assert sorted(k for k, _ in own.trained()) == sorted(frame["k"]), "whole numbers, as both ends are"
    assert {child.logged_params["data.members"] for child in tracker.children} <= {80, 120}


def test_a_source_that_changes_under_a_sweep_is_refused(own: Own) -> None:
    config = SweepStudyConfig.from_mapping({"trainer": own.spec, "params": "k=3"})
    trainer = setup.trainer_for(config, config)
    job = Job(url="", study="s", heartbeat=1, data="", trainer=own.spec, params="k=3")
    assert Job.from_json(job.to_json()) == job
    space = {"trainer": dict(trainer.signature())}
    assert trainer_of(job, space).params == {"k": 3}
    path = Path(own.spec.removesuffix(":train"))
    path.write_text(path.read_text() + "# changed\n")
    with pytest.raises(UserError, match=r"it has changed since the sweep was started \(trainer.sources.near.py is "):
        trainer_of(job, space)


def _data(classes: int) -> LabeledData:
    rng = np.random.default_rng(0)
    return LabeledData(
        name="some", x=rng.normal(size=(900, 3)), y=np.arange(900) % classes, class_names=tuple(map(str, range(classes))), source="",
    )  # fmt: skip


def test_grids_of_records_run_with_any_trainer(own: Own) -> None:
    config = SweepStudyConfig.from_mapping({"trainer": own.spec, **SIZES})
    trainer = setup.trainer_for(config, config)
    grid = make_grid("classes", _data(4), config, trainer)
    assert {item.control for item in grid.comparisons} == {"merged", "natural", "equal_total", "equal_head"}
    assert all(cell.params == {} for cell in grid.cells.values())
    assert "recipe" not in str(grid.to_dict())
    assert Grid.from_dict(grid.to_dict()) == grid
    sizes = make_grid(
        "size", _data(4), SweepStudyConfig.from_mapping({"trainer": own.spec, **SIZES, "levels": "60,240"}), trainer
    )
    assert [cell.part.members for cell in sizes.cells.values()] == [60, 240]
    for values, message in (
        ({"grid": "depth"}, r"^grid=depth: varies the built-in models, .* allowed: space=FILE.yaml"),
        ({"grid": "privacy"}, r"^grid=privacy: varies the built-in models"),
        ({"controls": "equal_steps"}, r"^controls=equal_steps: sets the epochs of the built-in models"),
    ):
        config = SweepStudyConfig.from_mapping({"trainer": own.spec, **SIZES, **values})
        with pytest.raises(UserError, match=message):
            make_grid(config.grid, _data(4), config, trainer)


def test_cells_of_the_built_in_models_are_kept_as_before() -> None:
    grid = make_grid("size", _data(4), SweepStudyConfig.from_mapping({**SIZES, "levels": "60,240", "batch_size": 20}))
    kept = next(iter(grid.to_dict()["cells"].values()))
    assert set(kept) == {"recipe", "part", "look_every", "noise_multiplier", "clip"}
    assert Cell.from_dict(kept).params is None


def test_values_that_are_no_numbers_are_words(own: Own, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("factors: {soft: [false, true], k: [1e-3, null]}")
    config = SweepStudyConfig.from_mapping({"trainer": own.spec, **SIZES})
    trainer = setup.trainer_for(config, config)
    grid = space_grid(_data(4), config, read_space(str(tmp_path / "space.yaml"), trainer), trainer)
    levels = {item.factor: [level.value for level in item.levels] for item in grid.comparisons}
    assert levels == {"soft": ["false", "true"], "k": ["0.001", "null"]}
    assert grid.cells["softtrue-knull"].params == {"soft": True, "k": None}
    assert not any(item.ordered for item in grid.comparisons)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ("  depth: [1, 2]", r"space.yaml: depth: no parameter of near; allowed: k, soft"),
        ("  kk: {low: 1, high: 2}", r"space.yaml: kk: no parameter of near; allowed: k, soft; nearest: k"),
        ("  k: [[1], [2]]", "allowed: numbers, text, true or false, and null"),
        ("  k: [1, 1]", "a list of different values"),
        ("  k: 3", r"space.yaml: k=3: allowed: a list of values, or \{low"),
        ("  k: {low: 4, high: 2}", "the range is reversed or empty"),
        ("  k: {low: a, high: b}", "allowed: numbers for low and high"),
        ("  k: {low: 0, high: 2, log: true}", "low=0 on a logarithmic scale"),
        ("  seed: [1, 2]", "seed: cannot be a factor"),
        ("  members: [10, 20]", "members=10: out of range"),
    ],
)
def test_a_bad_space_is_one_line_before_anything_trains(own: Own, tmp_path: Path, factors: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        _run(own, tmp_path, factors, sampler="grid")
    assert "\n" not in str(error.value)
    assert (own.trained(), (tmp_path / "sweeps").exists()) == ([], False)


def test_a_sweep_takes_functions_and_the_built_in_models() -> None:
    with pytest.raises(
        UserError, match=r"^trainer=kera: unknown; allowed: keras, or a function or class such as .*; nearest: keras"
    ):
        SweepStudyConfig(trainer="kera")


def test_a_workers_share_of_the_threads_is_not_raised(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep's worker has a share of the cores, and so has the process in which it trains a model."""
    spec = OutsideSpec(
        source=find_source(own.spec), params="{}", frames=False, queries=(), devices=(), name="", class_names=("a", "b"), table=None
    )  # fmt: skip
    monkeypatch.setattr("memberscope.training.outside.program.cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert {name: spec.environment(1)[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")} == {
        "OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "8",
    }  # fmt: skip
    assert spec.environment(4)["OMP_NUM_THREADS"] == "2"
    assert os.environ["OMP_NUM_THREADS"] == "3"
