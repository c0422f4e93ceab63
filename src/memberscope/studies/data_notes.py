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
from memberscope.tracking import Tracker


def log_reading(data: LabeledData, tracker: Tracker, *, sides: Mapping[str, NDArray[np.int64]] | None = None) -> list[str]:
    """Log the counts of copies and groups as params, and the notes on how the data set was read as `artifacts.DATA_NOTES`; return these.

    Args:
        data: the data set as it was read.
        tracker: the study's run.
        sides: the records of each side, for a study with a single split; without it, copies are counted in the whole data set.
    """
    number = 0 if data.groups is None else len(np.unique(data.groups))
    tracker.params({**duplicates.facts(data, sides or {}), **keyed.facts(data), **({"data.groups": number} if number else {})})
    notes = duplicates.notes(data, sides or {})
    if number:
        notes.append(
            f"Groups: the {len(data):,} records belong to {number:,} groups, each kept whole on one side; metrics count groups, and "
            "sides have about as many records as they should."
        )
    if notes:
        tracker.text("\n\n".join(notes) + "\n", artifacts.DATA_NOTES)
    return notes


def with_reading(result: StudyResult, notes: Sequence[str]) -> StudyResult:
    """A study's result with the notes on how its records were read appended to the answer."""
    return dataclasses.replace(result, answer="\n".join([result.answer, *notes]))
