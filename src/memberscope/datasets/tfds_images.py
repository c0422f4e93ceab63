"""Image classification sets of TensorFlow Datasets, read from disk, or downloaded if the network is available."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from memberscope.copies import first_copies
from memberscope.datasets.archives import ARCHIVES
from memberscope.datasets.labeled import LabeledData, Sizes
from memberscope.datasets.values import as_stored
from memberscope.errors import UserError, nearest
from memberscope.installed import require

PROBE_SECONDS = 3.0
BATCH = 1_000

# A prepared folder may lack the names of labels; these are the data set's own, in its order.
CLASS_NAMES = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}


def load_tfds(name: str, *, data_dir: str = "", as_is: bool = False) -> LabeledData:
    """All splits of a TFDS image classification set, pooled: train, then test, then others in the order of their names.

    Records without a label (-1) are left out, and a record that is in several splits counts once; the data set's `notes` state how many.

    Args:
        name: a TFDS name, such as ``cifar10`` or ``mnist:3.0.1``.
        data_dir: folder of prepared data sets; empty: ``TFDS_DATA_DIR``, or TFDS's own default.
        as_is: keep the pixels as they are stored, instead of as values that the built-in models take.

    Raises:
        UserError: the name is unknown (the message suggests the nearest), it is not an image classification set, or it is neither on disk
            nor can be downloaded (the message says where it was looked for and what to set).
    """
    require("tensorflow_datasets", "tensorflow", by=f"dataset={name}", instead="digits, or a file (.npz, .csv or .parquet)")
    os.environ.setdefault("NO_GCE_CHECK", "true")  # Google's client would look for a metadata server for seconds
    import tensorflow_datasets as tfds

    folder = str(Path(data_dir).expanduser()) if data_dir else None
    short = name.split(":")[0].split("/")[0]
    if not short.isidentifier():
        raise UserError(
            f"dataset={name}: not the name of a data set; allowed: digits, a file (.npz, .csv, .parquet or .npy), or a TFDS name "
            "such as cifar10"
        )
    looked = folder or os.environ.get("TFDS_DATA_DIR") or str(Path("~/tensorflow_datasets").expanduser())
    known = tfds.list_builders(with_community_datasets=False)
    if short not in known and not (Path(looked) / short).is_dir():
        raise UserError(
            f"dataset={name}: unknown to TensorFlow Datasets; allowed: digits, {', '.join(ARCHIVES)}, a file (.npz, .csv, .parquet "
            "or .npy), or a TFDS name" + nearest(short, {*known, *ARCHIVES})
        )
    try:
        builder = tfds.builder(name, data_dir=folder, try_gcs=False)
    except (ValueError, AssertionError, LookupError, tfds.core.DatasetNotFoundError) as error:
        first = str(error).strip().splitlines()[0][:200]
        raise UserError(
            f"dataset={name}: no such version or configuration ({first}); allowed: {short}, or one that TFDS has"
        ) from None
    if not is_prepared(builder):
        _download(builder, name=name, looked=looked)
    image, label = _features(builder, name)
    names = [split for split in ("train", "test") if split in builder.info.splits]
    names += sorted(split for split in builder.info.splits if split not in ("train", "test", "unsupervised", "unlabelled"))
    x, y, split_of = _pooled(builder, names, image=image, label=label)
    kept, left_out, copies = _each_once(x, y, split_of, names)
    if not len(kept):
        raise UserError(f"dataset={name}: none of its records has a label; allowed: sets with labels from 0")
    split_of, y = split_of[kept], y[kept]
    x, scaled = (x[kept], "") if as_is else as_stored(x[kept], where=f"dataset={name}: {image}")
    feature = builder.info.features[label]
    class_names = tuple(CLASS_NAMES.get(short, feature.names))
    n_test = int((split_of == names.index("test")).sum()) if "test" in names else 0
    n_test = n_test or len(y) // 6
    pooled = [split for place, split in enumerate(names) if (split_of == place).any()]
    return LabeledData(
        name=short,
        x=x,
        y=y,
        class_names=class_names,
        source=f"TensorFlow Datasets {builder.info.full_name}, splits {' + '.join(pooled)} pooled",
        sizes=Sizes(members=0, nonmembers=n_test, validation=n_test // 2),
        notes=(*left_out, *([scaled] if scaled else [])),
        copies=copies,
    )


def _pooled(
    builder: Any, names: list[str], *, image: str, label: str
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """The images and labels of all splits, and the split of each record."""
    import tensorflow_datasets as tfds

    xs, ys, split_of = [], [], []
    for place, split in enumerate(names):
        dataset = builder.as_dataset(split=split, shuffle_files=False)
        for batch in tfds.as_numpy(dataset.map(lambda row: (row[image], row[label])).batch(BATCH)):
            xs.append(batch[0])
            ys.append(batch[1])
            split_of.append(np.full(len(batch[1]), place, dtype=np.int64))
    return np.concatenate(xs), np.concatenate(ys).astype(np.int64), np.concatenate(split_of)


def _each_once(
    x: NDArray[Any], y: NDArray[np.int64], split_of: NDArray[np.int64], names: list[str]
) -> tuple[NDArray[np.intp], list[str], int]:
    """Positions of the records that have a label and are in no earlier split, notes on what was left out, and the number of copies.

    Some data sets have splits that are parts of others (omniglot's ``small1`` is part of ``train``). If these were simply pooled, a record
    would be there twice, and a copy of a member could become a non-member.
    """
    notes = []
    labelled = np.flatnonzero(y >= 0)
    for place, split in enumerate(names):
        lacking = int((y[split_of == place] < 0).sum())
        if lacking:
            notes.append(
                f"{lacking:,} of {int((split_of == place).sum()):,} records of {split} have no label and were left out"
            )
    first = labelled[first_copies(x[labelled], y[labelled])]
    again = split_of[first] != split_of[labelled]
    for place, split in enumerate(names):
        here = split_of[labelled] == place
        copies = int((again & here).sum())
        if copies:
            known = " + ".join(names[k] for k in np.unique(split_of[first[again & here]]))
            notes.append(f"{copies:,} of {int(here.sum()):,} records of {split} are also in {known}, and count once")
    return labelled[~again], notes, int(again.sum())


def is_prepared(builder: Any) -> bool:
    """Whether a TFDS builder's data set is prepared in its folder."""
    return bool(builder.info.splits) and Path(str(builder.data_path)).is_dir()


def _features(builder: Any, name: str) -> tuple[str, str]:
    from tensorflow_datasets.core import features as kinds

    found: dict[str, list[str]] = {"image": [], "label": []}
    for key, feature in builder.info.features.items():
        if isinstance(feature, kinds.ClassLabel):
            found["label"].append(key)
        elif isinstance(feature, kinds.Image):
            found["image"].append(key)
    image = builder.info.features[found["image"][0]] if found["image"] else None
    if image is None or not found["label"]:
        raise UserError(f"dataset={name}: has no image with a class label; allowed: TFDS image classification sets")
    if None in image.shape:
        raise UserError(f"dataset={name}: its images differ in size {image.shape}; allowed: sets with images of one size")
    keys = builder.info.supervised_keys
    if keys and keys[0] in found["image"] and keys[1] in found["label"]:
        return str(keys[0]), str(keys[1])
    return found["image"][0], found["label"][0]


def _download(builder: Any, *, name: str, looked: str) -> None:
    """Download and prepare a data set if its host answers within seconds; TFDS itself would retry a dead host for minutes."""
    hosts = sorted({urlsplit(url).hostname or "" for url in getattr(builder, "url_infos", {})} - {""})
    silent = [host for host in hosts[:1] if not answers(host)]
    if silent:
        raise UserError(
            f"dataset={name}: not found in {looked}, and {silent[0]} does not answer to download it; "
            "set --data_dir or TFDS_DATA_DIR to a folder that holds it as TFDS prepares it"
        )
    try:
        builder.download_and_prepare()
    except Exception as error:  # downloads raise many kinds of errors; the user gets one line
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise UserError(
            f"dataset={name}: not found in {looked}, and could not be downloaded ({first}); "
            "set --data_dir or TFDS_DATA_DIR to a folder that holds it as TFDS prepares it"
        ) from None


def answers(host: str) -> bool:
    """Whether a host accepts a connection within `PROBE_SECONDS`, including the name look-up, which has no time limit of its own."""
    answered = threading.Event()

    def probe() -> None:
        try:
            with socket.create_connection((host, 443), timeout=PROBE_SECONDS):
                answered.set()
        except OSError:
            pass

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return answered.is_set()
