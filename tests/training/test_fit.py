"""The compiled loop against Keras's own, partial batches included, and its promises about order and stopping."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from memberscope.errors import Interrupted
from memberscope.interrupt import StopFlag
from memberscope.models import build_model
from memberscope.training.fit import epoch_order, fit, predict_logits

N, BATCH, EPOCHS = 130, 32, 3


def _data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (N, 8, 8, 1), dtype=np.uint8), rng.integers(0, 3, N), rng.permutation(N)[:110]


def _fit(model: keras.Model, **changes: object) -> None:
    x, y, members = _data()
    settings = {
        "scale": 255.0, "epochs": EPOCHS, "batch_size": BATCH, "learning_rate": 0.01, "seed": 7,
        "after_epoch": lambda epoch: None, "between_steps": lambda steps: None, **changes,
    }  # fmt: skip
    fit(model, tf.constant(x), y, members, **settings)


@pytest.mark.parametrize("architecture", ["conv", "dense"])
def test_weights_equal_those_of_keras_fit_with_partial_batches(architecture: str) -> None:
    x, y, members = _data()
    ours = build_model(architecture, depth=1, input_shape=(8, 8, 1), classes=3, seed=4)
    theirs = build_model(architecture, depth=1, input_shape=(8, 8, 1), classes=3, seed=4)
    _fit(ours)
    theirs.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for epoch in range(1, EPOCHS + 1):
        order = epoch_order(members, seed=7, epoch=epoch)
        theirs.fit(x[order].astype(np.float32) / 255, y[order], batch_size=BATCH, shuffle=False, verbose=0)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


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
    np.testing.assert_allclose(predict_logits(model, tf.constant(x), members, scale=255.0), expected, atol=1e-5)
