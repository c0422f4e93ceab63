from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from memberscope.datasets import load_dataset
from memberscope.datasets.values import as_stored
from memberscope.errors import UserError

IMAGES = np.arange(2 * 4 * 4).reshape(2, 4, 4, 1)


@pytest.mark.parametrize(
    ("x", "kind", "largest", "note"),
    [
        (IMAGES.astype(np.uint8), np.uint8, 31, ""),
        (IMAGES.astype(np.int64), np.uint8, 31, "divided by 255"),
        (IMAGES.astype(np.uint16), np.uint8, 31, "divided by 255"),
        (IMAGES.astype(np.float64), np.uint8, 31, "divided by 255"),
        (
            (IMAGES * 2114).astype(np.uint16),
            np.float32,
            31 * 2114 / 65_535,
            "divided by 65,535, the largest number with 16 bits",
        ),
        ((IMAGES * 132).astype(np.uint16), np.float32, 31 * 132 / 4_095, "divided by 4,095, the largest number with 12 bits"),
        ((IMAGES * 132).astype(np.int32), np.float32, 31 * 132 / 4_095, "divided by 4,095"),
        (IMAGES / 31, np.float32, 1.0, ""),
        ((IMAGES / 31).astype(np.float16), np.float32, 1.0, ""),
        (IMAGES > 7, np.bool_, 1.0, ""),
        ((IMAGES > 7).astype(np.uint8), np.bool_, 1.0, "read as bits"),
        ((IMAGES > 7).astype(np.int64), np.float32, 1.0, ""),
        ((IMAGES > 7)[:, :, 0, 0].astype(np.uint8), np.bool_, 1.0, "read as bits"),
        (np.zeros((2, 3), np.uint8), np.uint8, 0, ""),
    ],
)
def test_values_are_scaled_and_said(x: np.ndarray, kind: type, largest: float, note: str) -> None:
    before = x.copy()
    found, said = as_stored(x, where="x")
    assert found.dtype == kind
    assert float(found.max()) == pytest.approx(largest, rel=1e-3)
    assert note in said
    assert bool(note) == bool(said)
    assert np.array_equal(x, before)


@pytest.mark.parametrize(
    ("x", "part"),
    [
        (IMAGES - 5, "from -5 to 26; allowed: uint8, or numbers in \\[0, 1\\]"),
        (IMAGES + 0.5, "from 0.5 to 31.5; .*divide by the largest possible value of a pixel"),
        (IMAGES * 9.0, "from 0 to 279; "),
        (IMAGES[:, :, 0, 0].astype(np.int64), "from 0 to 28; allowed: uint8, or numbers"),
        (IMAGES / 31 * 2 - 1, "from -1 to 1"),
        (np.where(IMAGES == 3, np.nan, 0.5), "missing or infinite"),
        (np.where(IMAGES == 3, np.inf, 0.5), "missing or infinite"),
        (IMAGES.astype(np.complex64), "complex64"),
    ],
)
def test_values_of_no_known_scale_are_refused(x: np.ndarray, part: str) -> None:
    with pytest.raises(UserError, match=part):
        as_stored(x, where="dataset=own.npz: x")


def test_a_file_says_what_was_done(tmp_path: Path) -> None:
    np.savez(tmp_path / "deep.npz", x=(IMAGES * 2114).astype(np.uint16), y=np.array([0, 1]))
    data = load_dataset(str(tmp_path / "deep.npz"))
    assert data.scaled(np.arange(2)).max() == pytest.approx(31 * 2114 / 65_535, rel=1e-6)
    assert data.notes == ("uint16 images with values from 0 to 65534 were divided by 65,535, the largest number with 16 bits",)


@pytest.mark.parametrize(
    ("y", "names", "expected"),
    [
        (np.array([1, 0, 2, 1]), ("0", "1", "2"), [1, 0, 2, 1]),
        (np.array([1, 0, 5, 1], np.uint64), tuple(map(str, range(6))), [1, 0, 5, 1]),
        (np.array([10_115, 94_043, 10_115, 60_601]), ("10115", "60601", "94043"), [0, 2, 0, 1]),
        (np.array([900_000_000_000_000_003, 4, 5, 4]), ("4", "5", "900000000000000003"), [2, 0, 1, 0]),
        (np.array(["dog", "cat", "NA", "dog"]), ("NA", "cat", "dog"), [2, 1, 0, 2]),
        (np.array([True, False, True, True]), ("0", "1"), [1, 0, 1, 1]),
    ],
)
def test_codes_and_words_are_classes(tmp_path: Path, y: np.ndarray, names: tuple[str, ...], expected: list[int]) -> None:
    np.savez(tmp_path / "own.npz", x=np.arange(4)[:, None] / 4, y=y)
    data = load_dataset(str(tmp_path / "own.npz"))
    assert data.class_names == names
    assert data.y.tolist() == expected


def test_negative_labels_say_what_to_do(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", x=np.arange(4)[:, None] / 4, y=np.array([0, 1, -1, 2]))
    with pytest.raises(
        UserError, match="labels from -1 to 2, for 3 classes; allowed: 0 to 2: leave out records without a label"
    ):
        load_dataset(str(tmp_path / "own.npz"))
