"""The kinds of values in a table's columns, and their conversion to one type.

A CSV file has no types, only text; Parquet files and data frames have types, of which pandas knows dozens. Here they become four kinds:
numbers, booleans, words and dates, so that equal values are equal whatever type they were stored in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

NUMBERS, BOOLEANS, WORDS, DATES = "numbers", "booleans", "words", "dates"

MARKS = frozenset(
    ["NA", "N/A", "n/a", "#NA", "#N/A", "#N/A N/A", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None",
     "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"]
)  # fmt: skip
"""In columns of numbers and booleans these mean a missing value. In columns of words they are words."""

_TRUE, _FALSE = ("True", "TRUE", "true"), ("False", "FALSE", "false")
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_NUMBER = re.compile(r"[+-]?((\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|inf|infinity)", re.ASCII | re.IGNORECASE)
_PADDED = re.compile(r"[+-]?0\d", re.ASCII)
_PADDED_LINE = re.compile(r"^[+-]?0\d", re.ASCII | re.MULTILINE)
_OF_NUMBERS = frozenset("0123456789+-.eE\n")
_DATE = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?)?(Z|[+-]\d\d(:?\d\d)?)?", re.ASCII)
_LARGEST_WHOLE = 2**63 - 1
_DIGITS = 19  # of the largest
_EXACT = 2**53  # float64 does not hold all whole numbers beyond this


@dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """One file's column.

    Attributes:
        values: (n,) Series, as it was read; of a CSV file, the text of its cells.
        missing: (n,) bool.
        kind: one of the four; None for a CSV file's column, since text alone does not show it.
    """

    values: pd.Series
    missing: NDArray[np.bool_]
    kind: str | None

    @cached_property
    def cells(self) -> NDArray[np.object_]:
        """(n,) the values as Python objects."""
        return np.asarray(self.values.to_numpy(dtype=object))

    @cached_property
    def plain(self) -> NDArray[Any] | None:
        """The numbers in a CSV file's cells, in order, without the missing ones; None unless every cell is written as a number.

        Long columns of numbers are the common case, so all cells are parsed at once.
        """
        if self.kind is not None:
            return None
        cells = self.cells[~self.missing]
        text = "\n".join(cells.tolist())
        characters = set(text)
        if not characters <= _OF_NUMBERS or _PADDED_LINE.search(text):
            return None
        try:
            return cells.astype(np.float64 if characters & {".", "e", "E"} else np.int64)
        except (ValueError, OverflowError):  # such as "1-2", or more digits than 64 bits can hold
            return None

    def present(self) -> list[Any]:
        """The distinct values that are not missing, in order of appearance."""
        return list(dict.fromkeys(self.cells[~self.missing].tolist()))

    def misfit(self, kind: str) -> tuple[int, Any] | None:
        """Row and value of the first cell that cannot be read as `kind`."""
        if self.kind == kind or (self.kind is None and kind == WORDS) or (self.plain is not None and kind == NUMBERS):
            return None
        refused = {value for value in self.present() if not fits(kind, value)}
        if not refused:
            return None
        return next((row, self.cells[row]) for row in np.flatnonzero(~self.missing).tolist() if self.cells[row] in refused)


def of_text(cells: pd.Series, na_values: tuple[str, ...] = ()) -> Column:
    """A column of a CSV file; empty cells and those that hold one of `na_values` are missing."""
    return Column(values=cells, missing=_missing_words(cells, na_values) | (cells == "").to_numpy(dtype=bool), kind=None)


def of_values(name: str, where: str, values: pd.Series, na_values: tuple[str, ...] = ()) -> Column:
    """A column that has a type.

    Raises:
        UserError: its values are of none of the four kinds, but lists, bytes, time spans or complex numbers. The message begins with
            `where`.
    """
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        kind = of_values(name, where, pd.Series(values.cat.categories)).kind
    else:
        kind = _kind(values)
        if kind is None:
            found = values.dtype if values.dtype.kind != "O" else type(values.dropna().iloc[0]).__name__
            raise UserError(f"{where}: column {name} holds {found}; allowed: one number, word, boolean or date per cell")
    missing = values.isna().to_numpy(dtype=bool)
    return Column(values=values, missing=missing | (_missing_words(values, na_values) if kind == WORDS else False), kind=kind)


def _missing_words(values: pd.Series, na_values: tuple[str, ...]) -> NDArray[np.bool_]:
    if not na_values:
        return np.zeros(len(values), dtype=bool)
    return np.array(
        [isinstance(cell, str) and cell in na_values for cell in values.to_numpy(dtype=object).tolist()], dtype=bool
    )


def _kind(values: pd.Series) -> str | None:
    """The kind of a column that is not categorical; None if it is none of the four."""
    from pandas.api import types

    dtype = values.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "biufmMc":
        return {"b": BOOLEANS, "M": DATES, "m": None, "c": None}.get(dtype.kind, NUMBERS)
    inferred = types.infer_dtype(values.astype(object), skipna=True)  # nullable and Arrow types, and columns of Python objects
    kinds = {
        "string": WORDS, "boolean": BOOLEANS, "integer": NUMBERS, "floating": NUMBERS, "mixed-integer-float": NUMBERS,
        "decimal": NUMBERS, "datetime64": DATES, "datetime": DATES, "date": DATES,
    }  # fmt: skip
    if inferred in kinds:
        return kinds[inferred]
    if inferred == "empty":
        return WORDS if types.is_string_dtype(dtype) and not types.is_object_dtype(dtype) else NUMBERS
    plain = all(isinstance(value, str | int | float | np.number | np.bool_) for value in values.dropna().tolist())
    return WORDS if inferred in ("mixed", "mixed-integer") and plain else None


def kind_of_text(columns: list[Column]) -> str:
    """The kind of a column, decided by its cells in all CSV files together.

    Words, unless every cell reads as a boolean, or every cell as a number in its usual form: `007`, or a number of more digits than 64 bits
    can hold, is a name. `MARKS` among numbers or booleans are missing values.
    """
    if all(column.plain is not None for column in columns):
        return NUMBERS
    cells = {cell for column in columns for cell in column.present()}
    known = cells - MARKS
    if not known:
        return WORDS if cells else NUMBERS
    if all(map(is_boolean, known)):
        return BOOLEANS
    if all(is_number(cell) for cell in known) and not any(looks_like_a_name(cell) for cell in known):
        return NUMBERS
    return WORDS


def is_boolean(cell: str) -> bool:
    """Whether this text is a boolean, as pandas and Python write them."""
    return cell in _TRUE or cell in _FALSE


def is_number(cell: str) -> bool:
    """Whether this text is a number, apart from spaces around it."""
    return _NUMBER.fullmatch(cell.strip()) is not None


def looks_like_a_name(cell: str) -> bool:
    """Whether this text is a name although it can be read as a number: padded with zeros, or with more digits than 64 bits can hold."""
    text = cell.strip()
    return _PADDED.match(text) is not None or (_WHOLE.fullmatch(text) is not None and not _is_held(text))


def _is_held(whole: str) -> bool:
    """Whether 64 bits can hold this whole number. Its digits are counted first: Python converts no text of more than a few thousand."""
    return len(whole.lstrip("+-0")) <= _DIGITS and abs(int(whole)) <= _LARGEST_WHOLE


def fits(kind: str, value: Any) -> bool:
    """Whether this value, the text of a CSV file's cell or a typed value, can be read as `kind`."""
    if kind == WORDS:
        return not isinstance(value, float | np.floating) or float(value).is_integer()
    if isinstance(value, str):
        if kind == DATES:
            return _DATE.fullmatch(value.strip()) is not None and _instant(value) is not None
        return value in MARKS or is_boolean(value) or (is_number(value) and (kind == NUMBERS or _bit(value)))
    if kind == DATES:
        return _instant(value) is not None
    return kind == NUMBERS or value in (0, 1)


