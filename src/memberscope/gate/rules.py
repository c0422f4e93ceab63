"""Parses the gate's rules: ``ATTACK.SLICE.METRIC > NUMBER``, with semicolons between them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from memberscope.attacks import registry
from memberscope.errors import UserError, nearest
from memberscope.metrics import registry as known_metrics
from memberscope.metrics.spec import DECLARED
from memberscope.slices import few_names

ANY = "any"
_SLICES = (ANY, "entire", "correct", "incorrect", *(f"loss_p{10 * k:02d}_p{10 * k + 10}" for k in range(10)))
_DECLARING = {"prior": "prior=SHARE, such as prior=0.01", "subjects": "subjects=NUMBER, the people in the training set"}
_FORM = "ATTACK.SLICE.METRIC > NUMBER"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule that trips where a metric is above `limit`.

    Attributes:
        attack: a name, or ``any``.
        slice: a name, or ``any`` for the entire data set, the classes and a user's columns, as far as the report has them.
        metric: the name of a metric that rules may use; see `memberscope.metrics.registry.gated`.
        limit: the limit in the metric's unit; rates are fractions.
    """

    attack: str
    slice: str
    metric: str
    limit: float

    def __str__(self) -> str:
        """The rule as `parse_rules` reads it."""
        return f"{self.attack}.{self.slice}.{self.metric} > {repr(self.limit).removesuffix('.0')}"


def parse_rules(
    text: str, *, attacks: Iterable[str] | None = None, classes: Sequence[str] | None = None, declared: Iterable[str] | None = None
) -> tuple[Rule, ...]:  # fmt: skip
    """Parse the rules of a text, each once, in order.

    Args:
        text: ``ATTACK.SLICE.METRIC > NUMBER``, with semicolons between rules. Only ``>`` is allowed: a rule states what must not happen.
        attacks: the attacks that will run, where they are known; a rule on any other is refused.
        classes: the names of the class slices, where they are known; a rule on any other class is refused.
        declared: what the user declared, among `memberscope.metrics.spec.DECLARED`, where that is known; a rule on a metric that needs
            anything else is refused.

    Raises:
        UserError: one line that gives the column (from 1, in the whole text), what was found there, what is expected, and the nearest
            names; for a metric without an interval, the alternatives.
    """
    ran = None if attacks is None else tuple(attacks)
    known = DECLARED if declared is None else tuple(declared)
    rules: list[Rule] = []
    start = 0
    for part in text.split(";"):
        if part.strip():
            rules.append(_rule(part, start, ran, classes, known))
        start += len(part) + 1
    if not rules:
        raise UserError(f"fail_if: no rule in {text!r}; expected {_FORM}")
    return tuple(dict.fromkeys(rules))


def _fail(column: int, message: str) -> NoReturn:
    raise UserError(f"fail_if: column {column + 1}: {message}")


def _rule(
    part: str, start: int, ran: tuple[str, ...] | None, classes: Sequence[str] | None, declared: Sequence[str]
) -> Rule:  # fmt: skip
    """Parse one rule, which begins at position `start` of the text."""
    operator = re.search(r"[<>=!]+", part)
    path = part[: operator.start()] if operator else part
    at = start + len(path) - len(path.lstrip())
    end = start + len(path.rstrip())
    path = path.strip()
    first, last = path.find("."), path.rfind(".")
    if first < 0:
        _fail(end if path else at, f"expected {_FORM}; there is {f'no slice after {path!r}' if path else 'no attack'}")
    if first == last:
        _fail(end, f"expected .METRIC after {path!r}, as in {_FORM}")
    attack, part_name, metric = path[:first], path[first + 1 : last], path[last + 1 :]
    _check_attack(attack, at, ran)
    _check_slice(part_name, at + first + 1, classes)
    _check_metric(metric, at + last + 1, part_name, declared)
    if operator is None:
        _fail(end, f"expected > and a number after {path!r}")
    if operator.group() != ">":
        _fail(start + operator.start(), f"{operator.group()!r}; expected > (a rule trips above its limit)")
    return Rule(attack=attack, slice=part_name, metric=metric, limit=_limit(part, operator.end(), start, metric))


def _check_attack(name: str, column: int, ran: tuple[str, ...] | None) -> None:
    known = registry.names()
    if name == ANY or (name in known and (ran is None or name in ran)):
        return
    if name in known:
        _fail(column, f"attack {name!r} does not run; expected one of {', '.join(ran or ())}, or {ANY}")
    _fail(column, f"{name!r} is not an attack{nearest(name, [*known, ANY])}; expected {ANY} or one of {', '.join(known)}")


def _check_slice(name: str, column: int, classes: Sequence[str] | None) -> None:
    if name == "worst_slice":
        _fail(
            column,
            f"worst_slice is picked by its own metric; expected {ANY}, which matches all records and each class, or "
            "a slice's name",
        )
    if name.startswith("class_") and len(name) > len("class_"):
        if classes is not None and name not in classes:
            _fail(column, f"slice {name!r} is not one of the {len(classes)} classes; expected {few_names(classes)}")
        return
    if name not in _SLICES and not re.fullmatch(r"[^:]+:.+", name):
        known = [*_SLICES, "class_0"]
        _fail(
            column,
            f"{name!r} is not a slice{nearest(name, known)}; expected {', '.join(known)} (or another class), or COLUMN:VALUE",
        )


def _check_metric(name: str, column: int, part: str, declared: Sequence[str]) -> None:
    allowed = known_metrics.gated()
    if name in allowed:
        lacking = [option for option in allowed[name].declared if option not in declared]
        if lacking:
            _fail(
                column,
                f"{name} needs {lacking[0]}, which was not declared; allowed: with {_DECLARING[lacking[0]]}, or another metric",
            )
        if "subjects" in allowed[name].declared and part != "entire":
            _fail(column, f"{name} counts all people in the training set; expected the slice entire, not {part!r}")
        return
    known = known_metrics.find(name)
    if known is not None and known.no_rule:
        _fail(column, f"{name} {known.no_rule}")
    _fail(column, f"{name!r} is not a metric with an interval{nearest(name, allowed)}; expected one of {', '.join(allowed)}")


def _limit(part: str, after: int, start: int, metric: str) -> float:
    text = part[after:].strip()
    column = start + after + len(part[after:]) - len(part[after:].lstrip())
    if not text:
        _fail(start + after, "expected a number after >")
    low, high = known_metrics.get(metric).range
    span = f"at least {low:g}" if math.isinf(high) else f"between {low:g} and {high:g}"
    try:
        limit = float(text)
    except ValueError:
        _fail(column, f"{text!r} is not a number; expected a limit for {metric}, {span}")
    if not (math.isfinite(limit) and low <= limit <= high):
        _fail(column, f"{text} is out of range; expected a limit for {metric}, {span} (rates are fractions)")
    return limit + 0.0
