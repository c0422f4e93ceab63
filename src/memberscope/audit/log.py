"""What every study that ends in an audit needs: progress by attack, the headline table, the finding in words."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memberscope import scores as kept_scores
from memberscope.audit import controls, headline
from memberscope.audit.run import AuditReport
from memberscope.interrupt import StopFlag
from memberscope.metrics import registry
from memberscope.progress import Progress
from memberscope.tracking import Tracker, as_json

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Checks:
    """The controls of an audit, and what a reader must know beside its figures.

    Attributes:
        texts: name -> sentence: what a reader must know first, then what each control says.
        blind: the blind control, if it was made.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    blind: controls.BlindControl | None = None

    def with_notes(self, notes: Mapping[str, str]) -> Checks:
        """The same with further sentences before the others."""
        return Checks(texts={**notes, **self.texts}, blind=self.blind)

    def to_json(self) -> str:
        """As `controls.FILE` keeps them: name -> its ``text``, and for the blind control also the values that decisions read."""
        kept: dict[str, dict[str, Any]] = {name: {"text": text} for name, text in self.texts.items()}
        if self.blind is not None:
            auc = self.blind.auc
            figures = {} if auc.status == "skipped" else {"auc": auc.value, "ci_low": auc.ci_low, "ci_high": auc.ci_high}
            kept.setdefault("blind", {})
            kept["blind"] |= {"status": auc.status, "on": self.blind.on, "differs": self.blind.differs, **figures}
        return as_json(kept)


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
    """A row per attack on the entire data set: the figures that are compared across runs."""
    import pandas as pd

    rows = []
    for cell in report.whole():
        row: dict[str, Any] = {"attack": cell.attack}
        for name in registry.summary():
            figure = cell.figures.get(name)
            if figure is None:
                continue
            row[name] = None if figure.status == "skipped" else round(figure.value, 4)
            if figure.ci_low is not None:
                row[f"{name}_ci"] = f"{figure.ci_low:.4f} to {figure.ci_high:.4f}"
        rows.append(row)
    return pd.DataFrame(rows)


def log_headline(report: AuditReport, tracker: Tracker, *, step: int = 0) -> None:
    """Keep the headline with the run: as ``headline.json``, as metrics that end in ``/headline``, and its attack as a tag."""
    found = report.headline
    if found is None:
        return
    values: dict[str, float] = {}
    for name in (spec.name for spec in registry.headline()):
        figure = found.figures.get(name)
        ends = (
            {}
            if figure is None or figure.status == "skipped"
            else {"": figure.value, "_ci_low": figure.ci_low, "_ci_high": figure.ci_high}
        )
        values |= {f"{name}{end}/headline": value for end, value in ends.items() if value is not None}
    tracker.metrics(values, step=step)
    tracker.tags({"memberscope.audit.headline": found.attack, "memberscope.headline_chosen": found.chosen})
    tracker.text(found.to_json(), headline.FILE)


def finding(report: AuditReport) -> str:
    """What the primary attack of a report found, in words, with its interval and how it was chosen."""
    found = report.headline
    if found is None:
        return "no attack could run."
    told = {
        "leaks": "tells members from non-members better than chance",
        "odd": "ranks non-members above members: look at the split before trusting any figure",
        "quiet": "cannot be told from chance with this many records",
        "none": "has no interval to be judged by",
    }[found.verdict]
    auc = found.auc
    span = "" if auc.ci_low is None or auc.ci_high is None else f", 95% interval {auc.ci_low:.3f} to {auc.ci_high:.3f}"
    return f"{found.attack} {told} (AUC {auc.value:.3f}{span}; {found.how})."


def markdown(frame: pd.DataFrame) -> str:
    """A frame as a markdown table; missing values are empty."""

    def cell(value: Any) -> str:
        return "" if value is None or value != value else str(value)

    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.astype(object).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cell(value) for value in row) + " |" for row in rows)
