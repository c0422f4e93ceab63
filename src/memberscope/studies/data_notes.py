"""How every study that reads a data set reports its reading: values that were scaled, records left out, copies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from memberscope.datasets import LabeledData, duplicates
from memberscope.studies.result import StudyResult
from memberscope.tracking import Tracker

READING = "records.md"


def log_reading(data: LabeledData, tracker: Tracker, *, sides: Mapping[str, NDArray[np.int64]] | None = None) -> list[str]:
    """Log the counts of copies as params and the notes on the reading in `READING`; return the notes.

    Args:
        data: as it was read.
        tracker: that of the study's run.
        sides: the records of each side, for a study with a single split; without it, copies are counted over the whole set.
    """
    tracker.params(duplicates.facts(data, sides or {}))
    said = duplicates.notes(data, sides or {})
    if said:
        tracker.text("\n\n".join(said) + "\n", READING)
    return said


def with_reading(result: StudyResult, said: Sequence[str]) -> StudyResult:
    """A study's result, with the notes on the reading of its records below the answer."""
    return dataclasses.replace(result, answer="\n".join([result.answer, *said]))
