"""Arrays read piece by piece, so that the memory that is in use depends on the piece and not on the array.

Those in memory-mapped files are read from their files (`memberscope.file_state.loaded`). The pages of a map that were read all the same
stay resident until the system needs their memory, and count as this process's until then: they are given back after each piece.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from memberscope.file_state import loaded, mapping_of

CHUNK_ELEMENTS = 1 << 20


def row_chunks(rows: int, width: int = 1, *, elements: int | None = None) -> Iterator[slice]:
    """Slices that cover `rows` rows of `width` numbers in pieces of about `elements` numbers, `CHUNK_ELEMENTS` unless given."""
    step = max(1, (elements or CHUNK_ELEMENTS) // max(1, width))
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))


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
    """Consecutive parts of an array in memory, each with the position of its first entry.

    Args:
        array: of any shape; a part has as many axes, or fewer where a single entry of the first axis is too large.
        keep: the number of last axes that are never divided.
        elements: how many numbers a part has at most, if a single entry has not more; `CHUNK_ELEMENTS` unless given.

    Raises:
        UserError: the array is in a memory-mapped file that changed; see `memberscope.file_state.loaded`.
    """
    width = math.prod(array.shape[1:])
    if width > (elements or CHUNK_ELEMENTS) and array.ndim > keep + 1:
        for place, part in enumerate(array):
            for first, piece in pieces(part, keep=keep, elements=elements):
                yield (place, *first), piece
        return
    for rows in row_chunks(len(array), width, elements=elements):
        yield (rows.start,), loaded(array[rows])
        release(array)
