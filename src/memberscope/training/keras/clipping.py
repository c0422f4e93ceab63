"""Clipped sums of per-example gradients: from saved inputs and deltas if every layer allows it, else one example at a time.

For a layer that is linear in its kernel, the gradient of example i is ``A_i^T D_i``, with rows A_i (positions, d), to which the kernel was
applied, and deltas D_i (positions, p), the gradient of the loss with respect to the layer's linear output. A dense layer has one position;
a convolution has one for each place, and its rows are the unfolded patches. The forward pass and the deltas cost as much as in plain
training, and give both

- the norms, without the gradients: ``||A_i^T D_i||^2 = sum((A_i A_i^T) * (D_i D_i^T))`` (Goodfellow 2015 for one position; Bu
  et al. 2022, "ghost norm"), or from ``A_i^T D_i`` itself if that is smaller: Bu et al.'s rule is the ghost norm iff
  2 positions^2 < d p;
- the clipped sum, without a second backward pass: ``sum_i c_i A_i^T D_i = A^T (c D)`` (Bu et al. 2023, "book-keeping").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import tensorflow as tf
from tensorflow import keras

from memberscope.errors import UserError

Clipping = Literal["auto", "fast", "per_example"]
Factors = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # squared norms and mask -> the factor of each gradient
ClippedSum = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], list[tf.Tensor]]

CLIPPINGS = ("auto", "fast", "per_example")
SMALLEST_SQUARE = 1e-30  # lower limit of a squared norm, so that a gradient of zero is not divided by zero

_layers = keras.layers
# Layers without weights that process each example independently.
PASSING = (
    _layers.Activation, _layers.AveragePooling2D, _layers.Dropout, _layers.Flatten, _layers.GlobalAveragePooling2D,
    _layers.GlobalMaxPooling2D, _layers.InputLayer, _layers.LeakyReLU, _layers.MaxPooling2D, _layers.ReLU, _layers.Rescaling,
    _layers.Reshape, _layers.Softmax, _layers.SpatialDropout2D, _layers.ZeroPadding2D,
)  # fmt: skip


def chain_of(model: keras.Model) -> tuple[list[keras.layers.Layer], str]:
    """The layers of `model` in order, and why fast clipping cannot handle them: the first unsuitable layer and the reason, ``""`` if none.

    Fast clipping needs layers that each take the output of the layer before, and are a Dense, a Conv2D (one group, channels last, known
    sizes) or among `PASSING`.
    """
    chain = [layer for layer in model.layers if type(layer) is not _layers.InputLayer]
    if not chain or len(model.inputs or ()) != 1:
        return chain, f"model {model.name!r} is not a chain of layers from one input"
    before = model.inputs[0]
    for layer in chain:
        follows = bool(layer._inbound_nodes) and layer.input is before
        if not follows:
            return chain, f"layer {layer.name!r} takes more than the layer before it, or is used more than once"
        if fault := _fault(layer):
            return chain, f"layer {layer.name!r} {fault}"
        before = layer.output
    if len(model.outputs) != 1 or model.outputs[0] is not before:
        return chain, f"layer {chain[-1].name!r} is not the model's one output"
    return chain, ""


def _fault(layer: keras.layers.Layer) -> str:
    kind = type(layer)  # not isinstance: a subclass may compute anything
    if kind in PASSING or kind is _layers.Dense:
        return ""
    if kind is not _layers.Conv2D:
        return (
            f"is a {kind.__name__}; allowed: Dense, Conv2D and layers without weights that process each example independently"
        )
    if layer.groups != 1 or layer.data_format != "channels_last" or None in tuple(layer.input.shape[1:]):
        return "is a Conv2D with groups, channels first or unknown sizes"
    return ""


def clipped_sum(
    model: keras.Model, clipping: Clipping, clip_norm: float, *, divided_by: float = 1.0
) -> tuple[ClippedSum, str, str]:
    """A function that sums the gradients of a batch, each scaled to a norm of at most `clip_norm` over all trainable variables.

    Args:
        model: maps a batch to logits; batch normalization mixes examples and is rejected, and so are losses that layers add.
        clipping: ``"fast"``, ``"per_example"``, or ``"auto"`` for fast if every layer allows it.
        clip_norm: above 0.
        divided_by: divisor of the sum: the expected batch size.

    Returns:
        A function from inputs (b, ...) float32, labels (b,) int64 and mask (b,) float32 of ones and zeros (padding) to one tensor per
        trainable variable: ``sum_i mask_i min(1, clip_norm / ||g_i||) g_i / divided_by``, where g_i is the gradient of example i's
        cross-entropy; its method, ``"fast"`` or ``"per_example"``; and why the method is not fast, ``""`` if it is, or if
        ``"per_example"`` was requested.

    Raises:
        UserError: an unknown `clipping`, a `clip_norm` that is not above 0, a layer that mixes the examples of a batch or adds a loss, or,
            with ``clipping="fast"``, a layer that fast clipping cannot handle.
    """
    if clipping not in CLIPPINGS:
        raise UserError(f"clipping={clipping}: unknown; allowed: {', '.join(CLIPPINGS)}")
    if not 0 < clip_norm < float("inf"):
        raise UserError(f"clip_norm={clip_norm:g}: out of range; allowed: above 0")
    if model.losses:
        raise UserError(
            "model: its layers add losses of their own, such as a kernel_regularizer's, which DP-SGD does not include; allowed: none"
        )
    # Nested layers too. Keras 2 and 3 both have this method, and no public one in common.
    for layer in model._flatten_layers():
        if isinstance(layer, _layers.BatchNormalization) and layer.trainable:
            raise UserError(
                f"model: layer {layer.name!r} normalizes over the batch, which mixes examples; allowed with DP-SGD: a frozen layer, or none"
            )
        if layer.trainable and layer.non_trainable_weights and len(list(layer._flatten_layers())) == 1:
            raise UserError(
                f"model: layer {layer.name!r} has weights that it may change itself, without noise; allowed with DP-SGD: a frozen layer, "
                "or none"
            )

    def factors_of(squares: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        return mask / divided_by * tf.minimum(1.0, clip_norm / tf.sqrt(tf.maximum(squares, SMALLEST_SQUARE)))

    if clipping == "per_example":
        return _per_example(model, factors_of), "per_example", ""
    chain, fault = chain_of(model)
    if fault and clipping == "fast":
        raise UserError(f"clipping=fast: {fault}; allowed here: auto, per_example")
    if fault:
        return _per_example(model, factors_of), "per_example", fault
    return _fast(chain, model.trainable_variables, factors_of), "fast", ""


def _per_example(model: keras.Model, factors_of: Factors) -> ClippedSum:
    variables = model.trainable_variables

    def one(arguments: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> list[tf.Tensor]:
        x, label, kept = arguments
        with tf.GradientTape() as tape:
            logits = model(x[tf.newaxis], training=True)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(label[tf.newaxis], logits)
        gradients = [
            tf.convert_to_tensor(gradient)
            for gradient in tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        ]
        square = tf.add_n([tf.reduce_sum(tf.square(gradient)) for gradient in gradients])
        factor = factors_of(square, kept)
        return [factor * gradient for gradient in gradients]

    def total(x: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor) -> list[tf.Tensor]:
        return [tf.reduce_sum(gradient, axis=0) for gradient in tf.vectorized_map(one, (x, labels, mask))]

    return total


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One variable's part of the gradients: their squared norms (b,), and a function from factors (b,) to their weighted sum."""

    variable: tf.Variable
    squares: tf.Tensor
    summed: Callable[[tf.Tensor], tf.Tensor]


