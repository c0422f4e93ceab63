"""Samples of the records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memberscope.errors import UserError
from memberscope.plots.canvas import as_text, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


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
