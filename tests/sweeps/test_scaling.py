"""The power law on figures made by one, its interval over seeds, and the curve of no signal."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.sweeps.scaling import fit_power, null_advantage, scaling

SIZES = (250, 500, 1000, 2000)


@pytest.mark.parametrize(("c", "beta"), [(0.3, -0.5), (0.1, 0.4), (0.2, 0.0), (0.5, -1.7)])
def test_an_exact_law_is_found(c: float, beta: float) -> None:
    assert fit_power(SIZES, [c * (size / 250) ** beta for size in SIZES]) == pytest.approx((c, beta), abs=1e-4)


def test_the_fit_is_by_least_squares_on_the_figures_not_on_their_logarithms() -> None:
    figures = np.array([0.4, 0.2, 0.12, -0.01])
    c, beta = fit_power(SIZES, figures)

    def error(c: float, beta: float) -> float:
        return float(((figures - c * (np.array(SIZES) / 250) ** beta) ** 2).sum())

    assert all(error(c, beta) <= error(c + dc, beta + db) + 1e-12 for dc in (-0.01, 0, 0.01) for db in (-0.02, 0, 0.02))


def test_the_interval_over_seeds_covers_the_exponent() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        values = {size: {seed: 0.4 * (size / 250) ** -0.6 + rng.normal(0, 0.01) for seed in range(5)} for size in SIZES}
        law = scaling(values)
        assert law.beta is not None
        assert law.beta.ci_low is not None
        assert law.beta.ci_high is not None
        covered += law.beta.ci_low <= -0.6 <= law.beta.ci_high
    assert 0.89 <= covered / 200 <= 0.995  # 95%, within 3.3 standard errors of 200 studies


def test_no_law_is_fitted_to_two_sizes_or_to_nothing() -> None:
    assert "at least 3" in scaling({250: {0: 0.2}, 500: {0: 0.1}}).reason
    flat = scaling({size: {0: 0.01 if size < 2000 else -0.01} for size in SIZES})
    assert "not above 0" in flat.reason
    assert np.isnan(flat.at(500))


def test_the_largest_difference_on_no_signal_falls_as_the_root_of_the_records() -> None:
    # the mean of the one-sided Kolmogorov-Smirnov statistic: sqrt(pi / 8) * sqrt((n + m) / (n m)) for many records
    for records in (200, 800):
        found = null_advantage(records, records, seed=0).mean()
        assert found == pytest.approx(np.sqrt(np.pi / 8) * np.sqrt(2 / records), rel=0.12)
