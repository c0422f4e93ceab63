"""The secret behind which runs keep who was audited: identities of records are keyed by it, and membership is masked.

An audit's artifacts must not answer the audit's own question for anyone who can read them. The secret is generated once for each user and
is kept outside of every store; ``MEMBERSCOPE_KEY`` gives several people or machines the same one, so that their runs can be compared.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memberscope.checks import Array
from memberscope.errors import UserError

VARIABLE = "MEMBERSCOPE_KEY"
MOST = 1 << 16  # bytes that are read of the file that holds one
LEAST = 16  # fewest characters of a key that is given


@dataclass(frozen=True, kw_only=True)
class Key:
    """A secret of 32 bytes; its text is never shown.

    Attributes:
        value: the bytes.
    """

    value: bytes

    def __repr__(self) -> str:
        """Not the secret."""
        return f"Key({self.check})"

    @property
    def check(self) -> str:
        """A fingerprint that distinguishes keys without revealing anything about them: 16 hexadecimal digits."""
        return self._hash(b"check", size=8).hexdigest()

    def identities(self, ids: Array, *, source: str) -> NDArray[np.int64]:
        """(n,) a number for each id, the same for the same id of the same source; without the key, it cannot be computed from the id."""
        found = np.empty(len(ids), dtype=np.uint64)
        base = self._hash(b"identity" + source.encode("utf-8", "surrogatepass") + b"\0", size=8)
        for place, one in enumerate(ids.tolist()):
            hashed = base.copy()
            hashed.update(str(one).encode("utf-8", "surrogatepass"))
            found[place] = int.from_bytes(hashed.digest(), "little")
        return (found >> np.uint64(1)).astype(np.int64)

    def seed(self, seed: int) -> int:
        """256 bits of a seed and the key, from which numpy draws as from any other seed."""
        return int.from_bytes(self.digest(b"seed", str(seed).encode()), "little")

    def stream(self, salt: bytes, length: int) -> NDArray[np.uint8]:
        """(length,) random-looking bytes with which to seal others, the same for the same salt (SHAKE-256 of the key and the salt)."""
        return np.frombuffer(hashlib.shake_256(b"stream" + self.value + salt).digest(length), np.uint8)

    def mask(self, salt: bytes, length: int) -> NDArray[np.bool_]:
        """(length,) random-looking bits, the same for the same salt (SHAKE-256 of the key and the salt)."""
        stream = hashlib.shake_256(b"mask" + self.value + salt).digest(length)
        return (np.frombuffer(stream, np.uint8) & 1).astype(np.bool_)

    def digest(self, *parts: bytes, size: int = 32) -> bytes:
        """A keyed digest of some bytes."""
        found = self._hash(b"digest", size=size)
        for part in parts:
            found.update(part)
        return found.digest()

    def _hash(self, start: bytes, *, size: int) -> hashlib.blake2b:
        return hashlib.blake2b(start, digest_size=size, key=self.value)


def key() -> Key:
    """The secret: that of ``MEMBERSCOPE_KEY``, else the user's own, which is generated at the first use.

    Raises:
        UserError: ``MEMBERSCOPE_KEY`` is too short, or the user's own secret can neither be read nor written.
    """
    given = os.environ.get(VARIABLE)
    if given is not None:
        if len(given.strip()) < LEAST:
            raise UserError(
                f"{VARIABLE}: {len(given.strip())} characters; allowed: at least {LEAST}, for example from `openssl rand -hex 32`"
            )
        return Key(value=hashlib.sha256(given.strip().encode("utf-8", "surrogatepass")).digest())
    return Key(value=hashlib.sha256(_own(path())).digest())


def make_private(folder: Path) -> None:
    """Create a folder for index sets, outputs or records, and its missing parents, which only this user can enter; one that exists keeps
    its permissions.

    Raises:
        OSError: it cannot be created.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(exist_ok=True)  # FileExistsError for a file


def path() -> Path:
    """Where the user's own secret lies: ``memberscope/key`` in ``XDG_CONFIG_HOME``, else in ``~/.config``."""
    folder = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(folder).expanduser() / "memberscope" / "key"


def _own(file: Path) -> bytes:
    try:
        if not file.exists():
            _generate(file)
        if not file.is_file():
            raise OSError(errno.EINVAL, "not a regular file")
        with open(file, "rb") as reading:
            found = reading.read(MOST).strip()
    except OSError as error:
        raise UserError(
            f"{file}: the secret that keys records' identities can be neither read nor written ({error.strerror}); allowed: a file of "
            f"this user, or the variable {VARIABLE}"
        ) from None
    if len(found) < LEAST:
        raise UserError(
            f"{file}: holds {len(found)} bytes, which is not a valid secret; allowed: remove it, and another one is generated"
        )
    return found


def _generate(file: Path) -> None:
    """Write a new secret that only this user can read, unless another process was first."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = file.with_name(f".key.{secrets.token_hex(8)}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as writing:
            writing.write(secrets.token_hex(32).encode() + b"\n")
        try:
            os.link(temporary, file)  # fails if there is one
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            if not file.exists():
                temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
