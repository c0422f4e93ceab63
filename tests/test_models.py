from __future__ import annotations

import re
from pathlib import Path

import pytest

from memberscope import models
from memberscope.errors import UserError
from memberscope.models import build_model, check_model, largest_depth, summary_text


@pytest.mark.parametrize(
    ("architecture", "depth", "classes", "parameters"),
    [("conv", 3, 10, 28_298), ("dense", 3, 10, 209_802), ("dense", 6, 10, 222_282), ("dense", 3, 4, 209_412)],
)
def test_the_case_studys_parameter_counts(architecture: str, depth: int, classes: int, parameters: int) -> None:
    model = build_model(architecture, depth=depth, input_shape=(32, 32, 3), classes=classes)
    assert model.count_params() == parameters
    assert f"{parameters}" in summary_text(model).replace(",", "")


@pytest.mark.parametrize(("side", "most"), [(32, 3), (28, 3), (64, 4), (3, 0), (4, 1), (10, 2)])
def test_largest_depth_is_the_largest_that_builds(side: int, most: int) -> None:
    assert largest_depth("conv", (side, side, 1)) == most
    if most:
        build_model("conv", depth=most, input_shape=(side, side, 1), classes=2)
    with pytest.raises(UserError, match=rf"depth={most + 1}: .* {side}x{side}x1 inputs .* 1 to"):
        build_model("conv", depth=most + 1, input_shape=(side, side, 1), classes=2)


def test_seed_decides_the_weights() -> None:
    def kernels(seed: int) -> list[bytes]:
        return [w.tobytes() for w in build_model("dense", depth=2, input_shape=(4, 4, 1), classes=3, seed=seed).get_weights()]

    assert kernels(1) == kernels(1)
    assert kernels(1) != kernels(2)
    weights = build_model("dense", depth=2, input_shape=(64,), classes=3, seed=1).get_weights()
    assert not (weights[0] == weights[2]).all(), "each layer has a stream of its own"


def test_unknown_architecture() -> None:
    with pytest.raises(UserError, match=r"model=desne: .*nearest: dense"):
        build_model("desne", depth=1, input_shape=(4,), classes=2)
    with pytest.raises(UserError, match="needs images"):
        build_model("conv", depth=1, input_shape=(4,), classes=2)


def test_images_of_another_layout_are_told_what_to_do() -> None:
    with pytest.raises(
        UserError, match=r"shape \(28, 28\); allowed here: dense, mlp, or images with a channel axis: x\[\.\.\., None\]"
    ) as caught:
        check_model("conv", depth=1, input_shape=(28, 28))
    assert "(28, 28, 1)" in str(caught.value)
    check_model("conv", depth=1, input_shape=(28, 28, 1))
    check_model("dense", depth=1, input_shape=(28, 28))
    with pytest.raises(UserError, match=r"depth 1 to 1; if the first axis holds the channels.*np\.moveaxis\(x, 1, -1\)"):
        check_model("conv", depth=2, input_shape=(4, 32, 32))
    with pytest.raises(UserError, match=r"8x8x3 inputs can have depth 1 to 1$"):
        check_model("conv", depth=3, input_shape=(8, 8, 3))


def test_only_the_convolutional_architecture_has_a_largest_depth() -> None:
    shape = (32, 32, 3)
    for architecture in models.ARCHITECTURES:
        assert models.is_convolutional(architecture) == (models.largest_depth(architecture, shape) is not None)
    assert [name for name in models.ARCHITECTURES if models.is_convolutional(name)] == ["conv"]


@pytest.mark.parametrize("room", ["sweeps", "studies", "synthesis"])
def test_no_study_or_grid_decides_by_the_name_of_an_architecture(room: str) -> None:
    """They ask `memberscope.models`, the recipe or the trainer, so that another architecture is added in one place."""
    folder = Path(models.__file__).parent / room
    compared = re.compile(r"(model|architecture)\s*(==|!=|in)\s*[(\"'][^)]*?(conv|mlp)")
    found = [
        f"{path.relative_to(folder)}: {line.strip()}"
        for path in sorted(folder.rglob("*.py"))
        for line in path.read_text().splitlines()
        if compared.search(line)
    ]
    assert not found
