"""A user's own space, from a YAML file: lists of values, or ranges, of factors that a cell has.

    factors:
      model: [dense, conv]
      depth: {low: 1, high: 8, log: true}
      learning_rate: {low: 0.0001, high: 0.01, log: true}

A factor that is not named has the value of the sweep's option.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memberscope.config import Integer, Real, SweepStudyConfig
from memberscope.datasets.labeled import LabeledData
from memberscope.errors import UserError, nearest
from memberscope.installed import require
from memberscope.sweeps.base import base_of
from memberscope.sweeps.cells import Builder, Cell, Grid, Level, LevelComparison
from memberscope.sweeps.grids import check, equal_audits

TRAINING = ("model", "depth", "width", "filters", "activation", "epochs", "batch_size", "learning_rate")
RECORDS = ("members", "label_noise")
FACTORS = (*TRAINING, *RECORDS)
RANGE = ("low", "high", "log")
MOST_CELLS = 10_000


@dataclass(frozen=True, kw_only=True)
class Factor:
    """One dimension: `values` of a list, or `low` to `high`, both included, on a logarithmic scale if `log`."""

    name: str
    values: tuple[int | float | str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    def ask(self, trial: Any) -> int | float | str:
        """A value from an Optuna trial."""
        if self.values:
            return trial.suggest_categorical(self.name, self.values)  # type: ignore[no-any-return]  # Optuna's own Any
        if self.whole:
            return int(trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log))
        return float(trial.suggest_float(self.name, self.low, self.high, log=self.log))

    def ends(self) -> tuple[int | float | str, ...]:
        """The values of a list, or both ends of a range."""
        if self.values:
            return self.values
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)


def read_space(path: str) -> tuple[Factor, ...]:
    """The factors of a YAML file.

    Raises:
        UserError: PyYAML is not installed; the file does not exist or is not YAML; there is an unknown key (the message suggests the
            nearest), a value that its option does not allow, or a reversed range.
    """
    require("yaml", by=f"space={path}")
    import yaml

    try:
        content = yaml.safe_load(Path(path).expanduser().read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"space={path}: cannot be read ({error}); allowed: the path of a YAML file") from None
    except yaml.YAMLError as error:
        raise UserError(
            f"space={path}: not YAML ({' '.join(str(error).split())[:150]}); allowed: factors: with lists or ranges"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"space={path}: holds no mapping; allowed: factors: with lists or ranges")
    for key in content:
        if key != "factors":
            raise UserError(f"space={path}: {key}: unknown key; allowed: factors{nearest(str(key), ('factors',))}")
    factors = content.get("factors")
    if not isinstance(factors, dict) or not factors:
        raise UserError(f"space={path}: factors: names none; allowed: some of {', '.join(FACTORS)}")
    return tuple(_factor(path, str(name), given) for name, given in factors.items())


def _factor(path: str, name: str, given: Any) -> Factor:
    if name not in FACTORS:
        raise UserError(f"space={path}: {name}: unknown key; allowed: {', '.join(FACTORS)}{nearest(name, FACTORS)}")
    fields = {item.name: item.metadata["check"] for item in dataclasses.fields(SweepStudyConfig)}
    rule = fields[name]

    def parse(value: Any) -> Any:
        try:
            return rule.parse(name, value)
        except UserError as error:
            raise UserError(f"space={path}: {error}") from None

    if isinstance(given, list) and given:
        values = tuple(parse(value) for value in given)
        if "auto" in values or len(set(values)) < len(values):
            raise UserError(f"space={path}: {name}={given}: allowed: a list of different values, none of them auto")
        return Factor(name=name, values=values)
    if not isinstance(given, dict):
        raise UserError(f"space={path}: {name}={given}: allowed: a list of values, or {{low: ..., high: ..., log: true}}")
    for key in given:
        if key not in RANGE:
            raise UserError(f"space={path}: {name}.{key}: unknown key; allowed: {', '.join(RANGE)}{nearest(str(key), RANGE)}")
    if not isinstance(rule, Integer | Real):
        raise UserError(f"space={path}: {name}: has no order, so it cannot have a range; allowed: a list of values")
    missing = [key for key in ("low", "high") if key not in given]
    if missing:
        raise UserError(f"space={path}: {name}: {missing[0]} is missing; allowed: {{low: ..., high: ..., log: true}}")
    low, high, log = parse(given["low"]), parse(given["high"]), given.get("log", False)
    if "auto" in (low, high) or not isinstance(log, bool):
        raise UserError(f"space={path}: {name}={given}: allowed: numbers for low and high, true or false for log")
    if not low < high:
        raise UserError(
            f"space={path}: {name}: the range is reversed or empty, low={low} and high={high}; allowed: low below high"
        )
    if log and not low > 0:
        raise UserError(f"space={path}: {name}: low={low} on a logarithmic scale; allowed: above 0")
    return Factor(name=name, low=low, high=high, log=log, whole=isinstance(rule, Integer))


def base_cell(data: LabeledData, config: SweepStudyConfig) -> Cell:
    """The cell that the sweep's options request."""
    base = base_of(data, config)
    return Cell(recipe=base.recipe, part=base.whole)


