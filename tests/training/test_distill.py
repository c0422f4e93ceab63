"""A student learns what its teacher says, and its losses on watched records are kept epoch by epoch."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from tensorflow import keras

from memberscope.training.keras.distill import distill
from memberscope.training.keras.fit import epoch_order
from memberscope.training.recipe import Recipe

RECIPE = Recipe(model="mlp", depth=1, width=16, epochs=1, batch_size=16, learning_rate=0.01)
N, CLASSES = 100, 3


def _run(*, epochs: int, labels: np.ndarray, teacher: np.ndarray, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(0).random((N, 6)).astype(np.float32)
    watched = np.arange(60, N)
    return distill(
        RECIPE, tf.constant(x), scale=1.0, classes=CLASSES, transfer=np.arange(60), teacher_logits=teacher, watched=watched,
        watched_labels=labels[watched], epochs=epochs, seed=seed,
    )  # fmt: skip


def _teacher() -> np.ndarray:
    x = np.random.default_rng(0).random((N, 6)).astype(np.float32)
    return (6.0 * x @ np.random.default_rng(1).normal(size=(6, CLASSES))).astype(np.float32)


def test_losses_are_those_of_a_keras_student_after_every_epoch() -> None:
    logits = _teacher()
    labels = logits.argmax(axis=1)
    found = _run(epochs=3, labels=labels, teacher=logits[:60])
    x = np.random.default_rng(0).random((N, 6)).astype(np.float32)
    student = RECIPE.build(input_shape=(6,), classes=CLASSES, seed=0)
    student.compile(keras.optimizers.Adam(0.01), keras.losses.CategoricalCrossentropy(from_logits=True))
    soft = tf.nn.softmax(logits[:60]).numpy()
    for epoch in range(3):
        order = epoch_order(np.arange(60, dtype=np.int64), seed=0, epoch=epoch + 1)
        student.fit(x[order], soft[order], batch_size=16, shuffle=False, verbose=0)
        said = tf.nn.log_softmax(student(x[60:])).numpy()
        np.testing.assert_allclose(found[:, epoch], -said[np.arange(40), labels[60:]], rtol=1e-3, atol=1e-5)


def test_a_student_comes_to_agree_with_its_teacher_and_the_labels_train_nothing() -> None:
    logits = _teacher()
    labels = logits.argmax(axis=1)
    losses = _run(epochs=40, labels=labels, teacher=logits[:60])
    assert losses[:, -1].mean() < 0.6 * losses[:, 0].mean()
    wrong = _run(epochs=40, labels=(labels + 1) % CLASSES, teacher=logits[:60])
    assert wrong[:, -1].mean() > wrong[:, 0].mean(), "the student follows the teacher, whatever the watched labels are"
