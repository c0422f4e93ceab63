"""Training by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memberscope.plots.canvas import COLOURS, LINES, as_text, new_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
