"""All evidence of an audit from files: the outputs of shadow models, of all models for a population, and for copies of the records.

Several models come as one file or as a folder with one file for each model. In a table of several models, the column ``model`` names the
model of each row; in a folder, a model's name is that of its file without the suffix. For the population and for copies, for which every
model is queried, the target is named ``target`` and the others have the names that they have among the shadows. Arrays with a leading
axis of models hold the target first, then the shadows in the natural order of their names (``model_2`` before ``model_10``).

Records are matched by ``record_id`` where both files have it; else the files must have the same records in the same order.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from memberscope.checks import Array, label_name
from memberscope.copy_files import read_augmented, read_perturbed
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.model_files import Audited, arranged, few, read_parts
from memberscope.output_files import ModelPart, alike, natural, read_outputs, stacked
from memberscope.predictions import Predictions, ShadowPredictions
from memberscope.score_tables import is_count


def read_target(path: str, *, option: str = "predictions") -> Audited:
    """Read the audited model's outputs; UserError as `memberscope.Predictions.load` raises it, which names the option as well."""
    file = read_outputs(Path(path), where=f"{option}={path}")
    return Audited(
        predictions=Predictions.of_file(file), classes=file.classes, where=file.where, notes=(file.note,) if file.note else ()
    )


def read_evidence(
    target: Audited,
    *,
    shadows: str = "",
    population: str = "",
    augmented: str = "",
    perturbed: str = "",
    loss_trace: Array | None = None,
) -> tuple[Evidence, tuple[str, ...]]:
    """Read the files, and check that they fit each other.

    Args:
        target: the audited model's outputs.
        shadows: outputs of shadow models over a pool of records, with the members of each; empty for none.
        population: outputs of the target and of every shadow for records that no model was trained on; with ``input_NAME`` or ``inputs``,
            the inputs as well.
        augmented: logits or probabilities of the target and of every shadow for copies of the target's records, (records, queries,
            classes) a model, or a table with a column ``query``.
        perturbed: the classes that the target predicts for perturbed copies of its records, (records, queries), or a table with a
            column ``predicted_NAME`` for each copy.
        loss_trace: see `Evidence`.

    Returns:
        The evidence, and a sentence on how each file was read, where its names left something to read.

    Raises:
        UserError: a file that cannot be read, or that does not fit: other records, classes, labels or forms, a model without outputs,
            a shadow that does not say who its members are, a population with audited records. The message names the file.
    """
    notes: list[str] = list(target.notes)
    evidence = Evidence(target=target.predictions, loss_trace=loss_trace)
    names: tuple[str, ...] = ()
    if shadows:
        where = f"shadows={shadows}"
        parts = read_parts("shadows", shadows, target, notes)
        names = tuple(part.name for part in parts)
        found = _shadow_predictions(parts, where, target)
        evidence = _with(evidence, where, shadows=found)
    if population:
        where = f"population={population}"
        parts = arranged(read_parts("population", population, target, notes), names, where)
        asked, inputs = _population(parts, where, target, evidence)
        evidence = _with(evidence, where, population=asked, population_inputs=inputs)
    if augmented:
        where = f"augmented={augmented}"
        copies = read_augmented(augmented, where, names, target, notes)
        evidence = _with(evidence, where, augmented=copies)
    if perturbed:
        where = f"perturbed={perturbed}"
        evidence = _with(evidence, where, perturbed_labels=read_perturbed(perturbed, where, target, notes))
    return evidence, tuple(notes)


def _with(evidence: Evidence, where: str, **parts: object) -> Evidence:
    """The evidence with more fields; the message of a UserError begins with the file."""
    try:
        return dataclasses.replace(evidence, **parts)  # type: ignore[arg-type]  # fields by name
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _shadow_predictions(parts: list[ModelPart], where: str, target: Audited) -> ShadowPredictions:
    arrays = stacked(parts, member=True)
    arrays.pop("inputs", None)
    if "record_ids" in arrays and target.predictions.record_ids is not None:
        arrays["record_ids"] = _same_kind(arrays["record_ids"], target.predictions.record_ids, parts[0].where, target.where)
    found = ShadowPredictions.from_arrays(arrays, source=where)
    if parts[0].is_table:
        found = _in_order(found, target.predictions)
    _check_form(found, where, target)
    own = parts[0].classes
    if own is not None and target.classes is not None and set(own) != set(target.classes) and len(own) == len(target.classes):
        odd = sorted(set(own) - set(target.classes), key=natural)
        raise UserError(f"{where}: classes {few(odd)} are none of {target.where}; allowed: the classes {few(target.classes)}")
    _check_labels(found, where, target)
    return found


