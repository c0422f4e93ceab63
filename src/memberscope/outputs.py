"""Interprets a model's raw output as logits, probabilities or labels. The choice is made from its values and is always reported.

A model from another framework returns arrays whose meaning it does not state. Mistaking labels for scores, or logits for probabilities,
would silently audit something else. The choice is therefore recorded in a `Reading`, which is logged to the run and printed on the
terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from memberscope import scales
from memberscope.blocks import find_block, narrow_columns, odd_columns, say_columns
from memberscope.checks import Array, label_name
from memberscope.errors import UserError
from memberscope.predictions import Predictions

OUTPUTS = ("auto", "logits", "probs", "labels")
_PREFERRED = ("logits", "probabilities", "probs", "output_0", "predictions")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """An output and how it was interpreted.

    Attributes:
        form: ``logits``, ``probs`` or ``predicted``, as `Predictions` names them.
        values: (n, classes) scores, or (n,) classes for labels.
        labels: (n,) classes of the records: column numbers where the output is scores; the user's own numbers or words where it is labels.
        why: the reason for this interpretation, in words.
        classes: names of the classes 0, 1, ... in `labels`; None if `labels` are the user's own.
    """

    form: str
    values: Array
    labels: Array
    why: str
    classes: tuple[str, ...] | None = None

    def predictions(
        self,
        *,
        member: Array,
        record_ids: Array | None,
        inputs: Array | None,
        columns: Mapping[str, Array] | None = None,
        groups: Array | None = None,
    ) -> Predictions:
        """The output as `Predictions` of these records."""
        return Predictions(
            logits=self.values if self.form == "logits" else None,
            probs=self.values if self.form == "probs" else None,
            predicted=self.values if self.form == "predicted" else None,
            labels=self.labels,
            member=member,
            record_ids=record_ids,
            groups=groups,
            inputs=inputs,
            columns=columns or {},
        )


def as_array(raw: Any) -> Array:
    """The one array of an output, which is an array, a frame, a series, a list, a tensor, or a mapping that holds one of these.

    From a mapping with several arrays, it is the one named ``logits``, ``probabilities``, ``probs``, ``output_0`` or ``predictions``.

    Raises:
        UserError: a mapping with none of these, or rows of unequal lengths.
    """
    if isinstance(raw, Mapping):
        key = _key(raw)
        if key is None:
            raise UserError(
                f"output: the model returns {', '.join(map(str, raw)) or 'nothing'}; allowed: one array, or one named "
                f"{', '.join(_PREFERRED)}"
            )
        return as_array(raw[key])
    try:
        array = np.asarray(raw.to_numpy() if hasattr(raw, "to_numpy") else raw)
        if array.dtype.kind == "O" and array.ndim == 1 and not all(isinstance(value, str | int) for value in array):
            return np.array(
                array.tolist()
            )  # a column whose cells are rows of scores, or numbers; integers may be too large for any dtype
        return array
    except ValueError:
        raise UserError(
            "output: the model returns rows of unequal lengths; allowed: one row of scores, or one label, per record"
        ) from None


def column_names(raw: Any) -> tuple[str, ...] | None:
    """The column names of an output that is a frame or a mapping that contains one; None for anything else."""
    if isinstance(raw, Mapping):
        key = _key(raw)
        return None if key is None else column_names(raw[key])
    columns = getattr(raw, "columns", None)
    return None if columns is None else tuple(map(str, columns))


def read_output(
    raw: Any,
    labels: Array,
    *,
    requested: str = "auto",
    classes: Sequence[Any] | None = None,
    names: Sequence[str] | None = None,
) -> Reading:
    """Read the output of n records.

    Args:
        raw: (n, classes) or (n, 1) scores, or (n,) labels or scores of the second of two classes; or a table with one probability per class
            and other columns.
        labels: (n,) the records' labels as the user has them: numbers or text.
        requested: the interpretation, one of `OUTPUTS`; ``auto`` decides from the values.
        classes: the label of each column, if the model states them; else the labels come from the column names, if every
            label is among these; else the columns are the classes 0, 1, ....
        names: names of the columns; a frame's own unless given.

    A single score becomes two columns: a probability p gives (1 - p, p), a logit z gives (0, z). Percentages are divided by 100, and rows
        that all have another common sum by that sum.

    Raises:
        UserError: the output is neither labels nor scores, does not fit the labels, or is not of the requested kind.
    """
    names = column_names(raw) if names is None else names
    array = _squeezed(as_array(raw))
    if len(array) != len(labels):
        raise UserError(f"output: {len(array)} rows for {len(labels)} records; allowed: one row per record")
    if array.ndim == 1:
        return _read_column(array, labels, requested)
    table = _Table.of(array, names if names is not None and len(names) == array.shape[1] else None)
    if requested == "labels" and len(table.text) == 1:
        why = f"{say_columns(table.text, table.all_names)} contains words: labels"
        return _read_column(array[:, table.text[0]], labels, requested, why=why)
    table = table.block(classes)
    scale = _scale(table, requested)
    notes = [scale.why, *table.left_out()]
    if classes is None:
        classes = _classes_of(table.names, labels)
        notes += ["columns named after the classes"] if classes is not None else []
    numbered = class_numbers(labels, table.width, classes)
    known = None if classes is None else tuple(map(label_name, classes))
    if requested == "labels" or scale.form == "labels":
        return Reading(
            form="predicted", values=scale.values.argmax(axis=1), labels=numbered, why="; ".join(notes), classes=known
        )
    scores = scale.values if scale.values.dtype.kind == "f" else scale.values.astype(np.float64)
    return Reading(form=scale.form, values=scores, labels=numbered, why="; ".join(notes), classes=known)


@dataclass(frozen=True, kw_only=True)
class _Table:
    """An output with several columns, or those of its columns that hold scores.

    Attributes:
        values: (n, width) finite numbers.
        places: the position of each column in the output.
        text: the positions of the columns of the output that hold words.
        all_names: the names of all columns of the output; None if they have none.
        total: the number of columns of the output.
    """

    values: Array
    places: list[int]
    text: list[int]
    all_names: list[str] | None
    total: int

    @classmethod
    def of(cls, array: Array, names: Sequence[str] | None) -> _Table:
        """The columns that hold numbers; log-probabilities that include log 0 are turned into probabilities."""
        width = array.shape[1]
        values, text = array, list[int]()
        if array.dtype.kind not in "fiub":
            columns = [_numbers(array[:, place]) if array.dtype.kind in "OUS" else None for place in range(width)]
            text = [place for place, column in enumerate(columns) if column is None]
            held = [column for column in columns if column is not None]
            if len(held) < 2:
                raise UserError(
                    f"output: dtype {array.dtype} of shape {array.shape}; allowed: numbers, or one label per record"
                )
            values = np.stack(held, axis=1)
        if values.dtype.kind == "f" and np.isneginf(values).any() and (values <= 0).all():
            values = np.exp(
                values
            )  # turns log-probabilities into probabilities; anything else will be refused later, like sigmoids
        _check_finite(values)
        places = [place for place in range(width) if place not in set(text)]
        return cls(values=values, places=places, text=text, all_names=None if names is None else list(names), total=width)

    @property
    def width(self) -> int:
        """The number of columns."""
        return self.values.shape[1]

    @property
    def names(self) -> list[str] | None:
        """The names of the columns, if they have any."""
        return None if self.all_names is None else [self.all_names[place] for place in self.places]

    def block(self, classes: Sequence[Any] | None) -> _Table:
        """The columns that hold one probability per class, if there are also other columns; else all columns that hold numbers."""
        columns = find_block(self.values, classes=None if classes is None else len(classes), names=self.names)
        if columns is None:
            return self
        return replace(self, values=self.values[:, columns], places=[self.places[column] for column in columns])

    def left_out(self) -> list[str]:
        """Notes on the columns that were left out; empty if there are none."""
        rest = sorted(set(range(self.total)) - set(self.places))
        return [f"left out: {say_columns(rest, self.all_names)}"] if rest else []


def _scale(table: _Table, requested: str) -> scales.Scale:
    """The scale of the scores: the requested one, if the values allow it, or with ``auto`` the one that the values indicate."""
    values, whole = table.values, len(table.places) == table.total
    if requested == "logits" and whole:
        found = scales.not_logits(values)
        if found is None:
            return scales.Scale(form="logits", values=values, why="output=logits was requested")
        way = found[1] if found[1] == scales.SIGMOIDS else "output=auto, which reads them"
        raise UserError(f"output=logits: {found[0]}; allowed: {way}")
    seen = scales.recognized(values)
    if isinstance(seen, str):
        if requested == "labels" and whole and not odd_columns(values):
            return scales.Scale(form="labels", values=values, why="output=labels was requested: the largest of each row")
        raise UserError(f"output{'' if requested == 'auto' else f'={requested}'}: {seen}")
    if requested == "logits" or (requested == "probs" and seen.form == "logits"):
        allowed = "auto, logits" if requested == "probs" else "auto, probs"
        raise UserError(f"output={requested}: {seen.why}; allowed: {allowed}")
    if seen.form == "logits" and not seen.sure:
        _check_logits(table, requested)
    if requested == "labels" and seen.form != "labels":
        return replace(seen, why=f"output=labels was requested: the largest of each row of {seen.why}")
    return seen


def _check_logits(table: _Table, requested: str) -> None:
    """Raise UserError if some columns are unlikely to be logits, so that the table probably also contains something else."""
    way = "the scores alone" + (
        ", or output=logits if all columns are logits" if requested == "auto" and not table.text else ""
    )
    if table.text:
        what = (
            f"{say_columns(table.text, table.all_names)} does not hold numbers, and the other columns do not hold probabilities"
        )
        raise UserError(f"output: {what}; allowed: {way}")
    if odd := odd_columns(table.values):
        what = f"{say_columns(odd, table.names)} holds whole numbers while other columns hold fractions: perhaps a class or a record number"
        raise UserError(f"output: {what}; allowed: {way}")
    if narrow := narrow_columns(table.values):
        what = (
            f"{say_columns(narrow, table.names)} lie in [0, 1] and the others do not: perhaps probabilities and something else"
        )
        raise UserError(f"output: {what}; allowed: {way}")


def _classes_of(names: Sequence[str] | None, labels: Array) -> list[str] | None:
    """The column names without their common prefix and suffix, if what remains includes the class of every label."""
    if names is None or len(set(names)) < len(names):
        return None
    wanted = {label_name(label) for label in labels.tolist()}
    for first in range(_shared(names), -1, -1):
        for last in range(_shared([name[::-1] for name in names]), -1, -1):
            found = [name[first : len(name) - last] for name in names]
            if wanted <= set(found):
                return found
    return None


def _shared(names: Sequence[str]) -> int:
    """The length of the common prefix of all names."""
    return next(
        (place for place, letters in enumerate(zip(*names, strict=False)) if len(set(letters)) > 1), min(map(len, names))
    )


def class_numbers(labels: Array, width: int, classes: Sequence[Any] | None) -> Array:
    """Labels as column numbers: their positions in `classes` where the model names its classes, else the labels themselves.

    Raises:
        UserError: a label that has no column, or text where the model names no classes.
    """
    if classes is not None:
        place = {label_name(name): column for column, name in enumerate(classes)}
        missing = sorted({label_name(label) for label in labels.tolist()} - set(place))
        if missing:
            known = ", ".join(list(place)[:10])
            raise UserError(f"label: {', '.join(missing[:5])} is not a class of the model; its classes: {known}")
        return np.array([place[label_name(label)] for label in labels.tolist()], dtype=np.int64)
    numbers = whole_numbers(labels)
    if numbers is None:
        raise UserError(
            f"label: {labels[0]!r} is not a class number, and the model does not name its classes; allowed: numbers from 0 to {width - 1}"
        )
    if numbers.min() < 0 or numbers.max() >= width:
        worst = numbers.min() if numbers.min() < 0 else numbers.max()
        raise UserError(f"label: {worst}, but the model has {width} columns; allowed: 0 to {width - 1}")
    return numbers


def whole_numbers(values: Array) -> Array | None:
    """The values as int64 (or uint64 if they are too large) if all are whole numbers, whatever their dtype; else None.

    Text counts as a number if it is written in the usual way: ``7`` does, but ``007`` is a word.
    """
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or (values != np.floor(values)).any() or np.abs(values).max(initial=0) >= 2.0**63:
            return None
        return values.astype(np.int64)
    if values.dtype.kind in "iub":
        return values if values.dtype == np.uint64 and values.max(initial=0) >= 2**63 else values.astype(np.int64)
    found = [_whole(value) for value in values.tolist()]
    whole = [number for number in found if number is not None]
    if len(whole) < len(found):
        return None
    low, high = min(whole, default=0), max(whole, default=0)
    dtype = np.int64 if low >= -(2**63) and high < 2**63 else np.uint64 if low >= 0 and high < 2**64 else None
    return None if dtype is None else np.array(whole, dtype=dtype)


def _whole(value: Any) -> int | None:
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        digits = value.removesuffix(".0")
        return int(digits) if digits.removeprefix("-").isdecimal() and str(int(digits)) == digits else None
    if isinstance(value, float | np.floating):
        return int(value) if value == value // 1 else None
    return int(value) if isinstance(value, int | np.integer | np.bool_) else None


def _squeezed(array: Array) -> Array:
    if array.ndim == 0 or not array.size:
        raise UserError(f"output: shape {array.shape}; allowed: one row of scores, or one label, per record")
    while array.ndim > 1 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim > 2:
        raise UserError(f"output: shape {array.shape}; allowed: one row of scores, or one label, per record")
    return array


def _key(raw: Mapping[Any, Any]) -> Any:
    """The key of the array that is read from a mapping; None if that is unclear."""
    keys = list(raw)
    return keys[0] if len(keys) == 1 else next((name for name in _PREFERRED if name in raw), None)


def _check_finite(array: Array) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UserError(f"output: {int((~np.isfinite(array)).sum())} NaN or infinite values; all must be finite")


def _numbers(column: Array) -> Array | None:
    """A column of objects or text as float64; None if it holds anything but numbers."""
    if column.dtype.kind in "US" or any(isinstance(value, str | bytes) for value in column[:100]):
        return None
    try:
        return column.astype(np.float64)
    except (TypeError, ValueError):
        return None


def _read_column(array: Array, labels: Array, requested: str, *, why: str = "") -> Reading:
    """Read one number or word per record: labels, or the score of the second of two classes."""
    if array.dtype.kind not in "fiubOUS":
        raise UserError(f"output: dtype {array.dtype} of shape {array.shape}; allowed: numbers, or one label per record")
    _check_finite(array)
    words = array.dtype.kind not in "f" or whole_numbers(array) is not None
    if requested in ("logits", "probs") and words:
        raise UserError(f"output={requested}: the model returns labels, such as {array[0]!r}; allowed: auto, labels")
    if requested == "labels" or words:
        return _labels(array, labels, why or "one whole number or word per record: labels only", sure=requested == "labels")
    low, high, classes = float(array.min()), float(array.max()), len(np.unique(labels))
    if classes > 2:
        raise UserError(
            f"output: one number per record, from {low:.3g} to {high:.3g}, for {classes} classes: neither labels nor scores; allowed: "
            "a classifier"
        )
    inside = low >= 0 and high <= 1
    if requested == "auto":
        requested = "probs" if inside else "logits"
        why = "one number in [0, 1] per record and two classes: the probability of the second"
        if not inside:
            why = f"one number per record from {low:.3g} to {high:.3g} and two classes: the log-odds of the second"
            if low >= 0 or high <= 0:
                sign = (
                    "none below 0: a percentage, or log-odds"
                    if low >= 0
                    else "none above 0: the logarithm of a probability, or log-odds"
                )
                raise UserError(
                    f"output: one number per record from {low:.3g} to {high:.3g}, {sign}; allowed: probabilities in [0, 1], or "
                    "output=logits if they are log-odds"
                )
    elif requested == "probs" and not inside:
        raise UserError(f"output=probs: one number per record from {low:.3g} to {high:.3g}; allowed: probabilities in [0, 1]")
    elif requested == "logits" and inside and high - low > scales.SPREAD:
        raise UserError(
            "output=logits: one number per record, all in [0, 1]: apparently probabilities; allowed: auto, probs, or log-odds"
        )
    else:
        why = f"output={requested} was requested"
    scores = array.astype(np.float64)
    scores = np.stack([1 - scores if requested == "probs" else np.zeros_like(scores), scores], axis=1)
    return Reading(form=requested, values=scores, labels=class_numbers(labels, 2, None), why=why)


def _labels(array: Array, labels: Array, why: str, *, sure: bool) -> Reading:
    """Read labels as numbers if both the model's and the records' are numbers, else as words; any number or word can be a class."""
    output, truth = whole_numbers(array), whole_numbers(labels)
    if output is None or truth is None:
        lacking = sum(value is None or value != value for value in array.tolist())
        if lacking:
            raise UserError(f"output: no label for {lacking} of {len(array)} records; allowed: one label per record")
        output, truth = (np.array([label_name(value) for value in part.tolist()]) for part in (array, labels))
    known = np.isin(output, truth)
    if not known.any():
        raise UserError(
            f"output: the model returns labels such as {output[0]} and the records have labels such as {truth[0]}, with none in common; "
            "allowed: records with labels that the model knows"
        )
    if not sure and known.mean() < 0.5:
        raise UserError(
            f"output: {int((~known).sum())} of {len(output)} records get a label that no record has, such as {output[~known][0]}: perhaps "
            "a score or a record number; allowed: labels, or output=labels if these are labels"
        )
    return Reading(form="predicted", values=output, labels=truth, why=why)
