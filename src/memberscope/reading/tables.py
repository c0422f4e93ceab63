"""CSV tables that a program of ours wrote, read again by a schema: which columns there must be, and what each holds."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from memberscope.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

MOST_CELL = 100_000  # characters


@dataclass(frozen=True, kw_only=True)
class Field:
    """What a column of a table holds.

    Attributes:
        kind: ``text``, ``number`` or ``whole`` (a whole number).
        low, high: the lowest and the highest number.
        gaps: whether cells may be empty.
        required: whether the table must have the column.
    """

    kind: str = "text"
    low: float = -math.inf
    high: float = math.inf
    gaps: bool = False
    required: bool = True

    @property
    def allowed(self) -> str:
        """What a cell may hold, as a phrase."""
        if self.kind == "text":
            return "text"
        words = "whole numbers" if self.kind == "whole" else "numbers"
        span = "" if math.isinf(self.low) and math.isinf(self.high) else f" from {self.low:g} to {self.high:g}"
        return f"{words}{span}{' or empty cells' if self.gaps else ''}"


def read_table(text: str, fields: Mapping[str, Field], *, where: str, allowed: str) -> pd.DataFrame | None:
    """A CSV table, in which empty cells are missing values and all words are words; None for a text without content.

    Args:
        text: the table.
        fields: column -> what it must hold. Other columns are kept as they are.
        where: the beginning of an error, such as ``run depth-3: attacks.csv``.
        allowed: the end of an error.

    Raises:
        UserError: it is no CSV, lacks a column, or has a cell that its column must not have.
    """
    import pandas as pd

    if not text.strip():
        return None
    try:
        frame = pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""], low_memory=False)
    except (ValueError, OverflowError) as error:  # pandas' own errors are ValueErrors
        raise UserError(f"{where} is damaged ({' '.join(str(error).split())[:150]}); allowed: {allowed}") from None
    if len(frame) and not isinstance(frame.index, pd.RangeIndex):
        raise UserError(f"{where} is damaged (rows of more cells than columns); allowed: {allowed}")
    return checked_table(frame, fields, where=where, allowed=allowed)


def checked_table(frame: pd.DataFrame, fields: Mapping[str, Field], *, where: str, allowed: str) -> pd.DataFrame:
    """The table with these columns as their fields require; for arguments and errors see `read_table`."""
    missing = [name for name, field in fields.items() if field.required and name not in frame.columns]
    if missing:
        raise UserError(f"{where} has no column {', '.join(missing)}; allowed: {allowed}")
    for name, field in fields.items():
        if name in frame.columns:
            frame[name] = _checked(frame[name], field, where=f"{where}, column {name}", allowed=allowed)
    return frame


def _checked(values: pd.Series, field: Field, *, where: str, allowed: str) -> pd.Series:
    """The column, as text or as float64 or int64."""
    import pandas as pd

    lacking = values.isna().to_numpy(dtype=bool)
    if lacking.any() and not field.gaps:
        raise UserError(f"{where}, row {int(lacking.argmax())}: empty; allowed: {field.allowed}, {allowed}")
    if field.kind == "text":
        return values.astype(object).where(~lacking, None).map(lambda cell: None if cell is None else str(cell)[:MOST_CELL])
    found = values
    if values.dtype.kind not in "fiu":  # among numpy's numbers are no bools and no words
        found = pd.to_numeric(values.where(values.map(lambda cell: not isinstance(cell, bool)), None), errors="coerce")
    numbers = found.to_numpy(dtype=np.float64, na_value=np.nan)
    with np.errstate(invalid="ignore"):
        odd = ~lacking & ~((numbers >= field.low) & (numbers <= field.high))
        if field.kind == "whole":
            odd |= ~lacking & ((numbers != np.round(numbers)) | (np.abs(numbers) > 2**53))
    if odd.any():
        row = int(odd.argmax())
        raise UserError(f"{where}, row {row}: {str(values.iloc[row])[:100]!r}; allowed: {field.allowed}, {allowed}")
    return pd.Series(numbers if field.gaps or field.kind == "number" else numbers.astype(np.int64), index=values.index)
