"""Entry point `audit`: audit any model that MLflow can load, on a file of its members and a file of records that it never saw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from memberscope import outputs, signals
from memberscope import slices as slicing
from memberscope.aligned import in_order_of
from memberscope.audit import artifacts, promise
from memberscope.audit.distinct import refuse_copies
from memberscope.audit.log import attack_progress, log_whole_audit
from memberscope.audit.request import request_of
from memberscope.audit.run import check_counts
from memberscope.audit.step import controls_for, report_on
from memberscope.audit.wording import copy_notes, finding, skips_of_named, table_text
from memberscope.checks import Array
from memberscope.clock import Stage
from memberscope.config import AttackOptionsConfig, AuditModelConfig, groups
from memberscope.cores import one_blas_thread
from memberscope.datasets import records as sides
from memberscope.datasets.schema import Records, column_values, one_schema, take_groups
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.gate import step
from memberscope.interrupt import StopFlag
from memberscope.predictions import Predictions
from memberscope.progress import Progress, Waiting
from memberscope.secret import key
from memberscope.studies.recorder import writes_evidence
from memberscope.studies.result import StudyResult
from memberscope.tracking import DataInput, LoadedModel, Tracker, as_json


@writes_evidence("audit")
def run(config: AuditModelConfig, tracker: Tracker, stop: StopFlag) -> StudyResult:
    """Query the model with both files, attack its outputs, and log the report to one run.

    A record consists of the inputs that the model gets and of its label; see `memberscope.datasets.schema` for how tables are read.

    Raises:
        UserError: a model or file that does not fit, records on both sides, or a rule that does not parse. It is raised before anything is
            logged and, where possible, before the model is queried.
        Interrupted: the run was stopped; everything logged so far stays.
    """
    request = request_of(config, present=("target",))
    step.check_rules(config, request.attacks)
    wanted = check_slices(config)
    na_values = tuple(word.strip() for word in config.na_values.split(",") if word.strip())
    with tracker.clock.stage(Stage.MODEL):
        with Waiting("audit: reading the files and the model"):
            files = [
                sides.read_records(name, getattr(config, name), label=config.label, na_values=na_values)
                for name in ("members", "nonmembers")
            ]
            check_counts(*map(len, files), min_records=config.min_records)
            persons = None
            if config.group:
                files, persons = take_groups(files, config.group, na_values=na_values)
            extra = slice_columns(files, wanted, na_values)
            model = tracker.load_model(config.model_uri, prefer_labels=config.output == "labels")
            if model.classes is not None:
                check_slices(config, classes=len(model.classes), labels=model.classes)
            for side in files:
                if side.columns is not None:
                    model.check_columns(side.columns, name=side.where)
            (members, nonmembers), read = one_schema(files, shown=model.columns, classes=model.classes, na_values=na_values)
            del files  # frees the text of all cells
            prepared = [(side, *model.prepare(side.x, name=side.where)) for side in (members, nonmembers)]
            ids = sides.record_ids(members, nonmembers)
            overlap = sides.check_apart(*ids, allowed=config.allow_overlap)
            refuse_copies({"members": ids[0], "nonmembers": ids[1]}, duplicates=config.duplicates)
        reading = query(model, [(side, inputs) for side, inputs, _ in prepared], config, stop)
        target = predictions(reading, members, nonmembers, np.concatenate(ids), extra, groups=persons)
    step.check_rules(config, request.attacks, classes=slicing.class_names(target))
    evidence = Evidence(target=target)
    with one_blas_thread():
        with attack_progress(request.attacks, "audit", stop, alive=True) as on_attack:
            # With `refuse`, copies were refused above.
            duplicates = "keep" if config.duplicates == "keep" else "drop"
            report = report_on(
                evidence, config, request=request, duplicates=duplicates, on_attack=on_attack, clock=tracker.clock
            )
        stop.check()
        queried = how_queried(model, reading, "; ".join(part for part in (read, prepared[0][2]) if part))
        notes = what_to_know(queried, report.target, overlap)
        log_inputs(config, model, reading, target, (members, nonmembers), ids, tracker)
        with Waiting("audit: looking for near copies"):
            notes |= copy_notes(report, overlap=False)
        stop.check()
        controls = controls_for(config, evidence, report, request, stop.check, clock=tracker.clock)
        with Waiting("audit: logging the results"):
            log_whole_audit(report, tracker, controls=controls, notes=notes, seed=config.seed, top=config.top, source="content",
                private=config.private_artifacts, show_records=config.show_records, check=stop.check,
            )  # fmt: skip
    stopped = step.gate(report, config, tracker)
    lines = [
        finding(report),
        *skips_of_named(report, config.attacks),
        *promise.sentences(report),
        *notes.values(),
        *controls.sentences().values(),
        *step.sentences(config, stopped),
    ]
    return StudyResult(table=table_text(report), answer="\n".join(lines), gate=stopped)


def check_slices(config: AttackOptionsConfig, *, classes: int | None = None, labels: Iterable[object] = ()) -> tuple[str, ...]:
    """The columns that the slices name; UserError for unknown slices. It needs no model, so it can be called before one is loaded."""
    return slicing.named_columns(config.slices, classes=classes, labels=labels)


def slice_columns(files: Sequence[Records], names: Sequence[str], na_values: tuple[str, ...] = ()) -> dict[str, Array]:
    """The columns to slice by, name -> (n,) values of all files one after another; the model need not use these columns.

    Raises:
        UserError: a file has no such column, or the column has too many values.
    """
    found = {name: np.concatenate(column_values(files, name, na_values=na_values)) for name in names}
    for name, values in found.items():
        slicing.check_values(name, values)
    return found


def query(
    model: LoadedModel, prepared: Sequence[tuple[Records, Any]], config: AuditModelConfig, stop: StopFlag
) -> outputs.Reading:
    """The model's outputs for each side's records, which were prepared for it.

    Raises:
        UserError: the model fails on them, or its output is neither labels nor scores.
    """
    (members, _), (nonmembers, _) = prepared
    if members.y.dtype.kind != nonmembers.y.dtype.kind and "U" in (members.y.dtype.kind, nonmembers.y.dtype.kind):
        raise UserError(
            f"nonmembers={nonmembers.path}: labels such as {nonmembers.y[0]!r}, but the members have labels such as {members.y[0]!r}; "
            "allowed: labels of the same kind"
        )
    parts: list[Array] = []
    names: tuple[str, ...] | None = None
    with Progress(len(members) + len(nonmembers), "predictions", unit="record") as progress:
        for side, inputs in prepared:
            for start in range(0, len(side), config.predict_batch):
                stop.check()
                rows = slice(start, min(start + config.predict_batch, len(side)))
                batch = _rows(inputs, rows)
                raw = in_order_of(batch, model.predict(batch))
                output, named = outputs.as_array(raw), outputs.column_names(raw)
                if not output.ndim or len(output) != rows.stop - rows.start:
                    raise UserError(
                        f"output: shape {output.shape} for {rows.stop - rows.start} records; allowed: a row of scores, or a label, for "
                        "each record"
                    )
                if parts and (named != names or output.shape[1:] != parts[0].shape[1:]):
                    raise UserError(
                        f"output: columns {output.shape[1:]} {named or ''} after {parts[0].shape[1:]} {names or ''}; allowed: the same "
                        "columns for all records"
                    )
                names = named
                parts.append(output)
                progress.advance(len(output))
    labels = np.concatenate([members.y, nonmembers.y])
    return outputs.read_output(np.concatenate(parts), labels, requested=config.output, classes=model.classes, names=names)


def _rows(inputs: Any, rows: slice) -> Any:
    if isinstance(inputs, dict):
        return {name: values[rows] for name, values in inputs.items()}
    return inputs.iloc[rows] if hasattr(inputs, "iloc") else inputs[rows]


def predictions(
    reading: outputs.Reading, members: Records, nonmembers: Records, ids: Array, columns: Mapping[str, Array],
    *, groups: Array | None = None,
) -> Predictions:  # fmt: skip
    """The model's outputs as `Predictions`: members come first, so that a position below their number is a row of their file."""
    inputs = np.concatenate([members.numbers(nonmembers), nonmembers.numbers(members)])
    return reading.predictions(
        member=np.arange(len(ids)) < len(members), record_ids=ids, inputs=inputs, columns=columns, groups=groups
    )


