"""Histograms of an attack's scores, and an attack's strength by class against how far the class's records lie apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from memberscope.plots.canvas import COLOURS, TITLE, Margins, as_text, drawn, new_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


def histogram_edges(scores: NDArray[np.float64], *, bins: int, least: int) -> NDArray[np.float64]:
    """The edges of at most `bins` bins of equal width, of which neighbours are merged until each holds at least `least` scores.

    The range leaves out the outer 0.5%, whose scores count for the first and last bin.
    """
    low, high = np.quantile(scores, [0.005, 0.995])
    edges: NDArray[np.float64] = np.linspace(low, high if high > low else low + 1, bins + 1)
    counts = np.histogram(scores.clip(edges[0], edges[-1]), edges)[0]
    kept, held = [edges[0]], 0
    for edge, count in zip(edges[1:], counts, strict=True):
        held += int(count)
        if held >= least:
            kept.append(edge)
            held = 0
    if len(kept) == 1:
        return np.array([edges[0], edges[-1]])
    kept[-1] = edges[-1]  # what is left at the end is too little for a bin of its own
    return np.array(kept)


def score_figure(scores: NDArray[np.float64], member: NDArray[np.bool_], *, title: str, least: int = 1) -> Figure:
    """Histograms of an attack's scores for members and non-members, each with area one; see `histogram_edges`.

    Args:
        scores: (n,).
        member: (n,) truth.
        title: the title of the figure.
        least: the fewest scores in a bin.
    """
    figure = _empty_score_figure()
    _fill(figure, scores, member, title=title, least=least)
    return figure


class ScoreFigures:
    """The figures of `score_figure` for one attack after another, all on one object, to the same pixels for half of the work.

    The legend is drawn once, and its pixels are put into each further figure.
    """

    def __init__(self) -> None:
        """The object is made with the first figure."""
        self._figure: Figure | None = None
        self._legend: Any = None  # its pixels

    def drawn(self, scores: NDArray[np.float64], member: NDArray[np.bool_], *, title: str, least: int = 1) -> Figure:
        """The figure of an attack, drawn; for the arguments see `score_figure`. The next one takes its place."""
        figure = self._figure = _empty_score_figure() if self._figure is None else self._figure
        _fill(figure, scores, member, title=title, least=least)
        canvas: Any = figure.canvas
        (ax,) = figure.axes
        legend: Any = ax.get_legend()
        legend.set_visible(self._legend is None)
        drawn(figure)
        if self._legend is None:
            self._legend = canvas.copy_from_bbox(legend.get_window_extent(canvas.renderer))
        else:
            canvas.restore_region(self._legend)
            legend.set_visible(True)
            figure.stale = False  # it is there
        return figure


def _fill(figure: Figure, scores: NDArray[np.float64], member: NDArray[np.bool_], *, title: str, least: int) -> None:
    """Put an attack into a figure of `_empty_score_figure`, in place of the one before."""
    (ax,) = figure.axes
    edges = histogram_edges(scores, bins=59, least=least)
    sides = (scores[side].clip(edges[0], edges[-1]) for side in (member, ~member))
    densities = [np.histogram(side, edges, density=True)[0] for side in sides]
    for outline, density in zip(ax.patches, densities, strict=True):
        outline.set_data(density, edges)  # type: ignore[attr-defined]  # a StepPatch
    ax.relim()
    ax.autoscale_view(scaley=False)
    ax.set_ylim(0, 1.15 * max(0.0, *(float(density.max()) for density in densities)))
    ax.title.set_text(as_text(title))


def _empty_score_figure() -> Figure:
    """A figure for `score_figure` with an outline for each side, and all that does not depend on the scores."""
    figure, axes = new_figure(1, 1, width=5.5, margins=Margins())
    ax = axes[0, 0]
    for name, colour in (("members", COLOURS[1]), ("non-members", COLOURS[0])):
        ax.stairs([0.0], [0.0, 1.0], color=colour, label=name, linewidth=1.5)
    ax.set(xlabel="score (higher = more likely a member)", ylabel="density")
    ax.set_title("", y=1.0, pad=6, fontsize=TITLE)
    ax.locator_params(nbins=5)
    ax.grid(False)  # whatever the reader's own settings: its lines would cross the legend
    ax.legend(fontsize=8, frameon=False, loc="upper center", ncols=2)  # in the room above both histograms
    return figure


def dispersion_figure(frame: pd.DataFrame, *, title: str) -> Figure:
    """Classes as points: dispersion against AUC, with the AUC's interval; columns class, dispersion, auc, ci_low, ci_high."""
    figure, axes = new_figure(1, 1, width=5.5, margins=Margins())
    ax = axes[0, 0]
    below, above = frame["auc"] - frame["ci_low"], frame["ci_high"] - frame["auc"]
    ax.errorbar(frame["dispersion"], frame["auc"], yerr=[below, above], fmt="o", color=COLOURS[0], linewidth=1)
    for _, row in frame.iterrows():
        ax.annotate(
            as_text(row["class"]), (row["dispersion"], row["auc"]), textcoords="offset points", xytext=(5, 4), fontsize=8
        )
    ax.axhline(0.5, color="0.6", linewidth=0.8)
    ax.set(xlabel="within-class dispersion", ylabel="AUC, 95% interval")
    ax.set_title(as_text(title), y=1.0, pad=6, fontsize=TITLE)
    ax.grid(alpha=0.25)
    return figure
