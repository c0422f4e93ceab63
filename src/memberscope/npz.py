"""Reads and writes named arrays in ``.npz`` files, and single ones in ``.npy``, without pickle: a foreign file is read, never executed.

Headers come first: an array is read only if its header is one of plain numbers or text, the file holds as many bytes as the header
promises, and this machine has the memory for them.
"""

from __future__ import annotations

import errno
import io
import lzma
import math
import os
import struct
import tokenize
import uuid
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from memberscope.checks import Array
from memberscope.errors import UserError
from memberscope.file_state import FileState, with_state
from memberscope.reading.files import check_file, check_memory, reason, shown_bytes, too_large

_ZIP, _NPY, _PICKLE = b"PK", b"\x93NUMPY", b"\x80"
_AGAIN = "write it again"
MOST_HEADER = 1 << 16  # bytes of an array's header
MOST_ARRAYS = 10_000  # of a file
MAPPED_FROM = 1 << 20  # bytes of an array in a .npy from which it is mapped instead of read
MOST_EMPTY = (
    10_000_000  # product of the other axes of an array without numbers: what counts its records would take time and memory
)
FREELY_UNPACKED = 1 << 30  # bytes of a compressed array that are read whatever the file's size
MOST_RATIO = 100  # beyond that, times its compressed size
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, TypeError, OverflowError, SyntaxError, RecursionError,
    NotImplementedError, RuntimeError, OSError, struct.error, tokenize.TokenError,
)  # fmt: skip
"""What zipfile, its decompressors and numpy raise for a file that is truncated, damaged or made to do harm."""


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write `arrays` uncompressed to exactly `path`, atomically, through a temporary file in the same folder.

    Raises:
        UserError: the folder does not exist or cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            np.savez(file, **arrays)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); allowed: a file in a folder that exists"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class _Header:
    """What an array's header promises, and where its data begin in the stream."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """The bytes of its data."""
        return math.prod(self.shape) * self.dtype.itemsize


def _header(stream: IO[bytes]) -> _Header:
    """The header at the stream's place; ValueError, or another of `_DAMAGE`, if it is none of numpy's."""
    lead = stream.read(8)
    if not lead.startswith(_NPY) or len(lead) < 8:
        raise ValueError("no .npy header")
    version = (lead[6], lead[7])
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"array format {version}")
    width = 2 if version == (1, 0) else 4
    length = int.from_bytes(stream.read(width), "little")
    if length > MOST_HEADER:
        raise ValueError(f"a header of {length:,} bytes")
    text = stream.read(length)
    if len(text) < length:
        raise ValueError("its header is truncated")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        shape, _, dtype = read(io.BytesIO(length.to_bytes(width, "little") + text))  # type: ignore[no-untyped-call]  # numpy's function is untyped
    except (*_DAMAGE, MemoryError) as error:  # a parser of Python's own reads it
        raise ValueError(f"an invalid header: {' '.join(str(error).split())[:100]}") from None
    if not all(type(axis) is int and axis >= 0 for axis in shape):
        raise ValueError(f"shape {shape}")
    found = _Header(dtype=dtype, shape=shape, start=8 + width + length)
    if found.size == 0 and math.prod(axis for axis in shape if axis) > MOST_EMPTY:
        raise ValueError(f"shape {shape} without any data")
    return found


def _check_promise(header: _Header, held: int) -> None:
    """Raise ValueError unless the data that the header promises are there, among `held` bytes in all."""
    if header.size > held - header.start:
        raise ValueError(
            f"shorter than its header says: that promises {shown_bytes(header.size)} of data, and it holds "
            f"{max(0, held - header.start):,} bytes"
        )


def read_npz(path: Path) -> dict[str, Array]:
    """All arrays of the file at `path`, by name.

    Raises:
        UserError: the file is missing, a folder or device, a pickle, a single ``.npy``, no ``.npz`` at all, truncated or damaged, or holds
            an array of Python objects, two of one name, or more than this machine's memory can.
    """
    check_file(path, where=str(path), allowed="an .npz file")
    try:
        with open(path, "rb") as file:
            head = file.read(6)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({reason(error)}); allowed: an .npz file") from None
    if not head.startswith(_ZIP):
        kind = "a single .npy array" if head == _NPY else "a pickle" if head.startswith(_PICKLE) else "not an .npz"
        raise UserError(f"{path}: {kind}; allowed: an .npz file as numpy.savez writes it")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(path, members)
            return {info.filename.removesuffix(".npy"): _member(path, archive, info) for info in members}
    except _DAMAGE as error:
        raise UserError(f"{path}: truncated or damaged ({error}); {_AGAIN}") from None


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Check the file's directory, before any array is unpacked."""
    if len(members) > MOST_ARRAYS:
        raise UserError(f"{path}: {len(members):,} arrays; allowed: at most {MOST_ARRAYS:,}")
    names = [info.filename for info in members]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path}: two arrays are named {twice.removesuffix('.npy')}; allowed: a name for each array")
    for info in members:
        if info.flag_bits & 1:
            raise UserError(f"{path}: encrypted; allowed: an .npz file as numpy.savez writes it")
        if info.file_size > max(FREELY_UNPACKED, MOST_RATIO * info.compress_size):
            raise UserError(
                f"{path}: {info.filename.removesuffix('.npy')} is {shown_bytes(info.file_size)}, packed into "
                f"{shown_bytes(info.compress_size)}; allowed: at most {MOST_RATIO} times its packed size, or without compression, as "
                "numpy.savez writes it"
            )
    check_memory(sum(info.file_size for info in members), where=str(path), what="its content")


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    """One array of the file, once its header has been checked."""
    with archive.open(info) as stream:
        header = _header(stream)
    if header.dtype.hasobject:
        name = info.filename.removesuffix(".npy")
        raise UserError(f"{path}: {name} holds Python objects (a pickle); allowed: plain numbers and text")
    _check_promise(header, info.file_size)
    try:
        with archive.open(info) as stream:
            return _read(stream)
    except MemoryError:
        raise too_large(header.size, where=str(path), what=info.filename.removesuffix(".npy")) from None


