"""Cells of a grid, which hold everything that determines a training but its seed as plain values, and the comparisons between them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from memberscope.training.recipe import Recipe

TREATMENTS = ("kept", "head", "merged")
LevelValue = int | float | str
SettingValue = LevelValue | None  # or a bool; null and booleans are values of parameters of a user's own trainer


@dataclass(frozen=True, kw_only=True)
class Part:
    """The records of a cell's models, and their labels; see `memberscope.sweeps.selection.select`.

    Attributes:
        classes: number of classes that the models distinguish.
        treatment: ``kept`` (only `classes` classes, renumbered), ``head`` (the same, but the model keeps all logits) or ``merged`` (all
            classes, with labels coarsened into `classes` superclasses).
        choice: ``first`` or ``random``: the order of classes, of which the first are kept, or which is cut into superclasses.
        per_class: largest number of records of each class, to which it is cut beforehand; 0: no limit.
        members, nonmembers, validation: number of records on each side.
        audited_members, audited_nonmembers: number of them that are audited, equal in every cell of a grid.
        label_noise: share of labels replaced by another class, equal on every side.
    """

    classes: int
    treatment: str = "kept"
    choice: str = "random"
    per_class: int = 0
    members: int
    nonmembers: int
    validation: int
    audited_members: int
    audited_nonmembers: int
    label_noise: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError if the fields contradict each other."""
        if self.treatment not in TREATMENTS:
            raise ValueError(f"treatment={self.treatment!r}; allowed: {', '.join(TREATMENTS)}")
        if self.audited_members > self.members or self.audited_nonmembers > self.nonmembers:
            raise ValueError("more audited records than there are on a side")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The settings of a training, without its seed.

    Attributes:
        recipe: architecture and training.
        part: the records.
        look_every: epochs between two audits during training; 0: only the audit at the end.
        noise_multiplier: noise of DP-SGD, if `clip` is not 0; with 0 gradients are only clipped, which guarantees nothing.
        clip: norm to which DP-SGD clips each record's gradient; 0: no DP-SGD.
        params: for a trainer of the user's own, the parameters in which it differs from the sweep's; the recipe then says nothing. None
            for the built-in models.
    """

    recipe: Recipe
    part: Part
    look_every: int = 0
    noise_multiplier: float = 0.0
    clip: float = 0.0
    params: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, for JSON."""
        if self.params is not None:
            return {"params": dict(self.params), "part": dataclasses.asdict(self.part)}
        values = {**dataclasses.asdict(self), "recipe": self.recipe.to_dict()}
        del values["params"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the output of `to_dict`."""
        if "params" in values:
            return cls(recipe=Recipe(), part=Part(**values["part"]), params=values["params"])
        recipe = Recipe(**{**values["recipe"], "widths": tuple(values["recipe"]["widths"])})
        return cls(**{**values, "recipe": recipe, "part": Part(**values["part"])})


@dataclass(frozen=True, kw_only=True)
class Level:
    """One value of a factor: the cells that have it, which are averaged, and the epoch whose metrics are used (None: the last).

    A built-in grid has one cell per level. In a product of factors, the cells of a level go through the values of all other factors, in an
    order that is the same for every level.
    """

    value: LevelValue
    cells: tuple[str, ...]
    epoch: int | None = None


@dataclass(frozen=True, kw_only=True)
class LevelComparison:
    """The levels of a factor, with everything else held as `control` states; the others are compared with the first level.

    Attributes:
        factor: the name of the factor that varies.
        control: the grid's name for what is held constant.
        levels: the levels in order.
        matched: the training curve, ``train_loss`` or ``train_accuracy``, at whose equal values metrics are compared; empty: they are
            compared at the end.
    """

    factor: str
    control: str
    levels: tuple[Level, ...]
    matched: str = ""

    @property
    def ordered(self) -> bool:
        """Whether the levels are numbers: the factor's effect is then the last against the first, else each against the first."""
        return all(not isinstance(level.value, str) for level in self.levels)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A built-in grid, or a user's own.

    Attributes:
        name: the name of the grid, such as ``classes``.
        cells: name -> cell; a cell that serves in several comparisons is there once.
        comparisons: the comparisons of the grid.
        notes: control -> one sentence on what it holds constant.
    """

    name: str
    cells: Mapping[str, Cell]
    comparisons: tuple[LevelComparison, ...]
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def settings(self) -> dict[str, dict[str, SettingValue]]:
        """Each cell's values of everything that the cells differ in, such as ``{"merged-4": {"classes": 4, "treatment": "merged"}, ...}``.

        The epochs between audits are not a setting. If the cells do not differ, the architecture's name is used.
        """
        flat: dict[str, dict[str, SettingValue]] = {}
        for name, cell in self.cells.items():
            if cell.params is not None:
                flat[name] = {**dataclasses.asdict(cell.part), **cell.params}
                continue
            parts = {
                **cell.recipe.to_dict(),
                **dataclasses.asdict(cell.part),
                "noise_multiplier": cell.noise_multiplier,
                "clip": cell.clip,
            }
            flat[name] = {key: ",".join(map(str, value)) if isinstance(value, list) else value for key, value in parts.items()}
        first = next(iter(flat.values()))
        varied = [key for key in first if len({values[key] for values in flat.values()}) > 1] or ["model"][: "model" in first]
        return {name: {key: values[key] for key in varied} for name, values in flat.items()}

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, for JSON and for the comparison with a stored Optuna study."""
        return {
            "name": self.name,
            "cells": {name: cell.to_dict() for name, cell in self.cells.items()},
            "comparisons": [dataclasses.asdict(item) for item in self.comparisons],
            "notes": dict(self.notes),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the output of `to_dict`."""
        comparisons = [
            LevelComparison(
                **{**item, "levels": tuple(Level(**{**level, "cells": tuple(level["cells"])}) for level in item["levels"])}
            )
            for item in values["comparisons"]
        ]
        cells = {name: Cell.from_dict(cell) for name, cell in values["cells"].items()}
        return cls(name=values["name"], cells=cells, comparisons=tuple(comparisons), notes=values["notes"])


class Builder:
    """Collects the cells and comparisons of a grid; equal cells share the name of the first."""

    def __init__(self, name: str) -> None:
        """Begin an empty grid of that name."""
        self.name = name
        self._cells: dict[str, Cell] = {}
        self._comparisons: list[LevelComparison] = []
        self._notes: dict[str, str] = {}

    def cell(self, name: str, cell: Cell) -> str:
        """Add a cell, unless there is an equal one, and return the name under which it is kept."""
        for known, other in self._cells.items():
            if other == cell:
                return known
        if name in self._cells:
            name = f"{name}-{hashlib.sha256(json.dumps(cell.to_dict(), sort_keys=True).encode()).hexdigest()[:6]}"
        self._cells[name] = cell
        return name

    def compare(
        self, factor: str, control: str, cells: Mapping[LevelValue, Cell], *, note: str, matched: str = ""
    ) -> tuple[Level, ...]:
        """Add a comparison with one cell per level, and its cells."""
        short = control.replace("_", "-")
        levels = tuple(Level(value=value, cells=(self.cell(f"{short}-{value}", cell),)) for value, cell in cells.items())
        self.add(LevelComparison(factor=factor, control=control, levels=levels, matched=matched), note=note)
        return levels

    def add(self, comparison: LevelComparison, *, note: str) -> None:
        """Add a comparison of cells that have been added."""
        self._comparisons.append(comparison)
        self._notes[comparison.control] = note

    def grid(self) -> Grid:
        """The grid collected so far."""
        return Grid(name=self.name, cells=self._cells, comparisons=tuple(self._comparisons), notes=self._notes)
