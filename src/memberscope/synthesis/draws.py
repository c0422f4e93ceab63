"""Random numbers for thousands of climbs at once, each of which has a sequence of its own.

A climb's numbers depend only on the seed and on the climb's name (record and attempt), not on the number or order of parallel climbs, nor
on where the work was interrupted. With NumPy's generators this would take a Python call per climb and step; SplitMix64 (Steele, Lea &
Flood 2014, figure 17) is a counter and a hash, so that one array operation serves all climbs. The keys with which the sequences start come
from the seed tree.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope import seeds

Words = NDArray[np.uint64]
Index = NDArray[np.intp]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _hash(z: Words) -> Words:
    """The finalizer of SplitMix64, in place."""
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def start(seed: int, *names: NDArray[Any]) -> Words:
    """The initial states (m,) of the sequences, one for each row of the integer arrays `names` (m,), which together name a climb."""
    state = np.full(names[0].shape, seeds.stream(seed, "synthesis", "hill_climb").integers(2**64, dtype=np.uint64))
    for name in names:
        state = _hash(state + _GAMMA * (name.astype(np.uint64) + np.uint64(1)))
    return state


class Draws:
    """The sequences of m climbs; `state` (m,) uint64 is their complete state.

    Every method takes `rows` (r,), the climbs that draw, and advances only their sequences.
    """

    def __init__(self, state: Words) -> None:
        """Sequences that continue from `state`."""
        self.state = state

    def words(self, rows: Index, count: int) -> Words:
        """(r, count) uniform 64-bit words."""
        steps = np.arange(1, count + 1, dtype=np.uint64) * _GAMMA
        out = _hash(self.state[rows][:, None] + steps)
        self.state[rows] += steps[-1]
        return out

    def uniform(self, rows: Index, count: int) -> NDArray[np.float32]:
        """(r, count) float32 in [0, 1), multiples of 2**-24."""
        return (self.words(rows, count) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)

    def chance(self, rows: Index) -> NDArray[np.float64]:
        """(r,) float64 in [0, 1), multiples of 2**-53."""
        return (self.words(rows, 1)[:, 0] >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def normal(self, rows: Index, count: int) -> NDArray[np.float32]:
        """(r, count) float32 standard normal (Box & Muller 1958)."""
        radius = np.sqrt(-2.0 * np.log1p(-self.uniform(rows, count)))
        out: NDArray[np.float32] = radius * np.cos(np.float32(2 * np.pi) * self.uniform(rows, count))
        return out

    def subset(self, rows: Index, k: int, of: int) -> Index:
        """(r, k) different features out of `of`; all subsets are equally likely, up to 2**-32, as words are scaled and not redrawn."""
        if k >= of:
            return np.broadcast_to(np.arange(of), (len(rows), of)).copy()
        # Floyd's method: draw from the first of - k + 1, of - k + 2, ... features; a feature drawn before is replaced by the last of them.
        bounds = np.arange(of - k + 1, of + 1, dtype=np.uint64)
        drawn = (((self.words(rows, k) >> np.uint64(32)) * bounds) >> np.uint64(32)).astype(np.intp).T.copy()
        taken = np.zeros(len(rows) * of, np.bool_)
        first = np.arange(len(rows)) * of
        for newest, column in enumerate(drawn, start=of - k):
            column[taken[first + column]] = newest
            taken[first + column] = True
        return drawn.T.copy()
