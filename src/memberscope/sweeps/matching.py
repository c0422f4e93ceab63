"""Models with equal numbers of parameters, and metrics at equal training, for fair comparisons of architectures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from memberscope.errors import UserError
from memberscope.models import KERNEL, hidden_widths, is_convolutional
from memberscope.training.recipe import Recipe

TOLERANCE = 0.02  # largest relative difference of matched parameter counts
MOST_WIDTH = 65_536


def parameter_count(recipe: Recipe, *, input_shape: Sequence[int], classes: int) -> int:
    """The number of trainable parameters (kernels and biases) of the recipe's model, in closed form."""
    total = 0
    if is_convolutional(recipe.model):
        height, width, channels = input_shape
        for _ in range(recipe.depth):
            total += (KERNEL * KERNEL * channels + 1) * recipe.filters
            height, width, channels = (height - KERNEL + 1) // 2, (width - KERNEL + 1) // 2, recipe.filters
        inputs = height * width * channels
    else:
        inputs = math.prod(input_shape)
    for units in (*hidden_widths(recipe.model, depth=recipe.depth, width=recipe.width, widths=recipe.widths), classes):
        total += (inputs + 1) * units
        inputs = units
    return total


def match_parameters(recipe: Recipe, target: int, *, input_shape: Sequence[int], classes: int) -> Recipe:
    """The recipe with a width (for conv: filters, and the width of the dense layer) at which its parameter count is within 2% of `target`.

    Raises:
        UserError: there is no such width.
    """

    def off(candidate: Recipe) -> float:
        return abs(parameter_count(candidate, input_shape=input_shape, classes=classes) / target - 1)

    def widened(candidate: Recipe) -> Recipe:
        """The candidate with the width whose count is nearest, by bisection: the count grows with the width."""
        low, high = 1, 2
        while high < MOST_WIDTH and _count(candidate, high, input_shape, classes) < target:
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if _count(candidate, middle, input_shape, classes) < target else (low, middle)
        both = [dataclasses.replace(candidate, width=width, widths=()) for width in (low, high)]
        return min(both, key=off)

    found = [widened(recipe)]
    if is_convolutional(recipe.model):
        found = [widened(dataclasses.replace(recipe, filters=filters)) for filters in range(1, 1025)]
    close = [candidate for candidate in found if off(candidate) <= TOLERANCE]
    if not close:
        best = min(found, key=off)
        count = parameter_count(best, input_shape=input_shape, classes=classes)
        raise UserError(
            f"depth={recipe.depth}: no width of a {recipe.model} model has {target:,} parameters within {TOLERANCE:.0%} "
            f"(nearest: {count:,} at width {best.width}); allowed: a wider base model, or other levels"
        )

    def moved(candidate: Recipe) -> float:
        return abs(math.log(candidate.filters / recipe.filters)) + abs(math.log(candidate.width / recipe.width))

    return min(close, key=moved)


def _count(recipe: Recipe, width: int, input_shape: Sequence[int], classes: int) -> int:
    return parameter_count(dataclasses.replace(recipe, width=width, widths=()), input_shape=input_shape, classes=classes)


def reach(curves: Sequence[Sequence[float]], *, falling: bool) -> float:
    """The furthest value that every curve reaches: the worst of their best values.

    Args:
        curves: one sequence per model, by epoch.
        falling: whether training lowers the value (a loss) or raises it (an accuracy).
    """
    best = [min(curve) if falling else max(curve) for curve in curves]
    return max(best) if falling else min(best)


def read_at(curve: Sequence[float], figures: Sequence[float], level: float, *, falling: bool) -> float:
    """The value of a metric where a curve first reaches a level, by linear interpolation between the two epochs around it.

    Args:
        curve, figures: (n,) values of the curve and of the metric at the same epochs.
        level: see `reach`.
        falling: see `reach`.

    Raises:
        ValueError: the curve never reaches the level.
    """
    values = np.asarray(curve, dtype=np.float64) * (-1.0 if falling else 1.0)
    goal = -level if falling else level
    reached = np.flatnonzero(values >= goal)
    if not len(reached):
        raise ValueError(f"the curve never reaches {level}")
    at = int(reached[0])
    if at == 0:
        return float(figures[0])
    share = (goal - values[at - 1]) / (values[at] - values[at - 1])
    return float(figures[at - 1] + share * (figures[at] - figures[at - 1]))
