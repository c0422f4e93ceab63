"""Counts each audited record once, since exact copies of a record add no evidence.

A record that appears thirty times in a file is one record: if every record were there thirty times, each interval would be narrower by the
square root of thirty, and an undecided gate would become a verdict. Copies on one side are therefore left out before any attack runs, so
that any number of copies of every record gives the same metrics, intervals and gate as one.

Two records are copies if they have the same id, or the same inputs and label, and the model gave them the same outputs. Without ids and
inputs no copies can be found: equal outputs alone do not make two records one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from memberscope.checks import Array, BoolArray
from memberscope.copies import DUPLICATES, Index, first_copies
from memberscope.errors import UserError, nearest
from memberscope.evidence import Evidence
from memberscope.predictions import OUTPUTS, SUMMARIES, Predictions

CLOSE = 1e-3
"""The outputs of copies may differ by rounding, since a model's result depends slightly on a record's place in a batch."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Distinct:
    """The evidence with each record once, and the copies that were found.

    Attributes:
        evidence: the evidence that is audited.
        positions: (m,) positions of its records in the evidence that was given, ascending.
        n_given: the number of records given.
        copies: the number of these that are copies of an earlier record on their side.
        dropped: whether the copies were left out of `evidence`.
        unlike: the number of records that share the id, or the inputs and label, of an earlier record on their side but have another label
            or other outputs. They are not copies, and stay.
        both_sides: the number of members that are also among the non-members. They stay.
        told_by: the fields that reveal copies: ``record_ids``, ``inputs``, or both; empty if neither is known.
    """

    evidence: Evidence
    positions: Index
    n_given: int
    copies: int
    dropped: bool
    unlike: int
    both_sides: int
    told_by: tuple[str, ...]

    @property
    def copies_line(self) -> str:
        """A sentence on copies on one side; empty if there are none."""
        parts = []
        target = self.evidence.target
        if self.copies:
            found = f"{self.copies:,} of {self.n_given:,} records are exact copies of another on their side"
            sides = f"{target.n_member:,} members and {target.n_nonmember:,} non-members"
            if self.dropped:
                parts.append(f"{found}; each record counts once, which leaves {sides}")
            else:
                parts.append(
                    f"{found}, and duplicates=keep counts every copy as a record of its own: intervals are narrower than the distinct "
                    "records allow"
                )
        if self.unlike:
            parts.append(
                f"{self.unlike:,} records have the same {_by(self.told_by)} as another on their side, but a different label or outputs: "
                "they count as records of their own"
            )
        return f"Copies: {'. '.join(parts)}." if parts else ""

    @property
    def facts(self) -> dict[str, int]:
        """Counts to log as params; empty if neither ids nor inputs are known."""
        return {"data.copies": self.copies, "data.on_both_sides": self.both_sides} if self.told_by else {}

    @property
    def overlap_line(self) -> str:
        """A sentence on records on both sides; empty if there are none."""
        if not self.both_sides:
            return ""
        return (
            f"Overlap: {self.both_sides:,} members are also non-members, with the same {_by(self.told_by)}; they pull every "
            "metric toward chance."
        )


def check_duplicates(duplicates: str) -> None:
    """Raise UserError unless `duplicates` is one of `DUPLICATES`, with the nearest of them."""
    if duplicates not in DUPLICATES:
        hint = nearest(duplicates, DUPLICATES)
        raise UserError(f"duplicates={duplicates}: unknown; allowed: {', '.join(DUPLICATES)}{hint}")


def refuse_copies(ids: Mapping[str, Array], *, duplicates: str) -> None:
    """Raise UserError under ``duplicates=refuse`` if a side has a record several times; for studies that know the records before they query
    a model.

    Args:
        ids: side -> (n,) one id per record.
        duplicates: as in the configuration.
    """
    if duplicates != "refuse":
        return
    found = [f"{len(side) - len(np.unique(side)):,} of {len(side):,} {name}" for name, side in ids.items()]
    if any(len(np.unique(side)) < len(side) for side in ids.values()):
        raise UserError(f"duplicates=refuse: {' and '.join(found)} are exact copies of another; {_INSTEAD}")


