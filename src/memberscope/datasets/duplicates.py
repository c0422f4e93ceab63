"""Exact copies within a data set: each record counts once unless the user says otherwise, and every study reports the copies.

A copy of a member among the non-members would be scored as a record that the model never saw, and hide a leak; copies on one side would be
counted as additional evidence. A copy has the same features and the same label, before label noise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from memberscope.copies import first_copies
from memberscope.datasets.labeled import LabeledData
from memberscope.errors import UserError

_Index = NDArray[np.int64]


def settle_copies(data: LabeledData, *, duplicates: str) -> LabeledData:
    """The data set with its exact copies dropped (all but the first) or kept, and a note if there are any.

    Args:
        data: as it was read.
        duplicates: ``drop``, ``keep`` or ``refuse``.

    Raises:
        UserError: there are copies, with ``refuse``.
    """
    n = len(data)
    content = first_copies(data.x)
    same = first_copies(content, data.y)
    own = np.arange(n)
    copies, relabelled = int((same != own).sum()), int(((same == own) & (content != own)).sum())
    if duplicates == "refuse" and copies + data.copies:
        raise UserError(
            f"duplicates=refuse: {copies + data.copies:,} of {n + data.copies:,} records of {data.name} are exact copies of others; "
            "allowed: each record once, or duplicates=drop (each counts once) or keep"
        )
    notes = data.notes
    if relabelled:
        notes += (f"{relabelled:,} of {n:,} records have the same features as another, but a different label; they are kept",)
    if not copies:
        return dataclasses.replace(data, notes=notes)
    if duplicates == "keep":
        return dataclasses.replace(data, notes=notes, same=same.astype(np.int64), copies=data.copies + copies)
    notes += (f"{copies:,} of {n:,} records are exact copies of others and were left out: each record counts once",)
    kept = np.flatnonzero(same == own)
    sizes = data.sizes
    if sizes and sizes.members + sizes.nonmembers + (sizes.validation or 0) >= len(kept):
        sizes = None  # the data set's default sizes need all of its records
    return dataclasses.replace(data.part(kept), notes=notes, copies=data.copies + copies, sizes=sizes)


def check_each_once(data: LabeledData) -> None:
    """Raise UserError if copies were kept and shadow models are to be trained: a model might train on a copy of a record left out."""
    if data.same is not None and len(np.unique(data.same)) < len(data):
        raise UserError(
            f"duplicates=keep: {data.name} has exact copies, and with shadow models a record could be left out while its copy is trained "
            "on; allowed here: drop, refuse"
        )


def kept_copies(data: LabeledData, sides: Mapping[str, _Index]) -> dict[str, int]:
    """How many copies were kept ``within`` a side, and how many records have a copy ``across``, on another side."""
    found = {"within": 0, "across": 0}
    if data.same is None:
        return found
    for name, side in sides.items():
        others = [data.same[other] for key, other in sides.items() if key != name]
        found["within"] += len(side) - len(np.unique(data.same[side]))
        found["across"] += int(np.isin(data.same[side], np.concatenate(others)).sum()) if others else 0
    return found


def facts(data: LabeledData, sides: Mapping[str, _Index]) -> dict[str, int]:
    """Counts to log as params: copies in the data set when it was read, and copies that were kept within and across sides."""
    counts = {f"data.copies_{name}": count for name, count in kept_copies(data, sides).items()} if sides else {}
    return {"data.copies": data.copies, **counts}


def notes(data: LabeledData, sides: Mapping[str, _Index]) -> list[str]:
    """Sentences on how the records were read and on copies among them; empty if there is nothing to report."""
    sentences = [f"Records: {note}." for note in data.notes]
    if data.same is not None:
        line = f"Records: {data.copies:,} exact copies were kept, as duplicates=keep requests"
        kept = kept_copies(data, sides)
        if sides:
            line += (
                f": {kept['within']:,} are on the side of another, and {kept['across']:,} records have a copy on another side"
            )
        sentences.append(
            f"{line}. The audit counts copies on one side once; copies across sides pull every metric toward chance."
        )
    return sentences
