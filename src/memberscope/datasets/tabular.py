"""Location-30, Purchase-100 and Texas-100 as `LabeledData`: prepared once by our TFDS builders, then read from the prepared folder."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from memberscope.datasets import tfds_images
from memberscope.datasets.archives import ARCHIVES, HOMEPAGE, Archive, file_digest
from memberscope.datasets.labeled import LabeledData
from memberscope.errors import UserError
from memberscope.installed import require

ARCHIVE_VARIABLE = "MEMBERSCOPE_ARCHIVE_DIR"
WRITE_BITS = 0o222


def load_tabular(name: str, *, data_dir: str = "", archive_dir: str = "") -> LabeledData:
    """One of the three data sets: records as bool in the archive's order, classes named by the archive's own numbers ("1" is label 0).

    A prepared data set is read from its folder. Otherwise the archive is taken from `archive_dir`, or from the folder in
    ``MEMBERSCOPE_ARCHIVE_DIR``, or from its authors' site, and the data set is prepared in `data_dir` or, if that folder is read-only (such
    as a shared one), in ``memberscope/tensorflow_datasets`` of the user's cache folder (``XDG_CACHE_HOME``, else ``~/.cache``).

    Args:
        name: a key of `ARCHIVES`.
        data_dir: folder of prepared data sets; empty: ``TFDS_DATA_DIR``, or TFDS's own default.
        archive_dir: folder with the archive as published; empty: see above.

    Raises:
        UserError: `data_dir` is a file; the data set is not prepared, and its archive is neither on disk nor can be downloaded; or the
            archive is damaged or another one.
    """
    require("tensorflow_datasets", "tensorflow", by=f"dataset={name}", instead="digits, or a file (.npz, .csv or .parquet)")
    os.environ.setdefault("NO_GCE_CHECK", "true")  # Google's client would look for a metadata server for seconds
    from memberscope.datasets.tabular_builders import BUILDERS

    published = ARCHIVES[name]
    folder = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"data_dir={folder}: not a folder; allowed: a folder, or the path of a new one")
    builder = BUILDERS[name](data_dir=folder)
    if not tfds_images.is_prepared(builder) and not is_writable(folder):
        builder = BUILDERS[name](data_dir=cache_dir())
    archive = find_archive(published, archive_dir)
    if not tfds_images.is_prepared(builder):
        if archive is None and archive_dir:
            raise UserError(
                f"archive_dir={archive_dir}: no {published.file} in it; allowed: a folder that holds it as {HOMEPAGE} publishes it"
            )
        if archive is None:
            _check_host(published, looked=(folder, *_archive_dirs(archive_dir)))
        root = builder.data_dir_root
        _prepare(BUILDERS[name](data_dir=root, archive=archive), name)
        builder = BUILDERS[name](data_dir=root)
    digest = str(builder.info.metadata.get("archive_sha256", "unknown"))
    if archive is not None and published.sha256 is None and file_digest(archive) != digest:
        raise UserError(
            f"dataset={name}: {builder.data_dir} was prepared from an archive of SHA-256 {digest}, but {archive} is another one; "
            "allowed: that archive or none, or remove the folder to prepare the data set again"
        )
    x, y = _read(builder, published)
    return LabeledData(
        name=name, x=x, y=y, class_names=tuple(builder.info.features["label"].names), source=_source(published, len(y), digest),
        sizes=published.sizes if _needs(published) <= len(y) else None,
    )  # fmt: skip


def cache_dir() -> Path:
    """The folder in which data sets are prepared if the usual one is read-only."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "memberscope" / "tensorflow_datasets"


def is_writable(folder: Path) -> bool:
    """Whether files, or the folder itself, can be created; a folder whose mode forbids it to all users is read-only for root too."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK) and bool(folder.stat().st_mode & WRITE_BITS)


def find_archive(published: Archive, archive_dir: str = "") -> Path | None:
    """The archive in `archive_dir` or, if that is empty, in the folder of ``MEMBERSCOPE_ARCHIVE_DIR``; None if it is not there."""
    paths = [folder / published.file for folder in _archive_dirs(archive_dir)]
    return next((path for path in paths if path.is_file()), None)


def _archive_dirs(archive_dir: str) -> list[Path]:
    folder = archive_dir or os.environ.get(ARCHIVE_VARIABLE, "")
    return [Path(folder).expanduser()] if folder else []


def _check_host(published: Archive, *, looked: tuple[Path, ...]) -> None:
    host = urlsplit(published.url).hostname or ""
    if not tfds_images.answers(host):
        raise UserError(
            f"dataset={published.name}: not found in {' or '.join(map(str, looked))}, and {host} does not answer to download it; "
            f"set --archive_dir or {ARCHIVE_VARIABLE} to a folder that holds {published.file}"
        )


def _prepare(builder: Any, name: str) -> None:
    """Prepare a data set, unless another process has prepared it in the meantime."""
    import tensorflow_datasets as tfds

    try:
        with _own_progress(), contextlib.redirect_stdout(io.StringIO()):  # it announces a download even if there is none
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except UserError:
        raise
    except Exception as error:  # downloads and disks raise many kinds of errors; the user gets one line
        if Path(builder.data_dir).is_dir():
            return
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        published = ARCHIVES[name]
        raise UserError(
            f"dataset={name}: could not be prepared in {builder.data_dir_root} ({first}); set --data_dir to a folder that can be "
            f"written, and --archive_dir or {ARCHIVE_VARIABLE} to one that holds {published.file}"
        ) from None


@contextlib.contextmanager
def _own_progress() -> Iterator[None]:
    """Silence TFDS's progress bars, which would fill a log with lines: the builder shows its own progress."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    try:
        yield
    finally:
        tfds.enable_progress_bar()


def _read(builder: Any, published: Archive) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """All records of a prepared data set, (n, bits) bool, and their labels, (n,), in the archive's order."""
    import tensorflow_datasets as tfds

    n = int(builder.info.splits["train"].num_examples)
    x, y = np.empty((n, published.bits), np.bool_), np.empty(n, np.int64)
    feature = builder.info.features["features"]
    done = 0
    try:
        # Records are decoded here one by one: TFDS's own graph takes longer, and warns that it uses a deprecated attribute.
        records = builder.as_dataset(
            split="train", shuffle_files=False, decoders={"features": tfds.decode.SkipDecoding()}
        ).batch(tfds_images.BATCH)
        for batch in tfds.as_numpy(records):
            for row, packed in enumerate(batch["features"], start=done):
                x[row] = feature.decode_example_np(packed)
            y[done : done + len(batch["label"])] = batch["label"]
            done += len(batch["label"])
    except Exception as error:  # TensorFlow raises many kinds of errors when reading; the user gets one line
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(
            f"dataset={published.name}: {builder.data_dir} cannot be read ({first}); remove that folder to prepare it again"
        ) from None
    if done != n:
        raise UserError(
            f"dataset={published.name}: {builder.data_dir} has only {done} of {n} records; remove that folder to prepare it again"
        )
    return x, y


def _needs(published: Archive) -> int:
    return published.sizes.members + published.sizes.nonmembers + (published.sizes.validation or 0)


def _source(published: Archive, records: int, digest: str) -> str:
    """The origin of the records, and what could not be verified about it."""
    checked = "as registered" if published.sha256 == digest else "no digest is registered for this archive: not verified"
    source = f"{published.file} of {HOMEPAGE}, SHA-256 {digest} ({checked})"
    if records != published.records:
        source += f"; {records:,} records, and {published.records:,} were published"
    return source
