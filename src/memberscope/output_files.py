"""Files with the outputs of models: ``.npz``, ``.npy``, CSV and Parquet, read as named arrays, and written.

- An ``.npz`` holds arrays under the names of the fields of `memberscope.Predictions`.
- A ``.npy`` holds the outputs alone, and is mapped where it is large; what belongs to them lies beside it, for ``a.npy`` in
  ``a.labels.npy``, ``a.member.npy``, ``a.record_ids.npy``, ``a.groups.npy`` and ``a.inputs.npy``.
- A table, ``.csv``, ``.parquet``, ``.arrow`` or ``.feather``, has a row for each record; see `memberscope.score_tables`.
"""

from __future__ import annotations

import csv
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memberscope import scales, score_tables
from memberscope.arrow_files import ARROW, read_arrow
from memberscope.checks import Array, label_name
from memberscope.errors import UserError
from memberscope.installed import require
from memberscope.mapped import taken, together
from memberscope.npz import open_npy, read_npy, read_npz, write_npz
from memberscope.reading.cells import COUNTED, Block
from memberscope.reading.files import reason
from memberscope.reading.frames import CSV, PARQUET, read_frame

if TYPE_CHECKING:
    import pandas as pd

NPZ, NPY = ".npz", ".npy"
TABLES = (*CSV, *PARQUET, *ARROW)
SUFFIXES = (NPZ, NPY, *TABLES)
KINDS = "an .npz, .npy, .csv, .parquet, .arrow or .feather"
BESIDE = ("labels", "member", "record_ids", "groups", "inputs")
"""What may lie beside a ``.npy``."""
OUTPUTS = ("logits", "probs", "predicted", "loss_nats", "entropy_nats")
PARTS = (*OUTPUTS, "member")
"""The arrays of which every model has its own; the others are those of the records."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OutputFile:
    """A file with the outputs of one model or of several, as it was read.

    Attributes:
        where: the beginning of errors, such as ``population=p.csv``.
        arrays: fields of `memberscope.Predictions` -> arrays, unchecked; those of `PARTS` have a leading axis of models where the file
            holds several in one array.
        classes: the names of the classes 0, 1, ..., if the file has names for them.
        models: (rows,) the name of each row's model, for a table of several.
        queries: (rows,) the name of each row's copy of its record, for a table of several.
        note: one sentence on how it was read; empty for an ``.npz``, whose arrays have names.
        is_table: whether it is a table, the order of whose rows means nothing where they are named by ids.
    """

    where: str
    arrays: Mapping[str, Array]
    classes: tuple[str, ...] | None = None
    models: Array | None = None
    queries: Array | None = None
    note: str = ""
    is_table: bool = False


def suffix_of(path: Path, *, where: str, allowed: str = KINDS) -> str:
    """The suffix of a file's name, in small letters; UserError for an unknown one."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{where}: unknown kind of file{f' {suffix}' if suffix else ''}; allowed: {allowed}")
    return suffix


def read_outputs(
    path: Path, *, where: str, classes: Sequence[str] | None = None, labeled: bool = True, records_axis: int | None = None
) -> OutputFile:
    """Read a file.

    Args:
        path: the file; its suffix says what it is.
        where: the beginning of errors, such as ``predictions=t.csv``.
        classes: the order in which a table's classes are wanted, see `memberscope.score_tables.read_scores`.
        labeled: whether scores need labels.
        records_axis: of a ``.npy`` without labels beside it, the axis that counts the records; None to take it from the labels.

    Raises:
        UserError: a suffix that is unknown; see `memberscope.npz.read_npz`, `memberscope.npz.read_npy`,
            `memberscope.reading.frames.read_frame` and `memberscope.score_tables.read_scores`.
    """
    suffix = suffix_of(path, where=where)
    if suffix == NPZ:
        try:
            return OutputFile(where=where, arrays=read_npz(path))
        except UserError as error:
            prefix = where.removesuffix(str(path))
            raise UserError(f"{prefix}{error}") from None
    if suffix == NPY:
        return _beside(path, where, records_axis)
    frame, block = read_table(path, where=where)
    table = score_tables.read_scores(frame, csv=suffix in CSV, where=where, classes=classes, labeled=labeled, block=block)
    return OutputFile(
        where=where, arrays=table.arrays, classes=table.classes, models=table.models, queries=table.queries, note=table.note,
        is_table=True,
    )  # fmt: skip


def read_table(path: Path, *, where: str) -> tuple[pd.DataFrame, Block | None]:
    """A table, and those of its columns that lie side by side in one array; see `read_outputs` for the errors."""
    instead = "an .npz, .npy or .csv"
    if path.suffix.lower() in ARROW:
        read = read_arrow(path, where=where, allowed=KINDS, instead=instead)
        return read.frame, read.block
    return read_frame(path, where=where, allowed=KINDS, instead=instead), None


