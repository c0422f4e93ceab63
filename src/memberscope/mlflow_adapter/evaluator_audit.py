"""The audit behind the evaluator of `memberscope.mlflow_adapter.evaluator`: the evaluated data as evidence, and the report in the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from mlflow.models.evaluation.base import EvaluationResult

from memberscope import outputs
from memberscope.aligned import in_order_of, line_up
from memberscope.audit.distinct import refuse_copies
from memberscope.audit.log import headline_metrics, log_whole_audit
from memberscope.audit.request import request_of
from memberscope.audit.run import check_counts
from memberscope.audit.step import controls_for, report_on
from memberscope.audit.wording import copy_notes
from memberscope.checks import Array, plain_array
from memberscope.clock import Stage
from memberscope.config import AttackOptionsConfig, AuditModelConfig
from memberscope.cores import one_blas_thread
from memberscope.datasets import records as sides
from memberscope.datasets.schema import Records, few, one_schema
from memberscope.errors import UserError, nearest
from memberscope.evidence import Evidence
from memberscope.mlflow_adapter.existing_run import ExistingRunTracker
from memberscope.mlflow_adapter.models import Model, wrap
from memberscope.predictions import Predictions
from memberscope.reading import columns
from memberscope.studies.audit import check_slices, how_queried, slice_columns, what_to_know
from memberscope.studies.recorder import Recorder, log_evidence

DEFAULTS: Mapping[str, object] = {"attacks": "tfp", "slices": "entire,class"}
_OWN = ("member", "record_ids", "groups", "output", "allow_overlap")


def audit_dataset(
    dataset: Any, *, run_id: str, config: Mapping[str, Any], model: Any, predictions: str | None
) -> EvaluationResult:
    """Audit an evaluated data set and log the report to its run.

    Args:
        dataset: MLflow's evaluation data set.
        run_id: the run.
        config: the evaluator's configuration, see `memberscope.mlflow_adapter.evaluator`.
        model: the model as MLflow loaded it; None for the predictions that the data set holds.
        predictions: the column of the model's output that is its prediction; None for all of it.

    Raises:
        UserError: the configuration, the records or the output do not fit; nothing is logged then.
    """
    own, options = options_of(config)
    request = request_of(options, present=("target",))
    wanted = check_slices(options)
    tracker = ExistingRunTracker.in_run(run_id)
    with tracker.clock.stage(Stage.MODEL):
        target, queried, overlap = _target(dataset, own, options, wanted, model, predictions)
    evidence = Evidence(target=target)
    recorder = Recorder.over(tracker, study="evaluate")
    source = "given" if own.get("record_ids") is not None else "content"
    # one block for all of it: each time that BLAS's threads may run again, they spin for a tenth of a second
    with one_blas_thread(), tracker.batch.finishing():
        report = report_on(evidence, options, request=request, clock=tracker.clock)
        notes = what_to_know(queried, report.target, overlap) | copy_notes(report, overlap=not overlap)
        controls = controls_for(options, evidence, report, request, lambda: None, clock=tracker.clock)
        log_whole_audit(report, recorder, controls=controls, notes=notes, seed=options.seed, top=options.top, source=source,
            private=options.private_artifacts, show_records=options.show_records,
        )  # fmt: skip
        log_evidence(recorder, study="evaluate", status="FINISHED")
    # thresholds are checked against every digit, not what the run shows
    exact = report.headlines() | headline_metrics(report)
    found: EvaluationResult = EvaluationResult(  # type: ignore[no-untyped-call]  # MLflow's own has no types
        metrics=dict(tracker.sent) | exact, artifacts=tracker.artifacts()
    )
    return found


def options_of(config: Mapping[str, Any]) -> tuple[dict[str, Any], AttackOptionsConfig]:
    """Our own part of a configuration, and the audit's; UserError for an unknown name or a value that is not allowed."""
    known = {*_OWN, *AttackOptionsConfig.__dataclass_fields__}
    for name in config:
        if name not in known:
            raise UserError(f"evaluator_config: {name!r}; allowed: {', '.join(sorted(known))}{nearest(str(name), known)}")
    if "member" not in config:
        raise UserError(
            "evaluator_config: member is missing; allowed: one boolean per record, true for those in the training set"
        )
    own = {name: config[name] for name in _OWN if name in config}
    checked = AuditModelConfig(output=own.get("output", "auto"), allow_overlap=own.get("allow_overlap", False))
    own["allow_overlap"] = checked.allow_overlap
    return own, AttackOptionsConfig.from_mapping(
        {**DEFAULTS, **{key: value for key, value in config.items() if key not in _OWN}}
    )


