"""TFDS sets whose splits overlap, whose records lack labels, or whose images have more than eight bits: sets that are made here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memberscope.datasets import LabeledData, load_dataset
from memberscope.errors import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (80, 6, 6, 1), dtype=np.uint8)
LABELS = RNG.integers(0, 3, 80)


def prepare(
    folder: Path, name: str, splits: Mapping[str, list[int]], *, images: np.ndarray = IMAGES, labels: np.ndarray = LABELS
) -> None:
    """A TFDS set of that name in `folder`, with these rows of `images` and `labels` in each split."""
    import tensorflow_datasets as tfds

    def info(self: Any) -> Any:
        image = tfds.features.Image(shape=images.shape[1:], dtype=images.dtype)
        features = tfds.features.FeaturesDict({"image": image, "label": tfds.features.ClassLabel(num_classes=3)})
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=("image", "label"))

    def examples(self: Any, rows: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        for place, row in enumerate(rows):
            yield place, {"image": images[row], "label": int(labels[row])}

    made = type(
        "".join(part.title() for part in name.split("_")),
        (tfds.core.GeneratorBasedBuilder,),
        {
            "VERSION": tfds.core.Version("1.0.0"), "_info": info, "_generate_examples": examples, "__module__": __name__,
            "_split_generators": lambda self, manager: {key: self._generate_examples(rows) for key, rows in splits.items()},
        },
    )  # fmt: skip
    tfds.disable_progress_bar()
    made(data_dir=str(folder)).download_and_prepare()


def rows_of(data: LabeledData) -> set[bytes]:
    return {image.tobytes() for image in data.x}


def test_a_split_that_is_a_part_of_another_counts_once(tmp_path: Path) -> None:
    train, test = list(range(50)), list(range(50, 70))
    prepare(
        tmp_path, "nested_splits", {"train": train, "test": test, "small1": list(range(25)), "extra": [3, 55, *range(70, 80)]}
    )
    data = load_dataset("tfds:nested_splits", data_dir=str(tmp_path))
    assert (len(data), len(rows_of(data)), data.copies) == (80, 80, 27)
    assert data.source.endswith("splits train + test + extra pooled")
    assert data.notes == (
        "2 of 12 records of extra are also in train + test, and count once",
        "25 of 25 records of small1 are also in train, and count once",
    )
    assert (data.sizes.nonmembers, data.sizes.validation) == (20, 10)
    kept = load_dataset("tfds:nested_splits", data_dir=str(tmp_path), duplicates="keep")
    assert len(kept) == 80, "a record of two splits is one record, whatever is asked"
    with pytest.raises(UserError, match=r"duplicates=refuse: 27 of 107 records of nested_splits"):
        load_dataset("tfds:nested_splits", data_dir=str(tmp_path), duplicates="refuse")


def test_copies_within_a_split_are_dropped_or_kept(tmp_path: Path) -> None:
    prepare(tmp_path, "twice_over", {"train": [*range(30), *range(10)], "test": list(range(30, 40))})
    dropped, kept = (load_dataset("tfds:twice_over", data_dir=str(tmp_path), duplicates=word) for word in ("drop", "keep"))
    assert (len(dropped), dropped.copies) == (40, 10)
    assert dropped.notes == ("10 of 50 records are exact copies of others and were left out: each record counts once",)
    assert (len(kept), len(rows_of(kept)), kept.copies) == (50, 40, 10)


def test_records_without_a_label_are_left_out_and_said(tmp_path: Path) -> None:
    labels = LABELS.copy()
    labels[60:] = -1
    labels[:4] = -1
    splits = {"train": list(range(60)), "test": list(range(60, 80))}
    prepare(tmp_path, "half_labelled", splits, labels=labels)
    data = load_dataset("tfds:half_labelled", data_dir=str(tmp_path))
    assert (len(data), data.y.min()) == (56, 0)
    assert rows_of(data) == {image.tobytes() for image in IMAGES[4:60]}
    assert data.notes == (
        "4 of 60 records of train have no label and were left out",
        "20 of 20 records of test have no label and were left out",
    )
    assert data.source.endswith("splits train pooled")
    assert data.sizes.nonmembers == 56 // 6, "there is no test part left to take the size of"
    prepare(tmp_path, "not_labelled", splits, labels=np.full(80, -1))
    with pytest.raises(UserError, match="dataset=not_labelled: none of its records has a label"):
        load_dataset("tfds:not_labelled", data_dir=str(tmp_path))


def test_sixteen_bit_images_are_scaled_by_their_range(tmp_path: Path) -> None:
    deep = RNG.integers(0, 2**16, (80, 6, 6, 1), dtype=np.uint16)
    prepare(tmp_path, "sixteen_bits", {"train": list(range(80))}, images=deep)
    data = load_dataset("tfds:sixteen_bits", data_dir=str(tmp_path))
    assert (data.x.dtype, data.scale) == (np.float32, 1.0)
    found = np.sort(data.scaled(np.arange(80)).reshape(80, -1), axis=0)
    np.testing.assert_allclose(found, np.sort(deep.reshape(80, -1) / 65_535, axis=0), atol=1e-6)
    assert "divided by 65,535, the largest number with 16 bits" in data.notes[0]
    stored = load_dataset("tfds:sixteen_bits", data_dir=str(tmp_path), as_is=True)
    assert stored.x.dtype == np.uint16
    assert rows_of(stored) == {image.tobytes() for image in deep}
    assert stored.notes == ()
