"""Members and non-members from a user's files: ``.npz`` of ``x`` and ``y``, Parquet, or CSV with a label column.

A record is known by its content: the same features and label are the same record, whichever file it stands in. That is what finds
records that are on both sides, and what pairs two audits of different models.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import UserError, nearest
from memberscope.npz import read_npz

if TYPE_CHECKING:
    import pandas as pd

KINDS = ".npz, .parquet or .csv"


@dataclass(frozen=True, kw_only=True)
class Records:
    """One side's records.

    Attributes:
        x: (n, ...) array, or a frame of the feature columns.
        y: (n,) labels: numbers or text.
        name: the parameter that named the file, for errors.
        path: the file.
    """

    x: NDArray[Any] | pd.DataFrame
    y: NDArray[Any]
    name: str
    path: str

    def __len__(self) -> int:
        """How many records."""
        return len(self.y)

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The names of the feature columns; None for an array."""
        return None if isinstance(self.x, np.ndarray) else tuple(map(str, self.x.columns))

    def numbers(self, others: Records | None = None) -> NDArray[Any]:
        """The features as numbers, for controls: a frame's text columns become codes of their sorted values, here and in `others`.

        Missing numbers stay NaN.
        """
        if isinstance(self.x, np.ndarray):
            return self.x
        columns = []
        for name in self.x.columns:
            column = self.x[name]
            if column.dtype.kind in "fiub":
                columns.append(column.to_numpy(dtype=np.float64, na_value=np.nan))
                continue
            seen = {str(value) for side in (self, others or self) for value in side.x[name].tolist()}
            place = {value: number for number, value in enumerate(sorted(seen))}
            columns.append(np.array([place[str(value)] for value in column.tolist()], dtype=np.float64))
        return np.stack(columns, axis=1) if columns else np.empty((len(self), 0))


def read_records(name: str, path: str, *, label: str) -> Records:
    """Read one side.

    Args:
        name: the parameter, for errors.
        path: an ``.npz`` with arrays ``x`` and ``y`` (nothing in it is executed), a ``.parquet`` or a ``.csv``.
        label: the column of a table that holds the labels.

    Raises:
        UserError: the file is missing, of another kind, lacks labels, has missing labels, or holds nothing.
    """
    if not path:
        raise UserError(f"{name}=: missing; allowed: the path of a file, {KINDS}")
    if not Path(path).is_file():
        raise UserError(f"{name}={path}: no such file; allowed: the path of a file, {KINDS}")
    kind = Path(path).suffix.lower()
    if kind == ".npz":
        return _arrays(name, path)
    if kind in (".parquet", ".pq", ".csv"):
        return _table(name, path, label, csv=kind == ".csv")
    raise UserError(f"{name}={path}: unknown kind of file; allowed: {KINDS}")


def _arrays(name: str, path: str) -> Records:
    try:
        arrays = read_npz(Path(path))
    except UserError as error:
        raise UserError(f"{name}={error}") from None
    for key in ("x", "y"):
        if key not in arrays:
            raise UserError(
                f"{name}={path}: has no array {key!r}, only {', '.join(sorted(arrays)) or 'nothing'}; needed: x and y"
            )
    x, y = arrays["x"], arrays["y"]
    if x.ndim < 2 or not len(x) or x.dtype.kind not in "fiub":
        raise UserError(f"{name}={path}: x is {x.dtype} of shape {x.shape}; allowed: numbers (records, ...)")
    if y.shape != x.shape[:1] or y.dtype.kind not in "fiubUS":
        raise UserError(f"{name}={path}: y is {y.dtype} of shape {y.shape} for {len(x)} records; allowed: one label a record")
    return Records(x=x, y=y, name=name, path=path)


def _table(name: str, path: str, label: str, *, csv: bool) -> Records:
    import pandas as pd

    try:
        # round_trip: the default parser is off in the last digit, and a record would not be the same in two kinds of file
        frame = pd.read_csv(path, float_precision="round_trip") if csv else pd.read_parquet(path)
    except (OSError, ValueError, UnicodeError) as error:  # pandas' and Arrow's parsing errors are ValueErrors
        raise UserError(f"{name}={path}: cannot be read ({str(error).splitlines()[0]}); allowed: {KINDS}") from None
    frame.columns = [str(column) for column in frame.columns]
    if label not in frame.columns:
        shown = ", ".join(frame.columns[:12]) + (", ..." if len(frame.columns) > 12 else "")
        raise UserError(f"label={label}: no column of {path}; allowed: one of {shown}{nearest(label, frame.columns)}")
    if not len(frame):
        raise UserError(f"{name}={path}: holds no record; allowed: at least one")
    missing = int(frame[label].isna().sum())
    if missing:
        raise UserError(f"{name}={path}: {missing} records have no {label}; allowed: a label a record")
    y = frame.pop(label)
    return Records(x=frame, y=plain_labels(y), name=name, path=path)


