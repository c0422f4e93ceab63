from __future__ import annotations

import hashlib
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from memberscope.datasets import LabeledData, load_dataset
from memberscope.errors import UserError


def _data(n: int = 40, names: tuple[str, ...] = ("cat", "dog", "bird", "frog")) -> LabeledData:
    x = np.arange(n * 4, dtype=np.uint8).reshape(n, 2, 2, 1)
    return LabeledData(name="toy", x=x, y=np.arange(n) % len(names), class_names=names, source="made here")


def test_digits_are_as_described() -> None:
    data = load_dataset("digits")
    assert (data.x.shape, data.x.dtype, data.classes, data.label_noise) == ((1797, 32, 32, 1), np.uint8, 10, 0.2)
    assert data.x.max() > 240
    assert data.x.min() == 0
    assert np.bincount(data.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    # a nearest-centroid rule reads them: the resized images are still the digits of their labels
    flat = data.scaled(np.arange(len(data))).reshape(len(data), -1)
    centroids = np.stack([flat[data.y == k].mean(axis=0) for k in range(10)])
    assert 0.85 < np.mean(np.argmin(((flat[:, None] - centroids) ** 2).sum(-1), axis=1) == data.y) < 0.97


def test_digest_is_of_all_content() -> None:
    data = _data()
    by_hand = hashlib.sha256()
    for array in (data.x, data.y):
        by_hand.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    assert data.digest == by_hand.hexdigest()
    changed = data.x.copy()
    changed[-1, -1, -1, -1] ^= 1
    assert LabeledData(name="toy", x=changed, y=data.y, class_names=data.class_names, source="").digest != data.digest
    assert data.with_labels((data.y + 1) % 4).digest != data.digest


def test_scaled_lies_in_zero_to_one() -> None:
    scaled = _data().scaled(np.array([0, 39]))
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled[1].ravel(), np.arange(156, 160) / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("classes", "names"), [("2", ("cat", "dog")), ("dog,cat", ("cat", "dog")), ("frog, dog", ("dog", "frog"))]
)
def test_classes_are_chosen_and_renumbered(classes: str, names: tuple[str, ...]) -> None:
    data = _data()
    chosen = data.choose(classes, choice="first", seed=0)
    assert chosen.class_names == names
    for k, name in enumerate(names):
        assert np.array_equal(chosen.x[chosen.y == k], data.x[data.y == data.class_names.index(name)])


def test_random_classes_come_from_the_seed() -> None:
    chosen = [_data().choose("2", choice="random", seed=seed).class_names for seed in range(20)]
    assert chosen == [_data().choose("2", choice="random", seed=seed).class_names for seed in range(20)]
    assert len(set(chosen)) > 3


@pytest.mark.parametrize(
    ("classes", "part"),
    [
        ("1", "2 to 4"),
        ("5", "2 to 4"),
        ("-3", "2 to 4"),
        ("cat,dgo", "nearest: dog"),
        ("cat,cat", "two different classes"),
        ("cat", "two different classes"),
    ],
)
def test_classes_that_are_not_there(classes: str, part: str) -> None:
    with pytest.raises(UserError, match=part) as caught:
        _data().choose(classes, choice="first", seed=0)
    assert f"classes={classes}" in str(caught.value)


def test_a_users_file(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, x=np.zeros((6, 3), np.float64), y=np.array([0, 1, 2, 0, 1, 2]))
    data = load_dataset(str(path))
    assert (data.name, data.shape, data.x.dtype, data.classes, data.scale) == ("own", (3,), np.float32, 3, 1.0)


@pytest.mark.parametrize(
    ("arrays", "part"),
    [
        ({"x": np.zeros((3, 2))}, "no array 'y'"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(2, int)}, "one label per record"),
        ({"x": np.full((2, 2), 7.0), "y": np.array([0, 1])}, "from 7 to 7"),
        ({"x": np.zeros((2, 2)), "y": np.array([0.5, 1])}, "integer labels"),
        ({"x": np.zeros((2, 2)), "y": np.array([-1, 1])}, "labels from -1"),
        ({"x": np.array([{}, {}], dtype=object), "y": np.array([0, 1])}, "object"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0, int)}, "of shape"),
        ({"x": np.zeros((4, 2)), "y": np.zeros(4, int)}, "one class"),
        ({"x": np.full((2, 2), "a"), "y": np.array([0, 1])}, "numbers"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray], part: str) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=part):
        load_dataset(str(path))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_dataset(str(tmp_path / "none.npz"))
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(UserError, match=r"text\.npz"):
        load_dataset(str(tmp_path / "text.npz"))


@pytest.mark.slow  # imports tensorflow_datasets
def test_unknown_tfds_name_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset=cifar01: unknown .*nearest: .*cifar10"):
        load_dataset("cifar01", data_dir=str(tmp_path))


@pytest.mark.slow  # imports tensorflow_datasets
def test_absent_tfds_set_says_where_it_looked_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorflow_datasets", reason="needs tensorflow_datasets, of the extra [keras]")
    from memberscope.datasets import tfds_images

    asked: list[str] = []
    monkeypatch.setattr(tfds_images, "answers", lambda host: bool(asked.append(host)))
    with pytest.raises(UserError) as caught:
        load_dataset("tfds:mnist", data_dir=str(tmp_path))
    assert asked
    assert all(part in str(caught.value) for part in ("dataset=mnist", str(tmp_path), asked[0], "TFDS_DATA_DIR"))


def test_a_host_that_does_not_answer_costs_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a name that nobody knows nor a look-up that never ends, for which there is no time limit of its own."""
    from memberscope.datasets import tfds_images

    assert tfds_images.PROBE_SECONDS <= 3
    assert not tfds_images.answers("host.invalid")
    released = threading.Event()

    def silent(*address: object, **options: object) -> None:
        released.wait(60)
        raise OSError

    monkeypatch.setattr(tfds_images, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(socket, "create_connection", silent)
    start = time.monotonic()
    assert not tfds_images.answers("host.invalid")
    released.set()
    assert time.monotonic() - start < 20  # not sixty


def test_text_sets_are_refused(tmp_path: Path) -> None:
    import tensorflow_datasets as tfds

    from memberscope.datasets import tfds_images

    builder = tfds.builder("imdb_reviews", data_dir=str(tmp_path), try_gcs=False)
    with pytest.raises(UserError, match="image classification"):
        tfds_images._features(builder, "imdb_reviews")


@pytest.mark.needs_data
@pytest.mark.thorough
def test_cifar10_from_disk(cifar10_dir: str) -> None:
    data = load_dataset("cifar10", data_dir=cifar10_dir)
    assert (data.x.shape, data.x.dtype, data.classes) == ((60_000, 32, 32, 3), np.uint8, 10)
    assert data.class_names[3:6] == ("cat", "deer", "dog")
    assert np.bincount(data.y).tolist() == [6000] * 10
    few = data.choose("4", choice="first", seed=0)
    assert (len(few), few.sizes.nonmembers) == (24_000, 4_000)