def _beside(path: Path, where: str, records_axis: int | None) -> OutputFile:
    """The outputs of a ``.npy``, named by their type, axes and values, and the arrays that lie beside it."""
    outputs = open_npy(path, where=where, allowed=KINDS)
    found: dict[str, Array] = {}
    for name in BESIDE:
        beside = path.with_name(f"{path.stem}.{name}{NPY}")
        if beside.exists():
            found[name] = read_npy(beside, where=f"{where}: {beside.name}", allowed=f"a {NPY} file")
    if "member" in found and found["member"].dtype.kind in "iuf" and np.isin(found["member"], (0, 1)).all():
        found["member"] = found["member"].astype(np.bool_)
    name = named(outputs, where=where, records=_records(found), records_axis=records_axis)
    listed = f"; {', '.join(f'{path.stem}.{key}{NPY}' for key in found)} beside it" if found else ""
    return OutputFile(where=where, arrays={name: outputs, **found}, note=f"{where}: {outputs.shape} as {name}{listed}.")


def _records(found: Mapping[str, Array]) -> int | None:
    """The number of records, if an array that accompanies the outputs shows it."""
    for name in ("labels", "record_ids", "member", "groups"):
        if name in found and found[name].ndim:
            return int(found[name].shape[-1])
    return None


def named(outputs: Array, *, where: str, records: int | None = None, records_axis: int | None = None) -> str:
    """The form of outputs that have no name: their type, their axes and their values tell.

    Words and whole numbers are predicted classes. Other numbers whose last axis counts the records are losses in nats; else the last axis
    counts the classes, and rows that sum to one are probabilities.

    Raises:
        UserError: an array that can be neither.
    """
    if outputs.dtype.kind not in "fiubU" or not 1 <= outputs.ndim <= 4:
        raise UserError(
            f"{where}: {outputs.dtype} of shape {outputs.shape}; allowed: numbers (records, classes) for logits or probabilities, "
            "(records,) for losses, both with a leading axis where there are several models"
        )
    last = outputs.ndim == 1 or (outputs.ndim == 2 and records is not None and outputs.shape == (outputs.shape[0], records))
    last = last or (records is None and records_axis is not None and outputs.ndim - 1 == records_axis)
    if last and outputs.ndim == 2 and records is not None and outputs.shape[0] == records:
        raise UserError(
            f"{where}: shape {outputs.shape} for {records} records: either axis may count them; allowed: an .npz, whose arrays have names"
        )
    if outputs.dtype.kind in "U" or (outputs.dtype.kind in "iu" and last):
        return "predicted"
    if last:
        return "loss_nats"
    return "probs" if scales.are_probs(outputs) else "logits"


# ------------------------------------------------------------------------------------------------------------- several models


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelPart:
    """One model's arrays, without an axis of models.

    Attributes:
        where: the beginning of errors, such as ``shadows=folder/model_003.csv``.
        name: the model's name; empty if it has none but its place.
        arrays: as in `OutputFile`.
        classes, is_table: as in `OutputFile`.
    """

    where: str
    name: str
    arrays: Mapping[str, Array]
    classes: tuple[str, ...] | None = None
    is_table: bool = False

    @property
    def form(self) -> tuple[str, ...]:
        """The forms of outputs that it has."""
        return tuple(name for name in OUTPUTS if name in self.arrays)


def parts_of(file: OutputFile) -> list[ModelPart]:
    """The models of a file, one after another: those of its table's column ``model``, in the natural order of their names, or of the
    leading axis of its arrays. Names that merely count 0, 1, ..., as `write_outputs` writes them, are places, and no names.

    Raises:
        UserError: arrays with different numbers of models.
    """
    if file.models is not None:
        names = sorted(set(file.models.tolist()), key=natural)
        counted = names == [str(place) for place in range(len(names))]
        return [
            ModelPart(
                where=f"{file.where}: model {name}", name="" if counted else name, arrays=_rows(file.arrays, file.models == name),
                classes=file.classes, is_table=True,
            )
            for name in names
        ]  # fmt: skip
    lead = _several(file.arrays)
    if lead is None:
        return [ModelPart(where=file.where, name="", arrays=file.arrays, classes=file.classes, is_table=file.is_table)]
    shared = {name: array for name, array in file.arrays.items() if name not in PARTS}
    own = {name: array for name, array in file.arrays.items() if name in PARTS}
    lengths = {name: len(array) for name, array in own.items() if array.ndim}
    if len(set(lengths.values())) > 1 or len(lengths) < len(own):
        shapes = " and ".join(f"{name} {array.shape}" for name, array in own.items())
        raise UserError(f"{file.where}: shapes {shapes}; allowed: the same models in each")
    return [
        ModelPart(
            where=f"{file.where}: model {k}", name="", arrays={**{name: array[k] for name, array in own.items()}, **shared},
            classes=file.classes,
        )
        for k in range(lead)
    ]  # fmt: skip


