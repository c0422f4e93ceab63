"""Arrays read piece by piece, so that the memory that is in use depends on the piece and not on the array.

The pages of a memory-mapped file that were read stay resident until the system needs their memory, and count as this process's until then.
They are given back after each piece; the system still keeps them cached for as long as it has memory to spare.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK_ELEMENTS = 1 << 20


def row_chunks(rows: int, width: int = 1, *, elements: int | None = None) -> Iterator[slice]:
    """Slices that cover `rows` rows of `width` numbers in pieces of about `elements` numbers, `CHUNK_ELEMENTS` unless given."""
    step = max(1, (elements or CHUNK_ELEMENTS) // max(1, width))
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))


def bases(array: object) -> Iterator[object]:
    """An array, the one of which it is a view, and so on."""
    while isinstance(array, np.ndarray):
        yield array
        array = array.base


def mapping_of(array: NDArray[Any]) -> np.memmap[Any, Any] | None:
    """The memory map behind an array, or behind one of which it is a view; None for an array in memory."""
    for one in bases(array):
        behind: object = getattr(one, "base", None)
        if isinstance(one, np.memmap) and isinstance(behind, mmap.mmap):
            return one
    return None


def release(array: NDArray[Any]) -> None:
    """Give back the pages of the memory map behind an array; they are read from the file again when they are needed."""
    root = mapping_of(array)
    if (
        root is None or root.mode == "c" or not hasattr(mmap, "MADV_DONTNEED")
    ):  # with "c", the process's own changes would be lost
        return
    behind: object = root.base
    assert isinstance(behind, mmap.mmap)
    behind.madvise(mmap.MADV_DONTNEED)


def pieces(
    array: NDArray[Any], *, keep: int = 0, elements: int | None = None
) -> Iterator[tuple[tuple[int, ...], NDArray[Any]]]:
    """Consecutive parts of an array, each with the position of its first entry; pages are given back after each part.

    Args:
        array: of any shape; a part has as many axes, or fewer where a single entry of the first axis is too large.
        keep: the number of last axes that are never divided.
        elements: how many numbers a part has at most, if a single entry has not more; `CHUNK_ELEMENTS` unless given.
    """
    width = math.prod(array.shape[1:])
    if width > (elements or CHUNK_ELEMENTS) and array.ndim > keep + 1:
        for place, part in enumerate(array):
            for first, piece in pieces(part, keep=keep, elements=elements):
                yield (place, *first), piece
        return
    for rows in row_chunks(len(array), width, elements=elements):
        yield (rows.start,), array[rows]
        release(array)
