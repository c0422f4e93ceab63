"""Train one model, record by record order from the seed tree, with the images kept as uint8 until a batch is made.

The epoch is one compiled loop over steps instead of `keras.Model.fit`: the same optimizer and layers, without the cost of a Python call
and a host copy a step, which for the case study's small models is most of the time (benchmarks/case_study.py holds the two together).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import keras

from memberscope import seeds

if TYPE_CHECKING:
    from memberscope.plan import Index

CHUNK_STEPS = 200  # steps between two looks at the stop flag and the progress bar
PREDICT_BATCH = 2_000


def epoch_order(members: Index, *, seed: int, epoch: int) -> Index:
    """The order in which an epoch (1, 2, ...) visits the members: the stream ``("order", epoch)`` of `seed`."""
    order: Index = members[seeds.stream(seed, "order", epoch).permutation(len(members))]
    return order


def to_tensor(x: NDArray[Any]) -> tf.Tensor:
    """Records as a tensor in their own type, made once and shared by all models that train on them."""
    return tf.constant(x)


def as_batch(x: tf.Tensor, index: tf.Tensor, scale: float) -> tf.Tensor:
    """Records by index, as float32 in [0, 1]."""
    return tf.cast(tf.gather(x, index), tf.float32) / scale


def fit(
    model: keras.Model,
    x: tf.Tensor,
    labels: NDArray[np.int64],
    members: Index,
    *,
    scale: float,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    after_epoch: Callable[[int], None],
    between_steps: Callable[[int], None],
) -> None:
    """Train `model` in place with Adam on cross-entropy, the loss averaged over each batch (the last may be smaller).

    Args:
        model: maps inputs in [0, 1] to logits.
        x: (n, ...) all records, uint8 or float32.
        labels: (n,) int64.
        members: (n_member,) which of them to train on.
        scale: what a record is divided by to lie in [0, 1].
        epochs: passes over the members.
        batch_size: records a step.
        learning_rate: of Adam.
        seed: the streams ``("order", epoch)`` decide the order.
        after_epoch: called with 0 before training, then with each epoch's number once it is done.
        between_steps: called with the number of steps just done, every `CHUNK_STEPS`; what it raises ends the training there.
    """
    optimizer = keras.optimizers.Adam(learning_rate)
    optimizer.build(model.trainable_variables)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    y = tf.constant(labels, dtype=tf.int64)

    def run_steps(order: tf.Tensor) -> None:
        for start in tf.range(0, tf.shape(order)[0], batch_size):
            index = order[start : start + batch_size]
            with tf.GradientTape() as tape:
                loss = cross_entropy(tf.gather(y, index), model(as_batch(x, index, scale), training=True))
            optimizer.apply_gradients(
                zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
            )

    compiled = tf.function(run_steps, input_signature=[tf.TensorSpec([None], tf.int64)])
    after_epoch(0)
    stride = CHUNK_STEPS * batch_size
    for epoch in range(1, epochs + 1):
        order = epoch_order(members, seed=seed, epoch=epoch)
        for start in range(0, len(order), stride):
            chunk = order[start : start + stride]
            compiled(tf.constant(chunk))
            between_steps(-(-len(chunk) // batch_size))
        after_epoch(epoch)


def predictor(model: keras.Model, x: tf.Tensor, *, scale: float) -> Callable[[Index], NDArray[np.float32]]:
    """A function from an index (m,) to logits (m, classes) float32, in large batches; traced once."""

    def forward(index: tf.Tensor) -> Any:
        return model(as_batch(x, index, scale), training=False)

    compiled = tf.function(forward, input_signature=[tf.TensorSpec([None], tf.int64)])

    def predict(index: Index) -> NDArray[np.float32]:
        parts = [compiled(tf.constant(index[i : i + PREDICT_BATCH])).numpy() for i in range(0, len(index), PREDICT_BATCH)]
        return np.concatenate(parts) if parts else np.empty((0, model.output_shape[-1]), np.float32)

    return predict


def predict_logits(model: keras.Model, x: tf.Tensor, index: Index, *, scale: float) -> NDArray[np.float32]:
    """Logits (len(index), classes) of some records."""
    return predictor(model, x, scale=scale)(index)
