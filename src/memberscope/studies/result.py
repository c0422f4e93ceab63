"""What a study hands back for the terminal: a table, and an answer in words."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope.errors import GateError


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """A table and an answer, as text; and the gate's error, raised once these are shown, if it did not pass."""

    table: str
    answer: str
    gate: GateError | None = None