def _rows(arrays: Mapping[str, Array], rows: Array) -> dict[str, Array]:
    return {name: array if name == "released" else array[rows] for name, array in arrays.items()}


def _several(arrays: Mapping[str, Array]) -> int | None:
    """The number of models of arrays with a leading axis of models; None if they have no such axis."""
    for name in OUTPUTS:
        if name in arrays and arrays[name].ndim == (3 if name in ("logits", "probs") else 2):
            return len(arrays[name])
    return None


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts names as people count: model_2 before model_10."""
    runs = re.findall(r"[0-9]{1,4000}|[^0-9]+", name)
    return tuple((0, int(run), run) if "0" <= run[0] <= "9" else (1, 0, run) for run in runs)


def stacked(parts: Sequence[ModelPart], *, member: bool) -> dict[str, Array]:
    """The arrays of several models over one pool of records, with a leading axis of models.

    Records are put in the order of the first model if all parts have record ids; otherwise all parts must be in the same order.

    Args:
        parts: the models.
        member: whether each must say who its members are; otherwise all records of a part that does not are non-members.

    Raises:
        UserError: models with different forms of outputs, classes, records or labels, or one that does not say who its members are.
    """
    first = parts[0]
    orders = [_order(part, first) for part in parts]
    found: dict[str, list[Array]] = {name: [] for name in (*first.form, "member")}
    for part, order in zip(parts, orders, strict=True):
        _check_alike(part, first, order)
        for name in first.form:
            found[name].append(_ordered(part.arrays[name], order))
        if "member" in part.arrays:
            found["member"].append(_ordered(part.arrays["member"], order))
        elif member:
            raise UserError(
                f"{part.where}: does not say who its members are; allowed: a column, or an array, member, true for the records on which "
                "the model was trained"
            )
        else:
            found["member"].append(np.zeros(len(order), np.bool_))
    shared = {name: array for name, array in first.arrays.items() if name in ("labels", "record_ids", "inputs", "released")}
    return {**{name: together(arrays) for name, arrays in found.items()}, **shared}


def _ordered(array: Array, order: Array) -> Array:
    """The records in this order; the array itself where that is theirs."""
    return array if np.array_equal(order, np.arange(len(array))) else taken(array, order)


def _order(part: ModelPart, first: ModelPart) -> Array:
    """The places of the first model's records among a part's."""
    ours, theirs = records(first), records(part)
    ids, known = part.arrays.get("record_ids"), first.arrays.get("record_ids")
    if (ids is None) != (known is None):
        has, lacks = (first, part) if ids is None else (part, first)
        raise UserError(f"{lacks.where}: has no record_ids, and {has.where} has; allowed: ids for every model, or for none")
    if theirs != ours:
        raise UserError(
            f"{part.where}: {theirs} records, and {first.where} has {ours}; allowed: the same records for every model"
        )
    if ids is None or known is None:
        return np.arange(theirs)
    return places(ids, known, where=part.where, like=first.where)


def places(ids: Array, wanted: Array, *, where: str, like: str) -> Array:
    """The places among `ids` of the ids that are `wanted`, in their order; UserError if they are not the same ids, or not in one order."""
    ids, wanted = alike(ids, wanted)
    if np.array_equal(ids, wanted):
        return np.arange(len(ids))
    different, at = np.unique(ids, return_index=True)
    if len(different) < len(ids):
        raise UserError(f"{where}: some record ids occur twice, in another order than in {like}; allowed: the same order")
    place = np.minimum(np.searchsorted(different, wanted), len(different) - 1)
    lacking = different[place] != wanted
    if lacking.any() or len(wanted) != len(ids):
        odd = (
            f"no record {wanted[lacking][0]}, which is in {like}"
            if lacking.any()
            else f"{len(ids)} records, and {like} has {len(wanted)}"
        )
        raise UserError(f"{where}: {odd}; allowed: outputs for the same records")
    found: Array = at[place]
    return found


def alike(first: Array, second: Array) -> tuple[Array, Array]:
    """Two arrays of ids or labels as words if one of them holds words: numbers that one file writes as text are the same."""
    if (first.dtype.kind in "iub") == (second.dtype.kind in "iub"):
        return first, second
    one, other = (
        np.array([label_name(value) for value in array.ravel().tolist()]).reshape(array.shape) for array in (first, second)
    )
    return one, other


def records(part: ModelPart) -> int:
    """The number of a part's records; UserError for arrays of no axis."""
    for name in (*OUTPUTS, "member", "labels"):
        if name in part.arrays:
            if not part.arrays[name].ndim:
                raise UserError(f"{part.where}: {name} has no axis; allowed: a value, or a row, for each record")
            return len(part.arrays[name])
    raise UserError(f"{part.where}: no outputs; allowed: one of {', '.join(OUTPUTS)}")


