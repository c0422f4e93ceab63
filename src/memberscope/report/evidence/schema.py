"""The schema of evidence files, and the first of a file's fields that does not fit it, in words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

from memberscope.errors import UserError

FILE = "evidence.schema.json"
MAJOR = 1
MOST_DEPTH = 60
MOST_VALUES = 10_000_000
MOST_WHOLE = 2**53  # beyond it, other programs read another number
ALLOWED = f"an evidence file of schema version {MAJOR}.x"
_VERSION = re.compile(r"\d{1,6}\.\d{1,6}")
_TYPES = {
    "object": "an object", "array": "a list", "string": "text", "number": "a number", "integer": "a whole number",
    "boolean": "true or false", "null": "null",
}  # fmt: skip


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of evidence files."""
    found: dict[str, Any] = json.loads(resources.files(__package__).joinpath(FILE).read_text(encoding="utf-8"))
    return found


def check(document: Mapping[str, Any], *, where: str) -> None:
    """Raise UserError, with the field and what is allowed there, unless a document is an evidence file of this major version.

    Fields that this version does not know are allowed anywhere: later versions 1.x may add some.

    Args:
        document: what the JSON holds.
        where: the beginning of an error, such as ``from=evidence.json``.
    """
    from jsonschema import Draft202012Validator

    check_values(document, where=where)
    version = document.get("schema_version")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise UserError(f"{where}: schema_version: {_shown(version)}; allowed: {ALLOWED}")
    if int(version.partition(".")[0]) != MAJOR:
        raise UserError(f"{where}: schema_version: {version} is of another major version; allowed: {ALLOWED}")
    try:
        error = next(Draft202012Validator(schema()).iter_errors(document), None)
    except RecursionError:
        raise UserError(f"{where}: nested too deep; allowed: {ALLOWED}") from None
    if error is not None:
        raise UserError(f"{where}: {_wrong(error)}, {ALLOWED}")


def check_values(document: Mapping[str, Any], *, where: str) -> None:
    """Raise UserError for JSON that is too deep or too large, or holds a number that JSON has not or others misread."""
    count = 0
    todo: list[tuple[Any, int]] = [(document, 1)]
    while todo:
        value, depth = todo.pop()
        count += 1
        if depth > MOST_DEPTH:
            raise UserError(f"{where}: nested more than {MOST_DEPTH} deep; allowed: {ALLOWED}")
        if count > MOST_VALUES:
            raise UserError(f"{where}: more than {MOST_VALUES:,} values; allowed: {ALLOWED}")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{where}: the number {value}; allowed: finite numbers, {ALLOWED}")
        if isinstance(value, int) and abs(value) > MOST_WHOLE:
            raise UserError(f"{where}: a whole number beyond {MOST_WHOLE}; allowed: smaller ones, {ALLOWED}")
        if isinstance(value, dict):
            todo += [(part, depth + 1) for part in value.values()]
        elif isinstance(value, list):
            todo += [(part, depth + 1) for part in value]


def _wrong(error: Any) -> str:
    """What does not fit: the field as a JSON path, its value, and what is allowed."""
    rule, wanted, value = error.validator, error.validator_value, error.instance
    place = f"{_cut(error.json_path)}: "
    if rule == "required":
        missing = next(name for name in wanted if name not in value)
        return f"{place}has no {missing}; allowed: an object with {', '.join(wanted)}"
    if rule == "type":
        kinds = [wanted] if isinstance(wanted, str) else wanted
        return f"{place}{_shown(value)}; allowed: {' or '.join(_TYPES[kind] for kind in kinds)}"
    if rule == "enum":
        return f"{place}{_shown(value)}; allowed: {', '.join('null' if one is None else str(one) for one in wanted)}"
    words = {
        "minimum": f"at least {wanted}", "maximum": f"at most {wanted}", "minItems": f"a list of at least {wanted}",
        "minLength": f"text of at least {wanted} character", "maxLength": f"text of at most {wanted} characters",
        "pattern": f"text like {wanted}",
    }  # fmt: skip
    return f"{place}{_shown(value)}; allowed: {words.get(rule, f'{rule} {wanted}')}"


def _shown(value: Any) -> str:
    """A value as a few characters of JSON."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    return _cut(json.dumps(value))


def _cut(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:100]}..."
