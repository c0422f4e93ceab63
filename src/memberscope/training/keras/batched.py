"""Many dense models in one compiled program: each weight has a leading axis over the models, so that one product per layer serves them all.

The program is a plain graph, not XLA: measured on CPU, TensorFlow's fused Adam kernel (`ResourceApplyAdam`, one pass over weights,
moments and gradients) takes a fifth of the time of XLA's loops, and its products of stacked matrices take a third less. The overhead of
Python and a hundred small kernels, which `keras.Model.fit` has per step and model, occurs here once per chunk of steps for a whole group.

Every model takes exactly the steps that it would take alone: `ResourceApplyAdam` computes the same as `keras.optimizers.Adam`, orders come
from `memberscope.training.keras.fit.epoch_order`, and a short last batch is padded with records of weight zero. Models do not wait for each
other at the end of an epoch: a model with fewer members begins its next epoch earlier, and its weights are copied after its last step.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import keras

from memberscope import seeds
from memberscope.plans.split import Index
from memberscope.training.keras.fit import epoch_order
from memberscope.training.keras.inputs import Batch, DenseBatch, InputSource, SparseSource
from memberscope.training.keras.weights import TrainedModel, TrainingCurves, Weights
from memberscope.training.recipe import Recipe

CHUNK_STEPS = 100  # steps between two checks of the stop flag and updates of the progress bar
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7  # as in keras.optimizers.Adam


def initial_weights(recipe: Recipe, *, input_shape: Sequence[int], classes: int, seed: int) -> Weights:
    """The same weights as ``recipe.build(...).get_weights()`` of a dense model, without the cost of building it."""
    sizes = recipe.layer_sizes(input_shape=input_shape, classes=classes)
    weights: Weights = []
    for number, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes), start=1):
        layer = "logits" if number == len(sizes) - 1 else f"dense_{number}"
        draw = keras.initializers.GlorotUniform(seed=seeds.integer(seed, "weights", layer))
        weights += [draw((fan_in, fan_out)).numpy(), np.zeros(fan_out, np.float32)]
    return weights


class Orders:
    """The batches of one model by step, epoch after epoch; the last batch of an epoch is padded with record 0 at weight 0."""

    def __init__(self, members: Index, *, seed: int, epochs: int, batch_size: int) -> None:
        """Compute sizes and weights; no order is drawn yet."""
        self._members, self._seed, self._batch = members, seed, batch_size
        self.steps_per_epoch = -(-len(members) // batch_size)
        self.steps = self.steps_per_epoch * epochs
        self.epochs = epochs
        self._drawn: tuple[int, Index] = (0, members[:0])
        self._weight = np.full((self.steps_per_epoch, batch_size), 1.0 / batch_size, np.float32)
        last = len(members) - (self.steps_per_epoch - 1) * batch_size
        self._weight[-1] = np.where(np.arange(batch_size) < last, np.float32(1.0) / np.float32(last), 0)

    def _epoch(self, epoch: int) -> Index:
        if self._drawn[0] != epoch:
            padded = np.zeros(self.steps_per_epoch * self._batch, np.int64)
            padded[: len(self._members)] = epoch_order(self._members, seed=self._seed, epoch=epoch)
            self._drawn = (epoch, padded.reshape(self.steps_per_epoch, self._batch))
        return self._drawn[1]

    def fill(self, start: int, index: Index, weight: NDArray[np.float32]) -> None:
        """Write the batches of steps start, start + 1, ... into `index` and `weight` (steps, batch); rows after the last step stay zero."""
        step, stop = start, min(start + len(index), self.steps)
        while step < stop:
            epoch, row = divmod(step, self.steps_per_epoch)
            take = min(self.steps_per_epoch - row, stop - step)
            here = slice(step - start, step - start + take)
            index[here] = self._epoch(epoch + 1)[row : row + take]
            weight[here] = self._weight[row : row + take]
            step += take

    def curve(self, by_step: NDArray[np.float32]) -> NDArray[np.float64]:
        """Means over records (epochs,) from means over batches (steps,)."""
        sizes = np.full(self.steps_per_epoch, self._batch, np.float64)
        sizes[-1] = len(self._members) - (self.steps_per_epoch - 1) * self._batch
        per_epoch = by_step[: self.steps].astype(np.float64).reshape(self.epochs, self.steps_per_epoch)
        mean: NDArray[np.float64] = per_epoch @ sizes / sizes.sum()
        return mean


class Program:
    """The compiled training of a group: compiled once for a recipe and a number of models, then run for one group after another.

    Not thread-safe: its variables are the state of the group in training.
    """

    def __init__(self, recipe: Recipe, *, models: int, x: InputSource, y: tf.Tensor, scale: float, classes: int) -> None:
        """Create the variables.

        Args:
            recipe: recipe with `Recipe.batched`.
            models: number of models that are trained together.
            x: all records.
            y: (n,) int32 labels.
            scale: divisor that maps a record to [0, 1].
            classes: number of logits.
        """
        self.recipe, self.models, self._classes, self._scale = recipe, models, classes, scale
        self._x, self._y = x, y
        sizes = recipe.layer_sizes(input_shape=x.shape, classes=classes)
        shapes = [shape for a, b in itertools.pairwise(sizes) for shape in ((models, a, b), (models, 1, b))]  # kernels, biases
        self._values, self._first, self._second = (
            [tf.Variable(tf.zeros(shape), trainable=False) for shape in shapes] for _ in range(3)
        )
        self._activation = keras.activations.get(recipe.activation)
        spec = tf.TensorSpec
        self._run = tf.function(
            self._steps, autograph=False,
            input_signature=[
                spec([None, models, recipe.batch_size], tf.int64), spec([None, models, recipe.batch_size], tf.float32), spec([], tf.int32),
                x.signature,
            ],
        )  # fmt: skip

    def train(
        self, members: Sequence[Index], seeds_of: Sequence[int], between_steps: Callable[[int], None]
    ) -> list[TrainedModel]:
        """Train one group from its initial weights.

        Args:
            members: the index set of each model.
            seeds_of: the seed of each model.
            between_steps: called with the number of model steps just done; an exception from it ends the training.
        """
        recipe = self.recipe
        orders = [
            Orders(index, seed=seed, epochs=recipe.epochs, batch_size=recipe.batch_size)
            for index, seed in zip(members, seeds_of, strict=True)
        ]
        self._begin([initial_weights(recipe, input_shape=self._x.shape, classes=self._classes, seed=seed) for seed in seeds_of])
        kept: dict[int, Weights] = {}
        by_chunk: list[NDArray[np.float32]] = []
        for start, stop in chunks(sorted({order.steps for order in orders})):
            index = np.zeros((stop - start, self.models, recipe.batch_size), np.int64)
            weight = np.zeros(index.shape, np.float32)
            for k, order in enumerate(orders):
                order.fill(start, index[:, k], weight[:, k])
            with in_one_thread() if isinstance(self._x, SparseSource) else nullcontext():
                by_chunk.append(self._run(index, weight, start, self._x.feed(index)).numpy())  # (2, steps, models)
            kept |= {k: self._copy(k) for k, order in enumerate(orders) if order.steps == stop}
            between_steps(sum(min(stop, order.steps) - min(start, order.steps) for order in orders))
        loss, accuracy = np.concatenate(by_chunk, axis=1)
        return [
            TrainedModel(
                weights=kept[k], curves=TrainingCurves(loss=order.curve(loss[:, k]), accuracy=order.curve(accuracy[:, k]))
            )
            for k, order in enumerate(orders)
        ]

    def _begin(self, weights: list[Weights]) -> None:
        for variable, *values in zip(self._values, *weights, strict=True):
            variable.assign(tf.reshape(np.stack(values), variable.shape))
        for moment in (*self._first, *self._second):
            moment.assign(tf.zeros_like(moment))

    def _copy(self, k: int) -> Weights:
        return [value[k].numpy() if i % 2 == 0 else value[k, 0].numpy() for i, value in enumerate(self._values)]

    def _steps(self, index: tf.Tensor, weight: tf.Tensor, start: tf.Tensor, fed: Sequence[tf.Tensor]) -> tf.Tensor:
        """Take steps start + 1, start + 2, ... with batches `index` (steps, models, batch); loss and accuracy (2, steps, models)."""
        steps = tf.shape(index)[0]

        def body(i: tf.Tensor, losses: tf.TensorArray, hits: tf.TensorArray) -> tuple[Any, ...]:
            x = self._x.batch(index[i], fed, i)
            loss, hit = self._step(x, index[i], weight[i], tf.cast(start + i + 1, tf.float32))
            return i + 1, losses.write(i, loss), hits.write(i, hit)

        _, losses, hits = tf.while_loop(
            lambda i, *_: i < steps, body,
            (tf.constant(0), tf.TensorArray(tf.float32, steps), tf.TensorArray(tf.float32, steps)),
            parallel_iterations=1,
        )  # fmt: skip
        return tf.stack([losses.stack(), hits.stack()])

    def _step(self, x: Batch, index: tf.Tensor, weight: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One step of Adam for all models; mean loss and accuracy (models,) on their batches before the step."""
        values = [variable.read_value() for variable in self._values]
        kernels, biases = values[::2], values[1::2]
        inputs: list[Batch] = [x]
        raw = []
        for layer, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
            product = inputs[-1].times(kernel)  # (models, batch, units)
            raw.append((product if layer else self._scaled(product)) + bias)
            if layer < len(kernels) - 1:
                inputs.append(DenseBatch(self._activation(raw[-1])))
        y = tf.gather(self._y, index)
        loss, error = self._cross_entropy(raw[-1], y)
        delta = error * weight[..., None]
        gradients: list[tf.Tensor] = []
        for layer in reversed(range(len(kernels))):
            product = inputs[layer].transposed_times(delta if layer else self._scaled(delta))
            penalty = 2.0 * self.recipe.l2 * kernels[layer] if self.recipe.l2 else None
            gradients[:0] = [product if penalty is None else product + penalty, tf.reduce_sum(delta, axis=1, keepdims=True)]
            if layer:  # the gradient with respect to the records is not needed
                delta = tf.matmul(delta, kernels[layer], transpose_b=True)
                delta = self._through_activation(raw[layer - 1], delta)
        powers = {"beta1_power": tf.pow(BETA_1, number), "beta2_power": tf.pow(BETA_2, number)}
        with tf.control_dependencies(gradients):  # otherwise the kernel would copy weights that a product still reads
            updates = [
                tf.raw_ops.ResourceApplyAdam(
                    var=value.handle, m=first.handle, v=second.handle, lr=self.recipe.learning_rate, beta1=BETA_1, beta2=BETA_2,
                    epsilon=EPSILON, grad=gradient, **powers,
                )
                for value, first, second, gradient in zip(self._values, self._first, self._second, gradients, strict=True)
            ]  # fmt: skip
        hit = tf.cast(tf.equal(tf.argmax(raw[-1], axis=-1, output_type=tf.int32), y), tf.float32)
        with tf.control_dependencies(updates):
            return tf.reduce_sum(loss * weight, axis=1), tf.reduce_sum(hit * weight, axis=1)

    def _scaled(self, values: tf.Tensor) -> tf.Tensor:
        """The values divided by the records' scale: scaling the inputs or outputs of a product is cheaper than scaling the records."""
        return values if self._scale == 1.0 else values * (1.0 / self._scale)

    def _cross_entropy(self, logits: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Loss (models, batch) of each record and its gradient with respect to the logits, from the one kernel that computes both."""
        flat, share = tf.reshape(logits, (-1, self._classes)), self.recipe.label_smoothing
        targets = tf.one_hot(tf.reshape(y, [-1]), self._classes)  # the kernel takes a fifth less time than with integer labels
        if share:
            targets = targets * (1.0 - share) + share / self._classes
        loss, error = tf.raw_ops.SoftmaxCrossEntropyWithLogits(features=flat, labels=targets)
        return tf.reshape(loss, tf.shape(y)), tf.reshape(error, tf.shape(logits))

    def _through_activation(self, raw: tf.Tensor, delta: tf.Tensor) -> tf.Tensor:
        """The gradient with respect to the input of an activation, from the gradient with respect to its output."""
        with tf.GradientTape() as tape:
            tape.watch(raw)
            out = self._activation(raw)
        return tape.gradient(out, raw, output_gradients=delta)


def in_one_thread() -> AbstractContextManager[None]:
    """Context in which a program runs its kernels one after another in the calling thread.

    A step over sparse records is a chain of a hundred small kernels: passing each to a thread pool costs more than running a few of them in
    parallel gains, and the cores have other groups to train. Large dense products are slower in it, though, since TensorFlow then does not
    use oneDNN's. TensorFlow has no public name for this executor.
    """
    from tensorflow.python.eager import context

    executor: AbstractContextManager[None] = context.function_executor_type("SINGLE_THREADED_EXECUTOR")
    return executor


def chunks(ends: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Runs of at most `CHUNK_STEPS` steps that together cover 0 to the last of `ends` (ascending) and stop at each of them."""
    start = 0
    for end in ends:
        for stop in [*range(start + CHUNK_STEPS, end, CHUNK_STEPS), end]:
            yield start, stop
            start = stop


def forward(weights: Sequence[Weights], x: tf.Tensor, *, activation: str) -> tf.Tensor:
    """Logits (models, m, classes) of records (m, features) in [0, 1] by models of one architecture."""
    function = keras.activations.get(activation)
    out = tf.repeat(x[None], len(weights), axis=0)
    stacked = [np.stack(values) for values in zip(*weights, strict=True)]
    for layer, (kernel, bias) in enumerate(zip(stacked[::2], stacked[1::2], strict=True)):
        out = tf.matmul(out, kernel) + bias[:, None]
        out = out if layer == len(stacked) // 2 - 1 else function(out)
    return out
