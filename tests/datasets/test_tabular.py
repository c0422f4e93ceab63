"""The three tables as TFDS builders and as `LabeledData`, on small archives of the published formats and widths."""

from __future__ import annotations

import dataclasses
import http.server
import io
import os
import shutil
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from memberscope.datasets import LabeledData, archives, load_dataset, tabular, tfds_images
from memberscope.datasets.archives import ARCHIVES, file_digest
from memberscope.errors import UserError

N = 60
NAMES = ("location30", "purchase100", "texas100")

pytestmark = pytest.mark.slow  # TFDS prepares the sets


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data set, archive or cache of the user's is seen, and no host answers."""
    for name in ("TFDS_DATA_DIR", "MEMBERSCOPE_ARCHIVE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tfds_images, "answers", lambda host: False)


def table(name: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((N, ARCHIVES[name].bits)) < 0.2, rng.permutation(np.arange(N) % ARCHIVES[name].classes)


def pack(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def text(rows: np.ndarray, first: str = "%d") -> bytes:
    buffer = io.BytesIO()
    np.savetxt(buffer, rows, fmt=[first] + ["%d"] * (rows.shape[1] - 1), delimiter=",")
    return buffer.getvalue()


def write(folder: Path, name: str, seed: int = 0) -> Path:
    """An archive as the authors spell it: texas100 in two files, location30 with its classes quoted."""
    x, y = table(name, seed)
    folder.mkdir(exist_ok=True)
    path = folder / ARCHIVES[name].file
    if name == "texas100":
        return pack(path, {"texas/100/feats": text(x), "texas/100/labels": text(y[:, None] + 1)})
    rows = np.column_stack([y + 1, x])
    if name == "location30":
        return pack(path, {"bangkok": text(rows, '"%d"')})
    return pack(path, {"dataset_purchase": text(rows)})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    for name in NAMES:
        write(folder, name)
    return folder


@pytest.fixture
def folder(tmp_path: Path, written: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small archive of each; the small Location-30 is the registered one."""
    copy = Path(shutil.copytree(written, tmp_path / "archives"))
    digest = file_digest(copy / ARCHIVES["location30"].file)
    monkeypatch.setitem(ARCHIVES, "location30", dataclasses.replace(ARCHIVES["location30"], sha256=digest))
    return copy


def load(name: str, tmp_path: Path, archive_dir: Path | str = "") -> LabeledData:
    return load_dataset(name, data_dir=str(tmp_path / "prepared"), archive_dir=str(archive_dir))


@pytest.mark.parametrize("name", NAMES)
def test_each_is_read_in_order_and_prepared_once(name: str, tmp_path: Path, folder: Path) -> None:
    x, y = table(name)
    data = load(name, tmp_path, folder)
    assert (data.name, data.x.dtype, data.scale, data.sizes) == (name, np.bool_, 1.0, None)
    assert np.array_equal(data.x, x)
    assert np.array_equal(data.y, y)
    assert data.class_names == tuple(str(k) for k in range(1, ARCHIVES[name].classes + 1))
    digest = file_digest(folder / ARCHIVES[name].file)
    assert digest in data.source
    assert ("as registered" in data.source, "not verified" in data.source) == (name == "location30", name != "location30")
    assert f"{N} records, and {ARCHIVES[name].records:,} were published" in data.source
    (folder / ARCHIVES[name].file).unlink()
    again = load(f"tfds:{name}", tmp_path, folder)  # the archive is gone
    assert (again.digest, again.source) == (data.digest, data.source)


def test_batches_of_bits_are_zeros_and_ones(tmp_path: Path, folder: Path) -> None:
    from memberscope.training.keras.fit import as_batch, to_tensor

    data = load("location30", tmp_path, folder)
    index = np.array([5, 3, 59])
    batch = as_batch(to_tensor(data.x), index, data.scale).numpy()
    assert batch.dtype == np.float32
    assert np.array_equal(batch, table("location30")[0][index].astype(np.float32))
    assert np.array_equal(batch, data.scaled(index))


def test_they_are_builders_of_tfds(tmp_path: Path, folder: Path) -> None:
    import tensorflow_datasets as tfds

    from memberscope.datasets.tabular_builders import BUILDERS

    assert set(BUILDERS) == set(ARCHIVES)
    for name, builder in BUILDERS.items():
        assert tfds.builder_cls(name) is builder
        info = builder(data_dir=tmp_path).info
        assert (str(info.version), info.homepage) == ("1.0.0", "https://github.com/privacytrustlab/datasets")
        assert "@inproceedings{shokri2017membership" in info.citation
        assert info.features["features"].shape == (ARCHIVES[name].bits,)
        assert info.features["features"].np_dtype == np.bool_
        assert info.features["label"].num_classes == ARCHIVES[name].classes
    # as a user of TFDS would, without us
    dataset = tfds.load(
        "location30", split="train", as_supervised=True, data_dir=tmp_path, builder_kwargs={"archive": folder / "dataset_location.tgz"}
    )  # fmt: skip
    x, y = zip(*tfds.as_numpy(dataset), strict=True)
    assert np.array_equal(np.stack(x), table("location30")[0])
    assert np.array_equal(np.stack(y), table("location30")[1])


def test_a_read_only_folder_is_left_alone(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "shared"
    (shared / "cifar10").mkdir(parents=True)
    shared.chmod(0o555)
    monkeypatch.setenv("TFDS_DATA_DIR", str(shared))
    try:
        data = load_dataset("location30", archive_dir=str(folder))
        assert [path.name for path in shared.iterdir()] == ["cifar10"]
    finally:
        shared.chmod(0o755)
    assert (tmp_path / "cache/memberscope/tensorflow_datasets/location30/1.0.0").is_dir()
    shared.chmod(0o555)
    assert load_dataset("location30").digest == data.digest
    shared.chmod(0o755)
    # once the folder can be written, it is the one to use; and what is prepared in it is read when it no longer can be
    load_dataset("location30", archive_dir=str(folder))
    assert (shared / "location30/1.0.0").is_dir()


def test_a_set_in_a_read_only_folder_is_read(tmp_path: Path, folder: Path) -> None:
    data = load("purchase100", tmp_path, folder)
    (tmp_path / "prepared").chmod(0o555)
    try:
        assert load("purchase100", tmp_path).digest == data.digest
    finally:
        (tmp_path / "prepared").chmod(0o755)
    assert not (tmp_path / "cache").exists()


def test_where_the_archive_is_looked_for(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = write(tmp_path / "other", "texas100", seed=1).parent
    monkeypatch.setenv("MEMBERSCOPE_ARCHIVE_DIR", str(other))
    assert tabular.find_archive(ARCHIVES["texas100"]) == other / "dataset_texas.tgz"
    assert tabular.find_archive(ARCHIVES["texas100"], str(folder)) == folder / "dataset_texas.tgz"
    assert tabular.find_archive(ARCHIVES["purchase100"]) is None
    with pytest.raises(
        UserError, match=r"archive_dir=.*other: no dataset_purchase\.tgz in it; allowed: a folder that holds it"
    ):
        load("purchase100", tmp_path, other)
    assert np.array_equal(load("texas100", tmp_path).x, table("texas100", seed=1)[0])


def test_nothing_to_be_had_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorflow_datasets", reason="needs tensorflow_datasets, of the extra [keras]")
    asked: list[str] = []
    monkeypatch.setattr(tfds_images, "answers", lambda host: bool(asked.append(host)))
    monkeypatch.setenv("MEMBERSCOPE_ARCHIVE_DIR", str(tmp_path / "empty"))
    with pytest.raises(UserError) as caught:
        load("purchase100", tmp_path)
    assert asked == ["github.com"]
    parts = (
        "dataset=purchase100",
        str(tmp_path / "prepared"),
        str(tmp_path / "empty"),
        "--archive_dir",
        "dataset_purchase.tgz",
    )
    assert all(part in str(caught.value) for part in (*parts, "MEMBERSCOPE_ARCHIVE_DIR", "github.com"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"data_dir=.*file: not a folder"):
        load_dataset("purchase100", data_dir=str(tmp_path / "file"))


def test_a_damaged_archive_leaves_nothing_behind(tmp_path: Path, folder: Path) -> None:
    path = folder / "dataset_location.tgz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(UserError, match=r"dataset=location30: .*dataset_location\.tgz: SHA-256 is .*damaged or another file"):
        load("location30", tmp_path, folder)
    purchase = folder / "dataset_purchase.tgz"
    pack(purchase, {"dataset_purchase": b"7," + b"0," * 599 + b"2\n"})
    with pytest.raises(UserError, match="dataset_purchase, row 1, column 601: '2'; allowed: 0 or 1"):
        load("purchase100", tmp_path, folder)
    assert not any((tmp_path / "prepared").rglob("*.tfrecord*"))
    path.write_bytes(whole)
    assert len(load("location30", tmp_path, folder)) == N


def test_a_set_prepared_from_another_archive_is_not_passed_off(tmp_path: Path, folder: Path) -> None:
    load("texas100", tmp_path, folder)
    write(folder, "texas100", seed=1)
    with pytest.raises(
        UserError,
        match=r"texas100/1\.0\.0 was prepared from an archive of SHA-256 .* is another one; allowed: .*remove the folder",
    ):
        load("texas100", tmp_path, folder)


def test_of_two_that_prepare_at_once_the_slower_reads_what_the_faster_made(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from memberscope.datasets import tabular_builders

    read, digests = tabular_builders.read_archive, []

    def overtaken(*args: object) -> object:
        monkeypatch.setattr(tabular_builders, "read_archive", read)
        digests.append(load("location30", tmp_path, folder).digest)
        return read(*args)

    monkeypatch.setattr(tabular_builders, "read_archive", overtaken)
    digests.append(load("location30", tmp_path, folder).digest)
    assert len(set(digests)) == 1
    assert [path.name for path in (tmp_path / "prepared/location30").iterdir()] == ["1.0.0"]


def test_a_damaged_set_is_one_line(tmp_path: Path, folder: Path) -> None:
    load("location30", tmp_path, folder)
    (record,) = (tmp_path / "prepared").rglob("*.tfrecord*")
    whole = record.read_bytes()
    for content in (whole[: len(whole) // 2], b"x" * len(whole), b""):
        record.write_bytes(content)
        with pytest.raises(UserError, match=r"location30/1\.0\.0 .*; remove that folder") as caught:
            load("location30", tmp_path, folder)
        assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("in the way")
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared").chmod(0o555)
    with pytest.raises(
        UserError, match=r"location30: could not be prepared in .*cache.*; set --data_dir to a folder that can be"
    ):
        load("location30", tmp_path, folder)


@pytest.fixture
def site(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The authors' site, on this machine: what lies in the returned folder can be downloaded."""
    root = tmp_path / "site"
    (root / "raw").mkdir(parents=True)
    folder.rename(root / "raw/master")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, directory=str(root), **kwargs)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setattr(archives, "HOMEPAGE", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setattr(tfds_images, "answers", lambda host: host == "127.0.0.1")
        yield root / "raw/master"
        server.shutdown()
        thread.join()


def test_a_download_is_checked_and_a_damaged_one_not_kept(tmp_path: Path, site: Path) -> None:
    path = site / "dataset_location.tgz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=r"SHA-256 is .*damaged or another file"):
        load("location30", tmp_path)
    path.write_bytes(whole)
    assert np.array_equal(load("location30", tmp_path).x, table("location30")[0])
    path.unlink()
    assert len(load("location30", tmp_path)) == N
    with pytest.raises(UserError, match="could not be prepared"):
        load_dataset("location30", data_dir=str(tmp_path / "elsewhere"))


@pytest.mark.needs_data
def test_the_published_location30(tmp_path: Path, real_archive: str) -> None:
    data = load("location30", tmp_path, real_archive)
    assert (data.x.shape, data.classes, data.sizes) == ((5_010, 446), 30, ARCHIVES["location30"].sizes)
    assert "927203f85a868f8ee17a0ded1dc61699efe602167beabe34fbf45b4b1de94b33 (as registered)" in data.source
    assert "published" not in data.source
    assert np.bincount(data.y).tolist() == [
        169, 178, 147, 155, 97, 182, 120, 308, 145, 210, 189, 184, 141, 122, 229,
        110, 176, 128, 180, 254, 228, 117, 158, 170, 139, 139, 155, 152, 149, 179,
    ]  # fmt: skip
    assert data.y[0] == 12  # the first row opens with "13",0,1,0,1,0
    assert np.flatnonzero(data.x[0])[:4].tolist() == [1, 3, 22, 24]
    assert data.digest == "d3c4ae40df9ca14c3f85e8b421a2ed40f4f6cf5ce1139b6cafaefa867370e11a"


@pytest.fixture(scope="session")
def real_archive() -> str:
    """The folder that holds Location-30's published archive; read before `own_folders` hides the variable."""
    if not (Path(REAL) / "dataset_location.tgz").is_file():
        pytest.skip("needs Location-30's archive: set MEMBERSCOPE_ARCHIVE_DIR to the folder that holds dataset_location.tgz")
    return REAL


REAL = os.environ.get("MEMBERSCOPE_ARCHIVE_DIR", "")
