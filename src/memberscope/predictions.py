"""The outputs of models for records whose membership is known: the two data types on which audits are built, and their files.

Attacks, slices and metrics read only these types, so a model from anywhere (Keras, PyTorch, a REST service) can be audited from
its predictions. Arrays are checked once, when an object is created, in chunks of rows: checking a million rows of a hundred float32 logits
makes no second copy. They are kept as read-only views in the caller's own dtype; signals are computed in float64 later.

Outputs may be memory-mapped files (``np.load(path, mmap_mode="r")``). They are then read in chunks as well, the memory of each chunk is
released, and a file that changes in the meantime causes an error.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self, cast

import numpy as np

from memberscope.aligned import by_class, index_of, line_up
from memberscope.checks import Array, BoolArray, check_classes, check_finite, check_labels, frozen_view, is_number, join
from memberscope.errors import UserError, nearest
from memberscope.file_state import FileState, known_state, mapping_of, state_of, with_state
from memberscope.mapped import check_piece, taken, taken_of_each
from memberscope.output_files import OutputFile, parts_of, read_outputs, stacked, write_outputs
from memberscope.scales import check_logits, check_probs

OUTPUTS = ("logits", "probs", "predicted")
SUMMARIES = ("loss_nats", "entropy_nats")
LARGEST = 1e100  # of a logit, loss or entropy in size: squares of larger numbers, over many records, are no numbers
_COLUMN = "column_"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Outputs:
    """The fields and checks that predictions of one model and of several models have in common; `_LEAD` names the leading axes."""

    logits: Array | None = None
    probs: Array | None = None
    predicted: Array | None = None
    loss_nats: Array | None = None
    entropy_nats: Array | None = None
    labels: Array | None = None
    member: BoolArray
    record_ids: Array | None = None
    released: bool = False
    _files: ClassVar[tuple[FileState, ...]] = ()

    def __post_init__(self) -> None:
        self._line_up()
        object.__setattr__(self, "_files", self._opened())
        self.check_files()
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None and item.name not in ("released", "columns"):
                object.__setattr__(self, item.name, frozen_view(item.name, value))
        if not isinstance(self.released, bool | np.bool_):
            raise UserError(f"released: {self.released!r}; allowed: true or false")
        if self.released and self.probs is None and self.predicted is None:
            raise UserError("released: true; allowed only together with probs or predicted")
        self._check_outputs()
        self._check_labels()
        self._check_member()
        if self.record_ids is not None:
            self._check_shape("record_ids", self.record_ids, self._records_shape)
        self.check_files()

    def _opened(self) -> tuple[FileState, ...]:
        """The files behind arrays that are memory maps, as they were when they were opened, or are now, which the arrays then remember."""
        found = []
        for item in fields(self):
            array = getattr(self, item.name)
            state = state_of(array, where=item.name) if isinstance(array, np.ndarray) else None
            if state is not None:
                found.append(state)
                if known_state(array) is None:
                    object.__setattr__(self, item.name, with_state(array, state))
        return tuple(found)

    def check_files(self) -> None:
        """Raise UserError if a memory-mapped file of these outputs is not as it was when it was opened."""
        for state in self._files:
            state.check()

    def _line_up(self) -> None:
        """Put values that have an index (Series, frames) in one order; UserError if that order is ambiguous."""
        columns: Mapping[str, Any] = getattr(self, "columns", {})
        given = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in ("released", "columns")}
        given = {name: value for name, value in given.items() if value is not None}
        given |= {f"column {name}": value for name, value in columns.items()}
        if not any(index_of(value) is not None for value in given.values()):
            return
        found = line_up(given, source="predictions", axes=dict.fromkeys((*OUTPUTS, *SUMMARIES, "member"), self._record_axis))
        for name in given.keys() - {f"column {name}" for name in columns}:
            object.__setattr__(self, name, by_class(found[name]) if name in ("logits", "probs") else found[name])
        if columns:
            object.__setattr__(self, "columns", {name: found[f"column {name}"] for name in columns})

    @property
    def _record_axis(self) -> int:
        """The axis of outputs that runs over records."""
        return 0

    @property
    def _lead(self) -> tuple[int, ...]:
        raise NotImplementedError

    @property
    def form(self) -> str:
        """The kind of output that is known: ``"logits"``, ``"probs"``, ``"predicted"`` or ``"summary"`` (loss, entropy or both)."""
        return next((name for name in OUTPUTS if getattr(self, name) is not None), "summary")

    @property
    def n_classes(self) -> int | None:
        """The number of classes: the width of logits or probs, else the number of distinct classes that occur, else None."""
        scores = self.logits if self.logits is not None else self.probs
        if scores is not None:
            return int(scores.shape[-1])
        seen = [np.unique(array) for array in (self.labels, self.predicted) if array is not None and array.size]
        return len(np.unique(np.concatenate(seen))) if seen else None

    @property
    def _records_shape(self) -> tuple[int, ...]:
        return self._lead[-1:]

    def __len__(self) -> int:
        return self._lead[-1]

    @staticmethod
    def _check_shape(name: str, array: Array, shape: tuple[int, ...]) -> None:
        if array.ndim != len(shape):
            axes = "one value per record" if len(shape) == 1 else "(models, records)"
            raise UserError(f"{name}: {array.ndim} axes, shape {array.shape}; allowed: {len(shape)}, {axes}")
        if array.shape != shape:
            raise UserError(f"{name}: shape {array.shape}; the other arrays require {shape}")

    def _check_outputs(self) -> None:
        given = [name for name in OUTPUTS + SUMMARIES if getattr(self, name) is not None]
        if not given:
            raise UserError(f"predictions: none given; allowed: one of {', '.join(OUTPUTS)}, or {join(SUMMARIES)} alone")
        if len(given) > 1 and any(name in OUTPUTS for name in given):
            allowed = f"exactly one of {', '.join(OUTPUTS)}, or {join(SUMMARIES)} alone"
            raise UserError(f"predictions: {join(given)} together; allowed: {allowed}")
        lead = self._lead
        for name in given:
            array = getattr(self, name)
            if name in ("logits", "probs"):
                if array.ndim != len(lead) + 1:
                    axes = "(records, classes)" if len(lead) == 1 else "(models, records, classes)"
                    raise UserError(f"{name}: {array.ndim} axes, shape {array.shape}; allowed: {len(lead) + 1}, {axes}")
                if array.shape[:-1] != lead:
                    raise UserError(f"{name}: shape {array.shape}; member has shape {lead}, so the leading axes must be {lead}")
                if array.shape[-1] < 2:
                    raise UserError(f"{name}: {array.shape[-1]} classes; allowed: at least 2 (a binary model has two columns)")
            else:
                self._check_shape(name, array, lead)
            if name == "predicted":
                continue
            if not is_number(array):
                raise UserError(f"{name}: dtype {array.dtype}; allowed: real numbers")
            check_piece(name, array, records=lead[-1])
            check_finite(name, array, most=np.inf if name == "probs" else LARGEST)
            if name == "probs":
                check_probs(name, array, released=bool(self.released))
            if name == "logits":
                check_logits(name, array)

    def _check_labels(self) -> None:
        if self.labels is None:
            if self.form != "summary":
                raise UserError("labels: missing; only loss_nats or entropy_nats alone can be used without them")
            return
        self._check_shape("labels", self.labels, self._records_shape)
        scores = self.logits if self.logits is not None else self.probs
        if scores is not None:
            check_classes("labels", self.labels, below=scores.shape[-1])
            return
        check_labels("labels", self.labels)
        if self.predicted is not None:
            check_labels("predicted", self.predicted)
            kinds = [array.dtype.kind in "iu" for array in (self.labels, self.predicted)]
            if kinds[0] != kinds[1]:
                raise UserError(
                    f"predicted: dtype {self.predicted.dtype}, and labels are {self.labels.dtype}; allowed: both numbers, or "
                    "both words"
                )

    def _check_member(self) -> None:
        if self.member.dtype != np.bool_:
            raise UserError(f"member: dtype {self.member.dtype}; allowed: bool (true = in the training set)")
        if not self.member.size:
            raise UserError("member: no records; allowed: at least one member and one non-member")

    def _copy(self, **changes: object) -> Self:
        """The same object with some fields replaced, without new checks: parts of checked data are valid."""
        clone = object.__new__(type(self))
        for item in fields(self):
            object.__setattr__(clone, item.name, changes.get(item.name, getattr(self, item.name)))
        mapped = any(mapping_of(value) is not None for value in vars(clone).values() if isinstance(value, np.ndarray))
        object.__setattr__(clone, "_files", self._files if mapped else ())
        return clone

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file at exactly `path`, atomically: to a temporary file in the same folder, which is then moved.

        The suffix decides: an uncompressed ``.npz``, ``.csv`` or ``.parquet``. A table has a row for each record (and model), and the
        columns of `memberscope.score_tables`. An ``.npz`` and Parquet keep every number to the last bit. A CSV file has as many digits as
        float64 needs to be read back exactly, but no types: words that look like numbers are read as numbers.

        Raises:
            UserError: another suffix, a folder that does not exist, or an array that a table cannot hold, such as images.
        """
        arrays = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in ("released", "columns")}
        arrays["released"] = np.asarray(True) if self.released else None
        arrays |= {_COLUMN + name: values for name, values in getattr(self, "columns", {}).items()}
        write_outputs(Path(path), {name: array for name, array in arrays.items() if array is not None})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file that `save` or another program wrote: an ``.npz``, ``.npy``, ``.csv`` or ``.parquet``; see
        `memberscope.output_files`. Nothing in the file is executed.

        Raises:
            UserError: the file is missing, truncated, of another kind, or contains objects; a key or column is missing, misspelt, or cannot
                be read; or the arrays do not fit together. The message starts with the path.
        """
        return cls.of_file(read_outputs(Path(path), where=str(path)))

    @classmethod
    def of_file(cls, file: OutputFile) -> Self:
        """Build from a file that was read; see `load` for the errors."""
        if file.is_table and "member" not in file.arrays:
            hint = nearest("member", (name.removeprefix(_COLUMN) for name in file.arrays if name.startswith(_COLUMN)))
            raise UserError(
                f"{file.where}: no column member{hint}; allowed: a column member that says of each record whether it is in the training "
                "set (true or false, or 1 or 0)"
            )
        return cls.from_arrays(file.arrays, source=file.where)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], *, source: str) -> Self:
        """Build from named arrays as a file holds them (`column_NAME` for a user's column); errors start with `source`."""
        known = {item.name for item in fields(cls)} - {"columns"}
        has_columns = any(item.name == "columns" for item in fields(cls))
        values: dict[str, Any] = {}
        columns: dict[str, Array] = {}
        for name, array in arrays.items():
            if name in known:
                values[name] = array
            elif has_columns and name.startswith(_COLUMN) and len(name) > len(_COLUMN):
                columns[name.removeprefix(_COLUMN)] = array
            else:
                hint = nearest(name, known)
                raise UserError(f"{source}: unknown key {name!r}{hint}; allowed: {', '.join(sorted(known))} and column_NAME")
        if "member" not in values:
            raise UserError(
                f"{source}: key member is missing; present are {', '.join(sorted(arrays)) or 'none'}; allowed: one boolean per "
                "record, true for those in the training set"
            )
        if "released" in values:
            released = np.asarray(values["released"])
            if released.dtype != np.bool_ or released.size != 1:
                raise UserError(f"{source}: released: dtype {released.dtype}, shape {released.shape}; allowed: one boolean")
            values["released"] = bool(released.reshape(()))
        if columns:
            values["columns"] = columns
        try:
            return cls(**values)
        except UserError as error:
            line = str(error)  # of a mapped file that changed, it names the file already
            raise UserError(line if line.startswith(f"{source}: ") else f"{source}: {line}") from None


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions(_Outputs):
    """One model's outputs for n records, and which of them it was trained on.

    Give exactly one of `logits`, `probs` and `predicted`; or only `loss_nats`, `entropy_nats` or both.

    Attributes:
        logits: (n, classes) floats before the softmax; a constant may be added to each row.
        probs: (n, classes), each row summing to one within 1e-3 unless `released`.
        predicted: (n,) the published class, if nothing else is published: any integers, or words.
        loss_nats: (n,) cross-entropy of the true label, natural logarithm.
        entropy_nats: (n,) entropy of the prediction, natural logarithm.
        labels: (n,) integers from 0, which are column numbers of `logits` or `probs`; with other forms any integers, or words. May be None
            only with `loss_nats` or `entropy_nats`.
        member: (n,) bool, whether the record is in this model's training set. Both values must occur.
        record_ids: (n,) ints or text; records that share one are never split between an attack's training and scoring.
        groups: (n,) ints or text, the person or other group that each record belongs to. An audit then counts groups; see
            `memberscope.audit.groups`.
        inputs: (n, ...), the model's inputs.
        released: whether `probs` are the probabilities that a service publishes (top-N, rounded), which may sum to less than one.
        columns: name -> (n,) array of the user's, to slice by.

    Series and frames are put in one order by their index; see `memberscope.aligned`. If the columns of a frame of scores are named 0, 1,
    ..., they are read by name.

    Raises:
        UserError: in one line, the array, what is wrong with it and what is allowed.
    """

    inputs: Array | None = None
    groups: Array | None = None
    columns: Mapping[str, Array] = field(default_factory=dict)

    @classmethod
    def of_file(cls, file: OutputFile) -> Self:
        """The outputs of one model that a file holds; UserError where it holds several models, or copies of records."""
        if file.models is not None and len(set(file.models.tolist())) > 1:
            names = sorted(set(file.models.tolist()))
            raise UserError(
                f"{file.where}: column model has {len(names)} models, such as {names[0]} and {names[1]}; allowed: the outputs "
                "of one model"
            )
        if file.queries is not None:
            raise UserError(f"{file.where}: a column query, of copies of records; allowed: one row for each record")
        return super().of_file(file)

    @property
    def _lead(self) -> tuple[int, ...]:
        if self.member.ndim != 1:
            raise UserError(f"member: {self.member.ndim} axes, shape {self.member.shape}; allowed: 1, one value per record")
        return self.member.shape

    def __post_init__(self) -> None:  # noqa: D105
        super().__post_init__()
        if self.inputs is not None and (self.inputs.ndim < 1 or len(self.inputs) != len(self)):
            raise UserError(f"inputs: shape {self.inputs.shape}; the first axis must have the {len(self)} records of member")
        if self.groups is not None:
            self._check_groups(self.groups)
        columns = {}
        for name, values in self.columns.items():
            columns[name] = frozen_view(f"column {name}", values)
            self._check_shape(f"column {name}", columns[name], self._lead)
        object.__setattr__(self, "columns", MappingProxyType(columns))

    def _check_member(self) -> None:
        super()._check_member()
        if self.member.all() or not self.member.any():
            raise UserError(f"member: all {bool(self.member[0])}; allowed: at least one member and one non-member")

    def _check_groups(self, groups: Array) -> None:
        self._check_shape("groups", groups, self._lead)
        if groups.dtype.kind not in "iuUS":
            raise UserError(f"groups: dtype {groups.dtype}; allowed: integers and text")
        if len(np.unique(groups)) < 2:
            raise UserError(f"groups: all records are in one group, {groups[0]}; allowed: at least two groups")

    @property
    def units(self) -> Array | None:
        """(n,) the units that are never split between an attack's training and scoring: groups, else record ids; None: single records."""
        return self.groups if self.groups is not None else self.record_ids

    @property
    def n_member(self) -> int:
        """Number of members."""
        return int(self.member.sum())

    @property
    def n_nonmember(self) -> int:
        """Number of non-members."""
        return len(self) - self.n_member

    def with_member(self, member: BoolArray) -> Predictions:
        """The same outputs with another membership (n,); what was checked is not checked again, and a mapped file is not read.

        Raises:
            UserError: not one boolean for each record, or all equal.
        """
        changed = self._copy(member=frozen_view("member", member))
        self._check_shape("member", changed.member, self._lead)
        changed._check_member()
        return changed

    def with_groups(self, groups: Array) -> Predictions:
        """The same outputs with other groups (n,), as `with_member`; UserError for groups that cannot be."""
        changed = self._copy(groups=frozen_view("groups", groups))
        changed._check_groups(cast(Array, changed.groups))
        return changed

    def select(self, index: Array) -> Predictions:
        """The records of a boolean mask (n,) or of integer positions, in that order.

        The result may have members only; attacks on such a part are skipped and raise no error.
        """
        names = (*OUTPUTS, *SUMMARIES, "labels", "member", "record_ids", "inputs", "groups")
        changes: dict[str, object] = {}
        for name in names:
            array = getattr(self, name)
            if array is not None:
                changes[name] = taken(array, index)
        changes["columns"] = MappingProxyType({name: values[index] for name, values in self.columns.items()})
        return self._copy(**changes)


@dataclass(frozen=True, kw_only=True, eq=False)
class ShadowPredictions(_Outputs):
    """The outputs of K models for one pool of n records, and which of the records each model was trained on.

    The forms are those of `Predictions` with a leading axis of models: `logits` (n_models, n, classes), `loss_nats`
    (n_models, n), and so on; `labels` (n,), `record_ids` (n,), `member` (n_models, n) bool. A pool on which no model was trained (all
    false) is allowed, since offline attacks use it; one on which all were trained is not. The two-axis arrays of a `Predictions` file are
    read as K = 1.
    """

    @property
    def _record_axis(self) -> int:
        return 1

    @property
    def _lead(self) -> tuple[int, ...]:
        if self.member.ndim != 2:
            raise UserError(f"member: {self.member.ndim} axes, shape {self.member.shape}; allowed: 2, (models, records)")
        return self.member.shape

    def _check_member(self) -> None:
        super()._check_member()
        if self.member.all():
            raise UserError("member: all True; shadows need records that they were not trained on")

    @property
    def n_models(self) -> int:
        """Number of models, K."""
        return self._lead[0]

    @classmethod
    def of_file(cls, file: OutputFile) -> Self:
        """The outputs of the models that a file holds, stacked where a column says which model a row is of."""
        if file.models is None:
            return super().of_file(file)
        return cls.from_arrays(stacked(parts_of(file), member=True), source=file.where)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], *, source: str) -> Self:
        """Like `Predictions.from_arrays`; `inputs`, `groups` and columns are left out, and a missing model axis is added."""
        kept = {
            name: array for name, array in arrays.items() if name not in ("inputs", "groups") and not name.startswith(_COLUMN)
        }
        if "member" in kept and kept["member"].ndim == 1:
            for name in (*OUTPUTS, *SUMMARIES, "member"):
                if name in kept:
                    kept[name] = kept[name][None]
        return super().from_arrays(kept, source=source)

    def model(self, k: int) -> Predictions:
        """The predictions of model `k`, unchecked: it may have no members."""
        parts = {name: getattr(self, name)[k] for name in (*OUTPUTS, *SUMMARIES) if getattr(self, name) is not None}
        clone = object.__new__(Predictions)
        values: dict[str, Any] = {"columns": MappingProxyType({}), "labels": self.labels, "record_ids": self.record_ids}
        values |= {"released": self.released, "member": self.member[k], **parts}
        for item in fields(Predictions):
            object.__setattr__(clone, item.name, values.get(item.name))
        object.__setattr__(clone, "_files", self._files)
        return clone

    def select(self, index: Array | slice) -> ShadowPredictions:
        """The records (not models) of a boolean mask (n,), of integer positions, or of a slice."""
        changes: dict[str, object] = {}
        for name in (*OUTPUTS, *SUMMARIES, "member"):
            array = getattr(self, name)
            if array is not None:
                changes[name] = taken_of_each(array, index)
        for name in ("labels", "record_ids"):
            array = getattr(self, name)
            if array is not None:
                changes[name] = array[index]
        return self._copy(**changes)

    def models(self, index: Array | slice) -> ShadowPredictions:
        """Some of the models (not records): a boolean mask (n_models,), integer positions in that order, or a slice.

        Raises:
            UserError: no model is left.
        """
        names = (*OUTPUTS, *SUMMARIES, "member")
        chosen = self._copy(**{name: getattr(self, name)[index] for name in names if getattr(self, name) is not None})
        if not chosen.n_models:
            raise UserError(f"models: none chosen of {self.n_models}; allowed: at least one")
        return chosen
