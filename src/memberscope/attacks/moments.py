"""Moments of the scaled logits that a record gets from the shadow models trained on it (IN) and from the others (OUT)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from memberscope.checks import Array, BoolArray, FloatArray

FLOOR = 1e-12  # of a record's variance, as a share of the pooled one: prevents a division by zero, and smooths nothing


def total_of(values: Array) -> float:
    """The exact sum, rounded once: permuting the records must not change a bit."""
    return math.fsum(values.ravel().tolist())


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """Moments of each record over its IN models, or over its OUT models.

    Attributes:
        count: (n, 1) how many models there are.
        mean: (n, queries); 0 where there is no model.
        squares: (n, queries) sum of squared deviations from `mean`.
    """

    count: Array
    mean: FloatArray
    squares: FloatArray

    @property
    def known(self) -> BoolArray:
        """(n,) bool, whether the record has a model on this side."""
        return self.count[:, 0] > 0

    def around_levels(self) -> tuple[float, int]:
        """Sum of squared deviations of all values from the mean of each query, and how many values there are."""
        models = int(self.count.sum())
        level = np.array([total_of(column) for column in (self.mean * self.count).T]) / max(models, 1)
        between = total_of(self.count * np.square(self.mean - level))
        return total_of(self.squares) + between, models * self.squares.shape[1]

    def pooled(self) -> float:
        """Mean squared deviation over the queries of all records with two or more models; 0.0 if there are none."""
        return self._pooled

    @cached_property
    def _pooled(self) -> float:
        models = int(self.count[self.count > 1].sum())  # one model, or none, adds nothing to the squares
        return total_of(self.squares) / (models * self.squares.shape[1]) if models else 0.0

    def variance(self, pooled: float, *, per_record: bool) -> FloatArray | float:
        """`pooled`, or (n, queries), with `pooled` for records that have fewer than two models."""
        if not per_record:
            return pooled
        own = np.maximum(self.squares / np.maximum(self.count, 1), FLOOR * pooled)
        return np.where(self.count > 1, own, pooled)


def side(phi: FloatArray, used: BoolArray) -> Side:
    """The moments of `phi` (n_models, n, queries) over the models that `used` (n_models, n) selects for each record, in two passes, model
    by model.
    """
    count = used.sum(axis=0)[:, None]
    weights = used[:, :, None].astype(np.float64)
    total, squares, part = (np.zeros(phi.shape[1:]) for _ in range(3))
    for values, weight in zip(phi, weights, strict=True):
        total += np.multiply(values, weight, out=part)
    mean = total / np.maximum(count, 1)
    for values, weight in zip(phi, weights, strict=True):
        np.subtract(values, mean, out=part)
        part *= weight
        squares += np.square(part, out=part)
    return Side(count=count, mean=mean, squares=squares)


def joined(parts: Sequence[Side]) -> Side:
    """The moments of records that were read in parts."""
    if len(parts) == 1:
        return parts[0]
    count, mean, squares = (np.concatenate([getattr(part, name) for part in parts]) for name in ("count", "mean", "squares"))
    return Side(count=count, mean=mean, squares=squares)


def column_means(values: FloatArray) -> FloatArray:
    """(queries,) means of (m, queries), from exact sums."""
    return np.array([total_of(column) / len(column) for column in values.T])


def mean_square(values: FloatArray) -> float:
    """Mean squared deviation of (m, queries) from the mean of each query."""
    return total_of(np.square(values - column_means(values))) / values.size


def shift_of(ins: Side, outs: Side) -> FloatArray:
    """(queries,) how much training on a record raises its scaled logit: the mean over records that have both sides, else IN less OUT
    values.
    """
    both = ins.known & outs.known
    if both.any():
        return column_means(ins.mean[both] - outs.mean[both])
    means = [np.array([total_of(column) for column in (one.mean * one.count).T]) / int(one.count.sum()) for one in (ins, outs)]
    shift: FloatArray = means[0] - means[1]
    return shift
