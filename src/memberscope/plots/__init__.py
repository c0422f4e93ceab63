"""Figures. Each consists of a data builder (plain arrays or a frame, saved with the figure) and a renderer on a given Axes."""

from memberscope.plots.by_record import dispersion_figure, histogram_edges, score_figure
from memberscope.plots.canvas import COLOURS, LINES, TEXT, TITLE, Margins, as_text, drawn, new_figure, save, writer
from memberscope.plots.epochs import draw_by_epoch, leakage_figure, training_figure
from memberscope.plots.many_models import (
    band_figure,
    by_shadows_figure,
    draw_band_of_models,
    fidelity_figure,
    pareto_figure,
    transfer_figure,
)
from memberscope.plots.roc import LOWEST_RATE, band_points, draw_band, draw_roc, roc_figure, roc_points
from memberscope.plots.samples import sample_figure

__all__ = [
    "COLOURS",
    "LINES",
    "LOWEST_RATE",
    "TEXT",
    "TITLE",
    "Margins",
    "as_text",
    "band_figure",
    "band_points",
    "by_shadows_figure",
    "dispersion_figure",
    "draw_band",
    "draw_band_of_models",
    "draw_by_epoch",
    "draw_roc",
    "drawn",
    "fidelity_figure",
    "histogram_edges",
    "leakage_figure",
    "new_figure",
    "pareto_figure",
    "roc_figure",
    "roc_points",
    "sample_figure",
    "save",
    "score_figure",
    "training_figure",
    "transfer_figure",
    "writer",
]
