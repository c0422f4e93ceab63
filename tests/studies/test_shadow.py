"""The shadow study on a little of the embedded data: what it logs, what it promises, what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from memberscope.attacks import registry
from memberscope.config.outside import ShadowStudyConfig
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.metrics.rounding import logged
from memberscope.studies.result import StudyResult
from memberscope.studies.shadow import study as shadow
from memberscope.tracking import MemoryTracker

TINY = {
    "members": 120, "population": 100, "shadows": 4, "targets": 3, "epochs": 12, "width": 32, "depth": 1, "queries": 2, "perturbed": 4,
    "distill_epochs": 2,
}  # fmt: skip


def _run(folder: Path, **changes: object) -> tuple[MemoryTracker, StudyResult]:
    tracker = MemoryTracker()
    with StopFlag() as stop:
        result = shadow.run(ShadowStudyConfig(**({**TINY, "store": str(folder)} | changes)), tracker, stop)
    return tracker, result


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryTracker, StudyResult, Path]:
    folder = tmp_path_factory.mktemp("models")
    return *_run(folder, fidelity="yes"), folder


def test_one_child_for_the_target_and_one_for_all_shadows(done: tuple[MemoryTracker, StudyResult, Path]) -> None:
    tracker, _, _ = done
    assert [child.name for child in tracker.children] == ["shadows", "target-0"]
    shadows, target = tracker.children
    table = shadows.artifacts["models.csv"]
    assert len(table) == 6
    assert table["role"].tolist() == ["target", "shadow", "target", "shadow", "target", "shadow"]
    assert (table["train_accuracy"] > table["test_accuracy"]).all()
    assert target.models == [((32, 32, 1), 10)]
    assert "scores.npz" in target.artifacts, "so that a report can compare it record by record"


def test_every_attack_of_the_registry_ran_on_the_target(done: tuple[MemoryTracker, StudyResult, Path]) -> None:
    _, target = done[0].children
    frame = target.artifacts["attacks.csv"]
    whole = frame[frame["slice"] == "entire"]
    every = {attack.name for attack in registry.resolve("all")}
    assert set(whole["attack"]) == every
    of_one_training = {name for name in every if "loss_trace" in registry.get(name).needs}
    of_one_training.add(
        "lira_proxy"
    )  # it is for shadows that saw none of the target's records; in this design, they saw all of them
    skipped = whole[(whole["status"] == "skipped") & ~whole["attack"].isin(of_one_training)]
    assert set(skipped["metric"]) <= {"epsilon_lower_bound"}, skipped
    auc = whole[(whole["metric"] == "auc") & ~whole["attack"].isin(of_one_training)]
    assert set(auc["attack"]) == every - of_one_training
    assert (auc["ci_low"] < auc["value"]).all()
    assert (auc["value"] < auc["ci_high"]).all()


def test_means_over_targets_by_number_of_shadows(done: tuple[MemoryTracker, StudyResult, Path]) -> None:
    means = done[0].artifacts["by_shadows.csv"]
    assert set(means["shadows"]) == {0, 2, 4}
    assert {"lira_online", "lira_offline", "rmia_online", "rmia_offline", "shadow_shokri", "threshold_loss"} <= set(
        means["attack"]
    )
    assert (means["targets"] == 3).all()
    assert means["mean"].between(0, 1).all()
    auc = means[(means["figure"] == "auc") & (means["attack"] == "threshold_loss")]["mean"].item()
    assert 0.55 < auc < 0.95, "a fifth of the labels are noise, and the models fit them"


def test_fidelity_has_the_target_itself_first_and_differences_from_the_same_recipe(
    done: tuple[MemoryTracker, StudyResult, Path],
) -> None:
    frame = done[0].artifacts["fidelity.csv"]
    assert frame["variant"].iloc[0] == "the target itself"
    metric = frame[(frame["attack"] == "metric_modified_entropy") & (frame["figure"] == "balanced_accuracy")]
    by = metric.set_index("variant")["mean"]
    assert by["the target itself"] >= by["shuffled features"]
    assert np.isnan(metric.set_index("variant").loc["same recipe, same pool", "difference"])


def test_what_the_parent_shows(done: tuple[MemoryTracker, StudyResult, Path]) -> None:
    tracker, result, _ = done
    assert {"auc_mean/lira_online", "auc/threshold_loss", "gap"} <= set(tracker.logged_metrics)
    assert not any(bad in name for name in tracker.logged_metrics for bad in "[]%=@")
    assert {"orderings.csv", "auc_by_shadows.png", "study.json", "config.json"} <= set(tracker.artifacts)
    assert "LiRA" not in result.table
    finding = result.answer.splitlines()[0]
    assert tracker.description.startswith(f"**{finding}**"), "MLflow folds all but the first two lines"
    of_target = next(child for child in tracker.children if child.name.startswith("target-"))
    assert of_target.description.startswith(f"**{finding}**")
    fleet = next(child for child in tracker.children if child.name == "shadows")
    assert fleet.description.startswith("**All 6 models of the study: mean train accuracy ")
    assert "The literature's orderings" in tracker.description
    assert "not tested" in result.answer, "three targets are too few for a verdict"


@pytest.mark.thorough  # a second whole study; `make test` reruns a ladder in test_mitigate.py
def test_a_rerun_trains_nothing_and_finds_the_same(done: tuple[MemoryTracker, StudyResult, Path]) -> None:
    tracker, result, folder = done
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.npz")}
    again, result_again = _run(folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.npz")} == before
    assert result_again.table == result.table
    assert again.artifacts["targets.csv"].equals(tracker.artifacts["targets.csv"])


def test_coin_flips_bound_epsilon_for_attacks_blind_to_the_coins(tmp_path: Path) -> None:
    tracker, _ = _run(
        tmp_path,
        coin_flips="yes",
        design="disjoint",
        targets=1,
        shadows=2,
        members=60,
        attacks="lira_offline,lira_proxy,trained_lr",
    )
    frame = tracker.children[-1].artifacts["attacks.csv"]
    bound = frame[(frame["metric"] == "epsilon_lower_bound") & (frame["slice"] == "entire")].set_index("attack")
    assert bound.loc["lira_offline", "status"] != "skipped"
    assert bound.loc["lira_proxy", "status"] != "skipped"
    assert "lira_proxy" in set(tracker.artifacts["targets.csv"]["attack"])
    assert bound.loc["trained_lr", "status"] == "skipped"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"members": 5000}, "members=5000: design=half needs 2 x members and 100 for the population, and the data set has 1797 records"),
        ({"shadows": 5}, "shadows=5: odd"),
        ({"shadows": 0}, "shadows=0: none"),
        ({"model": "conv", "depth": 9}, "depth=9"),
        ({"attacks": "lyra_online"}, "lira_online"),
        ({"slices": "clas"}, "class"),
        ({"batch_size": 500}, "batch_size=500: more than the members of a model; allowed: 1 to 120"),
    ],
)  # fmt: skip
def test_what_would_fail_later_is_refused_before_anything_trains(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError) as error:
        _run(tmp_path / "models", **changes)
    assert message in str(error.value)
    assert not (tmp_path / "models").exists()


def test_a_shadow_of_another_data_set_attacks_the_first_target_too(tmp_path: Path) -> None:
    """Salem et al.'s adversary 2: other inputs, another number of classes."""
    rng = np.random.default_rng(0)
    centres, y = rng.random((4, 20)), rng.integers(0, 4, 600)
    x = np.clip(centres[y] + rng.normal(0, 0.3, (600, 20)), 0, 1).astype(np.float32)
    np.savez(tmp_path / "other.npz", x=x, y=np.where(rng.random(600) < 0.2, rng.integers(0, 4, 600), y))
    options = {
        "store": str(tmp_path / "models"),
        "attacks": "shadow_salem,threshold_loss",
        "epochs": 60,
        "batch_size": 20,
        "width": 128,
    }
    tracker, result = _run(tmp_path, **options, transfer_dataset=str(tmp_path / "other.npz"))
    frame = tracker.artifacts["other_data.csv"]
    auc = frame[(frame["metric"] == "auc") & (frame["attack"] == "shadow_salem")].iloc[0]
    assert auc["status"] == "ok"
    assert auc["n_member"] == auc["n_nonmember"] == 120
    assert auc["ci_low"] > 0.5, "an overfitted shadow tells an overfitted target's members, whatever both were trained on"
    shown = logged("auc", "", auc["value"], auc["ci_low"], auc["ci_high"])["auc"]
    assert tracker.logged_metrics["auc/shadow_salem_other_data"][0] == shown
    assert "another data set" in result.table


@pytest.mark.parametrize(
    ("records", "named", "words"),
    [
        (300, "digits", "transfer_dataset=digits: the target's own data set"),
        (30, "", "30 records; allowed: at least 100"),
        (300, "cifar11", "^transfer_dataset=cifar11: "),
        (300, "nowhere.npz", "^transfer_dataset=nowhere.npz: cannot be read"),
    ],
)
def test_another_data_set_that_will_not_do_is_refused_before_training(
    tmp_path: Path, records: int, named: str, words: str
) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, x=np.random.default_rng(0).random((records, 5), np.float32), y=np.arange(records) % 3)
    with pytest.raises(UserError, match=words):
        _run(tmp_path / "models", transfer_dataset=named or str(path))
    assert not (tmp_path / "models").exists()
