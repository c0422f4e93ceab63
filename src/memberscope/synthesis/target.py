"""The target as climbs query it, with checks of what it publishes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from memberscope.checks import Array, check_finite
from memberscope.errors import UserError
from memberscope.scales import check_probs
from memberscope.synthesis.climb_state import Bools, Floats
from memberscope.synthesis.draws import Index
from memberscope.synthesis.moves import Inputs, Smoothing

Query = Callable[[Inputs], Array]
"""Records (m, ...) float32 -> published probabilities (m, classes): full, rounded, or with all but the largest set to 0."""

ENOUGH = 32  # if this many outputs consist of zeros and ones only, the target publishes labels
FLOOR = 1e-12  # lower limit of a confidence before its logarithm is taken


class Target:
    """Calls `query` with records of `shape`, or with several copies of each if there is a `smoothing`."""

    def __init__(
        self, query: Query, *, classes: int, shape: tuple[int, ...], smoothing: Smoothing | None, ink: float, background: float
    ) -> None:
        """`ink` is the penalty in nats for a mean distance of 1 from `background`."""
        self._query, self._classes, self._shape, self._smoothing = query, classes, shape, smoothing
        self._ink, self._background = ink, np.float32(background)
        self._outputs_checked, self._only_labels = 0, True

    def __call__(self, x: Inputs, label: Index) -> tuple[Floats, Bools, Floats]:
        """For records `x` (n, d): confidence in `label` (n,), whether no class has more, and the climb's objective, (n,) each."""
        images = x.reshape(len(x), *self._shape)
        images.flags.writeable = False
        if self._smoothing is None:
            y = self._checked(images)
        else:
            y = np.zeros((len(x), self._classes))
            for number in range(self._smoothing.copies):
                y += self._checked(self._smoothing.copy(images, number))
            y /= self._smoothing.copies
        confidence: Floats = y[np.arange(len(y)), label].astype(np.float64)
        top = confidence >= y.max(axis=1)
        if self._ink == 0:
            return confidence, top, confidence
        distance = np.abs(x - self._background).mean(axis=1, dtype=np.float64)
        return confidence, top, np.log(np.maximum(confidence, FLOOR)) - self._ink * distance

    def _checked(self, images: Inputs) -> Array:
        y = np.asarray(self._query(images))
        if y.ndim == 1 and len(y) == len(images):
            raise UserError(
                "query: the target publishes labels only; the climb needs confidences (probabilities of every class)"
            )
        if y.shape != (len(images), self._classes):
            raise UserError(
                f"query: output of shape {y.shape}; allowed: probabilities of shape ({len(images)}, {self._classes})"
            )
        if not np.issubdtype(y.dtype, np.floating):
            if not np.isin(y, (0, 1)).all():
                raise UserError(f"query: output of type {y.dtype}; allowed: probabilities")
            y = y.astype(np.float64)
        check_finite("query", y)
        check_probs("query", y, released=True)
        if self._only_labels and self._outputs_checked < ENOUGH:
            self._outputs_checked += len(y)
            self._only_labels = bool(((y == 0) | (y == 1)).all())
            if self._only_labels and self._outputs_checked >= ENOUGH:
                raise UserError("query: the target publishes labels only (every output is 0 or 1); the climb needs confidences")
        return y
