"""The result of a sweep over a grid, once its trials are finished: tables, figures, verdicts and the page of the parent run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memberscope.audit import artifacts
from memberscope.audit.wording import markdown
from memberscope.config.training import SweepStudyConfig
from memberscope.datasets import LabeledData
from memberscope.metrics import LEAST_SEEDS
from memberscope.metrics.rounding import logged
from memberscope.studies.result import StudyResult
from memberscope.sweeps import answer, figures, scaling
from memberscope.sweeps.answer import ADVANTAGE, Effect, Result
from memberscope.sweeps.cells import Grid, LevelComparison
from memberscope.sweeps.trials import ERROR, RESULT, RUN, TrialQueue, trial_key
from memberscope.tracking import Tracker

if TYPE_CHECKING:
    import pandas as pd

SHOWN = ["control", "figure", "against", "level", "mean_against", "mean_level", "difference", "ci_low", "ci_high", "verdict"]


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """The conclusion from an Optuna study.

    Attributes:
        config: the sweep's configuration.
        queue: the Optuna study's trials.
        name, storage: the name and the storage of the Optuna study, for people.
        data: the data set.
    """

    config: SweepStudyConfig
    queue: TrialQueue
    name: str
    storage: str
    data: LabeledData

    def of_grid(self, grid: Grid, seeds: Iterable[int], tracker: Tracker) -> StudyResult:
        """Log the result of a grid over some seeds, and return it for the terminal.

        Raises:
            RuntimeError: trials are missing; the others were logged.
        """
        wanted = set(seeds)
        results = [result for result in finished(self.queue) if result.cell in grid.cells and result.seed in wanted]
        missing = [
            f"{cell}-s{seed}"
            for cell in grid.cells
            for seed in sorted(wanted)
            if (cell, seed) not in {(result.cell, result.seed) for result in results}
        ]
        nonmembers = next(iter(grid.cells.values())).part.audited_nonmembers
        names = (ADVANTAGE, answer.low_name(nonmembers))
        found = answer.effects(grid, results, names, margin=self.config.margin)
        self._log_tables(grid, results, found, tracker)
        self._log_figures(grid, results, found, names, tracker)
        laws = self._log_scaling(grid, results, names[1], answer.low_rate(nonmembers), tracker)
        lines = [answer.sentence(effect) for effect in found if effect.headline] + laws
        if not found:
            lines.append("no comparison has finished trials of all levels for any seed yet")
        tracker.metrics(headline_metrics(found))
        tracker.tags(
            {
                f"memberscope.verdict.{effect.control}.{effect.figure}"[:250]: effect.verdict.verdict
                for effect in found
                if effect.headline and ordered(grid, effect)
            }
        )
        tracker.describe(self._page(grid, found, laws, len(results)))
        tracker.text("\n".join(lines) + "\n", artifacts.ANSWER)
        if missing:
            raise RuntimeError(
                f"{len(missing)} trials are missing ({', '.join(missing[:5])}): {self.reasons()}; the next start tries them again"
            )
        table = answer.effects_frame([effect for effect in found if effect.headline])
        text = table[SHOWN].round(3).to_string(index=False) if len(table) else "no effects"
        return StudyResult(table=f"{self.head(len(results))}\n{text}", answer="\n".join(lines))

    def head(self, trials: int) -> str:
        """One line that names the Optuna study, its number of trials and its storage."""
        seeds = f"{self.config.seeds} seed{'s' if self.config.seeds > 1 else ''}"
        return f"Optuna study {self.name}: {trials} trials, {seeds}, in {self.storage}"

    def reasons(self) -> str:
        """Why trials are missing: the error of the last one that failed."""
        failed = [trial.user_attrs[ERROR] for trial in self.queue.trials("FAIL") if ERROR in trial.user_attrs]
        return str(failed[-1]) if failed else "their workers died"

    def _log_tables(self, grid: Grid, results: Sequence[Result], found: Sequence[Effect], tracker: Tracker) -> None:
        rows = answer.results_frame(grid, results)
        tracker.table(rows, artifacts.RESULTS)
        tracker.table(compact(rows), artifacts.RESULTS_TABLE)
        frame = answer.effects_frame(found)
        tracker.table(frame, artifacts.VERDICTS)
        tracker.table(compact(frame), artifacts.VERDICTS_TABLE)

    def _log_figures(
        self, grid: Grid, results: Sequence[Result], found: Sequence[Effect], names: Sequence[str], tracker: Tracker
    ) -> None:
        import pandas as pd

        heads = [effect for effect in found if effect.headline]
        if heads:
            title = f"{grid.name} on {self.data.name}: effects"
            tracker.figure(figures.effects_figure(heads, margin=self.config.margin, title=title), artifacts.EFFECTS_FIGURE)
        for factor in dict.fromkeys(item.factor for item in grid.comparisons):
            mine = [item for item in grid.comparisons if item.factor == factor]
            points = {
                name: figures.level_points({item.control: answer.level_values(item, results, name) for item in mine})
                for name in (*names, "auc")
            }
            if not all(len(part) for part in points.values()):
                continue
            stacked = pd.concat([part.assign(figure=name) for name, part in points.items()], ignore_index=True)
            tracker.table(stacked, artifacts.inside(factor, artifacts.LEVELS))
            title = f"{factor} on {self.data.name}, {self.config.seeds} seeds"
            tracker.figure(
                figures.levels_figure(points, xlabel=factor, title=title), artifacts.inside(factor, artifacts.LEVELS_FIGURE)
            )
            if len(mine) > 1:
                heat = figures.heat_figure(
                    points[ADVANTAGE], xlabel=factor, ylabel="control", title=f"{ADVANTAGE}, mean over seeds"
                )
                tracker.figure(heat, artifacts.inside(factor, artifacts.HEAT_FIGURE))
            for item in mine:
                if item.matched:
                    self._log_matched(item, results, tracker)

    def _log_matched(self, item: LevelComparison, results: Sequence[Result], tracker: Tracker) -> None:
        import pandas as pd

        rows = [
            {"level": level.value, "seed": result.seed, **row}
            for level in item.levels
            for result in results
            if result.cell in level.cells
            for row in result.history
        ]
        if not rows:
            return
        frame = pd.DataFrame(rows)
        tracker.table(frame, artifacts.matched(item.factor, item.control))
        drawn = figures.matched_figure(
            frame, matched=item.matched, figure=ADVANTAGE, title=f"{item.control}: leakage during training"
        )
        tracker.figure(drawn, artifacts.matched_figure(item.factor, item.control))

    def _log_scaling(self, grid: Grid, results: Sequence[Result], low: str, rate: float, tracker: Tracker) -> list[str]:
        """Log the power law of TPR - FPR at a fixed FPR by size, if the grid varies size; returns a line on each."""
        lines = []
        for item in grid.comparisons:
            params = grid.cells[item.levels[0].cells[0]].params or {}
            if item.factor not in ("size", "members") or item.factor in params or not item.ordered:
                continue
            values = answer.level_values(item, results, low)
            above = {int(level): {seed: value - rate for seed, value in mine.items()} for level, mine in values.items()}
            if not all(above.values()):
                continue
            law = scaling.scaling(above)
            part = grid.cells[item.levels[0].cells[0]].part
            fixed = float(scaling.null_advantage(part.audited_members, part.audited_nonmembers, seed=self.config.seed).mean())
            growing = {
                size: float(scaling.null_advantage(size, part.nonmembers, seed=self.config.seed).mean()) for size in law.sizes
            }
            null = {
                "no signal": dict.fromkeys(law.sizes, 0.0),
                "no signal, largest TPR - FPR over thresholds, this audit": dict.fromkeys(law.sizes, fixed),
                "the same if all members were audited": growing,
            }
            name = f"{low.replace('tpr', 'tpr_minus_fpr')}"
            tracker.figure(
                figures.scaling_figure(above, law, null, ylabel=f"TPR - FPR at FPR {rate:g}"),
                artifacts.inside(item.factor, artifacts.SCALING_FIGURE),
            )
            if law.beta is None:
                lines.append(f"scaling of {name}: no power law was fitted, {law.reason}")
            else:
                low_end, high_end = law.beta.ci_low, law.beta.ci_high
                interval = (
                    f", 95% interval {low_end:+.2f} to {high_end:+.2f}" if low_end is not None and high_end is not None else ""
                )
                fitted = f"{law.c:.3f} (S / {law.sizes[0]})^beta with beta {law.beta.mean:+.2f}{interval}"
                lines.append(f"scaling of {name}: {fitted}, {law.beta.n_seeds} seeds")
                tracker.metrics(logged("scaling_beta", "", law.beta.mean, low_end, high_end))
        return lines

    def _page(self, grid: Grid, found: Sequence[Effect], laws: Sequence[str], trials: int) -> str:
        first = next(iter(grid.cells.values())).part
        about = [
            f"**{opening(found)}**",
            f"# {grid.name} on {self.data.name}",
            f"{trials} trials: {len(grid.cells)} cells, {self.config.seeds} seeds. Every cell is audited on {first.audited_members} "
            f"members and {first.audited_nonmembers} non-members by `{self.config.attacks}`. "
            f"Optuna study `{self.name}` in `{self.storage}`.",
            f"Differences are paired by seed, with 95% t intervals. Verdicts need at least {LEAST_SEEDS} seeds and are adjusted over the "
            f"rows of a metric (Holm); *no difference* is shown by an equivalence test at ±{self.config.margin:g}.",
        ]
        rows = [
            {
                "factor": f"{effect.factor} {effect.against} → {effect.level}", "control": effect.control, "figure": effect.figure,
                "from": f"{effect.means[1]:.3f}", "to": f"{effect.means[0]:.3f}", "difference": _interval(effect),
                "verdict": f"**{answer.word(effect.verdict)}**",
            }
            for effect in found
            if effect.headline
        ]  # fmt: skip
        import pandas as pd

        table = [markdown(pd.DataFrame(rows))] if rows else ["No comparison is complete yet."]
        notes = ["## What each control holds constant", "\n".join(f"- `{name}`: {note}" for name, note in grid.notes.items())]
        extra = ["\n".join(f"- {law}" for law in laws)]
        return "\n\n".join(part for part in [*about, *table, *extra, *notes] if part) + "\n"


def opening(found: Sequence[Effect]) -> str:
    """All headline effects on the first metric in one sentence, those that were shown first: MLflow folds away whatever comes after the
    first two lines.
    """
    heads = [effect for effect in found if effect.headline and effect.figure == found[0].figure]
    if not heads:
        return "No comparison is complete yet."
    shown = ("increases", "decreases", "no difference")
    heads.sort(key=lambda effect: effect.verdict.verdict not in shown)
    parts = [
        f"{effect.factor} {effect.against} → {effect.level} ({effect.control}) {effect.verdict.verdict}: {_interval(effect)}"
        for effect in heads
    ]
    return f"{found[0].figure.replace('_', ' ')}: {'; '.join(parts)}."


def finished(queue: TrialQueue) -> list[Result]:
    """A grid's finished trials, one for each cell and seed: the first if there are two."""
    found: dict[tuple[str, int], Result] = {}
    for trial in queue.trials("COMPLETE"):
        cell, seed = trial_key(trial)
        kept = trial.user_attrs[RESULT]
        found.setdefault(
            (cell, seed),
            Result(
                cell=cell, seed=seed, figures=kept["figures"], history=kept["history"], run=str(trial.user_attrs.get(RUN, "")),
                number=trial.number,
            ),
        )  # fmt: skip
    return list(found.values())


