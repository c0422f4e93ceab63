"""Clipped sums, both ways, against a loop of single-example gradients; what cannot be clipped fast is named."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from memberscope.errors import UserError
from memberscope.models import build_model
from memberscope.training.keras.clipping import chain_of, clipped_sum

L = keras.layers
N, CLASSES = 7, 3


def _model(shape: tuple[int, ...], *layers: keras.layers.Layer) -> keras.Model:
    model = keras.Sequential([L.Input(shape), *layers])
    rng = np.random.default_rng(3)
    for variable in model.trainable_variables:  # biases too
        variable.assign(rng.normal(scale=0.4, size=variable.shape))
    return model


def dense(units: int, **options: object) -> keras.layers.Layer:
    return L.Dense(units, kernel_initializer="zeros", **options)  # what Keras would draw by itself comes from no seed of ours


def conv(filters: int, size: object, **options: object) -> keras.layers.Layer:
    return L.Conv2D(filters, size, kernel_initializer="zeros", **options)


def _head() -> list[keras.layers.Layer]:
    return [L.Flatten(), dense(CLASSES)]


MODELS = {
    "dense": lambda: _model((6,), dense(5, activation="tanh"), dense(4, use_bias=False), L.ReLU(), dense(CLASSES)),
    "dense at positions, ghost norm": lambda: _model((2, 6), dense(8, activation="relu"), *_head()),
    "dense at positions, gradients": lambda: _model((9, 3), dense(4, activation="relu"), *_head()),
    "conv valid, direct": lambda: _model((8, 7, 2), conv(4, 3, activation="relu"), L.MaxPooling2D(), *_head()),
    "conv same": lambda: _model((8, 7, 2), conv(4, 3, padding="same", activation="relu"), L.AveragePooling2D(2), *_head()),
    "conv strides same": lambda: _model((8, 7, 2), conv(4, (3, 2), strides=(2, 3), padding="same"), *_head()),
    "conv strides valid": lambda: _model((9, 8, 2), conv(4, (2, 3), strides=(3, 2), use_bias=False), *_head()),
    "conv dilated": lambda: _model((9, 9, 2), conv(4, 3, dilation_rate=2), conv(3, 2, dilation_rate=(2, 1), padding="same"), *_head()),
    "conv ghost norm": lambda: _model((5, 5, 8), conv(9, 4, activation="tanh"), conv(16, 2), *_head()),
    "case study conv": lambda: build_model("conv", depth=2, input_shape=(12, 12, 1), classes=CLASSES, width=6, filters=4),
}  # fmt: skip


def _batch(model: keras.Model) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(N, *model.input_shape[1:])) * rng.uniform(0.1, 3, size=(N, *[1] * (len(model.input_shape) - 1)))
    return tf.constant(x, tf.float32), tf.constant(rng.integers(0, CLASSES, N)), tf.constant([1, 1, 1, 1, 1, 1, 0], tf.float32)


def _loop(
    model: keras.Model, x: tf.Tensor, y: tf.Tensor, mask: tf.Tensor, clip_norm: float
) -> tuple[list[np.ndarray], np.ndarray]:
    """The definition: one gradient at a time, in float64; and the norms."""
    total = [np.zeros(variable.shape) for variable in model.trainable_variables]
    norms = []
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for i in range(len(x)):
        with tf.GradientTape() as tape:
            loss = cross_entropy(y[i : i + 1], model(x[i : i + 1]))
        gradient = [part.numpy().astype(np.float64) for part in tape.gradient(loss, model.trainable_variables)]
        norms.append(np.sqrt(sum((part**2).sum() for part in gradient)))
        factor = float(mask[i]) * min(1.0, clip_norm / norms[-1])
        total = [sofar + factor * part for sofar, part in zip(total, gradient, strict=True)]
    return total, np.array(norms)


@pytest.mark.parametrize("way", ["fast", "per_example"])
@pytest.mark.parametrize("name", MODELS)
def test_equals_a_loop_of_single_example_gradients(name: str, way: str) -> None:
    model = MODELS[name]()
    x, y, mask = _batch(model)
    clip_norm = float(np.median(_loop(model, x, y, mask, 1.0)[1]))
    expected, norms = _loop(model, x, y, mask, clip_norm)
    assert (norms[:-1] < clip_norm).any()  # some are left alone and some are clipped
    assert (norms[:-1] > clip_norm).any()
    total, used, _ = clipped_sum(model, way, clip_norm)
    assert used == way
    scale = max(np.abs(part).max() for part in expected)
    for ours, theirs in zip(tf.function(total)(x, y, mask), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * scale, rtol=1e-5)


@pytest.mark.parametrize("way", ["fast", "per_example"])
def test_no_example_moves_the_sum_by_more_than_the_clip_norm(way: str) -> None:
    model = MODELS["conv same"]()
    x, y, _ = _batch(model)
    total, _, _ = clipped_sum(model, way, 0.01)
    for i in range(N):
        one = total(x, y, tf.one_hot(i, N))
        assert np.sqrt(sum((part.numpy() ** 2).sum() for part in one)) == pytest.approx(0.01, rel=1e-5)
    nobody = total(x, y, tf.zeros(N))
    assert all(np.array_equal(part, np.zeros(part.shape)) for part in nobody)


def test_dropout_draws_a_mask_for_each_example() -> None:
    model = _model((40,), L.Dropout(0.5, seed=1), dense(CLASSES, use_bias=False))
    x, y = tf.ones((4, 40)), tf.zeros(4, tf.int64)
    for way in ("fast", "per_example"):
        total, _, _ = clipped_sum(model, way, 1e9)
        rows = [total(x, y, tf.one_hot(i, 4))[0].numpy().any(axis=1) for i in range(2)]
        assert not np.array_equal(*rows)
        assert 5 < rows[0].sum() < 35  # half of 40, off by five deviations at most


def test_frozen_layers_are_passed_and_have_no_gradient() -> None:
    model = MODELS["dense"]()
    model.layers[0].trainable = False
    x, y, mask = _batch(model)
    total, way, _ = clipped_sum(model, "fast", 0.5)
    expected, _ = _loop(model, x, y, mask, 0.5)
    assert way == "fast"
    for ours, theirs in zip(total(x, y, mask), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def _two_inputs_to_one_layer() -> keras.Model:
    inputs = L.Input((6,))
    hidden = dense(6, name="first")(inputs)
    return keras.Model(inputs, dense(CLASSES)(L.Add(name="skip")([inputs, hidden])))


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (lambda: _model((6,), L.LayerNormalization(name="norm"), dense(CLASSES)), "'norm' is a LayerNormalization"),
        (lambda: _model((6, 6, 2), conv(2, 3, groups=2, name="grouped"), *_head()), "'grouped' is a Conv2D with groups"),
        (_two_inputs_to_one_layer, "'skip' takes more than the layer before it"),
    ],
)
def test_a_layer_that_fast_clipping_cannot_handle(model: object, named: str) -> None:
    built = model()
    with pytest.raises(UserError, match=f"clipping=fast: layer {named}"):
        clipped_sum(built, "fast", 1.0)
    if "Conv2D" in named:  # TensorFlow has no gradient of grouped convolutions on a processor
        return
    total, way, reason = clipped_sum(built, "auto", 0.7)
    assert way == "per_example"
    assert named in reason
    x, y, mask = _batch(built)
    for ours, theirs in zip(total(x, y, mask), _loop(built, x, y, mask, 0.7)[0], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_layer_used_twice_is_no_chain() -> None:
    inputs, twice = L.Input((6,)), dense(6, name="twice")
    assert "'last' takes more" in chain_of(keras.Model(inputs, dense(CLASSES, name="last")(twice(twice(inputs)))))[1]
    assert "'twice' is not the model's one output" in chain_of(keras.Model(inputs, twice(twice(inputs))))[1]


@pytest.mark.parametrize("way", ["auto", "fast", "per_example"])
def test_batch_normalization_is_refused_every_way(way: str) -> None:
    model = _model((6,), dense(4), L.BatchNormalization(name="bn"), dense(CLASSES))
    with pytest.raises(UserError, match="'bn' normalizes over the batch"):
        clipped_sum(model, way, 1.0)


def test_bad_settings_are_named() -> None:
    with pytest.raises(UserError, match="clipping=slow: unknown"):
        clipped_sum(MODELS["dense"](), "slow", 1.0)
    with pytest.raises(UserError, match="clip_norm=0"):
        clipped_sum(MODELS["dense"](), "auto", 0.0)
