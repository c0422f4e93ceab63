"""What a report shows when it is printed: the finding, the table of attacks, and what was skipped and why."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from memberscope.audit.headline import Headline
from memberscope.audit.results import SliceResult
from memberscope.metrics import registry

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Outline:
    """The outline of a report.

    Attributes:
        headline: the primary attack and its metrics; None if no attack ran.
        results: the results of all attacks on all slices.
    """

    headline: Headline | None
    results: tuple[SliceResult, ...]

    @classmethod
    def of(cls, headline: Headline | None, results: Sequence[SliceResult]) -> Outline:
        """The outline of these results."""
        return cls(headline=headline, results=tuple(results))

    @property
    def finding(self) -> str:
        """What the primary attack found, in words, with its interval and how it was chosen."""
        found = self.headline
        if found is None:
            return "no attack could run."
        words = {
            "leaks": "tells members from non-members better than chance",
            "odd": "ranks non-members above members: check the split before trusting any metric",
            "quiet": "cannot be told from chance with this many records",
            "none": "has no interval to judge it by",
        }[found.verdict]
        auc = found.auc
        span = "" if auc.ci_low is None or auc.ci_high is None else f", 95% interval {auc.ci_low:.3f} to {auc.ci_high:.3f}"
        return f"{found.attack} {words} (AUC {auc.value:.3f}{span}; {found.how})."

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per attack on the entire data set, with the metrics that are compared across runs."""
        import pandas as pd

        rows = []
        for result in self.results:
            if result.slice != "entire" or result.status != "ok":
                continue
            row: dict[str, Any] = {"attack": result.attack}
            for name in registry.summary():
                figure = result.figures.get(name)
                if figure is None:
                    continue
                row[name] = None if figure.status == "skipped" else round(figure.value, 4)
                if figure.ci_low is not None:
                    row[f"{name}_ci"] = f"{figure.ci_low:.4f} to {figure.ci_high:.4f}"
            rows.append(row)
        return pd.DataFrame(rows)

    @property
    def skipped(self) -> dict[str, list[str]]:
        """Each reason for which attacks were skipped on all records, and their names."""
        found: dict[str, list[str]] = {}
        for result in self.results:
            if result.slice == "entire" and result.status != "ok":
                found.setdefault(result.reason, []).append(result.attack)
        return found

    @property
    def skipped_line(self) -> str:
        """The skipped attacks and the reasons, in one line; empty if none was skipped."""
        parts = [f"{', '.join(attacks)} ({reason})" for reason, attacks in self.skipped.items()]
        return f"Skipped: {'; '.join(parts)}." if parts else ""

    def short_table(self) -> pd.DataFrame:
        """The table as it is printed: AUC with its interval, advantage, and TPR at each false positive rate; the primary attack first."""
        import pandas as pd

        first = self.headline.attack if self.headline else ""
        shown = [result for result in self.results if result.slice == "entire" and result.status == "ok"]
        rows = []
        for result in sorted(shown, key=lambda one: one.attack != first):
            auc = result.figures["auc"]
            row = {"attack": result.attack, "AUC": f"{auc.value:.3f}", "95%": ""}
            if auc.ci_low is not None and auc.ci_high is not None:
                row["95%"] = f"{auc.ci_low:.3f} to {auc.ci_high:.3f}"
            for spec in registry.headline():
                one = result.figures.get(spec.name)
                if spec.name != "auc" and one is not None:
                    row[spec.column_heading] = (
                        "" if one.status == "skipped" else f"{one.value:.3f}{'*' * (one.status == 'low_power')}"
                    )
            rows.append(row)
        return pd.DataFrame(rows)

    def text(self) -> str:
        """The outline for a terminal."""
        table = self.short_table()
        lines = [
            self.finding.capitalize() if self.headline is None else self.finding,
            table.to_string(index=False) if len(table) else "",
        ]
        return "\n\n".join(part for part in [*lines, self._remark(table), self.skipped_line] if part)

    def html(self) -> str:
        """The outline for a notebook; what people named is escaped."""
        table = self.short_table()
        parts = [f"<p><b>{html.escape(self.finding)}</b></p>", table.to_html(index=False, border=0) if len(table) else ""]
        parts += [f"<p>{html.escape(line)}</p>" for line in (self._remark(table), self.skipped_line) if line]
        return "".join(parts)

    def _remark(self, table: pd.DataFrame) -> str:
        weak = any("*" in str(cell) for cell in table.to_numpy().ravel())
        return "* rests on fewer than ten false positives" if weak else ""
