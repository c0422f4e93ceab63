"""A user's own data: one .npz with ``x`` and ``y``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from memberscope.datasets.labeled import LabeledData
from memberscope.errors import UserError
from memberscope.npz import read_npz


def load_file(path: str) -> LabeledData:
    """Read ``x`` (n, ...) and ``y`` (n,) integer labels, and ``class_names`` if the file has them. Never executes what it reads.

    uint8 is taken for images in 0..255; other numbers are kept as float32 and must lie in [0, 1].

    Raises:
        UserError: the file is missing, is no .npz, lacks an array, or holds values that do not fit.
    """
    try:
        arrays = read_npz(Path(path))
    except UserError as error:
        raise UserError(f"dataset={error} with arrays x and y") from None
    for key in ("x", "y"):
        if key not in arrays:
            raise UserError(
                f"dataset={path}: has no array {key!r}, only {', '.join(sorted(arrays)) or 'nothing'}; needed: x and y"
            )
    x, y = arrays["x"], arrays["y"]
    if not np.issubdtype(y.dtype, np.integer):
        raise UserError(f"dataset={path}: y is {y.dtype}; allowed: integer labels")
    if x.ndim < 2 or not len(x) or not (np.issubdtype(x.dtype, np.number) or x.dtype == np.bool_):
        raise UserError(f"dataset={path}: x is {x.dtype} of shape {x.shape}; allowed: numbers (records, ...)")
    if x.dtype != np.uint8:
        x = x.astype(np.float32)
        if not np.isfinite(x).all() or x.min() < 0 or x.max() > 1:
            raise UserError(f"dataset={path}: x reaches from {x.min():g} to {x.max():g}; allowed: uint8, or numbers in [0, 1]")
    if y.shape == x.shape[:1] and len(np.unique(y)) < 2:
        raise UserError(f"dataset={path}: y holds one class; allowed: at least two classes")
    count = int(y.max()) + 1 if len(y) else 0
    names = (
        tuple(str(name) for name in arrays["class_names"]) if "class_names" in arrays else tuple(str(k) for k in range(count))
    )
    return LabeledData(name=Path(path).stem, x=x, y=y.astype(np.int64), class_names=names, source=f"the file {Path(path).name}")
