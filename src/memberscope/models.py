"""The built-in architectures, chosen by name and depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memberscope import seeds
from memberscope.errors import UserError, nearest
from memberscope.installed import require

if TYPE_CHECKING:
    from tensorflow import keras

ARCHITECTURES = ("conv", "dense", "mlp")
CHANNELS = (1, 3, 4)  # of images
KERNEL = 3  # a conv unit: 3x3 filters without padding, then 2x2 max pooling


def is_convolutional(architecture: str) -> bool:
    """Whether a model of this architecture starts with convolutions: it needs images, and its filters decide its size beside its width."""
    return architecture == "conv"


def largest_depth(architecture: str, input_shape: tuple[int, ...]) -> int | None:
    """The largest depth that an input of this shape allows: each conv unit shrinks it; None means no limit."""
    if not is_convolutional(architecture):
        return None
    side, depth = min(input_shape[:2]), 0
    while (side := (side - KERNEL + 1) // 2) >= 1:
        depth += 1
    return depth


def check_model(architecture: str, *, depth: int, input_shape: tuple[int, ...], widths: Sequence[int] = ()) -> None:
    """Raise UserError for an unknown architecture, a depth that the input does not allow (the message names the largest), or `widths`
    for anything but an mlp.
    """
    if architecture not in ARCHITECTURES:
        raise UserError(
            f"model={architecture}: unknown; allowed: {', '.join(ARCHITECTURES)}{nearest(architecture, ARCHITECTURES)}"
        )
    if architecture == "conv" and len(input_shape) != 3:
        hint = f", or images with a channel axis: x[..., None] has records of shape {(*input_shape, 1)}"
        raise UserError(
            f"model=conv: needs images, but the records have shape {input_shape}; allowed here: dense, mlp"
            + (hint if len(input_shape) == 2 else "")
        )
    if widths and architecture != "mlp":
        raise UserError(
            f"widths={','.join(map(str, widths))}: only an mlp takes widths, but model={architecture}; allowed here: nothing"
        )
    most = largest_depth(architecture, input_shape)
    if depth < 1 or (most is not None and depth > most):
        size = "x".join(str(side) for side in input_shape)
        channels_first = len(input_shape) == 3 and input_shape[0] in CHANNELS and input_shape[2] not in CHANNELS
        hint = "; if the first axis holds the channels, it must be the last: np.moveaxis(x, 1, -1)" if channels_first else ""
        raise UserError(
            f"depth={depth}: a {architecture} model on {size} inputs can have depth 1 to {most if most else 'any'}{hint}"
        )


def hidden_widths(architecture: str, *, depth: int, width: int, widths: Sequence[int] = ()) -> tuple[int, ...]:
    """Units of each dense hidden layer: a conv model has one such layer, a dense model depth + 1, an mlp depth (or those of `widths`)."""
    if architecture == "mlp":
        return tuple(widths) or (width,) * depth
    return (width,) * (1 if architecture == "conv" else depth + 1)


def build_model(
    architecture: str,
    *,
    depth: int,
    input_shape: tuple[int, ...],
    classes: int,
    width: int = 64,
    widths: Sequence[int] = (),
    filters: int = 32,
    activation: str = "relu",
    seed: int = 0,
) -> keras.Model:
    """A classifier that maps inputs in [0, 1] to logits.

    ``conv``: `depth` units of a 3x3 convolution and 2x2 max pooling, then one dense layer. ``dense``: `depth` + 1 dense layers, since
    conv ends in one too (the case study's convention, kept so that parameter counts agree: 28,298 for conv 3 on 32x32x3 and ten classes,
    209,802 for dense 3, 222,282 for dense 6). ``mlp``, for tables: `depth` hidden layers of `width` units, or one layer for each number
    in `widths`.

    Args:
        architecture: ``"conv"``, ``"dense"`` or ``"mlp"``.
        depth: number of repeated units, at least 1.
        input_shape: shape of one record.
        classes: number of logits.
        width: units of a dense layer.
        widths: units of each hidden layer of an mlp; `depth` and `width` are then ignored.
        filters: filters of each convolution.
        activation: activation function of the hidden layers.
        seed: the stream ``("weights", layer)`` of this seed draws each kernel (Glorot uniform); biases start at zero.

    Returns:
        A `keras.Model` that is not compiled: ``(n, *input_shape)`` float32 -> (n, classes) float32 logits.

    Raises:
        UserError: see `check_model`; or TensorFlow is not installed.
    """
    check_model(architecture, depth=depth, input_shape=input_shape, widths=widths)
    require("tensorflow", by=f"build_model({architecture!r})")
    from tensorflow import keras

    layers = keras.layers

    def initial(layer: str) -> Any:
        return keras.initializers.GlorotUniform(seed=seeds.integer(seed, "weights", layer))

    x = inputs = layers.Input(input_shape, name="input")
    hidden = hidden_widths(architecture, depth=depth, width=width, widths=widths)
    if architecture == "conv":
        for unit in range(1, depth + 1):
            name = f"conv_{unit}"
            x = layers.Conv2D(filters, KERNEL, activation=activation, kernel_initializer=initial(name), name=name)(x)
            x = layers.MaxPooling2D(name=f"pool_{unit}")(x)
    if len(input_shape) > 1:
        x = layers.Flatten(name="flatten")(x)
    for unit, units in enumerate(hidden, start=1):
        name = f"dense_{unit}"
        x = layers.Dense(units, activation=activation, kernel_initializer=initial(name), name=name)(x)
    logits = layers.Dense(classes, kernel_initializer=initial("logits"), name="logits")(x)
    return keras.Model(inputs, logits, name=f"{architecture}_{depth}")


def summary_text(model: keras.Model) -> str:
    """Keras's own summary of layers, shapes and parameters, as text."""
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    return "\n".join(lines) + "\n"
