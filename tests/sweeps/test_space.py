"""A user's own space: what it means, and the line that each mistake gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from memberscope.config.training import SweepStudyConfig
from memberscope.datasets import LabeledData
from memberscope.errors import UserError
from memberscope.sweeps.search import Search, read_objectives
from memberscope.sweeps.space import Factor, base_cell, check_corners, read_space, space_grid, with_values

Make = Callable[..., SweepStudyConfig]


def _write(folder: Path, text: str) -> str:
    path = folder / "space.yaml"
    path.write_text(text)
    return str(path)


def test_lists_and_ranges(tmp_path: Path) -> None:
    text = "factors:\n  model: [dense, conv]\n  depth: {low: 1, high: 3}\n  learning_rate: {low: 0.001, high: 0.1, log: true}\n"
    factors = read_space(_write(tmp_path, text))
    assert factors == (
        Factor(name="model", values=("dense", "conv")),
        Factor(name="depth", low=1, high=3, whole=True),
        Factor(name="learning_rate", low=0.001, high=0.1, log=True),
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("factors:\n  dept: [1, 2]\n", "dept: unknown key; allowed: .*nearest: depth"),
        ("factor:\n  depth: [1, 2]\n", "factor: unknown key; allowed: factors; nearest: factors"),
        ("factors:\n  depth: {low: 4, high: 2}\n", "depth: the range is reversed or empty, low=4 and high=2"),
        ("factors:\n  depth: {low: 2, high: 2}\n", "reversed or empty"),
        ("factors:\n  depth: {lo: 4, high: 2}\n", r"depth\.lo: unknown key; allowed: low, high, log; nearest: lo"),
        ("factors:\n  depth: {low: 4}\n", "depth: high is missing"),
        ("factors:\n  depth: [0, 2]\n", "depth=0: out of range"),
        ("factors:\n  model: [dense, cnov]\n", "model=cnov: unknown; .*nearest: conv"),
        ("factors:\n  model: {low: 1, high: 2}\n", "model: has no order"),
        ("factors:\n  depth: 3\n", "depth=3: allowed: a list of values"),
        ("factors:\n  depth: [2, 2]\n", "a list of different values"),
        ("factors:\n  label_noise: {low: 0, high: 0.5, log: true}\n", "low=0.0 on a logarithmic scale"),
        ("factors: {}\n", "factors: names none"),
        ("- 1\n", "holds no mapping"),
        ("factors: [unclosed\n", "not YAML"),
    ],
)
def test_mistakes_are_one_line(text: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=line) as caught:
        read_space(_write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_space(str(tmp_path / "none.yaml"))


def test_a_grid_is_the_product_and_averages_the_other_factors(data: LabeledData, config: Make) -> None:
    factors = (Factor(name="depth", values=(1, 2)), Factor(name="members", values=(60, 100, 120)))
    grid = space_grid(data, config(), factors)
    assert len(grid.cells) == 6
    depth, members = grid.comparisons
    assert [len(level.cells) for level in depth.levels] == [3, 3]
    assert [len(level.cells) for level in members.levels] == [2, 2, 2]
    for one, two in zip(depth.levels[0].cells, depth.levels[1].cells, strict=True):
        assert grid.cells[one].part == grid.cells[two].part
        assert (grid.cells[one].recipe.depth, grid.cells[two].recipe.depth) == (1, 2)
    assert {cell.part.audited_members for cell in grid.cells.values()} == {60}


@pytest.mark.parametrize(
    ("factors", "line"),
    [
        ((Factor(name="depth", low=1, high=3, whole=True),), "depth is a range"),
        ((Factor(name="depth", values=(2,)),), "depth has one value"),
        ((Factor(name="model", values=("conv", "dense")), Factor(name="depth", values=(2, 9))), "depth=9: a conv model"),
        ((Factor(name="members", values=(60, 5000)),), "members=5000"),
    ],
)
def test_a_grid_that_cannot_be_is_one_line(factors: tuple[Factor, ...], line: str, data: LabeledData, config: Make) -> None:
    with pytest.raises(UserError, match=line):
        space_grid(data, config(), factors)


def test_the_ends_of_ranges_are_checked_before_a_search(data: LabeledData, config: Make) -> None:
    factors = (Factor(name="model", values=("conv", "dense")), Factor(name="depth", low=1, high=7, whole=True))
    with pytest.raises(UserError, match="depth=7: a conv model"):
        check_corners(data, base_cell(data, config()), factors)
    check_corners(data, base_cell(data, config()), factors[1:])


def test_a_search_asks_for_what_the_space_holds_and_goes_to_json_and_back(data: LabeledData, config: Make) -> None:
    factors = (
        Factor(name="activation", values=("relu", "tanh")), Factor(name="depth", low=1, high=3, whole=True),
        Factor(name="learning_rate", low=1e-3, high=1e-1, log=True),
    )  # fmt: skip
    search = Search(
        factors=factors, base=base_cell(data, config()), objectives=("accuracy", "advantage_heldout"), kind="random", seeds=1, seed=0
    )  # fmt: skip
    assert Search.from_dict(json.loads(json.dumps(search.to_dict()))) == search
    study = optuna.create_study(directions=list(search.directions), sampler=search.sampler(worker=0, done=0))
    for _ in range(20):
        values = search.ask(study.ask())
        recipe = search.cell(values).recipe
        assert values == {"activation": recipe.activation, "depth": recipe.depth, "learning_rate": recipe.learning_rate}
        assert recipe.depth in (1, 2, 3)
        assert 1e-3 <= recipe.learning_rate <= 1e-1
    figures = {"accuracy": 0.8, "tuning_advantage_heldout": 0.1, "advantage_heldout": 0.3}
    assert search.values(figures) == [0.8, 0.1], "the final audit's figures are not what a search goes by"
    assert with_values(search.base, {"members": 50}).part.audited_members == 50


@pytest.mark.parametrize("request_", ["acuracy", "", "auc,auc"])
def test_objectives_that_cannot_be_are_one_line(request_: str) -> None:
    with pytest.raises(UserError, match="objectives="):
        read_objectives(request_)
