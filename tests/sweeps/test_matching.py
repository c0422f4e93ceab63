"""Parameter counts against Keras, widths that match them, and figures read where training curves agree."""

from __future__ import annotations

import pytest

from memberscope.errors import UserError
from memberscope.sweeps.matching import TOLERANCE, match_parameters, parameter_count, reach, read_at
from memberscope.training.recipe import Recipe

SHAPE, CLASSES = (32, 32, 3), 10


@pytest.mark.parametrize(
    ("recipe", "published"),
    [
        (Recipe(model="conv", depth=3), 28_298),
        (Recipe(model="dense", depth=3), 209_802),
        (Recipe(model="dense", depth=6), 222_282),
        (Recipe(model="mlp", depth=2, width=16), None),
        (Recipe(model="mlp", widths=(24, 8)), None),
        (Recipe(model="conv", depth=1, filters=5, width=7), None),
    ],
)
@pytest.mark.slow  # Keras counts, too
def test_the_count_is_that_of_keras_and_of_the_case_study(recipe: Recipe, published: int | None) -> None:
    count = parameter_count(recipe, input_shape=SHAPE, classes=CLASSES)
    assert count == recipe.build(input_shape=SHAPE, classes=CLASSES, seed=0).count_params()
    assert published in (None, count)


@pytest.mark.parametrize("model", ["dense", "mlp", "conv"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_matched_counts_agree_within_two_percent(model: str, depth: int) -> None:
    target = parameter_count(Recipe(model="conv", depth=2), input_shape=SHAPE, classes=CLASSES)
    matched = match_parameters(Recipe(model=model, depth=depth), target, input_shape=SHAPE, classes=CLASSES)
    assert (matched.model, matched.depth) == (model, depth)
    assert parameter_count(matched, input_shape=SHAPE, classes=CLASSES) == pytest.approx(target, rel=TOLERANCE)


def test_a_count_that_no_width_gives_is_one_line() -> None:
    with pytest.raises(UserError, match="no width of a dense model has 2,000 parameters within 2%"):
        match_parameters(Recipe(model="dense", depth=2), 2_000, input_shape=SHAPE, classes=CLASSES)


def test_figures_are_read_where_the_curves_first_agree() -> None:
    fast, slow = [2.0, 1.0, 0.5], [2.0, 1.6, 1.2]
    level = reach([fast, slow], falling=True)
    assert level == 1.2
    assert read_at(slow, [0.0, 0.1, 0.3], level, falling=True) == pytest.approx(0.3)
    assert read_at(fast, [0.0, 0.4, 0.9], level, falling=True) == pytest.approx(0.4 * 0.8)
    assert read_at([1.0, 1.1], [0.7, 0.9], 1.5, falling=True) == 0.7
    assert reach([[0.2, 0.9], [0.3, 0.6]], falling=False) == 0.6
    assert read_at([0.2, 0.9, 0.8], [0.0, 0.7, 0.1], 0.55, falling=False) == pytest.approx(0.35)
    with pytest.raises(ValueError, match="never reaches"):
        read_at(slow, [0.0, 0.1, 0.3], 1.0, falling=True)
