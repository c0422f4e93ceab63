"""Copies of records: what they keep, how far they move, and that memory's pieces change nothing."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope import pieces, seeds
from memberscope.queries import BIT_RATES, NOISE_SCALES, augmentations, is_binary, is_image, perturbations, perturbed, shifted


def _images(n: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3)).astype(np.uint8)


def test_kinds_of_records() -> None:
    assert is_image(_images())
    assert not is_image(_images()[..., :2])
    assert not is_image(np.zeros((4, 9)))
    assert is_binary(np.zeros((2, 3), dtype=np.bool_))
    assert is_binary(np.eye(3, dtype=np.float32))
    assert not is_binary(_images())


def test_a_shift_moves_every_pixel_and_repeats_the_border() -> None:
    x = _images(3)
    down = shifted(x, 1, 0)
    np.testing.assert_array_equal(down[:, 1:], x[:, :-1])
    np.testing.assert_array_equal(down[:, 0], x[:, 0])
    left_up = shifted(x, -1, -1)
    np.testing.assert_array_equal(left_up[:, :-1, :-1], x[:, 1:, 1:])
    np.testing.assert_array_equal(left_up[:, -1, -1], x[:, -1, -1])
    assert shifted(x, 0, 1).dtype == np.uint8


def test_augmentations_begin_with_the_record_and_are_all_different() -> None:
    x = _images()
    copies = list(augmentations(x, 9))
    assert len(copies) == 9
    np.testing.assert_array_equal(copies[0], x)
    assert len({copy.tobytes() for copy in copies}) == 9
    assert len(list(augmentations(np.zeros((5, 7)), 5))) == 1


@pytest.mark.parametrize("dtype", [np.bool_, np.float32, np.uint8])
def test_bits_are_flipped_at_the_stated_rates(dtype: type) -> None:
    """40,000 bits: a rate of 0.01 within 4.5 standard errors, 0.0023; once in 150,000 by chance for each of eight."""
    x = (np.random.default_rng(1).random((200, 200)) < 0.3).astype(dtype)
    for number, copy in enumerate(perturbations(x, 8, seed=0)):
        rate = BIT_RATES[number % 4]
        assert copy.dtype == x.dtype
        assert is_binary(copy)
        assert abs((copy != x).mean() - rate) < 4.5 * np.sqrt(rate * (1 - rate) / x.size)


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255.0), (np.float32, 1.0)])
def test_noise_has_the_stated_scale_and_stays_in_the_range(dtype: type, top: float) -> None:
    x = np.full((100, 10, 10, 1), 0.5 * top).astype(dtype)
    for number, copy in enumerate(perturbations(x, 4, seed=0)):
        assert copy.dtype == dtype
        drawn = np.clip(np.random.default_rng(5).normal(0.5, NOISE_SCALES[number], 100_000), 0, 1)  # clipped as the copies are
        assert np.std(copy.astype(np.float64) - x) / top == pytest.approx(drawn.std(), rel=0.05)
    edge = np.zeros((10, 10, 10, 1), dtype=dtype)
    edge[0, 0, 0, 0] = top
    for copy in perturbations(edge, 4, seed=0):
        assert 0 <= copy.min() <= copy.max() <= top


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_numbers_of_any_range_move_in_their_own_units(dtype: type) -> None:
    """An age, an income and a standardized score, not in [0, 1]: noise goes by each feature's range and ends at its ends."""
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.integers(18, 90, 2000), rng.integers(10_000, 200_000, 2000), rng.normal(size=2000) * 3]).astype(
        dtype
    )
    for copy in perturbations(x, 4, seed=0):
        assert copy.dtype == dtype
        assert (copy.min(axis=0) >= x.min(axis=0)).all()
        assert (copy.max(axis=0) <= x.max(axis=0)).all()
    faint = perturbed(x, bit_rate=0.5, noise_scale=0.02, rng=np.random.default_rng(1)).astype(np.float64) - x
    np.testing.assert_allclose(faint[:, :2].std(axis=0) / np.ptp(x, axis=0)[:2], 0.02, rtol=0.1)
    assert (perturbed(x * 0, bit_rate=0.1, noise_scale=0.1, rng=rng) != 0).mean() == pytest.approx(0.1, abs=0.01), "bits"


def test_pieces_change_nothing_and_the_seed_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    x = _images()
    whole = list(perturbations(x, 4, seed=0))
    rng = seeds.stream(0, "perturb", 0)
    noise = rng.standard_normal(x.shape, dtype=np.float32) * np.float32(255.0 * NOISE_SCALES[0])
    np.testing.assert_array_equal(whole[0], np.round(np.clip(x.astype(np.float32) + noise, 0, 255)).astype(np.uint8))
    monkeypatch.setattr(pieces, "CHUNK_ELEMENTS", 7 * 8 * 8 * 3)
    for one, other, seeded in zip(whole, perturbations(x, 4, seed=0), perturbations(x, 4, seed=1), strict=True):
        np.testing.assert_array_equal(one, other)
        assert not np.array_equal(one, seeded)
