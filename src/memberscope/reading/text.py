"""JSON and YAML as plain values, whatever their depth and whatever their numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memberscope.errors import UserError
from memberscope.installed import require
from memberscope.reading.files import read_text

MOST_YAML = 256 << 10  # bytes, which take PyYAML some seconds
MOST_VALUES = 50_000  # of a YAML file, once its aliases are written out
MOST_DEPTH = 50
MOST_DIGITS = 300  # of a whole number: as many as the largest float has
_LONG_NUMBER = re.compile(r"[0-9a-fA-F_:]{1000}")  # YAML also has numbers to the base of 60, with colons


_SURROGATE = re.compile(r"\\u[dD][89abAB]|\\u[dD][c-fC-F]")


def json_object(text: str, *, where: str, allowed: str) -> dict[str, Any]:
    """A JSON object as a dictionary.

    Args:
        text: the JSON.
        where: the beginning of an error, such as ``plan=folder: plan.json``.
        allowed: the end of an error.

    Raises:
        UserError: it is not JSON, is not an object, or is nested too deep or has numbers too long to be read.
    """
    try:
        found = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(found, ensure_ascii=False).encode(
                "utf-8"
            )  # of two surrogates that belong together, JSON makes one letter
    except RecursionError:
        raise UserError(f"{where} is damaged (nested too deep); allowed: {allowed}") from None
    except ValueError as error:  # JSON's own error is one, and so is that of too many digits
        raise UserError(f"{where} is damaged ({_first(error)}); allowed: {allowed}") from None
    if not isinstance(found, dict):
        raise UserError(f"{where} is not a JSON object; allowed: {allowed}")
    return found


def plain_object(text: str | None) -> dict[str, Any]:
    """A JSON object that any program may have written, as a dictionary; empty for anything else."""
    try:
        return json_object(text or "{}", where="", allowed="")
    except UserError:
        return {}


def read_yaml(path: str, *, option: str, allowed: str) -> Any:
    """The content of a YAML file as plain values: mappings, lists, text, numbers, booleans, dates and null.

    Args:
        path: the file; ``~`` is the user's home.
        option: the option that names it, for errors.
        allowed: the end of an error.

    Raises:
        UserError: PyYAML is not installed; the file cannot be read, is not YAML, contains itself, is nested too deep, or holds too many
            values.
    """
    where = f"{option}={path}"
    require("yaml", by=where)
    return parse_yaml(_text(path, where, allowed), where=where, allowed=allowed)


def _text(path: str, where: str, allowed: str) -> str:
    try:
        file = Path(path).expanduser()
    except RuntimeError as error:  # a user without a home
        raise UserError(f"{where}: cannot be read ({error}); allowed: {allowed}") from None
    return read_text(file, where=where, allowed=allowed, most=MOST_YAML)


def parse_yaml(text: str, *, where: str, allowed: str) -> Any:
    """YAML as plain values; see `read_yaml`."""
    import yaml

    if len(text) > MOST_YAML:
        raise UserError(f"{where}: {len(text):,} characters; allowed: {allowed}, of at most {MOST_YAML:,} characters")
    if _LONG_NUMBER.search(text):
        raise UserError(f"{where}: cannot be read: not YAML (a number of more than 1,000 digits); allowed: {allowed}")
    try:
        found = yaml.safe_load(text)
    except RecursionError:
        raise UserError(f"{where}: cannot be read: not YAML (nested too deep); allowed: {allowed}") from None
    except (
        yaml.YAMLError,
        ValueError,
        KeyError,
        TypeError,
        OverflowError,
        AttributeError,
    ) as error:  # PyYAML lets Python's own through
        raise UserError(f"{where}: cannot be read: not YAML ({_first(error)}); allowed: {allowed}") from None
    problem = _problem(found)
    if problem:
        raise UserError(f"{where}: {problem}; allowed: {allowed}")
    return found


def _problem(value: Any) -> str:
    """Why these values cannot be used: they are too many or too deep, as aliases can make them, or a number is too long; else empty."""
    count = 0
    todo = [(value, 0)]
    while todo:
        value, depth = todo.pop()
        count += 1
        if count > MOST_VALUES:
            return f"more than {MOST_VALUES:,} values"
        if depth > MOST_DEPTH:
            return f"nested more than {MOST_DEPTH} deep"
        if isinstance(value, int) and value.bit_length() > MOST_DIGITS * 3.33:
            return f"a whole number of more than {MOST_DIGITS} digits"
        if isinstance(value, Mapping):
            todo += [(part, depth + 1) for item in value.items() for part in item]
        elif isinstance(value, list | tuple | set | frozenset):
            todo += [(part, depth + 1) for part in value]
    return ""


def _first(error: Exception) -> str:
    """An error in a line of at most 150 characters."""
    return " ".join(str(error).split())[:150] or type(error).__name__
