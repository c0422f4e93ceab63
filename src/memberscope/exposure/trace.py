"""The loss trace of one training run: each record's loss by epoch, as float32 on disk, from which records are ranked without shadow models.

In any training loop it takes one line an epoch:

    trace = LossTrace.create("loss.trace", record_ids=ids, member=member, labels=labels)
    for epoch in range(epochs):
        ...  # train
        trace.update(losses)  # (n,) in the order of the ids

The losses are those of a pass over members *and* non-members in evaluation mode (no dropout, no augmentation), after the epoch's last
step. The running losses of the training batches are not: they are of other weights, of augmented records, and of members alone.

**The file.** A line that says what it is, a header in JSON, the records (an ``.npz``), and then a row for each epoch: its number, a
checksum, and n float32 losses. A row is appended and flushed to the disk before `LossTrace.update` returns. One that was cut short, by a
kill or a full disk, is not counted and is overwritten by the next, so the file is whole after every stop. There must be one writer.

The file tells who the members are, and so only its owner may read it (mode 600). `LossTrace.save_sealed` writes a copy that can be kept
with a run.
"""

from __future__ import annotations

import io
import json
import os
import uuid
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from memberscope.checks import Array, BoolArray, check_finite, check_labels, plain_array, row_chunks, signed
from memberscope.errors import UserError
from memberscope.npz import read_npz
from memberscope.sealed import is_sealed, unsealed, write_sealed
from memberscope.training.outside.answers import BadModel, as_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from memberscope.predictions import Predictions
    from memberscope.secret import Key

MAGIC = b"memberscope loss trace 1\n"
_ALIGN = 64
_FIELDS = ("record_ids", "member", "labels")
LEAST_AGREEMENT = 0.1
"""Rank correlation of a trace's last losses and the predictions' own below which records without ids are not taken for the same."""


