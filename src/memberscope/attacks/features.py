"""The features of a record that the trained attacks use, and how they are scaled inside a training part.

From logits or probabilities there are nine numbers: the signals of `memberscope.signals`, those with long tails as logarithms, and
the class means of two of them, so that a record is compared with its class. tensorflow_privacy
uses the raw logits and the loss, unscaled and without the label. On two CIFAR-10 models, one of them trained on a tenth of
the data, adding centred logits or sorted probabilities gained nothing; one-hot labels instead of class means gained
0.001 to 0.003 in AUC on the small model and lost 0.001 to 0.005 on the large one, and their number grows with the classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope import signals
from memberscope.checks import Array, FloatArray
from memberscope.predictions import Predictions

_TINY = 1e-12
_CLIP = 6.0
_PRIOR_RECORDS = 10.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Raw features of n records: each row is a function of that record's prediction and label only.

    Attributes:
        values: (n, width) float64.
        names: of the columns.
        labels: (n,) ints, or None where unknown.
        by_class: columns whose class means are added when scaled; empty without labels.
    """

    values: FloatArray
    names: tuple[str, ...]
    labels: Array | None
    by_class: tuple[int, ...]

    def __len__(self) -> int:
        """Number of records."""
        return len(self.values)


def _log(values: FloatArray) -> FloatArray:
    logarithms: FloatArray = np.log(np.maximum(values, _TINY))
    return logarithms


def extract(predictions: Predictions, wanted: tuple[str, ...] | None = None, *, class_means: int = 2) -> Features:
    """The features that these predictions allow: seven, three from losses or entropies alone, one from published labels.

    Args:
        predictions: the predictions of n records.
        wanted: use only these, if any of them is available.
        class_means: the number of features, from the first, whose class means are added, where labels are known.
    """
    columns: dict[str, FloatArray] = {}
    if predictions.form in ("logits", "probs"):
        columns["scaled_logit"] = signals.scaled_logit(predictions)
        columns["log_entropy"] = _log(signals.entropy_nats(predictions))
        columns["log_modified_entropy"] = _log(signals.modified_entropy(predictions))
        columns["loss_nats"] = signals.loss_nats(predictions)
        columns["margin"] = signals.margin(predictions)
        columns["confidence"] = signals.confidence(predictions)
        columns["max_confidence"] = signals.max_confidence(predictions)
    elif predictions.form == "predicted":
        columns["correctness"] = signals.correctness(predictions)
    else:
        for name in ("loss_nats", "entropy_nats"):
            if not signals.missing(name, predictions):
                values = signals.get(name)(predictions)
                columns |= {name: values, f"log_{name}": _log(values), f"exp_minus_{name}": np.exp(-np.maximum(values, 0.0))}
    columns = {name: values for name, values in columns.items() if wanted is None or name in wanted} or columns
    by_class = tuple(range(min(class_means, len(columns)))) if predictions.labels is not None else ()
    labels = None if predictions.labels is None else np.unique(predictions.labels, return_inverse=True)[1]
    return Features(values=np.column_stack(list(columns.values())), names=tuple(columns), labels=labels, by_class=by_class)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scaling:
    """Class means, centres and scales fitted on one training part, without using membership."""

    class_means: tuple[FloatArray, ...]
    by_class: tuple[int, ...]
    centre: FloatArray
    scale: FloatArray
    kept: Array

    def __call__(self, features: Features, index: Array) -> FloatArray:
        """The scaled features of the records at `index`, (len(index), width): about unit variance, clipped at 6."""
        raw = _with_class_means(features, index, self.class_means)[:, self.kept]
        return np.clip((raw - self.centre) / self.scale, -_CLIP, _CLIP)


def _with_class_means(features: Features, index: Array, class_means: tuple[FloatArray, ...]) -> FloatArray:
    values = features.values[index]
    if features.labels is None or not class_means:
        return values
    labels = features.labels[index]
    return np.column_stack([values, *(means[labels] for means in class_means)])


def fit_scaling(features: Features, index: Array) -> Scaling:
    """Fit the scaling on the records at `index`; columns that are constant there are dropped."""
    class_means: tuple[FloatArray, ...] = ()
    if features.labels is not None:
        labels = features.labels[index]
        classes = int(features.labels.max()) + 1
        count = np.bincount(labels, minlength=classes) + _PRIOR_RECORDS
        values = features.values[index]
        class_means = tuple(
            (np.bincount(labels, weights=values[:, c], minlength=classes) + _PRIOR_RECORDS * values[:, c].mean()) / count
            for c in features.by_class
        )
    raw = _with_class_means(features, index, class_means)
    kept = np.flatnonzero(np.ptp(raw, axis=0) > 0)
    raw = raw[:, kept]
    scale = raw.std(axis=0)
    return Scaling(
        class_means=class_means,
        by_class=features.by_class,
        centre=raw.mean(axis=0),
        scale=np.where(scale > 0, scale, 1.0),
        kept=kept,
    )


def distinct(x: FloatArray) -> tuple[FloatArray, Array, Array]:
    """Distinct rows of (m, d) in a fixed order, the position of each row among them (m,), and how often each occurs.

    Results that are computed on the distinct rows and then copied to all rows are equal for equal rows and for any order of the rows,
    to the last bit; a matrix product over all rows does not guarantee this.
    """
    order = np.lexsort(x.T)
    ordered = x[order]
    new = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)])
    inverse = np.empty(len(x), dtype=np.intp)
    inverse[order] = np.cumsum(new) - 1
    return ordered[new], inverse, np.bincount(inverse)
