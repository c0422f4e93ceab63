"""The gate at the end of an audit: its rules come from the configuration, are checked before anything runs, and judge the report."""

from __future__ import annotations

from collections.abc import Sequence

from memberscope.audit import artifacts
from memberscope.audit.run import AuditReport
from memberscope.audit.step import declared_of
from memberscope.config import AttackStudyConfig, AuditModelConfig, GateConfig
from memberscope.errors import GateError, GateTripped, GateUndecided
from memberscope.tracking import Tracker

AuditWithGate = AttackStudyConfig | AuditModelConfig


def check_rules(config: AuditWithGate, names: tuple[str, ...], classes: Sequence[str] | None = None) -> None:
    """Raise UserError, before any attack runs, for a rule that does not parse, names an attack or class that does not exist, or needs what
    was not declared.
    """
    if config.fail_if:
        from memberscope.gate import parse_rules

        parse_rules(config.fail_if, attacks=names, classes=classes, declared=declared_of(config).given)


def gate(report: AuditReport, config: GateConfig, tracker: Tracker) -> GateError | None:
    """Judge the report by the rules, if there are any, log the verdicts, and return the error to end the run with unless they pass."""
    if not config.fail_if:
        return None
    from memberscope.gate import judge, parse_rules

    result = judge(report, parse_rules(config.fail_if), undecided=config.undecided)
    tracker.table(result.to_frame(), artifacts.GATE)
    tracker.tags({"memberscope.gate": result.outcome, "memberscope.gate_reason": result.reason[:500]})
    if result.outcome == "pass":
        return None
    return {"trip": GateTripped, "undecided": GateUndecided}[result.outcome](result.reason)


def sentences(config: GateConfig, stopped: GateError | None) -> list[str]:
    """The gate's lines on the terminal; none where there are no rules."""
    if not config.fail_if:
        return []
    return [f"Gate: {stopped if stopped is not None else 'passed'}"]
