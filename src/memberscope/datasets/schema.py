"""One schema for all tables of an audit: each column has one type on every side, that of the model's signature if it gives one.

If each file were read by itself, one odd cell could make a column text in one file while it stays numbers in the other. The same record
would then count as two, and members would differ from non-members by a type.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memberscope.datasets.classes import as_groups
from memberscope.errors import UserError, nearest
from memberscope.reading import columns
from memberscope.reading.columns import BOOLEANS, DATES, NUMBERS, WORDS, Column

if TYPE_CHECKING:
    import pandas as pd

OF_SIGNATURE = {
    "boolean": BOOLEANS, "integer": NUMBERS, "long": NUMBERS, "float": NUMBERS, "double": NUMBERS, "string": WORDS, "datetime": DATES,
}  # fmt: skip
"""The kind for each type of MLflow's signatures; with any other type, a column stays as it is read."""


@dataclass(frozen=True, kw_only=True)
class Records:
    """One side's records.

    Attributes:
        x: (n, ...) array, or a frame of the feature columns.
        y: (n,) labels: numbers or text.
        name: the parameter that named the file, for errors.
        path: the file.
        text: whether x and y are the text of a CSV file, to which `schema.one_schema` gives types.
        others: further arrays of an ``.npz``, by name.
    """

    x: NDArray[Any] | pd.DataFrame
    y: NDArray[Any]
    name: str
    path: str
    text: bool = False
    others: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        """The number of records."""
        return len(self.y)

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The names of the feature columns; None for an array."""
        return None if isinstance(self.x, np.ndarray) else tuple(map(str, self.x.columns))

    @property
    def where(self) -> str:
        """The beginning of error messages."""
        return f"{self.name}={self.path}"

    def numbers(self, others: Records | None = None) -> NDArray[Any]:
        """The features as numbers, for controls: a frame's words become codes, numbered in sorted order over this side and `others`.

        Missing numbers stay NaN; a missing word has a code of its own. Dates are seconds.
        """
        if isinstance(self.x, np.ndarray):
            return self.x
        found = []
        for name in self.x.columns:
            sides = [columns.of_values(name, side.where, side.x[name]) for side in (self, others or self)]
            if all(side.kind in (columns.NUMBERS, columns.BOOLEANS) for side in sides):
                found.append(columns.numbers(sides[0]).astype(np.float64))
            elif all(side.kind == columns.DATES for side in sides):
                found.append(columns.seconds(sides[0]))
            else:
                seen = {str(value) for side in sides for value in columns.words(side).tolist()}
                place = {value: number for number, value in enumerate(sorted(seen))}
                found.append(np.array([place[str(value)] for value in columns.words(sides[0]).tolist()], dtype=np.float64))
        return np.stack(found, axis=1) if found else np.empty((len(self), 0))


def one_schema(
    sides: Sequence[Records], *, shown: Mapping[str, str] | None = None, classes: Sequence[Any] | None = None,
    na_values: tuple[str, ...] = (),
) -> tuple[list[Records], str]:  # fmt: skip
    """The sides with one type for each column, and a note on how they were read (empty if there is nothing to report).

    Args:
        sides: tables; or arrays, which change only if they are floats of different precisions.
        shown: the columns that the model takes, with their types in its signature (empty if it has none); others are left out. None: all
            columns.
        classes: the model's names of its classes, which determine the type of the labels.
        na_values: words that mean a missing value in any column.

    Raises:
        UserError: a value that is not of its column's type, with column, row and value.
    """
    if any(isinstance(side.x, np.ndarray) for side in sides):
        return _arrays(sides), ""
    names = [[name for name in side.columns or () if shown is None or name in shown] for side in sides]
    typed: list[dict[str, Any]] = [{} for _ in sides]
    left = dict.fromkeys(name for side in sides for name in side.columns or () if shown is not None and name not in shown)
    notes = [f"columns left out, since the model does not take them: {few(list(left))}"] if left else []
    for name in dict.fromkeys(name for each in names for name in each):
        having = [number for number, each in enumerate(names) if name in each]
        found, note = _one_column(name, [sides[k] for k in having], type_name=(shown or {}).get(name, ""), na_values=na_values)
        notes += [note] if note else []
        for number, values in zip(having, found, strict=True):
            typed[number][name] = values
    labels = _labels(sides, classes)
    made = [
        dataclasses.replace(side, x=_frame(found, len(side)), y=y, text=False)
        for side, found, y in zip(sides, typed, labels, strict=True)
    ]
    return made, "; ".join(notes)


def _arrays(sides: Sequence[Records]) -> list[Records]:
    """Arrays of floats, converted to the narrower of their types for the reason that `_alike` gives."""
    kinds = {side.x.dtype for side in sides if isinstance(side.x, np.ndarray) and side.x.dtype.kind == "f"}
    if len(kinds) < 2 or not all(isinstance(side.x, np.ndarray) and side.x.dtype.kind == "f" for side in sides):
        return list(sides)
    narrow = min(kinds, key=lambda dtype: dtype.itemsize)
    return [dataclasses.replace(side, x=side.x.astype(narrow)) for side in sides if isinstance(side.x, np.ndarray)]


def few(names: Sequence[str]) -> str:
    """Names for a sentence: at most eight of them, and how many more there are."""
    return ", ".join(names[:8]) + (f", and {len(names) - 8} more" if len(names) > 8 else "")


def _frame(found: Mapping[str, NDArray[Any] | pd.Series], rows: int) -> pd.DataFrame:
    import pandas as pd

    arrays = {name: values if isinstance(values, np.ndarray) else values.array for name, values in found.items()}
    return pd.DataFrame(arrays, index=pd.RangeIndex(rows))


def column_values(sides: Sequence[Records], name: str, *, na_values: tuple[str, ...] = ()) -> list[NDArray[Any]]:
    """One column of every side to slice by, as in the files: numbers, booleans or text. A missing value becomes the text "missing".

    Raises:
        UserError: a side does not have the column, or see `one_schema`.
    """
    for side in sides:
        if name not in (side.columns or ()):
            known = few(side.columns or ()) or "none, it has arrays"
            raise UserError(
                f"slices: column:{name}: no column of {side.path}{nearest(name, side.columns or ())}; its columns: {known}"
            )
    found = [np.asarray(values) for values in _one_column(name, sides, type_name="", na_values=na_values)[0]]
    if all(values.dtype.kind in "iub" or (values.dtype.kind == "f" and not np.isnan(values).any()) for values in found):
        return found
    return [np.array(["missing" if cell is None or cell != cell else columns.word(cell) for cell in part.tolist()]) for part in
            (values.astype("datetime64[us]") if values.dtype.kind == "M" else values for values in found)]  # fmt: skip


def take_groups(
    sides: Sequence[Records], name: str, *, na_values: tuple[str, ...] = ()
) -> tuple[list[Records], NDArray[np.int64]]:
    """The records without the column (of an ``.npz``: the array) that names their groups, and each record's group.

    Args:
        sides: the sides of an audit.
        name: the column or array.
        na_values: words that mean a missing value.

    Returns:
        The sides, and (n,) numbers of the groups from 0, of all sides one after another; equal values are one group on any side.

    Raises:
        UserError: a side does not have the column, a record has no group, or all have the same.
    """
    parts, rest = [], []
    for side in sides:
        if name not in (known := side.columns if side.columns is not None else tuple(side.others)):
            raise UserError(
                f"group={name}: no {'array' if side.columns is None else 'column'} of {side.path}; allowed: "
                f"{few(known) or 'none, it has x and y alone'}{nearest(name, known)}"
            )
        if isinstance(side.x, np.ndarray):
            parts.append(side.others[name])
            rest.append(side)
            continue
        column = _read(name, side, na_values)
        if lacking := int(column.missing.sum()):
            raise UserError(f"group={name}: {lacking} records of {side.path} have no group; allowed: a group for each record")
        parts.append(np.array([columns.word(cell) for cell in side.x[name].tolist()]))
        rest.append(dataclasses.replace(side, x=side.x.drop(columns=name)))
    if len({part.dtype.kind in "US" for part in parts}) > 1:
        parts = [part.astype(str) for part in parts]
    lengths = [part.shape for part in parts]
    if any(len(shape) != 1 or shape[0] != len(side) for shape, side in zip(lengths, sides, strict=True)):
        raise UserError(
            f"group={name}: shapes {lengths} for {[len(side) for side in sides]} records; allowed: a group for each record"
        )
    return rest, as_groups(np.concatenate(parts), where=f"group={name}", records=sum(len(side) for side in sides))


def _read(name: str, side: Records, na_values: tuple[str, ...]) -> Column:
    values = side.x[name]
    if side.text:
        return columns.of_text(values, na_values)
    return columns.of_values(name, side.where, values, na_values)


def _one_column(
    name: str, sides: Sequence[Records], *, type_name: str, na_values: tuple[str, ...]
) -> tuple[list[NDArray[Any] | pd.Series], str]:
    """The values of one column on the sides that have it, all of one type."""
    read = [_read(name, side, na_values) for side in sides]
    kind, why = _decided(read, sides, OF_SIGNATURE.get(type_name), f"the model's signature asks for {type_name}")
    for column, side in zip(read, sides, strict=True):
        odd = column.misfit(kind)
        if odd is not None:
            held = "text" if column.kind in (None, WORDS) else column.kind
            raise UserError(
                f"{side.where}: column {name} holds {held}; {why}, and {odd[1]!r} in row {odd[0]} (counted from 0) is not one; "
                f"allowed: {ALLOWED[kind]}"
            )
    return _converted(kind, read, free=not type_name), _note(name, kind, read, type_name)


ALLOWED = {
    NUMBERS: "numbers such as 1000.5 (no thousands separator), or an empty cell",
    BOOLEANS: "True, False, or an empty cell",
    WORDS: "words or whole numbers, or an empty cell",
    DATES: "dates such as 2024-12-31 or 2024-12-31 23:59:00, or an empty cell",
}


def _decided(read: list[Column], sides: Sequence[Records], wanted: str | None, why: str) -> tuple[str, str]:
    """The column's kind, and the reason for it."""
    if wanted is not None:
        return wanted, why
    known = {
        column.kind: side
        for column, side in zip(read, sides, strict=True)
        if column.kind is not None and not column.missing.all()
    }
    known = known or {column.kind: side for column, side in zip(read, sides, strict=True) if column.kind is not None}
    if not known:
        return columns.kind_of_text(read), ""
    kind = next(kind for kind in (WORDS, DATES, NUMBERS, BOOLEANS) if kind in known)
    return kind, f"{known[kind].where} holds {kind} there"


