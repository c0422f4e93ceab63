"""Labels alone: counts by hand, and the power that binomials allow."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from memberscope.attacks import registry
from memberscope.attacks.base import AttackScores, Skip
from memberscope.attacks.label_only import robustness
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions


def _score(name: str, evidence: Evidence) -> AttackScores:
    result = registry.get(name).score(evidence, seed=0)
    assert isinstance(result, AttackScores), result
    return result


def _naive(right: np.ndarray, labels: np.ndarray) -> list[float]:
    """By definition: each copy weighed by the share of records that it leaves right, to the fourth; less the class's share, of ten more."""
    shares = [sum(column) / len(right) for column in right.T]
    weights = [share**4 for share in shares]
    scores = []
    for record, label in zip(right, labels, strict=True):
        like = right[labels == label]
        expected = [(sum(column) + 10 * share) / (len(like) + 10) for column, share in zip(like.T, shares, strict=True)]
        scores.append(sum(w * (r - e) for w, r, e in zip(weights, record, expected, strict=True)) / sum(weights))
    return scores


def test_the_score_is_the_weighed_share_of_right_copies_less_that_of_the_class() -> None:
    target = Predictions(
        predicted=np.array([0, 1, 1, 0]), labels=np.array([0, 0, 1, 1]), member=np.array([True, False, True, False])
    )
    copies = np.array([[0, 0, 1], [1, 1, 0], [1, 1, 1], [0, 0, 0]])
    result = _score("label_only_robust", Evidence(target=target, perturbed_labels=copies))
    right = np.column_stack([target.predicted == target.labels, copies == target.labels[:, None]])
    np.testing.assert_allclose(result.scores, _naive(right, target.labels), atol=1e-12)
    assert result.decisions is None
    note = "3 perturbed copies per record and the record itself, compared with the shares of its class"
    assert (result.family, result.notes) == ("label_only", (note,))
    rng = np.random.default_rng(0)
    right, labels = rng.random((60, 9)) < np.linspace(0.9, 0.1, 9), rng.integers(0, 4, 60) * 1000
    np.testing.assert_allclose(robustness(right, labels), _naive(right, labels), atol=1e-12)
    np.testing.assert_array_equal(robustness(np.zeros((5, 3), dtype=bool), np.arange(5)), np.zeros(5))
    gap = _score("label_only_gap", Evidence(target=target))
    np.testing.assert_array_equal(gap.scores, [1.0, 0.0, 1.0, 0.0])
    np.testing.assert_array_equal(gap.decisions, [True, False, True, False])
    assert (gap.attack, gap.family) == ("label_only_gap", "label_only")


@pytest.mark.parametrize("gap", [0.0, 0.2])
def test_its_power_is_that_of_two_binomials(gap: float) -> None:
    """Copies right with probability 0.6 + gap and 0.6: AUC = P(K1 > K0) + P(K1 = K0) / 2 of 9 tries, within 3.29 deviations.

    Weights and classes are alike here, and so order hardly more than the counts do.
    """
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


def _noisy_copies(n: int, gap: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """24 copies at four strengths of records at a distance from the boundary, more for members; class 0 takes whatever is strange."""
    member, labels = rng.permutation(np.arange(n) % 2 == 0), rng.integers(0, 10, n)
    distance = rng.normal(size=n) + gap * member
    strength = np.tile([-1.5, -0.5, 0.5, 2.0], 6)
    right = rng.logistic(size=(n, 24)) * 0.5 < distance[:, None] - strength
    right |= (labels[:, None] == 0) & (rng.random((n, 24)) < 0.9)
    own = rng.logistic(size=n) * 0.5 < distance + 2.5
    return own, right, labels, member


def test_low_false_positive_rates_are_resolved_and_no_area_is_lost() -> None:
    """Counts put the class that takes whatever is strange on top; against its class, members come first. Means over five draws."""
    found = []
    for seed in range(5):
        own, right, labels, member = _noisy_copies(4000, 1.0, np.random.default_rng(seed))
        ours = robustness(np.column_stack([own, right]), labels)
        count = own + right.sum(axis=1)
        for scores in (ours, count):
            threshold = np.sort(scores[~member])[::-1][int(0.01 * (~member).sum())]
            found.append((roc_auc_score(member, scores), (scores[member] > threshold).mean()))
        assert (ours[~member] == ours.max()).mean() < 0.001, "hardly a non-member ties at the top"
    ours_mean, count_mean = np.mean(found[::2], axis=0), np.mean(found[1::2], axis=0)
    assert ours_mean[0] > count_mean[0] + 0.012
    assert count_mean[1] < 0.02
    assert 0.03 < ours_mean[1] < 0.2


def test_classes_of_unequal_difficulty_and_unequal_shares_of_members_are_no_signal() -> None:
    """An easy class with more members would make counts look like a signal where copies tell nothing within a class."""
    values, counts = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 5, 2000)
        member = rng.random(2000) < 0.3 + 0.1 * labels
        right = rng.random((2000, 25)) < (0.3 + 0.15 * labels)[:, None]
        values.append(roc_auc_score(member, robustness(right, labels)))
        counts.append(roc_auc_score(member, right.sum(axis=1)))
    assert abs(np.mean(values) - 0.5) < 3.29 * np.sqrt(2001 / (12 * 1000 * 1000)) / np.sqrt(8) + 0.01
    assert np.mean(counts) > 0.6
