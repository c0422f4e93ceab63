"""Figures of a sweep: metrics by level, effects with their intervals, heat maps, scaling, matched curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from memberscope.metrics import paired_seeds, registry
from memberscope.plots import COLOURS, LINES, as_text, new_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from memberscope.sweeps.answer import Effect
    from memberscope.sweeps.cells import LevelValue
    from memberscope.sweeps.scaling import PowerLaw

Values = Mapping["LevelValue", Mapping[int, float]]


def chance_of(figure: str) -> float:
    """The value of a metric at chance; 0 if it is not a metric of attacks."""
    spec = registry.find(figure)
    return 0.0 if spec is None or spec.chance is None else spec.chance


def level_points(values: Mapping[str, Values]) -> pd.DataFrame:
    """Mean over seeds by control and level, with its t interval: columns control, level, mean, ci_low, ci_high, seeds."""
    import pandas as pd

    rows = []
    for control, by_level in values.items():
        for level, by_seed in by_level.items():
            if by_seed:
                found = paired_seeds(list(by_seed.values()))
                rows.append((control, level, found.mean, found.ci_low, found.ci_high, found.n_seeds))
    return pd.DataFrame(rows, columns=["control", "level", "mean", "ci_low", "ci_high", "seeds"])


def draw_levels(ax: Axes, points: pd.DataFrame, *, xlabel: str, ylabel: str, chance: float = 0.0) -> Figure:
    """A line per control over the levels of a factor, with the t interval over seeds; levels that are words are spaced evenly."""
    ordered = all(not isinstance(level, str) for level in points["level"])
    levels = sorted(set(points["level"])) if ordered else list(dict.fromkeys(points["level"]))
    for number, (control, part) in enumerate(points.groupby("control", sort=False)):
        x = part["level"].astype(float).to_numpy() if ordered else np.array([levels.index(level) for level in part["level"]])
        mean = part["mean"].astype(float).to_numpy()
        spread = [
            mean - part["ci_low"].astype(float).fillna(part["mean"]),
            part["ci_high"].astype(float).fillna(part["mean"]) - mean,
        ]
        ax.errorbar(
            x, mean, yerr=spread, label=as_text(control), marker="o", markersize=3, capsize=2, linewidth=1.4,
            color=COLOURS[number % len(COLOURS)], linestyle=LINES[number % len(LINES)],
        )  # fmt: skip
    if ordered and len(levels) > 2 and levels[0] > 0 and levels[-1] / levels[0] >= 8:
        ax.set_xscale("log")
        ax.minorticks_off()
    ax.set_xticks(levels if ordered else range(len(levels)), [as_text(level) for level in levels])
    ax.axhline(chance, color="0.6", linewidth=0.8)
    ax.set(xlabel=as_text(xlabel), ylabel=as_text(ylabel))
    ax.grid(alpha=0.25)
    ax.legend(fontsize=7, frameon=False)
    return ax.figure  # type: ignore[return-value]  # not of a SubFigure


def levels_figure(points: Mapping[str, pd.DataFrame], *, xlabel: str, title: str) -> Figure:
    """A panel for each metric, from its `level_points`."""
    figure, axes = new_figure(1, len(points), width=5.2)
    for ax, (name, part) in zip(axes[0], points.items(), strict=True):
        draw_levels(ax, part, xlabel=xlabel, ylabel=f"{name}, mean over seeds, 95%", chance=chance_of(name))
    figure.suptitle(as_text(title), fontsize=10)
    return figure


def draw_effects(ax: Axes, effects: Sequence[Effect], *, margin: float) -> Figure:
    """Effects as points with 95% intervals, one per row, over the shaded equivalence margin, with a tick for each seed's difference."""
    names = [f"{effect.factor} {effect.against}→{effect.level}\n{effect.control}" for effect in effects]
    ax.axvspan(-margin, margin, color="0.9", linewidth=0)
    ax.axvline(0.0, color="0.6", linewidth=0.8)
    for row, effect in enumerate(effects):
        difference = effect.verdict.difference
        colour = {"increases": COLOURS[1], "decreases": COLOURS[0], "no difference": COLOURS[2]}.get(
            effect.verdict.verdict, "0.4"
        )
        each = list(effect.differences.values())
        ax.plot(each, [row + 0.15] * len(each), "|", color=colour, alpha=0.5)
        if difference.ci_low is not None and difference.ci_high is not None:
            ax.plot([difference.ci_low, difference.ci_high], [row, row], color=colour, linewidth=1.6)
        ax.plot(difference.mean, row, "o", color=colour, markersize=5)
        ax.annotate(
            effect.verdict.verdict, (1.01, row), xycoords=("axes fraction", "data"), fontsize=7, va="center", color=colour
        )
    ax.set_yticks(range(len(names)), [as_text(name) for name in names], fontsize=7)
    ax.set(ylim=(len(names) - 0.5, -0.5), xlabel="difference, 95% interval over seeds (shaded: the margin)")
    return ax.figure  # type: ignore[return-value]  # not of a SubFigure


