"""The columns of a table that people or other programs wrote, each read by what it must hold; an error names the column, row and cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import UserError
from memberscope.reading import columns
from memberscope.reading.columns import BOOLEANS, NUMBERS, WORDS, Column

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[Any]
COUNTED = "(counted from 0)"  # rows
MOST_WORD = 10_000  # letters of a word that names a class, a record, a group or a model
_KINDS = {NUMBERS: "a number", BOOLEANS: "true or false, or 1 or 0", WORDS: "a whole number or a word"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Columns of numbers that lie side by side in one array already, without a missing one.

    Attributes:
        names: of the columns.
        values: (rows, columns).
    """

    names: tuple[str, ...]
    values: Array

    def of(self, names: Sequence[str]) -> Array | None:
        """(rows, columns) the columns of these names; None if one of them is not in the block."""
        if not set(names) <= set(self.names):
            return None
        places = [self.names.index(name) for name in names]
        if places == list(range(places[0], places[0] + len(places))):
            return self.values[:, places[0] : places[0] + len(places)]
        return self.values[:, places]


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """A table whose columns are read by what each must hold.

    Attributes:
        frame: the table.
        csv: whether its cells are the text of a CSV file.
        where: the beginning of errors, such as ``predictions=t.csv``.
        block: columns that need not be read one by one; None if there are none.
    """

    frame: pd.DataFrame
    csv: bool
    where: str
    block: Block | None = None

    def column(self, name: str) -> Column:
        """A column as it is; UserError for cells of a type that no column has, such as lists."""
        values = self.frame[name]
        return columns.of_text(values) if self.csv else columns.of_values(name, self.where, values)

    def of_kind(self, name: str, kind: str, *, gaps: bool = False) -> Column:
        """A column of which every cell can be read as `kind`, and none is missing unless `gaps`; UserError names the first that cannot."""
        column = self.column(name)
        if column.missing.any() and not gaps:
            row = int(column.missing.argmax())
            raise UserError(f"{self.where}: column {name} is empty in row {row} {COUNTED}; allowed: {_KINDS[kind]}")
        if (odd := column.misfit(kind)) is not None:
            held = f"{str(odd[1])[:60]!r} in row {odd[0]} {COUNTED}"
            raise UserError(f"{self.where}: column {name} holds {held}; allowed: {_KINDS[kind]}")
        return column

    def numbers(self, names: Sequence[str], *, gaps: bool = False) -> Array:
        """(rows, columns) numbers; those of a CSV file are float64."""
        if self.block is not None and (together := self.block.of(names)) is not None:
            return together
        found = [columns.numbers(self.of_kind(name, NUMBERS, gaps=gaps)) for name in names]
        return np.stack([values.astype(np.float64) if self.csv else values for values in found], axis=1)

    def flags(self, name: str) -> Array:
        """(rows,) booleans."""
        return columns.booleans(self.of_kind(name, BOOLEANS)).astype(np.bool_)

    def names(self, *names: str) -> list[Array]:
        """Columns of classes, ids or groups: all of them whole numbers, or all of them words."""
        read = [self.of_kind(name, WORDS) for name in names]
        if all(_are_whole(column) for column in read):
            found = [columns.numbers(column) for column in read]
            return [values if values.dtype.kind in "iu" else values.astype(np.int64) for values in found]
        return [self._words(name, column) for name, column in zip(names, read, strict=True)]

    def _words(self, name: str, column: Column) -> Array:
        """(rows,) text; UserError for a word so long that an array of text, whose cells all have the length of the longest, has no room."""
        words = columns.words(column, lacking_as=None)
        for row, word in enumerate(words.tolist()):
            if word is not None and len(word) > MOST_WORD:
                held = f"a word of {len(word):,} letters in row {row} {COUNTED}"
                raise UserError(f"{self.where}: column {name} holds {held}; allowed: at most {MOST_WORD:,}")
        return np.array(["missing" if word is None else word for word in words.tolist()])

    def to_slice_by(self, name: str) -> Array:
        """(rows,) numbers, booleans or words, of which a missing one becomes the word "missing"; UserError for cells of any other type."""
        column = self.column(name)
        kind = column.kind or columns.kind_of_text([column])
        if kind in (NUMBERS, BOOLEANS):
            found = (columns.numbers if kind == NUMBERS else columns.booleans)(column)
            if found.dtype.kind in "biu" or (found.dtype.kind == "f" and not np.isnan(found).any()):
                return np.asarray(found)
        return self._words(name, column)


def _are_whole(column: Column) -> bool:
    """Whether these are whole numbers, of a CSV file written in their usual form: 007 is a word."""
    kind = column.kind
    if kind is None:
        kind = columns.kind_of_text([column])
        if set(column.present()) & columns.MARKS:  # NA and the like, which are missing among numbers, are names here
            return False
    if kind != NUMBERS:
        return False
    values = columns.numbers(column)
    return values.dtype.kind in "iu" or bool(((values == np.round(values)) & (np.abs(values) < 2.0**63)).all())
