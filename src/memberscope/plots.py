"""Figures. Each consists of a data builder (plain arrays or a frame, saved with the figure) and a renderer on a given Axes.

The colours are Okabe and Ito's, which readers with any colour vision can tell apart; each line also has its own marker or dash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from memberscope.errors import UserError
from memberscope.installed import require

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from memberscope.metrics import Roc

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A8A8A")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
LOWEST_RATE = 1e-4
_POWERS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of ten, from `LOWEST_RATE` on
TEXT, TITLE = 10, 12  # points, where margins were chosen for them, whatever the reader's own settings


@dataclass(frozen=True, kw_only=True)
class Margins:
    """The room around axes for their texts, in inches. On the left it holds tick labels of seven digits, below one line of them."""

    left: float = 0.9
    right: float = 0.15
    bottom: float = 0.55
    top: float = 0.4


def new_figure(
    rows: int = 1, columns: int = 1, *, width: float = 5.0, height: float = 4.0, margins: Margins | None = None
) -> tuple[Figure, NDArray[Any]]:
    """A figure and its axes (rows, columns), without pyplot's global state.

    Args:
        rows: number of rows of axes.
        columns: number of axes in each row.
        width: of each of them, in inches.
        height: of each of them, in inches.
        margins: the room around each of the axes; None for what its texts need, which takes as long to find as all of the drawing.

    Raises:
        UserError: Matplotlib is not installed.
    """
    require("matplotlib", by="plots")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    layout: Any = "none" if margins else "constrained"  # without a name, matplotlib's own settings decide
    figure = Figure(figsize=(width * columns, height * rows), layout=layout, dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    if margins is not None:
        across, down = width - margins.left - margins.right, height - margins.bottom - margins.top
        figure.subplots_adjust(
            left=margins.left / figure.get_figwidth(), right=1 - margins.right / figure.get_figwidth(),
            bottom=margins.bottom / figure.get_figheight(), top=1 - margins.top / figure.get_figheight(),
            wspace=(margins.left + margins.right) / across, hspace=(margins.bottom + margins.top) / down,
        )  # fmt: skip
        for ax in axes.flat:  # the axes' own search for these places takes a third of the drawing
            ax.tick_params(labelsize=TEXT)
            ax.xaxis.label.set_fontsize(TEXT)
            ax.yaxis.label.set_fontsize(TEXT)
            ax.xaxis.set_label_coords(0.5, -0.3 / down)
            ax.yaxis.set_label_coords((0.25 - margins.left) / across, 0.5)
    return figure, axes


def drawn(figure: Figure) -> Figure:
    """The figure, laid out and drawn, so that `save` need only write its pixels."""
    figure.canvas.draw()
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as `Figure.savefig` does, to the last pixel. One that was `drawn` and is unchanged is not drawn again.

    For a PNG, `savefig` draws everything twice, the first time for the layout alone, and compresses for longer than it saves.
    """
    canvas: Any = figure.canvas
    if path.suffix != ".png" or not hasattr(canvas, "buffer_rgba"):
        figure.savefig(path)
        return
    if figure.stale or getattr(canvas, "renderer", None) is None:
        drawn(figure)
    from matplotlib.image import imsave

    imsave(path, canvas.buffer_rgba(), format="png", origin="upper", dpi=figure.dpi, pil_kwargs={"compress_level": 1})


def as_text(given: object) -> str:
    """A text that people gave, such as a class's name, as Matplotlib draws it letter for letter.

    Between two dollar signs Matplotlib reads mathematics, and it leaves a legend's label out that begins with an underscore.
    """
    text = str(given).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


# --- ROC curves ------------------------------------------------------------------------------------------------------


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


# --- by epoch --------------------------------------------------------------------------------------------------------


def draw_by_epoch(
    ax: Axes,
    frame: pd.DataFrame,
    columns: Sequence[tuple[str, str]],
    *,
    ylabel: str,
    chance: float | None = None,
) -> Figure:
    """Draw lines over epochs, with a colour per model and a dash per column; with several seeds their mean, and a thin line per seed.

    Args:
        ax: the axes to draw on.
        frame: columns model, seed, epoch, and those of `columns`; rows where a column is missing are left out.
        columns: (column, name in the legend); with an empty name the legend shows only the model's name.
        ylabel: the quantity, with its unit.
        chance: the value of an attack without information, at which a line is drawn.
    """
    for number, (model, of_model) in enumerate(frame.groupby("model", sort=False)):
        for dash, (column, name) in enumerate(columns):
            part = of_model.dropna(subset=[column])
            style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "linestyle": LINES[dash % len(LINES)]}
            if part["seed"].nunique() > 1:
                for _, one in part.groupby("seed"):
                    ax.plot(one["epoch"], one[column], linewidth=0.6, alpha=0.35, **style)
            mean = part.groupby("epoch")[column].mean()
            ax.plot(mean.index, mean.to_numpy(), linewidth=1.6, label=as_text(f"{model} {name}".strip()), **style)
    if chance is not None:
        ax.axhline(chance, color="0.6", linewidth=0.8)
    ax.set(xlabel="epoch", ylabel=ylabel)
    ax.grid(alpha=0.25)
    ax.legend(fontsize=8, frameon=False)
    return ax.figure  # type: ignore[return-value]  # its type allows a SubFigure; ours are whole