def _fast(chain: list[keras.layers.Layer], variables: list[tf.Variable], factors_of: Factors) -> ClippedSum:
    def total(x: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor) -> list[tf.Tensor]:
        saved: list[tuple[keras.layers.Layer, tf.Tensor, tf.Tensor]] = []
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for layer in chain:
                if layer.trainable_variables:
                    linear = _linear(layer, x)
                    tape.watch(linear)
                    saved.append((layer, x, linear))
                    x = layer.activation(linear)
                else:
                    x = layer(x, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, x)
        deltas = tape.gradient(losses, [linear for _, _, linear in saved])
        parts = [part for (layer, inputs, _), delta in zip(saved, deltas, strict=True) for part in _parts(layer, inputs, delta)]
        factors = factors_of(tf.add_n([part.squares for part in parts]), mask)
        sums = {id(part.variable): part.summed(factors) for part in parts}
        return [sums[id(variable)] for variable in variables]

    return total


def _linear(layer: keras.layers.Layer, x: tf.Tensor) -> tf.Tensor:
    """The output of a Dense or Conv2D before its activation."""
    if type(layer) is _layers.Conv2D:
        y = layer.convolution_op(x, layer.kernel)
    elif x.shape.rank == 2:
        y = tf.matmul(x, layer.kernel)
    else:
        y = tf.tensordot(x, layer.kernel, 1)
    return tf.nn.bias_add(y, layer.bias) if layer.use_bias else y


