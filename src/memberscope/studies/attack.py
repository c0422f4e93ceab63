"""Entry point `attack`: audit a model's outputs from a file, without the model, training or TensorFlow."""

from __future__ import annotations

import dataclasses

from memberscope import slices
from memberscope.audit import artifacts, promise
from memberscope.audit.log import attack_progress, log_whole_audit
from memberscope.audit.request import request_of
from memberscope.audit.step import controls_for, report_on
from memberscope.audit.wording import copy_notes, finding, headline_table
from memberscope.config import AttackStudyConfig, groups
from memberscope.errors import UserError, nearest
from memberscope.evidence import Evidence
from memberscope.exposure.trace import LossTrace
from memberscope.gate import step
from memberscope.interrupt import StopFlag
from memberscope.predictions import Predictions, ShadowPredictions
from memberscope.studies.recorder import writes_evidence
from memberscope.studies.result import StudyResult
from memberscope.tracking import Tracker, as_json


@writes_evidence("attack")
def run(config: AttackStudyConfig, tracker: Tracker, stop: StopFlag) -> StudyResult:
    """Audit the files and log the report to one run.

    Raises:
        UserError: before anything is logged, for a file, attack, slice or engine that is not valid.
    """
    if not config.predictions and not config.trace:
        raise UserError("predictions=: missing; allowed: the path of an .npz with the keys of Predictions, or a trace")
    given = {"shadows": config.shadow, "loss_trace": config.trace}
    request = request_of(config, present=("target", *(name for name, path in given.items() if path)))
    step.check_rules(config, request.attacks)
    trace = LossTrace.open(config.trace) if config.trace else None
    target = Predictions.load(config.predictions) if config.predictions else None
    if target is None:
        assert trace is not None
        target = trace.predictions()
    target = with_groups(target, config)
    step.check_rules(config, request.attacks, classes=slices.class_names(target))
    shadow = ShadowPredictions.load(config.shadow) if config.shadow else None
    evidence = Evidence(target=target, shadows=shadow, loss_trace=None if trace is None else trace.of(target))
    with attack_progress(request.attacks, "audit", stop) as on_attack:
        report = report_on(evidence, config, request=request, on_attack=on_attack)
    stop.check()
    tracker.text(as_json(groups(config)), artifacts.STUDY)
    controls, notes = controls_for(config, evidence, report, request, stop.check), copy_notes(report)
    log_whole_audit(report, tracker, controls=controls, notes=notes, seed=config.seed, top=config.top, private=config.private_artifacts,
        show_records=config.show_records, check=stop.check,
    )  # fmt: skip
    stopped = step.gate(report, config, tracker)
    lines = [
        finding(report),
        *promise.sentences(report),
        *notes.values(),
        *controls.sentences().values(),
        *step.sentences(config, stopped),
    ]
    return StudyResult(table=headline_table(report).to_string(index=False), answer="\n".join(lines), gate=stopped)


def with_groups(target: Predictions, config: AttackStudyConfig) -> Predictions:
    """The predictions with the column that the configuration names as their groups; UserError if they have no such column."""
    if not config.group:
        return target
    if config.group not in target.columns:
        known = ", ".join(f"column_{name}" for name in target.columns) or "none"
        raise UserError(
            f"group={config.group}: {config.predictions} has no key column_{config.group}; its columns: {known}"
            f"{nearest(config.group, target.columns)}"
        )
    return dataclasses.replace(target, groups=target.columns[config.group])
