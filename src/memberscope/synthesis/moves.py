"""How a climb starts and what it may change: features of a table, pixels, or a coarse grid laid over an image.

`features` moves k features at once, as published. `grid` moves k nodes of a grid of `level` x `level` nodes, spread over the image by
bilinear interpolation: a low-frequency basis, refined as the climb goes on. A climb over pixels finds noise that the target takes for
a class, since each pixel by itself tells next to nothing; over a coarse grid there is no such noise to find.

`Smoothing` goes further: it has the target judge a record by several copies of itself, noisy, shifted, each with a window hidden. What
noise can undo then earns nothing, and what is left to climb is what the class looks like (randomized smoothing, Cohen, Rosenfeld & Kolter
2019, section 3; that gradients of smoothed models look like classes is Kaur, Cohen & Lipton 2019). The windows ask for more than the one
stroke by which a class is told (cutout, DeVries & Taylor 2017, turned on the attack). Each copy is a query and is counted as one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from memberscope import seeds
from memberscope.synthesis.draws import Draws, Index

Inputs = NDArray[np.float32]
Undo = Callable[[NDArray[np.bool_]], None]
"""Takes a mask (n,) of records whose proposal was rejected, and puts back what they were."""

STEP = 0.5  # deviation of a grid move, of the range of a pixel
SHARE = 0.25  # of a grid's nodes move at first


class Moves(Protocol):
    """A kind of feature. `levels` is how often the climb is refined; `size(level)` how many features it moves among there."""

    levels: int

    def size(self, level: int) -> int:
        """How many features there are to move at `level`."""
        ...

    def begin(self, x: Inputs, draws: Draws, rows: Index) -> None:
        """Write a random record (RANDRECORD(), line 2) into each of `rows` of `x` (n, d)."""
        ...

    def propose(self, x: Inputs, draws: Draws, rows: Index, k: Index, level: Index) -> Undo:
        """Change k[row] features of each of `rows` of `x` (n, d) in place (RANDRECORD(x*, k), line 24)."""
        ...


def groups(rows: Index, k: Index, level: Index | None = None) -> list[tuple[Index, int, int]]:
    """`rows` split by k and level, both (n,) over all climbs: (rows, k, level) each."""
    base = int(k[rows].max(initial=0)) + 1
    key = k[rows] if level is None else k[rows] + base * level[rows]
    return [(rows[key == value], int(value % base), int(value // base)) for value in np.flatnonzero(np.bincount(key))]


class FeatureMoves:
    """Single features of d: bits are flipped, real numbers drawn anew in [low, high] (Shokri et al. 2017, section V-C)."""

    levels = 1

    def __init__(self, d: int, *, binary: bool, low: float, high: float, ones: float = 0.5) -> None:
        """`ones` is the share of ones that a random binary record has; one half is a coin flip a bit, as published."""
        self._d, self._binary, self._ones = d, binary, ones
        self._low, self._span = np.float32(low), np.float32(high - low)

    def size(self, level: int) -> int:
        """d."""
        return self._d

    def begin(self, x: Inputs, draws: Draws, rows: Index) -> None:
        """Coin flips, or uniform numbers."""
        u = draws.uniform(rows, self._d)
        x[rows] = (u < self._ones) if self._binary else self._low + self._span * u

    def propose(self, x: Inputs, draws: Draws, rows: Index, k: Index, level: Index) -> Undo:
        """Flip, or redraw, k different features."""
        flat = x.reshape(-1)
        done: list[tuple[Index, Index, Inputs]] = []
        for group, count, _ in groups(rows, k):
            at = draws.subset(group, count, self._d)
            at += group[:, None] * self._d
            old = flat[at]
            flat[at] = 1 - old if self._binary else self._low + self._span * draws.uniform(group, count)
            done.append((group, at, old))

        def undo(rejected: NDArray[np.bool_]) -> None:
            for group, at, old in done:
                back = rejected[group]
                flat[at[back]] = old[back]

        return undo


def spread(level: int, side: int) -> Inputs:
    """(side, level): how much of each of `level` nodes reaches each of `side` pixels, bilinear between the nodes' centres."""
    position = np.clip((np.arange(side) + 0.5) * level / side - 0.5, 0, level - 1)
    weight: Inputs = np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(level))).astype(np.float32)
    return weight


