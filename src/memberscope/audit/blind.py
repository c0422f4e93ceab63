"""The blind control: can members be told from non-members without the model?

If they can, the two sides differ by more than membership (another source, another year, other class proportions), and any part of an
attack's AUC may be due to that. Many published benchmarks fail it (Das, Zhang & Tramèr 2024, "Blind Baselines Beat Membership Inference
Attacks").
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import chi2_contingency

from memberscope import metrics, seeds
from memberscope.attacks.crossfit import FOLDS, Model, cross_fit, shortage
from memberscope.attacks.features import Features
from memberscope.attacks.folds import assign, canonical_order
from memberscope.attacks.logistic import fit_logistic
from memberscope.audit.dispersion import fit_components
from memberscope.audit.groups import make_groups
from memberscope.checks import Array, BoolArray, FloatArray, is_number, row_chunks
from memberscope.cores import one_thread
from memberscope.errors import UserError
from memberscope.metrics.area import auc_value
from memberscope.metrics.curve import rank
from memberscope.metrics.estimate import check_fraction
from memberscope.predictions import Predictions
from memberscope.unlogged import unlogged

MOST_COMPONENTS = 32
MOST_CLASSES = 128
CLASSES_DIFFER = 0.01
"""The level of the test of whether members and non-members have different class proportions, and so the false alarms that it adds."""
_LEAST_WEIGHT = 0.02
_TINY = 1e-30


@dataclass(frozen=True, kw_only=True, eq=False)
class BlindControl:
    """How well members are told from non-members without the model.

    Attributes:
        on: what the classifier used: ``inputs`` (and labels, where known), ``labels`` where inputs are absent or unreadable, ``nothing``
            where the control was skipped because both are missing.
        auc: the AUC with its interval; `auc.status` is ``skipped`` where the control could not be run, and `auc.reason` says why. The
            interval is DeLong's, widened by the square root of 2. DeLong's takes the scores as given, but cross-fitted scores come from the
            records that they rank: every pair of records counts twice, once with either in the training part, so that without any
            signal the AUC of a linear rule has twice the variance. With the factor, `differs` holds for 0 to 2.7% of simulated null
            data sets (the aim is 2.5%); without it, for 1 to 10%.
        scores: (n,) float64 log-odds of membership in input order, higher = more likely a member; None where skipped.
        notes: what was reduced, replaced or approximated.
    """

    on: str
    auc: metrics.Estimate
    scores: FloatArray | None = None
    notes: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """``ok``, or ``skipped``."""
        return self.auc.status

    @property
    def differs(self) -> bool:
        """Whether the interval lies above 0.5, so that members and non-members differ by more than membership.

        An interval below 0.5 is no such sign. A cross-fitted classifier falls below 0.5 where the two sides are more alike than random
        draws would be, as after a split that was stratified by something in the inputs: a value with too many members in one fold has too
        few in the others. (A split stratified by class does not have this effect: see `class_odds`.)
        """
        return self.auc.ci_low is not None and self.auc.ci_low > 0.5

    @property
    def sentence(self) -> str:
        """The finding in plain words."""
        if self.auc.status == "skipped":
            return f"the blind control was skipped: {self.auc.reason}"
        found = f"AUC {self.auc.value:.3f} from {self.on} alone, interval {self.auc.ci_low:.3f} to {self.auc.ci_high:.3f}"
        if self.differs:
            return f"members and non-members differ by more than membership: a classifier without the model has {found}"
        if self.auc.ci_high is not None and self.auc.ci_high < 0.5:
            return f"members and non-members are more alike than random draws, as after a stratified split ({found})"
        return f"no sign that members and non-members differ by more than membership ({found})"


def fit_squares(x: FloatArray, member: BoolArray, seed: int) -> Model:
    """Fit a logistic regression on the columns and their squares, which finds differences in location and in spread."""
    many = ~((x == x.min(axis=0)) | (x == x.max(axis=0))).all(axis=0)  # the square of an indicator adds nothing

    def widen(rows: FloatArray) -> FloatArray:
        return np.concatenate([rows, (rows[:, many] ** 2 - 1.0) / math.sqrt(2.0)], axis=1)

    model = fit_logistic(widen(x), member, seed)
    return lambda rows: model(widen(rows))


def fit_trees(x: FloatArray, member: BoolArray, seed: int) -> Model:
    """Fit forty boosted trees of four leaves, each leaf with at least a twentieth of the records, which find all other differences."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    trees = HistGradientBoostingClassifier(
        learning_rate=0.05,
        max_iter=40,
        max_leaf_nodes=4,
        min_samples_leaf=max(20, len(x) // 20),
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    )
    with one_thread("openmp"):  # OpenMP's limit is per thread, and each fold has its own thread
        trees.fit(x, member)

    def model(rows: FloatArray) -> FloatArray:
        with one_thread("openmp"):
            return np.asarray(trees.decision_function(rows), dtype=np.float64)

    return model