def _parts(layer: keras.layers.Layer, inputs: tf.Tensor, delta: tf.Tensor) -> list[_Part]:
    d, p = layer.kernel.shape[-2], layer.kernel.shape[-1]
    if type(layer) is _layers.Conv2D:
        inputs = _patches(layer, inputs)
        d = inputs.shape[-1]
    if inputs.shape.rank > 2:
        positions = inputs.shape[1:-1].num_elements()
        inputs, delta = tf.reshape(inputs, [-1, positions, d]), tf.reshape(delta, [-1, positions, p])
    parts = [_kernel_part(layer.kernel, inputs, delta)]
    if layer.use_bias:
        each = delta if delta.shape.rank == 2 else tf.reduce_sum(delta, axis=1)
        parts.append(
            _Part(variable=layer.bias, squares=_squares(each), summed=lambda c: tf.linalg.matvec(each, c, transpose_a=True))
        )
    return parts


def _kernel_part(kernel: tf.Variable, rows: tf.Tensor, deltas: tf.Tensor) -> _Part:
    """The part of a kernel, from rows (b, d) or (b, positions, d) and deltas (b, p) or (b, positions, p)."""
    if rows.shape.rank == 2:
        squares = _squares(rows) * _squares(deltas)
        return _Part(
            variable=kernel, squares=squares, summed=lambda c: tf.matmul(rows, deltas * c[:, tf.newaxis], transpose_a=True)
        )
    positions, d, p = rows.shape[1], rows.shape[2], deltas.shape[2]
    if 2 * positions**2 < d * p:
        products = tf.matmul(rows, rows, transpose_b=True) * tf.matmul(deltas, deltas, transpose_b=True)

        def summed(factors: tf.Tensor) -> tf.Tensor:
            flat = tf.reshape(deltas * factors[:, tf.newaxis, tf.newaxis], [-1, p])
            return tf.reshape(tf.matmul(tf.reshape(rows, [-1, d]), flat, transpose_a=True), kernel.shape)

        return _Part(variable=kernel, squares=tf.reduce_sum(products, axis=[1, 2]), summed=summed)
    each = tf.reshape(tf.matmul(rows, deltas, transpose_a=True), [-1, d * p])
    return _Part(
        variable=kernel,
        squares=_squares(each),
        summed=lambda c: tf.reshape(tf.linalg.matvec(each, c, transpose_a=True), kernel.shape),
    )


def _squares(rows: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.square(rows), axis=1)


def _patches(layer: keras.layers.Layer, images: tf.Tensor) -> tf.Tensor:
    """The patches to which the kernel is applied: (b, places down, places across, kernel height * width * channels).

    They are concatenated slices: with `tf.image.extract_patches`, a step of the case study's conv model took more than twice as long on a
    CPU.
    """
    reach = [(size - 1) * rate + 1 for size, rate in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
    places = []
    padding = []
    for size, wide, stride in zip(images.shape[1:3], reach, layer.strides, strict=True):
        if layer.padding == "same":
            count = -(-size // stride)
            missing = max((count - 1) * stride + wide - size, 0)
        else:
            count, missing = (size - wide) // stride + 1, 0
        places.append(count)
        padding.append([missing // 2, missing - missing // 2])
    if any(sum(pair) for pair in padding):
        images = tf.pad(images, [[0, 0], *padding, [0, 0]])

    def cut(offset: int, axis: int) -> slice:
        start = offset * layer.dilation_rate[axis]
        return slice(start, start + (places[axis] - 1) * layer.strides[axis] + 1, layer.strides[axis])

    height, width = layer.kernel_size
    return tf.concat([images[:, cut(i, 0), cut(j, 1), :] for i in range(height) for j in range(width)], axis=-1)
