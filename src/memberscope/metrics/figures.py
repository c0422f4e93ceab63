"""Every figure of one attack on one slice, from one sort of its scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from memberscope.metrics.area import auc_of, partial_auc_of
from memberscope.metrics.curve import rank
from memberscope.metrics.decision import (
    advantage_heldout_of,
    advantage_of,
    advantage_tfp_of,
    balanced_accuracy_of,
    decide,
    decide_held_out,
    ppv_max_tfp_of,
    ppv_of,
)
from memberscope.metrics.epsilon import (
    Adjacency,
    epsilon_heuristic_ceiling,
    epsilon_heuristic_of,
    epsilon_lower_bound,
    plan_one_run,
)
from memberscope.metrics.estimate import Estimate, skipped
from memberscope.metrics.low_fpr import LOW_BUDGET, budget_reason, fp_budget, tpr_at_fpr_of
from memberscope.metrics.null import null_control

NO_COINS = "membership was not drawn by independent coin flips"


def figures(
    scores: ArrayLike,
    member: ArrayLike,
    *,
    rng: np.random.Generator,
    labels: ArrayLike | None = None,
    fpr_targets: Sequence[float] = (0.1, 0.01, 0.001),
    confidence: float = 0.95,
    prior: float = 0.5,
    threshold: float | None = None,
    coin_flips: bool = False,
    n_flips: int | None = None,
    adjacency: Adjacency = "add_remove",
    delta: float = 1e-5,
    promise: float | None = None,
    null_draws: int = 0,
) -> dict[str, Estimate]:
    """All figures of `scores` (n,), higher = more likely a member, against `member` (n,) bool, by their public names.

    auc, advantage, advantage_tfp, advantage_heldout, balanced_accuracy, tpr_at_fpr_* and fp_budget_* for each of
    `fpr_targets`, partial_auc_fpr_0_01, ppv, ppv_max_tfp, epsilon_heuristic, epsilon_lower_bound, and with each of these two bounds its
    ceiling, the largest value that is possible with so many records (epsilon_heuristic_ceiling, epsilon_lower_bound_ceiling); with
    `null_draws` > 0 also null_auc (mean and central range of permuted AUCs, within the classes of `labels` (n,)) and null_p_value. Each is
    what the function of its name says.

    `threshold` is that of balanced_accuracy and ppv, from other records; without one they stand at the held-out thresholds
    of advantage_heldout. `prior` is the share of members that ppv assumes. `coin_flips` vouches for what
    `epsilon_lower_bound` asks for, scores blind to these records' membership included; otherwise that figure is skipped. It
    alone uses `delta`, `promise`, `n_flips` and `adjacency`; epsilon_heuristic stands at delta 0.

    Each figure draws from a stream of its own spawned from `rng`, so that the same `rng` gives the same figures, record
    order aside, whatever else is asked for. ValueError on bad input and where a side is empty; a figure that cannot be
    given is "skipped".
    """
    ranking = rank(scores, member)
    for_halves, for_partial, for_epsilon, for_null, for_tpr = rng.spawn(5)
    halves = ranking.halves(for_halves)
    held_out = decide_held_out(ranking, halves)
    stated = held_out if threshold is None else decide(ranking, threshold)
    out = {
        "auc": auc_of(ranking, confidence=confidence),
        "advantage": advantage_of(ranking),
        "advantage_tfp": advantage_tfp_of(ranking),
        "advantage_heldout": advantage_heldout_of(held_out, confidence=confidence),
        "balanced_accuracy": balanced_accuracy_of(stated, confidence=confidence),
    }
    for target, stream in zip(fpr_targets, for_tpr.spawn(len(fpr_targets)), strict=True):
        out[f"tpr_at_fpr_{rate_name(target)}"] = tpr_at_fpr_of(ranking, fpr=target, rng=stream, confidence=confidence)
    for target in fpr_targets:
        out[f"fp_budget_{rate_name(target)}"] = _budget(ranking.n_nonmember, target)
    out["partial_auc_fpr_0_01"] = partial_auc_of(ranking, rng=for_partial, confidence=confidence)
    out["ppv"] = ppv_of(stated, prior=prior, confidence=confidence)
    out["ppv_max_tfp"] = ppv_max_tfp_of(ranking)
    out["epsilon_heuristic"] = epsilon_heuristic_of(ranking, halves, confidence=confidence)
    if halves is not None:
        left = [int(side[-1]) - int(half[-1]) for side, half in zip((ranking.true_pos, ranking.false_pos), halves, strict=True)]
        out["epsilon_heuristic_ceiling"] = Estimate(
            value=epsilon_heuristic_ceiling(*left, confidence=confidence),
            reason="what epsilon_heuristic would be if the threshold made no error",
        )
    if not coin_flips:
        out["epsilon_lower_bound"] = skipped(NO_COINS)
    else:
        plan = plan_one_run(
            ranking.n_member + ranking.n_nonmember, n_flips=n_flips, delta=delta, promise=promise, confidence=confidence
        )
        bound = epsilon_lower_bound(
            scores, member, rng=for_epsilon, n_guesses=plan.n_guesses, n_flips=n_flips, delta=delta, promise=promise,
            confidence=confidence, adjacency=adjacency,
        )  # fmt: skip
        out["epsilon_lower_bound"] = bound
        if bound.status != "skipped":
            out["epsilon_lower_bound_ceiling"] = Estimate(
                value=plan.ceiling(confidence),
                reason=f"what epsilon_lower_bound would be if all {plan.n_guesses} guesses were right",
            )
    if null_draws > 0:
        control = null_control(scores, member, labels, rng=for_null, draws=null_draws)
        low, high = np.quantile(control.draws, (0.5 - confidence / 2, 0.5 + confidence / 2))
        within = "among all records" if labels is None else "within class"
        out["null_auc"] = Estimate(
            value=control.mean_auc,
            ci_low=float(low),
            ci_high=float(high),
            reason=f"mean and central {confidence:.0%} of {null_draws} permutations {within}",
        )
        out["null_p_value"] = Estimate(value=control.p_value, reason=f"one-sided, {null_draws} permutations {within}")
    return out


def rate_name(rate: float) -> str:
    """A rate as it stands in a metric's name: 0.001 -> "0_001"."""
    return np.format_float_positional(rate, trim="-").replace(".", "_")


def _budget(n_nonmember: int, fpr: float) -> Estimate:
    budget = fp_budget(n_nonmember, fpr)
    if budget < LOW_BUDGET:
        return Estimate(value=budget, status="low_power", reason=budget_reason(n_nonmember, fpr))
    return Estimate(value=budget)