def _bit(text: str) -> bool:
    return float(text) in (0.0, 1.0)


def _instant(value: Any) -> pd.Timestamp | None:
    import pandas as pd

    if isinstance(value, bool | int | float | np.number | np.bool_):
        return None
    try:
        found = pd.Timestamp(value)
    except (ValueError, TypeError, OverflowError):  # pandas does not take it for a date, for example with month 13 or year 9999
        return None
    return found if found is not pd.NaT else None


def numbers(column: Column) -> NDArray[Any]:
    """(n,) int64, or float64 with NaN where values are missing; typed numbers keep their type. Text must be numbers."""
    values = column.values
    dtype = getattr(values.dtype, "numpy_dtype", values.dtype)  # the numpy type of a nullable or Arrow column
    if isinstance(dtype, np.dtype) and dtype.kind in "iuf":
        if values.dtype == dtype:
            return np.asarray(values)
        if column.missing.any():
            return np.where(column.missing, np.nan, column.cells).astype(dtype if dtype.kind == "f" else np.float64)
        return column.cells.astype(dtype)
    if column.plain is not None and not column.missing.any():
        return column.plain
    if column.plain is not None:
        placed = np.full(len(values), np.nan)
        placed[~column.missing] = column.plain
        return placed
    parsed = {cell: _number(cell) for cell in column.present()}
    found = [
        np.nan if lacking else parsed[cell]
        for cell, lacking in zip(column.cells.tolist(), column.missing.tolist(), strict=True)
    ]
    if all(isinstance(value, int) for value in found):
        return np.array(found, dtype=np.int64 if max(map(abs, found), default=0) <= _LARGEST_WHOLE else np.uint64)
    return np.array(found, dtype=np.float64)


