"""The effect of each factor, from finished trials: paired differences over seeds, a verdict, and a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from memberscope.metrics import LOW_BUDGET, Verdict, rate_name, verdicts
from memberscope.sweeps.cells import Grid, Level, LevelComparison, LevelValue
from memberscope.sweeps.matching import reach, read_at

if TYPE_CHECKING:
    import pandas as pd

LOW_RATES = (0.001, 0.01, 0.1)
ADVANTAGE = "advantage_heldout"


def low_rate(nonmembers: int) -> float:
    """The lowest false positive rate of 0.001, 0.01 and 0.1 that allows ten false positives; 0.1 if none does."""
    return next((rate for rate in LOW_RATES if rate * nonmembers >= LOW_BUDGET), LOW_RATES[-1])


def low_name(nonmembers: int) -> str:
    """The name of the TPR at `low_rate`, such as ``tpr_at_fpr_0_01``."""
    return f"tpr_at_fpr_{rate_name(low_rate(nonmembers))}"


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished trial.

    Attributes:
        cell, seed: its cell and seed.
        figures: metrics at the end of training: advantage_heldout, auc, the TPR at low FPR, accuracy, train_accuracy, train_loss, ...
        history: a row per audited epoch: epoch, train_loss, train_accuracy and the metrics.
        run: the address of its run.
        number: the number of its trial.
    """

    cell: str
    seed: int
    figures: Mapping[str, float]
    history: Sequence[Mapping[str, float]] = ()
    run: str = ""
    number: int = -1


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A level of a factor compared with the first level, in one metric.

    Attributes:
        factor, control: see `LevelComparison`.
        figure: the metric.
        level, against: the two levels.
        headline: whether this is the factor's effect: the last level against the first if levels are ordered, otherwise each level
            against the first.
        means: the mean of the metric over seeds at `level` and at `against`.
        verdict: on the paired differences; Holm over the headlines of a metric, or over the levels of one comparison.
        differences: seed -> difference.
    """

    factor: str
    control: str
    figure: str
    level: LevelValue
    against: LevelValue
    headline: bool
    means: tuple[float, float]
    verdict: Verdict
    differences: Mapping[int, float] = field(default_factory=dict)


def level_values(comparison: LevelComparison, results: Sequence[Result], figure: str) -> dict[LevelValue, dict[int, float]]:
    """The metric by level and seed. Seeds for which any cell is missing are left out, so that all levels have the same seeds.

    If the comparison is matched, the metric of each level is read where its training curve reaches the value that the curves of all levels
    reach for that seed.
    """
    index = {(result.cell, result.seed): result for result in results}
    cells = [cell for level in comparison.levels for cell in level.cells]
    seeds = [seed for seed in sorted({seed for _, seed in index}) if all((cell, seed) in index for cell in cells)]
    found: dict[LevelValue, dict[int, float]] = {level.value: {} for level in comparison.levels}
    for seed in seeds:
        at = _matched_level(comparison, index, seed)
        for level in comparison.levels:
            values = [_read(index[cell, seed], level, comparison.matched, at, figure) for cell in level.cells]
            found[level.value][seed] = sum(values) / len(values)
    return found


def _matched_level(comparison: LevelComparison, index: Mapping[tuple[str, int], Result], seed: int) -> float:
    if not comparison.matched:
        return 0.0
    curves = [
        [row[comparison.matched] for row in index[cell, seed].history] for level in comparison.levels for cell in level.cells
    ]
    return reach(curves, falling=comparison.matched == "train_loss")


def _read(result: Result, level: Level, matched: str, at: float, figure: str) -> float:
    if matched:
        curve = [row[matched] for row in result.history]
        return read_at(curve, [row[figure] for row in result.history], at, falling=matched == "train_loss")
    if level.epoch is None:
        return result.figures[figure]
    return next(row[figure] for row in result.history if row["epoch"] == level.epoch)


def effects(grid: Grid, results: Sequence[Result], figures: Sequence[str], *, margin: float) -> list[Effect]:
    """Every level against the first of its comparison, in every metric.

    Headlines are adjusted (Holm) over all comparisons of the grid, separately for each metric. The other levels, which show the course in
    between, are adjusted within their comparison.
    """
    found: list[Effect] = []
    for figure in figures:
        values = {item.control: level_values(item, results, figure) for item in grid.comparisons}
        heads: dict[tuple[str, LevelValue], list[float]] = {}
        rest: dict[str, dict[tuple[str, LevelValue], list[float]]] = {}
        for item in grid.comparisons:
            first = values[item.control][item.levels[0].value]
            if not first:
                continue
            for level in item.levels[1:]:
                mine = values[item.control][level.value]
                differences = [mine[seed] - first[seed] for seed in first]
                key = (item.control, level.value)
                (heads if _headline(item, level) else rest.setdefault(item.control, {}))[key] = differences
        judged = _judge(heads, margin)
        for family in rest.values():
            judged |= _judge(family, margin)
        for item in grid.comparisons:
            for level in item.levels[1:]:
                key = (item.control, level.value)
                if key not in judged:
                    continue
                first, mine = values[item.control][item.levels[0].value], values[item.control][level.value]
                found.append(
                    Effect(
                        factor=item.factor, control=item.control, figure=figure, level=level.value, against=item.levels[0].value,
                        headline=_headline(item, level), verdict=judged[key],
                        means=(sum(mine.values()) / len(mine), sum(first.values()) / len(first)),
                        differences={seed: mine[seed] - first[seed] for seed in first},
                    )
                )  # fmt: skip
    return found


def _headline(comparison: LevelComparison, level: Level) -> bool:
    return not comparison.ordered or level == comparison.levels[-1]


def _judge(family: Mapping[tuple[str, LevelValue], list[float]], margin: float) -> dict[tuple[str, LevelValue], Verdict]:
    names = {str(number): key for number, key in enumerate(family)}
    judged = verdicts({name: family[key] for name, key in names.items()}, margin=margin)
    return {names[name]: verdict for name, verdict in judged.items()}


def word(verdict: Verdict) -> str:
    """The verdict; if it is inconclusive, also the number of seeds that would decide."""
    if verdict.verdict != "inconclusive":
        return verdict.verdict
    need = verdict.seeds_to_decide
    if need.status == "skipped":
        return f"inconclusive ({need.reason})"
    return f"inconclusive (would need about {need.value:.0f} seeds, {need.ci_low:.0f} to {need.ci_high:.0f})"


def sentence(effect: Effect) -> str:
    """One line on an effect: the verdict, then its numbers."""
    difference = effect.verdict.difference
    interval = ""
    if difference.ci_low is not None and difference.ci_high is not None:
        interval = f", 95% interval {difference.ci_low:+.3f} to {difference.ci_high:+.3f}"
    reason = f"; {effect.verdict.reason}" if effect.verdict.reason else ""
    plural = "" if difference.n_seeds == 1 else "s"
    return (
        f"{effect.factor} {effect.against} -> {effect.level} ({effect.control}): {effect.figure} {word(effect.verdict)}; "
        f"{effect.means[1]:.3f} -> {effect.means[0]:.3f}, {difference.mean:+.3f}{interval}, {difference.n_seeds} seed{plural}{reason}"
    )


def effects_frame(found: Sequence[Effect]) -> pd.DataFrame:
    """A row per effect: factor, control, figure, against, level, headline, means, difference with its interval, verdict."""
    import pandas as pd

    rows = []
    for effect in found:
        difference, need = effect.verdict.difference, effect.verdict.seeds_to_decide
        decided = effect.verdict.verdict != "inconclusive" or need.status == "skipped"
        rows.append(
            {
                "factor": effect.factor, "control": effect.control, "figure": effect.figure, "against": effect.against,
                "level": effect.level, "headline": effect.headline, "mean_against": effect.means[1], "mean_level": effect.means[0],
                "difference": difference.mean, "ci_low": difference.ci_low, "ci_high": difference.ci_high,
                "seeds": difference.n_seeds, "p_holm": effect.verdict.p_adjusted, "p_equivalence": effect.verdict.p_equivalence,
                "verdict": effect.verdict.verdict, "seeds_needed": None if decided else need.value,
                "seeds_needed_low": None if decided else need.ci_low, "seeds_needed_high": None if decided else need.ci_high,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def results_frame(grid: Grid, results: Sequence[Result]) -> pd.DataFrame:
    """A row per comparison, level, cell and seed with every metric at the level's epoch; matched comparisons, which have no cells of their
    own, are left out.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    index = {(result.cell, result.seed): result for result in results}
    for item in grid.comparisons:
        if item.matched:
            continue
        for level in item.levels:
            for cell in level.cells:
                head = {"factor": item.factor, "control": item.control, "level": level.value, "cell": cell}
                rows += [
                    {**head, "seed": seed, **_row(result, level)}
                    for (name, seed), result in sorted(index.items())
                    if name == cell
                ]  # fmt: skip
    return pd.DataFrame(rows)


def _row(result: Result, level: Level) -> dict[str, Any]:
    source = result.figures
    if level.epoch is not None:
        source = next(row for row in result.history if row["epoch"] == level.epoch)
    return {**source, "trial": result.number}
