"""Compares settings and runs with the first: over seeds where there are several, record by record where the records are the same."""

from __future__ import annotations

from collections.abc import Sequence

from memberscope.metrics import registry
from memberscope.metrics.paired import NOTE
from memberscope.report import facts
from memberscope.report.compare import Pair, Row, compare_runs
from memberscope.report.html import Content, Markup, folded, joined, paragraph, section, spans, table, tag
from memberscope.report.sections import minus, number
from memberscope.report.settings import Setting, compare_settings
from memberscope.tracking import KeptRun

MOST_OPEN = 2  # for at most so many pairs, all attacks are shown without a click


def section_of(settings: Sequence[Setting], *, seed: int) -> Markup:
    """Every setting against the first; `seed` is that of the paired bootstraps."""
    first, others = settings[0], settings[1:]
    inside = (
        _over_seeds(first, others) if first.several else _pairs([first.runs[0], *(run for o in others for run in o.runs)], seed)
    )
    return section("Against the first", *inside, anchor="compared")


def _over_seeds(first: Setting, others: Sequence[Setting]) -> list[Content]:
    found = compare_settings(first, others)
    compared = [one.second.name for one in found]
    parts: list[Content] = [
        paragraph(
            f"Every setting against `{first.name}`: the AUC of one attack on all records, its mean minus the reference's, paired by seed. "
            "The seed is the unit of the 95% t interval; p-values are adjusted over this table (Holm), and a verdict needs five seeds."
        )
    ]
    rows: list[list[Content]] = []
    for one in found:
        difference = one.verdict.difference
        rows.append(
            [
                one.second.name, one.attack, one.verdict.verdict, str(difference.n_seeds), minus(f"{difference.mean:+.3f}"),
                _span(difference.ci_low, difference.ci_high), _p(one.verdict.p_adjusted),
            ]
        )  # fmt: skip
    if rows:
        parts.append(table(["setting", "attack", "verdict", "seeds", "difference", "95% interval", "p (Holm)"], rows, words=3))
    left = [f"`{other.name}`" for other in others if other.name not in compared]
    if left:
        parts.append(paragraph(f"Not compared with `{first.name}`, since fewer than two seeds are shared: {', '.join(left)}."))
    return parts


def _pairs(runs: Sequence[KeptRun], seed: int) -> list[Content]:
    compared = compare_runs(runs, seed=seed)
    parts: list[Content] = [
        paragraph(
            f"Every run against `{runs[0].name}`: its figure minus the reference's, by the reference's primary attack where both ran it, "
            f"on all records. A paired test compares record by record and detects smaller differences than two separate intervals; "
            f"p-values are adjusted over all attacks of all pairs (Holm). It {NOTE}."
        ),
        table(
            ["run", "attack", "reference", "this run", "difference", "95% interval", "p (Holm)"], map(_line, compared), words=2,
        ),
    ]  # fmt: skip
    unpaired: dict[str, list[str]] = {}
    for pair in compared:
        if not pair.paired:
            unpaired.setdefault(pair.why, []).append(f"`{pair.second.name}`")
    if unpaired:
        why = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in unpaired.items())
        text = (
            f"Not paired: {why}. A paired test needs records that both runs share. Without them, the two AUCs can still be compared, with "
            "an interval of their difference as if the two sets of records were independent (MOVER)."
        )
        parts.append(tag("p", spans(text), class_="note"))
    paired = [pair for pair in compared if pair.paired and pair.rows]
    for place, pair in enumerate(paired, 1):
        title = f"{pair.second.name} minus {pair.first.name}: every attack, on {pair.why}"
        parts.append(folded(title, _rows(pair), anchor=f"pair{place}", opened=len(paired) <= MOST_OPEN))
    return parts


def _line(pair: Pair) -> list[Content]:
    """A pair in one line: the AUC of the reference's primary attack."""
    found = facts.headline(pair.first)
    rows = [row for row in pair.rows if row.metric == "auc"]
    row = next((row for row in rows if found is not None and row.attack == found.attack), rows[0] if rows else None)
    if row is None:
        return [pair.second.name, "no attack ran in both", "–", "–", "–", "–", "–"]
    return [pair.second.name, row.attack, *_figures(row), _p(row.p_holm) if pair.paired else "not paired"]


def _rows(pair: Pair) -> Markup:
    head = ["attack", "figure", "reference", "this run", "difference", "95% interval", "p (Holm)"]
    rows: list[list[Content]] = [
        [row.attack, registry.get(row.metric).heading, *_figures(row), _p(row.p_holm)] for row in pair.rows
    ]
    return table(head, rows, words=2)


def _figures(row: Row) -> list[Content]:
    weak = tag("span", " *", class_="low", title=row.note) if row.note else ""
    return [
        number(row.first), joined([number(row.second), weak]), minus(f"{row.difference:+.3f}"), _span(row.ci_low, row.ci_high),
    ]  # fmt: skip


def _span(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else minus(f"{low:+.3f} to {high:+.3f}")


def _p(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
