"""A lower bound on epsilon from one record over many models, which are independent trials of its membership."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from memberscope import signals
from memberscope.audit.bounds_table import BoundRow
from memberscope.metrics import clopper_pearson_epsilon
from memberscope.predictions import Predictions
from memberscope.studies.shadow.evidence import FleetOutputs

SIGNAL = "threshold_loss over models"  # as an attack's name in the table
CONFIDENCE = 0.95
LEAST_PAIRS = 12  # half of fewer could show nothing, even without any error


def over_models(outputs: FleetOutputs, *, delta: float) -> BoundRow | None:
    """The bound of Clopper and Pearson from one record's losses under the models of a ``half`` plan of coin flips.

    Half of the pairs of models choose the record and the threshold; the other half are the trials. A pair has one model with the record
    and one without. Errors of either kind are therefore counted over different pairs, whose coins and trainings are independent; that the
    two models of a pair are not independent of each other does not matter, as each of the two error rates gets half of the error.
    The loss is that of one model alone: an attack that compares a model with the others would make the trials depend on each other.

    None where models do not come in pairs of coin flips, or are fewer than `LEAST_PAIRS` pairs.
    """
    plan = outputs.plan
    pairs = plan.n_models // 2
    if plan.design != "half" or not plan.coin_flips or pairs < LEAST_PAIRS or outputs.data.groups is not None:
        return None
    scores = -losses(outputs)
    chosen, trials = np.arange(plan.n_models) < pairs // 2 * 2, np.arange(plan.n_models) >= pairs // 2 * 2
    record, threshold = choose(scores[chosen], plan.member[chosen])
    counts = errors(scores[trials, record], plan.member[trials, record], threshold)
    n = int(trials.sum()) // 2
    options = {"delta": delta, "confidence": CONFIDENCE, "sides": "both"}
    bound = clopper_pearson_epsilon(counts[0], n, counts[1], n, **options)  # type: ignore[arg-type]  # options by name
    return BoundRow(
        attack=SIGNAL, records="ordinary", method="clopper_pearson", primary=False,
        assumes="nothing", threshold="record and threshold chosen on other models", sides="both", bound=bound,
        ceiling=clopper_pearson_epsilon(0, n, 0, n, **options),  # type: ignore[arg-type]  # options by name
        promise=None, ratio=None, verdict="no promise", delta=delta, confidence=CONFIDENCE, n=2 * n,
        reason=f"one record under {n} models with it and {n} without, chosen on {pairs - n} other pairs of models",
    )  # fmt: skip


def losses(outputs: FleetOutputs) -> NDArray[np.float64]:
    """(n_models, n) the loss of each record under each model, in nats."""
    labels = outputs.data.y[outputs.plan.records]
    return np.stack([
        signals.loss_nats(Predictions(**outputs.named(own), labels=labels, member=member))
        for own, member in zip(outputs.outputs, outputs.plan.member, strict=True)
    ])  # fmt: skip


def choose(scores: NDArray[np.float64], member: NDArray[np.bool_]) -> tuple[int, float]:
    """The record whose scores under models with it are furthest above those under models without it, in units of their spread, and the
    threshold halfway between the two means.

    Args:
        scores: (k, n), higher = more likely a member.
        member: (k, n) bool.
    """
    inside, outside = np.where(member, scores, np.nan), np.where(member, np.nan, scores)
    means = np.nanmean(inside, axis=0), np.nanmean(outside, axis=0)
    spread = np.sqrt(np.nanvar(inside, axis=0) + np.nanvar(outside, axis=0))
    gap = np.where(spread > 0, (means[0] - means[1]) / np.maximum(spread, 1e-12), -math.inf)
    record = int(np.argmax(gap))
    return record, float(means[0][record] + means[1][record]) / 2


def errors(scores: NDArray[np.float64], member: NDArray[np.bool_], threshold: float) -> tuple[int, int]:
    """False positives and false negatives of a record's `scores` (k,) at a threshold, where `member` (k,) says which models have it."""
    above = scores >= threshold
    return int(np.count_nonzero(above & ~member)), int(np.count_nonzero(~above & member))