def _number(value: Any) -> int | float:
    if isinstance(value, str):
        text = value.strip()
        if text in MARKS:
            return np.nan
        if is_boolean(text):
            return int(text in _TRUE)
        return int(text) if _WHOLE.fullmatch(text) and _is_held(text) else float(text)
    return int(value) if isinstance(value, bool | np.bool_ | int | np.integer) else float(value)


def booleans(column: Column) -> NDArray[Any]:
    """(n,) bool, or if some values are missing objects: True, False and NaN, as pandas reads them."""
    found = numbers(column)
    if found.dtype.kind != "f" or not np.isnan(found).any():
        return found.astype(bool)
    return np.array([value if value != value else bool(value) for value in found.tolist()], dtype=object)


def words(column: Column, *, lacking_as: float | None = np.nan) -> NDArray[np.object_]:
    """(n,) text, `lacking_as` where missing: whole numbers without a decimal point, dates in ISO 8601."""
    return np.array(
        [
            lacking_as if lacking else word(cell)
            for cell, lacking in zip(column.cells.tolist(), column.missing.tolist(), strict=True)
        ],
        dtype=object,
    )


def word(value: Any) -> str:
    """One value as text; a date gives the same text whatever its type."""
    import datetime

    import pandas as pd

    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, datetime.date):  # includes datetime and Timestamp
        instant = pd.Timestamp(value)
        text = str(instant if instant.tzinfo is None else instant.tz_convert("UTC"))
        return text.removesuffix(" 00:00:00")
    return str(value)


def _same_date(text: str) -> str:
    """A date stored as text, in the form that `word` gives."""
    instant = _instant(text) if len(text) > len("2024-12-31") and _DATE.fullmatch(text) else None
    return text if instant is None else word(instant)


def dates(column: Column) -> pd.Series:
    """(n,) datetime64[ns]; times with an offset become UTC."""
    import pandas as pd

    if isinstance(column.values.dtype, np.dtype) and column.values.dtype.kind == "M":
        return column.values
    instants = {cell: _instant(cell) for cell in column.present()}
    cells = [
        None if lacking else instants[cell]
        for cell, lacking in zip(column.cells.tolist(), column.missing.tolist(), strict=True)
    ]
    found = pd.Series(pd.to_datetime(cells, utc=True))
    zoned = any(instant is not None and instant.tzinfo is not None for instant in instants.values())
    return found if zoned else found.dt.tz_localize(None)


def seconds(column: Column) -> NDArray[np.float64]:
    """(n,) dates as seconds since 1970, NaN where missing."""
    since = dates(column).to_numpy(dtype="datetime64[us]")
    return np.where(np.isnat(since), np.nan, since.astype(np.int64) / 1e6)


def names_records(values: pd.Series) -> bool:
    """Whether this column names records instead of describing them: it has whole numbers or words that differ in every record."""
    column = of_values(str(values.name), "data", values)
    whole = column.kind == WORDS or (column.kind == NUMBERS and numbers(column).dtype.kind in "iu")
    return whole and len(values) > 1 and not column.missing.any() and len(column.present()) == len(values)


def as_float64(values: NDArray[Any]) -> NDArray[np.float64]:
    """Numbers as float64 with a single zero and a single NaN, so that equal values have equal bytes."""
    found: NDArray[np.float64] = values.astype(np.float64) + 0.0
    found[np.isnan(found)] = np.nan
    return found


def keys(column: Column, kind: str) -> tuple[NDArray[np.float64] | None, list[str] | None]:
    """A typed column of `kind` for hashing: its numbers, its text, or both. Equal values give equal results whatever their type.

    Numbers are float64 with a single zero and a single NaN. For whole numbers beyond 2^53, the part that float64 loses is added as text.
    """
    if kind in (WORDS, DATES):
        cells = words(column).tolist()
        text = {cell: " " if cell != cell else f"={_same_date(cell)}" for cell in dict.fromkeys(cells)}
        return None, [text[cell] for cell in cells]
    exact = numbers(column)
    found = as_float64(exact)
    if exact.dtype.kind in "iu" and len(exact) and max(abs(int(exact.min())), abs(int(exact.max()))) > _EXACT:
        rest = [whole - int(rounded) for whole, rounded in zip(exact.tolist(), found.tolist(), strict=True)]
        if any(rest):
            return found, [str(part) if part else "" for part in rest]
    return found, None
