"""What a model's raw output means: logits, probabilities or labels, decided from its values and always said.

A model from another framework hands back arrays whose meaning it does not state. Taking labels for scores, or logits for probabilities,
gives an audit of something else without a word; so the choice is a value of its own, `Reading`, that goes into the run and onto the
terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memberscope.checks import SUM_TOLERANCE, Array
from memberscope.errors import UserError
from memberscope.predictions import Predictions

OUTPUTS = ("auto", "logits", "probs", "labels")
_PREFERRED = ("logits", "probabilities", "probs", "output_0", "predictions")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How an output was read.

    Attributes:
        form: ``logits``, ``probs`` or ``predicted``, as `Predictions` names them.
        values: (n, classes) for scores, (n,) class numbers for labels.
        labels: (n,) class numbers of the records, counted as the output's columns are.
        why: what was seen, in words.
    """

    form: str
    values: Array
    labels: Array
    why: str

    def predictions(
        self, *, member: Array, record_ids: Array | None, inputs: Array | None, columns: Mapping[str, Array] | None = None
    ) -> Predictions:
        """The output as `Predictions` of these records."""
        return Predictions(
            logits=self.values if self.form == "logits" else None,
            probs=self.values if self.form == "probs" else None,
            predicted=self.values if self.form == "predicted" else None,
            labels=self.labels,
            member=member,
            record_ids=record_ids,
            inputs=inputs,
            columns=columns or {},
        )


def as_array(raw: Any) -> Array:
    """The one array of an output: of an array, a frame, a series, a list, a tensor, or a mapping that holds one.

    Of a mapping with several, that named ``logits``, ``probabilities``, ``probs``, ``output_0`` or ``predictions``.

    Raises:
        UserError: a mapping with none of these, or rows of unequal lengths.
    """
    if isinstance(raw, Mapping):
        keys = list(raw)
        key = keys[0] if len(keys) == 1 else next((name for name in _PREFERRED if name in raw), None)
        if key is None:
            raise UserError(
                f"output: the model returns {', '.join(map(str, keys)) or 'nothing'}; allowed: one array, or one named "
                f"{', '.join(_PREFERRED)}"
            )
        return as_array(raw[key])
    try:
        array = np.asarray(raw.to_numpy() if hasattr(raw, "to_numpy") else raw)
        if array.dtype.kind == "O" and array.ndim == 1 and len(array) and not isinstance(array[0], str):
            return np.array(array.tolist())  # a column whose cells are rows of scores
        return array
    except ValueError:
        raise UserError(
            "output: the model returns rows of unequal lengths; allowed: one row of scores, or one label, a record"
        ) from None


def read_output(raw: Any, labels: Array, *, asked: str = "auto", classes: Sequence[Any] | None = None) -> Reading:
    """Read the output of n records.

    Args:
        raw: (n, classes) or (n, 1) scores, or (n,) labels or scores of the second of two classes.
        labels: (n,) the records' labels as the user has them: numbers or text.
        asked: one of `OUTPUTS`; ``auto`` decides from the values.
        classes: the label that each column stands for, where the model says so; else columns stand for 0, 1, ....

    Two columns are made of one: p of (1 - p, p), z of (0, z).

    Raises:
        UserError: the output is neither labels nor scores, does not fit the labels, or is not what was asked for.
    """
    array = _squeezed(as_array(raw))
    if len(array) != len(labels):
        raise UserError(f"output: {len(array)} rows for {len(labels)} records; allowed: one row a record")
    if array.dtype.kind not in "fiub" and (array.dtype.kind not in "OUS" or array.ndim != 1):
        raise UserError(f"output: dtype {array.dtype} of shape {array.shape}; allowed: numbers, or one label a record")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UserError(f"output: {int((~np.isfinite(array)).sum())} NaN or infinite values; all must be finite")
    if asked == "auto":
        asked, why = _recognized(array, labels)
    else:
        why = f"output={asked} was asked for"
    if asked == "labels":
        return _labels(array, labels, why, classes)
    if array.ndim == 1 and (array.dtype.kind not in "fiub" or whole_numbers(array) is not None):
        raise UserError(f"output={asked}: the model returns labels, such as {array[0]!r}; allowed: auto, labels")
    if asked == "logits" and array.ndim == 2 and _sums_to_one(array):
        raise UserError("output=logits: the rows are non-negative and sum to one: probabilities; allowed: auto, probs")
    scores = array.astype(np.float64) if array.dtype.kind != "f" else array
    if scores.ndim == 1:
        scores = np.stack([1 - scores if asked == "probs" else np.zeros_like(scores), scores], axis=1)
    return Reading(form=asked, values=scores, labels=class_numbers(labels, scores.shape[1], classes), why=why)


