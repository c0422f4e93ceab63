"""A user's own data: one .npz with ``x`` and ``y``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.datasets.labeled import LabeledData
from memberscope.datasets.values import as_stored
from memberscope.errors import UserError
from memberscope.npz import read_npz

MOST_PLAIN = 1_000  # smaller labels are classes counted from 0, whether all of them occur or not; larger ones are codes


def load_file(path: str) -> LabeledData:
    """Read ``x`` (n, ...) and ``y`` (n,) labels, and ``class_names`` if the file has them. Nothing in the file is executed.

    uint8 values are taken for images in 0..255; other numbers are kept as float32 and must lie in [0, 1] unless their scale is known (see
    `memberscope.datasets.values`). Labels may be words, or codes of any size.

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
    x, note = as_stored(x, where=f"dataset={path}: x")
    if y.shape == x.shape[:1] and len(np.unique(y)) < 2:
        raise UserError(f"dataset={path}: y has only one class; allowed: at least two classes")
    y, names = _classes(y, arrays.get("class_names"), path)
    return LabeledData(
        name=Path(path).stem, x=x, y=y, class_names=names, source=f"the file {Path(path).name}", notes=(note,) if note else ()
    )


def _classes(y: NDArray[Any], names: NDArray[Any] | None, path: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels from 0, and a name per class: words and codes are numbered in sorted order, and become the names."""
    if y.dtype.kind not in "iubU":
        raise UserError(f"dataset={path}: y is {y.dtype}; allowed: integer labels, or text")
    if names is not None:
        if y.dtype.kind == "U":
            raise UserError(
                f"dataset={path}: y is text, but there are class_names too; allowed: text alone, or integers with class_names"
            )
        return y.astype(np.int64), tuple(str(name) for name in names)
    if y.dtype.kind == "U" or (y.size and y.min() >= 0 and y.max() >= max(len(y), MOST_PLAIN)):
        values, place = np.unique(y, return_inverse=True)
        return place.reshape(y.shape).astype(np.int64), tuple(str(value) for value in values)
    return y.astype(np.int64), tuple(str(k) for k in range(int(y.max()) + 1 if y.size else 0))
