"""A user's own space, from a YAML file: lists of values, or ranges, of factors that a cell has.

    factors:
      model: [dense, conv]
      depth: {low: 1, high: 8, log: true}
      learning_rate: {low: 0.0001, high: 0.01, log: true}

A factor that is not named has the value of the sweep's option. With a trainer of the user's own, the factors are its parameters, and
those of the records.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memberscope.config import Integer, Real
from memberscope.config.training import SweepStudyConfig
from memberscope.datasets.labeled import LabeledData
from memberscope.errors import UserError, nearest
from memberscope.reading.text import read_yaml
from memberscope.sweeps.base import base_of
from memberscope.sweeps.cells import Builder, Cell, Grid, Level, LevelComparison, LevelValue, SettingValue
from memberscope.sweeps.grids import check, equal_audits
from memberscope.sweeps.trials import CELL, SEED
from memberscope.training.outside.params import plain_value
from memberscope.training.trainer import Trainer

TRAINING = ("model", "depth", "width", "filters", "activation", "epochs", "batch_size", "learning_rate")
LOOP = ("epochs", "batch_size", "learning_rate")  # of `TRAINING`, those of the built-in training loop
RECORDS = ("members", "label_noise")
FACTORS = (*TRAINING, *RECORDS)
NO_FACTORS = (CELL, SEED)  # names that a trial's own parameters have
RANGE = ("low", "high", "log")
MOST_CELLS = 10_000
MOST_CORNERS = 2_000
MOST_LEVELS = 1_000  # values of one list


@dataclass(frozen=True, kw_only=True)
class Factor:
    """One dimension: `values` of a list, or `low` to `high`, both included, on a logarithmic scale if `log`."""

    name: str
    values: tuple[SettingValue, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    def ask(self, trial: Any) -> SettingValue:
        """A value from an Optuna trial."""
        if self.values:
            return trial.suggest_categorical(self.name, self.values)  # type: ignore[no-any-return]  # Optuna's own Any
        if self.whole:
            return int(trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log))
        return float(trial.suggest_float(self.name, self.low, self.high, log=self.log))

    def ends(self) -> tuple[SettingValue, ...]:
        """The values of a list, or both ends of a range."""
        if self.values:
            return self.values
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)


def read_space(path: str, own: Trainer | None = None) -> tuple[Factor, ...]:
    """The factors of a YAML file.

    Args:
        path: the file.
        own: a trainer of the user's own, whose parameters are factors; None for the built-in models.

    Raises:
        UserError: PyYAML is not installed; the file does not exist or is not YAML; there is an unknown key (the message suggests the
            nearest), a value that its option does not allow, or a reversed range.
    """
    content = read_yaml(path, option="space", allowed="the path of a YAML file with factors: lists or ranges")
    if not isinstance(content, dict):
        raise UserError(f"space={path}: holds no mapping; allowed: factors: with lists or ranges")
    for key in content:
        if key != "factors":
            raise UserError(f"space={path}: {key}: unknown key; allowed: factors{nearest(str(key), ('factors',))}")
    factors = content.get("factors")
    if not isinstance(factors, dict) or not factors:
        some = ", ".join(FACTORS) if own is None else f"the parameters of {own.name}, {', '.join(RECORDS)}"
        raise UserError(f"space={path}: factors: names none; allowed: some of {some}")
    return tuple(_factor(path, str(name), given, own) for name, given in factors.items())


def _factor(path: str, name: str, given: Any, own: Trainer | None) -> Factor:
    if own is not None and name not in RECORDS and not (name in LOOP and "epochs" in own.capabilities):
        return _param(path, name, given, own)
    if name not in FACTORS:
        raise UserError(f"space={path}: {name}: unknown key; allowed: {', '.join(FACTORS)}{nearest(name, FACTORS)}")
    fields = {item.name: item.metadata["check"] for item in dataclasses.fields(SweepStudyConfig)}
    rule = fields[name]

    def parse(value: Any) -> Any:
        try:
            return rule.parse(name, value)
        except UserError as error:
            raise UserError(f"space={path}: {error}") from None

    if isinstance(given, list) and len(given) > MOST_LEVELS:
        raise UserError(
            f"space={path}: {name}: {len(given):,} values; allowed: at most {MOST_LEVELS:,}, or {{low: ..., high: ...}}"
        )
    if isinstance(given, list) and given:
        values = tuple(parse(value) for value in given)
        if "auto" in values or len(set(values)) < len(values):
            raise UserError(f"space={path}: {name}={given}: allowed: a list of different values, none of them auto")
        return Factor(name=name, values=values)
    if isinstance(given, dict) and not isinstance(rule, Integer | Real):
        raise UserError(f"space={path}: {name}: has no order, so it cannot have a range; allowed: a list of values")
    low, high, log = _range(path, name, given, parse)
    return Factor(name=name, low=low, high=high, log=log, whole=isinstance(rule, Integer))


def _param(path: str, name: str, given: Any, own: Trainer) -> Factor:
    """A parameter of a user's own trainer as a factor."""
    if name in NO_FACTORS or not name.isidentifier():
        raise UserError(
            f"space={path}: {name}: cannot be a factor; allowed: parameters of {own.name}, and seeds by the option seeds"
        )

    def parse(value: Any) -> Any:
        plain = plain_value(value, f"space={path}: {name}")
        if isinstance(plain, list | dict):
            raise UserError(
                f"space={path}: {name}={given}: allowed: numbers, text, true or false, and null, not lists of these"
            )
        return plain

    if isinstance(given, list) and len(given) > MOST_LEVELS:
        raise UserError(
            f"space={path}: {name}: {len(given):,} values; allowed: at most {MOST_LEVELS:,}, or {{low: ..., high: ...}}"
        )
    if isinstance(given, list) and given:
        values = tuple(parse(value) for value in given)
        if len(set(values)) < len(values):
            raise UserError(f"space={path}: {name}={given}: allowed: a list of different values")
        factor = Factor(name=name, values=values)
    else:
        low, high, log = _range(path, name, given, parse)
        whole = isinstance(low, int) and isinstance(high, int)
        factor = Factor(name=name, low=low, high=high, log=log, whole=whole)
    for value in factor.ends():
        try:
            own.with_params(**{name: value})
        except UserError as error:
            raise UserError(f"space={path}: {error}") from None
    return factor


