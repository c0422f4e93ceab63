"""The result of a study that the terminal shows: a table, and an answer in words."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope.errors import GateError


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """A table and an answer, as text; and, if the gate did not pass, its error, to be raised once these are printed."""

    table: str
    answer: str
    gate: GateError | None = None
