"""Differentially private SGD (Abadi et al. 2016, Algorithm 1) exactly as the accountant assumes it, at about the cost of plain training.

In each step, every member is in the batch independently with probability q = batch_size / members (Poisson sampling: the size of a
batch varies and may be zero). Per-example gradients are clipped and summed (`memberscope.training.keras.clipping`), Gaussian noise is added
once to the sum, even if the batch is empty, and the sum is divided by the *expected* batch size. Dividing by the actual size would need
an analysis of its own.

A batch is padded with masked records to a multiple of `PAD_TO`, and one trace with a symbolic length serves all batches. No batch is
truncated, so the sampling is exactly what is accounted for; and no padded batch is empty, since not every kernel supports that.

The noise is float32 from TensorFlow's seeded counter-based stream. It is reproducible, as everything here, but not from the secure sampler
that a deployment would need against an adversary who knows the seed or exploits floating-point gaps (Mironov 2012).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import keras

from memberscope import seeds
from memberscope.errors import UserError
from memberscope.training.accounting import PrivacyPlan, plan_privacy
from memberscope.training.keras.clipping import Clipping, clipped_sum
from memberscope.training.keras.fit import CHUNK_STEPS, as_batch
from memberscope.training.keras.noise import normal, spread_of

if TYPE_CHECKING:
    from memberscope.plans.split import Index

OptimizerName = Literal["sgd", "adam"]
Update = Callable[[list[tf.Tensor], tf.Tensor], None]

PAD_TO = 8
OPTIMIZERS = ("sgd", "adam")
ADAM_BETA_1, ADAM_BETA_2, ADAM_EPSILON = 0.9, 0.999, 1e-7  # as in keras.optimizers.Adam


@dataclass(frozen=True, kw_only=True)
class PrivateTraining:
    """How a model was trained, and the guarantee.

    Attributes:
        privacy: noise, sampling, steps, and epsilon by epoch.
        clip_norm: norm to which each example's gradient was clipped.
        clipping: the method of clipping, ``"fast"`` or ``"per_example"``.
        clipping_reason: why ``"auto"`` did not clip fast; ``""`` if it did.
    """

    privacy: PrivacyPlan
    clip_norm: float
    clipping: str
    clipping_reason: str = ""


def poisson_batches(members: Index, *, batch_size: int, steps: int, rng: np.random.Generator) -> list[Index]:
    """`steps` independent batches; each contains each member with probability batch_size / len(members), independently.

    A batch is drawn as a binomial size and then that many members, all subsets being equally likely: this is the same distribution, in time
    proportional to the size of the batch.
    """
    n = len(members)
    sizes = rng.binomial(n, batch_size / n, steps)
    return [members[rng.choice(n, size, replace=False, shuffle=False)] for size in sizes]


def padded(batches: list[Index]) -> tuple[Index, Index]:
    """The batches concatenated, each padded with -1 to a positive multiple of `PAD_TO`; and the bounds of each, (len + 1,)."""
    widths = [PAD_TO * max(1, -(-len(batch) // PAD_TO)) for batch in batches]
    offsets = np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
    flat = np.full(offsets[-1], -1, np.int64)
    for batch, start in zip(batches, offsets[:-1], strict=True):
        flat[start : start + len(batch)] = batch
    return flat, offsets


def fit_private(
    model: keras.Model,
    x: tf.Tensor,
    labels: NDArray[np.int64],
    members: Index,
    *,
    scale: float,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    clip_norm: float,
    seed: int,
    after_epoch: Callable[[int], None],
    between_steps: Callable[[int], None],
    noise_multiplier: float | None = None,
    target_epsilon: float | None = None,
    delta: float | None = None,
    optimizer: OptimizerName = "adam",
    clipping: Clipping = "auto",
    on_start: Callable[[PrivateTraining], None] = lambda training: None,
) -> PrivateTraining:
    """Train `model` in place on cross-entropy with differential privacy for each member (add or remove one record).

    Args:
        model: maps inputs in [0, 1] to logits.
        x: (n, ...) all records, uint8 or float32.
        labels: (n,) int64.
        members: (n_member,) positions of the records to train on.
        scale: divisor that maps a record to [0, 1].
        epochs: expected visits of each member: epochs * ceil(n_member / batch_size) steps.
        batch_size: expected records per step, at most n_member.
        learning_rate: learning rate of the optimizer.
        clip_norm: the norm C to which each example's gradient is clipped.
        seed: the streams ``("poisson", epoch)`` draw the batches; ``("noise",)`` and the number of the step determine the noise.
        after_epoch: called with 0 before training, then with each epoch's number once it is done.
        between_steps: called with the number of steps just done, every `CHUNK_STEPS`; an exception from it ends the training.
        noise_multiplier: standard deviation of the noise in units of C; with 0 gradients are only clipped, and epsilon is inf. Give either
            this or `target_epsilon`.
        target_epsilon: epsilon for which to find the noise.
        delta: delta of the guarantee; None: n_member^-1.1.
        optimizer: ``"sgd"`` or ``"adam"``, applied to the noisy gradient, which costs no privacy.
        clipping: see `memberscope.training.keras.clipping.clipped_sum`.
        on_start: called once before the first step with the return value, which is known then: epsilon by epoch depends on no record.

    Returns:
        The guarantee, and how the model was trained.

    Raises:
        UserError: see `plan_privacy` and `clipped_sum`; an unknown optimizer.
    """
    privacy = plan_privacy(
        members=len(members), epochs=epochs, batch_size=batch_size, noise_multiplier=noise_multiplier,
        target_epsilon=target_epsilon, delta=delta,
    )  # fmt: skip
    compiled = CompiledPrivate(
        model, x, labels, scale=scale, batch_size=batch_size, learning_rate=learning_rate, clip_norm=clip_norm,
        optimizer=optimizer, clipping=clipping,
    )  # fmt: skip
    training = PrivateTraining(
        privacy=privacy, clip_norm=clip_norm, clipping=compiled.clipping, clipping_reason=compiled.clipping_reason
    )
    on_start(training)
    compiled.run(
        members, noise_multiplier=privacy.noise_multiplier, epochs=epochs, seed=seed, after_epoch=after_epoch,
        between_steps=between_steps,
    )  # fmt: skip
    return training


class CompiledPrivate:
    """The compiled private training of one model: compiled once, then run for one set of weights, members, noise and seed after another.

    Not thread-safe: the model's variables are the state of the training.

    Attributes:
        model: the model.
        clipping, clipping_reason: see `PrivateTraining`.
    """

    def __init__(
        self, model: keras.Model, x: tf.Tensor, labels: NDArray[np.int64], *, scale: float, batch_size: int, learning_rate: float,
        clip_norm: float, optimizer: OptimizerName = "adam", clipping: Clipping = "auto",
    ) -> None:  # fmt: skip
        """Define the training step, which is traced at the first call; for the arguments see `fit_private`."""
        self.model, self._batch, self._clip = model, batch_size, clip_norm
        gradient, self.clipping, self.clipping_reason = clipped_sum(model, clipping, clip_norm, divided_by=batch_size)
        self._moments, update = _update(optimizer, model.trainable_variables, learning_rate)
        sizes = [variable.shape.num_elements() for variable in model.trainable_variables]
        y = tf.constant(labels, dtype=tf.int64)

        def compiled(noise: bool) -> Callable[..., None]:
            def run_steps(flat: tf.Tensor, offsets: tf.Tensor, done: tf.Tensor, key: tf.Tensor, spread: tf.Tensor) -> None:
                for step in tf.range(tf.shape(offsets)[0] - 1):
                    index = flat[offsets[step] : offsets[step + 1]]
                    mask, index = tf.cast(index >= 0, tf.float32), tf.maximum(index, 0)
                    number = done + step + 1
                    gradients = gradient(as_batch(x, index, scale), tf.gather(y, index), mask)
                    if noise:
                        gradients = _noisy(gradients, sizes, key, number, spread)
                    update(gradients, number)

            vector, number = tf.TensorSpec([None], tf.int64), tf.TensorSpec([], tf.int32)
            program: Callable[..., None] = tf.function(
                run_steps, input_signature=[vector, vector, number, number, tf.TensorSpec([], tf.float32)]
            )
            return program

        self._compiled = {noise: compiled(noise) for noise in (True, False)}

    def run(
        self, members: Index, *, noise_multiplier: float, epochs: int, seed: int, after_epoch: Callable[[int], None],
        between_steps: Callable[[int], None],
    ) -> None:  # fmt: skip
        """Train the model from its present weights with a newly initialized optimizer; for the arguments see `fit_private`."""
        for moment in self._moments:
            moment.assign(tf.zeros_like(moment))
        deviation = noise_multiplier * self._clip / self._batch
        compiled = self._compiled[deviation > 0]
        key, spread = tf.constant(seeds.integer(seed, "noise"), tf.int32), tf.constant(spread_of(deviation), tf.float32)
        per_epoch = -(-len(members) // self._batch)
        after_epoch(0)
        done = 0
        for epoch in range(1, epochs + 1):
            rng = seeds.stream(seed, "poisson", epoch)
            left = per_epoch
            while left:
                steps = min(left, CHUNK_STEPS)
                flat, offsets = padded(poisson_batches(members, batch_size=self._batch, steps=steps, rng=rng))
                compiled(tf.constant(flat), tf.constant(offsets), tf.constant(done, tf.int32), key, spread)
                left, done = left - steps, done + steps
                between_steps(steps)
            after_epoch(epoch)


def _noisy(gradients: list[tf.Tensor], sizes: list[int], key: tf.Tensor, step: tf.Tensor, spread: tf.Tensor) -> list[tf.Tensor]:
    """The gradients with noise on each coordinate: one draw per step for all variables, so that no number is used twice."""
    pieces = tf.split(normal(sum(sizes), key, step, spread=spread), sizes)
    return [gradient + tf.reshape(piece, gradient.shape) for gradient, piece in zip(gradients, pieces, strict=True)]


def _update(optimizer: OptimizerName, variables: list[tf.Variable], learning_rate: float) -> tuple[list[tf.Variable], Update]:
    """SGD, or Adam (Kingma & Ba 2015, in Keras's version) by TensorFlow's fused kernel; with its state, which is zero at first."""
    if optimizer not in OPTIMIZERS:
        raise UserError(f"optimizer={optimizer}: unknown; allowed: {', '.join(OPTIMIZERS)}")
    if optimizer == "sgd":

        def descend(gradients: list[tf.Tensor], step: tf.Tensor) -> None:
            for variable, gradient in zip(variables, gradients, strict=True):
                variable.assign_sub(learning_rate * gradient)

        return [], descend
    means = [tf.Variable(tf.zeros_like(variable)) for variable in variables]
    squares = [tf.Variable(tf.zeros_like(variable)) for variable in variables]

    def adam(gradients: list[tf.Tensor], step: tf.Tensor) -> None:
        number = tf.cast(step, tf.float32)
        for variable, mean, square, gradient in zip(variables, means, squares, gradients, strict=True):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle, m=mean.handle, v=square.handle, beta1_power=ADAM_BETA_1**number,
                beta2_power=ADAM_BETA_2**number, lr=learning_rate, beta1=ADAM_BETA_1, beta2=ADAM_BETA_2, epsilon=ADAM_EPSILON,
                grad=gradient,
            )  # fmt: skip

    return [*means, *squares], adam
