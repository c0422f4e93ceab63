"""Clipped sums of per-example gradients: from saved inputs and deltas where every layer allows it, else one by one.

For a layer that is linear in its kernel, example i's gradient is ``A_i^T D_i``: rows A_i (positions, d), what the kernel was
applied to, and deltas D_i (positions, p), the loss's gradient by what it gave. A dense layer has one position; a convolution
has one for each place, its rows the unfolded patches. The forward pass and the deltas cost what they cost in plain training,
and give both

- the norms, without the gradients: ``||A_i^T D_i||^2 = sum((A_i A_i^T) * (D_i D_i^T))`` (Goodfellow 2015 for one position; Bu
  et al. 2022, "ghost norm"), or from ``A_i^T D_i`` itself where that is the smaller of the two: Bu et al.'s rule, ghost
  iff 2 positions^2 < d p;
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
Factors = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # squared norms and mask -> what each gradient is multiplied with
ClippedSum = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], list[tf.Tensor]]

CLIPPINGS = ("auto", "fast", "per_example")
SMALLEST_SQUARE = 1e-30  # under a norm of zero, which is clipped by nothing

_layers = keras.layers
# Layers without weights that treat each example by itself.
PASSING = (
    _layers.Activation, _layers.AveragePooling2D, _layers.Dropout, _layers.Flatten, _layers.GlobalAveragePooling2D,
    _layers.GlobalMaxPooling2D, _layers.InputLayer, _layers.LeakyReLU, _layers.MaxPooling2D, _layers.ReLU, _layers.Rescaling,
    _layers.Reshape, _layers.Softmax, _layers.SpatialDropout2D, _layers.ZeroPadding2D,
)  # fmt: skip


def chain_of(model: keras.Model) -> tuple[list[keras.layers.Layer], str]:
    """The layers of `model` in order, and why fast clipping cannot handle them: the first layer at fault and its fault, ``""`` if none.

    It can where each layer takes the one before, and is a Dense, a Conv2D (one group, channels last, sizes known) or among `PASSING`.
    """
    chain = [layer for layer in model.layers if type(layer) is not _layers.InputLayer]
    if not chain or len(model.inputs or ()) != 1:
        return chain, f"model {model.name!r} is not built of layers that follow one another from one input"
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
        return f"is a {kind.__name__}; allowed: Dense, Conv2D and layers without weights that treat each example by itself"
    if layer.groups != 1 or layer.data_format != "channels_last" or None in tuple(layer.input.shape[1:]):
        return "is a Conv2D with groups, channels first or unknown sizes"
    return ""


def clipped_sum(
    model: keras.Model, clipping: Clipping, clip_norm: float, *, divided_by: float = 1.0
) -> tuple[ClippedSum, str, str]:
    """How to sum the gradients of a batch, each scaled to a norm of at most `clip_norm` over all trainable variables.

    Args:
        model: maps a batch to logits; batch normalization mixes examples and is refused. Losses that layers add are no part of it.
        clipping: ``"fast"``, ``"per_example"``, or ``"auto"`` for fast where every layer allows it.
        clip_norm: above 0.
        divided_by: what the sum is divided by: the expected batch size.

    Returns:
        A function from inputs (b, ...) float32, labels (b,) int64 and mask (b,) float32 of ones and zeros (padding) to one tensor a
        trainable variable: ``sum_i mask_i min(1, clip_norm / ||g_i||) g_i / divided_by``, g_i the gradient of example i's cross-entropy;
        the way it takes, ``"fast"`` or ``"per_example"``; and why it is not fast, ``""`` if it is or was not asked to be.

    Raises:
        UserError: an unknown `clipping`, a `clip_norm` that is not above 0, a layer that mixes the examples of a batch, or one that fast
            clipping cannot handle where it was asked for by name.
    """
    if clipping not in CLIPPINGS:
        raise UserError(f"clipping={clipping}: unknown; allowed: {', '.join(CLIPPINGS)}")
    if not 0 < clip_norm < float("inf"):
        raise UserError(f"clip_norm={clip_norm:g}: allowed is above 0")
    for (
        layer
    ) in model._flatten_layers():  # with those inside others; Keras 2 and 3 both have it, and no public way that is the same
        if isinstance(layer, _layers.BatchNormalization) and layer.trainable:
            raise UserError(
                f"model: layer {layer.name!r} normalizes over the batch, which mixes examples; allowed with DP-SGD: frozen, or none"
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
    """One variable's share: its gradients' squared norms (b,), and their sum under factors (b,)."""

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
    """What a Dense or Conv2D gives before its activation."""
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
    """Rows (b, d) or (b, positions, d), deltas (b, p) or (b, positions, p)."""
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
    """What the kernel is applied to at each place: (b, places down, places across, kernel height * width * channels).

    Slices side by side: with `tf.image.extract_patches` a step of the case study's conv model took more than twice as long on a processor.
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
