"""Sides that keep groups of records whole, such as all records of one person: index arithmetic on labels and groups."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from memberscope.checks import Array
from memberscope.errors import UserError

LEAST_GROUPS = 20
"""Fewest groups of a side that is audited: as many as an audit needs."""
_SHOWN = 3

Index = NDArray[np.int64]


def numbered(groups: Array) -> tuple[Array, NDArray[np.intp]]:
    """The names of the groups (g,), ascending, and each record's group as a position among them (n,)."""
    names, of = np.unique(groups, return_inverse=True)
    return names, of.reshape(-1).astype(np.intp)


def first_few(names: Array) -> str:
    """The first names, for a message."""
    return ", ".join(str(name) for name in names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def most_frequent(of: NDArray[np.intp], labels: Array, groups: int) -> Array:
    """(groups,) the most frequent label of each group's records, the lowest of several.

    Args:
        of: (n,) each record's group, from 0; every group has a record.
        labels: (n,) ints or text.
        groups: the number of groups.
    """
    classes, code = np.unique(labels, return_inverse=True)
    pairs, counts = np.unique(of.astype(np.int64) * len(classes) + code.reshape(-1), return_counts=True)
    group, label = np.divmod(pairs, len(classes))
    order = np.lexsort((label, -counts, group))
    first = order[np.flatnonzero(np.r_[True, np.diff(group[order]) != 0])]
    assert len(first) == groups, "every group has a record"
    return np.asarray(classes[label[first]])


def blocks(order: Index, groups: NDArray[np.int64], sizes: Mapping[str, int]) -> dict[str, Index]:
    """Consecutive blocks of an order of records, with whole groups: each ends before the group that would make it larger than its size.

    Args:
        order: (m,) positions of records, those of each group side by side.
        groups: (n,) the group of every record.
        sizes: name -> the most records of a block, in their order.

    Returns:
        Name -> positions. A block has at most as many records as its size says, and the groups that did not fit come next.

    Raises:
        UserError: a block of at least one record gets none, since the next group is larger than it.
    """
    starts = np.flatnonzero(np.r_[True, np.diff(groups[order]) != 0])
    ends = np.r_[starts[1:], len(order)]
    found, begin = {}, 0
    for name, size in sizes.items():
        fits = int(np.searchsorted(ends, begin + size, side="right"))
        end = max(begin, int(ends[fits - 1])) if fits else begin
        if size and end == begin and begin < len(order):
            largest = int((ends - starts).max())
            raise UserError(
                f"group: a group with up to {largest} records does not fit into {size} {name}; allowed: at least {largest} {name}"
            )
        found[name], begin = order[begin:end], end
    return found


def by_group(groups: NDArray[np.int64], order_of: Index) -> Index:
    """All records, those of each group side by side, in the order of groups that `order_of` (g,) gives; g groups, numbered from 0."""
    rank = np.empty(len(order_of), dtype=np.int64)
    rank[order_of] = np.arange(len(order_of))
    return np.argsort(rank[groups], kind="stable").astype(np.int64)


def check_enough(sides: Mapping[str, Index], groups: NDArray[np.int64]) -> None:
    """Raise UserError if a side has fewer than `LEAST_GROUPS` groups: fewer cannot be audited, however many records they have."""
    for name, side in sides.items():
        count = len(np.unique(groups[side]))
        if count < LEAST_GROUPS:
            raise UserError(
                f"group: {count} groups among the {name}; allowed: at least {LEAST_GROUPS}, since groups are what an audit counts"
            )


def check_whole(member: NDArray[np.bool_], groups: NDArray[np.int64], *, where: str) -> None:
    """Raise UserError if a model has some records of a group among its members and others not.

    Args:
        member: (n_models, n) bool.
        groups: (n,) the records' groups.
        where: what is at fault, for the message.
    """
    names, of = numbered(groups)
    rows = np.bincount(of)
    split = np.zeros(len(rows), dtype=bool)
    for one in member:
        inside = np.bincount(of, weights=one, minlength=len(rows))
        split |= (inside > 0) & (inside < rows)
    if split.any():
        few = first_few(names[split])
        raise UserError(
            f"{where}: {split.sum()} groups have members and non-members of the same model ({few}); allowed: plans that keep groups whole"
        )
