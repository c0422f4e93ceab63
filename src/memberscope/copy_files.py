"""Files with what models make of copies of the audited records: outputs for augmented copies, classes of perturbed ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from memberscope import score_tables
from memberscope.checks import Array, check_finite, is_number
from memberscope.errors import UserError
from memberscope.model_files import Audited, arranged, check_there, few, files_of
from memberscope.output_files import (
    TABLES,
    ModelPart,
    OutputFile,
    natural,
    places,
    read_outputs,
    read_table,
    records,
    suffix_of,
)
from memberscope.reading.files import is_folder
from memberscope.reading.frames import CSV
from memberscope.scales import check_logits, check_probs
from memberscope.signals import PROB_FLOOR


def read_augmented(path: str, where: str, names: Sequence[str], target: Audited, notes: list[str]) -> Array:
    """Outputs for augmented copies of the target's records.

    Args:
        path: a file, or a folder with one file for each model.
        where: the beginning of errors, ``augmented=PATH``.
        names: the names of the shadows, empty ones if they have none but their place.
        target: the audited model's outputs.
        notes: where sentences on how files were read are added.

    Returns:
        (1 + models, n, queries, classes) logits, the target's first.

    Raises:
        UserError: a file that cannot be read, or that does not fit the target or the shadows; the message names it.
    """
    parts = arranged(_read_copies(path, where, target, notes), names, where)
    return np.stack([_logits(part, parts[0], target) for part in parts])


def _logits(part: ModelPart, first: ModelPart, target: Audited) -> Array:
    """(n, queries, classes) one model's logits, once they have been checked."""
    form, ours = part.form[0], target.predictions
    array = part.arrays[form]
    if array.ndim != 3:
        raise UserError(f"{part.where}: {form} of shape {array.shape}; allowed for each model: (records, queries, classes)")
    if form != first.form[0]:
        raise UserError(
            f"{part.where}: holds {form}, and {first.where} holds {first.form[0]}; allowed: the same for every model"
        )
    if {form, ours.form} == {"logits", "probs"}:
        raise UserError(f"{part.where}: holds {form}, and {target.where} holds {ours.form}; allowed: the same for all files")
    if ours.form in ("logits", "probs") and array.shape[2] != ours.n_classes:
        raise UserError(
            f"{part.where}: {array.shape[2]} classes, and {target.where} has {ours.n_classes}; allowed: the same classes"
        )
    theirs = first.arrays[form].shape[1:]
    if array.shape[1:] != theirs:
        raise UserError(
            f"{part.where}: {array.shape[1:]} queries and classes, and {first.where} has {theirs}; allowed: the same"
        )
    array = array[_in_target_order(part, target)]
    if not is_number(array):
        raise UserError(f"{part.where}: {form} of {array.dtype}; allowed: numbers")
    check_finite(f"{part.where}: {form}", array)
    if form == "probs":
        check_probs(f"{part.where}: probs", array, released=False)
        return np.asarray(np.log(np.maximum(array, PROB_FLOOR)))
    check_logits(f"{part.where}: logits", array)
    return array


def _in_target_order(part: ModelPart, target: Audited) -> Array:
    """The places of the target's records in a file about copies of them."""
    ids, wanted, n = part.arrays.get("record_ids"), target.predictions.record_ids, records(part)
    if n != len(target.predictions):
        raise UserError(
            f"{part.where}: {n} records, and {target.where} has {len(target.predictions)}; allowed: copies of the same records"
        )
    if ids is None or wanted is None:
        return np.arange(n)
    if ids.shape != (n,):
        raise UserError(f"{part.where}: record_ids of shape {ids.shape} for {n} records; allowed: one for each")
    return places(ids, wanted, where=part.where, like=target.where)


def _read_copies(path: str, where: str, target: Audited, notes: list[str]) -> list[ModelPart]:
    """The models of a file or folder with outputs for copies, each with arrays (records, queries, classes)."""
    if not is_folder(Path(path)):
        check_there(path, where)
        return _copies_of(Path(path), where, target, notes)
    parts: list[ModelPart] = []
    for file in files_of(Path(path), where)[0]:
        one = _copies_of(file, f"augmented={file}", target, notes if not parts else [])
        if len(one) > 1:
            raise UserError(f"augmented={file}: {len(one)} models; allowed in a folder: one file for each model")
        parts.append(dataclasses.replace(one[0], where=f"augmented={file}", name=file.stem))
    return parts


