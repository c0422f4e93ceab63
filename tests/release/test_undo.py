"""An attacker who knows the release gets back what it can be inverted to, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.attacks import registry
from memberscope.attacks.base import AttackScores
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions, ShadowPredictions
from memberscope.release import parse_release
from memberscope.release.apply import release_evidence
from memberscope.release.undo import temperature_of, undo


def _evidence(n: int = 300, shadows: int = 4) -> Evidence:
    rng = np.random.default_rng(0)
    first = rng.random((1 + shadows // 2, n)) < 0.5
    member = np.delete(np.stack([first, ~first], axis=1).reshape(-1, n), 1, axis=0)
    labels = rng.integers(0, 4, n)
    logits = rng.normal(size=(*member.shape, 4)) + (3.0 + 1.5 * member)[..., None] * (labels[:, None] == np.arange(4))
    outside, classes = 2 * rng.normal(size=(len(member), 120, 4)), rng.integers(0, 4, 120)
    return Evidence(
        target=Predictions(logits=logits[0], labels=labels, member=member[0], record_ids=np.arange(n)),
        shadows=ShadowPredictions(logits=logits[1:], labels=labels, member=member[1:], record_ids=np.arange(n)),
        population=ShadowPredictions(logits=outside, labels=classes, member=np.zeros(outside.shape[:2], bool)),
        augmented=np.stack([logits, logits + 0.1], axis=2),
    )


@pytest.mark.parametrize("text", ["temperature=4", "temperature=0.5", "temperature=2,temperature=3"])
def test_a_temperature_is_undone_and_no_attack_notices_it(text: str) -> None:
    evidence, release = _evidence(), parse_release(text)
    published = release_evidence(evidence, release)
    back = undo(published, release)
    for name in (
        "threshold_loss",
        "trained_lr",
        "metric_entropy",
        "lira_online",
        "lira_offline",
        "rmia_online",
        "rmia_offline",
    ):
        before, after = (registry.get(name).score(one, seed=0) for one in (evidence, back))
        assert isinstance(before, AttackScores)
        assert isinstance(after, AttackScores)
        np.testing.assert_allclose(after.scores, before.scores, rtol=1e-5, atol=1e-5)
    entropy = registry.get("metric_entropy")
    raw = entropy.score(published, seed=0)
    assert isinstance(raw, AttackScores)
    assert np.abs(raw.scores - entropy.score(evidence, seed=0).scores).max() > 0.01  # as published, it is another signal


def test_a_temperature_on_probabilities_is_undone_where_some_are_zero() -> None:
    """Trees and neighbours give confidences of exactly 0, which every attack reads as the smallest that it distinguishes."""
    probs = np.array([[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.2, 0.3, 0.5]])
    evidence = Evidence(target=Predictions(probs=probs, labels=np.array([0, 1, 2]), member=np.array([True, False, True])))
    release = parse_release("temperature=5")
    published = release_evidence(evidence, release)
    assert published.target.probs is not None
    assert (published.target.probs > 0).all(), "a higher temperature makes confidences more alike, also those of 0"
    back = undo(published, release).target
    assert back.logits is not None
    apart = back.logits - back.logits.max(axis=1, keepdims=True)
    np.testing.assert_allclose(apart, np.log(np.maximum(probs, 1e-30) / probs.max(axis=1, keepdims=True)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("text", ["none", "digits=1", "top=2", "temperature=2,top=2", "label_only"])
def test_what_loses_something_is_left_as_published(text: str) -> None:
    release = parse_release(text)
    assert temperature_of(release) is None
    published = release_evidence(_evidence(), release) if release.steps else _evidence()
    assert undo(published, release) is published
