"""Reads and writes named arrays in ``.npz`` files without pickle: a foreign file is read, never executed."""

from __future__ import annotations

import os
import uuid
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from memberscope.checks import Array
from memberscope.errors import UserError

_ZIP, _NPY, _PICKLE = b"PK", b"\x93NUMPY", b"\x80"


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


def _dtype(file: IO[bytes]) -> np.dtype[Any]:
    version = npy.read_magic(file)  # type: ignore[no-untyped-call]  # numpy's function is untyped
    if version == (1, 0):
        return npy.read_array_header_1_0(file)[2]  # type: ignore[no-untyped-call,no-any-return]  # as above
    if version == (2, 0):
        return npy.read_array_header_2_0(file)[2]  # type: ignore[no-untyped-call,no-any-return]  # as above
    raise ValueError(f"array format {version}")


def read_npz(path: Path) -> dict[str, Array]:
    """All arrays of the file at `path`, by name.

    Raises:
        UserError: the file is missing, a pickle, a single ``.npy``, no ``.npz`` at all, truncated or damaged, or holds an array of Python
            objects.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(6)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); allowed: an .npz file") from None
    if not head.startswith(_ZIP):
        kind = "a single .npy array" if head == _NPY else "a pickle" if head.startswith(_PICKLE) else "not an .npz"
        raise UserError(f"{path}: {kind}; allowed: an .npz file as numpy.savez writes it")
    arrays: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                name = member.removesuffix(".npy")
                with archive.open(member) as stream:
                    if _dtype(stream).hasobject:
                        raise UserError(f"{path}: {name} holds Python objects (a pickle); allowed: plain numbers and text")
                with archive.open(member) as stream:
                    arrays[name] = npy.read_array(stream, allow_pickle=False)  # type: ignore[no-untyped-call]  # numpy's function is untyped
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, OSError) as error:
        raise UserError(f"{path}: truncated or damaged ({error}); write it again") from None
    return arrays
