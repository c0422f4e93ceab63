"""Adversarial regularization against its algorithm written out, against plain training at strength 0, and for what it is there to do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from memberscope import seeds
from memberscope.errors import UserError
from memberscope.metrics import auc
from memberscope.models import build_model
from memberscope.predictions import Predictions
from memberscope.signals import loss_nats
from memberscope.training.keras.adversarial import AdversarialTraining, build_attack, fit_adversarial
from memberscope.training.keras.fit import epoch_order, fit, predictor

MEMBERS, REFERENCE, NONMEMBERS = np.arange(100), np.arange(100, 200), np.arange(200, 400)
SETTINGS = {
    "scale": 1.0, "epochs": 40, "batch_size": 20, "learning_rate": 0.005, "seed": 0,
    "after_epoch": lambda epoch: None, "between_steps": lambda steps: None,
}  # fmt: skip


def _data() -> tuple[np.ndarray, np.ndarray]:
    """Four blobs that overlap, three tenths of the labels at random: there is something to learn, and much to memorize."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 400)
    x = rng.normal(size=(4, 30))[y] * 0.5 + rng.normal(size=(400, 30))
    return x.astype(np.float32), np.where(rng.random(400) < 0.3, rng.integers(0, 4, 400), y)


def _model() -> keras.Model:
    return build_model("mlp", depth=1, input_shape=(30,), classes=4, width=32, seed=0)


def _plain(**changes: object) -> keras.Model:
    x, y = _data()
    model = _model()
    fit(model, tf.constant(x), y, MEMBERS, **{**SETTINGS, **changes})
    return model


def _defended(model: keras.Model, **changes: object) -> AdversarialTraining:
    x, y = _data()
    return fit_adversarial(model, tf.constant(x), y, MEMBERS, REFERENCE, **{"strength": 1.0, **SETTINGS, **changes})


def _leak(model: keras.Model) -> tuple[float, float]:
    """AUC of the loss threshold, and accuracy on the non-members."""
    x, y = _data()
    audited = np.concatenate([MEMBERS, NONMEMBERS])
    logits = predictor(model, tf.constant(x), scale=1.0)(audited)
    predictions = Predictions(logits=logits, labels=y[audited], member=np.arange(len(audited)) < len(MEMBERS))
    accuracy = float((logits.argmax(axis=1) == y[audited])[len(MEMBERS) :].mean())
    return auc(-loss_nats(predictions), predictions.member).value, accuracy


