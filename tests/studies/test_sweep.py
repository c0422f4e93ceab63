"""Whole sweeps in memory: a grid with its answer, a search with its front, what fails, and what goes on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import matplotlib
import numpy as np
import optuna
import pytest
from matplotlib import pyplot

from memberscope.config.training import SweepStudyConfig
from memberscope.datasets import load_dataset
from memberscope.errors import Interrupted, UserError
from memberscope.interrupt import StopFlag
from memberscope.metrics.rounding import logged
from memberscope.studies.setup import trainer_of
from memberscope.studies.sweep import answer as sweep_answer
from memberscope.studies.sweep import study as sweep
from memberscope.studies.sweep import trial as sweep_trial
from memberscope.studies.sweep import work as sweep_work
from memberscope.sweeps import grids
from memberscope.sweeps.cells import Cell, Part
from memberscope.sweeps.trials import TrialQueue
from memberscope.tracking import MemoryTracker
from memberscope.training.recipe import Recipe

TINY = {
    "members": 80, "nonmembers": 80, "validation": 30, "epochs": 2, "audit_every": 1, "batch_size": 20, "depth": 1, "width": 8,
    "seeds": 2, "workers": 1, "log_models": "no",
}  # fmt: skip
Run = Callable[..., tuple[Any, MemoryTracker]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def started(stop: StopFlag | None = None, **values: Any) -> tuple[Any, MemoryTracker]:
        tracker = MemoryTracker()
        config = SweepStudyConfig.from_mapping({**TINY, "folder": str(tmp_path / "sweeps"), **values})
        return sweep.run(config, tracker, stop or StopFlag()), tracker

    return started


def test_a_grid_ends_with_its_runs_tables_figures_and_verdicts(run: Run) -> None:
    result, tracker = run(grid="classes", controls="merged,natural", levels="4,10")
    names = sorted(child.name for child in tracker.children)
    assert names == sorted(f"{cell}-s{seed}" for cell in ("merged-4", "merged-10", "natural-4") for seed in (0, 1))
    assert {child.status for child in tracker.children} == {"FINISHED"}
    child = tracker.children[0]
    assert {"roc.png", "roc.csv", "attacks.csv", "config.json"} <= set(child.artifacts)
    assert child.logged_params["data.treatment"] == "merged"
    assert {"auc/threshold_loss", "train/loss", "seconds/train", "seconds/track"} <= set(child.logged_metrics)
    verdicts = tracker.artifacts["verdicts.csv"]
    first = tracker.description.split("\n\n")[0]
    head = verdicts[(verdicts["figure"] == "advantage_heldout") & (verdicts["control"] == "merged")].iloc[0]
    assert first.startswith("**advantage heldout: classes 4 → 10 (merged) inconclusive: ")
    assert f"{head['difference']:+.3f} (" in first
    assert "classes 4 → 10 (natural)" in first
    assert all(child.description.startswith("**threshold_loss ") for child in tracker.children), "each trial's own finding"
    assert [given.context for given in tracker.inputs] == ["all"]
    assert set(verdicts["verdict"]) == {"inconclusive"}, "two seeds decide nothing"
    assert list(verdicts["control"]) == ["merged", "natural"] * 2
    assert {"effects.png", "classes/levels.png", "classes/heat.png", "results.csv", "results.json", "answer.md"} <= set(
        tracker.artifacts
    )
    rows = tracker.artifacts["results.csv"]
    one = rows[(rows["control"] == "natural") & (rows["level"] == 4) & (rows["seed"] == 1)].iloc[0]
    child = next(child for child in tracker.children if child.name == "natural-4-s1")
    audited = child.artifacts["attacks.csv"].set_index(["attack", "slice", "metric"])
    exact = audited.loc[("threshold_loss", "entire", "advantage_heldout")]
    assert one["advantage_heldout"] == exact["value"], "the table has every digit"
    ends = [exact[name] for name in ("value", "ci_low", "ci_high")]
    assert child.latest("advantage_heldout/threshold_loss") == logged("advantage_heldout", "x", *ends)["advantage_heldout/x"]
    assert "inconclusive" in result.answer
    same, second = run(grid="classes", controls="merged,natural", levels="4,10")
    assert (same, second.children) == (result, [])
    more, third = run(grid="classes", controls="merged,natural", levels="4,10", seeds=3)
    assert sorted(child.name[-2:] for child in third.children) == ["s2"] * 3, "more seeds go on where fewer ended"
    assert len(more.answer.splitlines()) == len(result.answer.splitlines())


def test_comparisons_at_equal_training_read_the_curves(run: Run) -> None:
    _, tracker = run(grid="architecture", controls="matched_depth,equal_accuracy", epochs=3, seeds=1)
    frame = tracker.artifacts["architecture/equal_accuracy.csv"]
    assert sorted(set(frame["epoch"])) == [1, 2, 3]
    assert set(frame["level"]) == {"dense", "mlp", "conv"}
    assert set(tracker.artifacts["verdicts.csv"]["verdict"]) == {"not assessed"}
    assert "architecture/equal_accuracy.png" in tracker.artifacts


def test_size_ends_with_a_law_or_with_the_reason_for_none(run: Run) -> None:
    result, tracker = run(grid="size", levels="40,80,160")
    assert "scaling of tpr_minus_fpr_at_fpr_0_1" in result.answer
    assert "size/scaling.png" in tracker.artifacts


def test_the_page_shows_a_law_whatever_its_words(tmp_path: Path) -> None:
    config = SweepStudyConfig.from_mapping({**TINY, "grid": "size", "folder": str(tmp_path)})
    data = load_dataset("digits")
    grid = grids.make_grid("size", data, config)
    conclusion = sweep_answer.Conclusion(config=config, queue=cast(TrialQueue, None), name="s", storage="here", data=data)
    law = "with the number of members, leakage falls as S^-0.5"
    assert f"- {law}\n" in conclusion._page(grid, [], [law], 1)
    assert "scaling" not in conclusion._page(grid, [], [], 1)


@pytest.mark.thorough  # `make test` trains with noise in test_mitigate.py
def test_privacy_trains_with_noise(run: Run) -> None:
    _, tracker = run(grid="privacy", controls="noise", seeds=1)
    final = [child.latest("train/loss") for child in tracker.children]
    assert [child.logged_params["train.noise_multiplier"] for child in tracker.children] == [0.0, 0.5, 1.0, 2.0]
    assert len(set(final)) == 4


def _of_this_process() -> dict[str, object]:
    """What a notebook has set for its own figures and its own Optuna studies."""
    style = ("axes.facecolor", "axes.labelsize", "axes.prop_cycle", "font.size")
    return {
        **{name: matplotlib.rcParams[name] for name in style},
        "backend": pyplot.get_backend().lower(), "open": pyplot.get_fignums(), "verbosity": optuna.logging.get_verbosity(),
    }  # fmt: skip


def test_a_search_for_two_objectives_ends_with_a_front_judged_on_other_records(
    run: Run, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    space = tmp_path / "mine.yaml"
    space.write_text("factors:\n  width: {low: 4, high: 32, log: true}\n  learning_rate: [0.001, 0.01]\n")
    values = {"space": str(space), "sampler": "tpe", "trials": 4, "objectives": "accuracy,advantage_heldout", "seeds": 1}
    request.addfinalizer(partial(pyplot.switch_backend, pyplot.get_backend()))
    request.addfinalizer(partial(optuna.logging.set_verbosity, optuna.logging.get_verbosity()))
    pyplot.switch_backend("svg")
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    before = _of_this_process()
    result, tracker = run(**values)
    assert _of_this_process() == before, "style, backend and silence are for Optuna's own figures and this study's trials"
    frame = tracker.artifacts["results.csv"]
    assert len(frame) == len(tracker.children) == 4
    points = frame[["objective_accuracy", "objective_advantage_heldout"]].to_numpy() * [-1, 1]
    for row, best in zip(points, frame["best"], strict=True):
        dominated = any((other <= row).all() and (other < row).any() for other in points)
        assert best == (not dominated)
    assert {"pareto.png", "importances.csv", "slice_accuracy.png"} <= set(tracker.artifacts)
    assert "is on the Pareto front" in result.answer
    again, second = run(**values)
    assert (again, second.children) == (result, [])
    _, third = run(**{**values, "trials": 5})
    assert len(third.children) == 1


def test_a_user_grid_gives_each_factor_its_effect(run: Run, tmp_path: Path) -> None:
    space = tmp_path / "mine.yaml"
    space.write_text("factors:\n  width: [4, 16]\n  learning_rate: [0.001, 0.01]\n")
    _, tracker = run(space=str(space), sampler="grid", seeds=1)
    assert len(tracker.children) == 4
    assert set(tracker.artifacts["verdicts.csv"]["factor"]) == {"width", "learning_rate"}


def test_tuning_and_the_final_audit_share_no_record() -> None:
    data = load_dataset("digits")
    part = Part(classes=10, members=81, nonmembers=80, validation=30, audited_members=81, audited_nonmembers=80)
    selection = sweep_trial.select(data, part, seed=0)
    tuning, final = sweep_trial.halves(selection)
    every = np.concatenate([selection.audited[tuning], selection.audited[final]])
    assert sorted(every) == sorted(selection.audited)
    assert not set(selection.plan.validation) & set(every)
    assert [int(selection.member[half].sum()) for half in (tuning, final)] == [41, 40]


def test_seeds_trained_together_are_those_trained_alone() -> None:
    data = load_dataset("digits")
    part = Part(
        classes=3, members=80, nonmembers=80, validation=30, audited_members=80, audited_nonmembers=80, label_noise=0.2
    )  # fmt: skip
    cell = Cell(recipe=Recipe(model="dense", depth=1, width=8, epochs=2, batch_size=20), part=part)
    trainer = trainer_of(Recipe())

    request = sweep_trial.trial_request("threshold_loss")

    def outcomes(seeds: list[int]) -> list[sweep_trial.Outcome]:
        return list(sweep_trial.run_cell(data, trainer, cell, seeds, request=request, tuning=False, stop=StopFlag()))

    assert sweep_trial.together(cell)
    many, alone = outcomes([4, 5, 6]), [outcomes([seed])[0] for seed in (4, 5, 6)]
    for one, other in zip(many, alone, strict=True):
        np.testing.assert_allclose(one.report.target.logits, other.report.target.logits, atol=1e-4)
        assert one.figures["train_loss"] == pytest.approx(other.figures["train_loss"], abs=1e-4)
    assert len({round(one.figures["train_loss"], 4) for one in many}) == 3


def test_a_trial_that_fails_is_told_and_tried_anew(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"grid": "width", "levels": "4,8", "model": "dense"}
    true = sweep_work.log_outcome

    def broken(outcome: Any, cell: Any, name: str, *arguments: Any, **more: Any) -> None:
        if name.endswith("8-s1"):
            raise OSError("no space left")
        true(outcome, cell, name, *arguments, **more)

    monkeypatch.setattr(sweep_work, "log_outcome", broken)
    with pytest.raises(RuntimeError, match=r"1 trials are missing \(dense-fixed-depth-8-s1\): OSError: no space left"):
        run(**values)
    assert "trial 3 failed: OSError: no space left" in capsys.readouterr().err
    monkeypatch.setattr(sweep_work, "log_outcome", true)
    _, tracker = run(**values)
    assert [child.name for child in tracker.children] == ["dense-fixed-depth-8-s1"]


def test_a_stopped_sweep_gives_its_trials_back(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"grid": "width", "levels": "4,8", "model": "dense"}
    stop = StopFlag()
    true = sweep_work.log_outcome

    def then_stop(*arguments: Any, **more: Any) -> None:
        true(*arguments, **more)
        stop.set()

    monkeypatch.setattr(sweep_work, "log_outcome", then_stop)
    with pytest.raises(Interrupted):
        run(stop, **values)
    monkeypatch.setattr(sweep_work, "log_outcome", true)
    _, tracker = run(**values)
    assert len(tracker.children) == 3, "the one that was finished is not repeated"


@pytest.mark.thorough  # `make test` stops a sweep above
def test_an_error_that_a_library_made_of_the_stop_is_no_failed_trial(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"grid": "width", "levels": "4,8", "model": "dense"}
    stop = StopFlag()
    true = sweep_work.log_outcome

    def left(*arguments: Any, **more: Any) -> None:
        stop.set()
        stop.left = True
        raise RuntimeError("a call was interrupted")

    monkeypatch.setattr(sweep_work, "log_outcome", left)
    with pytest.raises(Interrupted):
        run(stop, **values)
    assert "failed" not in capsys.readouterr().err
    monkeypatch.setattr(sweep_work, "log_outcome", true)
    _, tracker = run(**values)
    assert len(tracker.children) == 4


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"attacks": "metric_entropy"}, "attacks=metric_entropy: .* needs shadow models"),
        ({"grid": "classes", "levels": "2,11"}, "classes=11: digits has 10 classes"),
        ({"grid": "width", "storage": "postgresql://127.0.0.1:1/none"}, "does not answer"),
        ({"space": "none.yaml"}, "space=none.yaml: cannot be read"),
    ],
)
def test_mistakes_come_before_any_run(run: Run, values: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        run(**values)