def training_figure(history: pd.DataFrame, *, title: str) -> Figure:
    """Accuracy and loss by epoch, members (train) and validation, like the case study's first figure of each experiment."""
    figure, axes = new_figure(1, 2, width=5.5)
    draw_by_epoch(axes[0, 0], history, [("train_accuracy", "train"), ("val_accuracy", "validation")], ylabel="accuracy")
    draw_by_epoch(axes[0, 1], history, [("train_loss", "train"), ("val_loss", "validation")], ylabel="loss (nats)")
    figure.suptitle(as_text(title), fontsize=10)
    return figure


def leakage_figure(history: pd.DataFrame, *, title: str) -> Figure:
    """AUC and advantage of the loss threshold by epoch, like the case study's second figure of each experiment."""
    figure, axes = new_figure(1, 2, width=5.5)
    draw_by_epoch(axes[0, 0], history, [("auc", "")], ylabel="AUC of the loss threshold", chance=0.5)
    draw_by_epoch(axes[0, 1], history, [("advantage", "")], ylabel="advantage of the loss threshold", chance=0.0)
    figure.suptitle(as_text(title), fontsize=10)
    return figure


# --- many models -----------------------------------------------------------------------------------------------------


def draw_band_of_models(ax: Axes, curves: NDArray[Any], *, ylabel: str) -> Figure:
    """Draw curves (models, epochs) as their median and the band that contains the central 90% of the models at each epoch."""
    epochs = np.arange(1, curves.shape[1] + 1)
    low, middle, high = np.quantile(curves, [0.05, 0.5, 0.95], axis=0)
    ax.fill_between(epochs, low, high, color=COLOURS[0], alpha=0.2, linewidth=0, label="central 90% of the models")
    ax.plot(epochs, middle, color=COLOURS[0], linewidth=1.6, label="median")
    ax.set(xlabel="epoch", ylabel=ylabel)
    ax.grid(alpha=0.25)
    ax.legend(fontsize=8, frameon=False)
    return ax.figure  # type: ignore[return-value]  # its type allows a SubFigure; ours are whole


def band_figure(curves: Mapping[str, NDArray[Any]], *, title: str) -> Figure:
    """Training accuracy and loss of many models by epoch: ``accuracy`` and ``loss``, (models, epochs) each."""
    figure, axes = new_figure(1, 2, width=5.5)
    draw_band_of_models(axes[0, 0], curves["accuracy"], ylabel="training accuracy")
    draw_band_of_models(axes[0, 1], curves["loss"], ylabel="training loss (nats)")
    figure.suptitle(as_text(title), fontsize=10)
    return figure


def by_shadows_figure(means: pd.DataFrame, *, figure: str) -> Figure:
    """A metric's mean over targets, with its interval, against the number of shadows; attacks without shadows are horizontal lines.

    Args:
        means: columns attack, shadows, figure, mean, ci_low, ci_high.
        figure: the name of the metric, one of the values in the column ``figure``.
    """
    drawn, axes = new_figure(1, 1, width=6.5, height=4.5)
    ax = axes[0, 0]
    part = means[means["figure"] == figure]
    for number, (attack, of_attack) in enumerate(part.groupby("attack", sort=False)):
        style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "linestyle": LINES[number % len(LINES)]}
        if (of_attack["shadows"] == 0).all():
            ax.axhline(of_attack["mean"].iloc[0], label=as_text(attack), linewidth=1.2, **style)
            continue
        below, above = of_attack["mean"] - of_attack["ci_low"], of_attack["ci_high"] - of_attack["mean"]
        ax.errorbar(
            of_attack["shadows"], of_attack["mean"], yerr=[below.fillna(0), above.fillna(0)], label=as_text(attack), linewidth=1.4,
            marker="o", markersize=3, capsize=2, **style,
        )  # fmt: skip
    ticks = sorted(set(part["shadows"]) - {0})
    ax.set(xscale="log", xlabel="shadow models", ylabel=as_text(f"{figure}, mean over targets, 95%"))
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    ax.grid(alpha=0.25)
    ax.legend(fontsize=7, frameon=False, ncols=2)
    return drawn