def class_numbers(labels: Array, width: int, classes: Sequence[Any] | None) -> Array:
    """Labels as numbers of columns: places in `classes` where the model names them, else themselves.

    Raises:
        UserError: a label that has no column, or text where the model names no classes.
    """
    if classes is not None:
        place = {_name(name): column for column, name in enumerate(classes)}
        missing = sorted({_name(label) for label in labels.tolist()} - set(place))
        if missing:
            known = ", ".join(list(place)[:10])
            raise UserError(f"label: {', '.join(missing[:5])} is no class of the model; its classes: {known}")
        return np.array([place[_name(label)] for label in labels.tolist()], dtype=np.int64)
    numbers = whole_numbers(labels)
    if numbers is None:
        raise UserError(
            f"label: {labels[0]!r} is no class number, and the model does not name its classes; allowed: numbers from 0 to {width - 1}"
        )
    if numbers.min() < 0 or numbers.max() >= width:
        worst = numbers.min() if numbers.min() < 0 else numbers.max()
        raise UserError(f"label: {worst}, but the model has {width} columns; allowed: 0 to {width - 1}")
    return numbers


def whole_numbers(values: Array) -> Array | None:
    """The values as int64 if all are whole numbers (whatever their dtype), else None."""
    if values.dtype.kind in "iub":
        return values.astype(np.int64)
    try:
        floats = values.astype(np.float64)
    except (TypeError, ValueError):
        return None
    if not np.isfinite(floats).all() or (floats != np.floor(floats)).any():
        return None
    return floats.astype(np.int64)


def _squeezed(array: Array) -> Array:
    if array.ndim == 0 or not array.size:
        raise UserError(f"output: shape {array.shape}; allowed: one row of scores, or one label, a record")
    while array.ndim > 1 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim > 2:
        raise UserError(f"output: shape {array.shape}; allowed: one row of scores, or one label, a record")
    return array


def _sums_to_one(array: Array) -> bool:
    return float(array.min()) >= 0 and bool(np.abs(array.sum(axis=1, dtype=np.float64) - 1).max() <= SUM_TOLERANCE)


def _recognized(array: Array, labels: Array) -> tuple[str, str]:
    """The form that the values have, and what was seen; see `read_output`."""
    if array.ndim == 1:
        return _recognized_column(array, labels)
    low, high = float(array.min()), float(array.max())
    total = array.sum(axis=1, dtype=np.float64)
    if _sums_to_one(array):
        if set(np.unique(array[:1000]).tolist()) <= {0.0, 1.0} and set(np.unique(array).tolist()) <= {0.0, 1.0}:
            return "labels", f"each row of {array.shape[1]} holds a single 1: labels, one-hot"
        return "probs", f"{array.shape[1]} non-negative columns whose rows sum to one"
    if low < 0 or high > 1:
        return "logits", f"{array.shape[1]} columns from {low:.3g} to {high:.3g} whose rows do not sum to one"
    raise UserError(
        f"output: {array.shape[1]} columns in [0, 1] whose rows sum to {total.min():.3g} to {total.max():.3g}: neither labels nor "
        "scores that can be told apart; allowed: output=logits or output=probs to say what they are, or a model with a softmax"
    )


def _recognized_column(array: Array, labels: Array) -> tuple[str, str]:
    if array.dtype.kind not in "f" or whole_numbers(array) is not None:
        return "labels", "one whole number or word a record: labels only"
    low, high = float(array.min()), float(array.max())
    if len(set(labels.tolist())) <= 2:
        if low >= 0 and high <= 1:
            return "probs", "one number in [0, 1] a record and two classes: the probability of the second"
        return "logits", f"one number a record from {low:.3g} to {high:.3g} and two classes: the log-odds of the second"
    raise UserError(
        f"output: one number a record, from {low:.3g} to {high:.3g}, for {len(set(labels.tolist()))} classes: neither labels nor scores; "
        "allowed: a classifier"
    )


def _labels(array: Array, labels: Array, why: str, classes: Sequence[Any] | None) -> Reading:
    if array.ndim == 2:
        columns = array.argmax(axis=1)
        return Reading(form="predicted", values=columns, labels=class_numbers(labels, array.shape[1], classes), why=why)
    numbers, truth = whole_numbers(array), whole_numbers(labels)
    if numbers is not None and truth is not None and min(numbers.min(), truth.min()) >= 0:
        return Reading(form="predicted", values=numbers, labels=truth, why=why)
    ours, theirs = ([_name(value) for value in part.tolist()] for part in (array, labels))
    if not set(ours) & set(theirs):
        raise UserError(
            f"output: labels such as {ours[0]} and records labelled such as {theirs[0]} have none in common; allowed: the labels it knows"
        )
    place = {name: number for number, name in enumerate(sorted({*ours, *theirs}))}
    values, numbered = (np.array([place[name] for name in part], dtype=np.int64) for part in (ours, theirs))
    return Reading(form="predicted", values=values, labels=numbered, why=why)


def _name(value: Any) -> str:
    """A label as text, the same for 1, 1.0 and True."""
    if isinstance(value, np.generic):
        value = value.item()
    return str(int(value)) if isinstance(value, bool | float) and value == value // 1 else str(value)