class LossTrace:
    """Losses of n records over the epochs of one training.

    Made by `create`, `resume` or `open`, never directly.

    Attributes:
        path: the file.
        record_ids: (n,) ints or text, which are all different.
        member: (n,) bool, whether the model is trained on the record; None where that is not kept.
        labels: (n,) classes; None where they are not kept.
        every: epochs from one row to the next.
        epochs: number of the last epoch of a whole training; None if it was not said.
    """

    def __init__(self, path: Path, records: _Records, rows: _Rows | _Held) -> None:
        """Take what the constructors have read or written."""
        self.path, self._rows = path, rows
        self.record_ids, self.member, self.labels = records.record_ids, records.member, records.labels
        self.every, self.epochs = records.every, records.epochs

    # ------------------------------------------------------------------------------------------------------------------ constructors

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], *, record_ids: ArrayLike | int, member: ArrayLike | None = None,
        labels: ArrayLike | None = None, every: int = 1, epochs: int | None = None,
    ) -> Self:  # fmt: skip
        """Begin a trace in a new file.

        Args:
            path: the file, which must not exist.
            record_ids: (n,) ints or text, all different, in the order in which losses will be given; or n, for 0 to n - 1.
            member: (n,) bool, whether the model is trained on the record. With it, the file alone can be audited.
            labels: (n,) classes, for slices by class.
            every: epochs from one call of `update` to the next.
            epochs: number of the last epoch, if it is known: a trace that ends earlier is then refused when it is read.

        Raises:
            UserError: the file exists or cannot be written; ids that repeat; arrays that do not fit together.
        """
        records = _Records.of(record_ids, member, labels, every=every, epochs=epochs)
        place = Path(path)
        content = records.to_bytes()
        temporary = place.with_name(f".{place.name}.{uuid.uuid4().hex}.tmp")
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if place.exists():
                raise UserError(
                    f"{place}: exists; allowed: a new file, LossTrace.resume to continue it, or LossTrace.open to read it"
                )
            os.replace(temporary, place)
        except OSError as error:
            raise UserError(f"{place}: cannot be written ({error.strerror}); allowed: a file in a folder that exists") from None
        finally:
            temporary.unlink(missing_ok=True)
        return cls(place, records, _Rows(place, n=len(records.record_ids), start=len(content)))

    @classmethod
    def resume(
        cls, path: str | os.PathLike[str], *, record_ids: ArrayLike | int, member: ArrayLike | None = None,
        labels: ArrayLike | None = None, every: int = 1, epochs: int | None = None,
    ) -> Self:  # fmt: skip
        """Continue the trace of a training that was stopped, or begin it where there is no file.

        A training that continues from a checkpoint says its epoch in `update`; rows from that epoch on are then replaced.

        Args:
            path, record_ids, member, labels, every, epochs: as in `create`, and the same as then (but for `epochs`, which may grow).

        Raises:
            UserError: the file's records are not these: how many differ, and the first.
        """
        if not Path(path).exists():
            return cls.create(path, record_ids=record_ids, member=member, labels=labels, every=every, epochs=epochs)
        found, asked = cls.open(path), _Records.of(record_ids, member, labels, every=every, epochs=epochs)
        found._check_same(asked)
        found.epochs = epochs
        return found

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, key: Key | None = None) -> Self:
        """Read the trace in a file that `create` wrote, or the sealed copy that a run keeps. Nothing in the file is executed.

        Args:
            path: the file.
            key: the key of a sealed copy; None: the user's own (see `memberscope.secret`).

        Raises:
            UserError: the file is missing, is no trace, is damaged, or is sealed with another key.
        """
        place = Path(path)
        if _is_zip(place):
            return cls(place, *_unsealed(place, key))
        records, start = _Records.read(place)
        return cls(place, records, _Rows(place, n=len(records.record_ids), start=start))

    # ----------------------------------------------------------------------------------------------------------------------- writing

    def update(self, losses: Any, *, epoch: int | None = None) -> None:
        """Append the losses of one epoch.

        Args:
            losses: (n,) losses in nats, in the order of `record_ids`: an array, a list, or a tensor of PyTorch or TensorFlow.
            epoch: its number, from 1; None: the next. Rows from this epoch on that are there already are replaced.

        Raises:
            UserError: another number of losses; losses that are NaN or infinite (how many, and the first); an epoch below 1; the file
                cannot be written.
        """
        last = self.steps[-1] if len(self) else 0
        number = last + self.every if epoch is None else int(epoch)
        if number < 1:
            raise UserError(f"epoch={number}: out of range; allowed: 1 or more")
        if isinstance(self._rows, _Held):
            raise UserError(
                f"{self.path}: a sealed copy of a loss trace, which cannot be continued; allowed: a file of LossTrace.create"
            )
        self._rows.append(number, self._checked(losses, number))

    def _checked(self, losses: Any, epoch: int) -> Array:
        try:
            found = as_array(losses, "")
        except BadModel as error:
            raise UserError(f"losses of epoch {epoch}: {error}") from None
        if found.shape != self.record_ids.shape:
            raise UserError(
                f"losses of epoch {epoch}: shape {found.shape}; allowed: {self.record_ids.shape}, one for each record"
            )
        with np.errstate(over="ignore"):
            row = found.astype("<f4")
        check_finite(f"losses of epoch {epoch}", row)
        return row

    # ----------------------------------------------------------------------------------------------------------------------- reading

    def __len__(self) -> int:
        """Number of epochs that are kept."""
        return self._rows.count

    @property
    def steps(self) -> tuple[int, ...]:
        """The numbers of the epochs that are kept."""
        return tuple(self._rows.mapped()["epoch"].tolist())

    @property
    def losses(self) -> Array:
        """(epochs, n) float32, read-only and mapped from the disk."""
        rows: Array = self._rows.mapped()["losses"]
        return rows

    def check(self) -> None:
        """Raise UserError unless all epochs are there, every row is as it was written, and all losses are finite numbers."""
        steps = self.steps
        if not steps:
            raise UserError(f"{self.path}: a loss trace without any epoch; allowed: at least one")
        last = max(steps[-1], self.epochs or 0)
        first = steps[0] if steps[0] <= self.every else self.every
        expected = [*range(first, last, self.every), last]
        words = "each epoch" if self.every == 1 else f"every {self.every} epochs"
        for some, what in ((set(expected) - set(steps), "missing from"), (set(steps) - set(expected), "too many in")):
            if some:
                few = ", ".join(map(str, sorted(some)[:3]))
                raise UserError(
                    f"{self.path}: {len(some)} of {len(expected)} epochs are {what} the loss trace, the first {few}; allowed: a row for "
                    f"{words} to the last"
                )
        self._rows.check()

    def by_record(self, places: Array | None = None) -> Array:
        """(m, epochs) float32 losses of the records at some places, or of all; the last epoch last.

        Raises:
            UserError: see `check`.
        """
        self.check()
        rows = self.losses
        found = np.empty((rows.shape[1] if places is None else len(places), len(rows)), np.float32)
        for column, row in enumerate(rows):
            found[:, column] = row if places is None else row[places]
        return found

    def of(self, predictions: Predictions) -> Array:
        """(n, epochs) losses of the records of some predictions, in their order.

        Records are found by their ids. Without ids in the predictions, both must hold the same records in the same order, as far as
        their number, membership, labels and last losses can show.

        Raises:
            UserError: records that do not match (how many, and the first), or see `check`.
        """
        return self.by_record(self.places_of(predictions))

    def places_of(self, predictions: Predictions) -> Array | None:
        """(n,) places in this trace of the records of some predictions; None where these are all of it, in its order.

        Raises:
            UserError: as in `of`.
        """
        places = None
        if predictions.record_ids is not None:
            places = self._find(predictions.record_ids)
        elif len(predictions) != len(self.record_ids):
            raise UserError(
                f"{self.path}: a loss trace of {len(self.record_ids)} records, and the predictions hold {len(predictions)} without "
                "record_ids; allowed: as many, in the same order, or record_ids"
            )
        for name in ("member", "labels"):
            ours, theirs = getattr(self, name), getattr(predictions, name)
            if ours is None or theirs is None:
                continue
            ours = ours if places is None else ours[places]
            kinds = {array.dtype.kind in "US" for array in (ours, theirs)}
            _check_equal(
                f"{self.path}: {name}", np.ones(len(theirs), bool) if len(kinds) > 1 else ours != theirs, "the predictions"
            )
        if places is None:
            self._check_agreement(predictions)
        return places

    def predictions(self) -> Predictions:
        """The last losses as predictions, for an audit of the trace alone.

        Raises:
            UserError: the trace does not say who is a member, or see `check`.
        """
        from memberscope.predictions import Predictions

        if self.member is None:
            raise UserError(
                f"{self.path}: the loss trace does not say who is a member; allowed: predictions of its records, or a trace with member"
            )
        last = self.by_record()[:, -1]
        return Predictions(loss_nats=last, labels=self.labels, member=self.member, record_ids=self.record_ids)

    def _find(self, ids: Array) -> Array:
        text = {array.dtype.kind in "US" for array in (ids, self.record_ids)}
        unknown = np.ones(len(ids), dtype=np.bool_)
        places = np.zeros(len(ids), dtype=np.intp)
        if len(text) == 1:
            order = np.argsort(self.record_ids, kind="stable")
            places = order[np.minimum(np.searchsorted(self.record_ids[order], ids), len(order) - 1)]
            unknown = self.record_ids[places] != ids
        if unknown.any():
            few = ", ".join(str(one) for one in ids[unknown][:3].tolist())
            raise UserError(
                f"{self.path}: {int(unknown.sum())} of the {len(ids)} records of the predictions are not in the loss trace, the first "
                f"{few}; allowed: a trace of the same records under the same record_ids"
            )
        return places

    def _check_agreement(self, predictions: Predictions) -> None:
        """Raise UserError where records were matched by their order, and their losses speak against it."""
        from memberscope import signals

        if not len(self) or predictions.released or signals.missing("loss_nats", predictions):
            return
        from scipy.stats import spearmanr

        theirs, ours = signals.loss_nats(predictions), np.asarray(self.losses[-1], dtype=np.float64)
        if len(np.unique(theirs)) < 2 or len(np.unique(ours)) < 2:
            return
        found = float(spearmanr(ours, theirs).statistic)
        if found < LEAST_AGREEMENT:
            raise UserError(
                f"{self.path}: the last losses of the trace and those of the predictions have a rank correlation of {found:.2f}, so the "
                "records are not the same or not in the same order; allowed: the order of the trace, or record_ids in both"
            )

    def _check_same(self, asked: _Records) -> None:
        """Raise UserError unless the records and the stride are those of this trace."""
        ids = self.record_ids
        if len(ids) != len(asked.record_ids):
            raise UserError(
                f"{self.path}: a loss trace of {len(ids)} records; allowed: the same records (now {len(asked.record_ids)})"
            )
        for name in _FIELDS:
            ours, theirs = getattr(self, name), getattr(asked, name)
            if (ours is None) != (theirs is None):
                raise UserError(f"{self.path}: {name} is {'absent' if ours is None else 'there'}; allowed: as it was begun")
            if ours is not None:
                kinds = {array.dtype.kind in "US" for array in (ours, theirs)}
                _check_equal(
                    f"{self.path}: {name}", np.ones(len(ours), bool) if len(kinds) > 1 else ours != theirs, "this training"
                )
        if self.every != asked.every:
            raise UserError(
                f"{self.path}: a row for every {self.every} epochs; allowed: every={self.every} (now {asked.every})"
            )

    # ------------------------------------------------------------------------------------------------------------------------ copies

    def save_sealed(self, path: str | os.PathLike[str], *, key: Key) -> None:
        """Write a copy that only whoever has the key can read, see `memberscope.sealed`; `open` reads it."""
        arrays = {name: getattr(self, name) for name in _FIELDS if getattr(self, name) is not None}
        about = {"steps": np.array(self.steps, np.int64), "every": np.array(self.every), "last": np.array(self.epochs or 0)}
        write_sealed(Path(path), {**arrays, **about, "losses": np.asarray(self.losses)}, key=key)


