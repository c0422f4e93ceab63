"""The data set of a sweep, written once and memory-mapped by every worker, so that all workers share one copy."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np

from memberscope.datasets.labeled import LabeledData
from memberscope.datasets.table import Table
from memberscope.secret import make_private

NAMES = ("x.npy", "y.npy")
SAME = "same.npy"  # exists only if copies were kept
GROUPS = "groups.npy"  # exists only if the records have groups


def save_data(data: LabeledData, folder: Path) -> Path:
    """Write the data set in a subfolder of `folder` named by the digest and the groups, unless it exists; returns the subfolder.

    The subfolder appears in one step, so that two sweeps can prepare the same data set at once.
    """
    name = data.digest[:16] + ("-keyed" if data.keyed else "")
    if data.groups is not None:
        name += f"-{hashlib.sha256(data.groups.tobytes()).hexdigest()[:8]}"
    target = folder / name
    if (target / "about.json").is_file():
        return target
    make_private(folder)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        complete = Path(temporary) / "data"
        complete.mkdir()
        for name, array in zip(NAMES, (data.x, data.y), strict=True):
            np.save(complete / name, array, allow_pickle=False)
        if data.same is not None:
            np.save(complete / SAME, data.same, allow_pickle=False)
        if data.groups is not None:
            np.save(complete / GROUPS, data.groups, allow_pickle=False)
        about = {
            "name": data.name,
            "class_names": list(data.class_names),
            "source": data.source,
            "label_noise": data.label_noise,
            "notes": list(data.notes),
            "copies": data.copies,
            "keyed": data.keyed,
            "table": None if data.table is None else data.table.to_dict(),
        }
        (complete / "about.json").write_text(json.dumps(about))
        try:
            os.rename(complete, target)
        except OSError:
            if not (target / "about.json").is_file():
                raise
    return target


def load_data(folder: Path) -> LabeledData:
    """Load the output of `save_data`, with read-only memory-mapped arrays."""
    about = json.loads((folder / "about.json").read_text())
    x, y = (np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in NAMES)
    return LabeledData(
        name=about["name"], x=x, y=y, class_names=tuple(about["class_names"]), source=about["source"], label_noise=about["label_noise"],
        notes=tuple(about.get("notes", ())), copies=about.get("copies", 0), keyed=bool(about.get("keyed", False)),
        same=np.load(folder / SAME, allow_pickle=False) if (folder / SAME).is_file() else None,
        table=Table.from_dict(about["table"]) if about.get("table") else None,
        groups=np.load(folder / GROUPS, allow_pickle=False) if (folder / GROUPS).is_file() else None,
    )  # fmt: skip
