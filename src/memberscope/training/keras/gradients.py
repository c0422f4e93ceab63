"""Norms of the gradient of the loss by record and layer, which the owner of a model's weights can compute (Nasr et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import keras

from memberscope.training.keras.fit import as_batch

BATCH = 128


def gradient_norms(
    model: keras.Model,
    x: tf.Tensor,
    index: NDArray[np.int64],
    labels: NDArray[np.int64],
    *,
    scale: float,
    between_batches: Callable[[int], None] = lambda records: None,
) -> NDArray[np.float64]:
    """The Euclidean norm of each record's gradient of the cross-entropy, by layer (kernel and bias together).

    Args:
        model: maps inputs in [0, 1] to logits.
        x: (n, ...) all records.
        index: (m,) positions of the records to use.
        labels: (m,) their classes.
        scale: divisor that maps a record to [0, 1].
        between_batches: called with the number of records just done.

    Returns:
        (m, layers) float64, for the layers with weights in the order of the model.
    """
    layers = [layer for layer in model.layers if layer.trainable_weights]

    def of_one(row: tuple[tf.Tensor, tf.Tensor]) -> Any:
        record, label = row
        with tf.GradientTape() as tape:
            logits = model(record[None], training=False)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(label[None], logits)[0]
        weights = [layer.trainable_weights for layer in layers]
        gradients = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return tf.stack([tf.sqrt(tf.add_n([_square(part) for part in of_layer])) for of_layer in gradients])

    def of_batch(at: tf.Tensor, truth: tf.Tensor) -> Any:
        return tf.vectorized_map(of_one, (as_batch(x, at, scale), truth))

    signature = tf.TensorSpec([None], tf.int64)
    compiled = tf.function(of_batch, input_signature=[signature, signature])
    norms = np.empty((len(index), len(layers)))
    for start in range(0, len(index), BATCH):
        rows = slice(start, start + BATCH)
        norms[rows] = compiled(tf.constant(index[rows]), tf.constant(labels[rows])).numpy()
        between_batches(len(index[rows]))
    return norms


def _square(gradient: tf.Tensor | tf.IndexedSlices) -> tf.Tensor:
    """The sum of a gradient's squared entries; that of an embedding holds only the rows that were looked up."""
    return tf.reduce_sum(tf.square(tf.convert_to_tensor(gradient)))