def fit_blind(x: FloatArray, member: BoolArray, seed: int) -> Model:
    """Fit `fit_squares` and `fit_trees`, each weighted by its AUC - 0.5 on a held-out third of the training part.

    In an unweighted sum, whichever of the two finds nothing would spoil the other. The AUC on 2,000 records, where one of ten columns of
    the members was changed, for squares, trees and both: shifted by 0.3 standard deviations 0.564, 0.559, 0.562; stretched by a factor of
    1.3 0.566, 0.561, 0.563; correlated with another column 0.499, 0.529, 0.517; a tenth of the members at one value 0.509, 0.553, 0.551.
    """
    heldout = np.zeros(len(x), dtype=bool)
    for side in (member, ~member):
        heldout[np.flatnonzero(side)[::3]] = True
    weights, models = [], []
    for fit in (fit_squares, fit_trees):
        scores = fit(x[~heldout], member[~heldout], seed)(x[heldout])
        spread = float(scores.std())
        found = auc_value(rank(scores, member[heldout])) - 0.5
        weights.append(max(_LEAST_WEIGHT, found) / spread if spread > 0 else 0.0)
        models.append(fit(x, member, seed))
    return lambda rows: weights[0] * models[0](rows) + weights[1] * models[1](rows)


@unlogged()
def blind_control(predictions: Predictions, *, seed: int, confidence: float = 0.95, workers: int | None = None) -> BlindControl:
    """Tell members from non-members by their inputs and labels alone, or by their labels alone where inputs are absent.

    The classifier is cross-fitted on the folds of the trained attacks, so the AUC holds for records that it was not fitted on. Inputs
    wider than 32 numbers become 32 principal components, fitted without membership, and the logarithm of the energy that these
    leave out; in addition, labels become indicators of the 128 most frequent classes. Missing and infinite numbers are replaced by the
    column's mean, and the count of them in each record becomes a column, since members may have more gaps than non-members.

    The classifier of the inputs learns what differs within a class, from as many members as non-members of each class. The log-odds of the
    class itself (`class_odds`) are added to its own where the class proportions of the two sides differ by more than chance. Where only
    labels are known, these log-odds are the whole control, whose AUC is 0.5 if the proportions do not differ.

    Args:
        predictions: n records; the model's outputs are not read.
        seed: the seed of folds, components and trees; the same seed gives the same scores, for any number of workers.
        confidence: of the interval.
        workers: threads; None for all cores that this process may use.

    Returns:
        The result; skipped, with the reason, where inputs and labels are both absent or there are too few records to cross-fit.

    Raises:
        UserError: `workers` below 1.
        ValueError: `confidence` not between 0 and 1.
    """
    check_workers(workers)
    columns: list[FloatArray] = []
    names: list[str] = []
    notes: list[str] = []
    inputs = predictions.inputs
    on = "inputs"
    if inputs is None:
        on, notes = "labels", ["there are no inputs: labels only"]
    elif not (is_number(inputs) or inputs.dtype == np.bool_):
        on, notes = "labels", [f"inputs are of type {inputs.dtype}, not numbers: labels only"]
    elif not inputs.size:
        on, notes = "labels", [f"inputs of shape {inputs.shape} are empty: labels only"]
    if on == "labels" and predictions.labels is None:
        return BlindControl(on="nothing", auc=metrics.skipped("neither inputs nor labels are known"), notes=tuple(notes))
    reason = shortage(predictions, FOLDS)
    if reason is not None:
        return BlindControl(on=on, auc=metrics.skipped(reason), notes=tuple(notes))
    if on == "inputs" and inputs is not None:
        for part in (_missing(inputs), _input_columns(inputs, seeds.integer(seed, "controls", "blind"))):
            columns, names, notes = [*columns, part[0]], names + part[1], notes + part[2]
    scores, known = np.zeros(len(predictions)), np.empty((len(predictions), 0))
    if on == "inputs":
        if predictions.labels is not None:
            indicators, classes, more = _indicators(predictions.labels)
            columns, names, notes = [*columns, indicators], names + classes, notes + more
        known = np.concatenate(columns, axis=1)
        features = Features(values=known, names=tuple(names), labels=None, by_class=())
        fitted = cross_fit(predictions, features, fit_blind, name="blind", seed=seed, folds=FOLDS, workers=workers)
        scores += fitted.scores
        notes += fitted.notes
    if predictions.labels is not None:
        scores += class_odds(predictions, known, seed=seed)
    scores.flags.writeable = False
    check_fraction("confidence", confidence)
    widened = 2 * float(ndtr(math.sqrt(2) * float(ndtri(0.5 + confidence / 2)))) - 1
    if predictions.groups is None:
        auc = metrics.auc(scores, predictions.member, confidence=widened)
    else:
        counted = make_groups(predictions.groups, predictions.member, predictions.labels)
        auc = metrics.auc(counted.pool(scores), counted.member, confidence=widened)
    notes.append("interval: DeLong's, widened by sqrt(2) because the scores were fitted to the records that they rank")
    return BlindControl(on=on, auc=auc, scores=scores, notes=tuple(notes))


