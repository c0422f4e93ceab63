"""Mitigations in training of a user's own, from a YAML file: each is a name, and the parameters of the trainer that it changes.

dropout: {dropout: 0.5}
dp: {noise: 1.1, clip: 1.0}
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memberscope.config.mitigation import MitigateConfig
from memberscope.config.shared import BUILT_IN_TRAINER
from memberscope.datasets import LabeledData
from memberscope.errors import UserError
from memberscope.reading.text import read_yaml
from memberscope.studies import setup
from memberscope.training.outside.params import plain_value
from memberscope.training.outside.trainer import OutsideTrainer, default_params
from memberscope.training.registry import is_builder
from memberscope.training.trainer import Trainer

FORM = "names with changed parameters, such as dropout: {dropout: 0.5}"
LOOP = ("epochs", "batch_size", "learning_rate", "l2", "label_smoothing")  # parameters of the built-in training loop
LETTERS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Rung:
    """A mitigation of a user's own: plain training of a trainer with some of its parameters changed."""

    name: str
    changes: Mapping[str, Any]
    trainer: Trainer

    @property
    def training(self) -> str:
        """The name of this way of training, which no built-in way has."""
        return f"params-{self.name}"

    @property
    def about(self) -> str:
        """The changes as text: ``dropout=0.5, epochs=20``."""
        return ", ".join(f"{name}={value}" for name, value in self.changes.items())


def read_rungs(path: str) -> dict[str, dict[str, Any]]:
    """The names in a file, each with the parameters that it changes; none if there is no file.

    Raises:
        UserError: PyYAML is not installed; the file cannot be read, or holds something else; a name that files and runs cannot have.
    """
    if not path:
        return {}
    content = read_yaml(path, option="rungs", allowed=f"the path of a YAML file of {FORM}")
    if not isinstance(content, Mapping) or not content:
        what = "is empty" if content in (None, {}) else f"holds {type(content).__name__}, not names"
        raise UserError(f"rungs={path}: {what}; allowed: {FORM}")
    return {_name(path, name): _changes(path, name, given) for name, given in content.items()}


def _name(path: str, name: object) -> str:
    if not isinstance(name, str) or not LETTERS.fullmatch(name):
        raise UserError(
            f"rungs={path}: {name!r} is not a name for a mitigation; allowed: at most 60 letters, digits, _, . and -, starting "
            "with a letter or digit"
        )
    return name


def _changes(path: str, name: str, given: object) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise UserError(f"rungs={path}: {name}: {given!r} names no parameters; allowed: {FORM}")
    if not given:
        raise UserError(f"rungs={path}: {name}: changes nothing; allowed: at least one parameter with another value")
    for parameter in given:
        if not isinstance(parameter, str) or not parameter.isidentifier():
            raise UserError(f"rungs={path}: {name}: {parameter!r} is not the name of a parameter; allowed: {FORM}")
    return {str(key): plain_value(value, f"rungs={path}: {name}: {key}") for key, value in given.items()}


def rungs_of(config: MitigateConfig, trainer: Trainer, data: LabeledData) -> dict[str, Rung]:
    """The mitigations that the option ``rungs`` adds, by name, each with its trainer.

    Raises:
        UserError: see `read_rungs`; a parameter that the trainer does not have, a value that it rejects, or changes that change nothing.
    """
    found = {}
    for name, changes in read_rungs(config.rungs).items():
        try:
            if config.trainer == BUILT_IN_TRAINER:
                changes = _options(changes)
            elif is_builder(config.trainer):
                changes = {**changes, **_options({name: value for name, value in changes.items() if name in LOOP})}
            changed = trainer.with_params(**changes)
            changed.check(setup.facts_of(data))
        except UserError as error:
            raise UserError(f"rungs={config.rungs}: {name}: {error}") from None
        if changed.signature() == trainer.signature() or _are_set(trainer, changes):
            raise UserError(
                f"rungs={config.rungs}: {name}: changes nothing, since the trainer already has these values; allowed: another "
                "value"
            )
        found[name] = Rung(name=name, changes=changes, trainer=changed)
    return found


def _are_set(trainer: Trainer, changes: Mapping[str, Any]) -> bool:
    """Whether the trainer has all of these values, as given or by default."""
    defaults = default_params(trainer.source.load()) if isinstance(trainer, OutsideTrainer) else {}
    values = {**defaults, **trainer.params}
    return all(name in values and _same(values[name], value) for name, value in changes.items())


def _same(one: Any, other: Any) -> bool:
    """Whether two plain values are equal; 1 and 1.0 are, 1 and true are not."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _options(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes of the built-in models' parameters, which are checked as the options of the same names are."""
    checks = {item.name: item.metadata["check"] for item in dataclasses.fields(MitigateConfig)}
    found = {}
    for name, value in changes.items():
        given = ",".join(map(str, value)) if isinstance(value, list) else value
        found[name] = checks[name].parse(name, given) if name in checks else value
        if name == "widths":
            found[name] = tuple(int(part) for part in found[name].split(",") if part)
    return found
