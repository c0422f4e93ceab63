"""The section of the page about bounds of epsilon and the promised epsilon, as plain values for ``templates/run.html.j2``."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope.audit import artifacts
from memberscope.report.parts import PageTable, TableCell, number
from memberscope.tracking import KeptRun

MOST_ROWS = 24
VERDICT = "memberscope.promise"  # the tag


@dataclass(frozen=True, kw_only=True)
class BoundsSection:
    """Lower bounds on epsilon.

    Attributes:
        table: a row per bound, the primary ones marked.
        verdict: on the promise, judged by all primary rows together; empty if no epsilon was promised.
        promise: the promised epsilon, as text; empty if there is none.
        delta: of all bounds, as text.
        shown, of: rows of the table, and of the run's.
    """

    table: PageTable
    verdict: str
    promise: str
    delta: str
    shown: int
    of: int


def bounds_section(run: KeptRun) -> BoundsSection | None:
    """The bounds of a run: all rows of the attacks that are judged, or the primary rows alone if these are many."""
    frame = run.tables.get(artifacts.BOUNDS)
    if frame is None or not len(frame):
        return None
    primary = frame["primary"] == "True"
    shown = frame[frame["attack"].isin(frame.loc[primary, "attack"])]
    if len(shown) > MOST_ROWS:
        shown = frame[primary].head(MOST_ROWS)
    rows = []
    for row in shown.to_dict("records"):
        mark = {"mark": "*", "why": "primary"} if row["primary"] == "True" else {}
        who = f"{row['records']}, {row['n']:,.0f} coins"
        bound = TableCell(text=number(_known(row["bound"]), 2), beneath=f"of at most {number(_known(row['ceiling']), 2)}")
        rows.append(
            [
                TableCell(text=row["attack"], beneath=who), TableCell(text=row["method"], beneath=f"assumes {row['assumes']}", **mark),
                row["threshold"], bound, number(_known(row["promise"]), 2), number(_known(row["ratio"]), 2), row["verdict"],
            ]
        )  # fmt: skip
    promise = next((value for value in map(_known, frame["promise"]) if value is not None), None)
    return BoundsSection(
        table=PageTable.of(["attack", "method", "threshold", "ε at least", "promised ε", "ratio", "by itself"], rows, words=3),
        verdict=run.tags.get(VERDICT, "") if promise is not None else "",
        promise="" if promise is None else number(promise, 2),
        delta=f"{frame['delta'].iloc[0]:.2g}",
        shown=len(shown),
        of=len(frame),
    )


def _known(value: float) -> float | None:
    return None if value is None or value != value else float(value)
