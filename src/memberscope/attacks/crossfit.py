"""Cross-fitting: every record is scored by exactly one attack model, which was not trained on it.

Scores are log-odds of models trained on balanced parts, so those of different folds are on the same scale and are pooled
unchanged; on CIFAR-10 models the pooled AUC lies within 0.001 of the mean AUC of the folds.

How members were drawn makes no difference, since each training part holds as many members as non-members of each class (see
`memberscope.attacks.folds`). This was measured on outputs that reveal the class and otherwise at most noise, over coin-flip and stratified
splits, 2 to 100 classes, 200 to 5,000 records and shares of members of 0.5 and 0.17: the mean AUC of a trained attack lay between 0.480 and
0.515 (5 to 40 draws per setting, standard errors up to 0.015), and the 95% interval excluded 0.5 in 2% of 1,438 draws. It requires labels:
without them, a split stratified by class still pulls the AUC of outputs that reveal the class below 0.5, and the notes say so.

Pooling has one known cost on pure noise: of two records in different folds, each is used with its own label to train the other's model,
which biases their order slightly in the wrong direction. The bias is therefore downward: logistic regression on noise in every
output had a mean AUC of 0.490 at 200 records and 0.496 at 1,000 (200 draws, standard errors 0.004 and 0.002). For a
k-nearest-neighbours model it is about 0.4 sqrt(2k)/n: 0.0006 at n = 10,000.

The folds' models share records, so on noise the pooled AUC varies more than a Mann-Whitney statistic of fixed scores does:
1.1 to 1.5 times its standard deviation at 100 against 100, 1.0 to 1.2 times at 500 against 100 (60 draws each). An interval that takes the
scores as given is too narrow by the same factor where there is little signal: on noise, that of logistic regression lay above 0.5 in 1 to
6% and below it in 5 to 11% of those 200 draws, where 2.5% are nominal.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memberscope import seeds
from memberscope.attacks import folds as fold_plan
from memberscope.attacks.features import Features, fit_scaling
from memberscope.checks import BoolArray, FloatArray, row_chunks
from memberscope.cores import in_threads, one_thread
from memberscope.overlapping import Overlapping
from memberscope.predictions import Predictions

Model = Callable[[FloatArray], FloatArray]
Learner = Callable[[FloatArray, BoolArray, int], Model]
"""(features (m, d), member (m,), seed) -> model; the model maps (r, d) features to (r,) log-odds of membership."""

FOLDS = 4
MOST_TRAINING = 20_000
"""The number of records on each side of a training part; more change the scores little and cost in proportion."""
_LEAST_A_FOLD = 2
LEAST_FOR_THREADS = 2_000
"""With fewer records, models are fitted in many small steps that hold the interpreter's lock: of 500, two threads took 0.7 (``trained_rf``)
to 1.1 (``trained_mlp``) times as long as one, for up to 1.6 times the processor time; of 2,000, 0.7, for 1.2 times."""


kept_filters = Overlapping(warnings.catch_warnings)
"""Restores Python's warning filters. The learners here leave them alone; those of others may not: scikit-learn resets the filters for
each forest, which in threads occasionally leaves the process without any.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class CrossFitted:
    """Scores (n,) of all records, the fold that each was scored in, and notes for the report."""

    scores: FloatArray
    folds: NDArray[np.intp]
    notes: tuple[str, ...]


def shortage(predictions: Predictions, folds: int) -> str | None:
    """Why there are too few records to cross-fit in `folds` folds, or None if there are enough."""
    member, ids = predictions.member, predictions.units
    sides = []
    for side in (True, False):
        here = member == side
        sides.append(int(here.sum()) if ids is None else len(np.unique(ids[here])))
    least = _LEAST_A_FOLD * folds
    if min(sides) >= least:
        return None
    asked = f"needs {least} members and {least} non-members to be cross-fitted in {folds} folds"
    return f"{asked}; there are {sides[0]} and {sides[1]}"


def cross_fit(
    predictions: Predictions, features: Features, learner: Learner, *, name: str, seed: int, folds: int, workers: int | None
) -> CrossFitted:
    """Score every record by a model that `learner` fitted on the other folds.

    Folds depend on `seed` alone, not on `name`, so that attacks are compared on the same folds. Each fold's task draws from
    its own stream and runs single-threaded, so the scores do not depend on `workers`, the largest number of folds at a time.
    """
    member, n = predictions.member, len(predictions)
    order = fold_plan.canonical_order(features.values, member, predictions.labels, predictions.units)
    labels, ids = predictions.labels, predictions.units
    fold_of = fold_plan.assign(order, member, labels, ids, folds, seeds.stream(seed, "attacks", "folds"))

    def one(fold: int) -> tuple[FloatArray, fold_plan.TrainingPart]:
        drawn = fold_plan.training_part(
            order, fold_of, fold, member, labels, seeds.stream(seed, "attacks", "part", fold), most=MOST_TRAINING
        )
        part, scored = drawn.index, order[fold_of[order] == fold]
        scaling = fit_scaling(features, part) if len(part) else None
        if scaling is None or not len(scaling.kept):
            return np.zeros(len(scored)), drawn
        model = learner(scaling(features, part), member[part], seeds.integer(seed, "attacks", name, fold))
        scores = np.empty(len(scored))
        for rows in row_chunks(len(scored), 64):
            scores[rows] = model(scaling(features, scored[rows]))
        return scores, drawn

    with kept_filters, one_thread():
        done = in_threads(one, range(folds), workers=1 if n < LEAST_FOR_THREADS else workers)
    out = np.empty(n)
    for fold, (scores, _) in enumerate(done):
        out[order[fold_of[order] == fold]] = scores
    parts = [drawn for _, drawn in done]
    fewest = min(len(drawn.index) for drawn in parts) // 2
    counts = f"at least {fewest} members and as many non-members"
    if labels is not None and all(drawn.within_class for drawn in parts):
        return CrossFitted(
            scores=out,
            folds=fold_of,
            notes=(f"cross-fitted in {folds} folds; each model trained on {counts} of the same classes",),
        )
    note = f"cross-fitted in {folds} folds; each model trained on {counts}"
    doubt = (
        "labels are unknown: if members were drawn stratified by class, the AUC is pulled below 0.5"
        if labels is None
        else "members and non-members have hardly any class in common: the attack may tell classes apart instead of membership"
    )
    return CrossFitted(scores=out, folds=fold_of, notes=(note, doubt))
