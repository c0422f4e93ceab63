"""Cells of a grid: everything that one training is made of but its seed, as plain values; and what is compared with what."""

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


@dataclass(frozen=True, kw_only=True)
class Part:
    """Which records a cell's models see, and under which labels; see `memberscope.sweeps.selection.select`.

    Attributes:
        classes: how many classes there are to tell apart.
        treatment: ``kept`` (so many classes, renumbered), ``head`` (so many classes, but all logits kept) or ``merged`` (all classes,
            their labels coarsened into so many superclasses).
        choice: ``first`` or ``random``: the order of classes of which the first are kept, or which is cut into superclasses.
        per_class: records that each class is cut to beforehand; 0: as they are.
        members, nonmembers, validation: records a side.
        audited_members, audited_nonmembers: how many of them the audit scores, equally many in every cell of a grid.
        label_noise: share of labels replaced by another class, the same on every side.
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
        """Raise ValueError where the parts contradict each other."""
        if self.treatment not in TREATMENTS:
            raise ValueError(f"treatment={self.treatment!r}; allowed: {', '.join(TREATMENTS)}")
        if self.audited_members > self.members or self.audited_nonmembers > self.nonmembers:
            raise ValueError("more audited records than there are on a side")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training but for its seed.

    Attributes:
        recipe: architecture and training.
        part: the records.
        look_every: audit by epoch, every so many epochs; 0: at the end alone.
        noise_multiplier: of DP-SGD, where `clip` says that it trains; 0: clipping alone, which promises nothing.
        clip: the norm that DP-SGD clips each record's gradient to; 0: no DP-SGD.
    """

    recipe: Recipe
    part: Part
    look_every: int = 0
    noise_multiplier: float = 0.0
    clip: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, for JSON."""
        return {**dataclasses.asdict(self), "recipe": self.recipe.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        recipe = Recipe(**{**values["recipe"], "widths": tuple(values["recipe"]["widths"])})
        return cls(**{**values, "recipe": recipe, "part": Part(**values["part"])})


@dataclass(frozen=True, kw_only=True)
class Level:
    """One value of a factor: the cells that have it, averaged, and the epoch at which they are read (None: the last).

    A built-in grid has one cell a level. In a product of factors the cells of a level go through the values of all others, in an order that
    every level of the factor shares.
    """

    value: LevelValue
    cells: tuple[str, ...]
    epoch: int | None = None


@dataclass(frozen=True, kw_only=True)
class LevelComparison:
    """A factor's levels with all else held as `control` says; the first level is what the others are compared with.

    Attributes:
        factor: what is varied.
        control: what is held constant, as the grid names it.
        levels: in order.
        matched: figures are read off the curves by epoch where this one, ``train_loss`` or ``train_accuracy``, is equal; empty: at the end.
    """

    factor: str
    control: str
    levels: tuple[Level, ...]
    matched: str = ""

    @property
    def ordered(self) -> bool:
        """Whether the levels are numbers: then the last against the first is the factor's effect, else each against the first."""
        return all(not isinstance(level.value, str) for level in self.levels)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A built-in grid, or a user's own.

    Attributes:
        name: such as ``classes``.
        cells: name -> cell; equal cells that serve in several comparisons are there once.
        comparisons: what the answer compares.
        notes: control -> one sentence on what it holds constant.
    """

    name: str
    cells: Mapping[str, Cell]
    comparisons: tuple[LevelComparison, ...]
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def settings(self) -> dict[str, dict[str, LevelValue]]:
        """Each cell's values of everything that the cells differ in, such as ``{"merged-4": {"classes": 4, "treatment": "merged"}, ...}``.

        How often a cell is audited is not a setting. If the cells do not differ, the architecture's name is used.
        """
        flat: dict[str, dict[str, LevelValue]] = {}
        for name, cell in self.cells.items():
            parts = {
                **cell.recipe.to_dict(),
                **dataclasses.asdict(cell.part),
                "noise_multiplier": cell.noise_multiplier,
                "clip": cell.clip,
            }
            flat[name] = {key: ",".join(map(str, value)) if isinstance(value, list) else value for key, value in parts.items()}
        first = next(iter(flat.values()))
        varied = [key for key in first if len({values[key] for values in flat.values()}) > 1] or ["model"]
        return {name: {key: values[key] for key in varied} for name, values in flat.items()}

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, for JSON and for the comparison with a study's own."""
        return {
            "name": self.name,
            "cells": {name: cell.to_dict() for name, cell in self.cells.items()},
            "comparisons": [dataclasses.asdict(item) for item in self.comparisons],
            "notes": dict(self.notes),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        comparisons = [
            LevelComparison(
                **{**item, "levels": tuple(Level(**{**level, "cells": tuple(level["cells"])}) for level in item["levels"])}
            )
            for item in values["comparisons"]
        ]
        cells = {name: Cell.from_dict(cell) for name, cell in values["cells"].items()}
        return cls(name=values["name"], cells=cells, comparisons=tuple(comparisons), notes=values["notes"])


class Builder:
    """Collects cells and comparisons of a grid; an equal cell keeps the name that it got first."""

    def __init__(self, name: str) -> None:
        """An empty grid of that name."""
        self.name = name
        self._cells: dict[str, Cell] = {}
        self._comparisons: list[LevelComparison] = []
        self._notes: dict[str, str] = {}

    def cell(self, name: str, cell: Cell) -> str:
        """The name under which an equal cell is kept: `name`, unless it is there already."""
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
        """Add a comparison of a cell a level."""
        short = control.replace("_", "-")
        levels = tuple(Level(value=value, cells=(self.cell(f"{short}-{value}", cell),)) for value, cell in cells.items())
        self.add(LevelComparison(factor=factor, control=control, levels=levels, matched=matched), note=note)
        return levels

    def add(self, comparison: LevelComparison, *, note: str) -> None:
        """Add a comparison of cells that are there."""
        self._comparisons.append(comparison)
        self._notes[comparison.control] = note

    def grid(self) -> Grid:
        """The grid."""
        return Grid(name=self.name, cells=self._cells, comparisons=tuple(self._comparisons), notes=self._notes)
