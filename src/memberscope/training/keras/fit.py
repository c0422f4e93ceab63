"""Trains one model. The order of its records comes from the seed tree, and images stay uint8 until a batch is made.

An epoch is one compiled loop over steps instead of `keras.Model.fit`: it has the same optimizer and layers, without the cost of a Python
call and a host copy per step, which is most of the time for the case study's small models (benchmarks/case_study.py compares the two).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import keras

from memberscope import seeds
from memberscope.training.keras.weights import TrainingCurves

if TYPE_CHECKING:
    from memberscope.plans.split import Index

CHUNK_STEPS = 200  # steps between two checks of the stop flag and updates of the progress bar
PREDICT_BATCH = 2_000  # records per call when outputs are computed


def epoch_order(members: Index, *, seed: int, epoch: int) -> Index:
    """The order in which an epoch (1, 2, ...) visits the members: the stream ``("order", epoch)`` of `seed`."""
    order: Index = members[seeds.stream(seed, "order", epoch).permutation(len(members))]
    return order


def to_tensor(x: NDArray[Any]) -> tf.Tensor:
    """The records as a tensor of the same type, made once and shared by all models that are trained on them."""
    return tf.constant(x)


def as_batch(x: tf.Tensor, index: tf.Tensor, scale: float) -> tf.Tensor:
    """The records at `index`, as float32 in [0, 1]."""
    return tf.cast(tf.gather(x, index), tf.float32) / scale


def fit(
    model: keras.Model,
    x: tf.Tensor,
    labels: NDArray[np.int64],
    members: Index,
    *,
    scale: float,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    after_epoch: Callable[[int], None],
    between_steps: Callable[[int], None],
    l2: float = 0.0,
    label_smoothing: float = 0.0,
    dropout: float = 0.0,
) -> TrainingCurves:
    """Train `model` in place with Adam on cross-entropy, the loss averaged over each batch (the last may be smaller).

    Layers are called with ``training=True``: batch normalization uses the batch's statistics and updates its moving ones, dropout and
    augmentation are active. Losses that layers add, such as a ``kernel_regularizer``, are added to the loss.

    Args:
        model: maps inputs, as they are after the division by `scale`, to logits.
        x: (n, ...) all records, uint8 or float32.
        labels: (n,) int64.
        members: (n_member,) positions of the records to train on.
        scale: divisor that maps a record to [0, 1].
        epochs: passes over the members.
        batch_size: records per step.
        learning_rate: learning rate of Adam.
        seed: the streams ``("order", epoch)`` determine the order.
        after_epoch: called with 0 before training, then with each epoch's number once it is done.
        between_steps: called with the number of steps just done, every `CHUNK_STEPS`; an exception from it ends the training.
        l2: weight of the penalty on the loss, `l2` times the sum of squared kernels.
        label_smoothing: share of each label that is spread evenly over all classes.
        dropout: share of each dense hidden layer's outputs that is set to zero, with the rest scaled up; the stream
            ``("dropout", layer)`` of `seed` and the number of the step determine which.

    Returns:
        The training loss and accuracy during each epoch.
    """
    trainer = CompiledTraining(
        model, x, labels, scale=scale, batch_size=batch_size, learning_rate=learning_rate, l2=l2, label_smoothing=label_smoothing,
        dropout=dropout,
    )  # fmt: skip
    return trainer.run(members, epochs=epochs, seed=seed, after_epoch=after_epoch, between_steps=between_steps)


class CompiledTraining:
    """The compiled training of one model: compiled once, then run for one set of weights, members and seed after another.

    Not thread-safe: the model's variables are the state of the training.
    """

    def __init__(
        self, model: keras.Model, x: tf.Tensor, labels: NDArray[np.int64], *, scale: float, batch_size: int, learning_rate: float,
        l2: float = 0.0, label_smoothing: float = 0.0, dropout: float = 0.0,
    ) -> None:  # fmt: skip
        """Define the training step, which is traced at the first call; for the arguments see `fit`."""
        self.model, self._batch = model, batch_size
        self._optimizer = keras.optimizers.Adam(learning_rate)
        self._optimizer.build(model.trainable_variables)
        self._dropped = [layer.name for layer in model.layers if layer.name.startswith("dense_")] if dropout else []
        cross_entropy = _cross_entropy(label_smoothing, classes=model.output_shape[-1])
        forward = _with_dropout(model, dropout) if dropout else lambda batch, step, keys: model(batch, training=True)
        kernels = [variable for variable in model.trainable_variables if _is_kernel(variable)] if l2 else []
        y, optimizer = tf.constant(labels, dtype=tf.int64), self._optimizer

        def run_steps(order: tf.Tensor, step: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
            sums = tf.zeros(2)  # over records: loss, hits
            for start in tf.range(0, tf.shape(order)[0], batch_size):
                index = order[start : start + batch_size]
                step += 1
                with tf.GradientTape() as tape:
                    logits = forward(as_batch(x, index, scale), step, keys)
                    targets = tf.gather(y, index)
                    loss = data_loss = cross_entropy(targets, logits)
                    if kernels:
                        loss += l2 * tf.add_n([tf.reduce_sum(tf.square(kernel)) for kernel in kernels])
                    loss = with_own_losses(loss, model)
                optimizer.apply_gradients(
                    zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
                )
                hits = tf.math.count_nonzero(tf.equal(tf.argmax(logits, axis=-1), targets), dtype=tf.float32)
                sums += tf.stack([data_loss * tf.cast(tf.size(index), tf.float32), hits])
            return sums

        spec = tf.TensorSpec
        self._compiled = tf.function(
            run_steps, input_signature=[spec([None], tf.int64), spec([], tf.int32), spec([len(self._dropped)], tf.int32)]
        )

    def run(
        self, members: Index, *, epochs: int, seed: int, after_epoch: Callable[[int], None], between_steps: Callable[[int], None]
    ) -> TrainingCurves:  # fmt: skip
        """Train the model from its present weights with a newly initialized optimizer; for the arguments see `fit`."""
        reset(self._optimizer)
        keys = tf.constant([seeds.integer(seed, "dropout", name) for name in self._dropped], tf.int32)
        after_epoch(0)
        stride = CHUNK_STEPS * self._batch
        step, means = 0, []
        for epoch in range(1, epochs + 1):
            order = epoch_order(members, seed=seed, epoch=epoch)
            sums = np.zeros(2)
            for start in range(0, len(order), stride):
                chunk = order[start : start + stride]
                sums += self._compiled(tf.constant(chunk), step, keys).numpy()
                done = -(-len(chunk) // self._batch)
                step += done
                between_steps(done)
            means.append(sums / len(order))
            after_epoch(epoch)
        loss, accuracy = np.array(means).reshape(-1, 2).T
        return TrainingCurves(loss=loss, accuracy=accuracy)


def _is_kernel(variable: tf.Variable) -> bool:
    """Whether a variable is a layer's kernel, by the last part of its name: ``dense_1/kernel:0`` in Keras 2, ``kernel`` in Keras 3."""
    return "kernel" in variable.name.rpartition("/")[2]


