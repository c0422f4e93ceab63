"""Compares settings and runs with the first, as plain values: over seeds where there are several, and record by record where the records
are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memberscope.metrics import registry
from memberscope.metrics.paired import NOTE
from memberscope.report import facts
from memberscope.report.compare import ComparedRow, Pair
from memberscope.report.parts import DASH, PageTable, TableCell, minus, number
from memberscope.report.settings import Setting, compare_settings

MOST_OPEN = 2  # up to this number of pairs, all attacks are shown without a click


@dataclass(frozen=True, kw_only=True)
class ComparedOverSeeds:
    """Settings compared with the first over seeds: a row per setting that can be compared, and the names of those that cannot."""

    reference: str
    table: PageTable | None
    left: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class AllAttacks:
    """Every attack of two runs on the same records; `why` describes these records."""

    first: str
    second: str
    why: str
    table: PageTable


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Runs compared with the first.

    Attributes:
        reference: the first run's name.
        table: a row per run.
        unpaired: reason -> names of the runs that cannot be compared record by record for that reason.
        paired: every attack of the pairs of runs that can.
        opened: whether these are shown without a click.
        note: what a paired test shows, and what it does not.
    """

    reference: str
    table: PageTable
    unpaired: tuple[tuple[str, tuple[str, ...]], ...]
    paired: tuple[AllAttacks, ...]
    opened: bool
    note: str = NOTE


def over_seeds(first: Setting, others: Sequence[Setting]) -> ComparedOverSeeds:
    """Compare every setting with the first, paired by seed."""
    found = compare_settings(first, others)
    compared = [one.second.name for one in found]
    rows: list[list[str | TableCell]] = []
    for one in found:
        difference = one.verdict.difference
        rows.append(
            [
                one.second.name, one.attack, one.verdict.verdict, str(difference.n_seeds), minus(f"{difference.mean:+.3f}"),
                _span(difference.ci_low, difference.ci_high), _p(one.verdict.p_adjusted),
            ]
        )  # fmt: skip
    head = ["setting", "attack", "verdict", "seeds", "difference", "95% interval", "p (Holm)"]
    return ComparedOverSeeds(
        reference=first.name,
        table=PageTable.of(head, rows, words=3) if rows else None,
        left=tuple(other.name for other in others if other.name not in compared),
    )


def pairs(compared: Sequence[Pair]) -> Pairs:
    """Every run compared with the first, of which there is at least one."""
    unpaired: dict[str, list[str]] = {}
    for pair in compared:
        if not pair.paired:
            unpaired.setdefault(pair.why, []).append(pair.second.name)
    paired = [pair for pair in compared if pair.paired and pair.rows]
    head = ["run", "attack", "reference", "this run", "difference", "95% interval", "p (Holm)"]
    return Pairs(
        reference=compared[0].first.name,
        table=PageTable.of(head, [_line(pair) for pair in compared], words=2),
        unpaired=tuple((why, tuple(names)) for why, names in unpaired.items()),
        paired=tuple(
            AllAttacks(first=pair.first.name, second=pair.second.name, why=pair.why, table=_every_attack(pair))
            for pair in paired
        ),
        opened=len(paired) <= MOST_OPEN,
    )


def _line(pair: Pair) -> list[str | TableCell]:
    """One row for a pair: the AUC of the reference's primary attack."""
    found = facts.headline(pair.first)
    rows = [row for row in pair.rows if row.metric == "auc"]
    row = next((row for row in rows if found is not None and row.attack == found.attack), rows[0] if rows else None)
    if row is None:
        return [pair.second.name, "no attack ran in both", *[DASH] * 5]
    return [pair.second.name, row.attack, *_figures(row), _p(row.p_holm) if pair.paired else "not paired"]


def _every_attack(pair: Pair) -> PageTable:
    head = ["attack", "metric", "reference", "this run", "difference", "95% interval", "p (Holm)"]
    rows: list[list[str | TableCell]] = [
        [row.attack, registry.get(row.metric).heading, *_figures(row), _p(row.p_holm)] for row in pair.rows
    ]
    return PageTable.of(head, rows, words=2)


def _figures(row: ComparedRow) -> list[str | TableCell]:
    second = TableCell(text=number(row.second), mark="*" if row.weak else "", why=row.note)
    return [number(row.first), second, minus(f"{row.difference:+.3f}"), _span(row.ci_low, row.ci_high)]


def _span(low: float | None, high: float | None) -> str:
    return DASH if low is None or high is None else minus(f"{low:+.3f} to {high:+.3f}")


def _p(value: float | None) -> str:
    return DASH if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
