"""Figures of studies over many models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from memberscope.plots.canvas import COLOURS, LINES, as_text, new_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


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
