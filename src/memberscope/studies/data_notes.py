"""Reports of how a data set was read, for every study that reads one: values that were scaled, records left out, copies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from memberscope.audit import artifacts
from memberscope.datasets import LabeledData, duplicates
from memberscope.plans import keyed
from memberscope.studies.result import StudyResult
from memberscope.tracking import DataInput, Tracker

Sides = Mapping[str, NDArray[np.int64]]


def reading_facts(data: LabeledData, sides: Sides) -> dict[str, int | str]:
    """What to log as params: counts of copies on the `sides` (without any, in the whole data set) and of groups, and the key's check."""
    groups = {} if data.groups is None else {"data.groups": len(np.unique(data.groups))}
    return {**duplicates.facts(data, sides), **keyed.facts(data), **groups}


def reading_notes(data: LabeledData, sides: Sides) -> list[str]:
    """Sentences on how the records were read, on copies and on groups; empty if there is nothing to report."""
    notes = duplicates.notes(data, sides)
    if data.groups is not None:
        notes.append(
            f"Groups: the {len(data):,} records belong to {len(np.unique(data.groups)):,} groups, each kept whole on one side; "
            "metrics count groups, and sides have about as many records as they should."
        )
    return notes


def log_reading(data: LabeledData, tracker: Tracker, *, sides: Sides | None = None) -> list[str]:
    """Log the data set as an input, `reading_facts` as params, and `reading_notes` as `artifacts.DATA_NOTES`; return the notes.

    Args:
        data: the data set as it was read.
        tracker: the study's run.
        sides: the records of each side, for a study with a single split; without it, copies are counted in the whole data set.
    """
    tracker.data(
        DataInput(
            name=data.name, context="all", digest=keyed.shown_digest(data, data.digest), source=data.source,
            shape=(len(data), *data.shape), classes=data.classes,
        )
    )  # fmt: skip
    tracker.params(reading_facts(data, sides or {}))
    notes = reading_notes(data, sides or {})
    if notes:
        tracker.text("\n\n".join(notes) + "\n", artifacts.DATA_NOTES)
    return notes


def with_reading(result: StudyResult, notes: Sequence[str]) -> StudyResult:
    """A study's result with the notes on how its records were read appended to the answer."""
    return dataclasses.replace(result, answer="\n".join([result.answer, *notes]))