def _converted(kind: str, read: list[Column], *, free: bool) -> list[NDArray[Any] | pd.Series]:
    """The column of every side, in one dtype; `free` if no signature requires a type."""
    if any(_is_category(column) for column in read) and (kind == WORDS or (kind == NUMBERS and free)):
        return _categories(kind, read)
    if kind == WORDS:
        untyped = any(column.kind is None or column.values.dtype != object for column in read)
        return [columns.words(column, lacking_as=np.nan if untyped else None) for column in read]
    if kind == DATES:
        return _dates(read, free=free)
    if kind == BOOLEANS:
        found = [columns.booleans(column) for column in read]
        return [values.astype(object) for values in found] if any(values.dtype == object for values in found) else list(found)
    return list(_alike([columns.numbers(column) for column in read], [column.kind is None for column in read]))


def _alike(found: list[NDArray[Any]], text: list[bool]) -> list[NDArray[Any]]:
    """Numbers in one dtype: that of the typed sides, if all values fit it; of two float types, the narrower one.

    A value stored as float32 is known only to that precision: against the same value in full precision, the same record would differ.
    """
    typed = [values.dtype for values, untyped in zip(found, text, strict=True) if not untyped] or [
        values.dtype for values in found
    ]
    floats = [dtype for dtype in typed if dtype.kind == "f"]
    target = min(floats, key=lambda dtype: dtype.itemsize) if floats else np.result_type(*typed)
    if target.kind != "f" and any(values.dtype.kind == "f" for values in found):
        target = np.dtype(np.float64)
    if any(
        values.dtype.kind in "iu" and not np.array_equal(values.astype(target).astype(values.dtype), values) for values in found
    ):
        target = np.result_type(*(values.dtype for values in found))
    return [values.astype(target, copy=False) for values in found]


