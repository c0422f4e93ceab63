"""Expected calibration error: closed forms, a loop over bins, and what its interval covers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from memberscope.metrics import expected_calibration_error


def _binary(sure: np.ndarray) -> np.ndarray:
    return np.stack([sure, 1 - sure], axis=1)


def test_one_confidence_is_its_distance_from_the_accuracy() -> None:
    labels = np.repeat([0, 1], [70, 30])
    found = expected_calibration_error(_binary(np.full(100, 0.9)), labels, rng=np.random.default_rng(0))
    assert found.value == pytest.approx(0.2)
    # the bootstrap of a share of 0.7 in 100: 0.2 -+ 1.96 * 0.0458
    assert found.ci_low == pytest.approx(0.2 - 0.09, abs=0.02)
    assert found.ci_high == pytest.approx(0.2 + 0.09, abs=0.02)


def test_equals_a_loop_over_bins() -> None:
    rng = np.random.default_rng(1)
    probs, labels = rng.dirichlet(np.ones(4) * 0.5, 500), rng.integers(0, 4, 500)
    expected = 0.0
    for m in range(15):
        sure = probs.max(axis=1)
        inside = (sure > m / 15) & (sure <= (m + 1) / 15)
        if inside.any():
            accuracy = (probs[inside].argmax(axis=1) == labels[inside]).mean()
            expected += inside.mean() * abs(accuracy - sure[inside].mean())
    assert expected_calibration_error(probs, labels, rng=rng).value == pytest.approx(expected)


def test_certain_and_right_is_zero_certain_and_wrong_is_one() -> None:
    certain, rng = _binary(np.ones(20)), np.random.default_rng(0)
    right = expected_calibration_error(certain, np.zeros(20, int), rng=rng)
    assert (right.value, right.ci_low, right.ci_high) == (0.0, 0.0, 0.0)
    assert expected_calibration_error(certain, np.ones(20, int), rng=rng).value == 1.0


@pytest.mark.parametrize("over", [0.05, 0.15])
def test_the_interval_covers_what_an_overconfident_model_is_off_by(over: float) -> None:
    """Accuracy is confidence - over throughout, so the error is `over`; 95% nominal, 200 data sets of 1,000 records."""
    rng, hits = np.random.default_rng(2), 0
    for _ in range(200):
        sure = rng.uniform(0.7, 1.0, 1000)
        labels = (rng.random(1000) >= sure - over).astype(int)
        found = expected_calibration_error(_binary(sure), labels, rng=rng, draws=200)
        hits += found.ci_low <= over <= found.ci_high
    assert binom.ppf(0.0005, 200, 0.94) <= hits


def test_a_calibrated_models_interval_reaches_zero_and_its_value_falls_with_records() -> None:
    rng, means = np.random.default_rng(3), []
    for n in (100, 10_000):
        sure = rng.uniform(0.5, 1.0, (20, n))
        found = [
            expected_calibration_error(_binary(row), (rng.random(n) >= row).astype(int), rng=rng, draws=100) for row in sure
        ]
        means.append(np.mean([one.value for one in found]))
        assert sum(one.ci_low == 0 for one in found) >= binom.ppf(0.0005, 20, 0.975)
    assert 5 < means[0] / means[1] < 20  # sampling error alone: root n


@pytest.mark.parametrize(
    ("probs", "labels", "said"),
    [
        ([[0.5, 0.6]], [0], "sum to one"),
        ([[1.5, -0.5]], [0], "probabilities"),
        ([[0.5, 0.5]], [2], "from 0 to 1"),
        ([[0.5, 0.5]], [0.0], "integers"),
        ([[0.5, 0.5]], [0, 1], "must be"),
        (np.empty((0, 2)), np.empty(0, int), "at least 1"),
    ],
)
def test_bad_input(probs: object, labels: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        expected_calibration_error(probs, np.asarray(labels), rng=np.random.default_rng(0))
