"""Copies of records with which an attacker queries a model: augmented ones, which a model may know as well as the record, and perturbed
ones, which reveal how far the record lies from the decision boundary. The functions map plain arrays to plain arrays; no model is queried
here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope import seeds
from memberscope.checks import row_chunks

Inputs = NDArray[Any]
SHIFTS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1))
BIT_RATES = (0.02, 0.05, 0.1, 0.25)
NOISE_SCALES = (0.02, 0.1, 0.4, 1.2)
"""Under the weakest, labels only begin to change; under the strongest, hardly any stay, so that few records tie at the top."""


def is_image(x: Inputs) -> bool:
    """Whether the shape is (n, height, width, channels) with one or three channels, and at least one pixel."""
    return x.ndim == 4 and x.shape[-1] in (1, 3) and x.shape[1] > 0 and x.shape[2] > 0


def is_binary(x: Inputs) -> bool:
    """Whether all values are zeros and ones."""
    return x.dtype == np.bool_ or bool(((x == 0) | (x == 1)).all())


def shifted(x: Inputs, down: int, right: int) -> Inputs:
    """Images (n, h, w, c) moved by whole pixels, the border repeated."""
    padded = np.pad(x, ((0, 0), (abs(down),) * 2, (abs(right),) * 2, (0, 0)), mode="edge")
    top, left = abs(down) - down, abs(right) - right
    return padded[:, top : top + x.shape[1], left : left + x.shape[2]]


def augmentations(x: Inputs, queries: int) -> Iterator[Inputs]:
    """The records themselves, then copies moved by one pixel (Carlini et al. 2022, section VI, query such copies of images).

    Args:
        x: (n, ...) records.
        queries: the number of copies in all, 1 to 9 for images. Other records have no such copies, and only the records are returned.

    Yields:
        `queries` arrays like `x`.
    """
    moves = SHIFTS[:queries] if is_image(x) else SHIFTS[:1]
    for down, right in moves:
        yield shifted(x, down, right) if (down, right) != (0, 0) else x


def perturbations(x: Inputs, copies: int, *, seed: int) -> Iterator[Inputs]:
    """Random copies at four strengths in turn (Choquette-Choo et al. 2021, section 4, robustness to random noise).

    Bits are flipped with the probabilities `BIT_RATES`; other numbers get Gaussian noise of `NOISE_SCALES` times their range, see
    `perturbed`.

    Args:
        x: (n, ...) records: bool, whole numbers or floats.
        copies: the number of arrays.
        seed: the streams ``("perturb", copy)`` draw them.

    Yields:
        `copies` arrays like `x`.
    """
    for copy in range(copies):
        strength = copy % len(BIT_RATES)
        yield perturbed(
            x, bit_rate=BIT_RATES[strength], noise_scale=NOISE_SCALES[strength], rng=seeds.stream(seed, "perturb", copy)
        )


def perturbed(x: Inputs, *, bit_rate: float, noise_scale: float, rng: np.random.Generator) -> Inputs:
    """One random copy: bits flipped with probability `bit_rate`, or Gaussian noise of `noise_scale` times the numbers' range.

    The range is 255 for bytes, 1 for floats in [0, 1], and else each feature's own among `x`; copies are clipped to it.
    """
    binary, width, out = is_binary(x), int(np.prod(x.shape[1:])), np.empty_like(x)
    low, high = (0.0, 1.0) if binary else _range(x)
    for rows in row_chunks(len(x), width):  # avoids a float copy of all images at once
        part = x[rows]
        if binary:
            flip = rng.random(part.shape, dtype=np.float32) < bit_rate
            out[rows] = np.where(flip, 1 - part.astype(np.int8), part).astype(x.dtype)
            continue
        noise = rng.standard_normal(part.shape, dtype=np.float32) * np.asarray((high - low) * noise_scale, dtype=np.float32)
        moved = np.clip(part.astype(np.float32) + noise, low, high)
        out[rows] = (np.round(moved) if x.dtype.kind in "iu" else moved).astype(x.dtype)
    return out


def _range(x: Inputs) -> tuple[Any, Any]:
    """The smallest and largest values that a copy may have, for all features together or for each."""
    if x.dtype == np.uint8:
        return 0.0, 255.0
    if x.dtype.kind == "f" and bool(((x >= 0) & (x <= 1)).all()):
        return 0.0, 1.0
    return x.min(axis=0).astype(np.float32), x.max(axis=0).astype(np.float32)
