"""Quantile regression: the position against a naive reference, power up to its limit, calibration on who was not trained on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from memberscope.attacks import registry
from memberscope.attacks.base import AttackScores, Skip
from memberscope.attacks.quantile import LEVELS, levels_for, position
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions, ShadowPredictions


def _naive(value: float, quantiles: np.ndarray, levels: tuple[float, ...], least: float) -> float:
    z, q = norm.ppf(levels), np.sort(quantiles)
    middle = q[levels.index(0.5)]
    if value < q[0]:
        return float(z[0] - (q[0] - value) / max((middle - q[0]) / -z[0], least))
    if value > q[-1]:
        return float(z[-1] + (value - q[-1]) / max((q[-1] - middle) / z[-1], least))
    return float(np.interp(value, q, z))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000))
def test_the_position_is_that_of_a_naive_reference_and_rises_with_the_value(seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = levels_for(int(rng.choice([5, 60, 300, 5000])))
    quantiles = rng.normal(size=(1, len(levels)))
    values = np.sort(rng.normal(size=20) * 3)
    found = position(values, np.repeat(quantiles, 20, axis=0), levels, least_scale=0.1)
    np.testing.assert_allclose(found, [_naive(v, quantiles[0], levels, 0.1) for v in values], atol=1e-9)
    assert (np.diff(found) > 0).all()


def test_of_a_normal_it_is_the_standardized_residual() -> None:
    rng = np.random.default_rng(0)
    mean, deviation = rng.normal(size=200), np.exp(rng.normal(size=200))
    values = mean + deviation * rng.normal(size=200) * 4
    exact = mean[:, None] + deviation[:, None] * norm.ppf(LEVELS)
    np.testing.assert_allclose(position(values, exact, LEVELS, least_scale=1e-9), (values - mean) / deviation, atol=1e-9)
    flat = position(np.array([-1.0, 0.0, 2.0]), np.zeros((3, len(LEVELS))), LEVELS, least_scale=0.5)
    np.testing.assert_allclose(flat, [norm.ppf(0.05) - 2, norm.ppf(0.05), norm.ppf(0.99) + 4])


def test_levels_that_a_population_cannot_tell_are_left_out() -> None:
    assert levels_for(3) == (0.25, 0.5, 0.75)
    assert levels_for(100) == (0.25, 0.5, 0.75, 0.9)
    assert levels_for(200) == LEVELS[:-1]
    assert levels_for(1000) == LEVELS


def _records(n: int, member: np.ndarray, gap: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, labels, logits: the scaled logit's mean depends on inputs and class, its deviation on the inputs."""
    x, labels = rng.normal(size=(n, 6)), rng.integers(0, 4, n)
    deviation = np.exp(0.4 * x[:, 1])
    scaled = 2 * x[:, 0] + labels + deviation * (rng.normal(size=n) + gap * member)
    logits = np.full((n, 4), -np.log(3))
    logits[np.arange(n), labels] = scaled
    return x, labels, logits


def _evidence(n: int, p: int, *, gap: float, seed: int = 0) -> Evidence:
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.arange(n) % 2 == 0)
    x, labels, logits = _records(n, member, gap, rng)
    outside, outer_labels, outer_logits = _records(p, np.zeros(p, bool), gap, rng)
    return Evidence(
        target=Predictions(logits=logits, labels=labels, member=member, inputs=x),
        population=ShadowPredictions(logits=outer_logits[None], labels=outer_labels, member=np.zeros((1, p), bool)),
        population_inputs=outside,
    )


def _score(evidence: Evidence, seed: int = 0) -> AttackScores:
    result = registry.get("quantile").score(evidence, seed=seed, workers=1)
    assert isinstance(result, AttackScores), result
    return result