def ordered(grid: Grid, effect: Effect) -> bool:
    """Whether the levels of the effect's comparison are ordered, so that its only headline is that of the last level."""
    return next(item for item in grid.comparisons if item.control == effect.control).ordered


def headline_metrics(found: Sequence[Effect]) -> dict[str, float]:
    """The headline effects as metrics of the run: ``advantage_heldout_difference/merged``, with the ends of its interval."""
    metrics: dict[str, float] = {}
    for effect in found:
        if not effect.headline:
            continue
        place = effect.control if not isinstance(effect.level, str) else f"{effect.control}_{effect.level}"
        difference = effect.verdict.difference
        values = (difference.mean, difference.ci_low, difference.ci_high)
        metrics |= logged(f"{effect.figure}_difference", _plain(place), *values)
    return metrics


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_\-. /]", "_", text)


def compact(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame rounded and with None for missing values, so that MLflow's UI shows it as a table."""
    rounded = frame.round(4)
    return rounded.astype(object).where(rounded.notna(), None)


def _interval(effect: Effect) -> str:
    difference = effect.verdict.difference
    if difference.ci_low is None or difference.ci_high is None:
        return f"{difference.mean:+.3f}"
    return f"{difference.mean:+.3f} ({difference.ci_low:+.3f} to {difference.ci_high:+.3f})"
