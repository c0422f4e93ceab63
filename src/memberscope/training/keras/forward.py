"""Outputs of models of one architecture: a forward pass is compiled once and kept, and the models' weights are loaded into it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tensorflow import keras

Weights = Sequence[NDArray[np.float32]]

BATCH = 2_000  # records per call of the compiled program


class ForwardPass:
    """One model into which weights are loaded; not thread-safe."""

    def __init__(self, model: keras.Model, dtype: np.dtype[Any]) -> None:
        """Compile it for records of type `dtype`; uint8 is divided by 255, any other type is not scaled."""
        import tensorflow as tf

        scale = 255.0 if dtype == np.uint8 else 1.0

        def forward(batch: tf.Tensor) -> Any:
            return model(tf.cast(batch, tf.float32) / scale, training=False)

        self._model = model
        self._compiled = tf.function(forward, input_signature=[tf.TensorSpec([None, *model.input_shape[1:]], dtype)])
        self._weights: Weights | None = None

    def __call__(self, weights: Weights, x: NDArray[Any]) -> NDArray[np.float32]:
        """Logits (m, classes) of records (m, ...)."""
        import tensorflow as tf

        if weights is not self._weights:  # a climb queries the same model thousands of times
            self._model.set_weights(weights)
            self._weights = weights
        out = np.empty((len(x), self._model.output_shape[-1]), np.float32)
        for start in range(0, len(x), BATCH):
            part = slice(start, start + BATCH)
            out[part] = self._compiled(tf.constant(x[part])).numpy()
        return out


class ForwardPasses:
    """A pool of forward passes of one architecture, as many as there are threads that use them at once."""

    def __init__(self) -> None:
        """Create an empty pool."""
        self._idle: dict[np.dtype[Any], list[ForwardPass]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def lend(self, build: Callable[[], keras.Model], dtype: np.dtype[Any]) -> Generator[ForwardPass]:
        """Context with a forward pass that no other thread uses; it is built if none is idle."""
        with self._lock:
            idle = self._idle.setdefault(dtype, [])
            lent = idle.pop() if idle else None
        lent = lent or ForwardPass(build(), dtype)
        yield lent
        with self._lock:
            idle.append(lent)
