from __future__ import annotations

import numpy as np
import pytest
from own_artifacts import unlisted

from memberscope.config.training import CaseStudyConfig
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.metrics import verdict
from memberscope.metrics.rounding import logged
from memberscope.studies import case_study
from memberscope.tracking import MemoryTracker

TINY = {"members": 150, "nonmembers": 150, "validation": 60, "epochs": 2, "attacks": "threshold"}


@pytest.fixture(scope="module")
def study() -> MemoryTracker:
    tracker = MemoryTracker()
    case_study.run(CaseStudyConfig(seeds=2, **TINY), tracker, StopFlag())
    return tracker


def test_four_models_a_seed_each_once(study: MemoryTracker) -> None:
    names = [child.name for child in study.children]
    settings = ["conv-d3-c10", "dense-d3-c10", "dense-d6-c10", "dense-d3-c4"]
    assert sorted(names) == sorted(f"{setting}-s{seed}" for setting in settings for seed in (0, 1))
    assert {child.status for child in study.children} == {"FINISHED"}
    serves = {child.name: child.logged_tags["memberscope.experiments"] for child in study.children}
    assert serves["dense-d3-c10-s0"] == "architecture,depth,classes"
    assert serves["dense-d3-c4-s1"] == "classes"


def test_all_that_it_leaves_is_on_the_page_that_says_what_it_reveals(study: MemoryTracker) -> None:
    assert not unlisted(study)


def test_models_of_a_seed_share_their_data_and_seeds_do_not(study: MemoryTracker) -> None:
    digests = {child.name: child.logged_params["plan.digest"] for child in study.children}
    assert digests["conv-d3-c10-s0"] == digests["dense-d3-c10-s0"] == digests["dense-d6-c10-s0"]
    assert digests["dense-d3-c10-s0"] != digests["dense-d3-c10-s1"]


def test_few_classes_have_their_share_of_the_data(study: MemoryTracker) -> None:
    few = next(child for child in study.children if child.name == "dense-d3-c4-s0")
    assert few.logged_params["data.classes"] == 4
    assert few.logged_params["data.class_names"] == "0,1,2,3"
    # 720 of 1,797 digits are 0 to 3
    assert few.logged_params["data.members"] == round(150 * 720 / 1797)


def test_differences_are_paired_by_seed(study: MemoryTracker) -> None:
    auc = {}
    for child in study.children:
        rows = child.artifacts["attacks.csv"]
        row = rows[(rows["attack"] == "threshold_loss") & (rows["slice"] == "entire") & (rows["metric"] == "auc")]
        auc[child.name] = row["value"].item()
    expected = np.mean([auc[f"conv-d3-c10-s{seed}"] - auc[f"dense-d3-c10-s{seed}"] for seed in (0, 1)])
    table = study.artifacts["experiments.csv"].set_index("experiment")
    assert table.loc["architecture", "difference"] == pytest.approx(expected, rel=1e-12), "of the unrounded metrics"
    ends = [table.loc["architecture", name] for name in ("difference", "ci_low", "ci_high")]
    names = [f"auc_difference{end}/architecture" for end in ("", "_ci_low", "_ci_high")]
    shown = logged("auc_difference", "architecture", *ends)
    assert {name: study.latest(name) for name in names} == shown
    assert all(len(f"{number:g}") <= len("-0.0123") for number in shown.values())
    assert table.loc["architecture", "ci_low"] < expected < table.loc["architecture", "ci_high"]
    assert set(table["verdict"]) == {"inconclusive"}, "two seeds never give a verdict"


def test_the_page_says_what_was_expected_and_seen(study: MemoryTracker) -> None:
    for item in case_study.EXPERIMENTS:
        assert item.expected in study.description
        assert f"{item.name}/training.png" in study.artifacts
        assert f"{item.name}/leakage.png" in study.artifacts
    assert "inconclusive" in study.description
    assert "cannot tell the two apart" in study.description


def test_what_shows_before_show_more_is_the_answer(study: MemoryTracker) -> None:
    """MLflow folds a description after two lines."""
    table = study.artifacts["experiments.csv"].set_index("experiment")
    first = study.description.split("\n\n")[0]
    for item in case_study.EXPERIMENTS:
        assert f"{item.name}: inconclusive (AUC " in first
        assert f" {table.loc[item.name, 'difference']:+.3f}" in first
    for child in study.children:
        assert child.description.startswith("**threshold_"), child.name
        assert "AUC" in child.description.split("\n\n")[0]
        assert "Serves in: " in child.description


def test_the_parent_lists_its_data_set(study: MemoryTracker) -> None:
    (given,) = study.inputs
    assert (given.name, given.context, given.shape, given.classes) == ("digits", "all", (1797, 32, 32, 1), 10)


def test_one_seed_is_not_assessed() -> None:
    tracker = MemoryTracker()
    result = case_study.run(CaseStudyConfig(experiments="depth", seeds=1, **TINY), tracker, StopFlag())
    assert len(tracker.children) == 2
    assert tracker.logged_tags == {"memberscope.verdict.depth": "not assessed"}
    assert result.answer.startswith("depth: not assessed")
    assert "auc_difference_ci_low/depth" not in tracker.logged_metrics


@pytest.mark.parametrize(
    ("differences", "word"),
    [
        ([0.05, 0.06, 0.05, 0.055, 0.06], "as expected"),
        ([-0.05, -0.06, -0.05, -0.055, -0.06], "contrary"),
        ([0.001, -0.001, 0.0005, 0.0, -0.0008], "contrary (no difference)"),
        ([0.1, -0.1, 0.08, -0.02, 0.01], "inconclusive"),
        ([0.05], "not assessed"),
    ],
)
def test_outcomes_in_the_case_studys_words(differences: list[float], word: str) -> None:
    assert case_study.outcome(verdict(differences, margin=case_study.MARGIN)) == word


def test_impossible_studies_fail_before_training() -> None:
    for values, part in (
        ({"few_classes": 10}, "few_classes=10"),
        ({"depth": 4}, "depth=4"),
        ({"members": 1700}, "members=1700"),
        ({"deep": 3}, "deep=3"),
        (
            {"experiments": "classes", "few_classes": 2, "members": 200, "batch_size": 50},
            "few_classes=2 .with its share of the records.: batch",
        ),
        ({"slices": "clas"}, "nearest: class"),
        ({"attacks": "metric_entropy"}, "need shadow"),
        ({"primary": "trained_lr"}, "primary=trained_lr: not among"),
        ({"attacks": "threshold,lira_online", "primary": "lira_online"}, "primary=lira_online: needs shadows"),
    ):
        tracker = MemoryTracker()
        with pytest.raises(UserError, match=part):
            case_study.run(CaseStudyConfig(**{**TINY, **values}), tracker, StopFlag())
        assert not tracker.children
