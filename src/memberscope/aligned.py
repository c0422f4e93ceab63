"""Aligns values that have an index by that index, never by position alone.

The index of a pandas object says which record each value belongs to. If a membership mask in another order than the data were read by
position, the audit would silently be one of random membership. Values are therefore put in one order where that order is certain, and
refused otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from memberscope.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def index_of(value: Any, axis: int = 0) -> pd.Index | None:
    """The index of a Series or frame along an axis; None for anything else."""
    if not hasattr(value, "iloc"):
        return None
    axes = value.axes
    return axes[axis] if axis < len(axes) else axes[-1]


def line_up(
    values: Mapping[str, Any], *, source: str, axes: Mapping[str, int] | None = None, like: Any = None, like_name: str = "data"
) -> dict[str, Any]:
    """The values, with all those that have an index put in one order.

    Args:
        values: name -> array, Series or frame.
        source: what error messages begin with.
        axes: name -> the axis of a frame that counts records; 0 unless given.
        like: what the values must match, record by record; values without an index are taken to be in its order. None: the first value that
            has an index.
        like_name: what `like` is called in an error.

    Raises:
        UserError: two indexes have different labels, or labels that are not unique; they have the same labels in different orders, and it
            is not certain which order the other values follow (they are arrays, or have an index that merely counts 0, 1, ...); or an index
            counts the rows in another order while other values are arrays.
    """
    places = axes or {}
    indexes = {name: index for name, value in values.items() if (index := index_of(value, places.get(name, 0))) is not None}
    reference = index_of(like)
    loose = [name for name in values if name not in indexes] if like is None else [like_name] if reference is None else []
    if reference is None and indexes:
        like_name, reference = next(iter(indexes.items()))
        if loose and _scrambled(reference):
            raise UserError(
                f"{source}: {like_name} has the index {_shown(reference)}, which is out of order, and {loose[0]} has none; allowed: an "
                f"index on both, or {like_name}.to_numpy() if both are in the same order"
            )
    if reference is None:
        return dict(values)
    found = dict(values)
    for name, index in indexes.items():
        if len(index) != len(reference) or index.equals(reference):  # another length is refused where shapes are checked
            continue
        problem = _problem(index, reference, loose)
        if problem:
            raise UserError(
                f"{source}: {name} has the index {_shown(index)} and {like_name} {_shown(reference)}: {problem}; allowed: the same index, "
                f"or {name}.to_numpy() if both are in the same order"
            )
        found[name] = values[name].reindex(reference, axis=min(places.get(name, 0), values[name].ndim - 1))
    return found


def _problem(index: pd.Index, reference: pd.Index, loose: list[str]) -> str:
    """Why two different indexes cannot be aligned; empty where they can."""
    if not (index.is_unique and reference.is_unique):
        return "some labels occur twice"
    if set(index.tolist()) != set(reference.tolist()):
        return "their labels differ"
    counting = np.arange(len(index)).tolist()
    if counting in (index.tolist(), reference.tolist()):
        return "the same labels in different orders, and one of them may merely count rows"
    if loose:
        return f"the same labels in different orders, and {loose[0]} has no index that says which order it follows"
    return ""


def _scrambled(index: pd.Index) -> bool:
    """Whether this index holds all row numbers, but not in ascending order."""
    labels, counting = index.tolist(), list(range(len(index)))
    return labels != counting and set(labels) == set(counting)


def _shown(index: pd.Index) -> str:
    return ", ".join(map(str, index[:4].tolist())) + (", ..." if len(index) > 4 else "")


def check_in_place(name: str, value: Any) -> None:
    """Raise UserError for a value with an index other than 0, 1, ...: it is read by position, and its index would be ignored."""
    index = index_of(value)
    if index is not None and index.tolist() != list(range(len(index))):
        raise UserError(
            f"{name}: has the index {_shown(index)}, but is read by position; allowed: an array in the order of the predictions"
        )


def in_order_of(records: Any, output: Any) -> Any:
    """A model's output in the order of the records that it was given; a frame or Series with their index in another order is reordered.

    Raises:
        UserError: its index has labels that the records do not have.
    """
    ours, theirs = index_of(records), index_of(output)
    if ours is None or theirs is None or len(ours) != len(theirs) or theirs.equals(ours):
        return output
    if theirs.tolist() == list(range(len(theirs))):  # the model made a new frame
        return output
    if not theirs.is_unique or set(theirs.tolist()) != set(ours.tolist()):
        raise UserError(
            f"output: the model returns the index {_shown(theirs)} for records {_shown(ours)}; allowed: the index of the records, or none"
        )
    return output.loc[ours]


def by_class(value: Any) -> Any:
    """A frame of scores with its columns in the order of the classes, if they are named 0, 1, ... in any order; anything else as it is."""
    if not hasattr(value, "iloc") or value.ndim != 2:
        return value
    names = [str(name) for name in value.columns]
    wanted = [str(number) for number in range(len(names))]
    if names == wanted or sorted(names) != sorted(wanted):
        return value
    return value.iloc[:, [names.index(name) for name in wanted]]
