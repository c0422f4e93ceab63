"""Every figure of one attack on one slice, from one sort of its scores."""

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
    `null_draws` > 0 also null_auc (mean and central range of permuted AUCs, within the classes of `labels` (n,)) and null_p_value; and the
    metrics of other packages (`memberscope.metrics.registry`). Each is what the function of its name says.

    `threshold` is that of balanced_accuracy and ppv, from other records; without one they stand at the held-out thresholds
    of advantage_heldout. `prior` is the share of members that ppv assumes. `coin_flips` vouches for what
    `epsilon_lower_bound` asks for, scores blind to these records' membership included; otherwise that figure is skipped. It
    alone uses `delta`, `promise`, `n_flips` and `adjacency`; epsilon_heuristic stands at delta 0.

    Each figure draws from a stream of its own spawned from `rng`, so that the same `rng` gives the same figures, record
    order aside, whatever else is asked for. ValueError on bad input and where a side is empty; a figure that cannot be
    given is "skipped".
    """
    given = MetricInput(
        scores=scores, member=member, rng=rng, labels=labels, prior=prior, threshold=threshold, coin_flips=coin_flips, n_flips=n_flips,
        adjacency=adjacency, delta=delta, promise=promise, null_draws=null_draws, confidence=confidence, fpr_targets=fpr_targets,
    )  # fmt: skip
    given.ranking  # noqa: B018, bad input is refused before anything is computed
    found = {spec.name: spec.of(given, confidence) for spec in registry.at_rates(fpr_targets)}
    return {name: figure for name, figure in found.items() if figure is not None}