def effects_figure(effects: Sequence[Effect], *, margin: float, title: str) -> Figure:
    """The effects, with a panel for each metric."""
    names = list(dict.fromkeys(effect.figure for effect in effects))
    most = max(sum(effect.figure == name for effect in effects) for name in names)
    figure, axes = new_figure(1, len(names), width=6.2, height=1.2 + 0.5 * most)
    for ax, name in zip(axes[0], names, strict=True):
        draw_effects(ax, [effect for effect in effects if effect.figure == name], margin=margin)
        ax.set_title(as_text(name), fontsize=9)
    figure.suptitle(as_text(title), fontsize=10)
    return figure


def heat_figure(points: pd.DataFrame, *, xlabel: str, ylabel: str, title: str) -> Figure:
    """Means as a heat map with printed values; rows are controls (or the values of another factor), columns are levels."""
    rows, columns = list(dict.fromkeys(points["control"])), list(dict.fromkeys(points["level"]))
    if all(not isinstance(level, str) for level in columns):
        columns = sorted(columns)
    grid = np.full((len(rows), len(columns)), np.nan)
    for row in points.itertuples():
        grid[rows.index(row.control), columns.index(row.level)] = row.mean
    figure, axes = new_figure(1, 1, width=2.5 + 0.8 * len(columns), height=1.2 + 0.45 * len(rows))
    ax = axes[0, 0]
    image = ax.imshow(grid, cmap="cividis", aspect="auto")
    middle = (np.nanmin(grid) + np.nanmax(grid)) / 2
    for (i, j), value in np.ndenumerate(grid):
        if np.isfinite(value):
            ax.text(j, i, f"{value:.3f}", ha="center", va="center", fontsize=8, color="white" if value < middle else "black")
    ax.set_xticks(range(len(columns)), [as_text(level) for level in columns])
    ax.set_yticks(range(len(rows)), [as_text(row) for row in rows], fontsize=8)
    ax.set(xlabel=as_text(xlabel), ylabel=as_text(ylabel), title=as_text(title))
    figure.colorbar(image, ax=ax)
    return figure


def scaling_figure(
    by_level: Mapping[int, Mapping[int, float]], law: PowerLaw, null: Mapping[str, Any], *, ylabel: str
) -> Figure:
    """A metric by the number of members: a point for each seed, the fitted law, and the values without signal.

    Args:
        by_level: size -> seed -> value of the metric.
        law: see `memberscope.sweeps.scaling.scaling`.
        null: name of a curve -> size -> value without signal.
        ylabel: the name of the metric.
    """
    figure, axes = new_figure(1, 1, width=6.0, height=4.4)
    ax = axes[0, 0]
    for size, by_seed in by_level.items():
        ax.plot([size] * len(by_seed), list(by_seed.values()), "o", color=COLOURS[0], alpha=0.5, markersize=4)
    span = np.geomspace(law.sizes[0], law.sizes[-1], 100)
    if law.beta is not None:
        low, high = law.beta.ci_low, law.beta.ci_high
        interval = f" ({low:+.2f} to {high:+.2f})" if low is not None and high is not None else ""
        ax.plot(span, [law.at(size) for size in span], color=COLOURS[1], label=f"c S^β, β = {law.beta.mean:+.2f}{interval}")
    for number, (name, curve) in enumerate(null.items()):
        ax.plot(list(curve), list(curve.values()), color="0.4", linestyle=LINES[1 + number % 4], label=name)
    ax.set(xscale="log", xlabel="members S", ylabel=ylabel)
    ax.set_xticks(law.sizes, [str(size) for size in law.sizes])
    ax.minorticks_off()
    ax.grid(alpha=0.25)
    ax.legend(fontsize=8, frameon=False)
    return figure


def matched_figure(curves: pd.DataFrame, *, matched: str, figure: str, title: str) -> Figure:
    """The metric `figure` against the training curve on which models are matched; `curves` has columns level, seed, and both."""
    drawn, axes = new_figure(1, 1, width=6.0, height=4.4)
    ax = axes[0, 0]
    for number, (level, part) in enumerate(curves.groupby("level", sort=False)):
        for position, (_, one) in enumerate(part.groupby("seed")):
            ax.plot(
                one[matched], one[figure], color=COLOURS[number % len(COLOURS)], linestyle=LINES[number % len(LINES)], linewidth=1.0,
                alpha=0.8, label=str(level) if position == 0 else None,
            )  # fmt: skip
    if matched == "train_loss":
        ax.invert_xaxis()
    ax.set(xlabel=f"{matched} (training goes from left to right)", ylabel=figure, title=title)
    ax.grid(alpha=0.25)
    ax.legend(fontsize=8, frameon=False)
    return drawn
