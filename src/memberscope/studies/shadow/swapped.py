"""Finds outputs that are likely not those of their model: files that were swapped, or models that were trained on other records.

A model does at least as well on the records that it was trained on as on others. The accuracies on the two sides are compared by a
one-sided two-proportion z test (pooled). Where only losses are known, or where accuracy tells members from others for too few models, the
mean probability of the label, exp(-loss), is compared by Welch's test with a normal approximation: a few huge losses, which would drown
every difference between mean losses, count little in it.

A model is named for two reasons. Together they name a model that is in its place in about 2% of studies at most: a level of 0.005 for each
reason and each of the two measures, with Bonferroni's correction.

- It is no better on its members (p above 0.05) while most models are, and its difference is significantly below the median of all: level
  0.005 divided by the number of models.
- It tells the members of another model from others better than its own: level 0.005 divided by the square of that number. The files of
  two models that fit each other's members should be exchanged. For a model that the first reason names already, the level is 0.005 divided
  by the number of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from memberscope.plans.shadow import ShadowPlan

LEVEL = 0.05  # p at which a model counts as better on its members
FALSE_ALARMS = 0.005  # share of studies without a swap in which a model is named, for each reason and measure
SHOWN = 6  # suspects, and exchanges, that are named one by one
TESTS = {"accuracy": "two-proportion test", "confidence": "Welch's test"}


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A model whose outputs are likely another's.

    Attributes:
        model: its number.
        inside: its accuracy, or mean confidence, on its members.
        outside: the same on the other records.
        p_value: one-sided, of no better on its members.
        fits: the model whose members its outputs fit; None if there is none.
    """

    model: int
    inside: float
    outside: float
    p_value: float
    fits: int | None


@dataclass(frozen=True, kw_only=True)
class SwapCheck:
    """What was found.

    Attributes:
        measure: ``accuracy`` or ``confidence``, which is compared between members and others.
        models: the number of models.
        better: the number of models that are better on their members.
        median: the median difference between members and others.
        suspects: the models that are named.
        exchanges: pairs of models whose files should be exchanged.
    """

    measure: str
    models: int
    better: int
    median: float
    suspects: tuple[Suspect, ...]
    exchanges: tuple[tuple[int, int], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a JSON artifact."""
        return {"test": TESTS[self.measure], "level": LEVEL, "false_alarms": FALSE_ALARMS, **asdict(self)}

    def sentences(self, names: Sequence[str]) -> list[str]:
        """A sentence for each suspect and exchange, with the names of the models' files; and one if most models are no better."""
        what = "accuracy" if self.measure == "accuracy" else "mean probability of the label"
        found = []
        for one in self.suspects[:SHOWN]:
            other = "" if one.fits is None else f"; they fit the members of model {one.fits}"
            found.append(
                f"likely swapped: model {one.model} ({names[one.model]}): its {what} is {one.inside:.3f} on its members and "
                f"{one.outside:.3f} on the other records ({TESTS[self.measure]}, one-sided p {one.p_value:.2g}); {self.better} of "
                f"{self.models} models are better on their members{other}"
            )
        if rest := self.suspects[SHOWN:]:
            found.append(f"likely swapped: {len(rest)} more, from model {rest[0].model} to model {rest[-1].model}")
        for first, second in self.exchanges[:SHOWN]:
            found.append(f"exchanging {names[first]} and {names[second]} would fix models {first} and {second}")
        if not self.suspects and self.better <= self.models / 2:
            found.append(
                f"only {self.better} of {self.models} models are better on their members than on others ({what}, {TESTS[self.measure]} at "
                f"{LEVEL:g}): the models memorize too little to tell whether the outputs belong to this plan"
            )
        return found


def check_swaps(plan: ShadowPlan, losses: NDArray[Any], right: NDArray[np.bool_] | None) -> SwapCheck:
    """Compare every model's outputs with every model's index set.

    Args:
        plan: which records each model is trained on.
        losses: (n_models, n) losses in nats on the plan's records.
        right: (n_models, n) whether each record is classified correctly; None where only losses are known.
    """
    if right is not None:
        found = _check(plan, right.astype(np.float64), "accuracy")
        if found.suspects or found.better > found.models / 2:
            return found
    return _check(plan, np.exp(-losses.astype(np.float64)), "confidence")


def _check(plan: ShadowPlan, values: NDArray[np.float64], measure: str) -> SwapCheck:
    inside, outside, z, error = _compare(plan, values, measure)
    k = plan.n_models
    own = np.arange(k)
    differences, p_values = (inside - outside)[own, own], norm.sf(z)
    better = p_values[own, own] <= LEVEL
    median = float(np.median(differences))  # of all: that of the better ones alone would be too large
    with np.errstate(divide="ignore", invalid="ignore"):
        behind = (
            (norm.cdf((differences - median) / (error[own, own] * np.sqrt(1 + np.pi / 2 / k))) <= FALSE_ALARMS / k)
            & ~better
            & (better.mean() > 0.5)
        )
    nearest = np.where(np.eye(k, dtype=np.bool_), np.inf, p_values).argmin(axis=1)
    closer = z[own, nearest] > z[own, own]
    fits = closer & (p_values[own, nearest] <= FALSE_ALARMS / np.where(behind, k, k**2))
    named = behind | fits
    suspects = tuple(
        Suspect(
            model=int(j), inside=float(inside[j, j]), outside=float(outside[j, j]), p_value=float(p_values[j, j]),
            fits=int(nearest[j]) if fits[j] else None,
        )
        for j in np.flatnonzero(named)
    )  # fmt: skip
    goes = {one.model: one.fits for one in suspects}
    exchanges = tuple((a, b) for a, b in goes.items() if b is not None and a < b and goes.get(b) == a)
    return SwapCheck(measure=measure, models=k, better=int(better.sum()), median=median, suspects=suspects, exchanges=exchanges)


def _compare(
    plan: ShadowPlan, values: NDArray[np.float64], measure: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(n_models, n_models) each: of the outputs of model j with the index set of model i, the means inside and outside, z and the standard
    error of the difference."""
    targets = np.isin(np.arange(plan.n_models), plan.targets)
    pool = np.ones_like(plan.member) if plan.design == "half" else np.where(targets[:, None], plan.block, ~plan.block)
    within, without = plan.member.astype(np.float64), (pool & ~plan.member).astype(np.float64)
    n1, n2 = within.sum(axis=1), without.sum(axis=1)
    inside, outside = values @ within.T / n1, values @ without.T / n2
    squares = values**2
    spread1, spread2 = squares @ within.T / n1 - inside**2, squares @ without.T / n2 - outside**2
    error = np.sqrt(np.maximum(spread1, 0.0) / n1 + np.maximum(spread2, 0.0) / n2)
    scale, difference = error, inside - outside
    if measure == "accuracy":
        share = (inside * n1 + outside * n2) / (n1 + n2)
        scale = np.sqrt(np.maximum(share * (1 - share), 0.0) * (1 / n1 + 1 / n2))
    z = np.divide(difference, scale, out=np.zeros_like(difference), where=scale > 0)
    return inside, outside, z, error