def _read(stream: IO[bytes]) -> Array:
    """The array of a stream whose header has been checked; ValueError for text that is not Unicode."""
    found: Array = npy.read_array(stream, allow_pickle=False)  # type: ignore[no-untyped-call]  # numpy's function is untyped
    if found.dtype.kind == "U" and found.size:
        points = np.ascontiguousarray(found).view(np.dtype(f"{found.dtype.str[0]}u4"))
        if points.max() > 0x10FFFF or bool(((points >= 0xD800) & (points < 0xE000)).any()):
            raise ValueError("text that is not Unicode")
    return found


def read_npy(path: Path, *, where: str, allowed: str) -> Array:
    """The array of a ``.npy`` file.

    Args:
        path: the file.
        where: the beginning of errors, such as ``outputs=model_000.npy``.
        allowed: what may be given, for errors.

    Raises:
        UserError: the file is missing, a folder or device, truncated or damaged, of Python objects, or larger than this machine's memory.
    """
    held = _checked(path, where=where, allowed=allowed).size
    check_memory(held, where=where, what="its array")
    try:
        with open(path, "rb") as file:
            return _read(file)
    except MemoryError:
        raise too_large(held, where=where, what="its array") from None
    except _DAMAGE as error:
        raise UserError(f"{where}: truncated or damaged ({_words(error)}); {_AGAIN}") from None


def open_npy(path: Path, *, where: str, allowed: str) -> Array:
    """The array of a ``.npy`` file as `read_npy` returns it; a large one of numbers is mapped, and its file must not change later."""
    header = _checked(path, where=where, allowed=allowed)
    if header.size < MAPPED_FROM or header.dtype.kind not in "fiub":
        return read_npy(path, where=where, allowed=allowed)
    state = FileState.of(path, where=where)
    return with_state(map_npy(path, where=where, allowed=allowed), state)


def map_npy(path: Path, *, where: str, allowed: str) -> np.memmap[Any, Any]:
    """The array of a ``.npy`` file, mapped into memory read-only; for arguments and errors see `read_npy`, but it may be of any size."""
    size = _checked(path, where=where, allowed=allowed).size
    try:
        found: np.memmap[Any, Any] = npy.open_memmap(path, mode="r")  # type: ignore[no-untyped-call]  # numpy's function is untyped
    except (*_DAMAGE, MemoryError) as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            raise too_large(size, where=where, what="its array") from None
        detail = "without records" if "mmap length" in str(error) or "empty file" in str(error) else _words(error)
        raise UserError(f"{where}: truncated or damaged, or not a .npy file ({detail}); {_AGAIN}") from None
    return found


def _checked(path: Path, *, where: str, allowed: str) -> _Header:
    """The header of a ``.npy`` file that holds what it promises."""
    size = check_file(path, where=where, allowed=allowed)
    try:
        with open(path, "rb") as file:
            header = _header(file)
        if header.dtype.hasobject:
            raise UserError(f"{where}: holds Python objects (a pickle); allowed: plain numbers and text")
        _check_promise(header, size)
    except _DAMAGE as error:
        raise UserError(f"{where}: truncated or damaged, or not a .npy file ({_words(error)}); {_AGAIN}") from None
    return header


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())
