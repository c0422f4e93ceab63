"""Adversarial regularization (Nasr, Shokri & Houmansadr 2018, Algorithm 1): train against an attack that learns alongside.

An attack model h guesses from a prediction and its label whether the record is a member. It ascends its gain on members D and on
reference records D' that the defender holds and that are no members,

    G(h) = 1/2 E_D log h(f(x), y) + 1/2 E_D' log(1 - h(f(x), y)),

for `attack_steps` batches; then the classifier f descends cross-entropy + strength * log h(f(x), y) on one batch of members. At
chance G is -log 2.

Where we differ: the attack's layers are `attack_width` times as wide as published (a quarter by default: several attack steps for
each step of a small classifier would cost most of the time), and start from Glorot's distribution instead of deviations of 0.01,
under which they hardly learn for the first epochs.

A defence is not to be judged by the attack it was trained against: the reference records must never be audited, and the audit's
attackers are others.
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
from memberscope.training.keras.fit import CHUNK_STEPS, as_batch, epoch_order

if TYPE_CHECKING:
    from memberscope.plans.split import Index

PREDICTION_WIDTHS, LABEL_WIDTHS, JOINT_WIDTHS = (1024, 512, 64), (512, 64), (256, 64)  # Nasr et al. 2018, Figure 3
NARROWEST = 4


@dataclass(frozen=True, kw_only=True)
class AdversarialTraining:
    """How the attack in the loop fared.

    Attributes:
        gains: (epochs,) mean gain G of the attack over its steps in each epoch, in nats; -log 2 is chance, 0 is certainty.
        attack: the attack model as it ended: probabilities (n, classes) and one-hot labels (n, classes) -> logit of membership (n, 1).
    """

    gains: tuple[float, ...]
    attack: keras.Model


def build_attack(classes: int, *, width: float, seed: int) -> keras.Model:
    """The inference model: one branch for the prediction, one for the one-hot label, joined; ReLU throughout, one logit at the end.

    Args:
        classes: length of both inputs.
        width: of each layer, in units of the published one; no layer gets narrower than `NARROWEST`.
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
    """Train `model` in place: from scratch if it is new, as fine-tuning if it is trained (then give the attack `warm_up_steps` first).

    The classifier sees the members in the order and batches of `memberscope.training.keras.fit.fit`, with its Adam: at strength 0 it
    ends where that ends.

    Args:
        model: maps inputs in [0, 1] to logits.
        x: (n, ...) all records, uint8 or float32.
        labels: (n,) int64.
        members: (n_member,) which of them to train on.
        reference: (n_reference,) records that the defender holds, no members, and never audited.
        scale: what a record is divided by to lie in [0, 1].
        strength: lambda, at least 0.
        epochs: passes over the members.
        batch_size: members a step of the classifier; members and reference records, as many each, a step of the attack.
        learning_rate: of the classifier's Adam.
        seed: the streams ``("order", epoch)`` as in `fit`, ``("attack_batches", epoch)`` for the attack's draws (with replacement),
            ``("attack", layer)`` for its weights.
        after_epoch: called with 0 before training, then with each epoch's number once it is done.
        between_steps: called with the number of the classifier's steps just done; what it raises ends the training there.
        attack_steps: of the attack before each of the classifier's, at least 1.
        warm_up_steps: of the attack before the first of the classifier's.
        attack_width: of the attack's layers, in units of the published ones.
        attack_learning_rate: of the attack's Adam.

    Raises:
        UserError: no reference records, or some that are members; a setting out of its range.
    """
    _check(
        members, reference, strength=strength, attack_steps=attack_steps, warm_up_steps=warm_up_steps, attack_width=attack_width
    )
    classes = model.output_shape[-1]
    attack = build_attack(classes, width=attack_width, seed=seed)
    optimizer, attack_optimizer = keras.optimizers.Adam(learning_rate), keras.optimizers.Adam(attack_learning_rate)
    optimizer.build(model.trainable_variables)
    attack_optimizer.build(attack.trainable_variables)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    y = tf.constant(labels, dtype=tf.int64)

    def membership(logits: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        return attack([tf.nn.softmax(logits), tf.one_hot(tf.gather(y, index), classes)], training=True)

    def attack_once(pair: tf.Tensor) -> tf.Tensor:
        """One ascent of h on members pair[0] and reference records pair[1]; the gain before it."""
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
                loss = cross_entropy(tf.gather(y, index), logits) + strength * tf.reduce_mean(log_h)
            optimizer.apply_gradients(
                zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
            )
        return gain

    def warm_up(pairs: tf.Tensor) -> None:
        for pair in pairs:
            attack_once(pair)

    drawn = tf.TensorSpec([None, 2, None], tf.int64)
    compiled = tf.function(run_steps, input_signature=[tf.TensorSpec([None], tf.int64), drawn])
    after_epoch(0)
    if warm_up_steps:
        pairs = _pairs(members, reference, batch_size, warm_up_steps, seeds.stream(seed, "attack_batches", 0))
        tf.function(warm_up, input_signature=[drawn])(tf.constant(pairs))
    gains = []
    stride = CHUNK_STEPS * batch_size
    for epoch in range(1, epochs + 1):
        order = epoch_order(members, seed=seed, epoch=epoch)
        rng = seeds.stream(seed, "attack_batches", epoch)
        gain, attacked = 0.0, 0
        for start in range(0, len(order), stride):
            chunk = order[start : start + stride]
            steps = -(-len(chunk) // batch_size)
            pairs = _pairs(members, reference, batch_size, steps * attack_steps, rng)
            gain += float(compiled(tf.constant(chunk), tf.constant(pairs)))
            attacked += steps * attack_steps
            between_steps(steps)
        gains.append(gain / attacked)
        after_epoch(epoch)
    return AdversarialTraining(gains=tuple(gains), attack=attack)


def _pairs(members: Index, reference: Index, batch_size: int, steps: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(steps, 2, batch_size) records: members, reference, each drawn with replacement."""
    sides = [side[rng.integers(0, len(side), (steps, batch_size))] for side in (members, reference)]
    pairs: NDArray[np.int64] = np.stack(sides, axis=1)
    return pairs


def _check(
    members: Index, reference: Index, *, strength: float, attack_steps: int, warm_up_steps: int, attack_width: float
) -> None:
    if not len(reference):
        raise UserError("reference: 0 records; adversarial regularization needs some that are no members and never audited")
    if shared := len(np.intersect1d(members, reference)):
        raise UserError(f"reference: {shared} of its {len(reference)} records are members; allowed: none")
    if not 0 <= strength < float("inf"):
        raise UserError(f"strength={strength:g}: allowed is 0 or more")
    if attack_steps < 1:
        raise UserError(f"attack_steps={attack_steps}: allowed is 1 or more")
    if warm_up_steps < 0:
        raise UserError(f"warm_up_steps={warm_up_steps}: allowed is 0 or more")
    if not 0 < attack_width <= 4:
        raise UserError(f"attack_width={attack_width:g}: allowed is above 0, and at most 4")