def plain_labels(labels: Any) -> NDArray[Any]:
    """Labels as numbers or text, never objects; integer columns that pandas holds as objects become integers again."""
    array = np.asarray(labels)
    if array.dtype.kind != "O":
        return array
    listed = array.tolist()
    return np.array(listed) if all(isinstance(value, int) for value in listed) else array.astype(str)


def record_ids(members: Records, nonmembers: Records) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One number a record, the same for the same features and label: 63 bits of BLAKE2b over their values as both files hold them.

    Numbers are compared as numbers: 1 in one file is 1.0 in the other.

    Raises:
        UserError: the files' records have different shapes or columns.
    """
    ours, theirs = members.x, nonmembers.x
    if members.columns != nonmembers.columns:
        mine, other = set(members.columns or ()), set(nonmembers.columns or ())
        apart = sorted(mine ^ other)
        what = f"columns {', '.join(apart[:8])} are in one file only" if apart else "the columns stand in another order"
        if members.columns is None or nonmembers.columns is None:
            what = "one file holds an array, the other a table"
        if apart or members.columns is None or nonmembers.columns is None:
            raise UserError(f"nonmembers={nonmembers.path}: {what}; allowed: files alike")
    if isinstance(ours, np.ndarray) and isinstance(theirs, np.ndarray):
        if ours.shape[1:] != theirs.shape[1:]:
            raise UserError(
                f"nonmembers={nonmembers.path}: records of shape {theirs.shape[1:]}, members of shape {ours.shape[1:]}; allowed: alike"
            )
        if ours.dtype == theirs.dtype and ours.dtype.kind in "iub":
            return _hashed(members, ours), _hashed(nonmembers, theirs)
        return _hashed(members, ours.astype(np.float64) + 0.0), _hashed(nonmembers, theirs.astype(np.float64) + 0.0)
    return _hashed(members, _rows(members)), _hashed(nonmembers, _rows(nonmembers, members.columns))


def _rows(side: Records, order: tuple[str, ...] | None = None) -> NDArray[Any] | list[bytes]:
    """A frame's rows: as bytes of their numbers, then of their text, columns in `order`."""
    if isinstance(side.x, np.ndarray):
        return side.x
    frame: pd.DataFrame = side.x[list(order)] if order else side.x
    numeric = [name for name in frame.columns if frame[name].dtype.kind in "fiub"]
    text = [name for name in frame.columns if name not in set(numeric)]
    numbers: NDArray[np.float64] = frame[numeric].to_numpy(dtype=np.float64) + 0.0
    if not text:
        return numbers
    words = ["\x1f".join(map(str, row)).encode() for row in zip(*(frame[name].tolist() for name in text), strict=True)]
    return [row.tobytes() + word for row, word in zip(numbers, words, strict=True)]


def _hashed(side: Records, rows: NDArray[Any] | list[bytes]) -> NDArray[np.int64]:
    labels = [
        str(int(value)) if isinstance(value, float | bool) and value == int(value) else str(value) for value in side.y.tolist()
    ]
    found = np.empty(len(side), dtype=np.uint64)
    for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
        digest = hashlib.blake2b(row if isinstance(row, bytes) else row.tobytes(), digest_size=8, key=label.encode()[:64])
        found[number] = int.from_bytes(digest.digest(), "little")
    return (found >> np.uint64(1)).astype(np.int64)


def check_apart(members: NDArray[np.int64], nonmembers: NDArray[np.int64], *, allowed: bool) -> str:
    """What to say of records that are on both sides: nothing if there are none.

    Raises:
        UserError: there are some, and they are not `allowed`: how many, and where the first few stand.
    """
    shared = np.isin(members, nonmembers)
    count = int(shared.sum())
    if not count:
        return ""
    place = {int(record): row for row, record in reversed(list(enumerate(nonmembers.tolist())))}
    first = [f"{row} is {place[int(members[row])]}" for row in np.flatnonzero(shared)[:3]]
    what = f"{count} of {len(members)} members are also non-members (row, counted from 0, of members and of nonmembers: {', '.join(first)})"
    if not allowed:
        raise UserError(f"nonmembers: {what}; allowed: records that the model never saw, or allow_overlap=yes")
    return f"{what}; allow_overlap=yes let them stay, and every figure is drawn toward chance by them"


def digest(ids: NDArray[np.int64]) -> str:
    """SHA-256 of one side, from its records' numbers in order."""
    return hashlib.sha256(np.ascontiguousarray(ids, dtype="<i8").tobytes()).hexdigest()
