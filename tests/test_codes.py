"""Labels that are codes or words: an audit finds what it finds with 0, 1, 2, ..., and its cost follows the records."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memberscope import Predictions, ShadowPredictions, run_audit
from memberscope.attacks import registry
from memberscope.attacks.risk import most_exposed, privacy_risk
from memberscope.audit.blind import blind_control
from memberscope.audit.null import refitted_null
from memberscope.config import AttackStudyConfig
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.interrupt import StopFlag
from memberscope.studies import attack
from memberscope.studies.audit import accuracy_line
from memberscope.tracking import MemoryTracker

N = 400
RNG = np.random.default_rng(0)
MEMBER = np.arange(N) % 2 == 0
LABELS = RNG.integers(0, 4, N)
SAID = np.where(RNG.random(N) < 0.5 + 0.4 * MEMBER, LABELS, (LABELS + 1) % 4)
LOSS = RNG.exponential(size=N) + 0.5 * ~MEMBER + 0.3 * LABELS
CODES = {
    "snomed": np.array([22298006, 254837009, 73211009 * 10, 900000000000207008]),
    "negative": np.array([-7, -1, 0, 3]),
    "largest": np.array([0, 1, 2**63, 2**64 - 1], dtype=np.uint64),
    "zip": np.array(["00501", "10001", "501", "99950"]),
    "words": np.array(["a cat", "b", "c/d", "é"]),
}


def published(codes: np.ndarray, **more: Any) -> Predictions:
    return Predictions(predicted=codes[SAID], labels=codes[LABELS], member=MEMBER, **more)


def losses(codes: np.ndarray) -> Evidence:
    """Losses of a target and of shadows on other records; the shadows lack one class, and the threshold of another is their own."""
    own = LABELS != 3
    shadows = ShadowPredictions(loss_nats=LOSS[own][None] + 0.1, labels=codes[LABELS[own]], member=MEMBER[own][None])
    return Evidence(target=Predictions(loss_nats=LOSS, labels=codes[LABELS], member=MEMBER), shadows=shadows)


@pytest.mark.parametrize("kind", sorted(CODES))
def test_renaming_the_classes_changes_no_figure(kind: str) -> None:
    plain, codes = np.arange(4), CODES[kind]
    for make, attacks in ((published, "label_only_gap,trained_lr"), (losses, "metric_confidence,trained_lr,threshold_loss")):
        expected = run_audit(make(plain), attacks=attacks, slices="entire,class")
        found = run_audit(make(codes), attacks=attacks, slices="entire,class")
        assert len(found.results) == len(expected.results)
        for ours, theirs in zip(found.results, expected.results, strict=True):
            assert (ours.status, ours.n_member, ours.n_nonmember) == (theirs.status, theirs.n_member, theirs.n_nonmember)
            np.testing.assert_array_equal(ours.scores, theirs.scores)
        assert sum(result.slice.startswith("class_") for result in found.whole() + list(found.results)) >= 4
    assert blind_control(published(codes), seed=0).auc.value == blind_control(published(plain), seed=0).auc.value
    ours, theirs = (
        refitted_null(Evidence(target=published(which)), registry.get("trained_lr"), seed=0, draws=2)
        for which in (codes, plain)
    )
    np.testing.assert_array_equal(ours.draws, theirs.draws)  # type: ignore[union-attr]
    risk, plain_risk = (privacy_risk(published(which), seed=0) for which in (codes, plain))
    np.testing.assert_array_equal(risk.probability, plain_risk.probability)  # type: ignore[union-attr]
    rows = most_exposed(risk, published(codes), top=5)  # type: ignore[arg-type]
    assert [row["label"] for row in rows] == codes[LABELS][[row["position"] for row in rows]].tolist()


def test_slices_bear_the_labels_of_the_records() -> None:
    def names(kind: str) -> set[str]:
        return {result.slice for result in run_audit(published(CODES[kind]), attacks="label_only_gap", slices="class").results}

    assert {"class_22298006", "class_900000000000207008"} <= names("snomed")
    assert {"class_-7", "class_0"} <= names("negative")
    assert {"class_00501", "class_501"} <= names("zip")
    assert {"class_a cat", "class__"} <= names("words")
    only = run_audit(published(CODES["zip"]), attacks="label_only_gap", slices="class_501")
    assert {result.n_member for result in only.results if result.slice == "class_501"} == {int((MEMBER & (LABELS == 2)).sum())}
    with pytest.raises(UserError, match="slices: class_502; allowed: class_00501 to class_99950"):
        run_audit(published(CODES["zip"]), attacks="label_only_gap", slices="class_502")


def test_the_cost_follows_the_records() -> None:
    tracemalloc.start()
    try:
        run_audit(published(CODES["snomed"]), attacks="label_only_gap,trained_lr", slices="entire,class")
        privacy_risk(published(CODES["snomed"]), seed=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100e6
    assert published(CODES["snomed"]).n_classes == 4


@pytest.mark.parametrize("kind", ["snomed", "words"])
def test_a_file_of_codes_is_attacked_and_gated_by_class(tmp_path: Path, kind: str) -> None:
    codes = CODES[kind]
    published(codes, inputs=RNG.normal(size=(N, 3))).save(tmp_path / "p.npz")
    kept = Predictions.load(tmp_path / "p.npz")
    assert kept.labels is not None
    assert kept.labels.tolist() == codes[LABELS].tolist()
    name = {"snomed": "class_22298006", "words": "class_a cat"}[kind]
    options = {"predictions": str(tmp_path / "p.npz"), "attacks": "label_only_gap", "slices": "class", "top": 5}
    tracker = MemoryTracker()
    result = attack.run(AttackStudyConfig(**options, fail_if=f"label_only_gap.{name}.auc > 0.5"), tracker, StopFlag())
    assert name in str(result.gate)
    assert tracker.logged_params["data.classes"] == 4
    assert set(tracker.artifacts["dispersion.csv"]["class"]) == {str(label) for label in codes.tolist()} - {"é"} | (
        {"_"} if kind == "words" else set()
    )
    with pytest.raises(UserError, match="is not one of the 4 classes; expected class_"):
        attack.run(AttackStudyConfig(**options, fail_if="any.class_7.auc > 0.5"), MemoryTracker(), StopFlag())


def test_the_warning_of_the_most_frequent_class_is_for_models_that_are_no_better() -> None:
    def line(labels: np.ndarray, said: np.ndarray) -> str:
        return accuracy_line(Predictions(predicted=said, labels=labels, member=MEMBER))

    one = np.zeros(N, int)
    assert "most frequent" not in line(one, one)
    assert "most frequent" not in line(LABELS, LABELS)
    assert "most frequent" in line(LABELS, (LABELS + 1) % 4)
    assert "most frequent" in line(LABELS, np.full(N, np.bincount(LABELS[MEMBER]).argmax()))
    skewed = np.where(MEMBER, np.arange(N) % 20 == 0, np.arange(N) % 2 == 0).astype(int)  # members nearly all of one class
    assert "most frequent" in line(skewed, np.zeros(N, int))
