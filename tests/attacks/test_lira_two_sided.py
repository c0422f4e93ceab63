"""The authors' offline LiRA: their loop over records and queries, which side counts, and records that lack OUT models."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import norm

from memberscope.attacks import calibration, registry
from memberscope.attacks.base import AttackScores, Skip
from memberscope.attacks.lira_two_sided import LiraTwoSided, two_sided_scores
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions, ShadowPredictions

KINDS = pytest.mark.parametrize("variance", ["global", "per_record"])


def _naive(target: np.ndarray, shadows: np.ndarray, member: np.ndarray, variance: str) -> np.ndarray:
    """Record by record and query by query, with a median, a standard deviation and a density of a library."""
    every = shadows[~member].ravel()
    scores = np.zeros(len(target))
    for i in range(len(target)):
        for q in range(target.shape[1]):
            out = shadows[~member[:, i], i, q]
            deviation = np.std(out if variance == "per_record" and len(out) > 1 else every)
            scores[i] -= norm.logpdf(target[i, q], np.median(out), deviation + 1e-30) / target.shape[1]
    return scores


def _half(models: int, n: int, rng: np.random.Generator) -> np.ndarray:
    first = rng.random((models // 2, n)) < 0.5
    return np.stack([first, ~first], axis=1).reshape(models, n)


@KINDS
@pytest.mark.parametrize(("models", "queries"), [(2, 1), (6, 1), (7, 3), (16, 4)])
def test_it_is_the_authors_loop(variance: str, models: int, queries: int) -> None:
    rng = np.random.default_rng([models, queries])
    member = _half(models, 60, rng) if models % 2 == 0 else np.sort(rng.random((models, 60)) < 0.5, axis=0)
    member[0] = False  # unequal numbers of OUT models, and at least one
    target, shadows = rng.normal(3, 2, size=(60, queries)), rng.normal(2, 3, size=(models, 60, queries))
    found = two_sided_scores(target, shadows, member, variance=variance)
    np.testing.assert_allclose(found, _naive(target, shadows, member, variance), rtol=1e-12, atol=1e-12)


def test_it_counts_both_sides_where_the_papers_test_counts_one() -> None:
    """As far below the OUT values as above them: the same score; `lira_offline` puts one at the bottom."""
    rng = np.random.default_rng(0)
    shadows = np.repeat(rng.normal(size=(8, 1, 1)), 5, axis=1)
    middle = np.median(shadows)
    target = middle + np.array([-4.0, -1.0, 0.0, 1.0, 4.0])[:, None]
    scores = two_sided_scores(target, shadows, np.zeros((8, 5), dtype=bool))
    np.testing.assert_allclose(scores, scores[::-1], rtol=1e-12)
    assert scores[0] > scores[1] > scores[2]


def test_with_one_variance_the_ranking_is_that_of_the_distance_from_the_median() -> None:
    rng = np.random.default_rng(1)
    member, shadows, target = _half(10, 200, rng), rng.normal(size=(10, 200, 1)), rng.normal(size=(200, 1))
    medians = np.array([np.median(shadows[~member[:, i], i, 0]) for i in range(200)])
    scores = two_sided_scores(target, shadows, member)
    np.testing.assert_array_equal(np.argsort(scores), np.argsort(np.abs(target[:, 0] - medians)))


@KINDS
def test_a_record_without_out_models_is_compared_with_the_others(variance: str) -> None:
    rng = np.random.default_rng(2)
    member, shadows, target = _half(6, 40, rng), rng.normal(size=(6, 40, 2)), rng.normal(size=(40, 2))
    member[:, 7] = True
    known = np.delete(np.arange(40), 7)
    medians = np.array([np.median(shadows[~member[:, i], i], axis=0) for i in known])
    deviation = shadows[~member].std()
    expected = -norm.logpdf(target[7], np.median(medians, axis=0), deviation).mean()
    scores = two_sided_scores(target, shadows, member, variance=variance)
    assert scores[7] == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(
        scores[known], _naive(target[known], shadows[:, known], member[:, known], variance), rtol=1e-12, atol=1e-12
    )


@KINDS
def test_values_that_coincide_give_finite_scores(variance: str) -> None:
    shadows = np.zeros((4, 3, 1))
    scores = two_sided_scores(np.array([[0.0], [700.0], [-700.0]]), shadows, np.zeros((4, 3), dtype=bool), variance=variance)
    assert np.isfinite(scores).all()
    assert scores[0] < scores[1] == scores[2]


def _evidence(*, copies: bool) -> Evidence:
    rng = np.random.default_rng(3)
    n, labels = 50, np.arange(50) % 3
    logits, ids = rng.normal(size=(5, n, 3)), np.arange(50)
    member = np.concatenate([rng.random((1, n)) < 0.5, _half(4, n, rng)])
    return Evidence(
        target=Predictions(logits=logits[0], labels=labels, member=member[0], record_ids=ids),
        shadows=ShadowPredictions(logits=logits[1:], labels=labels, member=member[1:], record_ids=ids),
        augmented=np.stack([logits, logits + rng.normal(size=logits.shape)], axis=2) if copies else None,
    )


@pytest.mark.parametrize("copies", [False, True])
def test_the_registered_attacks_score_the_scaled_logits_of_all_queries(copies: bool) -> None:
    evidence = _evidence(copies=copies)
    target, shadows = calibration.scaled_logits(evidence)
    assert evidence.shadows is not None
    for name, variance in (("lira_offline_two_sided", "global"), ("lira_offline_two_sided_per_record", "per_record")):
        result = registry.get(name).score(evidence, seed=0)
        assert isinstance(result, AttackScores)
        np.testing.assert_allclose(result.scores, _naive(target, shadows, evidence.shadows.member, variance), rtol=1e-12)
        several = "; 2 queries" if copies else ""
        assert result.notes[0] == (
            f"{variance.replace('_', '-')} variance, as configured; shadow models per record, median: 2 OUT{several}"
        )


def test_what_it_lacks_is_one_line() -> None:
    evidence = _evidence(copies=False)
    assert evidence.shadows is not None
    everywhere = dataclasses.replace(evidence.shadows, member=np.tile(np.arange(50) < 30, (4, 1)))
    trained_on = dataclasses.replace(evidence, shadows=everywhere).select(np.arange(30))
    result = registry.get("lira_offline_two_sided").score(trained_on, seed=0)
    assert isinstance(result, Skip)
    assert result.reason == "needs shadows that were not trained on some of the target's records"
    with pytest.raises(UserError, match=r"^member: needs shadows that were not trained on some of the target's records$"):
        two_sided_scores(np.zeros((2, 1)), np.zeros((3, 2, 1)), np.ones((3, 2), dtype=bool))
    with pytest.raises(UserError, match=r"^variance: 'shared'; allowed: global, per_record$"):
        LiraTwoSided(name="lira_offline_two_sided", variance="shared")
