"""Slices: the parts of the data that an audit looks at one by one.

| request | slices |
| --- | --- |
| ``entire`` | ``entire`` |
| ``class`` | ``class_0`` .. ``class_{k-1}``, or, without scores, ``class_LABEL`` for each label that occurs; a single one by its own name |
| ``correctness`` | ``correct``, ``incorrect``; a single one by its own name |
| ``percentile`` | ``loss_p00_p10`` .. ``loss_p90_p100``; a single one by its own name |
| ``column:NAME`` | ``NAME:VALUE`` for each value of a user's column |
| ``all`` | the first four requests, as far as the predictions allow them |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope import signals
from memberscope.checks import Array, BoolArray
from memberscope.errors import UserError, nearest
from memberscope.predictions import Predictions

MOST_SLICES = 1000
"""A column with more values than this is refused: it identifies records rather than groups."""

_DECILES = tuple(f"loss_p{10 * k:02d}_p{10 * k + 10}" for k in range(10))
_OUTCOMES = ("correct", "incorrect")
_REQUESTS = ("all", "entire", "class", "correctness", "percentile")


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice:
    """A part of the records.

    Attributes:
        name: its name in reports: letters, digits and ``_ - . / : space`` only, since trackers allow no others.
        kind: ``entire``, ``class``, ``correctness``, ``percentile`` or ``column``.
        index: positions of its records in the predictions, ascending, in as few bytes as hold them; may be empty.
        ranked: whether it may compete for the worst slice. Outcome slices (correctness, percentile) are defined by the very outputs
            that the attacks read, so they are shown but never ranked.
    """

    name: str
    kind: str
    index: NDArray[np.signedinteger[Any]]
    ranked: bool

    def __len__(self) -> int:  # noqa: D105
        return len(self.index)


def _slice(name: str, kind: str, mask: BoolArray) -> Slice:
    return Slice(name=name, kind=kind, index=_compact(np.flatnonzero(mask), len(mask)), ranked=kind in ("class", "column"))


def _compact(positions: NDArray[np.intp], records: int) -> NDArray[np.signedinteger[Any]]:
    """Positions among so many records in four bytes each, where these hold them."""
    return positions.astype(np.int32) if records <= np.iinfo(np.int32).max else positions


def loss_deciles(losses: Array) -> NDArray[np.int64]:
    """Decile 0..9 of each loss, (n,): floor(10 * share of records with a strictly smaller loss).

    Each record is in exactly one; equal losses share the decile that the first of them falls in, so many ties leave the
    deciles after it empty. Without ties, all deciles have n/10 records, rounded. (tensorflow_privacy's percentiles are inclusive at
    both ends and count a tied loss twice.)
    """
    order = np.argsort(losses)
    ordered = losses[order]
    first = np.r_[True, ordered[1:] != ordered[:-1]]
    smaller = np.flatnonzero(first)[np.cumsum(first) - 1]  # where its block of equal losses begins
    decile = np.empty(len(losses), dtype=np.int64)
    decile[order] = (10 * smaller.astype(np.int64)) // len(losses)
    return decile


def class_names(predictions: Predictions) -> tuple[str, ...]:
    """The names of the slices by class: one for each column of scores, else one for each label that occurs."""
    if predictions.labels is None:
        return ()
    if predictions.form in ("logits", "probs"):
        return tuple(f"class_{k}" for k in range(predictions.n_classes or 0))
    return _plain([f"class_{label}" for label in np.unique(predictions.labels)])


def _plain(names: Iterable[str]) -> tuple[str, ...]:
    """The names reduced to letters, digits and ``_ - . / : space``, and made unique."""
    found: list[str] = []
    for k, name in enumerate(names):
        plain = re.sub(r"[^A-Za-z0-9_\-./: ]", "_", name)
        found.append(f"{plain}_{k}" if plain in found else plain)
    return tuple(found)


def _classes(predictions: Predictions) -> list[Slice]:
    labels = predictions.labels
    if labels is None:
        raise UserError("slices: class needs labels")
    names, order = class_names(predictions), _compact(np.argsort(labels, kind="stable"), len(labels))
    present = np.arange(len(names)) if predictions.form in ("logits", "probs") else np.unique(labels)
    ends = np.searchsorted(labels[order], present, side="right")
    starts = np.searchsorted(labels[order], present, side="left")
    return [
        Slice(name=name, kind="class", index=order[start:end], ranked=True)
        for name, start, end in zip(names, starts, ends, strict=True)
    ]


def _correctness(predictions: Predictions) -> list[Slice]:
    if signals.missing("correctness", predictions):
        raise UserError(f"slices: correctness {signals.missing('correctness', predictions)}")
    right = signals.correctness(predictions) == 1.0
    return [_slice("correct", "correctness", right), _slice("incorrect", "correctness", ~right)]


def _percentiles(predictions: Predictions) -> list[Slice]:
    if signals.missing("loss_nats", predictions):
        raise UserError(f"slices: percentile {signals.missing('loss_nats', predictions)}")
    decile = loss_deciles(signals.loss_nats(predictions))
    return [_slice(name, "percentile", decile == k) for k, name in enumerate(_DECILES)]


def _column(predictions: Predictions, column: str) -> list[Slice]:
    if column not in predictions.columns:
        known = ", ".join(sorted(predictions.columns)) or "none: save them as column_NAME"
        raise UserError(f"slices: column:{column}{nearest(column, predictions.columns)}; columns are {known}")
    values, groups = np.unique(predictions.columns[column], return_inverse=True)
    check_values(column, values)
    names = _plain(f"{column}:{value}" for value in values)
    return [_slice(name, "column", groups == k) for k, name in enumerate(names)]


def _available(predictions: Predictions) -> list[str]:
    """The requests that ``all`` stands for, given what is known."""
    names = ["entire"]
    names += ["class"] if predictions.labels is not None else []
    names += [] if signals.missing("correctness", predictions) else ["correctness"]
    names += [] if signals.missing("loss_nats", predictions) else ["percentile"]
    return names


def _one(request: str, predictions: Predictions) -> list[Slice]:
    if request == "entire":
        return [_slice("entire", "entire", np.ones(len(predictions), dtype=bool))]
    if request.startswith("column:"):
        return _column(predictions, request.removeprefix("column:"))
    for whole, make in (("class", _classes), ("correctness", _correctness), ("percentile", _percentiles)):
        if request == whole:
            return make(predictions)
    if request.startswith("class_"):
        found = [part for part in _classes(predictions) if part.name == request]
        if not found:
            raise UserError(f"slices: {request}; allowed: {few_names(class_names(predictions))}")
        return found
    if request in _OUTCOMES:
        return [part for part in _correctness(predictions) if part.name == request]
    if request in _DECILES:
        return [part for part in _percentiles(predictions) if part.name == request]
    known = [*_REQUESTS, *_OUTCOMES, *_DECILES, "class_0", "column:NAME"]
    raise UserError(
        f"slices: {request!r}{nearest(request, known)}; allowed: {', '.join(_REQUESTS)}, one slice's name, column:NAME"
    )


def few_names(names: Sequence[str]) -> str:
    """The names of slices by class for a message: the first and the last."""
    return f"{names[0]} to {names[-1]}" if len(names) > 1 else ", ".join(names)


def check_names(requests: str, *, classes: int | None) -> None:
    """Check a request before there are predictions, where records have no columns to slice by.

    Raises:
        UserError: an unknown slice (with the nearest), a class that does not exist, or an empty request.
    """
    named_columns(requests, classes=classes, columns=False)


def named_columns(
    requests: str, *, classes: int | None = None, labels: Iterable[object] = (), columns: bool = True
) -> tuple[str, ...]:
    """Check a request before there are predictions, and return the names of the columns that it requests.

    Args:
        requests: see `parse`.
        classes: the number of classes; None if it is not known yet.
        labels: the model's names for the classes, if known: a release of labels only has slices by these.
        columns: whether the records have columns to slice by.

    Raises:
        UserError: an unknown slice (with the nearest), a class that does not exist, or an empty request.
    """
    names = [name.strip() for name in requests.split(",") if name.strip()]
    known = [*_REQUESTS, *_OUTCOMES, *_DECILES, *(f"class_{k}" for k in range(classes or 0))]
    known += _plain(f"class_{label}" for label in labels)
    if not names:
        raise UserError(f"slices: none named; allowed: {', '.join(_REQUESTS)}, or one slice's name")
    found = []
    for name in names:
        if columns and name.startswith("column:"):
            found.append(name.removeprefix("column:"))
        elif name not in known and not (classes is None and name.startswith("class_")):
            last = "class_0" if classes is None else f"class_0 to class_{classes - 1}"
            allowed = f"{', '.join(_REQUESTS)}, {'column:NAME, ' if columns else ''}or one slice's name, such as {last}"
            raise UserError(f"slices: {name!r}{nearest(name, known)}; allowed: {allowed}")
    return tuple(dict.fromkeys(found))


def check_values(column: str, values: Array) -> None:
    """Raise UserError for a column with too many values to slice by."""
    count = len(np.unique(values))
    if count > MOST_SLICES:
        raise UserError(f"slices: column:{column} has {count} values; allowed: at most {MOST_SLICES}")


def parse(requests: str | Iterable[str], predictions: Predictions) -> list[Slice]:
    """The slices that `requests` (names, or one text with commas) name, in order, each once.

    Raises:
        UserError: an unknown request (with the nearest), a class or column that does not exist, or a slicing that these
            predictions do not allow.
    """
    names = requests.split(",") if isinstance(requests, str) else [str(name) for name in requests]
    names = [name.strip() for name in names if name.strip()]
    if not names:
        raise UserError(f"slices: none named; allowed: {', '.join(_REQUESTS)}, one slice's name, column:NAME")
    found: dict[str, Slice] = {}
    for name in names:
        for request in _available(predictions) if name == "all" else [name]:
            for part in _one(request, predictions):
                found.setdefault(part.name, part)
    return list(found.values())