def _is_category(column: Column) -> bool:
    import pandas as pd

    return isinstance(column.values.dtype, pd.CategoricalDtype)


def _categories(kind: str, read: list[Column]) -> list[NDArray[Any] | pd.Series]:
    """Columns with the categories of all sides in one list, the first side's first: a model trained on categorical columns needs them."""
    import pandas as pd

    plain = columns.words if kind == WORDS else columns.numbers
    found = [column.values if _is_category(column) else pd.Series(plain(column)) for column in read]
    typed = [column.values.cat for column in read if _is_category(column)]
    known = dict.fromkeys(value for part in typed for value in part.categories.tolist())
    known |= dict.fromkeys(
        sorted({value for values in found if values.dtype != "category" for value in values.dropna().tolist()})
    )
    ordered = all(part.ordered for part in typed) and len(known) == len(typed[0].categories)
    wanted = pd.CategoricalDtype(list(known), ordered=ordered)
    return [
        values.astype(object).reset_index(drop=True).where(~column.missing, None).astype(wanted)
        for values, column in zip(found, read, strict=True)
    ]


def _dates(read: list[Column], *, free: bool) -> list[NDArray[Any] | pd.Series]:
    if free and all(column.kind == DATES and column.values.dtype == object for column in read):
        return [column.values for column in read]  # Python's own dates, as Parquet's days are read
    found = [columns.dates(column) for column in read]
    if any(values.dt.tz is not None for values in found):
        return [values.dt.tz_localize("UTC") if values.dt.tz is None else values.dt.tz_convert("UTC") for values in found]
    return list(found)