def fidelity_figure(frame: pd.DataFrame) -> Figure:
    """Attack strength by kind of shadow, mean over targets with its interval: columns variant, attack, figure, mean, ci_low, ci_high."""
    pairs = [
        (attack, figure)
        for attack, figure in frame[["attack", "figure"]].drop_duplicates().itertuples(index=False)
        if figure == ("balanced_accuracy" if attack.startswith(("metric", "shadow")) else "tpr_at_fpr_0_01")
    ]
    variants = list(dict.fromkeys(frame["variant"]))
    drawn, axes = new_figure(1, max(1, len(pairs)), width=3.6, height=1.0 + 0.35 * len(variants))
    for ax, (attack, figure) in zip(axes[0], pairs, strict=False):
        part = frame[(frame["attack"] == attack) & (frame["figure"] == figure)].set_index("variant").reindex(variants)
        place = np.arange(len(variants))
        spread = [(part["mean"] - part["ci_low"]).fillna(0), (part["ci_high"] - part["mean"]).fillna(0)]
        ax.errorbar(part["mean"], place, xerr=spread, fmt="o", color=COLOURS[0], capsize=2)
        ax.set(xlabel=as_text(figure), title=as_text(attack), ylim=(len(variants) - 0.5, -0.5))
        ax.set_yticks(place, [as_text(name) if ax is axes[0, 0] else "" for name in variants])
        ax.grid(alpha=0.25)
    return drawn


def transfer_figure(summary: pd.DataFrame, *, attack: str) -> Figure:
    """Balanced accuracy on the target, and the realised false positive rate, by shadow data: means over fleets with their intervals."""
    part = summary[summary["attack"] == attack]
    if not len(part):
        part = summary
    place = np.arange(len(part))
    drawn, axes = new_figure(1, 2, width=4.6, height=1.2 + 0.4 * len(part))
    for ax, figure, promise in ((axes[0, 0], "balanced_accuracy", None), (axes[0, 1], "fpr_at_promise_0_1", 0.1)):
        spread = [(part[figure] - part[f"{figure}_ci_low"]).fillna(0), (part[f"{figure}_ci_high"] - part[figure]).fillna(0)]
        ax.errorbar(part[figure], place, xerr=spread, fmt="o", color=COLOURS[0], capsize=2)
        if promise is not None:
            ax.axvline(promise, color="0.6", linewidth=0.8)
        ax.set(ylim=(len(part) - 0.5, -0.5))
        ax.set_yticks(place, [as_text(name) if ax is axes[0, 0] else "" for name in part["method"]])
        ax.grid(alpha=0.25)
    axes[0, 0].set_xlabel("balanced accuracy on the target, 95%")
    axes[0, 1].set_xlabel("false positive rate where 0.1 was promised, 95%")
    return drawn


def pareto_figure(table: pd.DataFrame, front: Sequence[str]) -> Figure:
    """Accuracy on non-members against the AUC of each rung's primary attack, means over seeds; the rungs of `front` are joined.

    Args:
        table: columns rung, val/accuracy, auc, the latter two each with ``_ci_low`` and ``_ci_high``.
        front: rungs that no other rung beats in both.
    """
    drawn, axes = new_figure(1, 1, width=6.5, height=5.0)
    ax = axes[0, 0]
    part = table.dropna(subset=["auc"])
    spread = {
        name: [
            (part[name] - part[f"{name}_ci_low"]).astype(float).fillna(0),
            (part[f"{name}_ci_high"] - part[name]).astype(float).fillna(0),
        ]
        for name in ("auc", "val/accuracy")
    }
    ax.errorbar(
        part["auc"],
        part["val/accuracy"],
        xerr=spread["auc"],
        yerr=spread["val/accuracy"],
        fmt="o",
        color=COLOURS[0],
        linewidth=0.8,
        capsize=2,
    )
    for row in part.to_dict("records"):
        ax.annotate(
            as_text(row["rung"]), (row["auc"], row["val/accuracy"]), textcoords="offset points", xytext=(5, 4), fontsize=8
        )
    joined = part[part["rung"].isin(list(front))].sort_values("auc")
    ax.plot(joined["auc"], joined["val/accuracy"], color=COLOURS[1], linewidth=1, linestyle="--", label="not beaten in both")
    ax.axvline(0.5, color="0.6", linewidth=0.8)
    ax.set(xlabel="AUC of the primary attack (0.5 = chance), 95% over seeds", ylabel="accuracy on non-members, 95%")
    ax.grid(alpha=0.25)
    ax.legend(fontsize=8, frameon=False)
    return drawn


# --- data ------------------------------------------------------------------------------------------------------------


def sample_figure(images: NDArray[Any], names: Sequence[str], *, title: str, side: int = 5) -> Figure:
    """A grid of side x side images, (n, h, w, 1 or 3) uint8 or in [0, 1], with their class names.

    Raises:
        UserError: images of another number of channels, or without pixels.
    """
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        raise UserError(
            f"images of shape {images.shape}; allowed to be drawn: (images, height, width, channels) with one or three channels"
        )
    figure, axes = new_figure(side, side, width=1.35, height=1.5)
    for ax, image, name in zip(axes.flat, images, names, strict=False):
        grey = image.shape[-1] == 1
        ax.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None, interpolation="nearest")
        ax.set_title(as_text(name), fontsize=8)
    for ax in axes.flat:
        ax.axis("off")
    figure.suptitle(as_text(title), fontsize=10)
    return figure
