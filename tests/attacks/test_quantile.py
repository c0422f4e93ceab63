"""Quantile regression: the network against known normals, power up to its limit, calibration on who was not trained on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from memberscope.attacks import gaussian_head, registry
from memberscope.attacks.base import AttackScores, Skip
from memberscope.attacks.quantile import ClassMeans
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions, ShadowPredictions
from memberscope.signals import loss_nats


def test_the_gradient_is_that_of_the_loss() -> None:
    """By central differences, at `TEMPER` 0, where the gradient is the loss's own."""
    rng = np.random.default_rng(0)
    net = gaussian_head.fit(rng.normal(size=(40, 3)), rng.normal(size=40), np.random.default_rng(1))
    x, values = rng.normal(size=(gaussian_head.NETWORKS, 9, 3)), rng.normal(size=(gaussian_head.NETWORKS, 9))
    tempered, gaussian_head.TEMPER = gaussian_head.TEMPER, 0.0
    try:
        slopes = gaussian_head._gradients(net, x, values)
    finally:
        gaussian_head.TEMPER = tempered
    fields = [item.name for item in dataclasses.fields(net)]

    def loss(name: str, part: np.ndarray) -> float:
        moved = dataclasses.replace(net, **{name: part})
        decay = 0.5 * gaussian_head.DECAY * sum((getattr(moved, w) ** 2).sum(axis=(1, 2)) for w in ("w1", "w2"))
        return float((gaussian_head._loss(gaussian_head._forward(moved, x)[1], values) + decay).sum())

    for name, slope in zip(fields, slopes, strict=True):
        weights = getattr(net, name)
        place = tuple(size // 2 for size in weights.shape)
        step = np.zeros_like(weights)
        step[place] = 1e-5
        difference = (loss(name, weights + step) - loss(name, weights - step)) / 2e-5
        assert slope[place] == pytest.approx(difference, rel=1e-4, abs=1e-7), name


def test_mean_and_deviation_of_a_known_normal_are_found() -> None:
    """Values normal given the inputs, 4,000 records: residuals are within a tenth of the true ones, in root mean square."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 3))
    mean, deviation = x[:, 0] - 0.5 * x[:, 1], np.exp(0.5 * x[:, 2])
    values = mean + deviation * rng.normal(size=4000)
    net = gaussian_head.fit(x[:3000], values[:3000], np.random.default_rng(1))
    found, true = net.residual(x[3000:], values[3000:]), ((values - mean) / deviation)[3000:]
    assert np.sqrt(np.mean((found - true) ** 2)) < 0.15
    assert 0.9 < found.std() < 1.1


def test_a_record_of_the_population_is_left_out_of_its_own_class_mean() -> None:
    labels, values = np.array([4, 4, 4, 7]), np.array([1.0, 2.0, 6.0, 3.0])
    means = ClassMeans.of(labels, values)
    np.testing.assert_allclose(means.expected(np.array([4, 7, 5])), [(9 + 6) / 5, (3 + 6) / 3, 3.0])
    np.testing.assert_allclose(means.expected(labels, own=values), [(8 + 6) / 4, (7 + 6) / 4, (3 + 6) / 4, 6 / 2])
    np.testing.assert_array_equal(means.columns(np.array([7, 4, 5])), [[0, 1], [1, 0], [0, 0]])


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
        (dataclasses.replace(target, inputs=None), "needs target.inputs, the model's inputs for the target's records"),
        (
            dataclasses.replace(target, inputs=target.inputs[:, :4]),
            "needs population_inputs with records of the same shape as target.inputs, (4,); theirs is (6,)",
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


def _naive_public(evidence: Evidence) -> np.ndarray:
    """The public setting as plainly as it can be had: one small network on inputs and class, Gaussian head, margin of the true logit."""
    target, population = evidence.target, evidence.population
    assert target.inputs is not None
    assert target.labels is not None
    assert target.logits is not None
    assert population is not None
    assert population.logits is not None
    assert evidence.population_inputs is not None

    def margin(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return np.array([row[y] - max(np.delete(row, y)) for row, y in zip(logits, labels, strict=True)])

    def features(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return np.column_stack([(x - x0) / spread, np.eye(10)[labels]])

    x0, spread = evidence.population_inputs.mean(axis=0), evidence.population_inputs.std(axis=0)
    x, labels = features(evidence.population_inputs, population.labels), population.labels
    y = margin(population.logits[0], labels)
    centre, scale = y.mean(), y.std()
    y = (y - centre) / scale
    rng = np.random.default_rng(0)
    w1, b1 = rng.normal(size=(x.shape[1], 64)) * np.sqrt(2 / x.shape[1]), np.zeros(64)
    w2, b2 = rng.normal(size=(64, 2)) * 0.01, np.zeros(2)
    moments = [np.zeros((2, *w.shape)) for w in (w1, b1, w2, b2)]
    for step in range(1, 401):
        rows = rng.choice(len(x), min(128, len(x)), replace=False)
        hidden = np.maximum(x[rows] @ w1 + b1, 0)
        out = hidden @ w2 + b2
        z = (y[rows] - out[:, 0]) * np.exp(-out[:, 1])
        slope = np.column_stack([-z * np.exp(-out[:, 1]), 1 - z * z]) / len(rows)
        back = slope @ w2.T * (hidden > 0)
        grads = (x[rows].T @ back + 1e-2 * w1, back.sum(axis=0), hidden.T @ slope + 1e-2 * w2, slope.sum(axis=0))
        for w, m, g in zip((w1, b1, w2, b2), moments, grads, strict=True):
            m[0] += 0.1 * (g - m[0])
            m[1] += 0.001 * (g * g - m[1])
            w -= 1e-3 * (m[0] / (1 - 0.9**step)) / (np.sqrt(m[1] / (1 - 0.999**step)) + 1e-8)
    out = np.maximum(features(target.inputs, target.labels) @ w1 + b1, 0) @ w2 + b2
    return ((margin(target.logits, target.labels) - centre) / scale - out[:, 0]) * np.exp(-out[:, 1])


@pytest.mark.slow
@pytest.mark.parametrize("p", [200, pytest.param(1500, marks=pytest.mark.thorough)])
def test_it_is_as_strong_as_the_public_setting(p: int) -> None:
    """Means over three draws, on the same outputs: AUC and TPR at FPR 0.05 within a hundredth of the naive reimplementation, or above."""
    ours, theirs = [], []
    for seed in range(3):
        evidence = _evidence(1500, p, gap=1.0, seed=seed)
        member = evidence.target.member
        for scores, kept in ((_score(evidence, seed).scores, ours), (_naive_public(evidence), theirs)):
            threshold = np.quantile(scores[~member], 0.95)
            kept.append((roc_auc_score(member, scores), (scores[member] > threshold).mean()))
    auc, tpr = np.mean(ours, axis=0) - np.mean(theirs, axis=0)
    assert auc > -0.01
    assert tpr > -0.01


@pytest.mark.parametrize("labeled", [True, False])
def test_losses_alone_are_enough_with_labels_or_without(labeled: bool) -> None:
    """The other classes share the rest evenly here, so that the loss tells all that the margin does; without labels it does less."""
    evidence = _evidence(1200, 800, gap=1.0)
    target, population = evidence.target, evidence.population
    assert population is not None
    labels = target.labels if labeled else None
    losses = dataclasses.replace(
        evidence,
        target=Predictions(loss_nats=loss_nats(target), labels=labels, member=target.member, inputs=target.inputs),
        population=ShadowPredictions(
            loss_nats=loss_nats(population.model(0))[None],
            labels=population.labels if labeled else None,
            member=population.member,
        ),
    )
    whole, alone = (roc_auc_score(target.member, _score(part).scores) for part in (evidence, losses))
    plain = roc_auc_score(target.member, -loss_nats(target))
    assert plain + (0.08 if labeled else 0.03) < alone
    if labeled:
        assert alone == pytest.approx(whole, abs=0.01)
    mixed = registry.get("quantile").score(dataclasses.replace(evidence, target=losses.target), seed=0)
    assert isinstance(mixed, Skip)
    assert mixed.reason.startswith("needs summary of the population")


def test_probabilities_of_nought_do_not_drown_the_rest() -> None:
    """A forest gives a class 0 for some records: the population's scores are followed to six deviations only."""
    evidence = _evidence(1200, 800, gap=1.0)
    population = evidence.population
    assert population is not None
    assert population.logits is not None
    logits = population.logits.copy()
    some = np.random.default_rng(3).random(800) < 0.05
    logits[0, some, population.labels[some]] = -700.0
    spoilt = dataclasses.replace(
        evidence, population=ShadowPredictions(logits=logits, labels=population.labels, member=population.member)
    )
    member = evidence.target.member
    clean, found = (roc_auc_score(member, _score(part).scores) for part in (evidence, spoilt))
    assert found > clean - 0.04
