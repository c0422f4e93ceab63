"""Signals of many models on many records, read for some of the records at a time: a model is one row, a record one column.

What record-by-record attacks need of all models is one number for each model and record. As float64, for a million records and 64 models,
that is half a gigabyte, several times over. It is therefore computed a piece at a time; every result is that of the whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from memberscope.attacks import calibration
from memberscope.checks import Array, FloatArray, row_chunks
from memberscope.predictions import ShadowPredictions


class Levels(Protocol):
    """(n_models, n, queries) numbers."""

    @property
    def n(self) -> int:
        """The number of records."""

    @property
    def queries(self) -> int:
        """The number of queries for each record."""

    def at(self, index: Array | slice) -> FloatArray:
        """(n_models, m, queries) those of some records."""

    def pieces(self) -> Iterator[slice]:
        """Slices that cover the records."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldLevels:
    """Numbers that are held as an array (n_models, n, queries)."""

    values: FloatArray

    @property
    def n(self) -> int:
        """The number of records."""
        return self.values.shape[1]

    @property
    def queries(self) -> int:
        """The number of queries for each record."""
        return self.values.shape[2]

    def at(self, index: Array | slice) -> FloatArray:
        """(n_models, m, queries) those of some records."""
        return self.values[:, index]

    def pieces(self) -> Iterator[slice]:
        """One slice of all records."""
        yield slice(0, self.n)


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadLevels:
    """A signal of every model, with one query for each record, computed when it is asked for.

    Attributes:
        models: the models.
        read: the signal.
        places: the positions of the records among the models' records; None for all of these.
    """

    models: ShadowPredictions
    read: calibration.Read
    places: Array | None = None

    @property
    def n(self) -> int:
        """The number of records."""
        return len(self.models) if self.places is None else len(self.places)

    @property
    def queries(self) -> int:
        """One query for each record."""
        return 1

    def at(self, index: Array | slice) -> FloatArray:
        """(n_models, m, 1) those of some records."""
        where = index if self.places is None else self.places[index]
        return calibration.of_each(self.models.select(where), self.read)[:, :, None]

    def pieces(self) -> Iterator[slice]:
        """Slices of records, each of which takes little memory for all models."""
        return row_chunks(self.n, self.models.n_models)


def mean_of(levels: Levels) -> FloatArray:
    """(n,) means over the models of each record's first query."""
    means = np.empty(levels.n)
    for rows in levels.pieces():
        means[rows] = levels.at(rows)[:, :, 0].mean(axis=0)
    return means


def share_beyond(levels: Levels, limit: float) -> float:
    """The share of the first queries' numbers that are larger in size than `limit`."""
    found, count = 0, 0
    for rows in levels.pieces():
        part = levels.at(rows)[:, :, 0]
        found, count = found + int((np.abs(part) > limit).sum()), count + part.size
    return found / count
