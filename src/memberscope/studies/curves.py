"""What models report while they are trained, by step, as runs log it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

EPOCH = "epoch"  # the name under which a training function reports the number of an epoch


def by_step(curves: Mapping[str, NDArray[np.float64]]) -> Iterator[tuple[int, dict[str, float]]]:
    """Each step with the mean over the models of every value that they reported; a mean that is not finite is left out.

    Args:
        curves: (models, reports) by name, see `memberscope.training.trainer.Fleet.curves`. A step is the number that was reported as
            ``epoch``, if all models reported the same whole numbers in rising order; else reports are counted from 1.
    """
    values = {name: found for name, found in curves.items() if name != EPOCH}
    reports = next(iter(values.values())).shape[1] if values else 0
    for place, step in enumerate(_steps(curves.get(EPOCH), reports)):
        means = {name: float(found[:, place].mean()) for name, found in values.items()}
        yield step, {name: mean for name, mean in means.items() if np.isfinite(mean)}


def _steps(epochs: NDArray[np.float64] | None, reports: int) -> list[int]:
    counted = list(range(1, reports + 1))
    if epochs is None or not epochs.size:
        return counted
    first = epochs[0]
    numbers = np.isfinite(epochs).all() and (epochs == np.round(first)).all() and (first >= 0).all()
    return [int(one) for one in first] if numbers and (np.diff(first) > 0).all() else counted
