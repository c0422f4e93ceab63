"""Figures without pyplot's global state: their colours, margins and texts, and how they are drawn and written.

The colours are Okabe and Ito's, which readers with any colour vision can tell apart; each line also has its own marker or dash.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from memberscope.installed import require

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.figure import Figure
    from numpy.typing import NDArray


COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A8A8A")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
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
    writer(figure, path)()


def writer(figure: Figure, path: Path) -> Callable[[], object]:
    """What `save` does, in two steps: the figure is drawn now, and written when the result is called, possibly in another thread.

    The figure may be changed in between.
    """
    canvas: Any = figure.canvas
    if path.suffix != ".png" or not hasattr(canvas, "buffer_rgba"):
        file = io.BytesIO()
        figure.savefig(file, format=path.suffix[1:] or None)
        return partial(path.write_bytes, file.getvalue())
    if figure.stale or getattr(canvas, "renderer", None) is None:
        drawn(figure)
    from matplotlib.image import imsave

    pixels = np.array(canvas.buffer_rgba())
    return partial(imsave, path, pixels, format="png", origin="upper", dpi=figure.dpi, pil_kwargs={"compress_level": 1})


def as_text(given: object) -> str:
    """A text that people gave, such as a class's name, as Matplotlib draws it letter for letter.

    Between two dollar signs Matplotlib reads mathematics, and it leaves a legend's label out that begins with an underscore.
    """
    text = str(given).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
