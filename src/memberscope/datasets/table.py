"""What the columns of a table mean: its records are one array of numbers, in which words are codes, and a `Table` makes frames of its rows.

Studies split, compare and store arrays. A model that takes columns by name and words as words, such as a scikit-learn pipeline, gets
frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

NUMBER, BOOLEAN, WORD = "number", "boolean", "word"
KINDS = (NUMBER, BOOLEAN, WORD)
MOST_INDICATORS = 32
"""The most columns that `Table.plain` gives when it replaces words by indicators; the blind control reduces wider records."""


@dataclass(frozen=True, kw_only=True)
class TableColumn:
    """One column of a table.

    Attributes:
        name: as in the file.
        kind: ``number``, ``boolean`` or ``word``.
        whole: whether a column of numbers or booleans holds only whole numbers or booleans, none of them missing.
        categories: the different words in sorted order, for a column of words; the array holds positions in this tuple.
    """

    name: str
    kind: str
    whole: bool = False
    categories: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the kind."""
        if self.kind not in KINDS:
            raise ValueError(f"column {self.name}: kind {self.kind!r}; allowed: {', '.join(KINDS)}")


@dataclass(frozen=True, kw_only=True)
class Table:
    """The columns of a table whose records are an (n, columns) float64 array. Missing values are NaN there, booleans 0 and 1."""

    columns: tuple[TableColumn, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def words(self) -> bool:
        """Whether any column holds words, which only a model that takes frames can read."""
        return any(column.kind == WORD for column in self.columns)

    def frame(self, x: NDArray[Any]) -> pd.DataFrame:
        """Rows of the array as a pandas frame with the columns' names, whose types depend on the table alone, never on the rows.

        - Numbers are int64 if the file holds whole numbers alone, none of them missing; else float64, with NaN where they are missing.
        - Booleans are bool; with missing values, float64 with 0, 1 and NaN.
        - Words are categorical, with all words of the table as categories in sorted order and NaN where they are missing. scikit-learn's
          encoders, `XGBClassifier(enable_categorical=True)` and LightGBM take such columns, and every model of a study sees the same
          categories even if its own members lack some.

        Args:
            x: (m, columns) rows.

        Raises:
            ValueError: another number of columns, or codes that are not of the table.
        """
        import pandas as pd

        if x.ndim != 2 or x.shape[1] != len(self.columns):
            raise ValueError(f"rows of shape {x.shape} for a table of {len(self.columns)} columns")
        made = {column.name: _values(column, x[:, place]) for place, column in enumerate(self.columns)}
        return pd.DataFrame(made, index=pd.RangeIndex(len(x)), columns=pd.Index(self.names, dtype=object))

    def plain(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Rows as numbers in which words have no order that a simple classifier could be misled by, for controls and attacks.

        A column of words becomes one indicator for each word, and one for a missing word, as long as all columns together are at most
        `MOST_INDICATORS`; columns with few words come first. Other columns of words keep their codes, and a missing word gets a code of
        its own. Missing numbers stay NaN.
        """
        room = MOST_INDICATORS - len(self.columns)
        indicated = set()
        for count, place in sorted((len(c.categories) + 1, k) for k, c in enumerate(self.columns) if c.kind == WORD):
            if count - 1 <= room:
                room -= count - 1
                indicated.add(place)
        parts = []
        for place, column in enumerate(self.columns):
            values = np.asarray(x[:, place], dtype=np.float64)
            if column.kind == WORD:
                values = np.where(np.isnan(values), float(len(column.categories)), values)
            if place in indicated:
                parts.append((values[:, None] == np.arange(len(column.categories) + 1)).astype(np.float64))
            else:
                parts.append(values[:, None])
        return np.concatenate(parts, axis=1) if parts else np.empty((len(x), 0))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, from which `from_dict` makes an equal table."""
        return {
            "columns": [
                {"name": column.name, "kind": column.kind, "whole": column.whole, "categories": list(column.categories)}
                for column in self.columns
            ]
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Table:
        """The table of which `to_dict` made these values; KeyError, TypeError or ValueError for any others."""
        for one in values["columns"]:
            words = [one["name"], one["kind"], *one["categories"]]
            if not isinstance(one["categories"], list) or not all(isinstance(word, str) for word in words):
                raise TypeError(f"column {one['name']!r}: its name, kind and categories are not text")
            if not isinstance(one["whole"], bool):
                raise TypeError(f"column {one['name']!r}: whole={one['whole']!r}")
        return cls(
            columns=tuple(
                TableColumn(name=one["name"], kind=one["kind"], whole=one["whole"], categories=tuple(one["categories"]))
                for one in values["columns"]
            )
        )


def _values(column: TableColumn, values: NDArray[Any]) -> Any:
    """One column of a frame."""
    import pandas as pd

    numbers = np.array(values, dtype=np.float64)
    if column.kind == WORD:
        lacking = np.isnan(numbers)
        codes = np.where(lacking, -1, numbers).astype(np.int64)
        if not (lacking | ((codes == numbers) & (codes >= 0))).all() or codes.max(initial=-1) >= len(column.categories):
            raise ValueError(f"column {column.name}: numbers that are not codes of its {len(column.categories)} words")
        return pd.Categorical.from_codes(codes, categories=pd.Index(column.categories, dtype=object))
    if not column.whole or not np.isfinite(numbers).all():
        return numbers
    if column.kind == BOOLEAN:
        return numbers.astype(bool) if ((numbers == 0) | (numbers == 1)).all() else numbers
    whole = numbers.astype(np.int64)
    return whole if np.array_equal(whole, numbers) else numbers
