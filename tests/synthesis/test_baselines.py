"""Noisy real data, marginals and junk: what they keep of the real records and what they lose."""

from __future__ import annotations

import math

import numpy as np
import pytest

from memberscope.errors import UserError
from memberscope.synthesis.baselines import junk, marginals, noisy


def real(n: int = 2000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ten bits, each the copy of the first but for a tenth; the label is the first bit."""
    rng = np.random.default_rng(seed)
    first = rng.random(n) < 0.3
    x = first[:, None] ^ (rng.random((n, 10)) < 0.1)
    x[:, 0] = first
    return x.astype(np.float32), first.astype(np.int64)


def test_noise_flips_exactly_the_share_of_bits_anywhere() -> None:
    x, y = real()
    noisy_x, noisy_y = noisy(x, y, binary=True, share=0.2, seed=0)
    flipped = noisy_x != x
    assert (flipped.sum(axis=1) == 2).all()
    z = (flipped.mean(axis=0) - 0.2) / math.sqrt(0.2 * 0.8 / len(x))
    assert np.abs(z).max() < 4.5
    assert np.array_equal(noisy_y, y)
    assert np.array_equal(noisy_x, noisy(x, y, binary=True, share=0.2, seed=0)[0])
    assert np.array_equal(noisy(x, y, binary=True, share=0.0, seed=0)[0], x)
    assert np.array_equal(noisy(x, y, binary=True, share=1.0, seed=0)[0], 1 - x)
    with pytest.raises(UserError, match=r"share=1\.5"):
        noisy(x, y, binary=True, share=1.5, seed=0)
    with pytest.raises(UserError, match="values other than 0 and 1"):
        noisy(x / 2, y, binary=True, share=0.1, seed=0)


def test_noise_redraws_pixels_in_their_bounds() -> None:
    images = np.full((50, 4, 4, 1), 0.5, np.float32)
    out, _ = noisy(images, np.zeros(50, np.int64), binary=False, share=0.25, seed=1)
    assert out.shape == images.shape
    assert ((out != images).reshape(50, -1).sum(axis=1) == 4).all()
    assert out.min() >= 0
    assert out.max() <= 1


def test_marginals_keep_each_feature_and_nothing_of_their_ties() -> None:
    x, _ = real()
    asked = []

    def target(records: np.ndarray) -> np.ndarray:
        asked.append(len(records))
        return np.stack([1 - records[:, 0], records[:, 0]], axis=1)

    drawn, label = marginals(x, target, records=4000, seed=0, draws=1)
    assert sum(asked) == 4000
    assert np.array_equal(label, drawn[:, 0])
    z = (drawn.mean(axis=0) - x.mean(axis=0)) / np.sqrt(x.mean(axis=0) * (1 - x.mean(axis=0)) / 4000)
    assert np.abs(z).max() < 4.5
    assert np.abs(np.corrcoef(drawn.T) - np.eye(10)).max() < 5 / math.sqrt(4000)
    assert np.corrcoef(x.T)[0, 1] > 0.7


def test_marginals_even_out_the_classes_as_far_as_they_come_up() -> None:
    x, _ = real()
    drawn, label = marginals(x, lambda r: r[:, 0].astype(np.int64), records=600, seed=0, draws=5)
    assert np.bincount(label).tolist() == [300, 300]
    assert np.array_equal(label, drawn[:, 0])
    _, scarce = marginals(x, lambda r: r[:, :3].all(axis=1).astype(np.int64), records=600, seed=0, draws=2)
    assert len(scarce) == 600
    assert 0 < scarce.sum() < 300


def test_junk_says_nothing() -> None:
    x, y = junk((8,), records=3000, classes=3, binary=True, seed=0)
    assert set(np.unique(x)) == {0.0, 1.0}
    assert np.bincount(y).tolist() == [1000] * 3
    by_class = np.stack([x[y == c].mean(axis=0) for c in range(3)])
    assert np.abs(by_class - 0.5).max() < 5 * 0.5 / math.sqrt(1000)
    images, _ = junk((4, 4, 1), records=100, classes=3, binary=False, seed=0, high=2.0)
    assert images.shape == (100, 4, 4, 1)
    assert 1 < images.max() < 2
