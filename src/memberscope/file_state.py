"""Memory-mapped files that change: their state when they were opened, and numbers that are read from the file instead of the map.

A file that changes while it is mapped would give numbers of two files. Where it becomes shorter, reading the map beyond its end kills the
process (SIGBUS), which no check beforehand prevents. Numbers are therefore read from the file itself (`loaded`), which then says that they
are missing; the map tells where they are.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import UserError

MAPS = Path("/proc/self/maps")  # this process's maps, with the number of each one's file
_WASTE = 4  # a part is read at once, with what lies between its numbers, if that takes at most so many times its bytes
_NEAR = 1 << 14  # bytes between two entries up to which reading on is faster than reading each
_BLOCK = 1 << 22  # bytes that are read at once of such entries


@dataclass(frozen=True, kw_only=True)
class FileState:
    """What tells whether a file is still the one that was opened.

    Attributes:
        path: the file.
        where: the beginning of an error, such as ``predictions=t.npy``.
        size: its bytes.
        modified: when it was last changed, in nanoseconds.
        place: its device and number there: a file that was replaced by another of the same name has another number.
    """

    path: Path
    where: str
    size: int
    modified: int
    place: tuple[int, int]

    @classmethod
    def of(cls, path: Path, *, where: str) -> FileState:
        """The present state of a file; OSError if there is none."""
        found = os.stat(path)
        return cls(
            path=path.absolute(),
            where=where,
            size=found.st_size,
            modified=found.st_mtime_ns,
            place=(found.st_dev, found.st_ino),
        )

    def check(self) -> None:
        """Raise UserError, which says what differs, unless the file is as it was when it was opened."""
        try:
            now = os.stat(self.path)
        except OSError as error:
            raise _gone(self.where, error) from None
        self.compare(now)

    def compare(self, now: os.stat_result) -> None:
        """Raise UserError, which says what differs, unless this is the state of the file when it was opened."""
        if now.st_size != self.size:
            raise _changed(self.where, f"it had {self.size:,} bytes and has {now.st_size:,}")
        if (now.st_dev, now.st_ino) != self.place:
            raise _changed(self.where, "another file replaced it")
        if now.st_mtime_ns != self.modified:
            raise _changed(self.where, "it was written to")


def _changed(where: str, how: str) -> UserError:
    return UserError(f"{where}: changed while it was read ({how}); allowed: a file that does not change during the audit")


def _gone(where: str, error: OSError) -> UserError:
    return _changed(where, f"it cannot be found any more: {error.strerror or error}")


class FileArray(np.memmap[Any, Any]):
    """A memory map that knows the state of its file when it was opened; its slices do not, but lead back to it (`known_state`)."""

    state: FileState | None = None


def with_state(array: NDArray[Any], state: FileState) -> NDArray[Any]:
    """A plain array over a memory map, by which `known_state` finds the state of the file when it was opened."""
    found = array.view(FileArray)
    found.state = state
    return np.asarray(found)


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


def known_state(array: NDArray[Any]) -> FileState | None:
    """The state of the file behind an array when it was opened, if `with_state` noted it."""
    return next((one.state for one in bases(array) if isinstance(one, FileArray) and one.state is not None), None)


def state_of(array: NDArray[Any], *, where: str) -> FileState | None:
    """The state of the file behind an array when it was opened, as far as that is known, else the present one.

    None for an array in memory, for a temporary file without a name, for one that this process may write to itself, and where the name is
    no longer that of the file that is mapped.
    """
    known = known_state(array)
    root = mapping_of(array)
    if known is not None or root is None or root.filename is None or root.mode != "r":
        return known
    try:
        found = FileState.of(Path(root.filename), where=where)
    except OSError:
        return None
    return found if _is_of(root, found) else None


def _is_of(root: np.memmap[Any, Any], state: FileState) -> bool:
    """Whether this is a map of that very file, as far as the system tells: another may have taken its name since it was mapped."""
    behind: object = root.base
    assert isinstance(behind, mmap.mmap)
    if behind.size() != state.size:
        return False
    with contextlib.suppress(OSError, ValueError, IndexError):  # where the system has no such list
        for line in MAPS.read_text(encoding="utf-8", errors="replace").splitlines():
            span, _, _, _, number = line.split(maxsplit=5)[:5]
            start, end = (int(place, 16) for place in span.split("-"))
            if start <= root.ctypes.data < end:
                return int(number) == state.place[1]
    return True


def loaded(part: NDArray[Any], *, where: str = "") -> NDArray[Any]:
    """The numbers of a part of an array, in memory: those of a file that is mapped for reading alone are read from the file.

    Any other part is returned as it is: one in memory, in a temporary file without a name, or in a file that this process may write to.

    Args:
        part: of an array that leads back to the state of its file, see `with_state`; any other is returned as it is, too.
        where: the beginning of an error, to read a file whatever its state: it may grow.

    Raises:
        UserError: the file cannot be found any more, is too short, or is not as it was when it was opened.
    """
    root, state = mapping_of(part), known_state(part)
    if root is None or root.filename is None or root.mode != "r" or not part.size or not (state or where):
        return part
    where = where or (state.where if state is not None else "")
    try:
        file = FileIO(root.filename)
    except OSError as error:
        raise _gone(where, error) from None
    with file:
        if state is not None:
            state.compare(os.fstat(file.fileno()))
        try:
            return _read(file, part, root.offset + part.ctypes.data - root.ctypes.data)
        except EOFError:
            had = "" if state is None else f"had {state.size:,} bytes and "
            raise _changed(where, f"it {had}has {os.fstat(file.fileno()).st_size:,}{'' if had else ' bytes'}") from None


def _read(file: FileIO, part: NDArray[Any], place: int) -> NDArray[Any]:
    """The numbers of a part whose first one lies at a place in the file; EOFError if the file ends before."""
    span = sum(abs(stride) * (count - 1) for stride, count in zip(part.strides, part.shape, strict=True)) + part.itemsize
    if span <= _WASTE * part.nbytes:
        return _read_span(file, part, place, span)
    axis = int(np.abs(part.strides).argmax())
    stride, found = part.strides[axis], np.empty(part.shape, dtype=part.dtype)
    entries, into = np.moveaxis(part, axis, 0), np.moveaxis(found, axis, 0)
    if abs(stride) > _NEAR and part.ndim > 1:
        for number, entry in enumerate(entries):
            into[number] = _read(file, entry, place + number * stride)
        return found
    step = max(1, _BLOCK // abs(stride))
    for start in range(0, len(entries), step):
        block = entries[start : start + step]
        span = sum(abs(other) * (count - 1) for other, count in zip(block.strides, block.shape, strict=True)) + part.itemsize
        into[start : start + step] = _read_span(file, block, place + start * stride, span)
    return found


def _read_span(file: FileIO, part: NDArray[Any], place: int, span: int) -> NDArray[Any]:
    """As `_read`, all bytes from the first to the last at once."""
    low = sum(min(0, stride * (count - 1)) for stride, count in zip(part.strides, part.shape, strict=True))
    held, done = np.empty(span, dtype=np.uint8), 0
    file.seek(place + low)
    while done < span:
        count = file.readinto(held.data[done:])
        if not count:
            raise EOFError
        done += count
    return np.ndarray(part.shape, dtype=part.dtype, buffer=held.data, offset=-low, strides=part.strides)
