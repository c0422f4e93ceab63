"""A cell's figure with its interval at any confidence, and the p-values that inverting the interval gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from memberscope import metrics, seeds
from memberscope.audit.report import Cell
from memberscope.metrics import Estimate
from memberscope.metrics.area import auc_of, partial_auc_of
from memberscope.metrics.curve import rank
from memberscope.metrics.decision import advantage_heldout_of, balanced_accuracy_of, decide, decide_held_out
from memberscope.metrics.epsilon import epsilon_heuristic_ceiling, epsilon_heuristic_of
from memberscope.metrics.low_fpr import tpr_at_fpr_of

_RATES = {"tpr_at_fpr_0_1": 0.1, "tpr_at_fpr_0_01": 0.01, "tpr_at_fpr_0_001": 0.001}
_TPR_DRAWS, _PARTIAL_DRAWS = 20_000, 5_000
"""More than a report's: at a confidence adjusted for many figures, an end lies among the last few draws."""
_LEAST_MISS = 1e-12


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure, to be asked at any confidence.

    Attributes:
        at: confidence -> the figure with its interval; the same draws each time, so that intervals are nested.
        least_miss: the smallest 1 - confidence that it can be asked at, and so its smallest p-value: two draws, where it is drawn.
        rate: the false positive rate that it stands at, if it does.
        one_sided: is it a lower bound at that confidence, and not an interval with half of the miss at either end?
        ceiling: confidence -> the largest value that such a bound can have with so many records; None where it is no bound.
    """

    at: Callable[[float], Estimate]
    least_miss: float = _LEAST_MISS
    rate: float | None = None
    one_sided: bool = False
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
        """By bisection on the logarithm of the miss, to a part in ten thousand; the end where it is known to hold is returned."""
        if holds(self.at(1 - self.least_miss)):
            return self.least_miss
        if not holds(self.at(1e-6)):
            return 1.0
        low, high = math.log(self.least_miss), 0.0
        while high - low > 1e-4:
            middle = (low + high) / 2
            low, high = (low, middle) if holds(self.at(min(1 - math.exp(middle), 1 - 1e-16))) else (middle, high)
        return math.exp(high)


def figure(cell: Cell, metric: str, *, seed: int) -> Figure:
    """The figure `metric` of a cell that ran, from its scores.

    `seed` is the report's. Halves are held out as `metrics.figures` did for the report, from the first of the streams that it spawns;
    the bootstraps draw anew, and more often.
    """
    if cell.scores is None or cell.member is None:
        raise ValueError(f"{cell.attack} on {cell.slice} has no scores")
    scores, member = cell.scores, cell.member
    ranking = rank(scores, member)
    for_halves, _, for_epsilon = seeds.stream(seed, "figures", cell.attack, cell.slice).spawn(5)[:3]
    if metric == "auc":
        return Figure(at=lambda confidence: auc_of(ranking, confidence=confidence))

    def draws() -> np.random.Generator:
        return seeds.stream(seed, "gate", cell.attack, cell.slice, metric)

    if metric in _RATES:

        def tpr(confidence: float) -> Estimate:
            return tpr_at_fpr_of(ranking, fpr=_RATES[metric], rng=draws(), draws=_TPR_DRAWS, confidence=confidence)

        return Figure(at=tpr, least_miss=2 / _TPR_DRAWS, rate=_RATES[metric])
    if metric == "partial_auc_fpr_0_01":

        def partial(confidence: float) -> Estimate:
            return partial_auc_of(ranking, rng=draws(), draws=_PARTIAL_DRAWS, confidence=confidence)

        return Figure(at=partial, least_miss=2 / _PARTIAL_DRAWS, rate=0.01)
    if metric == "epsilon_lower_bound":
        state, plan = for_epsilon.bit_generator.state, cell.one_run
        if plan is None:
            raise ValueError(f"{cell.attack} on {cell.slice} has no one-run test")

        def one_run(confidence: float) -> Estimate:
            for_epsilon.bit_generator.state = state
            return metrics.epsilon_lower_bound(
                scores, member, rng=for_epsilon, n_flips=plan.n_flips, n_guesses=plan.n_guesses, delta=plan.delta, promise=plan.promise,
                confidence=confidence,
            )  # fmt: skip

        return Figure(at=one_run, one_sided=True, ceiling=plan.ceiling)
    halves = ranking.halves(for_halves)
    if metric == "epsilon_heuristic":
        held_out = cell.n_member - cell.n_member // 2, cell.n_nonmember - cell.n_nonmember // 2
        return Figure(
            at=lambda confidence: epsilon_heuristic_of(ranking, halves, confidence=confidence),
            one_sided=True,
            ceiling=lambda confidence: epsilon_heuristic_ceiling(*held_out, confidence=confidence),
        )
    decision = decide_held_out(ranking, halves)
    if metric == "advantage_heldout":
        return Figure(at=lambda confidence: advantage_heldout_of(decision, confidence=confidence))
    if metric == "balanced_accuracy":
        stated = decision if cell.threshold is None else decide(ranking, cell.threshold)
        return Figure(at=lambda confidence: balanced_accuracy_of(stated, confidence=confidence))
    raise ValueError(f"metric={metric!r} has no interval")
