"""Grids over images, and the copies by which a target judges them."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.synthesis.draws import Draws, start
from memberscope.synthesis.hill_climb import HillClimbConfig
from memberscope.synthesis.moves import STEP, GridMoves, Smoothing, grids_for, spread


@pytest.mark.parametrize(("side", "grids"), [(32, (4, 8, 8)), (8, (4, 4)), (64, (4, 8, 16, 16)), (3, (3, 3))])
def test_grids_go_from_coarse_to_fine_and_end_with_the_finest_twice(side: int, grids: tuple[int, ...]) -> None:
    assert grids_for(side) == grids


@pytest.mark.parametrize("level", [1, 4, 8, 32])
def test_nodes_share_every_pixel_out(level: int) -> None:
    weight = spread(level, 32)
    assert weight.shape == (32, level)
    assert np.allclose(weight.sum(axis=1), 1.0)
    assert np.allclose(weight.sum(axis=0), 32 / level)
    if level == 32:
        assert np.array_equal(weight, np.eye(32))


def test_a_move_is_the_sum_of_its_nodes_and_can_be_undone() -> None:
    shape = (16, 16, 3)
    moves = GridMoves(shape, grids=(4, 8), low=-100.0, high=100.0, background=0.0)
    assert (moves.size(0), moves.size(1)) == (48, 192)
    draws, twin = (Draws(start(0, np.arange(6))) for _ in range(2))
    x, rows = np.zeros((6, 768), np.float32), np.array([1, 2, 4])
    k, level = np.full(6, 5), np.array([0, 0, 1, 1, 1, 1])
    undo = moves.propose(x, draws, rows, k, level)
    for row in rows:
        nodes = (4, 8)[level[row]]
        at, steps = twin.subset(np.array([row]), 5, nodes**2 * 3)[0], twin.normal(np.array([row]), 5)[0] * STEP * 200.0
        expected = np.zeros(shape)
        for node, step in zip(at, steps, strict=True):
            channel, i, j = np.unravel_index(node, (3, nodes, nodes))
            expected[:, :, channel] += step * np.outer(spread(nodes, 16)[:, i], spread(nodes, 16)[:, j])
        assert np.allclose(x[row].reshape(shape), np.clip(expected, -100, 100), atol=1e-3)
    assert not x[[0, 3, 5]].any()
    kept = x[2].copy()
    undo(np.array([True, True, False, True, True, True]))
    assert np.array_equal(x[2], kept)
    assert not x[[1, 4]].any()


def test_copies_are_fixed_shifted_hidden_and_noisy() -> None:
    shape = (16, 16, 1)
    x = np.random.default_rng(0).random((2, *shape)).astype(np.float32)
    plain = Smoothing(shape, copies=9, noise=0.0, shift=3, coarse=4, low=0.0, high=1.0, background=0.25, seed=0)
    assert np.array_equal(plain.copy(x, 0), x)
    for number in range(1, 9):
        copy = plain.copy(x, number)
        hidden = (copy == 0.25).all(axis=(0, 3))
        assert hidden.sum() == 64
        rolled = [np.roll(x, (a, b), axis=(1, 2)) for a in range(-3, 4) for b in range(-3, 4)]
        assert sum(np.array_equal(one[:, ~hidden], copy[:, ~hidden]) for one in rolled) == 1
    noisy = Smoothing(shape, copies=9, noise=0.3, shift=0, coarse=4, low=-9.0, high=9.0, background=0.0, seed=0)
    zero = np.zeros((1, *shape), np.float32)
    assert np.array_equal(noisy.copy(zero, 5), noisy.copy(zero, 5))
    white = np.stack([noisy.copy(zero, number) for number in (1, 3, 5, 7)])
    assert abs(white.std() / (0.3 * 18) - 1) < 0.2
    assert abs(np.diff(white, axis=2)).mean() > 2 * abs(np.diff(noisy.copy(zero, 4), axis=1)).mean()


def test_the_settings_for_images_can_be_changed() -> None:
    config = HillClimbConfig.images(classes=10, records=20, copies=3)
    assert (config.kind, config.gridded, config.copies, config.rej_max) == ("image", True, 3, 8)
