"""The result of training: weights and curves, as plain arrays without TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Weights = list[NDArray[np.float32]]  # in the order of keras.Model.get_weights


@dataclass(frozen=True, kw_only=True)
class TrainingCurves:
    """Loss and accuracy on the members by epoch, measured on each batch before its step, as `keras.Model.fit` reports them.

    Attributes:
        loss: (epochs,) mean cross-entropy in nats, with smoothed labels if label smoothing is used, without the L2 penalty.
        accuracy: (epochs,) share of correct predictions.
    """

    loss: NDArray[np.float64]
    accuracy: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """One trained model."""

    weights: Weights
    curves: TrainingCurves
