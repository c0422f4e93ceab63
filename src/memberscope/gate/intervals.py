"""A metric of a result with its interval at any confidence, and the p-values that result from inverting the interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from memberscope import seeds
from memberscope.audit.report import SliceResult
from memberscope.metrics import Estimate, MetricInput, registry, skipped

_LEAST_MISS = 1e-12


@dataclass(frozen=True, kw_only=True)
class JudgedMetric:
    """One metric, whose interval can be computed at any confidence.

    Attributes:
        at: confidence -> the metric with its interval; the draws are the same each time, so that intervals are nested.
        least_miss: the smallest 1 - confidence that is possible, and so the smallest p-value: two draws' worth, for a bootstrap.
        rate: the false positive rate at which the metric is taken, if there is one.
        one_sided: whether it is a lower bound at that confidence, and not an interval with half of the miss at either end.
        scale: see `memberscope.metrics.MetricSpec`.
        ceiling: confidence -> the largest value that such a bound can have with this number of records; None if it is not a bound.
    """

    at: Callable[[float], Estimate]
    least_miss: float = _LEAST_MISS
    rate: float | None = None
    one_sided: bool = False
    scale: str = "linear"
    ceiling: Callable[[float], float] | None = None

    def p_above(self, limit: float) -> float:
        """The smallest two-sided 1 - confidence at which the interval lies above `limit`; 1 if it never does."""

        def above(estimate: Estimate) -> bool:
            return estimate.ci_low is not None and estimate.ci_low > limit

        return min(1.0, self._inverted(above) * (2 if self.one_sided else 1))

    def p_within(self, limit: float) -> float:
        """The smallest 1 - confidence at which the interval lies at or below `limit`; 1 if it never does, or has no upper end."""

        def within(estimate: Estimate) -> bool:
            return estimate.ci_high is not None and estimate.ci_high <= limit

        return self._inverted(within)

    def _inverted(self, holds: Callable[[Estimate], bool]) -> float:
        """Bisect on the logarithm of the miss, to one part in ten thousand; the end at which `holds` is known to be true is returned."""
        if holds(self.at(1 - self.least_miss)):
            return self.least_miss
        if not holds(self.at(1e-6)):
            return 1.0
        low, high = math.log(self.least_miss), 0.0
        while high - low > 1e-4:
            middle = (low + high) / 2
            low, high = (low, middle) if holds(self.at(min(1 - math.exp(middle), 1 - 1e-16))) else (middle, high)
        return math.exp(high)


def figure(result: SliceResult, metric: str, *, seed: int) -> JudgedMetric:
    """The metric named `metric` of a result that ran, computed from its scores.

    `seed` is the report's. Halves are held out as in `metrics.figures` for the report, from the first of the streams that it spawns;
    the bootstraps use new and more draws.
    """
    if result.scores is None or result.member is None:
        raise ValueError(f"{result.attack} on {result.slice} has no scores")
    spec = registry.get(metric)
    if not spec.gate:
        raise ValueError(f"metric={metric!r} has no interval")
    given = MetricInput(
        scores=result.scores, member=result.member, labels=result.labels, rng=seeds.stream(seed, "figures", result.attack, result.slice),
        threshold=result.threshold, prior=result.prior, subjects=result.subjects, coin_flips=result.one_run is not None,
        plan=result.one_run, draws=spec.draws,
        redraw=(lambda: seeds.stream(seed, "gate", result.attack, result.slice, metric)) if spec.draws else None,
    )  # fmt: skip
    if lacking := spec.lacks(given):
        raise ValueError(f"{metric} of {result.attack} on {result.slice}: {lacking}")
    ceiling = spec.ceiling
    return JudgedMetric(
        at=lambda confidence: spec.of(given, confidence) or skipped(f"{metric} could not be computed"),
        least_miss=2 / spec.draws if spec.draws else _LEAST_MISS,
        rate=spec.rate,
        one_sided=spec.one_sided,
        scale=spec.scale,
        ceiling=None if ceiling is None else lambda confidence: ceiling(given, confidence),
    )
