"""Arrays in memory-mapped files: the memory that reading them takes, and temporary files for parts of them."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from memberscope.checks import Array
from memberscope.errors import UserError
from memberscope.file_state import loaded, mapping_of, state_of
from memberscope.pieces import pieces, release, row_chunks
from memberscope.reading.files import free_memory_bytes, reason, shown_bytes

SPILLED = 1 << 26  # bytes from which an array that is put together from files goes to a temporary file instead of memory
TEMPORARIES = 8  # float64 arrays of the size of a piece that a signal holds at once
_WASTE = 4  # rows are read with all between them, if these are at most so many times as many
_NEAR = 1 << 22  # or hold at most so many numbers
A_RECORD = 64  # bytes of what an audit holds of each record, beside its outputs: its scores, its label, its place in an order


def check_piece(name: str, array: Array, *, records: int) -> None:
    """Raise UserError if the memory that is free cannot hold what is made of one piece of a mapped array, and of its records."""
    if mapping_of(array) is None:
        return
    width = math.prod(array.shape[-1:]) if array.ndim > 1 else 1
    rows = next(row_chunks(records, width), slice(0, 0)).stop
    needed, free = rows * width * 8 * TEMPORARIES + records * A_RECORD, free_memory_bytes()
    if needed > free:
        raise UserError(
            f"{name}: shape {array.shape}; {records:,} records and a piece of {rows:,} of them take "
            f"{shown_bytes(needed)}, and {shown_bytes(free)} are free; allowed: fewer records or classes, or a machine with more memory"
        )


def written(parts: Iterable[Array], *, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """An array in a temporary file, which is mapped and vanishes with the array.

    Args:
        parts: its numbers, one part after another.
        dtype, shape: of the array, which must not be empty.

    Raises:
        UserError: the folder of temporary files cannot hold it.
    """
    try:
        with tempfile.TemporaryFile() as file:
            for part in parts:
                file.write(np.ascontiguousarray(part, dtype=dtype).data)
            file.flush()
            return np.memmap(file, dtype=dtype, mode="r", shape=shape)
    except OSError as error:
        size = shown_bytes(math.prod(shape) * dtype.itemsize)
        raise UserError(
            f"TMPDIR={tempfile.gettempdir()}: cannot hold {size} ({reason(error)}); allowed: a folder on a disk with enough "
            "free space"
        ) from None


def taken(array: Array, index: Array | slice) -> Array:
    """`array[index]` for positions, a mask or a slice of its first axis; positions in a large mapped array are put in a temporary file."""
    if isinstance(index, slice) or mapping_of(array) is None:
        return array[index]
    rows = np.flatnonzero(index) if index.dtype == np.bool_ else index
    shape = (len(rows), *array.shape[1:])
    return gathered(_rows(array, rows), dtype=array.dtype, shape=shape)


def taken_of_each(array: Array, index: Array | slice) -> Array:
    """`array[:, index]` for positions, a mask or a slice of its second axis, as `taken` returns it."""
    if isinstance(index, slice) or mapping_of(array) is None:
        return array[:, index]
    rows = np.flatnonzero(index) if index.dtype == np.bool_ else index
    shape = (len(array), len(rows), *array.shape[2:])
    return gathered((part for one in array for part in _rows(one, rows)), dtype=array.dtype, shape=shape)


def together(arrays: Sequence[Array]) -> Array:
    """``np.stack(arrays)``; where any is mapped and all of them are large, in a temporary file that is mapped in turn."""
    if all(mapping_of(array) is None for array in arrays):
        return np.stack(arrays)
    whole = arrays[0].base
    if isinstance(whole, np.ndarray) and whole.shape == (len(arrays), *arrays[0].shape) and _are_entries(arrays, whole):
        return whole
    dtype, shape = np.result_type(*arrays), (len(arrays), *arrays[0].shape)
    return gathered((piece for array in arrays for piece in _checked(array)), dtype=dtype, shape=shape)


def _are_entries(arrays: Sequence[Array], whole: Array) -> bool:
    """Whether the arrays are views of the entries of `whole`, in their order."""
    return all(
        array.base is whole and array.ctypes.data == entry.ctypes.data and array.strides == entry.strides
        for array, entry in zip(arrays, whole, strict=True)
    )


def _checked(array: Array) -> Iterator[Array]:
    """The pieces of an array, if its file stays as it was."""
    state = state_of(array, where="array")
    for _, piece in pieces(array):
        if state is not None:
            state.check()
        yield piece
    if state is not None:
        state.check()


def _rows(array: Array, rows: Array) -> Iterator[Array]:
    """Rows of a mapped array, a piece at a time."""
    state, width = state_of(array, where="array"), math.prod(array.shape[1:])
    for chunk in row_chunks(len(rows), width):
        wanted = rows[chunk]
        first, last = int(wanted.min()), int(wanted.max())
        if (last - first) * width <= max(_WASTE * wanted.size * width, _NEAR):
            yield loaded(array[first : last + 1])[wanted - first]
        else:  # far apart: through the map, which reads the pages of these rows alone
            if state is not None:
                state.check()
            yield array[wanted]
            release(array)


def gathered(parts: Iterable[Array], *, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Parts of an array, one after another, as a whole: in memory where it is small, else in a temporary file that is mapped.

    Raises:
        UserError: the folder of temporary files cannot hold it.
    """
    size = math.prod(shape) * dtype.itemsize
    if size >= SPILLED:
        return written(parts, dtype=dtype, shape=shape)
    found, done = np.empty(math.prod(shape), dtype=dtype), 0
    for part in parts:
        found[done : done + part.size] = part.ravel()
        done += part.size
    return found.reshape(shape)
