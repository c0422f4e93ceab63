"""Runs an audit and its controls from a configuration; entry points and the MLflow evaluator share this code."""

from __future__ import annotations

from collections.abc import Callable

from memberscope.audit.controls import Controls, run_controls
from memberscope.audit.declared import Declared
from memberscope.audit.report import AuditReport
from memberscope.audit.request import AuditRequest
from memberscope.audit.run import run_audit
from memberscope.clock import Clock, Stage
from memberscope.config import AttackOptionsConfig, DeclaredConfig
from memberscope.evidence import Evidence


def report_on(
    evidence: Evidence,
    config: AttackOptionsConfig,
    *,
    request: AuditRequest,
    duplicates: str = "",
    on_attack: Callable[[str], None] = lambda name: None,
    clock: Clock | None = None,
) -> AuditReport:
    """Run an audit with the options of a configuration.

    Args:
        evidence: the evidence to audit.
        config: the options.
        request: what `config` requests, resolved.
        duplicates: the treatment of exact copies; that of `config` unless given.
        on_attack, clock: see `memberscope.audit.run.run_audit`.
    """
    return run_audit(
        evidence, request=request, seed=config.seed, refit=config.refit, min_records=config.min_records, declared=declared_of(config),
        coin_flips=config.coin_flips, duplicates=duplicates or config.duplicates, delta=config.delta, promise=config.promise,
        on_attack=on_attack, clock=clock,
    )  # fmt: skip


def declared_of(config: DeclaredConfig) -> Declared:
    """What a configuration declares."""
    return Declared(
        prior=None if config.prior == "none" else float(config.prior), subjects=None if config.subjects == "none" else int(config.subjects),
        sensitivity=config.sensitivity,
    )  # fmt: skip


def audited_evidence(report: AuditReport, evidence: Evidence) -> Evidence:
    """The evidence restricted to the distinct records that the report covers."""
    return evidence if report.distinct is None else report.distinct.evidence


def controls_for(
    config: AttackOptionsConfig, evidence: Evidence, report: AuditReport, request: AuditRequest, check: Callable[[], None],
    *, clock: Clock | None = None,
) -> Controls:  # fmt: skip
    """Run the controls that a configuration selects, on the distinct records, timed by `clock`; none with ``controls=none``."""
    if config.controls == "none":
        return Controls()
    refit = config.controls == "full" and request.engine == "fast"
    with (Clock() if clock is None else clock).stage(Stage.CONTROLS):
        return run_controls(
            report, audited_evidence(report, evidence), attacks=request.attacks, seed=config.seed, refit=refit, check=check
        )
