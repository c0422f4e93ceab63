"""Figures of exposure: how it is distributed, and how its measures agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from memberscope.plots import COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from memberscope.exposure.base import Measure
    from memberscope.exposure.table import Exposure

BINS = 40


def histogram_points(measure: Measure, shown: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Edges (bins + 1,) and counts (bins,) of all records that have the measure, and of those shown to be exposed."""
    known = ~np.isnan(measure.value)
    rounded = np.round(measure.value, 9)  # equal shares of models may differ in their last digit
    values = rounded[known]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    return edges, np.histogram(values, edges)[0], np.histogram(rounded[known & shown], edges)[0]


def histograms(exposure: Exposure) -> Figure:
    """Histograms of memorization and of the privacy score, with records that are shown to be exposed apart; counts on a log scale."""
    figure, axes = new_figure(1, 2, width=5.2)
    for ax, measure in zip(axes[0], exposure.measures, strict=True):
        edges, counts, shown = histogram_points(measure, exposure.shown)
        if not counts.sum():
            ax.text(
                0.5, 0.5, str(measure.reason[0]) if len(measure.reason) else "no records", ha="center", va="center", wrap=True
            )
            ax.axis("off")
            continue
        ax.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=COLOURS[0], label="all records")
        ax.bar(edges[:-1], shown, width=np.diff(edges), align="edge", color=COLOURS[1], label="shown to be exposed")
        ax.set(xlabel=measure.name.replace("_", " "), ylabel="records", yscale="symlog", ylim=(0, None))
        ax.legend(fontsize=8, frameon=False)
        ax.grid(alpha=0.25)
    return figure


def scatter(exposure: Exposure) -> Figure:
    """Each record's privacy score against its memorization."""
    figure, axes = new_figure(1, 1, width=5.5, height=4.5)
    ax = axes[0, 0]
    order = exposure.ranking()  # not that of the plan
    memorization, score = (measure.value[order] for measure in exposure.measures)
    shown = exposure.shown[order]
    for chosen, name, colour in ((~shown, "other records", COLOURS[0]), (shown, "shown to be exposed", COLOURS[1])):
        ax.scatter(memorization[chosen], score[chosen], s=8, alpha=0.5, color=colour, label=name, linewidths=0)
    ax.set(xlabel="memorization", ylabel="privacy score")
    ax.legend(fontsize=8, frameon=False)
    ax.grid(alpha=0.25)
    return figure
