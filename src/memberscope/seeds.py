"""One tree of seeds. Every random draw of the suite names its stream, so that no draw can shift another.

The stream ``("split",)`` of seed 0 gives the same numbers on every machine, whether or not a model was trained before it is used:
streams are keyed by the SHA-256 of their names, not by the order in which they are opened.
"""

from __future__ import annotations

import hashlib

import numpy as np

from memberscope.errors import UserError


def check(seed: object) -> None:
    """Raise UserError for anything but an integer of 0 or more; None would draw other numbers each time."""
    if isinstance(seed, int | np.integer) and seed >= 0:
        return
    raise UserError(f"seed={seed!r}; allowed: an integer, at least 0")


def _sequence(seed: int, names: tuple[str | int, ...]) -> np.random.SeedSequence:
    check(seed)
    digest = hashlib.sha256("\x1f".join(str(name) for name in names).encode()).digest()
    return np.random.SeedSequence(seed, spawn_key=tuple(np.frombuffer(digest[:16], dtype="<u4").tolist()))


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """The generator of the stream `names` under `seed` (a non-negative integer).

    >>> bool(stream(0, "split").random() == stream(0, "split").random())
    True
    """
    return np.random.default_rng(_sequence(seed, names))


def integer(seed: int, *names: str | int) -> int:
    """A seed in [0, 2**31) for libraries that take an integer (Keras initializers, scikit-learn)."""
    return int(_sequence(seed, names).generate_state(1)[0] & 0x7FFFFFFF)
