"""Parameters of a trainer from outside, as the option ``params`` gives them: ``epochs=40,width=2``, or the path of a YAML file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from memberscope.errors import UserError
from memberscope.installed import require
from memberscope.reading.text import parse_yaml, read_yaml

FORMS = "NAME=VALUE separated by commas, such as epochs=40,width=2, or the path of a YAML file"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+|[+-]\.\d+")
"""Numbers that YAML 1.1 reads as text. Any other number that it read as text was in quotes, and stays text."""


def parse_params(text: str) -> dict[str, Any]:
    """The parameters by name; values are numbers, booleans, text, null, lists or mappings of these.

    Raises:
        UserError: the text or the file cannot be read as parameters, or a name occurs twice.
    """
    if not text.strip():
        return {}
    if text.endswith((".yaml", ".yml")):
        return _of_file(text)
    found: dict[str, Any] = {}
    for part in _parts(text):
        name, equals, value = part.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise UserError(f"params={text}: {part.strip() or 'an empty part'} is not NAME=VALUE; allowed: {FORMS}")
        if name in found:
            raise UserError(f"params={text}: {name} is given twice; allowed: each name once")
        found[name] = _value(value, f"params={text}: {name}")
    return found


def logged(name: str, params: Mapping[str, Any]) -> dict[str, int | float | str]:
    """A trainer's name and parameters as a run logs them: ``trainer.name``, and ``trainer.NAME`` for each; its own ``name`` is
    ``trainer.params.name``.
    """
    found: dict[str, int | float | str] = {"trainer.name": name}
    for key, value in params.items():
        plain = value if isinstance(value, int | float | str) else json.dumps(value)
        found["trainer.params.name" if key == "name" else f"trainer.{key}"] = plain
    return found


def _of_file(path: str) -> dict[str, Any]:
    content = read_yaml(path, option="params", allowed=FORMS)
    if not isinstance(content, Mapping):
        raise UserError(
            f"params={path}: holds {type(content).__name__}, not names with values; allowed: lines such as epochs: 40"
        )
    for name in content:
        if not isinstance(name, str) or not name.isidentifier():
            raise UserError(f"params={path}: {name!r} is not a name; allowed: lines such as epochs: 40")
    return {str(name): plain_value(value, f"params={path}: {name}") for name, value in content.items()}


def _parts(text: str) -> Iterator[str]:
    """The text cut at commas outside brackets and quotes."""
    depth, quote, start = 0, "", 0
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"" and text[:place].rstrip()[-1:] in ("=", ",", ":", "[", "{", "("):  # elsewhere it is an apostrophe
            quote = letter
        elif letter in "[{(":
            depth += 1
        elif letter in "]})":
            depth -= 1
        elif letter == "," and depth == 0:
            yield text[start:place]
            start = place + 1
    yield text[start:]


def _value(text: str, where: str) -> Any:
    require("yaml", by=where)
    return plain_value(parse_yaml(text, where=where, allowed=FORMS), where)


def plain_value(value: Any, where: str) -> Any:
    """The value if it is plain; numbers such as ``1e-3``, which YAML 1.1 reads as text, are numbers. Errors start with `where`."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, list):
        return [plain_value(item, where) for item in value]
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise UserError(f"{where}: {name!r} names a value; allowed: names that are text")
        return {name: plain_value(item, where) for name, item in value.items()}
    if isinstance(value, bool | int | float | str | None):
        try:
            json.dumps(value, allow_nan=False)
        except ValueError:
            raise UserError(f"{where}={value}: not a finite number; allowed: finite numbers") from None
        return value
    raise UserError(f"{where}={value}: {type(value).__name__}; allowed: numbers, yes or no, text, lists of these, or null")
