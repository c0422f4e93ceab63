"""The built-in grids: what each holds constant is constant, and what the data cannot carry is one line before anything trains."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable

import pytest

from memberscope.config.training import SweepStudyConfig
from memberscope.datasets import LabeledData
from memberscope.errors import UserError
from memberscope.sweeps.base import CONTROLS
from memberscope.sweeps.cells import Cell, Grid, LevelComparison
from memberscope.sweeps.grids import class_levels, make_grid
from memberscope.sweeps.matching import parameter_count

Make = Callable[..., SweepStudyConfig]
NAMES = ("depth", "width", "architecture", "classes", "size", "epochs", "privacy")


def _cells(grid: Grid, control: str) -> dict[object, Cell]:
    comparison = next(item for item in grid.comparisons if item.control == control)
    return {level.value: grid.cells[level.cells[0]] for level in comparison.levels}


def _grid(data: LabeledData, config: SweepStudyConfig) -> Grid:
    return make_grid(config.grid, data, config)


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_is_audited_on_equally_many_records_and_goes_to_json_and_back(
    name: str, data: LabeledData, config: Make
) -> None:
    grid = _grid(data, config(grid=name, members=100, levels="60,100" if name == "size" else "auto"))
    assert len({(cell.part.audited_members, cell.part.audited_nonmembers) for cell in grid.cells.values()}) == 1
    assert Grid.from_dict(json.loads(json.dumps(grid.to_dict()))) == grid
    cells = list(grid.cells.values())
    assert all(one != other for place, one in enumerate(cells) for other in cells[:place]), "equal cells are trained once"
    assert {item.control for item in grid.comparisons} == set(grid.notes)


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_what_the_cells_differ_in(name: str, data: LabeledData, config: Make) -> None:
    grid = _grid(data, config(grid=name, members=100, levels="60,100" if name == "size" else "auto"))
    settings = grid.settings()
    assert list(settings) == list(grid.cells)
    assert len({tuple(of_cell) for of_cell in settings.values()}) == 1, "every cell has a value of each"
    for key in next(iter(settings.values())):
        assert len(grid.cells) == 1 or len({of_cell[key] for of_cell in settings.values()}) > 1, f"{key} is the same everywhere"
    shown = {
        "depth": {"depth"}, "width": {"width"}, "architecture": {"model"}, "classes": {"classes", "treatment"}, "size": {"members"},
        "epochs": {"model"}, "privacy": {"noise_multiplier"},
    }  # fmt: skip
    assert shown[name] <= set(next(iter(settings.values())))
    for cell, of_cell in settings.items():
        assert of_cell.get("depth", grid.cells[cell].recipe.depth) == grid.cells[cell].recipe.depth
        assert of_cell.get("classes", grid.cells[cell].part.classes) == grid.cells[cell].part.classes


def test_classes_under_their_controls(data: LabeledData, config: Make) -> None:
    grid = _grid(data, config(grid="classes"))
    every = {control: _cells(grid, control) for control in ("merged", "natural", "equal_total", "equal_steps", "equal_head")}
    assert all(list(cells) == [2, 4, 6] for cells in every.values())
    assert {cell.part.members for cell in every["merged"].values()} == {120}
    assert [cell.part.members for cell in every["natural"].values()] == [40, 80, 120]
    assert {cell.part.members for cell in every["equal_total"].values()} == {40}
    steps = [
        math.ceil(cell.part.members / cell.recipe.batch_size) * cell.recipe.epochs for cell in every["equal_steps"].values()
    ]
    assert steps == [72, 72, 72]
    assert [cell.part.treatment for cell in every["equal_head"].values()] == ["head", "head", "kept"]
    for control, cells in every.items():
        assert len({cell.recipe for cell in cells.values()}) == 1 or control == "equal_steps"
        if control != "equal_total":
            assert cells[6] == every["natural"][6]


def test_equal_classes_are_added_where_classes_are_unbalanced(data: LabeledData, config: Make) -> None:
    fewer = [k for k in range(len(data)) if data.y[k] != 0 or k < 180]
    lopsided = dataclasses.replace(data, x=data.x[fewer], y=data.y[fewer])
    grid = _grid(lopsided, config(grid="classes", members=100, nonmembers=100, validation=50))
    per_class = _cells(grid, "equal_per_class")
    assert [cell.part.members / level for level, cell in per_class.items()] == [12, 12, 12]
    assert "equal_per_class" not in {item.control for item in _grid(data, config(grid="classes")).comparisons}


@pytest.mark.parametrize(("classes", "levels"), [(10, (2, 4, 6, 8, 10)), (3, (2, 3)), (30, (2, 4, 8, 15, 30))])
def test_class_levels(classes: int, levels: tuple[int, ...]) -> None:
    assert class_levels(classes) == levels


def test_depth_at_fixed_width_and_at_fixed_parameters(data: LabeledData, config: Make) -> None:
    grid = _grid(data, config(grid="depth"))
    assert list(_cells(grid, "dense_fixed_width")) == [1, 2, 4, 8, 16]
    assert list(_cells(grid, "conv_fixed_width")) == [1, 2, 3]
    for model in ("dense", "conv"):
        counts = [
            parameter_count(cell.recipe, input_shape=data.shape, classes=6)
            for cell in _cells(grid, f"{model}_fixed_parameters").values()
        ]
        assert max(counts) / min(counts) < 1.041
        assert {cell.recipe.width for cell in _cells(grid, f"{model}_fixed_width").values()} == {64}
        assert next(item for item in grid.comparisons if item.control == f"{model}_equal_loss").matched == "train_loss"
    assert {cell.look_every for cell in grid.cells.values()} == {2}, "a comparison at equal loss needs the curves"


def test_tables_have_no_conv(data: LabeledData, config: Make) -> None:
    table = dataclasses.replace(data, x=data.x.reshape(len(data), -1)[:, :40])
    for name in ("depth", "width", "epochs", "architecture"):
        grid = _grid(table, config(grid=name))
        assert {cell.recipe.model for cell in grid.cells.values()} <= {"dense", "mlp"}


def test_sizes_are_nested_up_to_all_that_is_left(data: LabeledData, config: Make) -> None:
    cells = _cells(_grid(data, config(grid="size", nonmembers=60, validation=30)), "fixed_audit")
    assert list(cells) == [250, 270]
    assert {cell.part.audited_members for cell in cells.values()} == {250}


def test_privacy_varies_one_of_noise_clip_and_batch(data: LabeledData, config: Make) -> None:
    grid = _grid(data, config(grid="privacy"))
    noise, clip, batch = (_cells(grid, control) for control in ("noise", "clip", "batch"))
    assert [cell.noise_multiplier for cell in noise.values()] == [0.0, 0.5, 1.0, 2.0]
    assert {(cell.clip, cell.recipe.batch_size) for cell in noise.values()} == {(1.0, 10)}
    assert {cell.noise_multiplier for cell in clip.values()} == {1.0}
    assert [cell.recipe.batch_size for cell in batch.values()] == [25, 50, 100]


def test_epochs_are_read_off_one_training(data: LabeledData, config: Make) -> None:
    (dense, _conv) = _grid(data, config(grid="epochs")).comparisons
    assert isinstance(dense, LevelComparison)
    assert [(level.value, level.epoch, level.cells) for level in dense.levels] == [(k, k, ("dense",)) for k in (2, 4, 6)]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"grid": "classes", "levels": "2,7"}, "classes=7: toy has 6 classes; allowed: 2 to 6"),
        ({"grid": "classes", "levels": "1,2"}, "classes=1: toy has 6 classes"),
        (
            {"grid": "depth", "model": "conv", "levels": "1,2,9"},
            "depth=9: a conv model on 32x32x1 inputs can have depth 1 to 3",
        ),
        ({"grid": "classes", "controls": "natral"}, "controls=natral: not one of grid=classes; .*nearest: natural"),
        ({"grid": "size", "levels": "100,4000"}, "members=4000: 6 classes of toy may have only 360 records"),
        ({"grid": "classes", "batch_size": 64}, "batch_size=64: more than the 40 members of cell natural-2"),
        ({"grid": "classes", "levels": "2,x"}, "levels=2,x: allowed"),
        ({"grid": "architecture", "levels": "1,2"}, "levels=1,2: grid=architecture has no numeric levels"),
        ({"grid": "epochs", "levels": "2,99"}, "levels=99: the training has 6 epochs"),
        ({"grid": "classes", "members": 25}, "8 members and 39 non-members are audited in cell merged-2"),
    ],
)
def test_what_the_data_cannot_carry_is_one_line(values: dict[str, object], line: str, data: LabeledData, config: Make) -> None:
    with pytest.raises(UserError, match=line) as caught:
        _grid(data, config(**values))
    assert "\n" not in str(caught.value)


def test_no_seed_is_no_sweep(config: Make) -> None:
    with pytest.raises(UserError, match="seeds=0: out of range"):
        config(seeds=0)


def test_every_control_says_what_it_holds_constant() -> None:
    assert all(note for notes in CONTROLS.values() for note in notes.values())
