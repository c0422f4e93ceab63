"""The base of every configuration, and how a field becomes an option."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from memberscope.config.checks import Check
from memberscope.errors import UserError, nearest


def option(default: Any, *, check: Check, group: str, help: str, formerly: tuple[str, ...] = (), plugins: str = "") -> Any:
    """A dataclass field that is also an option.

    Args:
        default: its value unless given.
        check: what it allows.
        group: under which MLflow shows it.
        help: what it means.
        formerly: names that it had in earlier versions and that are still understood.
        plugins: the group of entry points by which other packages add to what it may name.
    """
    return field(
        default=default, metadata={"check": check, "group": group, "help": help, "formerly": formerly, "plugins": plugins}
    )


@dataclass(frozen=True, kw_only=True)
class Config:
    """The base of every configuration: checks each field as it is made, and goes to JSON and back."""

    def __post_init__(self) -> None:
        """Parse and check every field; UserError on the first that is not allowed."""
        for item in dataclasses.fields(self):
            check: Check = item.metadata["check"]
            object.__setattr__(self, item.name, check.parse(item.name, getattr(self, item.name)))

    @classmethod
    def former_names(cls) -> dict[str, str]:
        """Names that options had in earlier versions -> their names now."""
        return {former: item.name for item in dataclasses.fields(cls) for former in item.metadata["formerly"]}

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Self:
        """Make one from names and values (text or plain values); former names of options are understood.

        Raises:
            UserError: an unknown name, with the nearest; an option under two names with different values; a value that is not allowed.
        """
        known = {item.name for item in dataclasses.fields(cls)}
        former = cls.former_names()
        named: dict[str, object] = {}
        for name, value in values.items():
            current = former.get(name, name)
            if current not in known:
                raise UserError(f"{name}: unknown parameter; allowed: {', '.join(sorted(known))}{nearest(name, known)}")
            if current in named and str(named[current]) != str(value):
                old = name if name in former else next(word for word in values if former.get(word) == current)
                raise UserError(f"{old}={values[old]}: given beside {current}, which is its name now; allowed: {current} alone")
            named[current] = value
        return cls(**named)

    def to_dict(self) -> dict[str, int | float | str]:
        """Names and plain values, in the order of declaration."""
        return {item.name: written(getattr(self, item.name)) for item in dataclasses.fields(self)}

    def to_json(self) -> str:
        """A JSON object that `from_json` reads back to an equal configuration."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote, in this version or an earlier one; unknown names are rejected."""
        return cls.from_mapping(json.loads(text))


def groups(config: Config) -> dict[str, int | float | str]:
    """The configuration under dotted names (``train.learning_rate``), as MLflow's params show it."""
    return {f"{item.metadata['group']}.{item.name}": written(getattr(config, item.name)) for item in dataclasses.fields(config)}


def written(value: Any) -> Any:
    """A value as it is written outside: ``yes`` and ``no`` for a bool, anything else as it is."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
