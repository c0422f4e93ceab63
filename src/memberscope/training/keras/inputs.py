"""Records as inputs of the first layer of batched models: all of their entries, or only those that are not zero.

The usual tabular data sets are mostly zeros: an eighth of Location-30's bits are ones. Measured on CPU, the product of one sparse entry
with a row of 128 weights takes as long as five such products in a dense kernel, and the entries must be gathered first: skipping zeros
pays off if less than `DENSITY` of all entries are not zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy import sparse

from memberscope.plans.split import Index

DENSITY = 0.15  # share of non-zero entries below which records are stored as sparse


class Batch(Protocol):
    """One batch of each model, (models, batch, features), in a program."""

    def times(self, kernel: tf.Tensor) -> tf.Tensor:
        """The product with a kernel (models, features, units): (models, batch, units)."""

    def transposed_times(self, delta: tf.Tensor) -> tf.Tensor:
        """The product of its transpose (models, features, batch) with `delta` (models, batch, units): (models, features, units)."""


class InputSource(Protocol):
    """Records (n, ...) from which a program takes batches by index.

    Attributes:
        shape: shape of one record.
        signature: signature of the arrays that `feed` returns.
    """

    shape: tuple[int, ...]
    signature: tuple[tf.TensorSpec, ...]

    def feed(self, index: Index) -> tuple[NDArray[Any], ...]:
        """The arrays that a program needs for the batches `index` (steps, models, batch), besides `index` itself."""

    def batch(self, index: tf.Tensor, fed: Sequence[tf.Tensor], step: tf.Tensor) -> Batch:
        """Called in a program: the batches of one step, given its `index` (models, batch) and its number `step` in `fed`."""


def source_of(x: NDArray[Any]) -> InputSource:
    """The faster of the two forms for the records `x` (n, ...)."""
    mostly_zeros = x.size and np.count_nonzero(x) < DENSITY * x.size
    return SparseSource(x) if mostly_zeros else DenseSource(x)


class DenseSource:
    """Records with all of their entries, kept in their own type until a batch is made."""

    signature = ()

    def __init__(self, x: NDArray[Any]) -> None:
        """Make one copy, for all programs."""
        self.shape = tuple(x.shape[1:])
        self._x = tf.constant(x.reshape(len(x), -1))

    def feed(self, index: Index) -> tuple[NDArray[Any], ...]:
        """Nothing: a program gathers the records itself."""
        return ()

    def batch(self, index: tf.Tensor, fed: Sequence[tf.Tensor], step: tf.Tensor) -> Batch:
        """See `InputSource`."""
        return DenseBatch(tf.cast(tf.gather(self._x, index), tf.float32))


@dataclass(frozen=True)
class DenseBatch:
    """One batch of each model: `x` (models, batch, features) float32."""

    x: tf.Tensor

    def times(self, kernel: tf.Tensor) -> tf.Tensor:
        """See `Batch`."""
        return tf.matmul(self.x, kernel)

    def transposed_times(self, delta: tf.Tensor) -> tf.Tensor:
        """See `Batch`."""
        return tf.matmul(self.x, delta, transpose_a=True)


class SparseSource:
    """Records by their non-zero entries."""

    signature = (tf.TensorSpec([None, 2], tf.int32), tf.TensorSpec([None], tf.float32), tf.TensorSpec([None], tf.int64))

    def __init__(self, x: NDArray[Any]) -> None:
        """Find the non-zero entries."""
        self.shape = tuple(x.shape[1:])
        self._x = sparse.csr_matrix(x.reshape(len(x), -1).astype(np.float32, copy=False))

    def feed(self, index: Index) -> tuple[NDArray[Any], ...]:
        """One matrix per step, with a block for each model on its diagonal.

        Returns:
            Places (entries, 2) of the entries, ordered by row: the row out of models x batch and the column out of models x features;
            their values (entries,); and the position at which each step begins, (steps + 1,). SciPy and NumPy gather them in a third of
            the time that TensorFlow's ragged tensors need.
        """
        steps, models, batch = index.shape
        found = self._x[index.ravel()]
        heads = np.empty((models * batch, 2), np.int32)  # for each row: its number, and the column at which its block begins
        heads[:, 0] = np.arange(models * batch)
        heads[:, 1] = np.repeat(np.arange(models) * self._x.shape[1], batch)
        pairs = np.tile(heads.view(np.int64).ravel(), steps)  # a pair is copied as one number
        places = np.repeat(pairs, np.diff(found.indptr)).view(np.int32).reshape(-1, 2)
        places[:, 1] += found.indices
        return places, found.data, found.indptr[:: models * batch].astype(np.int64)

    def batch(self, index: tf.Tensor, fed: Sequence[tf.Tensor], step: tf.Tensor) -> Batch:
        """See `InputSource`."""
        places, values, bounds = fed
        here = slice(bounds[step], bounds[step + 1])
        models, batch = index.shape
        return SparseBatch(places[here], values[here], models=models, batch=batch, features=self._x.shape[1])


@dataclass(frozen=True)
class SparseBatch:
    """One batch of each model as a matrix with one block per model: `places` (entries, 2) int32 and `values` (entries,) float32."""

    places: tf.Tensor
    values: tf.Tensor
    models: int
    batch: int
    features: int

    def times(self, kernel: tf.Tensor) -> tf.Tensor:
        """See `Batch`."""
        return self._product(kernel, self.batch, adjoint=False)

    def transposed_times(self, delta: tf.Tensor) -> tf.Tensor:
        """See `Batch`."""
        return self._product(delta, self.features, adjoint=True)

    def _product(self, right: tf.Tensor, rows: int, *, adjoint: bool) -> tf.Tensor:
        units = right.shape[-1]
        shape = tf.constant([self.models * self.batch, self.models * self.features], tf.int64)
        product = tf.raw_ops.SparseTensorDenseMatMul(
            a_indices=self.places, a_values=self.values, a_shape=shape, b=tf.reshape(right, (-1, units)), adjoint_a=adjoint
        )
        return tf.reshape(product, (self.models, rows, units))