def _in_order(found: ShadowPredictions, target: Predictions) -> ShadowPredictions:
    """The shadows' pool with the target's records first and in its order, so that the order of rows in a table changes no figure."""
    ids, wanted = found.record_ids, target.record_ids
    if ids is None or wanted is None or np.array_equal(ids, wanted):
        return found
    different, at = np.unique(ids, return_index=True)
    place = np.minimum(np.searchsorted(different, wanted), len(different) - 1)
    if len(different) < len(ids) or not np.array_equal(different[place], wanted):
        return found
    first = at[place]
    return found.select(np.concatenate([first, np.setdiff1d(np.arange(len(ids)), first)]))


def _same_kind(ids: Array, like: Array, where: str, other: str) -> Array:
    """Record ids of the kind of the target's, words or whole numbers, so that equal ids are equal."""
    words = like.dtype.kind not in "iu"
    if words == (ids.dtype.kind not in "iu"):
        return ids
    if words:
        return np.array([label_name(value) for value in ids.tolist()])
    texts = [str(value) for value in ids.tolist()]
    odd = next((text for text in texts if not is_count(text)), None)
    if odd is None:
        return np.array([int(text) for text in texts], dtype=np.int64)
    raise UserError(
        f"{where}: record ids are words, such as {odd[:60]!r}, and those of {other} whole numbers; allowed: the same kind"
    )


def _check_form(found: ShadowPredictions, where: str, target: Audited) -> None:
    """Refuse logits beside probabilities, which are rounded near 0 and 1: the models would differ by more than their training."""
    forms = {found.form, target.predictions.form}
    if forms == {"logits", "probs"}:
        raise UserError(
            f"{where}: holds {found.form}, and {target.where} holds {target.predictions.form}; allowed: the same for all files"
        )


def _check_labels(found: ShadowPredictions, where: str, target: Audited) -> None:
    """Raise UserError if a record has another label than in the target's file, as far as ids tell."""
    ours = target.predictions
    if ours.record_ids is None or found.record_ids is None or ours.labels is None or found.labels is None:
        return
    ids, at = np.unique(found.record_ids, return_index=True)
    place = np.minimum(np.searchsorted(ids, ours.record_ids), len(ids) - 1)
    shared = np.flatnonzero(ids[place] == ours.record_ids)
    mine, theirs = alike(ours.labels[shared], found.labels[at[place[shared]]])
    if len(odd := np.flatnonzero(mine != theirs)):
        one = shared[odd[0]]
        raise UserError(
            f"{where}: {len(odd)} records have another label than in {target.where}, such as record {ours.record_ids[one]}, "
            f"{theirs[odd[0]]} instead of {mine[odd[0]]}; allowed: the same labels"
        )


def _population(
    parts: list[ModelPart], where: str, target: Audited, evidence: Evidence
) -> tuple[ShadowPredictions, Array | None]:
    """The population's outputs, and the inputs of its records if they are known."""
    arrays = stacked(parts, member=False)
    inputs = arrays.pop("inputs", None)
    if "record_ids" in arrays and target.predictions.record_ids is not None:
        arrays["record_ids"] = _same_kind(arrays["record_ids"], target.predictions.record_ids, parts[0].where, target.where)
    found = ShadowPredictions.from_arrays(arrays, source=where)
    _check_form(found, where, target)
    own = parts[0].classes
    if own is not None and target.classes is not None and set(own) != set(target.classes):
        raise UserError(f"{where}: classes {few(own)}, and {target.where} has {few(target.classes)}; allowed: the same classes")
    if evidence.shadows is not None and found.form != evidence.shadows.form:
        raise UserError(
            f"{where}: holds {found.form}, and the shadows hold {evidence.shadows.form}; allowed: the same for all files"
        )
    ids, audited = found.record_ids, target.predictions.record_ids
    if ids is not None and audited is not None and (shared := np.isin(ids, audited)).any():
        raise UserError(
            f"{where}: {int(shared.sum())} of its {len(ids)} records are audited (such as record {ids[shared][0]}); allowed: records that "
            "are not audited, and that no model was trained on"
        )
    return found, inputs