_INSTEAD = "allowed: each record once, or duplicates=drop (each counts once) or keep (every copy counts)"


def distinct_records(evidence: Evidence, *, duplicates: str = "drop") -> Distinct:
    """Find exact copies, and leave out all but the first occurrence of each record on its side.

    Args:
        evidence: the evidence; it is not changed.
        duplicates: ``drop`` leaves copies out; ``keep`` counts them but leaves none out; ``refuse`` raises where there are any, on one
            side or across both.

    Raises:
        UserError: an unknown `duplicates`, or copies under ``refuse``.
    """
    check_duplicates(duplicates)
    target = evidence.target
    n = len(target)
    own: Index = np.arange(n, dtype=np.intp)
    links, unlike, both = [own], np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    told_by = tuple(name for name in ("record_ids", "inputs") if (array := getattr(target, name)) is not None and array.size)
    for name in told_by:
        same = first_copies(getattr(target, name), *_labels(target, name))
        first = first_copies(same, target.member, *_groups(target))
        alike = _alike(target, first)
        unlike |= ~alike
        links.append(np.where(alike, first, own))
        if not alike.all():  # an id shared by several different records, each of which may have copies
            links.append(first_copies(same, target.member, *_groups(target), *_answers(target)))
        both |= target.member & np.isin(same, same[~target.member])
    heads = _heads(links)
    copies, across = int((heads != own).sum()), int(both.sum())
    if duplicates == "refuse" and (copies or across):
        where = f"{copies:,} of {n:,} records are exact copies of another on their side, and {across:,} members are also non-members"
        raise UserError(f"duplicates=refuse: {where}; {_INSTEAD}")
    dropped = duplicates == "drop" and copies > 0
    positions = np.flatnonzero(heads == own) if dropped else own
    return Distinct(
        evidence=evidence.select(positions) if dropped else evidence, positions=positions, n_given=n, copies=copies, dropped=dropped,
        unlike=int((unlike & (heads == own)).sum()), both_sides=across, told_by=told_by,
    )  # fmt: skip


def _labels(target: Predictions, name: str) -> tuple[Array, ...]:
    """The arrays that must be equal as well as `name` for two records to be the same: with inputs the label; an id alone is enough."""
    return () if name == "record_ids" or target.labels is None else (target.labels,)


def _groups(target: Predictions) -> tuple[Array, ...]:
    """Records of two groups are no copies of each other: each belongs to a person of its own."""
    return () if target.groups is None else (target.groups,)


def _answers(target: Predictions) -> tuple[Array, ...]:
    arrays = (getattr(target, name) for name in ("labels", *OUTPUTS, *SUMMARIES))
    return tuple(array for array in arrays if array is not None)


def _alike(target: Predictions, first: Index) -> BoolArray:
    """(n,) whether each record has the same label and, up to rounding, the same outputs as record `first`."""
    later = np.flatnonzero(first != np.arange(len(first)))
    same = np.ones(len(first), dtype=bool)
    for array in _answers(target) if len(later) else ():
        ours, theirs = array[later], array[first[later]]
        if array.dtype.kind == "f":
            ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
            close = np.abs(ours - theirs) <= CLOSE * (1.0 + np.abs(theirs))
        else:
            close = ours == theirs
        same[later] &= close.reshape(len(later), -1).all(axis=1)
    return same


def _heads(links: list[Index]) -> Index:
    """(n,) the first of all records that `links` join to each record, directly or through others."""
    n = len(links[0])
    several = [link for link in links if (link != links[0]).any()]
    if len(several) < 2:
        return several[0] if several else links[0]
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    rows, columns = np.tile(np.arange(n), len(several)), np.concatenate(several)
    _, part = connected_components(
        coo_matrix((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(n, n)), directed=False
    )
    _, index, inverse = np.unique(part, return_index=True, return_inverse=True)
    heads: Index = index[inverse].astype(np.intp)
    return heads


def _by(told_by: tuple[str, ...]) -> str:
    words = {"record_ids": "id", "inputs": "inputs and label"}
    return " or the same ".join(words[name] for name in told_by)
