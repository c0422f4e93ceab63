"""Gradient norms against one tape a record, and in closed form for the last layer."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from memberscope.models import build_model
from memberscope.training.keras.gradients import gradient_norms

N, CLASSES = 150, 3


@pytest.mark.parametrize(("kind", "shape"), [("mlp", (12,)), ("conv", (8, 8, 1))])
def test_norms_are_those_of_a_loop_over_records(kind: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memberscope.training.keras.gradients.BATCH", 64)  # a partial last batch
    rng = np.random.default_rng(0)
    x, labels = rng.integers(0, 256, (N, *shape)).astype(np.uint8), rng.integers(0, CLASSES, N)
    model = build_model(kind, depth=1, width=16, filters=4, input_shape=shape, classes=CLASSES, seed=0)
    index = rng.permutation(N)[:100]
    found = gradient_norms(model, tf.constant(x), index, labels[index], scale=255.0)
    layers = [layer for layer in model.layers if layer.trainable_weights]
    assert found.shape == (100, len(layers))
    for row in (0, 63, 64, 99):
        record = tf.constant(x[index[row]][None] / 255.0, dtype=tf.float32)
        with tf.GradientTape() as tape:
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels[index[row]][None], model(record))[0]
        gradients = tape.gradient(loss, [layer.trainable_weights for layer in layers])
        expected = [np.sqrt(sum(float(tf.reduce_sum(part**2)) for part in of_layer)) for of_layer in gradients]
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-7)
