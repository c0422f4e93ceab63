"""The compiled loop against Keras's own, partial batches included, and its promises about order and stopping."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from memberscope.errors import Interrupted
from memberscope.interrupt import StopFlag
from memberscope.models import build_model
from memberscope.training.keras.fit import _with_dropout, epoch_order, fit, predictor
from memberscope.training.keras.weights import TrainingCurves

N, BATCH, EPOCHS = 130, 32, 3


def _data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (N, 8, 8, 1), dtype=np.uint8), rng.integers(0, 3, N), rng.permutation(N)[:110]


def _fit(model: keras.Model, **changes: object) -> TrainingCurves:
    x, y, members = _data()
    settings = {
        "scale": 255.0, "epochs": EPOCHS, "batch_size": BATCH, "learning_rate": 0.01, "seed": 7,
        "after_epoch": lambda epoch: None, "between_steps": lambda steps: None, **changes,
    }  # fmt: skip
    return fit(model, tf.constant(x), y, members, **settings)


@pytest.mark.parametrize(
    ("architecture", "l2", "smoothing"),
    [("conv", 0.0, 0.0), ("dense", 0.0, 0.0), ("conv", 0.02, 0.2)],
    ids=["conv", "dense", "penalized"],
)
def test_weights_and_curves_equal_those_of_keras_fit_with_partial_batches(
    architecture: str, l2: float, smoothing: float
) -> None:
    x, y, members = _data()
    # with seed 4 the penalized model meets a kink at which a last digit decides, and so the number of threads
    ours = build_model(architecture, depth=1, input_shape=(8, 8, 1), classes=3, seed=5)
    theirs = build_model(architecture, depth=1, input_shape=(8, 8, 1), classes=3, seed=5)
    curves = _fit(ours, l2=l2, label_smoothing=smoothing)
    entropy = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)

    def loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        kernels = [layer.kernel for layer in theirs.layers if hasattr(layer, "kernel")]
        return entropy(labels, logits) + l2 * tf.add_n([tf.reduce_sum(tf.square(kernel)) for kernel in kernels])

    theirs.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    for epoch in range(1, EPOCHS + 1):
        order = epoch_order(members, seed=7, epoch=epoch)
        batches = x[order].astype(np.float32) / 255, np.eye(3)[y[order]]
        history = theirs.fit(*batches, batch_size=BATCH, shuffle=False, verbose=0).history
        assert curves.accuracy[epoch - 1] == pytest.approx(history["accuracy"][0], abs=1e-6)
        if not l2:  # Keras counts the penalty in, ours does not
            assert curves.loss[epoch - 1] == pytest.approx(history["loss"][0], rel=1e-5)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_dropout_is_a_stream_of_the_seed_and_keeps_the_mean() -> None:
    x = tf.ones((4_000, 8, 8, 1))
    model = build_model("dense", depth=1, input_shape=(8, 8, 1), classes=3, width=32, activation="linear", seed=1)
    once, again, later, other = (
        _with_dropout(model, 0.3)(x, tf.constant(step), tf.range(key, key + 3)).numpy()
        for key, step in ((0, 1), (0, 1), (0, 2), (9, 1))
    )
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, later)
    assert not np.array_equal(once, other)
    # the layers are linear, so the mean over masks is the undropped output; beyond 4 standard errors in less than one of a thousand runs
    plain, error = model(x).numpy()[0], once.std(axis=0) / np.sqrt(len(once))
    assert np.all(np.abs(once.mean(axis=0) - plain) < 4 * error)
    assert np.all(error > 0)


def test_dropout_slows_the_fit_and_is_off_by_default() -> None:
    def trained(**changes: object) -> tuple[list[np.ndarray], TrainingCurves]:
        model = build_model("dense", depth=1, input_shape=(8, 8, 1), classes=3, seed=4)
        curves = _fit(model, epochs=12, **changes)
        return model.get_weights(), curves

    (plain, fast), (off, _), (dropped, slow) = trained(), trained(dropout=0.0), trained(dropout=0.5)
    assert all(np.array_equal(a, b) for a, b in zip(plain, off, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(plain[::2], dropped[::2], strict=True))
    assert fast.loss[-1] < slow.loss[-1]


def test_same_seed_same_weights_other_seed_others() -> None:
    def trained(seed: int) -> list[np.ndarray]:
        model = build_model("conv", depth=1, input_shape=(8, 8, 1), classes=3, seed=seed)
        _fit(model, seed=seed)
        return model.get_weights()

    first, again, other = trained(1), trained(1), trained(2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_epochs_are_announced_from_zero_and_steps_counted() -> None:
    epochs: list[int] = []
    steps: list[int] = []
    _fit(build_model("dense", depth=1, input_shape=(8, 8, 1), classes=3), after_epoch=epochs.append, between_steps=steps.append)
    assert epochs == [0, 1, 2, 3]
    assert sum(steps) == EPOCHS * -(-110 // BATCH)


def test_each_epoch_visits_each_member_once_in_its_own_order() -> None:
    members = np.array([5, 9, 2, 7, 1, 8])
    orders = [epoch_order(members, seed=0, epoch=epoch) for epoch in (1, 2)]
    assert all(sorted(order) == sorted(members) for order in orders)
    assert not np.array_equal(*orders)


def test_a_stop_ends_training_at_the_next_check() -> None:
    stop = StopFlag()
    seen: list[int] = []

    def between_steps(steps: int) -> None:
        seen.append(steps)
        stop.set()
        stop.check()

    with pytest.raises(Interrupted):
        _fit(build_model("dense", depth=1, input_shape=(8, 8, 1), classes=3), between_steps=between_steps)
    assert len(seen) == 1


def test_logits_are_the_models_own() -> None:
    x, _, members = _data()
    model = build_model("dense", depth=1, input_shape=(8, 8, 1), classes=3)
    expected = model(x[members].astype(np.float32) / 255).numpy()
    np.testing.assert_allclose(predictor(model, tf.constant(x), scale=255.0)(members), expected, atol=1e-5)