def with_values(cell: Cell, values: Mapping[str, Any]) -> Cell:
    """The cell with some factors set; the number of audited members is reduced if there are fewer members."""
    training = {name: value for name, value in values.items() if name in TRAINING}
    records = {name: value for name, value in values.items() if name in RECORDS}
    if "members" in records:
        records["audited_members"] = min(cell.part.audited_members, records["members"])
    return dataclasses.replace(
        cell, recipe=dataclasses.replace(cell.recipe, **training), part=dataclasses.replace(cell.part, **records)
    )


def check_corners(data: LabeledData, base: Cell, factors: tuple[Factor, ...]) -> None:
    """Raise UserError unless every combination of the factors' values (for ranges: their ends) can be trained and audited."""
    builder = Builder("space")
    for number, values in enumerate(_product(factors)):
        builder.cell(f"corner-{number}", with_values(base, values))
    check(builder.grid(), data)


def space_grid(data: LabeledData, config: SweepStudyConfig, factors: tuple[Factor, ...]) -> Grid:
    """The product of the factors' lists as a grid: the effect of a factor is averaged over the values of all others, for each seed.

    Raises:
        UserError: a range (a grid needs lists), too many cells, or a cell that cannot be trained and audited.
    """
    for factor in factors:
        if not factor.values:
            raise UserError(f"space: {factor.name} is a range; allowed with sampler=grid: a list of values")
        if len(factor.values) < 2:
            raise UserError(f"space: {factor.name} has one value; allowed with sampler=grid: at least two")
    count = 1
    for factor in factors:
        count *= len(factor.values)
    if count > MOST_CELLS:
        raise UserError(
            f"space: {count:,} cells; allowed: at most {MOST_CELLS:,} (sampler=random and sampler=tpe sample from larger spaces)"
        )
    base, builder = base_cell(data, config), Builder("space")
    named: list[tuple[str, Mapping[str, Any]]] = []
    for values in _product(factors):
        name = "-".join(f"{key.replace('_', '-')}{value}" for key, value in values.items())
        named.append((builder.cell(name, with_values(base, values)), values))
    for factor in factors:
        levels = tuple(
            Level(value=value, cells=tuple(name for name, values in named if values[factor.name] == value))
            for value in factor.values
        )
        builder.add(
            LevelComparison(factor=factor.name, control=f"{factor.name}_averaged", levels=levels),
            note="each value against the first, averaged over the values of all other factors",
        )
    grid = equal_audits(builder.grid())
    check(grid, data)
    return grid


def _product(factors: tuple[Factor, ...]) -> list[dict[str, Any]]:
    names = [factor.name for factor in factors]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*(factor.ends() for factor in factors))]