def _is_zip(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"PK"
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); allowed: a file of memberscope.LossTrace") from None


def _unsealed(path: Path, key: Key | None) -> tuple[_Records, _Held]:
    """The records and rows of a sealed copy."""
    arrays = read_npz(path)
    if is_sealed(arrays):
        from memberscope.secret import key as own_key

        arrays = unsealed(path, arrays, key=own_key() if key is None else key)
    if not arrays.keys() >= {"record_ids", "steps", "every", "last", "losses"}:
        raise UserError(f"{path}: no loss trace; allowed: a file of memberscope.LossTrace, or the loss_trace.npz of a run")
    every, last = int(arrays["every"]), int(arrays["last"]) or None
    records = _Records(arrays["record_ids"], arrays.get("member"), arrays.get("labels"), every, last)
    return records, _Held(steps=arrays["steps"], losses=arrays["losses"])


def _check_equal(name: str, differs: BoolArray, other: str) -> None:
    if differs.any():
        raise UserError(
            f"{name}: {int(differs.sum())} of {len(differs)} records differ from {other}, the first at {int(np.argmax(differs))}; allowed: "
            "the same records in the same order"
        )


class _Records:
    """What a trace says of its records."""

    def __init__(
        self, record_ids: Array, member: BoolArray | None, labels: Array | None, every: int, epochs: int | None
    ) -> None:
        self.record_ids, self.member, self.labels, self.every, self.epochs = record_ids, member, labels, every, epochs

    @classmethod
    def of(
        cls, record_ids: ArrayLike | int, member: ArrayLike | None, labels: ArrayLike | None, *, every: int, epochs: int | None
    ) -> Self:  # fmt: skip
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
        np.savez(file, **{name: getattr(self, name) for name in _FIELDS if getattr(self, name) is not None})
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
                    raise UserError(f"{path}: no loss trace; allowed: a file of memberscope.LossTrace")
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


