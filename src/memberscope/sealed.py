"""Files that can be read only with the key: named arrays, sealed as a whole, inside an ``.npz`` that reveals nothing but its size.

Neither the standard library nor the core's libraries encrypt. The content is therefore joined with a stream of SHAKE-256 over the key and a
salt. The salt is a keyed digest of the content: it checks the content when it is read, and no two contents share a stream.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memberscope.checks import Array
from memberscope.errors import UserError
from memberscope.npz import write_npz
from memberscope.secret import VARIABLE, Key

_KEYS = frozenset({"sealed", "salt", "key_check"})


class OtherKey(UserError):
    """A file that was written with another key cannot be read."""


def write_sealed(path: Path, arrays: Mapping[str, Array], *, key: Key) -> None:
    """Write `arrays` to exactly `path`, atomically, sealed with the key.

    Raises:
        UserError: the folder does not exist or cannot be written.
    """
    file = io.BytesIO()
    np.savez(file, **arrays)
    content = file.getvalue()
    salt = key.digest(content, size=16)
    write_npz(
        path, {"sealed": _sealed(content, salt, key), "salt": np.frombuffer(salt, np.uint8), "key_check": np.array(key.check)}
    )


def is_sealed(arrays: Mapping[str, Array]) -> bool:
    """Whether the arrays of an ``.npz`` are those that `write_sealed` wrote."""
    return arrays.keys() >= _KEYS


def unsealed(path: Path, arrays: Mapping[str, Array], *, key: Key) -> dict[str, Array]:
    """What `write_sealed` was given, from the arrays that the file holds; `path` names the file in errors.

    Raises:
        OtherKey: it was sealed with another key.
        UserError: it is damaged.
    """
    check_key(path, arrays, key)
    salt = arrays["salt"].tobytes()
    content = _sealed(arrays["sealed"].tobytes(), salt, key).tobytes()
    if key.digest(content, size=16) != salt:
        raise UserError(f"{path}: truncated or damaged; write it again")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def check_key(path: Path, arrays: Mapping[str, Array], key: Key) -> None:
    """Raise OtherKey if the file was written with another key than this one."""
    if str(arrays["key_check"]) != key.check:
        raise OtherKey(f"{path}: written with another key; allowed: the key of the person who ran the audit, in {VARIABLE}")


def _sealed(content: bytes, salt: bytes, key: Key) -> NDArray[np.uint8]:
    """Bytes sealed with the key, or unsealed if they were."""
    return np.frombuffer(content, np.uint8) ^ key.stream(salt, len(content))