def _range(path: str, name: str, given: Any, parse: Callable[[Any], Any]) -> tuple[Any, Any, bool]:
    """The ends of a range, and whether its scale is logarithmic."""
    if not isinstance(given, dict):
        raise UserError(f"space={path}: {name}={given}: allowed: a list of values, or {{low: ..., high: ..., log: true}}")
    for key in given:
        if key not in RANGE:
            raise UserError(f"space={path}: {name}.{key}: unknown key; allowed: {', '.join(RANGE)}{nearest(str(key), RANGE)}")
    missing = [key for key in ("low", "high") if key not in given]
    if missing:
        raise UserError(f"space={path}: {name}: {missing[0]} is missing; allowed: {{low: ..., high: ..., log: true}}")
    low, high, log = parse(given["low"]), parse(given["high"]), given.get("log", False)
    if not (_is_number(low) and _is_number(high)) or not isinstance(log, bool):
        raise UserError(f"space={path}: {name}={given}: allowed: numbers for low and high, true or false for log")
    if not low < high:
        raise UserError(
            f"space={path}: {name}: the range is reversed or empty, low={low} and high={high}; allowed: low below high"
        )
    if log and not low > 0:
        raise UserError(f"space={path}: {name}: low={low} on a logarithmic scale; allowed: above 0")
    return low, high, log


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def base_cell(data: LabeledData, config: SweepStudyConfig, own: Trainer | None = None) -> Cell:
    """The cell that the sweep's options request."""
    base = base_of(data, config)
    return Cell(recipe=base.recipe, part=base.whole, params=None if own is None else {})


def with_values(cell: Cell, values: Mapping[str, Any]) -> Cell:
    """The cell with some factors set; the number of audited members is reduced if there are fewer members."""
    training = {name: value for name, value in values.items() if name not in RECORDS}
    records = {name: value for name, value in values.items() if name in RECORDS}
    if "members" in records:
        records["audited_members"] = min(cell.part.audited_members, records["members"])
    if cell.params is not None:
        return dataclasses.replace(cell, params={**cell.params, **training}, part=dataclasses.replace(cell.part, **records))
    return dataclasses.replace(
        cell, recipe=dataclasses.replace(cell.recipe, **training), part=dataclasses.replace(cell.part, **records)
    )