class _Rows:
    """The rows of a file: an epoch's number, a checksum, and its losses."""

    def __init__(self, path: Path, *, n: int, start: int) -> None:
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
        """Raise UserError for rows that are not as they were written, or losses that are no finite numbers."""
        rows = self.mapped()
        for part in row_chunks(len(rows), self.dtype.itemsize // 4):
            good = self._sound(rows[part])
            if not good.all():
                raise UserError(
                    f"{self.path}: damaged at epoch {int(rows[part]['epoch'][~good][0])} of the loss trace; allowed: a file as "
                    "memberscope.LossTrace wrote it"
                )

    def _sound(self, rows: Array) -> BoolArray:
        return np.array([int(row["check"]) == _checksum(row) for row in rows], dtype=np.bool_)


class _Held:
    """The rows of a sealed copy, which are never written to the disk."""

    def __init__(self, *, steps: Array, losses: Array) -> None:
        self._rows = np.zeros(len(steps), [("epoch", "<i8"), ("losses", "<f4", losses.shape[1:])])
        self._rows["epoch"], self._rows["losses"] = steps, losses
        self._rows.flags.writeable = False
        self.count = len(steps)

    def mapped(self) -> Array:
        """(epochs,) the rows."""
        return self._rows

    def check(self) -> None:
        """Nothing: the seal tells whether they are as they were written."""


def _checksum(row: Any) -> int:
    return zlib.crc32(row["losses"].tobytes(), zlib.crc32(np.int64(row["epoch"]).tobytes()))