def _target(
    dataset: Any,
    own: Mapping[str, Any],
    options: AttackOptionsConfig,
    wanted: Sequence[str],
    model: Any,
    predictions: str | None,
) -> tuple[Predictions, str, str]:
    """What is audited, how it was read, and a note on records that are on both sides."""
    records, own = _records(dataset, own)
    check_counts(int(own["member"].sum()), int((~own["member"]).sum()), min_records=options.min_records)
    member, extra = own["member"], slice_columns([records], wanted)
    ready = (
        None if model is None else wrap(model, facts={"flavour": _flavour(model)}, prefer_labels=own.get("output") == "labels")
    )
    if ready is not None and records.columns is not None:
        ready.check_columns(records.columns, name="data")
    (records,), read = one_schema([records], shown=None if ready is None else ready.columns)
    prepared, done = (None, "") if ready is None else ready.prepare(records.x, name="data")
    ids, overlap, left_out = _identities(records, own, static=ready is None)
    if ids is not None:
        refuse_copies({"members": ids[member], "nonmembers": ids[~member]}, duplicates=options.duplicates)
    reading, queried = _read(dataset, ready, prepared, records.y, own, predictions)
    queried = " ".join([queried, *(f"Records: {part}." for part in (read, done, left_out) if part)])
    inputs = records.numbers()
    target = reading.predictions(
        member=member,
        record_ids=ids,
        inputs=inputs if inputs.shape[-1] else None,
        columns=extra,
        groups=own.get("groups"),
    )
    return target, queried, overlap


def _records(dataset: Any, own: Mapping[str, Any]) -> tuple[Records, dict[str, Any]]:
    """The evaluated records, and the configuration with its per-record values in the same order."""
    if dataset.labels_data is None:
        raise UserError("targets: missing; allowed: the labels' column, or an array of them")
    labels = sides.plain_labels(dataset.labels_data, where="targets")
    features = dataset.features_data
    by_record = {name: own[name] for name in ("member", "record_ids", "groups") if own.get(name) is not None}
    by_record = {
        name: plain_array(f"evaluator_config: {name}", value)
        for name, value in line_up(by_record, like=features, source="evaluator_config", like_name="data").items()
    }
    if isinstance(features, np.ndarray) and features.ndim != 2:
        features = features.reshape(len(labels), -1)
    if not isinstance(features, np.ndarray):
        features = features.rename(columns=str).reset_index(drop=True)
        sides.check_names("data", features)
    member = by_record["member"]
    if member.dtype.kind in "iu" and set(np.unique(member).tolist()) <= {0, 1}:
        member = by_record["member"] = member.astype(bool)
    if member.dtype != np.bool_ or member.shape != (len(labels),):
        raise UserError(
            f"evaluator_config: member is {member.dtype} of shape {member.shape}; allowed: {len(labels)} booleans, one for each record"
        )
    if member.all() or not member.any():
        raise UserError(f"evaluator_config: member is {bool(member[0])} throughout; allowed: some members and some non-members")
    return Records(x=features, y=labels, name="data", path="the evaluated data"), {**own, **by_record}


def _identities(records: Records, own: Mapping[str, Any], *, static: bool) -> tuple[Any, str, str]:
    """One id per record (None without any features), a note on records that are on both sides, and one on columns that were ignored.

    With `static` predictions it is not known which columns the model was shown: one whose values all differ, such as a row number, is
    ignored.
    """
    if own.get("record_ids") is not None:
        return own["record_ids"], "", ""
    if not (records.x.shape[1] if records.x.ndim > 1 else 0):
        return None, "", ""
    left_out = ""
    if static and not isinstance(records.x, np.ndarray):
        names = [name for name in records.x.columns if columns.names_records(records.x[name])]
        if names and len(names) < records.x.shape[1]:
            records = replace(records, x=records.x.drop(columns=names))
            left_out = f"identified by their content without {few(names)}, which differs in every record"
    member = own["member"]
    parts = [replace(records, x=records.x[side], y=records.y[side]) for side in (member, ~member)]
    hashed = sides.record_ids(*parts)
    overlap = sides.check_apart(*hashed, allowed=own["allow_overlap"])
    ids = np.empty(len(member), dtype=np.int64)
    ids[member], ids[~member] = hashed
    return ids, overlap, left_out


def _read(
    dataset: Any, ready: Model | None, prepared: Any, labels: Array, own: Mapping[str, Any], column: str | None
) -> tuple[outputs.Reading, str]:
    """The model's output for the records, or the one that the data set holds, and how it was read."""
    output = own.get("output", "auto")
    if ready is None:
        if dataset.predictions_data is None:
            raise UserError("predictions: missing; allowed: the column of a model's outputs where model=None")
        reading = outputs.read_output(dataset.predictions_data, labels, requested=output)
        form = {"predicted": "labels only"}.get(reading.form, reading.form)
        return reading, f"Static predictions read as **{form}**: {reading.why}."
    raw = in_order_of(prepared, ready.predict(prepared))
    if column is not None and hasattr(raw, "columns") and column in raw.columns:
        raw = raw[column]
    reading = outputs.read_output(raw, labels, requested=output, classes=ready.classes)
    return reading, how_queried(ready, reading, "")


def _flavour(model: Any) -> str:
    metadata = getattr(model, "metadata", None)
    flavours = [] if metadata is None else [name for name in metadata.flavors if name != "python_function"]
    return flavours[0] if flavours else "python_function"
