"""What training leaves behind: weights and curves. Plain arrays, no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Weights = list[NDArray[np.float32]]  # in the order of keras.Model.get_weights


@dataclass(frozen=True, kw_only=True)
class Curves:
    """What training saw of its own members, epoch by epoch, each batch before its step (as `keras.Model.fit` reports it).

    Attributes:
        loss: (epochs,) mean cross-entropy, nats; against the smoothed labels if they are; without the penalty.
        accuracy: (epochs,) share classified rightly.
    """

    loss: NDArray[np.float64]
    accuracy: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """One model, trained."""

    weights: Weights
    curves: Curves
