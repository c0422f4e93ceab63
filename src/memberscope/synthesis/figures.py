"""Figures of synthetic sets: samples by class for images, feature frequencies for tables. Each has a data builder and a renderer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memberscope.checks import Array

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def contact_sheet(x: Array, y: NDArray[np.int64], *, classes: int, columns: int = 8) -> NDArray[np.float32]:
    """The first `columns` images of each class, one row per class, with grey lines between: (height, width, channels) in [0, 1].

    Args:
        x: (n, height, width, channels) images in [0, 1], 1 or 3 channels.
        y: (n,) their classes.
        classes: number of rows.
        columns: images per row; if a class has fewer, the rest stays grey.
    """
    height, width, channels = x.shape[1:]
    sheet = np.full((classes * (height + 1) - 1, columns * (width + 1) - 1, channels), 0.5, dtype=np.float32)
    for label in range(classes):
        for column, image in enumerate(x[y == label][:columns]):
            top, left = label * (height + 1), column * (width + 1)
            sheet[top : top + height, left : left + width] = image
    return sheet


def draw_contact_sheet(ax: Axes, sheet: NDArray[np.float32], *, class_names: tuple[str, ...]) -> Figure:
    """Draw the sheet, with the name of its class beside each row."""
    shown = np.clip(sheet[..., 0] if sheet.shape[2] == 1 else sheet, 0.0, 1.0)
    ax.imshow(shown, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
    step = (sheet.shape[0] + 1) / len(class_names)
    ax.set_yticks([step * (row + 0.5) for row in range(len(class_names))], class_names)
    ax.set_xticks([])
    ax.tick_params(length=0)
    return ax.figure  # type: ignore[return-value]


def feature_frequency(synthetic: Array, real: Array) -> pd.DataFrame:
    """Means of every feature in a synthetic and in a real set: columns feature, real, synthetic; for bits, shares of ones."""
    import pandas as pd

    flat = [np.asarray(x, dtype=np.float64).reshape(len(x), -1).mean(axis=0) for x in (real, synthetic)]
    return pd.DataFrame({"feature": np.arange(len(flat[0])), "real": flat[0], "synthetic": flat[1]})


def draw_feature_frequency(ax: Axes, frame: pd.DataFrame, *, method: str) -> Figure:
    """Draw a point per feature, real against synthetic, with the diagonal on which they agree; both axes have the same limits."""
    ends = frame[["real", "synthetic"]].to_numpy()
    low, high = min(0.0, float(ends.min())), max(1.0, float(ends.max()))
    ax.plot([low, high], [low, high], color="0.6", linewidth=0.8)
    ax.scatter(frame["real"], frame["synthetic"], s=8, color="#0072B2", alpha=0.6, linewidths=0)
    ax.set(xlim=(low, high), ylim=(low, high), xlabel="mean in real records", ylabel=f"mean in {method} records")
    ax.set_aspect("equal")
    ax.grid(alpha=0.25)
    return ax.figure  # type: ignore[return-value]


def synthetic_figure(
    x: Array, y: NDArray[np.int64], *, method: str, class_names: tuple[str, ...], real: Array | None, columns: int = 8
) -> Figure | None:
    """A contact sheet for images; feature frequencies for tables, or None if there are no real records to compare with."""
    from memberscope.plots import new_figure

    if x.ndim == 4 and x.shape[3] in (1, 3):
        sheet = contact_sheet(x, y, classes=len(class_names), columns=columns)
        height = 6.0 * sheet.shape[0] / sheet.shape[1]
        figure, axes = new_figure(1, 1, width=6.0, height=min(max(height, 2.0), 24.0))
        draw_contact_sheet(axes[0, 0], sheet, class_names=class_names)
    elif real is not None:
        figure, axes = new_figure(1, 1, width=5.0, height=5.0)
        draw_feature_frequency(axes[0, 0], feature_frequency(x, real), method=method)
    else:
        return None
    axes[0, 0].set_title(f"{len(x)} records by {method}", fontsize=10)
    return figure
