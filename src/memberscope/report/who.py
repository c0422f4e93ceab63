"""The section "who is exposed": first how many members are found, then what a fleet knows of single records."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memberscope.audit import artifacts
from memberscope.audit.kept_tables import MEASURES
from memberscope.metrics import rate_name, registry
from memberscope.report import facts
from memberscope.report.parts import DASH, PageTable, TableCell, number
from memberscope.tracking import KeptRun

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 25


@dataclass(frozen=True, kw_only=True)
class Who:
    """Who is exposed.

    Attributes:
        lines: what was counted, in sentences, the most telling first.
        found: a row per false positive rate: members found, expected by chance.
        attack: the attack that found them.
        what: what is counted, ``members`` or ``groups``.
        fleet: a row per attack: how many members of a target it finds, over the targets of a fleet; None without a fleet.
        records: the records that a fleet shows to be most exposed; None without a fleet, or where the run is private.
        of: the number of records that were measured with the fleet.
    """

    lines: tuple[str, ...]
    found: PageTable
    attack: str
    what: str
    fleet: PageTable | None
    records: PageTable | None
    of: int


def who(run: KeptRun) -> Who | None:
    """The section of a run; None if no attack ran, or none has a TPR."""
    first = facts.headline(run)
    if first is None:
        return None
    members, _ = facts.sizes(run)
    what = "groups" if facts.grouped(run) else "members"
    rows: list[list[str | TableCell]] = []
    lines: list[str] = []
    for rate in sorted(registry.RATES):
        one = facts.figure(run, first.attack, f"tpr_at_fpr_{rate_name(rate)}")
        if one.value is None:
            continue
        counted = number(one.value * members, 0)
        chance = number(members * rate, 0 if members * rate >= 10 else 1)
        ends = ""
        if one.ci_low is not None and one.ci_high is not None:
            ends = f"{number(one.ci_low * members, 0)} to {number(one.ci_high * members, 0)}"
        mark = "*" if one.status == "low_power" else ""
        accused = facts.RATES[f"tpr_at_fpr_{rate_name(rate)}"]
        rows.append([f"{accused} non-members accused", TableCell(text=counted, beneath=ends, mark=mark, why=one.reason),
                     chance])  # fmt: skip
        if not lines:
            span = f" (95% {ends})" if ends else ""
            lines.append(
                f"{counted} of {members:,} {what} are found by {first.attack} when {accused} others may be wrongly accused{span}; "
                f"expected by chance: {chance}."
            )
            if mark:
                lines.append(f"There are too few others to say much about so low a false positive rate: {one.reason}.")
    if not rows:
        return None
    summary, table = run.tables.get(artifacts.EXPOSURE_SUMMARY), run.tables.get(artifacts.EXPOSURE)
    shown = run.metrics.get("exposure/shown", ())
    measured = run.metrics.get("exposure/records", ())
    of = int(measured[-1][1]) if measured else 0
    if shown and of:
        lines.append(
            f"The models of the fleet show {int(shown[-1][1]):,} of {of:,} records to be exposed by their own membership, with a chance of "
            "at most 5% that any of these claims is false."
        )
    return Who(
        lines=tuple(lines), found=PageTable.of(["wrongly accused", f"{what} found", "by chance"], rows, narrow=True), attack=first.attack,
        what=what, fleet=None if summary is None else _fleet(summary), records=None if table is None else _records(table), of=of,
    )  # fmt: skip


def _fleet(summary: pd.DataFrame) -> PageTable | None:
    """Members of a target that each attack finds at thresholds for all records, mean over targets."""
    pooled = summary[summary["at"] == "pooled"]
    rates = sorted(set(pooled["fpr"].tolist()), reverse=True)
    if not rates:
        return None
    rows: list[list[str | TableCell]] = []
    for attack in dict.fromkeys(pooled["attack"].astype(str)):
        of_attack = pooled[pooled["attack"] == attack].set_index("fpr")
        rows.append([attack, *(_plain(of_attack["found"].get(rate), 1) for rate in rates)])
    expected = pooled.drop_duplicates("fpr").set_index("fpr")["expected"]
    rows.append(["by chance", *(_plain(expected.get(rate), 1) for rate in rates)])
    return PageTable.of(["attack", *(f"at FPR {rate:g}" for rate in rates)], rows, narrow=True)


def _records(table: pd.DataFrame) -> PageTable | None:
    """The first records of the table of exposure, which is in the order of exposure."""
    kept = [name for name in MEASURES if name in table]
    named = next((name for name in ("record", "position") if name in table), None)
    if named is None or not kept:
        return None
    rows: list[list[str | TableCell]] = []
    for row in table.head(SHOWN).to_dict("records"):
        cells: list[str | TableCell] = []
        for name in kept:
            low, high = (_number(row.get(f"{name}_{end}")) for end in ("low", "high"))
            beneath = f"{number(low, 2)} to {number(high, 2)}" if low is not None and high is not None else ""
            cells.append(TableCell(text=number(_number(row[name]), 2), beneath=beneath))
        rows.append([str(row.get("rank", "")), str(row[named]), *cells])
    return PageTable.of(["rank", named, *(name.replace("_", " ") for name in kept)], rows, words=2, narrow=True)


def _plain(value: Any, digits: int) -> str:
    return DASH if (found := _number(value)) is None else number(found, digits)


def _number(value: Any) -> float | None:
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else float(value)
