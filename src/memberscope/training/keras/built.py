"""Calls a user's builder under a seed, and checks that what it returns is a model that the built-in loop can train."""

from __future__ import annotations

import random
import threading
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from memberscope import seeds
from memberscope.errors import UserError
from memberscope.training.outside.source import Source, where_it_failed

_ONE_AT_A_TIME = threading.Lock()  # the generators that `seeded` sets belong to the process
TRIED = 8  # records of random numbers on which a new model is tried
SUM = 1e-4  # probabilities sum to 1 up to this
ALLOWED = "a functional or Sequential model of one input and one output, such as keras.Model(inputs, outputs)"


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Context in which the generators of Python, NumPy, TensorFlow and Keras start from a seed.

    The states of Python's and NumPy's are restored at the end. TensorFlow's and Keras's stay seeded, so that the training that follows
    in this process draws the same numbers for layers that draw during training.
    """
    with _ONE_AT_A_TIME:
        python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002  # a builder may draw from it
        keras.utils.set_random_seed(seeds.integer(seed, "builder"))
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "non-integer arguments to randrange")  # Keras 2's own, once it is seeded
                yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002


def built(
    source: Source, arguments: Mapping[str, Any], *, input_shape: tuple[int, ...], classes: int, seed: int
) -> keras.Model:
    """The model that the builder returns for its arguments under a seed.

    Raises:
        UserError: the builder failed, or its model does not suit the records and classes.
    """
    builder = source.load()
    with seeded(seed):
        try:
            model = builder(**arguments)
            fault = _fault(model, input_shape, classes)
        except UserError:
            raise
        except Exception as error:  # whatever a user's function does
            raise _refused(source, where_it_failed(error, source)) from None
    if fault:
        raise _refused(source, fault)
    return model


def _refused(source: Source, why: str) -> UserError:
    return UserError(f"trainer={source.spec}: {why}")


def _fault(model: Any, input_shape: tuple[int, ...], classes: int) -> str:
    """Why the loop cannot train a model, judged by what it says of itself; empty if it can."""
    if not isinstance(model, keras.Model):
        return f"returned {type(model).__name__}; allowed: {ALLOWED}"
    if isinstance(model, keras.Sequential) and not model.built:
        model.build((None, *input_shape))
    inputs, outputs = (list[Any](getattr(model, name, None) or ()) for name in ("inputs", "outputs"))
    if len(inputs) != 1 or len(outputs) != 1:
        known = f"{len(inputs)} inputs and {len(outputs)} outputs that Keras knows of"
        return f"returned {type(model).__name__} with {known}; allowed: {ALLOWED}"
    takes, gives = list(model.input_shape)[1:], tuple(model.output_shape)
    if len(takes) != len(input_shape) or any(mine not in (None, true) for mine, true in zip(takes, input_shape, strict=True)):
        return f"its model takes records of shape {tuple(takes)}, but they have shape {input_shape}; allowed: keras.Input({input_shape})"
    if gives != (None, classes):
        return f"its model has outputs of shape {gives}; allowed: {(None, classes)}, one logit for each class"
    if tf.as_dtype(outputs[0].dtype) != tf.float32:
        return (
            f"its model has outputs of type {tf.as_dtype(outputs[0].dtype).name}; allowed: float32, by the last layer's dtype"
        )
    if not model.trainable_variables:
        return "its model has no weights to train; allowed: at least one trainable layer"
    return ""


def check_built(source: Source, model: keras.Model, again: keras.Model, *, input_shape: tuple[int, ...]) -> None:
    """Compare the models of two calls with one seed, and try one of them on random numbers.

    Raises:
        UserError: the model cannot be called; it gives probabilities; the models share weights, or differ in their initial weights.
    """
    shared = {id(variable) for variable in model.weights} & {id(variable) for variable in again.weights}
    if shared:
        raise _refused(
            source, "two calls returned models that share weights; allowed: a new model, with new layers, at each call"
        )
    same = [np.array_equal(one, two) for one, two in zip(model.get_weights(), again.get_weights(), strict=True)]
    if not all(same):
        raise _refused(
            source,
            "two calls with one seed gave models with different initial weights; allowed: weights that follow from the argument seed, or "
            "from the generators of Keras, TensorFlow, NumPy (np.random) or Python (random), which are seeded before each call",
        )
    x = seeds.stream(0, "try the builder").random((TRIED, *input_shape), np.float32)
    try:
        outputs = np.asarray(model(tf.constant(x), training=False))
    except Exception as error:  # whatever a user's layer does
        raise _refused(source, f"its model cannot be called: {where_it_failed(error, source)}") from None
    if _gives_probabilities(model, outputs):
        raise _refused(
            source,
            "its model gives probabilities; allowed: logits, from a last layer without activation such as softmax or sigmoid",
        )


def _gives_probabilities(model: keras.Model, outputs: np.ndarray[Any, Any]) -> bool:
    """Whether outputs (n, classes) are shares that sum to 1, or those of a last layer with sigmoid."""
    shares = bool(((outputs >= 0) & (outputs <= 1)).all())
    sums = bool((np.abs(outputs.sum(axis=1) - 1) <= SUM).all())
    return shares and (sums or getattr(model.layers[-1], "activation", None) is keras.activations.sigmoid)