def test_a_record_is_judged_against_its_like_up_to_the_limit() -> None:
    """Knowing mean and deviation allows Phi(gap / sqrt 2); the loss alone is far below."""
    evidence = _evidence(3000, 2000, gap=1.0)
    member, result = evidence.target.member, _score(evidence)
    loss = registry.get("threshold_loss").score(evidence, seed=0)
    assert isinstance(loss, AttackScores)
    found, limit = roc_auc_score(member, result.scores), norm.cdf(1 / np.sqrt(2))
    assert roc_auc_score(member, loss.scores) + 0.08 < found < limit + 3.29 * np.sqrt(3001 / (12 * 1500 * 1500))
    assert found > limit - 0.05
    assert len(np.unique(result.scores)) == 3000, "few ties"
    for level, low, high in ((0.5, 0.40, 0.60), (0.9, 0.06, 0.17), (0.99, 0.002, 0.03)):
        assert low < (result.scores[~member] > norm.ppf(level)).mean() < high


def test_no_signal_gives_one_half() -> None:
    """Membership is independent of all that the attack sees: the mean of 5 AUCs in its exact 99.9% band."""
    values = []
    for seed in range(5):
        evidence = _evidence(400, 120, gap=0.0, seed=seed)
        values.append(roc_auc_score(evidence.target.member, _score(evidence, seed).scores))
    assert abs(np.mean(values) - 0.5) < 3.29 * np.sqrt(401 / (12 * 200 * 200)) / np.sqrt(5)


def test_wide_inputs_are_reduced_by_what_the_population_shows_alone() -> None:
    """Images of bytes, in any order and company: the same scores, and the inputs' signal is still found."""
    rng = np.random.default_rng(1)
    evidence = _evidence(600, 600, gap=1.0)
    axes = rng.normal(size=(6, 10 * 10 * 3))

    def images(x: np.ndarray) -> np.ndarray:
        return np.clip(128 + 12 * (x @ axes) + rng.normal(size=(len(x), 300)), 0, 255).astype(np.uint8).reshape(-1, 10, 10, 3)

    assert evidence.population_inputs is not None
    assert evidence.target.inputs is not None
    wide = dataclasses.replace(
        evidence,
        target=dataclasses.replace(evidence.target, inputs=images(evidence.target.inputs)),
        population_inputs=images(evidence.population_inputs),
    )
    result = _score(wide)
    assert "given 300 inputs as 32 principal components and the class" in result.notes[0]
    order = rng.permutation(600)[:250]
    np.testing.assert_allclose(_score(wide.select(order)).scores, result.scores[order], rtol=0, atol=1e-9)
    limit, member = norm.cdf(1 / np.sqrt(2)), wide.target.member
    assert limit - 0.09 < roc_auc_score(member, result.scores) < limit + 3.29 * np.sqrt(601 / (12 * 300 * 300))


@pytest.mark.parametrize("p", [1, 2, 30])
def test_a_small_population_a_class_it_lacks_and_constant_inputs(p: int) -> None:
    evidence = _evidence(60, 200, gap=1.0)
    population, inputs = evidence.population, evidence.population_inputs
    assert population is not None
    assert inputs is not None
    few = np.flatnonzero(population.labels != 3)[:p]
    small = dataclasses.replace(evidence, population=population.select(few), population_inputs=inputs[few] * 0)
    assert np.isfinite(_score(small).scores).all()


def test_what_it_cannot_do_without() -> None:
    evidence = _evidence(40, 30, gap=1.0)
    target, labels = evidence.target, evidence.target.labels
    assert target.inputs is not None
    published = Predictions(predicted=labels, labels=labels, member=target.member, inputs=target.inputs)
    spoilt = target.inputs.copy()
    spoilt[3, 2] = np.nan
    for other, reason in (
        (published, "needs logits or probs"),
        (dataclasses.replace(target, inputs=None), "needs target.inputs, what the model was shown of the target's records"),
        (
            dataclasses.replace(target, inputs=target.inputs[:, :4]),
            "needs population_inputs of the shape of target.inputs, (4,); theirs is (6,)",
        ),
        (
            dataclasses.replace(target, inputs=target.inputs.astype(str)),
            "needs population_inputs and target.inputs that are finite real numbers",
        ),
        (
            dataclasses.replace(target, inputs=spoilt),
            "needs population_inputs and target.inputs that are finite real numbers",
        ),
    ):
        result = registry.get("quantile").score(dataclasses.replace(evidence, target=other), seed=0)
        assert result == Skip(attack="quantile", family="population", reason=reason)
