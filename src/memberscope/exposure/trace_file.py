"""The file of a loss trace: its records, its rows, and the rows of a sealed copy. See `memberscope.exposure.trace`."""

from __future__ import annotations

import io
import json
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from memberscope.checks import Array, BoolArray, check_labels, plain_array, row_chunks, signed
from memberscope.errors import UserError
from memberscope.file_state import loaded
from memberscope.npz import read_npz
from memberscope.sealed import is_sealed, unsealed

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from memberscope.secret import Key

MAGIC = b"memberscope loss trace 1\n"
FIELDS = ("record_ids", "member", "labels")
_ALIGN = 64


def is_zip(path: Path) -> bool:
    """Whether a file is an ``.npz``, as sealed copies are; UserError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"PK"
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); allowed: a file of memberscope.LossTrace") from None


def read_sealed(path: Path, key: Key | None) -> tuple[TraceRecords, Held]:
    """The records and rows of a sealed copy."""
    arrays = read_npz(path)
    if is_sealed(arrays):
        from memberscope.secret import key as own_key

        arrays = unsealed(path, arrays, key=own_key() if key is None else key)
    if not arrays.keys() >= {"record_ids", "steps", "every", "last", "losses"}:
        raise UserError(f"{path}: not a loss trace; allowed: a file of memberscope.LossTrace, or the loss_trace.npz of a run")
    every, last = int(arrays["every"]), int(arrays["last"]) or None
    records = TraceRecords(arrays["record_ids"], arrays.get("member"), arrays.get("labels"), every, last)
    return records, Held(steps=arrays["steps"], losses=arrays["losses"])


class TraceRecords:
    """What a trace says of its records; the fields are those of `memberscope.exposure.trace.LossTrace`."""

    def __init__(
        self, record_ids: Array, member: BoolArray | None, labels: Array | None, every: int, epochs: int | None
    ) -> None:
        """Take fields that are checked already."""
        self.record_ids, self.member, self.labels, self.every, self.epochs = record_ids, member, labels, every, epochs

    @classmethod
    def of(
        cls, record_ids: ArrayLike | int, member: ArrayLike | None, labels: ArrayLike | None, *, every: int, epochs: int | None
    ) -> Self:  # fmt: skip
        """Check what a user gave; UserError for ids that repeat, and for arrays that do not fit together."""
        ids = (
            np.arange(record_ids) if isinstance(record_ids, int | np.integer) else signed(plain_array("record_ids", record_ids))
        )
        if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "iuUS":
            raise UserError(
                f"record_ids: {ids.dtype} of shape {ids.shape}; allowed: (n,) whole numbers or text, or n, at least 1"
            )
        _, first, counts = np.unique(ids, return_index=True, return_counts=True)
        if (counts > 1).any():
            again = ids[first[counts > 1].min()]
            raise UserError(
                f"record_ids: {int((counts - 1).sum())} repeat, the first {again}; allowed: a different one for each record"
            )
        who = None if member is None else plain_array("member", member)
        if who is not None and (who.dtype != np.bool_ or who.shape != ids.shape):
            raise UserError(f"member: {who.dtype} of shape {who.shape}; allowed: booleans of shape {ids.shape}")
        what = None if labels is None else signed(plain_array("labels", labels))
        if what is not None:
            check_labels("labels", what)
            if what.shape != ids.shape:
                raise UserError(f"labels: shape {what.shape}; allowed: {ids.shape}, one for each record")
        if every < 1:
            raise UserError(f"every={every}: out of range; allowed: 1 or more")
        if epochs is not None and epochs < every:
            raise UserError(f"epochs={epochs}: out of range; allowed: {every} or more, or None")
        return cls(ids, who, what, int(every), epochs)

    def to_bytes(self) -> bytes:
        """The start of a file, up to its first row."""
        file = io.BytesIO()
        np.savez(file, **{name: getattr(self, name) for name in FIELDS if getattr(self, name) is not None})
        records = file.getvalue()
        about = {"every": self.every, "epochs": self.epochs, "records": len(records), "check": zlib.crc32(records)}
        head = MAGIC + json.dumps(about).encode() + b"\n" + records
        return head + b"\0" * (-len(head) % _ALIGN)

    @classmethod
    def read(cls, path: Path) -> tuple[Self, int]:
        """The records of a file, and where its rows start."""
        try:
            with open(path, "rb") as file:
                if file.readline(len(MAGIC)) != MAGIC:
                    raise UserError(f"{path}: not a loss trace; allowed: a file of memberscope.LossTrace")
                line = file.readline(4096)
                about = json.loads(line)
                content = file.read(about["records"])
                if len(content) != about["records"] or zlib.crc32(content) != about["check"]:
                    raise ValueError("its records are not as they were written")
                with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                    found = {name: arrays[name] for name in arrays.files}
                size = len(MAGIC) + len(line) + len(content)
                known = cls(found["record_ids"], found.get("member"), found.get("labels"), int(about["every"]), about["epochs"])
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); allowed: a file of memberscope.LossTrace") from None
        except (ValueError, KeyError, TypeError, EOFError) as error:
            raise UserError(f"{path}: truncated or damaged ({error}); collect the trace again") from None
        return known, size + (-size % _ALIGN)


class TraceRows:
    """The rows of a file: an epoch's number, a checksum, and its losses."""

    def __init__(self, path: Path, *, n: int, start: int) -> None:
        """Count the rows of `n` losses that stand in the file from the byte `start` on."""
        self.path, self.start = path, start
        self.dtype = np.dtype([("epoch", "<i8"), ("check", "<u4"), ("spare", "<u4"), ("losses", "<f4", (n,))])
        whole = max(0, path.stat().st_size - start) // self.dtype.itemsize
        self.count = whole
        if whole and not self._sound(self.mapped()[-1:]).all():
            self.count = whole - 1  # the last row was cut short where the file system had made room for it

    def mapped(self) -> Array:
        """(epochs,) the rows, mapped from the disk."""
        if not self.count:
            return np.empty(0, self.dtype)
        return np.memmap(self.path, self.dtype, mode="r", offset=self.start, shape=(self.count,))

    def append(self, epoch: int, losses: Array) -> None:
        """Write a row after those of earlier epochs, in place of any others."""
        kept = int(np.searchsorted(self.mapped()["epoch"], epoch))
        row = np.zeros(1, self.dtype)
        row["epoch"], row["losses"] = epoch, losses
        row["check"] = _checksum(row[0])
        try:
            with open(self.path, "r+b") as file:
                file.truncate(self.start + kept * self.dtype.itemsize)
                file.seek(0, os.SEEK_END)
                self.count = kept
                file.write(row.tobytes())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror}); allowed: a file that can be") from None
        self.count = kept + 1

    def check(self) -> None:
        """Raise UserError for rows that differ from what was written, or losses that are not finite numbers."""
        rows = self.mapped()
        for part in row_chunks(len(rows), self.dtype.itemsize // 4):
            good = self._sound(loaded(rows[part], where=str(self.path)))
            if not good.all():
                raise UserError(
                    f"{self.path}: damaged at epoch {int(rows[part]['epoch'][~good][0])} of the loss trace; allowed: a file as "
                    "memberscope.LossTrace wrote it"
                )

    def _sound(self, rows: Array) -> BoolArray:
        return np.array([int(row["check"]) == _checksum(row) for row in rows], dtype=np.bool_)


class Held:
    """The rows of a sealed copy, which are never written to the disk."""

    def __init__(self, *, steps: Array, losses: Array) -> None:
        """Take the numbers (epochs,) and the losses (epochs, n)."""
        self._rows = np.zeros(len(steps), [("epoch", "<i8"), ("losses", "<f4", losses.shape[1:])])
        self._rows["epoch"], self._rows["losses"] = steps, losses
        self._rows.flags.writeable = False
        self.count = len(steps)

    def mapped(self) -> Array:
        """(epochs,) the rows."""
        return self._rows

    def check(self) -> None:
        """Does nothing: the seal already guarantees that they are unchanged."""


def _checksum(row: Any) -> int:
    return zlib.crc32(row["losses"].tobytes(), zlib.crc32(np.int64(row["epoch"]).tobytes()))
