"""Labels alone: counts by hand, and the power that binomials allow."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from memberscope.attacks import registry
from memberscope.attacks.base import AttackScores, Skip
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions


def _score(name: str, evidence: Evidence) -> AttackScores:
    result = registry.get(name).score(evidence, seed=0)
    assert isinstance(result, AttackScores), result
    return result


def test_the_score_is_the_share_of_right_copies_the_record_among_them() -> None:
    target = Predictions(
        predicted=np.array([0, 1, 1, 0]), labels=np.array([0, 0, 1, 1]), member=np.array([True, False, True, False])
    )
    copies = np.array([[0, 0, 1], [1, 1, 0], [1, 1, 1], [0, 0, 0]])
    result = _score("label_only_robust", Evidence(target=target, perturbed_labels=copies))
    np.testing.assert_array_equal(result.scores, [0.75, 0.25, 1.0, 0.0])
    assert result.decisions is None
    assert (result.family, result.notes) == ("label_only", ("3 perturbed copies a record and the record itself",))
    gap = _score("label_only_gap", Evidence(target=target))
    np.testing.assert_array_equal(gap.scores, [1.0, 0.0, 1.0, 0.0])
    np.testing.assert_array_equal(gap.decisions, [True, False, True, False])
    assert (gap.attack, gap.family) == ("label_only_gap", "label_only")


@pytest.mark.parametrize("gap", [0.0, 0.2])
def test_its_power_is_that_of_two_binomials(gap: float) -> None:
    """Copies right with probability 0.6 + gap and 0.6: AUC = P(K1 > K0) + P(K1 = K0) / 2 of 9 tries, within 3.29 deviations."""
    rng = np.random.default_rng(0)
    n, tries = 4000, 9
    member, labels = np.arange(n) % 2 == 0, rng.integers(0, 5, n)
    right = rng.random((n, tries)) < np.where(member, 0.6 + gap, 0.6)[:, None]
    published = np.where(right, labels[:, None], (labels[:, None] + rng.integers(1, 5, (n, tries))) % 5)
    target = Predictions(predicted=published[:, 0], labels=labels, member=member)
    scores = _score("label_only_robust", Evidence(target=target, perturbed_labels=published[:, 1:])).scores
    k = np.arange(tries + 1)
    ins, outs = binom.pmf(k, tries, 0.6 + gap), binom.pmf(k, tries, 0.6)
    power = (ins * (np.cumsum(outs) - outs / 2)).sum()
    assert abs(roc_auc_score(member, scores) - power) < 3.29 * np.sqrt((n + 1) / (12 * n * n / 4))
    assert len(np.unique(scores)) <= tries + 1, "ties stay ties"


def test_only_the_label_is_read() -> None:
    rng = np.random.default_rng(1)
    labels, member = rng.integers(0, 3, 100), rng.random(100) < 0.5
    logits = rng.normal(size=(100, 3))
    copies = rng.integers(0, 3, (100, 4))
    whole = Predictions(logits=logits, labels=labels, member=member)
    published = Predictions(predicted=logits.argmax(axis=1), labels=labels, member=member)
    for name in ("label_only_gap", "label_only_robust"):
        one, other = (_score(name, Evidence(target=target, perturbed_labels=copies)) for target in (whole, published))
        np.testing.assert_array_equal(one.scores, other.scores)
    blind = Evidence(target=Predictions(loss_nats=np.ones(100), labels=labels, member=member), perturbed_labels=copies)
    skip = registry.get("label_only_robust").score(blind, seed=0)
    assert skip == Skip(attack="label_only_robust", family="label_only", reason="needs logits or predicted or probs")
