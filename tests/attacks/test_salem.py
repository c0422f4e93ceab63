"""Salem's adversaries: one shadow model, one of another data set, none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import binom, norm
from sklearn.metrics import roc_auc_score

from memberscope import signals
from memberscope.attacks import registry
from memberscope.attacks.base import AttackScores, Skip
from memberscope.attacks.salem import largest
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions, ShadowPredictions


def _logits(
    member: np.ndarray, labels: np.ndarray, classes: int, gap: float, height: float, rng: np.random.Generator
) -> np.ndarray:
    """The true class leads by a normal margin about `height`, higher by `gap` for members; the others are level but for a trace."""
    logits = rng.normal(size=(*member.shape, classes)) * 0.1
    margin = rng.normal(size=member.shape) + height + gap * member
    np.put_along_axis(logits, np.broadcast_to(labels, member.shape)[..., None], margin[..., None], axis=-1)
    return logits


def _target(n: int, classes: int, rng: np.random.Generator, *, gap: float = 1.0, height: float = 6.0) -> Predictions:
    labels, member = rng.integers(0, classes, n), rng.random(n) < 0.5
    return Predictions(logits=_logits(member, labels, classes, gap, height, rng), labels=labels, member=member)


def _shadows(
    m: int, classes: int, rng: np.random.Generator, *, models: int = 1, gap: float = 1.0, height: float = 6.0
) -> ShadowPredictions:
    labels, member = rng.integers(0, classes, m), rng.random((models, m)) < 0.5
    return ShadowPredictions(logits=_logits(member, labels, classes, gap, height, rng), labels=labels, member=member)


def _score(evidence: Evidence, name: str = "shadow_salem", seed: int = 0) -> AttackScores:
    result = registry.get(name).score(evidence, seed=seed, workers=1)
    assert isinstance(result, AttackScores), result
    return result


@pytest.mark.parametrize(("classes", "height"), [(2, 6.0), (4, 6.0), (3, 60.0)])
def test_a_shift_of_the_margin_is_found_up_to_its_limit(classes: int, height: float) -> None:
    """Also where the largest posterior is 1 - 1e-26 and rounds to 1."""
    rng = np.random.default_rng(0)
    evidence = Evidence(target=_target(3000, classes, rng, height=height), shadows=_shadows(3000, classes, rng, height=height))
    result, member = _score(evidence), evidence.target.member
    limit = norm.cdf(1 / np.sqrt(2))
    assert limit - 0.03 < roc_auc_score(member, result.scores) < limit + 3.29 * np.sqrt(3001 / (12 * 1500 * 1500))
    assert result.decisions is not None
    np.testing.assert_array_equal(result.decisions, result.scores >= 0)
    assert f"{min(3, classes)} largest posteriors" in result.notes[0]


def test_no_signal_gives_one_half() -> None:
    """The target's membership is independent of all that the attack sees: the mean of 12 AUCs in its exact 99.9% band."""
    values, variance = [], 0.0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        evidence = Evidence(target=_target(400, 3, rng, gap=0.0), shadows=_shadows(200, 3, rng, gap=0.0))
        values.append(roc_auc_score(evidence.target.member, _score(evidence, seed=seed).scores))
        variance += 401 / (12 * evidence.target.n_member * evidence.target.n_nonmember)
    assert abs(np.mean(values) - 0.5) < 3.29 * np.sqrt(variance) / 12


def test_shadows_of_another_data_set_may_have_other_classes() -> None:
    rng = np.random.default_rng(2)
    evidence = Evidence(target=_target(2000, 10, rng), shadows=_shadows(2000, 25, rng))
    result = _score(evidence)
    assert 0.70 < roc_auc_score(evidence.target.member, result.scores) < norm.cdf(1 / np.sqrt(2)) + 0.03
    assert result.notes[-1] == "the shadow model has 25 classes, the target 10"
    fewer = Evidence(target=evidence.target, shadows=_shadows(2000, 2, rng))
    assert "2 largest posteriors" in _score(fewer).notes[0]


def test_it_reads_three_sorted_posteriors_of_one_shadow_and_no_label() -> None:
    rng = np.random.default_rng(3)
    target, shadows = _target(200, 5, rng), _shadows(300, 5, rng, models=3)
    lonely = dataclasses.replace(shadows, member=shadows.member & np.array([[False], [True], [True]]))
    whole = _score(Evidence(target=target, shadows=lonely))
    assert whole.notes[0].startswith("one shadow model (number 2 of 3)")
    assert shadows.logits is not None
    assert target.logits is not None
    logits = shadows.logits.copy()
    logits[2] = 0.0
    other = _score(Evidence(target=target, shadows=dataclasses.replace(lonely, logits=logits)))
    np.testing.assert_array_equal(whole.scores, other.scores)
    relabelled = dataclasses.replace(target, labels=(target.labels + 1) % 5)
    np.testing.assert_array_equal(whole.scores, _score(Evidence(target=relabelled, shadows=lonely)).scores)
    turned = dataclasses.replace(target, logits=target.logits[:, [3, 0, 4, 1, 2]])
    np.testing.assert_allclose(whole.scores, _score(Evidence(target=turned, shadows=lonely)).scores, atol=1e-6)


