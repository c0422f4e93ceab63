"""Gradient norms: found by layer, against the class, and nothing in noise."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from memberscope.attacks import registry
from memberscope.attacks.base import AttackScores
from memberscope.attacks.gradient import log_norms
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions


def _auc(evidence: Evidence, seed: int = 0) -> float:
    result = registry.get("gradient_norm").score(evidence, seed=seed, workers=1)
    assert isinstance(result, AttackScores), result
    assert result.folds is not None
    assert result.decisions is None
    return float(roc_auc_score(evidence.target.member, result.scores))


def _evidence(n: int, gap: float, seed: int = 0) -> Evidence:
    """A member's gradient is smaller by the factor exp(gap), in the smallest of three layers alone."""
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.arange(n) < n // 2)
    logs = rng.normal(size=(n, 3)) - np.array([0.0, 9.0, 0.0])
    logs[:, 1] -= gap * member
    return Evidence(target=Predictions(loss_nats=rng.random(n), member=member), gradients=np.exp(logs))


def test_a_layer_that_the_whole_norm_hides_is_found_up_to_its_limit() -> None:
    evidence = _evidence(4000, 1.0)
    assert evidence.gradients is not None
    limit, deviation = norm.cdf(1 / np.sqrt(2)), np.sqrt(4001 / (12 * 2000 * 2000))
    assert limit - 0.03 < _auc(evidence) < limit + 3.29 * deviation
    whole = -np.linalg.norm(evidence.gradients, axis=1)
    assert abs(roc_auc_score(evidence.target.member, whole) - 0.5) < 3.29 * deviation


def test_nothing_is_found_in_noise() -> None:
    """Mean of 8 in a 99.9% band; cross-fitting widens the null by up to 1.6 (see the trained attacks)."""
    values = [_auc(_evidence(300, 0.0, seed), seed) for seed in range(8)]
    assert abs(np.mean(values) - 0.5) < 3.29 * 1.6 * np.sqrt(301 / (12 * 150 * 150)) / np.sqrt(8)


def test_a_record_is_judged_against_its_class() -> None:
    rng = np.random.default_rng(0)
    labels, member = rng.integers(0, 10, 3000), rng.random(3000) < 0.5
    logs = rng.normal(size=3000) * 0.3 + labels - 0.5 * member
    target = Predictions(loss_nats=np.ones(3000), labels=labels, member=member)
    found = _auc(Evidence(target=target, gradients=np.exp(logs)[:, None]))
    plain = roc_auc_score(member, -logs)
    limit = norm.cdf(0.5 / 0.3 / np.sqrt(2))
    assert plain + 0.1 < found < limit + 0.02
    assert found > limit - 0.1


def test_a_gradient_of_zero_is_the_smallest() -> None:
    logs = log_norms(np.array([[0.0, 0.0], [3.0, 4.0]]))
    np.testing.assert_allclose(logs, [[np.log(1e-30)] * 3, np.log([5.0, 3.0, 4.0])])