def _copies_of(path: Path, where: str, target: Audited, notes: list[str]) -> list[ModelPart]:
    """The models of a file."""
    file = read_outputs(path, where=where, classes=target.classes, labeled=False)
    notes += [file.note] if file.note else []
    forms = [name for name in ("logits", "probs") if name in file.arrays]
    if len(forms) != 1:
        raise UserError(f"{where}: holds {few(list(file.arrays))}; allowed: logits or probs of copies of the records")
    kept = {name: array for name, array in file.arrays.items() if name in (*forms, "record_ids")}
    if file.is_table:
        if file.queries is None:
            raise UserError(f"{where}: no column query; allowed: a column that names the copy in each row, such as 0, 1, 2")
        if file.classes and target.classes and set(file.classes) != set(target.classes):
            known = few(target.classes)
            raise UserError(f"{where}: classes {few(file.classes)}, and {target.where} has {known}; allowed: the same classes")
        models = np.full(len(file.queries), "") if file.models is None else file.models
        return [_by_query(file, kept, models == name, name) for name in sorted(set(models.tolist()), key=natural)]
    array = kept.pop(forms[0])
    if array.ndim == 3:
        return [ModelPart(where=where, name="", arrays={forms[0]: array, **kept})]
    if array.ndim != 4:
        wanted = "(models, records, queries, classes), the target first"
        raise UserError(f"{where}: {forms[0]} of shape {array.shape}; allowed: {wanted}")
    return [ModelPart(where=f"{where}: model {k}", name="", arrays={forms[0]: one, **kept}) for k, one in enumerate(array)]


def _by_query(file: OutputFile, arrays: Mapping[str, Array], rows: Array, name: str) -> ModelPart:
    """One model's rows as arrays (records, queries, ...), the queries in the natural order of their names."""
    assert file.queries is not None
    where = f"{file.where}: model {name}" if name else file.where
    asked = file.queries[rows]
    names = sorted(set(asked.tolist()), key=natural)
    rows_of = [np.flatnonzero(rows)[asked == query] for query in names]
    for query, at in zip(names, rows_of, strict=True):
        if len(at) != len(rows_of[0]):
            counts = f"{len(at)} rows of query {query}, and {len(rows_of[0])} of query {names[0]}"
            raise UserError(f"{where}: {counts}; allowed: every query for every record")
    found = {}
    if "record_ids" in arrays:
        ids = arrays["record_ids"]
        found["record_ids"] = first = ids[rows_of[0]]
        rows_of = [
            at[places(ids[at], first, where=f"{where}: query {query}", like=f"query {names[0]}")]
            for query, at in zip(names, rows_of, strict=True)
        ]
    found |= {key: np.stack([array[at] for at in rows_of], axis=1) for key, array in arrays.items() if key != "record_ids"}
    return ModelPart(where=where, name=name, arrays=found, classes=file.classes)


def read_perturbed(path: str, where: str, target: Audited, notes: list[str]) -> Array:
    """(n, queries) the classes that the target predicts for perturbed copies of its records, as its labels name them.

    See `read_augmented` for the arguments and errors.
    """
    file = Path(path)
    part = (_perturbed_table if suffix_of(file, where=where) in TABLES else _perturbed_arrays)(file, where)
    values = part.arrays["predicted"]
    if values.ndim != 2 or values.dtype.kind not in "iuU":
        what = f"{values.dtype} of shape {values.shape}"
        raise UserError(f"{where}: {what}; allowed: the predicted classes (records, queries), whole numbers or words")
    notes.append(f"{where}: the predicted classes of {values.shape[1]} copies of {values.shape[0]} records.")
    values, labels = values[_in_target_order(part, target)], target.predictions.labels
    if target.classes is not None and labels is not None and labels.dtype.kind in "iu":
        return score_tables.class_numbers(values, target.classes, where=where)
    return values


def _perturbed_table(path: Path, where: str) -> ModelPart:
    """A table with a column for each copy, or a row."""
    csv = path.suffix.lower() in CSV
    frame, block = read_table(path, where=where)
    if "query" not in frame.columns:
        return ModelPart(where=where, name="", arrays=score_tables.read_predicted(frame, csv=csv, where=where))
    table = score_tables.read_scores(frame, csv=csv, where=where, labeled=False, block=block)
    if "predicted" not in table.arrays:
        raise UserError(f"{where}: no column predicted; allowed next to query: the predicted class of the copy in each row")
    kept = {name: table.arrays[name] for name in ("predicted", "record_ids") if name in table.arrays}
    return _by_query(OutputFile(where=where, arrays=kept, queries=table.queries), kept, np.ones(len(frame), np.bool_), "")


def _perturbed_arrays(path: Path, where: str) -> ModelPart:
    arrays = read_outputs(path, where=where, records_axis=1).arrays  # of a .npy (records, queries), whole numbers are classes
    given = [name for name in ("perturbed_labels", "predicted") if name in arrays]
    if len(given) != 1:
        raise UserError(
            f"{where}: holds {few(list(arrays))}; allowed: perturbed_labels, the predicted classes (records, queries)"
        )
    ids = {"record_ids": arrays["record_ids"]} if "record_ids" in arrays else {}
    return ModelPart(where=where, name="", arrays={"predicted": arrays[given[0]], **ids})
