"""The bounds of epsilon of an audit whose memberships were drawn by coin flips, and what they say about the promised epsilon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from memberscope.audit import artifacts
from memberscope.audit.bounds_table import BoundRow, Judgement, Look, Records, bounds_frame, bounds_table, judge_promise
from memberscope.audit.headline import AUTO
from memberscope.audit.report import AuditReport, SliceResult
from memberscope.metrics.rounding import logged
from memberscope.tracking import Tracker

if TYPE_CHECKING:
    import pandas as pd


def look_of(result: SliceResult, *, records: Records = "ordinary", one_record: bool = True) -> Look | None:
    """An attack's scores as a look at a promise; None unless coins decided on its records and it is blind to them."""
    if result.scores is None or result.member is None or result.one_run is None:
        return None
    return Look(attack=result.attack, records=records, scores=result.scores, member=result.member, one_record=one_record)


def blind_results(report: AuditReport) -> list[SliceResult]:
    """The results on all records whose scores are blind to the coins that drew the memberships; none if no coins did."""
    return [result for result in report.whole() if result.scores is not None and result.one_run is not None]


def rows_of(report: AuditReport, *, records: Records = "ordinary", one_record: bool = True) -> tuple[BoundRow, ...]:
    """The table of bounds of all attacks that are blind to the coins. Primary are the rows by which `judge` judges: of the primary
    attack, or of every attack if none was named beforehand.
    """
    judged, rows = {result.attack for result in _judged(report)}, list[BoundRow]()
    for result in blind_results(report):
        look = look_of(result, records=records, one_record=one_record and report.groups is None)
        assert look is not None
        assert result.one_run is not None
        found = bounds_table(
            look.scores, look.member, attack=look.attack, records=records, one_record=look.one_record, coin_flips=True,
            delta=result.one_run.delta, promise=result.one_run.promise,
        )  # fmt: skip
        rows += [row if row.attack in judged else replace(row, primary=False) for row in found]
    return tuple(rows)


@dataclass(frozen=True, kw_only=True, eq=False)
class OfCanaries:
    """The audit of a model's canaries, and whether each of their coins decided on one record."""

    report: AuditReport
    one_record: bool


def judge(report: AuditReport, canaries: OfCanaries | None = None) -> Judgement | None:
    """What the audits of records and canaries say of the promise: by the primary attack, or by all attacks together if none was named
    beforehand; each look has its part of the error. None if no scores are blind to coins that drew the memberships.
    """
    audits: list[tuple[Records, AuditReport, bool]] = [("ordinary", report, report.groups is None)]
    if canaries is not None:
        audits.append(("canaries", canaries.report, canaries.one_record))
    looks, settings = list[Look](), None
    for records, audit, one_record in audits:
        for result in _judged(audit):
            look = look_of(result, records=records, one_record=one_record)
            if look is not None:
                looks.append(look)
                settings = settings or result.one_run
    if settings is None:
        return None
    return judge_promise(looks, coin_flips=True, delta=settings.delta, promise=settings.promise)


def log_bounds(
    report: AuditReport, tracker: Tracker, *, canaries: OfCanaries | None = None, more: Sequence[BoundRow] = (), step: int = 0
) -> Judgement | None:  # fmt: skip
    """Log the table of bounds, the judgement's metrics and, where an epsilon was promised, the verdict as a tag; nothing without coins.

    Args:
        report: of ordinary records.
        tracker: the run.
        canaries: of the canaries, if there are any.
        more: further rows of the table.
        step: the step of the metrics.

    Returns:
        The judgement, if there is one.
    """
    judged = judge(report, canaries)
    if judged is None:
        return None
    rows = [*rows_of(report), *more]
    if canaries is not None:
        rows += rows_of(canaries.report, records="canaries", one_record=canaries.one_record)
    log_frame(bounds_frame(rows), tracker)
    tracker.metrics(metrics_of(judged, judged.attack), step=step)
    if judged.promise is not None:
        tracker.tags({"memberscope.promise": judged.verdict})
    return judged


def log_frame(frame: pd.DataFrame, tracker: Tracker) -> None:
    """Log a table of bounds as `artifacts.BOUNDS`, and its primary rows as `artifacts.BOUNDS_TABLE`."""
    shown = frame[frame["primary"]].reset_index(drop=True)
    tracker.table(frame, artifacts.BOUNDS)
    tracker.table(shown.astype(object).where(shown.notna(), None), artifacts.BOUNDS_TABLE)


def metrics_of(judged: Judgement, of: str) -> dict[str, float]:
    """A judgement's metrics, such as ``epsilon_bound/lira_online``, `of` an attack or a mitigation."""
    found = {"epsilon_bound": judged.bound, "epsilon_bound_ceiling": judged.ceiling, "promise_ratio": judged.ratio}
    return {key: number for name, value in found.items() for key, number in logged(name, of, value).items()}


def words_of(judged: Judgement) -> str:
    """A sentence on the bound and the promise."""
    bound = (
        ""
        if judged.bound is None
        else f"epsilon is at least {judged.bound:.2f} at delta {judged.delta:.2g} ({judged.confidence:.0%})"
    )
    if bound:
        bound += f", by {judged.attack} on {'canaries' if judged.records == 'canaries' else 'ordinary records'}"
        bound += f" ({judged.method}{'' if judged.assumes == 'nothing' else f', which assumes {judged.assumes}'})"
    if judged.promise is None:
        return f"No epsilon was promised: {bound or judged.reason}."
    begin = f"Promised epsilon {judged.promise:.3g}, {judged.verdict}"
    if judged.verdict == "contradicted":
        return f"{begin}: {bound}; the training is not as private as promised, or its accounting is wrong."
    if judged.verdict == "kept":
        return f"{begin}: {bound}, where perfect scores would give {judged.ceiling:.2f}."
    return f"{begin}: {'; '.join(part for part in (bound, judged.reason) if part)}."


def sentences(report: AuditReport) -> list[str]:
    """What an audit says of epsilon, as a sentence; none without coins."""
    judged = judge(report)
    return [] if judged is None else [words_of(judged)]


def _judged(report: AuditReport) -> list[SliceResult]:
    """The results by which a promise is judged; which ones they are does not depend on their scores."""
    found = blind_results(report)
    return found if report.primary == AUTO else [result for result in found if result.attack == report.primary]