def class_odds(predictions: Predictions, columns: FloatArray, *, seed: int) -> FloatArray:
    """Log-odds of membership given only the class, (n,), cross-fitted; 0 where both sides have similar class proportions.

    They are used only where a chi-squared test on the other folds rejects equal proportions at level `CLASSES_DIFFER`. After a split
    stratified by class it never does. Without this condition, the log-odds would there have the wrong sign for the scored fold, and hide a
    difference between the inputs. Folds are drawn regardless of class, so that where membership was drawn at random, a class's chance
    imbalance on the other folds says nothing about the scored one. Two records are added to each class, divided between the sides in
    proportion to their sizes.

    Args:
        predictions: n records; records that share id and class are counted once.
        columns: (n, w) whatever else is known about the records; used to draw folds that do not depend on the records' order.
        seed: of the folds.
    """
    member, labels, ids = predictions.member, predictions.labels, predictions.units
    assert labels is not None
    order = canonical_order(columns, member, labels, ids)
    fold_of = assign(order, member, None, ids, FOLDS, seeds.stream(seed, "controls", "classes"))
    classes, code = np.unique(labels, return_inverse=True)
    counted = np.arange(len(member))
    if ids is not None:
        group = np.unique(ids, return_inverse=True)[1]
        counted = np.unique(np.column_stack([group, code, member]), axis=0, return_index=True)[1]
    odds = np.zeros(len(member))
    for fold in range(FOLDS):
        others = counted[fold_of[counted] != fold]
        sides = others[member[others]], others[~member[others]]
        table = np.stack([np.bincount(code[side], minlength=len(classes)) for side in sides])
        if _like_shares(table):
            continue
        share = table.sum(axis=1, keepdims=True) / table.sum()
        smoothed = np.log(table / share + 2.0)
        scored = fold_of == fold
        odds[scored] = (smoothed[0] - smoothed[1])[code[scored]]
    return odds


def _like_shares(table: NDArray[np.intp]) -> bool:
    """Whether the two rows of counts (2, classes) may come from one distribution, at level `CLASSES_DIFFER`."""
    seen = table[:, table.any(axis=0)]
    if seen.shape[1] < 2 or not seen.any(axis=1).all():
        return True
    return bool(chi2_contingency(seen, correction=False).pvalue >= CLASSES_DIFFER)


_Columns = tuple[FloatArray, list[str], list[str]]
"""Columns (n, w), their names, and notes about them."""


def _missing(inputs: Array) -> _Columns:
    """The number of missing or infinite values in each record, (n, 1); (n, 0) where there are none."""
    none = np.empty((len(inputs), 0)), list[str](), list[str]()
    if not np.issubdtype(inputs.dtype, np.floating):
        return none
    lacking = np.empty((len(inputs), 1))
    for rows in row_chunks(len(inputs), math.prod(inputs.shape[1:])):
        lacking[rows, 0] = (~np.isfinite(inputs[rows])).reshape(len(inputs[rows]), -1).sum(axis=1)
    total = int(lacking.sum())
    if not total:
        return none
    return lacking, ["missing"], [f"{total} NaN or infinite numbers in inputs count as their column's mean"]


def _input_columns(inputs: Array, seed: int) -> _Columns:
    """The inputs themselves where a record has at most 32 numbers, else principal components and the log energy that they leave out."""
    width = math.prod(inputs.shape[1:])
    if width <= MOST_COMPONENTS:
        values = inputs.reshape(len(inputs), width).astype(np.float64)
        known = np.isfinite(values)
        if not known.all():
            count = np.maximum(known.sum(axis=0), 1)
            values = np.where(known, values, np.where(known, values, 0.0).sum(axis=0) / count)
        return values, [f"input_{k}" for k in range(width)], []
    components = fit_components(inputs, most=MOST_COMPONENTS, seed=seed)
    values, rest = components(inputs)
    floor = 1e-6 * float(rest.mean()) + _TINY
    values = np.column_stack([values, np.log(rest + floor)])
    kept = values.shape[1] - 1
    note = (
        f"inputs of {width} numbers reduced to {kept} principal components, fitted without membership on {components.fitted} "
        "records, and the log energy that they leave out"
    )
    return values, [*(f"component_{k}" for k in range(kept)), "log_rest"], [note]


def _indicators(labels: Array) -> _Columns:
    """One column per class, 1 for its records; above 128 classes the rarer ones have none."""
    present, position, counts = np.unique(labels, return_inverse=True, return_counts=True)
    frequent = np.sort(np.argsort(-counts, kind="stable")[:MOST_CLASSES])
    values = np.empty((len(labels), len(frequent)))
    for column, k in enumerate(frequent):
        values[:, column] = position == k
    left = len(present) - len(frequent)
    notes = [f"labels: the {MOST_CLASSES} most frequent classes; {left} rarer ones count as one"] if left else []
    return values, [f"class_{present[k]}" for k in frequent], notes


def check_workers(workers: int | None) -> None:
    """Raise UserError for fewer than one thread."""
    if workers is not None and workers < 1:
        raise UserError(f"workers: {workers}; allowed: 1 or more, or none for all cores")
