"""Copies of records that an attacker asks a model about: augmented ones, which a model may know as well as the record, and perturbed ones,
which tell how far the record lies from the decision boundary. Plain arrays in, plain arrays out; nothing is asked here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope import seeds
from memberscope.checks import row_chunks

Records = NDArray[Any]
SHIFTS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1))
BIT_RATES = (0.01, 0.02, 0.05, 0.1)
NOISE_SCALES = (0.02, 0.05, 0.1, 0.2)


def is_image(x: Records) -> bool:
    """(n, height, width, channels) with one or three channels?"""
    return x.ndim == 4 and x.shape[-1] in (1, 3)


def is_binary(x: Records) -> bool:
    """Only zeros and ones?"""
    return x.dtype == np.bool_ or bool(((x == 0) | (x == 1)).all())


def shifted(x: Records, down: int, right: int) -> Records:
    """Images (n, h, w, c) moved by whole pixels, the border repeated."""
    padded = np.pad(x, ((0, 0), (abs(down),) * 2, (abs(right),) * 2, (0, 0)), mode="edge")
    top, left = abs(down) - down, abs(right) - right
    return padded[:, top : top + x.shape[1], left : left + x.shape[2]]


def augmentations(x: Records, queries: int) -> Iterator[Records]:
    """The records themselves, then copies moved by one pixel (Carlini et al. 2022, section VI, query such copies of images).

    Args:
        x: (n, ...) records.
        queries: how many copies in all, 1 to 9 for images. Other records have no such copies: the records alone are given.

    Yields:
        `queries` arrays like `x`.
    """
    moves = SHIFTS[:queries] if is_image(x) else SHIFTS[:1]
    for down, right in moves:
        yield shifted(x, down, right) if (down, right) != (0, 0) else x


def perturbations(x: Records, copies: int, *, seed: int) -> Iterator[Records]:
    """Random copies at four strengths in turn (Choquette-Choo et al. 2021, section 4, robustness to random noise).

    Bits are flipped with probability 0.01, 0.02, 0.05 and 0.1; other numbers get Gaussian noise of 0.02, 0.05, 0.1 and 0.2 of the
    range of their type (255, or 1) and are clipped to it.

    Args:
        x: (n, ...) records: bool, uint8, or floats in [0, 1].
        copies: how many arrays.
        seed: the streams ``("perturb", copy)`` draw them.

    Yields:
        `copies` arrays like `x`.
    """
    binary, width = is_binary(x), int(np.prod(x.shape[1:]))
    for copy in range(copies):
        rng, out = seeds.stream(seed, "perturb", copy), np.empty_like(x)
        for rows in row_chunks(len(x), width):  # no float copy of all images at once
            out[rows] = _perturbed(x[rows], copy, rng, binary=binary)
        yield out


def _perturbed(x: Records, copy: int, rng: np.random.Generator, *, binary: bool) -> Records:
    if binary:
        flip = rng.random(x.shape, dtype=np.float32) < BIT_RATES[copy % len(BIT_RATES)]
        return np.where(flip, 1 - x.astype(np.int8), x).astype(x.dtype)
    top = 255.0 if x.dtype == np.uint8 else 1.0
    noise = rng.standard_normal(x.shape, dtype=np.float32) * np.float32(top * NOISE_SCALES[copy % len(NOISE_SCALES)])
    moved = np.clip(x.astype(np.float32) + noise, 0.0, top)
    return (np.round(moved) if x.dtype == np.uint8 else moved).astype(x.dtype)
