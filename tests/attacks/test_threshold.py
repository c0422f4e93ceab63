"""Threshold attacks against tensorflow_privacy's, to the last digit, ties included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from memberscope.attacks import registry
from memberscope.attacks.base import AttackScores, Skip
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions


def _scores(name: str, **arrays: Any) -> np.ndarray:
    result = registry.get(name).score(Evidence(target=Predictions(**arrays)), seed=0)
    assert isinstance(result, AttackScores)
    return result.scores


def _figures(scores: np.ndarray, member: np.ndarray) -> tuple[float, float]:
    """AUC and the largest absolute TPR - FPR, from exact counts."""
    values = np.unique(scores)
    tpr = np.array([(scores[member] >= v).mean() for v in values[::-1]])
    fpr = np.array([(scores[~member] >= v).mean() for v in values[::-1]])
    ins, outs = scores[member][:, None], scores[~member][None]
    auc = ((ins > outs).sum() + 0.5 * (ins == outs).sum()) / (ins.size * outs.size)
    return float(auc), float(np.abs(tpr - fpr).max())


@pytest.fixture(scope="module")
def tfp() -> Any:
    """`run_attacks` of one type on one model: (AUC, advantage)."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # google.api_core on Python 3.11
        from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack import data_structures as ds
        from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack import membership_inference_attack as mia

    def run(kind: str, member: np.ndarray, **arrays: np.ndarray) -> tuple[float, float]:
        split = {f"{name}_train": array[member] for name, array in arrays.items()}
        split |= {f"{name}_test": array[~member] for name, array in arrays.items()}
        data = ds.AttackInputData(**split)
        data.get_loss_train()  # before get_loss_test, or that raises
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its epsilon bound divides by zero
            (result,) = mia.run_attacks(data, attack_types=[ds.AttackType(kind)]).single_attack_results
        return result.get_auc(), result.get_attacker_advantage()

    return run


@pytest.mark.parametrize("decimals", [17, 1, 0])
def test_losses_and_entropies_rank_as_in_tensorflow_privacy(tfp: Any, decimals: int) -> None:
    rng = np.random.default_rng(0)
    member = rng.permutation(np.arange(700) < 400)
    values = np.round(rng.gamma(2.0, size=700) * np.where(member, 1.0, 1.3), decimals)
    for ours, theirs, ours_key, theirs_key in (
        ("threshold_loss", "threshold", "loss_nats", "loss"),
        ("threshold_entropy", "threshold-entropy", "entropy_nats", "entropy"),
    ):
        auc, advantage = _figures(_scores(ours, member=member, **{ours_key: values}), member)
        expected = tfp(theirs, member, **{theirs_key: values, "loss": values})  # the report's metadata asks for a loss
        assert (auc, advantage) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("repeat", [1, 3])
def test_logits_rank_as_in_tensorflow_privacy(tfp: Any, repeat: int) -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(rng.integers(0, 5, 300), repeat)
    logits = np.repeat(rng.normal(size=(300, 5)) * 2, repeat, axis=0)
    member = rng.permutation(np.arange(300 * repeat) < 150 * repeat)  # with repeats, equal rows on both sides
    for ours, theirs in (("threshold_loss", "threshold"), ("threshold_entropy", "threshold-entropy")):
        figures = _figures(_scores(ours, logits=logits, labels=labels, member=member), member)
        assert figures == pytest.approx(tfp(theirs, member, logits=logits, labels=labels), abs=1e-14)


def test_saturated_records_do_not_tie() -> None:
    gaps = np.linspace(20, 60, 50)
    logits = np.column_stack([gaps, np.zeros(50)]).astype(np.float32)
    scores = _scores("threshold_loss", logits=logits, labels=np.zeros(50, int), member=np.arange(50) < 25)
    assert (np.diff(scores) > 0).all()


def test_a_given_entropy_is_used_and_labels_only_is_a_skip() -> None:
    member = np.arange(6) < 3
    np.testing.assert_array_equal(_scores("threshold_entropy", entropy_nats=np.arange(6.0), member=member), -np.arange(6.0))
    published = Predictions(predicted=np.zeros(6, int), labels=np.zeros(6, int), member=member)
    for name, reason in (
        ("threshold_loss", "needs logits or loss_nats"),
        ("threshold_entropy", "needs logits, probs or entropy"),
    ):
        result = registry.get(name).score(Evidence(target=published), seed=0)
        assert isinstance(result, Skip)
        assert result.reason.startswith(reason)


def test_clipped_probabilities_are_noted() -> None:
    probs = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    target = Predictions(probs=probs, labels=np.zeros(3, int), member=np.array([True, False, True]))
    result = registry.get("threshold_loss").score(Evidence(target=target), seed=0)
    assert isinstance(result, AttackScores)
    assert result.notes == ("1 true-class probabilities below 1e-30 were raised to it",)
