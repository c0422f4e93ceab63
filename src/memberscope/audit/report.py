"""The report of an audit: one result per attack and slice, and the table, curves and comparisons derived from the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memberscope import metrics, plots, seeds
from memberscope.audit import artifacts
from memberscope.audit.declared import Declared
from memberscope.audit.distinct import Distinct
from memberscope.audit.folder import write_folder
from memberscope.audit.groups import Groups
from memberscope.audit.headline import AUTO, Headline, find_headline, split_in_half
from memberscope.audit.near import NearCopies, near_copies
from memberscope.audit.outline import Outline
from memberscope.audit.results import LEAST_STEP, Counted, SliceResult
from memberscope.audit.statement import RiskStatement, make_statement
from memberscope.audit.statement_text import statement_text
from memberscope.errors import UserError
from memberscope.installed import is_installed, require
from memberscope.metrics import Comparison, Roc
from memberscope.metrics.rounding import in_full, logged
from memberscope.predictions import Predictions

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes

    from memberscope.tfprivacy import Metadata

__all__ = ["COLUMNS", "AuditReport", "Counted", "SliceResult"]

COLUMNS = (
    "attack", "family", "slice", "metric", "value", "ci_low", "ci_high", "n_member", "n_nonmember", "status", "reason",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class AuditReport:
    """The report of an audit.

    Attributes:
        results: one result per attack and slice, in the requested order.
        engine, seed: the engine and the seed of the audit.
        target: the predictions that were audited, each record once where ids or inputs revealed copies.
        metadata: the model's true accuracies and losses, where they were given; they go with `to_tfp`.
        whole_scores: attack -> (n,) scores of the records of `target`, in input order; without those that were skipped.
        primary: the primary attack as it was requested: a name, or ``auto`` for the strongest; see `headline`.
        declared: what only the user can declare: the attacker's prior, the people in the training set, what membership reveals.
        distinct: which of the given records these are, and which copies were found; None for a report that was constructed directly.
        groups: the groups of the records; None where records were counted.
    """

    results: tuple[SliceResult, ...]
    engine: str
    seed: int
    target: Predictions
    whole_scores: Mapping[str, NDArray[np.float64]]
    metadata: Metadata | None = None
    primary: str = AUTO
    declared: Declared = field(default_factory=Declared)
    distinct: Distinct | None = None
    groups: Groups | None = None

    @property
    def attacks(self) -> tuple[str, ...]:
        """The attacks, in order, skipped ones included."""
        return tuple(dict.fromkeys(result.attack for result in self.results))

    def whole(self) -> list[SliceResult]:
        """The results of the entire data set that ran."""
        return [result for result in self.results if result.slice == "entire" and result.status == "ok"]

    @cached_property
    def headline(self) -> Headline | None:
        """The primary attack and its metrics: the one named beforehand, else the strongest one on one half of the records, reported on the
        other half; None if no attack ran. Computed on first access.
        """
        ran = {result.attack: result for result in self.whole() if result.attack in self.whole_scores}
        counted = self.counted
        return find_headline(
            {name: self.counted_scores[name] for name in ran}, counted.member, seed=self.seed, primary=self.primary,
            families={name: result.family for name, result in ran.items()}, whole={name: result.figures for name, result in ran.items()},
            thresholds={name: result.threshold for name, result in ran.items()}, units=counted.ids, labels=counted.labels,
            declared=self.declared,
        )  # fmt: skip

    @property
    def reported(self) -> NDArray[np.bool_]:
        """(n,) of `counted`: those behind the headline's metrics, that is the half that played no part in its choice, or all."""
        counted, found = self.counted, self.headline
        if found is None or not found.halved:
            return np.ones(len(counted.member), dtype=np.bool_)
        return ~split_in_half(
            {name: self.counted_scores[name] for name in found.candidates}, counted.member, units=counted.ids, labels=counted.labels,
            rng=seeds.stream(self.seed, "headline", "halves"),
        )  # fmt: skip

    @property
    def counted(self) -> Counted:
        """What metrics count: the groups, or the records where there are none."""
        if self.groups is not None:
            return Counted(member=self.groups.member, labels=self.groups.labels, ids=self.groups.names)
        return Counted(member=self.target.member, labels=self.target.labels, ids=self.target.record_ids)

    @cached_property
    def counted_scores(self) -> Mapping[str, NDArray[np.float64]]:
        """Attack -> one score for each of `counted`. Computed on first access."""
        if self.groups is None:
            return self.whole_scores
        return {name: self.groups.pool(values) for name, values in self.whole_scores.items()}

    @cached_property
    def risk_statement(self) -> RiskStatement:
        """What was measured, what was declared, and what follows from both. Computed on first access."""
        return make_statement(
            self.headline, self.whole(), self.counted_scores, self.counted.member, reported=self.reported,
            grouped=self.groups is not None, declared=self.declared,
        )  # fmt: skip

    @property
    def outline(self) -> Outline:
        """The finding, the table of attacks, and what was skipped."""
        return Outline.of(self.headline, self.results)

    def __str__(self) -> str:
        """The finding, the table of attacks on all records, and one line on what was skipped and why."""
        return self.outline.text()

    def _repr_html_(self) -> str:
        """The same for notebooks."""
        return self.outline.html()

    def plot_roc(self, ax: Axes | None = None, *, attacks: Sequence[str] | None = None, log: bool = True) -> Axes:
        """Draw the ROC curves of the attacks on all records, the primary one first.

        Args:
            ax: the axes to draw on; None for those of a new figure.
            attacks: the attacks to draw; None for all that ran.
            log: whether both axes are logarithmic, which shows the low false positive rates that matter to single people.

        Returns:
            The axes.

        Raises:
            UserError: matplotlib is not installed, no attack ran, or an attack did not run.
        """
        require("matplotlib", by="plot_roc")
        names = [result.attack for result in self.primary_first()]
        if unknown := [name for name in attacks or () if name not in names]:
            raise UserError(f"attacks={unknown[0]}: did not run; allowed: {', '.join(names) or 'none, since no attack ran'}")
        chosen = [name for name in names if attacks is None or name in attacks]
        if not chosen:
            raise UserError("plot_roc: no attack to draw; allowed: at least one that ran")
        where = plots.new_figure(1, 1, width=5.2, height=4.9)[1][0, 0] if ax is None else ax
        plots.draw_roc(where, plots.roc_points({name: self.roc(name) for name in chosen}), labels=self._labels(chosen), log=log)
        where.legend(loc="upper left", fontsize=8, frameon=False)
        return where

    def primary_first(self) -> list[SliceResult]:
        """The results of the entire data set that ran, that of the primary attack first."""
        first = self.headline.attack if self.headline else ""
        return sorted(self.whole(), key=lambda result: result.attack != first)

    def _labels(self, attacks: Sequence[str]) -> dict[str, str]:
        return {name: f"{name} (AUC {self.result(name).figures['auc'].value:.3f})" for name in attacks}

    def save(self, folder: str | Path) -> Path:
        """Write what can be shown to others to a folder, which is created if it does not exist: the finding and the risk statement
        (``summary.md``, ``headline.json``, ``risk_statement.json``), the table of all metrics (``attacks.csv``), and the ROC curves
        (``roc.csv`` and, with matplotlib, ``roc.png``). Nothing in them is about single records; see docs/what_runs_reveal.md.

        Returns:
            The folder.

        Raises:
            UserError: the folder cannot be written.
        """
        content: dict[str, Any] = {
            artifacts.SUMMARY: f"**{self.outline.finding}**\n\n{statement_text(self.risk_statement)}",
            artifacts.RISK_STATEMENT: self.risk_statement.to_json(),
            artifacts.ATTACKS: self.to_frame().to_csv(index=False),
        }
        if self.headline is not None:
            content[artifacts.HEADLINE] = self.headline.to_json()
        if names := [result.attack for result in self.primary_first()]:
            points = plots.roc_points({name: self.roc(name) for name in names}, least=LEAST_STEP)
            content[artifacts.ROC] = points.drop(columns="threshold").to_csv(index=False)
            if is_installed("matplotlib"):
                title = "membership inference, all records"
                content[artifacts.ROC_FIGURE] = plots.roc_figure(points, title=title, labels=self._labels(names))
        return write_folder(folder, content)

    def result(self, attack: str, slice: str = "entire") -> SliceResult:
        """The result of an attack on a slice; KeyError if the report has none."""
        for result in self.results:
            if (result.attack, result.slice) == (attack, slice):
                return result
        raise KeyError(f"no attack {attack!r} on slice {slice!r} in this report")

    @property
    def cells(self) -> tuple[SliceResult, ...]:
        """Former name of `results`, kept for older code; a *cell* now means a cell of a sweep."""
        return self.results

    def cell(self, attack: str, slice: str = "entire") -> SliceResult:
        """Former name of `result`, kept for older code."""
        return self.result(attack, slice)

    def scores(self, attack: str) -> NDArray[np.float64]:
        """(n,) one score per record of `target`, higher = more likely a member; KeyError if the attack was skipped or is absent."""
        return self.whole_scores[attack]

    def roc(self, attack: str, slice: str = "entire") -> Roc:
        """The ROC curve of an attack on a slice."""
        return self.result(attack, slice).roc

    def to_frame(self) -> pd.DataFrame:
        """One row per metric, columns `COLUMNS`; a skipped attack or slice is one row with its reason."""
        import pandas as pd

        rows: list[tuple[Any, ...]] = []
        for result in self.results:
            sizes = (result.n_member, result.n_nonmember)
            head = (result.attack, result.family, result.slice)
            if result.status != "ok":
                rows.append((*head, "auc", None, None, None, *sizes, result.status, result.reason))
            for name, figure in result.figures.items():
                value = None if figure.status == "skipped" else figure.value
                rows.append((*head, name, value, figure.ci_low, figure.ci_high, *sizes, figure.status, figure.reason))
        frame = pd.DataFrame(rows, columns=list(COLUMNS))
        return frame.astype({"value": float, "ci_low": float, "ci_high": float})

    def headlines(self, names: Sequence[str] | None = None, *, rounded: bool = False) -> dict[str, float]:
        """The metrics of the entire data set, as they are tracked (``auc/trained_mlp``, ``auc_ci_low/trained_mlp``, ...), and the AUC
        of the worst slice (``worst_slice_auc/...``). Without `names`, those of all metrics that are `MetricSpec.tracked`.
        If `rounded`, they have the digits that their intervals support, as a run shows them (see `memberscope.metrics.rounding.logged`).
        """
        names = metrics.registry.tracked() if names is None else names
        found: dict[str, float] = {}
        for result in self.results:
            prefix = {"entire": "", "worst_slice": "worst_slice_"}.get(result.slice)
            if prefix is None:
                continue
            for name in names:
                figure = result.figures.get(name)
                if figure is None or figure.status == "skipped":
                    continue
                put = logged if rounded else in_full
                found |= put(f"{prefix}{name}", result.attack, figure.value, figure.ci_low, figure.ci_high)
        return found

    @cached_property
    def near(self) -> NearCopies | None:
        """Members with a near copy among the non-members; None if groups say whose each record is, or inputs cannot be compared.
        Computed on first access.
        """
        return near_copies(self.target) if self.groups is None else None

    @property
    def positions(self) -> NDArray[np.intp]:
        """(n,) positions of the records of `target` in the predictions that were given."""
        return np.arange(len(self.target), dtype=np.intp) if self.distinct is None else self.distinct.positions

    def compare(self, other: AuditReport, *, confidence: float = 0.95) -> dict[str, Comparison]:
        """For each attack that both reports have, the paired comparison of AUCs on the same records or groups, this report minus `other`.

        The interval holds for these two fixed models; it does not cover how the result would vary if either were trained again.

        Raises:
            UserError: the reports are not on the same records with the same members.
        """
        ours, theirs = self.counted, other.counted
        if ours.ids is None or theirs.ids is None:
            raise UserError("compare: record_ids are missing; allowed: two reports whose predictions have record_ids")
        place = {record: position for position, record in enumerate(theirs.ids.tolist())}
        missing = [record for record in ours.ids.tolist() if record not in place]
        if missing or len(place) != len(ours.ids):
            what = "records" if self.groups is None else "groups"
            raise UserError(
                f"compare: {len(missing)} of {len(ours.ids)} {what} are not in the other report; allowed: the same {what}"
            )
        order = np.array([place[record] for record in ours.ids.tolist()])
        if not np.array_equal(theirs.member[order], ours.member):
            raise UserError("compare: the reports disagree on who is a member; allowed: models trained on the same members")
        shared = [attack for attack in self.whole_scores if attack in other.whole_scores]
        return {
            attack: metrics.compare_auc(
                self.counted_scores[attack], other.counted_scores[attack][order], ours.member, confidence=confidence
            )
            for attack in shared
        }

    def to_tfp(self) -> Any:
        """The report as tensorflow_privacy's `AttackResults`, for its own plots and summaries; only attacks that it knows.

        Raises:
            UserError: tensorflow_privacy is not installed.
        """
        require("tensorflow", "tensorflow_privacy", by="to_tfp")
        from memberscope import tfprivacy

        return tfprivacy.attack_results(self.results, self.metadata)
