"""Describes an audit in sentences and tables, for people; no decision is read from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from memberscope.attacks import registry
from memberscope.audit.comparisons import low_fpr_against_symmetric, neural_against_metric
from memberscope.audit.controls import Controls
from memberscope.audit.report import AuditReport

if TYPE_CHECKING:
    import pandas as pd


def headline_table(report: AuditReport) -> pd.DataFrame:
    """One row per attack on the entire data set, with the metrics that are compared across runs."""
    return report.outline.table


def table_text(report: AuditReport) -> str:
    """`headline_table` for a terminal; empty if no attack ran."""
    table = headline_table(report)
    return table.to_string(index=False) if len(table) else ""


def finding(report: AuditReport) -> str:
    """What the primary attack of a report found, in words, with its interval and how it was chosen."""
    return report.outline.finding


def copy_notes(report: AuditReport, *, overlap: bool = True) -> dict[str, str]:
    """Sentences on groups, on exact and near copies and, if `overlap`, on records on both sides; each only if there are any."""
    lines = {"groups": "" if report.groups is None else report.groups.sentence}
    if (found := report.distinct) is not None:
        lines |= {"copies": found.copies_line, "overlap": found.overlap_line if overlap else ""}
    lines["near"] = "" if report.near is None else report.near.sentence
    return {name: line for name, line in lines.items() if line}


def skipped(report: AuditReport) -> dict[str, list[str]]:
    """Each reason for which attacks were skipped on all records, and their names."""
    return report.outline.skipped


def skips(report: AuditReport) -> list[str]:
    """A sentence for each reason for which attacks were skipped on all records."""
    return [_skip(names, reason) for reason, names in skipped(report).items()]


def skips_of_named(report: AuditReport, asked: str) -> list[str]:
    """The same for attacks that a request names, not as one of a family; for all of them if none ran."""
    if report.headline is None:
        return skips(report)
    words = {name.strip() for name in asked.split(",")}
    named = {attack.name for attack in registry.attacks() if words & {attack.name, attack.tfp_name}}
    found = {reason: [name for name in names if name in named] for reason, names in skipped(report).items()}
    return [_skip(names, reason) for reason, names in found.items() if names]


def _skip(names: Sequence[str], reason: str) -> str:
    return f"Skipped: {', '.join(names)}, {reason}."


def summary(report: AuditReport, *, notes: Mapping[str, str], controls: Controls, details: Sequence[str] = ()) -> str:
    """The summary as a markdown page: the finding and its uncertainty, then the notes and the controls, then the table.

    Args:
        report: the audit.
        notes: name -> sentence that a reader must know before any metric.
        controls: the controls of the audit.
        details: further sentences, about what else was logged.
    """
    member = report.counted.member
    what = "members against {} non-members" if report.groups is None else "groups of members against {} other groups"
    lines = [
        f"**{finding(report)}**",
        f"{int(member.sum()):,} {what.format(f'{int((~member).sum()):,}')}, engine `{report.engine}`.",
    ]
    first = report.headline.attack if report.headline else ""
    worst = [result for result in report.results if (result.attack, result.slice) == (first, "worst_slice")]
    if worst:
        figure = worst[0].figures["auc"]
        lines.append(
            f"Worst slice by `{worst[0].attack}`: {figure.reason}: AUC {figure.value:.3f} ({figure.ci_low:.3f} to {figure.ci_high:.3f})."
        )
    lines += [
        *notes.values(),
        *controls.sentences().values(),
        neural_against_metric(report),
        low_fpr_against_symmetric(report),
        *details,
    ]
    lines += [f"Skipped: `{'`, `'.join(attacks)}`, {reason}." for reason, attacks in skipped(report).items()]
    lines.append(
        "Metrics of different attacks do not measure the same thing and should not be compared as if they did; see GLOSSARY.md."
    )
    return "\n\n".join(line for line in lines if line) + "\n\n" + markdown(headline_table(report)) + "\n"


def markdown(frame: pd.DataFrame) -> str:
    """A frame as a markdown table; missing values are empty."""

    def cell(value: Any) -> str:
        return "" if value is None or value != value else str(value)

    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.astype(object).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cell(value) for value in row) + " |" for row in rows)