def with_own_losses(loss: tf.Tensor, model: keras.Model) -> tf.Tensor:
    """The loss of a batch plus the losses that layers of `model` added when they were called, such as a ``kernel_regularizer``'s."""
    own = model.losses
    return loss + tf.add_n([tf.cast(term, loss.dtype) for term in own]) if own else loss


def reset(optimizer: keras.optimizers.Adam) -> None:
    """Set an optimizer that is built back to its beginning: the number of its steps, and the running means of gradients and squares."""
    for variable in (optimizer.iterations, *(variable for variable in optimizer.variables if variable.shape.rank)):
        variable.assign(tf.zeros_like(variable))


def _cross_entropy(smoothing: float, *, classes: int) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Mean cross-entropy of labels (n,) and logits (n, classes)."""
    if not smoothing:
        sparse: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return sparse
    smooth = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    return lambda labels, logits: smooth(tf.one_hot(labels, classes), logits)


def _with_dropout(model: keras.Model, rate: float) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
    """The model's forward pass of a batch at a step, with dropout after each dense hidden layer; `keys` has a seed for each of these."""
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    places = {name: place for place, name in enumerate(layer.name for layer in layers if layer.name.startswith("dense_"))}

    def forward(out: tf.Tensor, step: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        for layer in layers:
            out = layer(out, training=True)
            if layer.name in places:
                out = tf.nn.experimental.stateless_dropout(out, rate, seed=tf.stack([keys[places[layer.name]], step]))
        return out

    return forward


def predictor(model: keras.Model, x: tf.Tensor, *, scale: float) -> Callable[[Index], NDArray[np.float32]]:
    """A function from positions (m,) to logits (m, classes) float32, computed in large batches; it is traced once."""

    def forward(index: tf.Tensor) -> Any:
        return model(as_batch(x, index, scale), training=False)

    compiled = tf.function(forward, input_signature=[tf.TensorSpec([None], tf.int64)])

    def predict(index: Index) -> NDArray[np.float32]:
        parts = [compiled(tf.constant(index[i : i + PREDICT_BATCH])).numpy() for i in range(0, len(index), PREDICT_BATCH)]
        return np.concatenate(parts) if parts else np.empty((0, model.output_shape[-1]), np.float32)

    return predict