def check_corners(
    data: LabeledData, base: Cell, factors: tuple[Factor, ...], own: Trainer | None = None, *, reserved: int = 0
) -> None:
    """Raise UserError unless every combination of the factors' values (for ranges: their ends) can be trained and audited.

    Of more than `MOST_CORNERS` combinations, those of each factor's ends are tried, of a list its first and last values and its lowest and
    highest number, together with each value beside the first of all others; with still more, the latter alone.
    """
    builder = Builder("space")
    for number, values in enumerate(_corners(factors)):
        builder.cell(f"corner-{number}", with_values(base, values))
    check(builder.grid(), data, own, reserved=reserved)


def _corners(factors: tuple[Factor, ...]) -> list[dict[str, Any]]:
    """The combinations that `check_corners` tries, each once."""
    if _count(factors) <= MOST_CORNERS:
        return _product(factors)
    first = {factor.name: factor.ends()[0] for factor in factors}
    found = [{**first, factor.name: value} for factor in factors for value in factor.ends()]
    narrow = tuple(dataclasses.replace(factor, values=_extremes(factor.values)) for factor in factors)
    found += _product(narrow) if _count(narrow) <= MOST_CORNERS else []
    return list({repr(values): values for values in found}.values())


def _count(factors: tuple[Factor, ...]) -> int:
    return math.prod(len(factor.ends()) for factor in factors)


def _extremes(values: tuple[SettingValue, ...]) -> tuple[SettingValue, ...]:
    """Of a list of values the first and the last, and the lowest and the highest number; of none, none."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    ends = [*values[:1], *values[-1:], *([min(numbers), max(numbers)] if numbers else [])]
    return tuple(dict.fromkeys(ends))


def space_grid(data: LabeledData, config: SweepStudyConfig, factors: tuple[Factor, ...], own: Trainer | None = None) -> Grid:
    """The product of the factors' lists as a grid: the effect of a factor is averaged over the values of all others, for each seed.

    Raises:
        UserError: a range (a grid needs lists), too many cells, or a cell that cannot be trained and audited.
    """
    for factor in factors:
        if not factor.values:
            raise UserError(f"space: {factor.name} is a range; allowed with sampler=grid: a list of values")
        if len(factor.values) < 2:
            raise UserError(f"space: {factor.name} has one value; allowed with sampler=grid: at least two")
    count = _count(factors)
    if count > MOST_CELLS:
        raise UserError(
            f"space: {count:,} cells; allowed: at most {MOST_CELLS:,} (sampler=random and sampler=tpe sample from larger spaces)"
        )
    base, builder = base_cell(data, config, own), Builder("space")
    named: list[tuple[str, Mapping[str, Any]]] = []
    for values in _product(factors):
        name = "-".join(f"{key.replace('_', '-')}{_in_names(value)}" for key, value in values.items())
        named.append((builder.cell(name, with_values(base, values)), values))
    for factor in factors:
        levels = tuple(
            Level(value=shown, cells=tuple(name for name, values in named if values[factor.name] == value))
            for value, shown in zip(factor.values, _level_values(factor.values), strict=True)
        )
        builder.add(
            LevelComparison(factor=factor.name, control=f"{factor.name}_averaged", levels=levels),
            note="each value against the first, averaged over the values of all other factors",
        )
    grid = equal_audits(builder.grid())
    check(grid, data, own, reserved=config.reserved)
    return grid


def _in_names(value: Any) -> str:
    """A value as a part of a run's name."""
    return re.sub(r"[^\w.+-]+", "-", _as_word(value))


def _as_word(value: Any) -> str:
    """A value as YAML writes it."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else "null" if value is None else str(value)


def _level_values(values: Sequence[Any]) -> list[LevelValue]:
    """The values of levels: numbers if all are, whose order means something, otherwise words."""
    return list(values) if all(_is_number(value) for value in values) else [_as_word(value) for value in values]


def _product(factors: tuple[Factor, ...]) -> list[dict[str, Any]]:
    names = [factor.name for factor in factors]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*(factor.ends() for factor in factors))]