def _check_alike(part: ModelPart, first: ModelPart, order: Array) -> None:
    if part.form != first.form:
        held = [" and ".join(one.form) or "no outputs" for one in (part, first)]
        raise UserError(f"{part.where}: holds {held[0]}, and {first.where} holds {held[1]}; allowed: the same for every model")
    if part.classes != first.classes and (
        part.classes is None or first.classes is None or set(part.classes) != set(first.classes)
    ):
        named = [", ".join((one.classes or ("unnamed",))[:8]) for one in (part, first)]
        raise UserError(
            f"{part.where}: classes {named[0]}, and {first.where} has {named[1]}; allowed: the same for every model"
        )
    for name in part.form:
        shapes = part.arrays[name].shape, first.arrays[name].shape
        if shapes[0][1:] != shapes[1][1:]:
            what = f"{name} of shape {shapes[0]}, and {first.where} has {shapes[1]}"
            raise UserError(f"{part.where}: {what}; allowed: the same classes for every model")
    for name in ("member", "labels", "record_ids"):
        if name in part.arrays and part.arrays[name].shape != (len(order),):
            raise UserError(
                f"{part.where}: {name} has shape {part.arrays[name].shape} for {len(order)} records; allowed: a value for each"
            )
    theirs, ours = part.arrays.get("labels"), first.arrays.get("labels")
    if (theirs is None) != (ours is None):
        raise UserError(
            f"{part.where}: {'no labels' if theirs is None else 'labels'}, unlike {first.where}; allowed: labels for every model"
        )
    if theirs is None or ours is None:
        return
    theirs, ours = alike(theirs[order], ours)
    if (odd := theirs != ours).any():
        row = int(odd.argmax())
        raise UserError(
            f"{part.where}: {int(odd.sum())} labels differ from those of {first.where}, such as {theirs[row]} for {ours[row]} in row {row} "
            f"{COUNTED}; allowed: the same records, with the same labels, for every model"
        )
    if bool(part.arrays.get("released", False)) != bool(first.arrays.get("released", False)):
        raise UserError(f"{part.where}: released differs from {first.where}; allowed: the same for every model")


# ------------------------------------------------------------------------------------------------------------------ writing


def write_outputs(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays with the names of fields of `memberscope.Predictions`, atomically: an ``.npz``, ``.csv`` or ``.parquet``, by the suffix.

    Raises:
        UserError: another suffix, a folder that does not exist, an array that a table cannot hold, or Parquet without pyarrow.
    """
    suffix = path.suffix.lower()
    if suffix not in (NPZ, *CSV, *PARQUET):
        raise UserError(f"{path}: unknown kind of file{f' {suffix}' if suffix else ''}; allowed: an .npz, .csv or .parquet")
    if suffix == NPZ:
        write_npz(path, arrays)
        return
    if suffix in PARQUET:
        require("pyarrow", by=str(path), instead="an .npz or .csv")
    frame = score_tables.frame_of(_in_rows(arrays), csv=suffix in CSV, where=str(path))
    write_frame(path, frame)


def _in_rows(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays as rows of a table, with the number of each row's model where there are several."""
    lead = _several(arrays)
    if lead is None:
        return dict(arrays)
    each = parts_of(OutputFile(where="", arrays=arrays))
    return score_tables.with_models([(number, part.arrays) for number, part in enumerate(each)])


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as CSV or Parquet to exactly `path`, atomically; UserError if the folder cannot be written."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        if path.suffix.lower() in CSV:
            frame.to_csv(temporary, index=False, quoting=_quoting(frame))
        else:
            frame.to_parquet(temporary, index=False)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({reason(error)}); allowed: a file in a folder that exists") from None
    finally:
        temporary.unlink(missing_ok=True)


def _quoting(frame: pd.DataFrame) -> int:
    """Quotes where they are needed; around all words if one has a carriage return, which the writer takes for a letter."""
    from pandas.api.types import is_numeric_dtype

    texts = [str(name) for name in frame.columns]
    texts += [str(cell) for name in frame.columns if not is_numeric_dtype(frame[name].dtype) for cell in frame[name].tolist()]
    return csv.QUOTE_NONNUMERIC if any("\r" in text for text in texts) else csv.QUOTE_MINIMAL
