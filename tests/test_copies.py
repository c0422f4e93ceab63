"""Rows that are exact copies of one another, against a dictionary of bytes."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.copies import first_copies


def by_hand(*arrays: np.ndarray) -> list[int]:
    seen: dict[tuple[object, ...], int] = {}
    return [
        seen.setdefault(tuple(array[row].tolist() if array.ndim == 1 else str(array[row].tolist()) for array in arrays), row)
        for row in range(len(arrays[0]))
    ]


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.uint64, np.float16, np.float32, np.float64, "U3", "S5"])
def test_first_copies_are_those_of_a_dictionary(dtype: object) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (900, 2, 3)).astype(dtype)  # 64 different records, so that most are copies
    y = rng.integers(0, 3, 900)
    assert first_copies(x).tolist() == by_hand(x)
    assert first_copies(x, y).tolist() == by_hand(x, y)
    assert first_copies(y).tolist() == by_hand(y)
    assert len(set(first_copies(x, y).tolist())) > len(set(first_copies(x).tolist())) == 64


def test_records_that_differ_in_one_bit_are_two() -> None:
    x = np.repeat(np.arange(256, dtype=np.uint8), 2)[:, None, None] * np.ones((512, 7, 7), np.uint8)
    assert len(set(first_copies(x).tolist())) == 256
    x[1::2, 6, 6] ^= 1
    assert first_copies(x).tolist() == list(range(512))


def test_zeros_of_either_sign_and_missing_numbers_are_equal() -> None:
    x = np.array([[0.0, np.nan], [-0.0, -np.nan], [0.0, 1.0], [0.0, np.nan]])
    before = x.copy()
    assert first_copies(x).tolist() == [0, 0, 2, 0]
    assert np.array_equal(x, before, equal_nan=True), "what is given is not changed"
    assert np.signbit(x[1, 0])


def test_two_rows_with_one_checksum_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    from memberscope import copies

    monkeypatch.setattr(copies, "_checksums", lambda array: np.zeros(len(array), np.uint64))
    assert first_copies(np.array([[1], [2], [1], [3]])).tolist()[:2] == [0, 1]


def test_columns_that_are_not_there_tell_nothing() -> None:
    assert first_copies(np.empty((3, 0))).tolist() == [0, 1, 2]
    assert first_copies(np.empty((3, 0)), np.array([1, 1, 2])).tolist() == [0, 0, 2]
