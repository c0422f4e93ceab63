"""Histograms of an attack's scores, and an attack's strength by class against how far the class's records lie apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from memberscope.plots.canvas import COLOURS, TITLE, Margins, as_text, new_figure

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


def score_figure(
    scores: NDArray[np.float64], member: NDArray[np.bool_], *, title: str, least: int = 1, reuse: Figure | None = None
) -> Figure:
    """Histograms of an attack's scores for members and non-members, each with area one; see `histogram_edges`.

    Args:
        scores: (n,).
        member: (n,) truth.
        title: the title of the figure.
        least: the fewest scores in a bin.
        reuse: a figure that this function returned before and that nobody needs any more. It is redrawn and returned; the pixels are
            those of a new figure, for half of the work.
    """
    figure = _empty_score_figure() if reuse is None else reuse
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
    return figure


def _empty_score_figure() -> Figure:
    """A figure for `score_figure` with an outline for each side, and all that does not depend on the scores."""
    figure, axes = new_figure(1, 1, width=5.5, margins=Margins())
    ax = axes[0, 0]
    for name, colour in (("members", COLOURS[1]), ("non-members", COLOURS[0])):
        ax.stairs([0.0], [0.0, 1.0], color=colour, label=name, linewidth=1.5)
    ax.set(xlabel="score (higher = more likely a member)", ylabel="density")
    ax.set_title("", y=1.0, pad=6, fontsize=TITLE)
    ax.locator_params(nbins=5)
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
