"""Entry point `attack`: audit a model's outputs, with all else that an attacker has, from files: no model, training or TensorFlow."""

from __future__ import annotations

import dataclasses

from memberscope import slices
from memberscope.audit import artifacts, promise
from memberscope.audit.log import attack_progress, log_whole_audit
from memberscope.audit.request import fields_present, request_of
from memberscope.audit.step import controls_for, report_on
from memberscope.audit.wording import copy_notes, finding, skips_of_named, table_text
from memberscope.clock import Stage
from memberscope.config import AttackStudyConfig, groups
from memberscope.cores import one_blas_thread
from memberscope.errors import UserError, nearest
from memberscope.evidence_from_files import read_evidence, read_target
from memberscope.exposure.trace import LossTrace
from memberscope.gate import step
from memberscope.interrupt import StopFlag
from memberscope.model_files import Audited
from memberscope.output_files import KINDS
from memberscope.predictions import Predictions
from memberscope.progress import Waiting
from memberscope.studies.recorder import writes_evidence
from memberscope.studies.result import StudyResult
from memberscope.tracking import Tracker, as_json

GROUP_NAMES = ("group", "groups")
"""What the groups of a file are called: a column of a table, and a key of an ``.npz``."""


@writes_evidence("attack")
@one_blas_thread()
def run(config: AttackStudyConfig, tracker: Tracker, stop: StopFlag) -> StudyResult:
    """Audit the files and log the report to one run.

    Raises:
        UserError: before anything is logged, for a file, attack, slice or engine that is not valid.
    """
    if not config.predictions and not config.trace:
        raise UserError(f"predictions=: missing; allowed: the path of {KINDS}, or a trace")
    given = {
        "shadows": config.shadows, "population": config.population, "population_inputs": config.population,
        "perturbed_labels": config.perturbed, "loss_trace": config.trace,
    }  # fmt: skip
    request = request_of(config, present=("target", *(name for name, path in given.items() if path)))
    step.check_rules(config, request.attacks)
    with Waiting("audit: reading the files"), tracker.clock.stage(Stage.MODEL):
        trace = LossTrace.open(config.trace) if config.trace else None
        target = _target(config, trace)
        step.check_rules(config, request.attacks, classes=slices.class_names(target.predictions))
        evidence, read = read_evidence(
            target, shadows=config.shadows, population=config.population, augmented=config.augmented, perturbed=config.perturbed,
            loss_trace=None if trace is None else trace.of(target.predictions),
        )  # fmt: skip
    request.check_primary(fields_present(evidence))
    with attack_progress(request.attacks, "audit", stop, alive=True) as on_attack:
        report = report_on(evidence, config, request=request, on_attack=on_attack, clock=tracker.clock)
    stop.check()
    tracker.text(as_json(groups(config)), artifacts.STUDY)
    controls = controls_for(config, evidence, report, request, stop.check, clock=tracker.clock)
    with Waiting("audit: looking for near copies"):
        notes = {**({"read": f"Read: {' '.join(read)}"} if read else {}), **copy_notes(report)}
    stop.check()
    with Waiting("audit: logging the results"):
        log_whole_audit(report, tracker, controls=controls, notes=notes, seed=config.seed, top=config.top,
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


def _target(config: AttackStudyConfig, trace: LossTrace | None) -> Audited:
    """The audited model's outputs with their groups: of the predictions, else of the trace."""
    if config.predictions:
        target = read_target(config.predictions)
    else:
        assert trace is not None
        target = Audited(predictions=trace.predictions(), where=f"trace={config.trace}")
    return dataclasses.replace(target, predictions=with_groups(target.predictions, config))


def with_groups(target: Predictions, config: AttackStudyConfig) -> Predictions:
    """The predictions with the column that the configuration names as their groups; UserError if they have no such column."""
    if not config.group:
        return target
    if config.group in GROUP_NAMES and target.groups is not None and config.group not in target.columns:
        return target
    if config.group not in target.columns:
        known = ", ".join(target.columns) or "none"
        raise UserError(
            f"group={config.group}: {config.predictions} has no column {config.group}, or key column_{config.group}; its columns: {known}"
            f"{nearest(config.group, target.columns)}"
        )
    return target.with_groups(target.columns[config.group])
