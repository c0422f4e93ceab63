"""Computes all metrics of one attack on one slice, sorting its scores only once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from memberscope.metrics import registry
from memberscope.metrics.epsilon import Adjacency
from memberscope.metrics.estimate import Estimate
from memberscope.metrics.spec import MetricInput


def figures(
    scores: ArrayLike,
    member: ArrayLike,
    *,
    rng: np.random.Generator,
    labels: ArrayLike | None = None,
    fpr_targets: Sequence[float] = registry.RATES,
    confidence: float = 0.95,
    prior: float | None = None,
    subjects: int | None = None,
    threshold: float | None = None,
    coin_flips: bool = False,
    n_flips: int | None = None,
    adjacency: Adjacency = "add_remove",
    delta: float = 1e-5,
    promise: float | None = None,
    null_draws: int = 0,
) -> dict[str, Estimate]:
    """All metrics of `scores` (n,), higher = more likely a member, against `member` (n,) bool, by their public names.

    auc, advantage, advantage_tfp, advantage_heldout, balanced_accuracy, tpr_at_fpr_* and fp_budget_* for each of
    `fpr_targets`, partial_auc_fpr_0_01, ppv, ppv_max_tfp, epsilon_heuristic, epsilon_lower_bound, and with each of these two bounds its
    ceiling, the largest value that is possible with this number of records (epsilon_heuristic_ceiling, epsilon_lower_bound_ceiling); with
    `null_draws` > 0 also null_auc (mean and central range of permuted AUCs, within the classes of `labels` (n,)) and null_p_value; and the
    metrics of other packages (`memberscope.metrics.registry`). Each is defined by the function of the same name.

    `threshold` is that of balanced_accuracy and ppv, from other records; without one they are taken at the held-out thresholds
    of advantage_heldout. `prior` is the declared share of members among an attacker's candidates (ppv is at one half without one) and
    `subjects` the declared number of people in the training set; ppv_at_fpr_*, lift, lift_at_fpr_*, found and found_at_fpr_* are computed
    only where these were declared. `coin_flips` asserts what `epsilon_lower_bound`
    requires, including that the scores are blind to these records' membership; otherwise that metric is skipped. It
    alone uses `delta`, `promise`, `n_flips` and `adjacency`; epsilon_heuristic is taken at delta 0.

    Each metric draws from its own stream spawned from `rng`, so that the same `rng` gives the same metrics, whatever the
    order of the records and whichever other metrics are computed. ValueError on bad input and where a side is empty; a metric
    that cannot be computed is "skipped".
    """
    given = MetricInput(
        scores=scores, member=member, rng=rng, labels=labels, prior=prior, subjects=subjects, threshold=threshold,
        coin_flips=coin_flips, n_flips=n_flips, adjacency=adjacency, delta=delta, promise=promise, null_draws=null_draws,
        confidence=confidence, fpr_targets=fpr_targets,
    )  # fmt: skip
    given.ranking  # noqa: B018, bad input is refused before anything is computed
    found = {spec.name: spec.of(given, confidence) for spec in registry.at_rates(fpr_targets)}
    return {name: figure for name, figure in found.items() if figure is not None}
