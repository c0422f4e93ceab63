"""A user's table, CSV or Parquet, as a data set: an array of numbers in which words are codes, and what its columns mean.

The file is read as `audit` reads one: see `memberscope.datasets.records` and `memberscope.datasets.schema`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memberscope.datasets.classes import as_classes, as_groups
from memberscope.datasets.labeled import LabeledData
from memberscope.datasets.records import Records, read_records
from memberscope.datasets.schema import few, one_schema
from memberscope.datasets.table import BOOLEAN, NUMBER, WORD, Table, TableColumn
from memberscope.datasets.values import as_stored
from memberscope.errors import UserError, nearest
from memberscope.reading import columns

if TYPE_CHECKING:
    import pandas as pd

OWN_TRAINER = "a trainer of your own, such as trainer=sklearn.ensemble:RandomForestClassifier"
_EXACT = 2**53  # float64 does not hold all whole numbers beyond this


def load_table(path: str, *, as_is: bool, label: str, group: str, na_values: tuple[str, ...] = ()) -> LabeledData:
    """Read a table with a column of labels.

    Args:
        path: a ``.csv`` or ``.parquet``.
        as_is: keep any numbers, words and gaps; False: only columns of numbers in [0, 1] are allowed, which the built-in models take.
        label: the column of the labels.
        group: a column whose values name the records' groups, which is no feature; empty: none.
        na_values: words that mean a missing value in any column; empty cells always do.

    Raises:
        UserError: the file, its label or its group cannot be read, or without `as_is` a column that the built-in models cannot take.
    """
    where = f"dataset={path}"
    read = read_records("dataset", path, label=label, na_values=na_values)
    _check_labels(read, label, na_values)
    (read,), note = one_schema([read], na_values=na_values)
    y, names = as_classes(read.y, where=f"{where}: label={label}")
    frame = read.x
    assert not isinstance(frame, np.ndarray)
    groups = None
    if group:
        groups = _groups(frame, group, path=path, where=where)
        frame = frame.drop(columns=group)
    if not len(frame.columns):
        raise UserError(f"{where}: no columns besides {label}{f' and {group}' if group else ''}; allowed: at least one feature")
    found, notes = [], [note] if note else []
    x = np.empty((len(frame), len(frame.columns)))
    for place, name in enumerate(map(str, frame.columns)):
        column, x[:, place], notice = _encoded(name, where, frame[name])
        found.append(column)
        notes += [notice] if notice else []
    naming = [str(name) for name in frame.columns if columns.names_records(frame[name])]
    if naming:
        notes.append(
            f"columns with a different value in every record: {few(naming)}; if they only name the records, take them out of the file"
        )
    if not as_is:
        _check_built_in(x, found, path)
        return LabeledData(
            name=Path(path).stem, x=as_stored(x, where=where)[0], y=y, class_names=names, source=f"the file {Path(path).name}",
            notes=tuple(notes), groups=groups,
        )  # fmt: skip
    return LabeledData(
        name=Path(path).stem, x=x, y=y, class_names=names, source=f"the file {Path(path).name}", notes=tuple(notes),
        table=Table(columns=tuple(found)), groups=groups,
    )  # fmt: skip


def _check_labels(read: Records, label: str, na_values: tuple[str, ...]) -> None:
    """Raise UserError if a CSV file's labels are numbers or booleans apart from marks such as ``nan``: these are missing labels."""
    if not read.text:
        return
    import pandas as pd

    column = columns.of_text(pd.Series(read.y, dtype=object), na_values)
    marks = set(column.present()) & columns.MARKS
    if marks and columns.kind_of_text([column]) != columns.WORDS:
        missing = int(np.isin(read.y.astype(str), sorted(marks)).sum())
        raise UserError(
            f"{read.where}: {missing} records have no {label} but {' or '.join(sorted(marks))}; allowed: a label per record"
        )


def _groups(frame: pd.DataFrame, group: str, *, path: str, where: str) -> NDArray[np.int64]:
    if group not in frame.columns:
        raise UserError(
            f"group={group}: no column of {path} besides its label; allowed: one of {few([str(name) for name in frame.columns])}"
            f"{nearest(group, [str(name) for name in frame.columns])}"
        )
    column = columns.of_values(group, where, frame[group])
    if column.missing.any():
        raise UserError(
            f"group={group}: {int(column.missing.sum())} records of {path} have no group; allowed: a group for each record"
        )
    numeric = column.kind in (columns.NUMBERS, columns.BOOLEANS)
    values = columns.numbers(column) if numeric else columns.words(column).astype(str)
    return as_groups(values, where=f"group={group}", records=len(frame))


def _encoded(name: str, where: str, values: pd.Series) -> tuple[TableColumn, NDArray[np.float64], str]:
    """A column's meaning, its values as float64 and a note if they are not exactly the file's."""
    import pandas as pd

    column = columns.of_values(name, where, values)
    if isinstance(values.dtype, pd.CategoricalDtype) or column.kind == columns.WORDS:
        return _coded(name, columns.words(column), column.missing)
    if column.kind == columns.DATES:
        return (
            TableColumn(name=name, kind=NUMBER),
            columns.seconds(column),
            f"column {name}: dates were read as seconds since 1970",
        )
    if values.dtype == np.bool_:
        return TableColumn(name=name, kind=BOOLEAN, whole=True), values.to_numpy(dtype=np.float64), ""
    exact = columns.numbers(column)
    whole = exact.dtype.kind in "iu"
    found = exact.astype(np.float64)
    note = ""
    if whole and len(exact) and max(abs(int(exact.min())), abs(int(exact.max()))) > _EXACT:
        whole, note = False, f"column {name}: whole numbers beyond 2^53 were rounded to 53 bits"
    return TableColumn(name=name, kind=BOOLEAN if column.kind == columns.BOOLEANS else NUMBER, whole=whole), found, note


def _coded(name: str, words: NDArray[Any], missing: NDArray[np.bool_]) -> tuple[TableColumn, NDArray[np.float64], str]:
    categories = sorted(set(words[~missing].tolist()))
    place = {word: code for code, word in enumerate(categories)}
    codes = np.full(len(words), np.nan)
    codes[~missing] = [place[word] for word in words[~missing].tolist()]
    return TableColumn(name=name, kind=WORD, categories=tuple(categories)), codes, ""


def _check_built_in(x: NDArray[np.float64], found: list[TableColumn], path: str) -> None:
    """Raise UserError if a column is not one of numbers in [0, 1]."""
    for place, column in enumerate(found):
        values = x[:, place]
        problem = ""
        if column.kind == WORD:
            problem = "holds words"
        elif not np.isfinite(values).all():
            problem = f"has {int((~np.isfinite(values)).sum())} missing or infinite values"
        elif values.min() < 0 or values.max() > 1:
            problem = f"holds numbers from {values.min():g} to {values.max():g}"
        if problem:
            raise UserError(
                f"dataset={path}: column {column.name} {problem}; allowed for the built-in models: numbers in [0, 1] in every column; "
                f"any table is allowed with {OWN_TRAINER}"
            )
