"""What every study that ends in an audit needs: progress by attack, the headline table, the finding in words."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memberscope import kept_scores
from memberscope.audit import AuditReport
from memberscope.interrupt import StopFlag
from memberscope.progress import Progress
from memberscope.tracking import Tracker

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def attack_progress(names: Sequence[str], label: str, stop: StopFlag) -> Iterator[Callable[[str], None]]:
    """A progress bar over attacks: what it yields is called with each attack's name before it runs, and raises if asked to stop."""
    with Progress(len(names), f"{label} attacks", unit="attack") as progress:
        begun = 0

        def on_attack(name: str) -> None:
            nonlocal begun
            stop.check()
            progress.advance(min(begun, 1), note=name)
            begun += 1

        yield on_attack
        progress.advance(1)


def keep_scores(report: AuditReport, tracker: Tracker, *, source: str) -> None:
    """Keep every attack's scores as ranks beside the run, so that it can be compared with others record by record later."""
    if report.whole_scores:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / kept_scores.FILE
            kept_scores.KeptScores.of(report.target, report.whole_scores, source=source).save(path)
            tracker.file(path, kept_scores.FILE)


def headline_table(report: AuditReport) -> pd.DataFrame:
    """A row an attack on the entire data set: the figures that are compared across runs."""
    import pandas as pd

    rows = []
    for cell in report.whole():
        row: dict[str, Any] = {"attack": cell.attack}
        for name in ("auc", "advantage", "balanced_accuracy", "tpr_at_fpr_0_1", "tpr_at_fpr_0_01", "tpr_at_fpr_0_001", "ppv"):
            figure = cell.figures[name]
            row[name] = None if figure.status == "skipped" else round(figure.value, 4)
            if figure.ci_low is not None:
                row[f"{name}_ci"] = f"{figure.ci_low:.4f} to {figure.ci_high:.4f}"
        rows.append(row)
    return pd.DataFrame(rows)


def finding(report: AuditReport) -> str:
    """What the first attack of a report found on all records, in words, with its interval."""
    if not report.whole():
        return "no attack could run."
    cell = report.whole()[0]
    figure = cell.figures["auc"]
    low, high = figure.ci_low, figure.ci_high
    if low is not None and high is not None and low > 0.5:
        found = "tells members from non-members better than chance"
    elif high is not None and high < 0.5:
        found = "ranks non-members above members: look at the split before trusting any figure"
    else:
        found = "cannot be told from chance with this many records"
    return f"{cell.attack} {found} (AUC {figure.value:.3f}, 95% interval {low:.3f} to {high:.3f})."


def markdown(frame: pd.DataFrame) -> str:
    """A frame as a markdown table; missing values are empty."""

    def cell(value: Any) -> str:
        return "" if value is None or value != value else str(value)

    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.astype(object).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cell(value) for value in row) + " |" for row in rows)