def _note(name: str, kind: str, read: list[Column], type_name: str) -> str:
    """A note on values that could have been read in another way, if no signature decides."""
    if kind != WORDS or type_name:
        return ""
    cells = {cell for column in read if column.kind is None for cell in column.present()}
    marks = sorted(cells & columns.MARKS)
    if marks:
        return f"column {name}: {marks[0]!r} was read as a word (na_values={marks[0]} makes it a missing value)"
    if cells and all(map(columns.is_number, cells)):
        padded = next((cell for cell in cells if columns.looks_like_a_name(cell)), None)
        return f"column {name}: numbers written like {padded!r} were read as words" if padded is not None else ""
    return ""


def _labels(sides: Sequence[Records], classes: Sequence[Any] | None) -> list[NDArray[Any]]:
    """The labels of CSV files: words if the model names its classes by words or a label is not a number (`MARKS` are not), else numbers."""
    import pandas as pd

    text = [pd.Series(side.y.tolist(), dtype=object) for side in sides if side.text]
    if not text:
        return [side.y for side in sides]
    cells = [columns.of_text(values) for values in text]
    kind = _label_kind(cells, [side.y for side in sides if not side.text], classes)
    made: dict[str, Any] = {NUMBERS: columns.numbers, BOOLEANS: columns.booleans}
    read = iter([made[kind](column) if kind in made else np.array(column.values.tolist(), dtype=str) for column in cells])
    return [next(read) if side.text else side.y for side in sides]


def _label_kind(cells: list[Column], typed: list[NDArray[Any]], classes: Sequence[Any] | None) -> str:
    known = [cell for column in cells for cell in column.present()]
    if classes is not None and all(isinstance(name, str) for name in classes):
        return WORDS
    if any(array.dtype.kind in "US" for array in typed):
        return WORDS
    numeric = all(map(columns.is_number, known))
    if classes is not None or typed:
        return NUMBERS if numeric else BOOLEANS if all(map(columns.is_boolean, known)) else WORDS
    return WORDS if set(known) & columns.MARKS else columns.kind_of_text(cells)