def test_one_epoch_is_the_algorithm_written_out() -> None:
    x, y = _data()
    strength, steps, batch = 2.0, 3, 50
    ours, theirs = _model(), _model()
    training = _defended(ours, epochs=1, batch_size=batch, attack_steps=steps, strength=strength)
    attack = build_attack(4, width=0.25, seed=0)
    optimizer, attack_optimizer = keras.optimizers.Adam(0.005), keras.optimizers.Adam(0.001)
    order, rng = epoch_order(MEMBERS, seed=0, epoch=1), seeds.stream(0, "attack_batches", 1)
    draws = [side[rng.integers(0, 100, (2 * steps, batch))] for side in (MEMBERS, REFERENCE)]

    def h(index: np.ndarray) -> tf.Tensor:
        return tf.sigmoid(attack([tf.nn.softmax(theirs(x[index])), tf.one_hot(y[index], 4)]))

    gains = []
    for step in range(2):
        for k in range(step * steps, (step + 1) * steps):
            with tf.GradientTape() as tape:
                gain = tf.reduce_mean(tf.math.log(h(draws[0][k]))) / 2 + tf.reduce_mean(tf.math.log(1 - h(draws[1][k]))) / 2
                loss = -gain
            gains.append(float(gain))
            attack_optimizer.apply_gradients(
                zip(tape.gradient(loss, attack.trainable_variables), attack.trainable_variables, strict=True)
            )
        index = order[step * batch : (step + 1) * batch]
        with tf.GradientTape() as tape:
            likelihood = tf.nn.sparse_softmax_cross_entropy_with_logits(y[index], theirs(x[index]))[:, tf.newaxis]
            loss = tf.reduce_mean(likelihood + strength * tf.math.log(h(index)))
        optimizer.apply_gradients(zip(tape.gradient(loss, theirs.trainable_variables), theirs.trainable_variables, strict=True))
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    for a, b in zip(training.attack.get_weights(), attack.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    assert training.gains == (pytest.approx(np.mean(gains), abs=1e-5),)


def test_strength_zero_is_plain_training() -> None:
    model = _model()
    _defended(model, strength=0.0, epochs=3, batch_size=32)  # the last batch is smaller
    for a, b in zip(model.get_weights(), _plain(epochs=3, batch_size=32).get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.thorough  # whole trainings; `make test` has the algorithm written out above, and fine-tunes below
def test_it_closes_the_gap_and_the_attack_in_the_loop_is_kept_down() -> None:
    """Undefended 0.734 on this data and seed; strength 3 gave 0.63, and 10 a model that has learned next to nothing."""
    undefended, accuracy = _leak(_plain())
    assert 0.68 < undefended < 0.80
    model, watched = _model(), _model()
    training = _defended(model, strength=3.0)
    leak, _ = _leak(model)
    assert 0.52 < leak < undefended - 0.05
    alone = _defended(watched, strength=0.0)  # the same attack, and nobody who minds
    assert -math.log(2) - 0.05 < training.gains[0] < -math.log(2) + 0.05
    assert training.gains[-1] < alone.gains[-1] - 0.1
    assert len(training.gains) == 40
    assert accuracy > 0.5  # of four classes: the undefended model had something to give up


def test_a_trained_model_is_fine_tuned_after_the_attack_has_warmed_up() -> None:
    model = _plain()
    before, _ = _leak(model)
    training = _defended(model, strength=3.0, warm_up_steps=200)
    after, accuracy = _leak(model)
    assert 0.52 < after < before - 0.03
    assert 0.35 < accuracy < 0.75
    assert training.gains[0] > -math.log(2) + 0.03  # the attack knew something when the first epoch began


@pytest.mark.thorough  # `make test` has seeds in test_fit.py and test_private.py, and this algorithm written out above
def test_same_seed_same_weights_other_seed_others() -> None:
    def trained(seed: int) -> list[np.ndarray]:
        model = _model()
        _defended(model, epochs=2, seed=seed)
        return model.get_weights()

    first, again, other = trained(1), trained(1), trained(2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_epochs_are_announced_and_steps_counted() -> None:
    told: list[int] = []
    _defended(_model(), epochs=2, batch_size=30, after_epoch=told.append, between_steps=told.append)
    assert told == [0, 4, 1, 4, 2]


def test_the_attack_has_the_published_layers_at_width_one() -> None:
    attack = build_attack(10, width=1.0, seed=0)
    units = [layer.units for layer in attack.layers if isinstance(layer, keras.layers.Dense)]
    assert sorted(units) == sorted([1024, 512, 64, 512, 64, 256, 64, 1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"strength": -1.0}, "strength=-1"),
        ({"attack_steps": 0}, "attack_steps=0"),
        ({"warm_up_steps": -1}, "warm_up_steps=-1"),
        ({"attack_width": 0.0}, "attack_width=0"),
    ],
)
def test_bad_settings_are_named(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        _defended(_model(), **changes)


def test_reference_records_are_needed_and_are_no_members() -> None:
    x, y = _data()
    for reference, said in ((np.arange(0), "reference: 0 records"), (np.arange(98, 120), "reference: 2 of its 22 records")):
        with pytest.raises(UserError, match=said):
            fit_adversarial(_model(), tf.constant(x), y, MEMBERS, reference, strength=1.0, **SETTINGS)
