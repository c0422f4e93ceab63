"""A user's own arrays: one .npz with ``x`` and ``y``, or two .npy files, of which the records stay on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.datasets.classes import as_classes, as_groups
from memberscope.datasets.labeled import LabeledData
from memberscope.datasets.values import as_stored, check_values
from memberscope.errors import UserError, nearest
from memberscope.npz import map_npy, read_npy, read_npz

NPY = "the path of a .npy file"
MOST_PLAIN = 1_000  # smaller labels are classes counted from 0, whether all of them occur or not; larger ones are codes


def load_file(path: str, *, as_is: bool = False, group: str = "") -> LabeledData:
    """Read ``x`` (n, ...) and ``y`` (n,) labels, and ``class_names`` if the file has them. Nothing in the file is executed.

    uint8 values are taken for images in 0..255; other numbers are kept as float32 and must lie in [0, 1] unless their scale is known (see
    `memberscope.datasets.values`). Labels may be words, or codes of any size.

    Args:
        path: the file.
        as_is: keep any numbers in their type; without ``class_names``, the classes are those labels that occur.
        group: the array that names the records' groups, (n,); empty: none.

    Raises:
        UserError: the file is missing, is not an .npz, lacks an array, or has values that do not fit.
    """
    try:
        arrays = read_npz(Path(path))
    except UserError as error:
        raise UserError(f"dataset={error} with arrays x and y") from None
    for key in ("x", "y"):
        if key not in arrays:
            raise UserError(
                f"dataset={path}: has no array {key!r}, only {', '.join(sorted(arrays)) or 'nothing'}; allowed: a file with x and y"
            )
    x, y = arrays["x"], arrays["y"]
    if x.ndim < 2 or not len(x) or x.dtype.kind not in "fiub":
        raise UserError(f"dataset={path}: x is {x.dtype} of shape {x.shape}; allowed: numbers (records, ...)")
    check_values(x, f"dataset={path}: x")
    _check_length(y, len(x), f"dataset={path}: y")
    groups = _named_groups(arrays, group, path=path, records=len(x)) if group else None
    if as_is and "class_names" not in arrays:
        y, names = as_classes(y, where=f"dataset={path}: y")
        return LabeledData(
            name=Path(path).stem, x=x, y=y, class_names=names, source=f"the file {Path(path).name}", groups=groups
        )
    x, note = (x, "") if as_is else as_stored(x, where=f"dataset={path}: x")
    if len(np.unique(y)) < 2:
        raise UserError(f"dataset={path}: y has only one class; allowed: at least two classes")
    y, names = _classes(y, arrays.get("class_names"), path)
    return LabeledData(
        name=Path(path).stem, x=x, y=y, class_names=names, source=f"the file {Path(path).name}", notes=(note,) if note else (),
        groups=groups,
    )  # fmt: skip


def _classes(y: NDArray[Any], names: NDArray[Any] | None, path: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels from 0, and a name per class: words and codes are numbered in sorted order, and become the names."""
    if y.dtype.kind not in "iubU":
        raise UserError(f"dataset={path}: y is {y.dtype}; allowed: integer labels, or text")
    if names is not None:
        if names.ndim != 1 or names.dtype.kind not in "iubfU":
            raise UserError(
                f"dataset={path}: class_names is {names.dtype} of shape {names.shape}; allowed: a name for each class, in a row"
            )
        if y.dtype.kind == "U":
            raise UserError(
                f"dataset={path}: y is text, but there are class_names too; allowed: text alone, or integers with class_names"
            )
        return y.astype(np.int64), tuple(str(name) for name in names)
    if y.dtype.kind == "U" or (y.size and y.min() >= 0 and y.max() >= max(len(y), MOST_PLAIN)):
        values, place = np.unique(y, return_inverse=True)
        return place.reshape(y.shape).astype(np.int64), tuple(str(value) for value in values)
    return y.astype(np.int64), tuple(str(k) for k in range(int(y.max()) + 1 if y.size else 0))


def _check_length(y: NDArray[Any], records: int, where: str) -> None:
    if y.shape != (records,):
        raise UserError(f"{where} has shape {y.shape} for {records} records; allowed: one label per record")


def _named_groups(arrays: dict[str, NDArray[Any]], group: str, *, path: str, records: int) -> NDArray[np.int64]:
    others = sorted(set(arrays) - {"x", "y", "class_names"})
    if group not in others:
        raise UserError(
            f"group={group}: no array of {path} for groups; allowed: {', '.join(others) or 'none, it has only x and y'}"
            f"{nearest(group, others)}"
        )
    return as_groups(arrays[group], where=f"group={group}", records=records)


def load_mapped(path: str, *, label: str, group: str = "") -> LabeledData:
    """Records in a ``.npy`` file, which is mapped into memory and never read as a whole, and their labels in another.

    Args:
        path: (n, ...) numbers of any type.
        label: the path of a ``.npy`` with (n,) labels.
        group: the path of a ``.npy`` with (n,) groups; empty: none.

    Raises:
        UserError: a file is missing, damaged, shorter than its header says or of Python objects, or the arrays do not fit each other.
    """
    if not label.endswith(".npy"):
        raise UserError(
            f"label={label}: not a .npy file; allowed with dataset={path}: the path of a .npy with one label per record"
        )
    x = map_npy(Path(path), where=f"dataset={path}", allowed=NPY)
    if x.ndim < 2 or x.dtype.kind not in "fiub":
        raise UserError(f"dataset={path}: {x.dtype} of shape {x.shape}; allowed: numbers (records, ...)")
    check_values(x, f"dataset={path}: its array")
    y = read_npy(Path(label), where=f"label={label}", allowed=NPY)
    _check_length(y, len(x), f"label={label}")
    codes, names = as_classes(y, where=f"label={label}")
    groups = None
    if group:
        if not group.endswith(".npy"):
            raise UserError(f"group={group}: not a .npy file; allowed with dataset={path}: a .npy with one group per record")
        groups = as_groups(read_npy(Path(group), where=f"group={group}", allowed=NPY), where=f"group={group}", records=len(x))
    return LabeledData(
        name=Path(path).stem, x=x, y=codes, class_names=names, source=f"the file {Path(path).name}, labels {Path(label).name}",
        groups=groups,
    )  # fmt: skip