class GridMoves:
    """Nodes of coarse grids over images (height, width, channels), each move a normal step at k nodes of the current grid.

    A climb starts from a plain `background`: noise on which it would start otherwise stays in the image, for nothing ever asks it to
    leave.
    """

    def __init__(self, shape: tuple[int, ...], *, grids: tuple[int, ...], low: float, high: float, background: float) -> None:
        """`grids`: nodes a side, coarse to fine."""
        self._shape, self._grids, self.levels = shape, grids, len(grids)
        self._low, self._high, self._background = np.float32(low), np.float32(high), np.float32(background)
        self._rows = [spread(grid, shape[0]) for grid in grids]
        self._columns = [spread(grid, shape[1]).T.copy() for grid in grids]

    def size(self, level: int) -> int:
        """Nodes of the grid at `level`, of all channels."""
        return self._grids[level] ** 2 * self._shape[2]

    def begin(self, x: Inputs, draws: Draws, rows: Index) -> None:
        """The background."""
        x[rows] = self._background

    def propose(self, x: Inputs, draws: Draws, rows: Index, k: Index, level: Index) -> Undo:
        """Add normal steps at k different nodes, spread over their pixels, and clip to the bounds."""
        before = x[rows]
        scale = np.float32(STEP) * (self._high - self._low)
        for group, count, at_level in groups(rows, k, level):
            nodes, channels = self._grids[at_level], self._shape[2]
            steps = np.zeros((len(group), self.size(at_level)), np.float32)
            at = draws.subset(group, count, steps.shape[1])
            np.put_along_axis(steps, at, scale * draws.normal(group, count), axis=1)
            image = self._rows[at_level] @ steps.reshape(-1, channels, nodes, nodes) @ self._columns[at_level]
            moved = x[group] + np.moveaxis(image, 1, 3).reshape(len(group), -1)
            x[group] = np.clip(moved, self._low, self._high)

        def undo(rejected: NDArray[np.bool_]) -> None:
            back = rejected[rows]
            x[rows[back]] = before[back]

        return undo


def grids_for(side: int) -> tuple[int, ...]:
    """Nodes a side, coarse to fine: 4, 8, ... up to a quarter of the image's side, and at least one grid."""
    grids = tuple(2**power for power in range(2, max(3, int(math.log2(max(side, 4) / 4)) + 1)))
    grids = tuple(grid for grid in grids if grid <= side) or (side,)
    return (*grids, grids[-1])


class Smoothing:
    """Copies of images by which the target judges each: the first as it is, the others shifted, with a window of half the image's sides
    painted in the background's colour, under normal noise.

    The noise of every other copy is white, that of the rest as coarse as the `coarse` x `coarse` grid. Noise, shifts and windows are drawn
    once, from the seed: every proposal faces the same ones, or a lucky draw would be kept for good.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        copies: int,
        noise: float,
        shift: int,
        coarse: int,
        low: float,
        high: float,
        background: float,
        seed: int,
    ) -> None:
        """`noise` is the deviation, of the range of a pixel; `shift` the largest shift in pixels each way."""
        rng = seeds.stream(seed, "synthesis", "smoothing")
        self._shape, self.copies, self._low, self._high = shape, copies, np.float32(low), np.float32(high)
        self._shifts = rng.integers(-shift, shift + 1, size=(copies, 2))
        self._noise = np.zeros((copies, *shape), np.float32)
        rows, columns = spread(coarse, shape[0]), spread(coarse, shape[1]).T
        for copy in range(1, copies):
            white = rng.normal(size=shape)
            flat = rng.normal(size=(shape[2], coarse, coarse))
            field = white if copy % 2 else np.moveaxis(rows @ flat @ columns, 0, 2)
            self._noise[copy] = noise * (high - low) * field
        sides = np.array([max(1, shape[0] // 2), max(1, shape[1] // 2)])
        self._windows = [
            (slice(top, top + sides[0]), slice(left, left + sides[1]))
            for top, left in rng.integers(0, np.array(shape[:2]) - sides + 1, size=(copies, 2))
        ]
        self._background = np.float32(background)

    def copy(self, x: Inputs, number: int) -> Inputs:
        """Copy `number` of the images `x` (n, height, width, channels)."""
        if number == 0:
            return x
        moved = np.roll(x, self._shifts[number], axis=(1, 2))
        moved[:, *self._windows[number]] = self._background
        moved += self._noise[number]
        return np.clip(moved, self._low, self._high, out=moved)
