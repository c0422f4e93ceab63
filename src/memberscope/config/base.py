"""The base of every configuration, and how a field becomes an option."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from memberscope.config.checks import Check
from memberscope.errors import UserError, nearest


def option(default: Any, *, check: Check, group: str, help: str) -> Any:
    """A dataclass field that is also an option: its default, its check, the group MLflow shows it under, and its help."""
    return field(default=default, metadata={"check": check, "group": group, "help": help})


@dataclass(frozen=True, kw_only=True)
class Config:
    """The base of every configuration: checks each field as it is made, and goes to JSON and back."""

    def __post_init__(self) -> None:
        """Parse and check every field; UserError on the first that is not allowed."""
        for item in dataclasses.fields(self):
            check: Check = item.metadata["check"]
            object.__setattr__(self, item.name, check.parse(item.name, getattr(self, item.name)))

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Self:
        """Make one from names and values (text or plain values); an unknown name is a UserError that names the nearest."""
        known = {item.name for item in dataclasses.fields(cls)}
        for name in values:
            if name not in known:
                raise UserError(f"{name}: unknown parameter; allowed: {', '.join(sorted(known))}{nearest(name, known)}")
        return cls(**values)

    def to_dict(self) -> dict[str, int | float | str]:
        """Names and plain values, in the order of declaration."""
        return {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}

    def to_json(self) -> str:
        """A JSON object that `from_json` reads back to an equal configuration."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote; unknown names are rejected."""
        return cls.from_mapping(json.loads(text))


def groups(config: Config) -> dict[str, int | float | str]:
    """The configuration under dotted names (``train.learning_rate``), as MLflow's params show it."""
    return {f"{item.metadata['group']}.{item.name}": getattr(config, item.name) for item in dataclasses.fields(config)}
