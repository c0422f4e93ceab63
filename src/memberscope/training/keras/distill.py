"""Distillation of a model into a student, with the student's loss on chosen records after every epoch (Liu et al. 2022).

An attacker who sees only the final target trains a student on the target's outputs; the student's loss on a record over the epochs serves
as a substitute for the target's own loss on it during training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import keras

from memberscope.training.keras.fit import PREDICT_BATCH, as_batch, epoch_order, with_own_losses
from memberscope.training.recipe import LoopRecipe


def distill(
    recipe: LoopRecipe,
    x: tf.Tensor,
    *,
    scale: float,
    classes: int,
    transfer: NDArray[np.int64],
    teacher_logits: NDArray[np.float32],
    watched: NDArray[np.int64],
    watched_labels: NDArray[np.int64],
    epochs: int,
    seed: int,
    between_epochs: Callable[[], None] = lambda: None,
) -> NDArray[np.float64]:
    """Train a student of `recipe`'s architecture on the transfer records, with the cross-entropy to the teacher's softmax as loss.

    Cross-entropy to the teacher differs from the Kullback-Leibler divergence of Liu et al. (Eq. 2) by the teacher's entropy, which
    the student cannot change.

    Args:
        recipe: the student's architecture, batch size and learning rate.
        x: (n, ...) all records.
        scale: divisor that maps a record to [0, 1].
        classes: number of logits.
        transfer: (t,) positions of the records that the teacher labels; no model under attack was trained on them.
        teacher_logits: (t, classes) the teacher's logits for these records.
        watched: (w,) positions of the records whose loss is returned.
        watched_labels: (w,) their true classes.
        epochs: epochs of the distillation.
        seed: seed of the student's weights and order.
        between_epochs: called after every epoch; an exception from it ends the distillation.

    Returns:
        (w, epochs) losses of the true class in nats, one column per epoch.
    """
    student = recipe.build(input_shape=x.shape[1:], classes=classes, seed=seed)
    optimizer = keras.optimizers.Adam(recipe.learning_rate)
    optimizer.build(student.trainable_variables)
    soft = tf.nn.softmax(tf.constant(teacher_logits))
    chosen = tf.constant(transfer)
    labels = tf.constant(watched_labels)

    def run_epoch(order: tf.Tensor) -> None:
        for start in tf.range(0, tf.shape(order)[0], recipe.batch_size):
            at = order[start : start + recipe.batch_size]
            with tf.GradientTape() as tape:
                logits = student(as_batch(x, tf.gather(chosen, at), scale), training=True)
                loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(tf.gather(soft, at), logits))
                loss = with_own_losses(loss, student)
            optimizer.apply_gradients(
                zip(tape.gradient(loss, student.trainable_variables), student.trainable_variables, strict=True)
            )

    def losses(index: tf.Tensor, truth: tf.Tensor) -> Any:
        logits = tf.cast(student(as_batch(x, index, scale), training=False), tf.float64)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits)

    signature = tf.TensorSpec([None], tf.int64)
    step = tf.function(run_epoch, input_signature=[signature])
    look = tf.function(losses, input_signature=[signature, signature])
    kept = np.empty((len(watched), epochs))
    everyone = np.arange(len(transfer), dtype=np.int64)
    for epoch in range(epochs):
        step(tf.constant(epoch_order(everyone, seed=seed, epoch=epoch + 1)))
        for start in range(0, len(watched), PREDICT_BATCH):
            rows = slice(start, start + PREDICT_BATCH)
            kept[rows, epoch] = look(tf.constant(watched[rows]), labels[rows]).numpy()
        between_epochs()
    return kept
