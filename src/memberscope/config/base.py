"""The base class of every configuration, and the declaration of an option."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from memberscope.config.checks import Check
from memberscope.errors import UserError, nearest


def option(
    default: Any, *, check: Check, group: str, help: str, formerly: tuple[str, ...] = (), plugins: str = "", called: str = ""
) -> Any:
    """Declare a dataclass field that is also an option.

    Args:
        default: its value if it is not given.
        check: parses and checks a value.
        group: the group under which MLflow shows it.
        help: what it means, for ``--help``.
        formerly: its names in earlier versions, which are still understood.
        plugins: the group of entry points by which other packages add names that it may take.
        called: the option's name where Python does not allow it for a field, as ``from``; otherwise that of the field.
    """
    metadata = {"check": check, "group": group, "help": help, "formerly": formerly, "plugins": plugins, "called": called}
    return field(default=default, metadata=metadata)


def option_name(item: dataclasses.Field[Any]) -> str:
    """The name of the option that a field declares."""
    return item.metadata["called"] or item.name


@dataclass(frozen=True, kw_only=True)
class Config:
    """The base class of every configuration: it checks each field when it is made, and converts to JSON and back."""

    def __post_init__(self) -> None:
        """Parse and check every field; UserError for the first value that is not allowed."""
        for item in dataclasses.fields(self):
            check: Check = item.metadata["check"]
            object.__setattr__(self, item.name, check.parse(option_name(item), getattr(self, item.name)))

    @classmethod
    def former_names(cls) -> dict[str, str]:
        """Former names of options -> their present names."""
        return {former: option_name(item) for item in dataclasses.fields(cls) for former in item.metadata["formerly"]}

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Self:
        """Make a configuration from names and values (text or plain values); former names of options are understood.

        Raises:
            UserError: an unknown name (the message suggests the nearest); an option under two names with different values; a value that
                is not allowed.
        """
        known = {option_name(item): item.name for item in dataclasses.fields(cls)}
        former = cls.former_names()
        named: dict[str, object] = {}
        for name, value in values.items():
            current = former.get(name, name)
            if current not in known:
                raise UserError(f"{name}: unknown parameter; allowed: {', '.join(sorted(known))}{nearest(name, known)}")
            if current in named and str(named[current]) != str(value):
                old = name if name in former else next(word for word in values if former.get(word) == current)
                raise UserError(
                    f"{old}={values[old]}: given together with {current}, its current name; allowed: only {current}"
                )
            named[current] = value
        return cls(**{known[name]: value for name, value in named.items()})

    def to_dict(self) -> dict[str, int | float | str]:
        """Names -> plain values, in the order of declaration."""
        return {option_name(item): written(getattr(self, item.name)) for item in dataclasses.fields(self)}

    def to_json(self) -> str:
        """A JSON object that `from_json` reads back to an equal configuration."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the output of `to_json`, of this version or an earlier one; unknown names are rejected."""
        return cls.from_mapping(json.loads(text))


def groups(config: Config) -> dict[str, int | float | str]:
    """The values under dotted names (``train.learning_rate``), as MLflow shows them in its params."""
    return {
        f"{item.metadata['group']}.{option_name(item)}": written(getattr(config, item.name))
        for item in dataclasses.fields(config)
    }


def written(value: Any) -> Any:
    """A value as the command line, files and MLflow show it: ``yes`` or ``no`` for a bool, anything else unchanged."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
