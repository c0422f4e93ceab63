"""The section with the risk statement: what was measured, declared, and what follows from both."""

from __future__ import annotations

from dataclasses import dataclass, replace

from memberscope.audit import artifacts, kept_statement
from memberscope.audit.declared import Declared
from memberscope.audit.statement import CombinedRate, RiskStatement
from memberscope.audit.statement_text import NOT_DECLARED, declared_sentences
from memberscope.metrics import Estimate
from memberscope.metrics.rounding import shown
from memberscope.report.parts import DASH, PageTable, TableCell
from memberscope.tracking import KeptRun

MOST_ATTACKS = 6  # the primary one and the first of the others


@dataclass(frozen=True, kw_only=True)
class Risk:
    """A risk statement.

    Attributes:
        primary: the primary attack.
        grouped: whether groups of records were counted as persons.
        measured: a row per attack and rate.
        left_out: the number of attacks that are not in `measured`.
        declared: what the user declared, in sentences; empty if nothing was.
        not_declared: what to declare, for where nothing was.
        combined: a row per rate; None where nothing follows.
    """

    primary: str
    grouped: bool
    measured: PageTable
    left_out: int
    declared: tuple[str, ...]
    combined: PageTable | None
    not_declared: str = NOT_DECLARED


def kept(run: KeptRun) -> RiskStatement | None:
    """The statement that a run has stored; None for runs of versions that stored none, and where no attack ran."""
    text = run.texts.get(artifacts.RISK_STATEMENT, "")
    found = kept_statement.read(text) if text else None
    return found if found is not None and found.measured else None


def under(run: KeptRun, declared: Declared) -> KeptRun:
    """The run with its risk statement under other declarations; those that are not given stay as they were.

    Raises:
        UserError: fewer subjects are declared than members were audited.
    """
    statement = kept(run)
    if statement is None or declared == Declared():
        return run
    own = statement.declared
    both = Declared(
        prior=own.prior if declared.prior is None else declared.prior,
        subjects=own.subjects if declared.subjects is None else declared.subjects,
        sensitivity=declared.sensitivity or own.sensitivity,
    )
    return replace(run, texts={**run.texts, artifacts.RISK_STATEMENT: statement.with_declared(both).to_json()})


def risk(run: KeptRun) -> Risk | None:
    """The section of a run."""
    statement = kept(run)
    if statement is None:
        return None
    first = statement.measured[0]
    rows: list[list[str | TableCell]] = []
    for one in statement.measured[:MOST_ATTACKS]:
        for k, rate in enumerate(one.rates):
            name = f"{one.attack} (primary)" if one.primary else one.attack
            accused = [
                DASH if number is None else TableCell(text=f"{number:,}", beneath=f"of {of:,}")
                for number, of in ((rate.members_accused, one.n_member), (rate.nonmembers_accused, one.n_nonmember))
            ]
            rows.append([name if k == 0 else "", f"{rate.fpr:g}", _cell(rate.tpr), _cell(rate.lift), *accused])
    heads = ["attack", "FPR", "TPR", "lift", "members accused", "non-members accused"]
    return Risk(
        primary=first.attack, grouped=statement.counted == "groups", measured=PageTable.of(heads, rows, words=1),
        left_out=max(0, len(statement.measured) - MOST_ATTACKS), declared=tuple(declared_sentences(statement.declared)),
        combined=_combined(statement.combined) if statement.combined else None,
    )  # fmt: skip


def _combined(rates: tuple[CombinedRate, ...]) -> PageTable:
    heads = {"precision": "accusations that are right", "found": "people found", "wrongly_accused": "others wrongly accused"}
    there = [name for name in heads if getattr(rates[0], name) is not None]
    rows = [[f"{rate.fpr:g}", *(_cell(getattr(rate, name)) for name in there)] for rate in rates]
    return PageTable.of(["FPR", *(heads[name] for name in there)], rows, words=0, narrow=True)


def _cell(one: Estimate | None) -> str | TableCell:
    if one is None or one.status == "skipped":
        return DASH if one is None else TableCell(text=DASH, why=one.reason)
    value, low, high = shown(one)
    beneath = "" if low is None else "or more" if high is None else f"{low} to {high}"
    return TableCell(
        text=value, beneath=beneath, mark="*" if one.status == "low_power" else "",
        why=one.reason,
    )  # fmt: skip
