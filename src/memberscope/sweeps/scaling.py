"""The scaling of a metric with the number of members S: c * S^beta, with its interval over seeds, and the curve without signal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from memberscope import seeds
from memberscope.metrics import SeedDifference, paired_seeds
from memberscope.metrics.estimate import Floats

MOST_STEEP = 3.0


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """c * (S / S_first)^beta, fitted to each seed's own values.

    Attributes:
        c: the constant of the fit to the means over seeds.
        beta: the mean over seeds of each seed's exponent, with its t interval; no interval with one seed.
        sizes, means: the values that `c` was fitted to.
        reason: why there is no fit; empty if there is one.
    """

    c: float
    beta: SeedDifference | None
    sizes: tuple[int, ...]
    means: tuple[float, ...]
    reason: str = ""

    def at(self, size: float) -> float:
        """The fitted value at a size; nan without a fit."""
        return float("nan") if self.beta is None else self.c * (size / self.sizes[0]) ** self.beta.mean


def fit_power(sizes: Sequence[int], figures: Sequence[float]) -> tuple[float, float]:
    """(c, beta) of c * (S / S_first)^beta by nonlinear least squares on the values, not on their logarithms, as they may be negative.

    For a given beta the best c is linear, so a bounded search over beta in [-3, 3] finds both
    (variable projection, Golub & Pereyra 1973).
    """
    from scipy.optimize import minimize_scalar

    ratio = np.asarray(sizes, dtype=np.float64) / sizes[0]
    values = np.asarray(figures, dtype=np.float64)

    def best_c(beta: float) -> float:
        shape = ratio**beta
        return float(shape @ values / (shape @ shape))

    def error(beta: float) -> float:
        return float(((values - best_c(beta) * ratio**beta) ** 2).sum())

    grid = np.linspace(-MOST_STEEP, MOST_STEEP, 61)
    start = float(grid[int(np.argmin([error(beta) for beta in grid]))])
    step = float(grid[1] - grid[0])
    found = minimize_scalar(
        error, bounds=(max(-MOST_STEEP, start - step), min(MOST_STEEP, start + step)), method="bounded", options={"xatol": 1e-6}
    )
    return best_c(float(found.x)), float(found.x)


def scaling(by_level: Mapping[int, Mapping[int, float]]) -> PowerLaw:
    """The power law of a metric by size and seed. Each seed is fitted separately, so that the interval is over seeds.

    Nothing is fitted with fewer than three sizes (any two points are fitted exactly), or if the mean is not above 0 at every size: without
    a signal there is no exponent.
    """
    sizes = tuple(sorted(by_level))
    of_seeds = sorted(by_level[sizes[0]])
    means = tuple(float(np.mean([by_level[size][seed] for seed in of_seeds])) for size in sizes)
    blank = PowerLaw(c=float("nan"), beta=None, sizes=sizes, means=means)
    if len(sizes) < 3:
        return PowerLaw(**{**vars(blank), "reason": f"{len(sizes)} sizes; at least 3 are needed"})
    if min(means) <= 0:
        return PowerLaw(**{**vars(blank), "reason": "the mean metric is not above 0 at every size"})
    c, _ = fit_power(sizes, means)
    exponents = [fit_power(sizes, [by_level[size][seed] for size in sizes])[1] for seed in of_seeds]
    return PowerLaw(c=c, beta=paired_seeds(exponents), sizes=sizes, means=means)


def null_advantage(members: int, nonmembers: int, *, seed: int, draws: int = 400) -> Floats:
    """The largest TPR - FPR over thresholds of random scores, (draws,): the value of `advantage` without signal.

    It falls with the number of audited records, about as 1 / sqrt(n), which is why size is compared at a fixed audit.
    """
    rng = seeds.stream(seed, "null_advantage", members, nonmembers)
    found = np.empty(draws)
    for draw in range(draws):
        member = rng.permutation(np.repeat([True, False], [members, nonmembers]))
        found[draw] = max(0.0, float((np.cumsum(member) / members - np.cumsum(~member) / nonmembers).max()))
    return found