def how_queried(model: LoadedModel, reading: outputs.Reading, done: str) -> str:
    """How the model was queried and its output read; always reported, since labels mistaken for scores would go unnoticed."""
    form = {"predicted": "labels only"}.get(reading.form, reading.form)
    method, flavour = model.facts.get("method", "predict"), model.facts.get("flavour", "a model")
    text = f"The model was queried through `{method}` ({flavour}); its output was read as **{form}**: {reading.why}."
    return f"{text} Records: {done}." if done else text


def what_to_know(queried: str, target: Predictions, overlap: str) -> dict[str, str]:
    """Sentences that a reader must know before any metric, by topic; topics with nothing to report are left out."""
    notes = {
        "asked": queried, "accuracy": accuracy_line(target), "missing": missing_line(target),
        "overlap": f"Overlap: {overlap}." if overlap else "",
    }  # fmt: skip
    return {name: text for name, text in notes.items() if text}


def missing_line(target: Predictions) -> str:
    """How many numbers of the records are missing and what was done about it; empty if none is."""
    values = target.inputs
    if values is None or values.dtype.kind != "f":
        return ""
    lacking = ~np.isfinite(values).reshape(len(values), -1)
    if not lacking.any():
        return ""
    found = f"{lacking.sum()} numbers, absent or infinite, in {lacking.any(axis=1).sum()} records"
    return (
        f"Missing: {found}. The model was given them unchanged; the blind control replaces each by its column's mean, and uses "
        "the number of values that a record lacks as one more feature."
    )


