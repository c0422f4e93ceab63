"""Adversarial regularization (Nasr, Shokri & Houmansadr 2018, Algorithm 1): training against an attack that is trained alongside.

An attack model h predicts from a prediction and its label whether the record is a member. It ascends its gain on members D and on
reference records D', non-members that the defender has,

    G(h) = 1/2 E_D log h(f(x), y) + 1/2 E_D' log(1 - h(f(x), y)),

for `attack_steps` batches; then the classifier f descends cross-entropy + strength * log h(f(x), y) on one batch of members. At
chance G is -log 2.

We differ as follows: the attack's layers are `attack_width` times as wide as published (a quarter by default, since several attack steps
for each step of a small classifier would take most of the time), and are initialized by Glorot's distribution instead of a standard
deviation of 0.01, with which they hardly learn for the first epochs.

A mitigation must not be assessed by the attack that it was trained against: the reference records are never audited, and the audit uses
other attacks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import keras

from memberscope import seeds
from memberscope.errors import UserError
from memberscope.training.keras.fit import CHUNK_STEPS, as_batch, epoch_order, reset, with_own_losses

if TYPE_CHECKING:
    from memberscope.plans.split import Index

PREDICTION_WIDTHS, LABEL_WIDTHS, JOINT_WIDTHS = (1024, 512, 64), (512, 64), (256, 64)  # Nasr et al. 2018, Figure 3
NARROWEST = 4  # fewest units of an attack layer


@dataclass(frozen=True, kw_only=True)
class AdversarialTraining:
    """The attack that a classifier was trained against.

    Attributes:
        gains: (epochs,) mean gain G of the attack over its steps in each epoch, in nats; -log 2 is chance, 0 is certainty.
        attack: the attack model at the end: probabilities (n, classes) and one-hot labels (n, classes) -> logit of membership (n, 1).
    """

    gains: tuple[float, ...]
    attack: keras.Model


def build_attack(classes: int, *, width: float, seed: int) -> keras.Model:
    """The inference model: one branch for the prediction, one for the one-hot label, joined; ReLU throughout, one logit at the end.

    Args:
        classes: length of both inputs.
        width: width of each layer in units of the published one; no layer is narrower than `NARROWEST`.
        seed: the streams ``("attack", layer)`` draw the weights.
    """
    layers = keras.layers

    def dense(name: str, units: int, activation: str | None = "relu") -> keras.layers.Layer:
        initial = keras.initializers.GlorotUniform(seed=seeds.integer(seed, "attack", name))
        return layers.Dense(units, activation=activation, kernel_initializer=initial, name=name)

    def branch(x: tf.Tensor, name: str, widths: tuple[int, ...]) -> tf.Tensor:
        for number, units in enumerate(widths, start=1):
            x = dense(f"{name}_{number}", max(NARROWEST, round(width * units)))(x)
        return x

    probs, label = layers.Input([classes], name="probs"), layers.Input([classes], name="label")
    both = layers.Concatenate(name="both")(
        [branch(probs, "prediction", PREDICTION_WIDTHS), branch(label, "label", LABEL_WIDTHS)]
    )
    return keras.Model([probs, label], dense("member", 1, None)(branch(both, "joint", JOINT_WIDTHS)), name="attack")


def fit_adversarial(
    model: keras.Model,
    x: tf.Tensor,
    labels: NDArray[np.int64],
    members: Index,
    reference: Index,
    *,
    scale: float,
    strength: float,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    after_epoch: Callable[[int], None],
    between_steps: Callable[[int], None],
    attack_steps: int = 5,
    warm_up_steps: int = 0,
    attack_width: float = 0.25,
    attack_learning_rate: float = 1e-3,
) -> AdversarialTraining:
    """Train `model` in place: from scratch if it is new, or as fine-tuning if it is trained (then set `warm_up_steps` for the attack).

    The classifier visits the members in the order and batches of `memberscope.training.keras.fit.fit` and has the same Adam: at strength
    0 the result is the same.

    Args:
        model: maps inputs in [0, 1] to logits.
        x: (n, ...) all records, uint8 or float32.
        labels: (n,) int64.
        members: (n_member,) positions of the records to train on.
        reference: (n_reference,) positions of the defender's reference records: non-members that are never audited.
        scale: divisor that maps a record to [0, 1].
        strength: lambda, at least 0.
        epochs: passes over the members.
        batch_size: members per step of the classifier; members, and as many reference records, per step of the attack.
        learning_rate: learning rate of the classifier's Adam.
        seed: the streams ``("order", epoch)`` as in `fit`, ``("attack_batches", epoch)`` for the attack's draws (with replacement),
            ``("attack", layer)`` for its weights.
        after_epoch: called with 0 before training, then with each epoch's number once it is done.
        between_steps: called with the number of the classifier's steps just done; an exception from it ends the training.
        attack_steps: steps of the attack before each step of the classifier, at least 1.
        warm_up_steps: steps of the attack before the first step of the classifier.
        attack_width: width of the attack's layers in units of the published ones.
        attack_learning_rate: learning rate of the attack's Adam.

    Raises:
        UserError: there are no reference records, or some of them are members; a setting is out of range.
    """
    check_adversarial(
        members, reference, strength=strength, attack_steps=attack_steps, warm_up_steps=warm_up_steps, attack_width=attack_width
    )
    compiled = CompiledAdversarial(
        model, x, labels, scale=scale, strength=strength, batch_size=batch_size, learning_rate=learning_rate, attack_steps=attack_steps,
        attack_width=attack_width, attack_learning_rate=attack_learning_rate,
    )  # fmt: skip
    gains = compiled.run(
        members, reference, epochs=epochs, seed=seed, after_epoch=after_epoch, between_steps=between_steps,
        warm_up_steps=warm_up_steps,
    )  # fmt: skip
    return AdversarialTraining(gains=gains, attack=compiled.attack)


class CompiledAdversarial:
    """The compiled adversarial training of one model: compiled once, then run for one set of weights, members and seed after another.

    Not thread-safe: the variables of both models are the state of the training.

    Attributes:
        model: the classifier.
        attack: the attack that is trained alongside.
    """

    def __init__(
        self, model: keras.Model, x: tf.Tensor, labels: NDArray[np.int64], *, scale: float, strength: float, batch_size: int,
        learning_rate: float, attack_steps: int = 5, attack_width: float = 0.25, attack_learning_rate: float = 1e-3,
    ) -> None:  # fmt: skip
        """Define both steps, which are traced at the first call; for the arguments see `fit_adversarial`."""
        self.model, self._batch, self._attack_steps, self._width = model, batch_size, attack_steps, attack_width
        self._classes = classes = model.output_shape[-1]
        self.attack = attack = build_attack(classes, width=attack_width, seed=0)
        optimizer, attack_optimizer = keras.optimizers.Adam(learning_rate), keras.optimizers.Adam(attack_learning_rate)
        self._optimizers = (optimizer, attack_optimizer)
        optimizer.build(model.trainable_variables)
        attack_optimizer.build(attack.trainable_variables)
        cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        y = tf.constant(labels, dtype=tf.int64)

        def membership(logits: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
            return attack([tf.nn.softmax(logits), tf.one_hot(tf.gather(y, index), classes)], training=True)

        def attack_once(pair: tf.Tensor) -> tf.Tensor:
            """One step of h on members pair[0] and reference records pair[1]; returns the gain before the step."""
            index = tf.reshape(pair, [-1])
            logits = model(as_batch(x, index, scale), training=False)
            sign = tf.repeat([-1.0, 1.0], tf.shape(pair)[1])[:, tf.newaxis]
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.nn.softplus(sign * membership(logits, index)))  # -log h, -log(1 - h)
            attack_optimizer.apply_gradients(
                zip(tape.gradient(loss, attack.trainable_variables), attack.trainable_variables, strict=True)
            )
            return -loss

        def run_steps(order: tf.Tensor, pairs: tf.Tensor) -> tf.Tensor:
            gain, attacked = 0.0, 0
            for start in tf.range(0, tf.shape(order)[0], batch_size):
                for _ in tf.range(attack_steps):
                    gain += attack_once(pairs[attacked])
                    attacked += 1
                index = order[start : start + batch_size]
                with tf.GradientTape() as tape:
                    logits = model(as_batch(x, index, scale), training=True)
                    log_h = -tf.nn.softplus(-membership(logits, index))
                    loss = with_own_losses(cross_entropy(tf.gather(y, index), logits) + strength * tf.reduce_mean(log_h), model)
                optimizer.apply_gradients(
                    zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
                )
            return gain

        def warm_up(pairs: tf.Tensor) -> None:
            for pair in pairs:
                attack_once(pair)

        drawn = tf.TensorSpec([None, 2, None], tf.int64)
        self._run_steps = tf.function(run_steps, input_signature=[tf.TensorSpec([None], tf.int64), drawn])
        self._warm_up = tf.function(warm_up, input_signature=[drawn])

    def run(
        self, members: Index, reference: Index, *, epochs: int, seed: int, after_epoch: Callable[[int], None],
        between_steps: Callable[[int], None], warm_up_steps: int = 0,
    ) -> tuple[float, ...]:  # fmt: skip
        """Train the model from its present weights against a new attack, both with newly initialized optimizers; returns the gains.

        For the arguments see `fit_adversarial`.
        """
        self.attack.set_weights(build_attack(self._classes, width=self._width, seed=seed).get_weights())
        for optimizer in self._optimizers:
            reset(optimizer)
        after_epoch(0)
        if warm_up_steps:
            pairs = _pairs(members, reference, self._batch, warm_up_steps, seeds.stream(seed, "attack_batches", 0))
            self._warm_up(tf.constant(pairs))
        gains = []
        stride = CHUNK_STEPS * self._batch
        for epoch in range(1, epochs + 1):
            order = epoch_order(members, seed=seed, epoch=epoch)
            rng = seeds.stream(seed, "attack_batches", epoch)
            gain, attacked = 0.0, 0
            for start in range(0, len(order), stride):
                chunk = order[start : start + stride]
                steps = -(-len(chunk) // self._batch)
                pairs = _pairs(members, reference, self._batch, steps * self._attack_steps, rng)
                gain += float(self._run_steps(tf.constant(chunk), tf.constant(pairs)))
                attacked += steps * self._attack_steps
                between_steps(steps)
            gains.append(gain / attacked)
            after_epoch(epoch)
        return tuple(gains)


def _pairs(members: Index, reference: Index, batch_size: int, steps: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions (steps, 2, batch_size) of members and of reference records, each drawn with replacement."""
    sides = [side[rng.integers(0, len(side), (steps, batch_size))] for side in (members, reference)]
    pairs: NDArray[np.int64] = np.stack(sides, axis=1)
    return pairs


def check_adversarial(
    members: Index,
    reference: Index,
    *,
    strength: float,
    attack_steps: int = 5,
    warm_up_steps: int = 0,
    attack_width: float = 0.25,
) -> None:
    """Raise UserError for a setting that is out of range, no reference records, or some that are members; see `fit_adversarial`."""
    if not len(reference):
        raise UserError("reference: 0 records; allowed: at least one, which must be a non-member and never audited")
    if shared := len(np.intersect1d(members, reference)):
        raise UserError(f"reference: {shared} of its {len(reference)} records are members; allowed: none")
    if not 0 <= strength < float("inf"):
        raise UserError(f"strength={strength:g}: out of range; allowed: 0 or more")
    if attack_steps < 1:
        raise UserError(f"attack_steps={attack_steps}: out of range; allowed: 1 or more")
    if warm_up_steps < 0:
        raise UserError(f"warm_up_steps={warm_up_steps}: out of range; allowed: 0 or more")
    if not 0 < attack_width <= 4:
        raise UserError(f"attack_width={attack_width:g}: out of range; allowed: above 0, at most 4")
