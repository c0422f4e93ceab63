"""ROC curves, on linear and on logarithmic axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from memberscope.plots.canvas import COLOURS, LINES, Margins, as_text, new_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from memberscope.metrics import Roc

LOWEST_RATE = 1e-4
_POWERS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of ten, from `LOWEST_RATE` on


def roc_points(curves: Mapping[str, Roc], *, most: int = 400, least: int = 1) -> pd.DataFrame:
    """Points of several ROC curves: columns attack, fpr, tpr, threshold.

    Only the corners are kept (points on straight stretches are left out). They are thinned to about `most` per curve, evenly on the
    linear and on the logarithmic scale of the false positive rate, so that the curve keeps its shape on both.

    Args:
        curves: attack -> its curve.
        most: see above.
        least: fewest records between two points. To anyone who can compute the records' scores, and so their
            order, a curve with every corner reveals which of them are members.
    """
    import pandas as pd

    frames = []
    for name, roc in curves.items():
        fpr, tpr = np.asarray(roc.fpr), np.asarray(roc.tpr)
        corner = np.ones(len(fpr), dtype=bool)
        corner[1:-1] = (np.diff(fpr)[:-1] * np.diff(tpr)[1:]) != (np.diff(tpr)[:-1] * np.diff(fpr)[1:])
        kept = np.flatnonzero(corner)
        if len(kept) > most:
            grid = np.concatenate([np.linspace(0, 1, most // 2), np.geomspace(1 / roc.n_nonmember, 1, most // 2)])
            kept = np.unique(np.concatenate([[0, len(fpr) - 1], np.searchsorted(fpr, grid, side="right") - 1]))
        kept = _apart(kept, np.asarray(np.round(fpr * roc.n_nonmember + tpr * roc.n_member), np.float64), least)
        frames.append(
            pd.DataFrame({"attack": name, "fpr": fpr[kept], "tpr": tpr[kept], "threshold": np.asarray(roc.thresholds)[kept]})
        )
    return pd.concat(frames, ignore_index=True)


def _apart(kept: NDArray[np.intp], records: NDArray[np.float64], least: int) -> NDArray[np.intp]:
    """The first and the last of the points, and those between that are at least `least` records apart; `records` counts them up to each."""
    found = [kept[0]]
    for point in kept[1:-1]:
        if records[point] - records[found[-1]] >= least and records[kept[-1]] - records[point] >= least:
            found.append(point)
    return np.array([*found, kept[-1]])


def draw_roc(ax: Axes, points: pd.DataFrame, *, labels: Mapping[str, str] | None = None, log: bool = False) -> Figure:
    """Draw ROC curves as steps; with `log` both axes are logarithmic, which shows low false positive rates."""
    for number, (name, part) in enumerate(points.groupby("attack", sort=False)):
        fpr, tpr = part["fpr"].to_numpy(), part["tpr"].to_numpy()
        if log:
            fpr, tpr = np.maximum(fpr, LOWEST_RATE), np.maximum(tpr, LOWEST_RATE)
        ax.plot(
            fpr, tpr, drawstyle="steps-post", label=as_text((labels or {}).get(name, name)), linewidth=1.5,
            color=COLOURS[number % len(COLOURS)], linestyle=LINES[number % len(LINES)],
        )  # fmt: skip
    chance = np.geomspace(LOWEST_RATE, 1, 50)
    ax.plot(chance, chance, color="0.6", linewidth=0.8, label="chance")
    if log:
        ax.set(xscale="log", yscale="log", xlim=(LOWEST_RATE, 1), ylim=(LOWEST_RATE, 1))
        for axis in (ax.xaxis, ax.yaxis):  # one tick per power of ten, whose label needs no typesetting
            axis.set_ticks(_POWERS, [f"{power:g}" for power in _POWERS])
            axis.set_ticks([], minor=True)
    else:
        ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.set(xlabel="false positive rate", ylabel="true positive rate")
    ax.set_aspect("equal")
    ax.grid(alpha=0.25)
    return ax.figure  # type: ignore[return-value]  # its type allows a SubFigure; ours are whole


def band_points(result: Any, *, rng: np.random.Generator, points: int = 60, draws: int = 400) -> pd.DataFrame:
    """The pointwise 95% band of a result's ROC curve: columns fpr, low, high, at false positive rates with logarithmic spacing."""
    import pandas as pd

    from memberscope import metrics

    fpr = np.geomspace(max(LOWEST_RATE, 1 / result.n_nonmember), 1.0, points)
    fpr[-1] = 0.999
    low, high = metrics.roc_band(result.scores, result.member, fpr=fpr, rng=rng, draws=draws)
    return pd.DataFrame({"fpr": fpr, "low": low, "high": high})


def draw_band(ax: Axes, band: pd.DataFrame, *, log: bool = False) -> Figure:
    """Draw a pointwise band behind a ROC curve."""
    low, high = band["low"].to_numpy(), band["high"].to_numpy()
    if log:
        low, high = np.maximum(low, LOWEST_RATE), np.maximum(high, LOWEST_RATE)
    ax.fill_between(band["fpr"], low, high, color=COLOURS[0], alpha=0.15, linewidth=0, label="95% band of the first, pointwise")
    return ax.figure  # type: ignore[return-value]  # its type allows a SubFigure; ours are whole


def roc_figure(
    points: pd.DataFrame, *, title: str, labels: Mapping[str, str] | None = None, band: pd.DataFrame | None = None
) -> Figure:
    """The curves twice: linear axes, then logarithmic; `band` (see `band_points`) is drawn behind them."""
    names = points["attack"].nunique() + 1 + (band is not None)
    across = min(4, names)
    lines = -(-names // across)
    figure, axes = new_figure(1, 2, width=5.2, height=4.9, margins=Margins(bottom=0.7 + 0.17 * lines, top=0.4))
    if band is not None:
        draw_band(axes[0, 0], band)
        draw_band(axes[0, 1], band, log=True)
    draw_roc(axes[0, 0], points, labels=labels)
    draw_roc(axes[0, 1], points, labels=labels, log=True)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="lower center", ncols=across, fontsize=8, frameon=False)
    figure.suptitle(as_text(title), fontsize=10)
    return figure