def test_the_largest_posteriors_are_those_of_a_naive_sort() -> None:
    target = _target(50, 4, np.random.default_rng(4), height=1.0)
    assert target.logits is not None
    p = np.exp(target.logits) / np.exp(target.logits).sum(axis=1, keepdims=True)
    sorted_p = -np.sort(-p, axis=1)[:, :3]
    expected = np.column_stack([np.log(-np.log(sorted_p[:, 0])), np.log(sorted_p[:, 1:])])
    np.testing.assert_allclose(largest(target, 3), expected, atol=1e-10)


def test_a_released_certainty_stays_finite() -> None:
    target = Predictions(
        probs=np.eye(3)[np.arange(40) % 3], labels=np.arange(40) % 3, member=np.arange(40) % 2 == 0, released=True
    )
    rng = np.random.default_rng(5)
    assert len(np.unique(_score(Evidence(target=target, shadows=_shadows(200, 3, rng))).scores)) == 1


def test_what_it_cannot_do_without() -> None:
    rng = np.random.default_rng(6)
    target = _target(40, 3, rng)
    for shadows, reason in (
        (_shadows(15, 3, rng), "needs a shadow with at least 10 members and 10 non-members; there is none"),
        (
            ShadowPredictions(loss_nats=np.ones((1, 40)), member=np.arange(40)[None] < 20),
            "needs logits or probs of the shadows",
        ),
    ):
        result = registry.get("shadow_salem").score(Evidence(target=target, shadows=shadows), seed=0)
        assert result == Skip(attack="shadow_salem", family="shadow", reason=reason)
    published = Predictions(predicted=target.labels, labels=target.labels, member=target.member)
    nobody = ShadowPredictions(predicted=np.zeros((1, 9), int), labels=np.zeros(9, int), member=np.zeros((1, 9), bool))
    for outside, reason in ((published, "needs logits or probs"), (target, "needs logits or probs of the population")):
        result = registry.get("salem_threshold").score(Evidence(target=outside, population=nobody), seed=0)
        assert result == Skip(attack="salem_threshold", family="population", reason=reason)


def _population(p: int, models: int, rng: np.random.Generator) -> ShadowPredictions:
    labels, nobody = rng.integers(0, 4, p), np.zeros((models, p), bool)
    return ShadowPredictions(logits=_logits(nobody, labels, 4, 1.0, 1.0, rng), labels=labels, member=nobody)


def test_without_shadows_the_largest_posterior_against_the_populations() -> None:
    rng = np.random.default_rng(7)
    target, population = _target(500, 4, rng, height=1.0), _population(100, 3, rng)
    result = _score(Evidence(target=target, population=population), "salem_threshold")
    np.testing.assert_allclose(np.exp(result.scores), signals.max_confidence(target), atol=1e-12)
    outside = signals.max_confidence(population.model(0))
    threshold = np.sort(outside)[90]  # ten of a hundred reach it
    np.testing.assert_array_equal(result.decisions, signals.max_confidence(target) >= threshold)
    assert population.logits is not None
    logits = population.logits.copy()
    logits[1:] = 0.0  # what other models say there is not asked
    same = _score(Evidence(target=target, population=dataclasses.replace(population, logits=logits)), "salem_threshold")
    np.testing.assert_array_equal(result.decisions, same.decisions)


def test_its_threshold_accuses_a_tenth_of_those_nobody_trained_on() -> None:
    """99.9% band of a binomial count, widened for the population's own size."""
    rng = np.random.default_rng(8)
    target = _target(4000, 4, rng, height=1.0)
    result = _score(Evidence(target=target, population=_population(4000, 1, rng)), "salem_threshold")
    assert result.decisions is not None
    accused, outs = int(result.decisions[~target.member].sum()), target.n_nonmember
    wide = np.sqrt(1 + outs / 4000)
    low, high = binom.ppf([0.0005, 0.9995], outs, 0.1) - outs * 0.1
    assert outs * 0.1 + wide * low <= accused <= outs * 0.1 + wide * high
    assert result.decisions[target.member].mean() > 0.2
