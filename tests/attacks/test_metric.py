"""Song & Mittal's metric attacks against their definition, written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memberscope import signals
from memberscope.attacks import registry
from memberscope.attacks.base import AttackScores, Skip
from memberscope.attacks.metric import best_threshold
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions, ShadowPredictions

SIGNALS = {"metric_confidence": "confidence", "metric_entropy": "entropy_nats", "metric_modified_entropy": "modified_entropy"}


def _naive_threshold(values: np.ndarray, member: np.ndarray) -> float:
    best, at = -1.0, np.nan
    for value in np.unique(values):  # ascending: of equally good ones, the last
        accuracy = ((values[member] >= value).mean() + (values[~member] < value).mean()) / 2
        if accuracy >= best - 1e-12:
            best, at = accuracy, value
    return float(at)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=30))
def test_the_threshold_is_the_highest_best_observed_value(pairs: list[tuple[int, bool]]) -> None:
    values, member = np.array([p[0] for p in pairs], float), np.array([p[1] for p in pairs])
    if member.all() or not member.any():
        member[0] = not member[0]
    assert best_threshold(values, member) == _naive_threshold(values, member)


def _evidence(seed: int, models: int = 2, classes: int = 4, step: float = 0.0) -> Evidence:
    rng = np.random.default_rng(seed)

    def logits(member: np.ndarray, labels: np.ndarray) -> np.ndarray:
        z = rng.normal(size=(len(labels), classes))
        z[np.arange(len(labels)), labels] += 1.0 + labels * 0.5 + member
        return np.round(z / step) * step if step else z

    labels, pool = rng.integers(0, classes, 150), np.arange(200) % classes
    member = rng.random(150) < 0.6
    trained = rng.random((models, 200)) < 0.5
    return Evidence(
        target=Predictions(logits=logits(member, labels), labels=labels, member=member),
        shadows=ShadowPredictions(logits=np.stack([logits(m, pool) for m in trained]), labels=pool, member=trained),
    )


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize(("seed", "models", "step"), [(0, 1, 0.0), (1, 3, 0.0), (2, 2, 0.5)])
def test_decisions_are_those_of_a_naive_reference(name: str, seed: int, models: int, step: float) -> None:
    evidence = _evidence(seed, models, step=step)
    target, shadows = evidence.target, evidence.shadows
    assert shadows is not None
    assert target.labels is not None
    signal = signals.get(SIGNALS[name])
    result = registry.get(name).score(evidence, seed=0)
    assert isinstance(result, AttackScores)
    assert result.decisions is not None
    value = signal.sign * signal(target)
    shadow_value = np.stack([signal.sign * signal(shadows.model(k)) for k in range(models)])
    for i, y in enumerate(target.labels):
        here = np.tile(shadows.labels == y, (models, 1))
        threshold = _naive_threshold(shadow_value[here], shadows.member[here])
        assert result.decisions[i] == (value[i] >= threshold)
        assert result.scores[i] == value[i] - threshold
    np.testing.assert_array_equal(result.decisions, result.scores >= 0)


def test_target_and_shadows_may_come_in_different_forms() -> None:
    evidence = _evidence(0)
    assert evidence.shadows is not None
    losses = np.stack([signals.loss_nats(evidence.shadows.model(k)) for k in range(2)])
    by_loss = ShadowPredictions(loss_nats=losses, labels=evidence.shadows.labels, member=evidence.shadows.member)
    whole = registry.get("metric_confidence").score(evidence, seed=0)
    part = registry.get("metric_confidence").score(Evidence(target=evidence.target, shadows=by_loss), seed=0)
    assert isinstance(whole, AttackScores)
    assert isinstance(part, AttackScores)
    np.testing.assert_allclose(whole.scores, part.scores, atol=1e-12)
    skip = registry.get("metric_entropy").score(Evidence(target=evidence.target, shadows=by_loss), seed=0)
    assert skip == Skip(attack="metric_entropy", family="metric", reason="needs entropy_nats or logits or probs of the shadows")


def test_a_class_without_shadow_members_borrows_the_threshold_of_all_and_says_so() -> None:
    evidence = _evidence(0)
    shadows = evidence.shadows
    assert shadows is not None
    member = shadows.member & (shadows.labels != 2)
    lame = ShadowPredictions(logits=shadows.logits, labels=shadows.labels, member=member)
    result = registry.get("metric_confidence").score(Evidence(target=evidence.target, shadows=lame), seed=0)
    assert isinstance(result, AttackScores)
    assert result.notes[-1] == "classes without shadow members or non-members use the threshold of all classes: [2]"
    none = ShadowPredictions(logits=shadows.logits, labels=shadows.labels, member=member & False)
    skip = registry.get("metric_confidence").score(Evidence(target=evidence.target, shadows=none), seed=0)
    assert isinstance(skip, Skip)
    assert skip.reason == "needs shadows with members; none of their records is a member"


def test_correctness_needs_no_shadow_and_is_its_own_decision() -> None:
    target = Predictions(predicted=np.array([0, 1, 1, 0]), labels=np.array([0, 0, 1, 1]), member=np.array([True, False] * 2))
    result = registry.get("metric_correctness").score(Evidence(target=target), seed=0)
    assert isinstance(result, AttackScores)
    assert result.decisions is not None
    assert result.decisions.tolist() == [True, False, True, False]
    assert result.scores.tolist() == [1.0, 0.0, 1.0, 0.0]
