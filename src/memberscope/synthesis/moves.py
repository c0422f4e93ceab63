"""The start of a climb and its moves: features of a table, pixels, or the nodes of a coarse grid over an image.

`FeatureMoves` changes k features at a time, as published. `GridMoves` changes k nodes of a coarse grid, which are spread over the image by
bilinear interpolation: a low-frequency basis that is refined during the climb. A climb over pixels finds noise that the target takes for a
class, since a single pixel carries hardly any information; on a coarse grid there is no such noise to find.

`Smoothing` goes further: the target is queried with several copies of a record that are noisy and shifted, each with a hidden window.
Changes that noise undoes then gain nothing, and the climb is left with the features that a class really has (randomized smoothing, Cohen,
Rosenfeld & Kolter 2019, section 3; Kaur, Cohen & Lipton 2019 show that gradients of smoothed models look like classes). Because of the
windows, the one stroke by which a class is recognized is not enough (cutout, DeVries & Taylor 2017, applied to the attack). Each copy is
counted as a query.
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
"""Takes a mask (n,) of records whose proposals were rejected, and restores these records."""

STEP = 0.5  # standard deviation of a move on the grid, as a share of the range of a pixel
SHARE = 0.25  # share of a grid's nodes that are moved at a time at first


class Moves(Protocol):
    """The moves on one kind of feature. `levels` is the number of levels of refinement; `size(level)` is the number of features there."""

    levels: int

    def size(self, level: int) -> int:
        """The number of features at `level`."""
        ...

    def begin(self, x: Inputs, draws: Draws, rows: Index) -> None:
        """Write a random record (RANDRECORD(), line 2) into each of `rows` of `x` (n, d)."""
        ...

    def propose(self, x: Inputs, draws: Draws, rows: Index, k: Index, level: Index) -> Undo:
        """Change k[row] features of each of `rows` of `x` (n, d) in place (RANDRECORD(x*, k), line 24)."""
        ...


def groups(rows: Index, k: Index, level: Index | None = None) -> list[tuple[Index, int, int]]:
    """`rows` grouped by k and level, both (n,) over all climbs; each group is (rows, k, level)."""
    base = int(k[rows].max(initial=0)) + 1
    key = k[rows] if level is None else k[rows] + base * level[rows]
    return [(rows[key == value], int(value % base), int(value // base)) for value in np.flatnonzero(np.bincount(key))]


class FeatureMoves:
    """Moves of single features out of d: bits are flipped, real numbers drawn anew in [low, high] (Shokri et al. 2017, section V-C)."""

    levels = 1

    def __init__(self, d: int, *, binary: bool, low: float, high: float, ones: float = 0.5) -> None:
        """`ones` is the share of ones in a random binary record; one half is a coin flip for each bit, as published."""
        self._d, self._binary, self._ones = d, binary, ones
        self._low, self._span = np.float32(low), np.float32(high - low)

    def size(self, level: int) -> int:
        """The number of features, d."""
        return self._d

    def begin(self, x: Inputs, draws: Draws, rows: Index) -> None:
        """Start from coin flips, or uniform numbers."""
        u = draws.uniform(rows, self._d)
        x[rows] = (u < self._ones) if self._binary else self._low + self._span * u

    def propose(self, x: Inputs, draws: Draws, rows: Index, k: Index, level: Index) -> Undo:
        """Flip k different features, or draw them anew."""
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
    """The weight of each of `level` nodes at each of `side` pixels, (side, level): linear between the centres of the nodes."""
    position = np.clip((np.arange(side) + 0.5) * level / side - 0.5, 0, level - 1)
    weight: Inputs = np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(level))).astype(np.float32)
    return weight


class GridMoves:
    """Moves of the nodes of coarse grids over images (height, width, channels): normal steps at k nodes of the current grid.

    A climb starts from a plain `background`: if it started from noise, the noise would stay in the image, as nothing removes it.
    """

    def __init__(self, shape: tuple[int, ...], *, grids: tuple[int, ...], low: float, high: float, background: float) -> None:
        """`grids` are the numbers of nodes per side, from coarse to fine."""
        self._shape, self._grids, self.levels = shape, grids, len(grids)
        self._low, self._high, self._background = np.float32(low), np.float32(high), np.float32(background)
        self._rows = [spread(grid, shape[0]) for grid in grids]
        self._columns = [spread(grid, shape[1]).T.copy() for grid in grids]

    def size(self, level: int) -> int:
        """The number of nodes of the grid at `level`, in all channels."""
        return self._grids[level] ** 2 * self._shape[2]

    def begin(self, x: Inputs, draws: Draws, rows: Index) -> None:
        """Start from the background."""
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
    """Numbers of nodes per side, from coarse to fine: 4, 8, ... up to a quarter of the image's side, the last twice; at least one grid."""
    grids = tuple(2**power for power in range(2, max(3, int(math.log2(max(side, 4) / 4)) + 1)))
    grids = tuple(grid for grid in grids if grid <= side) or (side,)
    return (*grids, grids[-1])


class Smoothing:
    """Copies of images with which the target is queried: the first is unchanged; the others are shifted, have a window of half the image's
    sides filled with the background, and get normal noise.

    The noise of every other copy is white, and that of the rest is as coarse as the `coarse` x `coarse` grid. Noise, shifts and windows are
    drawn once from the seed, so that they are the same for every proposal: otherwise a proposal with a lucky draw would be kept for good.
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
        """`noise` is its standard deviation as a share of a pixel's range; `shift` is the largest shift in pixels, in each direction."""
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
