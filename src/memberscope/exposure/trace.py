"""The loss trace of one training run: each record's loss by epoch, as float32 on disk, from which records are ranked without shadow models.

In any training loop it takes one line per epoch::

    trace = LossTrace.create("loss.trace", record_ids=ids, member=member, labels=labels)
    for epoch in range(epochs):
        ...  # train
        trace.update(losses)  # (n,) in the order of the ids

The losses are those of a pass over members *and* non-members in evaluation mode (no dropout, no augmentation), after the epoch's last
step. The running losses of the training batches are not: they are computed with other weights, on augmented records, and for members only.

**The file.** A line that says what it is, a header in JSON, the records (an ``.npz``), and then a row for each epoch: its number, a
checksum, and n float32 losses. A row is appended and flushed to the disk before `LossTrace.update` returns. One that was cut short, by a
kill or a full disk, is not counted and is overwritten by the next, so the file stays valid after every stop. There must be only one writer.

The file reveals who the members are, so only its owner may read it (mode 600). `LossTrace.save_sealed` writes a copy that can be kept
with a run.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from memberscope.checks import Array, BoolArray, check_finite
from memberscope.errors import UserError
from memberscope.exposure.trace_file import FIELDS, Held, TraceRecords, TraceRows, is_zip, read_sealed
from memberscope.file_state import loaded
from memberscope.sealed import write_sealed
from memberscope.training.outside.answers import BadModel, as_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from memberscope.predictions import Predictions
    from memberscope.secret import Key

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
        epochs: number of the last epoch of the whole training; None if it is not known.
    """

    def __init__(self, path: Path, records: TraceRecords, rows: TraceRows | Held) -> None:
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
        records = TraceRecords.of(record_ids, member, labels, every=every, epochs=epochs)
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
        return cls(place, records, TraceRows(place, n=len(records.record_ids), start=len(content)))

    @classmethod
    def resume(
        cls, path: str | os.PathLike[str], *, record_ids: ArrayLike | int, member: ArrayLike | None = None,
        labels: ArrayLike | None = None, every: int = 1, epochs: int | None = None,
    ) -> Self:  # fmt: skip
        """Continue the trace of a training that was stopped, or begin it if there is no file.

        A training that continues from a checkpoint passes its epoch to `update`; rows from that epoch on are then replaced.

        Args:
            path, record_ids, member, labels, every, epochs: as in `create`, and the same as then (but for `epochs`, which may grow).

        Raises:
            UserError: the file's records are not these: how many differ, and the first.
        """
        if not Path(path).exists():
            return cls.create(path, record_ids=record_ids, member=member, labels=labels, every=every, epochs=epochs)
        found, asked = cls.open(path), TraceRecords.of(record_ids, member, labels, every=every, epochs=epochs)
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
            UserError: the file is missing, is not a trace, is damaged, or is sealed with another key.
        """
        place = Path(path)
        if is_zip(place):
            return cls(place, *read_sealed(place, key))
        records, start = TraceRecords.read(place)
        return cls(place, records, TraceRows(place, n=len(records.record_ids), start=start))

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
        if isinstance(self._rows, Held):
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
            held = loaded(row, where=str(self.path))
            found[:, column] = held if places is None else held[places]
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
        """The last losses as predictions, for an audit of only the trace.

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
        """Raise UserError if records were matched by their order, and their losses contradict it."""
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

    def _check_same(self, asked: TraceRecords) -> None:
        """Raise UserError unless the records and the stride are those of this trace."""
        ids = self.record_ids
        if len(ids) != len(asked.record_ids):
            raise UserError(
                f"{self.path}: a loss trace of {len(ids)} records; allowed: the same records (now {len(asked.record_ids)})"
            )
        for name in FIELDS:
            ours, theirs = getattr(self, name), getattr(asked, name)
            if (ours is None) != (theirs is None):
                raise UserError(
                    f"{self.path}: {name} is {'absent' if ours is None else 'present'}; allowed: as when the trace was created"
                )
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
        """Write a copy that can be read only with the key, see `memberscope.sealed`; `open` reads it."""
        arrays = {name: getattr(self, name) for name in FIELDS if getattr(self, name) is not None}
        about = {"steps": np.array(self.steps, np.int64), "every": np.array(self.every), "last": np.array(self.epochs or 0)}
        write_sealed(Path(path), {**arrays, **about, "losses": np.asarray(self.losses)}, key=key)


def _check_equal(name: str, differs: BoolArray, other: str) -> None:
    if differs.any():
        raise UserError(
            f"{name}: {int(differs.sum())} of {len(differs)} records differ from {other}, the first at {int(np.argmax(differs))}; allowed: "
            "the same records in the same order"
        )