def accuracy_line(target: Predictions) -> str:
    """Accuracy on both sides, which shows at once whether the records are of the kind that the model was made for."""
    right = signals.correctness(target)
    inside, outside = float(right[target.member].mean()), float(right[~target.member].mean())
    text = f"Accuracy: {inside:.3f} on members, {outside:.3f} on non-members."
    classes, counts = np.unique(np.asarray(target.labels)[target.member], return_counts=True)
    if len(classes) > 1 and inside <= counts.max() / counts.sum():
        text += (
            " On members the model is no better than always predicting the most frequent class: check the scale and order of the "
            "features, and the labels, before you trust any metric."
        )
    return text


def log_inputs(
    config: AuditModelConfig,
    model: LoadedModel,
    reading: outputs.Reading,
    target: Predictions,
    files: tuple[Records, Records],
    ids: tuple[Array, Array],
    tracker: Tracker,
) -> None:
    """Log the model, the files with their digests, and how the output was read."""
    tracker.text(as_json(groups(config)), artifacts.STUDY)
    facts = {f"model.{name}": value for name, value in model.facts.items()}
    if reading.classes is not None:
        facts["data.class_names"] = ",".join(map(str, reading.classes))
    tracker.params(
        {
            **facts,
            "model.output": reading.form,
            "model.output_seen": reading.why,
            "attack.seed": config.seed,
            "attack.engine": config.engine,
        }
    )
    tracker.tags({"memberscope.model": model.facts.get("uri", "")})
    for context, side, numbers in zip(("member", "nonmember"), files, ids, strict=True):
        name = side.path.replace("\\", "/").rsplit("/", 1)[-1]
        shape = side.x.shape if isinstance(side.x, np.ndarray) else tuple(side.x.shape)
        tracker.data(
            DataInput(
                name=name, context=context, digest=key().digest(sides.digest(numbers).encode()).hex(), source=f"the file {name}",
                shape=shape, classes=target.n_classes or 0,
            )
        )  # fmt: skip
