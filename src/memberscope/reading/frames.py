"""Tables that people or other programs wrote, CSV or Parquet, as frames: of text, or of the file's own types."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from memberscope.errors import UserError
from memberscope.installed import is_installed, require
from memberscope.reading.files import check_file, check_memory

if TYPE_CHECKING:
    import pandas as pd

CSV, PARQUET = (".csv",), (".parquet", ".pq")
LEAST_CELL = 8  # bytes of a cell in memory


def read_frame(path: Path, *, where: str, allowed: str, instead: str = "an .npz or a .csv") -> pd.DataFrame:
    """A table with a name for each column and the index 0, 1, ...; it may have no rows.

    Args:
        path: a ``.csv``, of which all cells are read as text, as they are; or a ``.parquet`` or ``.pq``, whose columns keep their types.
        where: the beginning of errors, such as ``members=a.csv``.
        allowed: the end of errors: what may be given.
        instead: what can be given where pyarrow, which reads Parquet, is not installed.

    Raises:
        UserError: the file is missing, no regular file, damaged, or larger than this machine's memory; two columns have one name; lines
            have more cells than the header; or it is Parquet and pyarrow is not installed.
    """
    import pandas as pd

    size = check_file(path, where=where, allowed=allowed)
    csv = path.suffix.lower() in CSV
    if csv:
        check_memory(size, where=where, what="its table")
    else:
        require("pyarrow", by=where, instead=instead)
        _check_promise(path, where, allowed)
    text = "string[pyarrow]" if is_installed("pyarrow") else "string[python]"  # the same values; Arrow's take less memory
    try:
        header = pd.read_csv(path, dtype=text, na_filter=False, header=None, nrows=1) if csv else None
        frame = pd.read_csv(path, dtype=text, na_filter=False) if csv else pd.read_parquet(path)
    except (
        OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, NotImplementedError,
    ) as error:  # fmt: skip  # of pandas and Arrow; pandas' part of a damaged Parquet file makes Python's own
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{where}: cannot be read ({words}); allowed: {allowed}") from None
    frame.columns = [str(column) for column in frame.columns]
    if csv and len(frame.columns) == 1 and (other := next((mark for mark in ";\t|" if mark in frame.columns[0]), "")):
        raise UserError(
            f"{where}: the cells of its first line are separated by {'tabs' if other == chr(9) else other}; allowed: commas between cells, "
            "and points in numbers"
        )
    if csv and not isinstance(frame.index, pd.RangeIndex) and len(frame) and (frame.iloc[:, -1] == "").all():
        raise UserError(f"{where}: every line ends in a separator, but the header does not; allowed: as many cells as columns")
    if header is not None:  # of two columns named a, pandas makes a and a.1
        names = [str(cell) for cell in header.iloc[0] if cell != ""]
        check_names(where, pd.DataFrame(columns=pd.Index(names, dtype=object)))
    check_names(where, frame)
    return frame.reset_index(drop=True)


def _check_promise(path: Path, where: str, allowed: str) -> None:
    """Raise UserError for a Parquet file whose footer promises more values than this machine's memory can hold, before they are read."""
    import pyarrow
    from pyarrow import parquet

    try:
        about = parquet.read_metadata(path)
        groups = [about.row_group(number).num_rows for number in range(about.num_row_groups)]
        rows, columns = about.num_rows, about.num_columns
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise UserError(f"{where}: cannot be read ({' '.join(str(error).split())[:200]}); allowed: {allowed}") from None
    if rows != sum(groups) or min([rows, *groups]) < 0:
        raise UserError(f"{where}: its footer promises {rows:,} rows, and its parts {sum(groups):,}; allowed: {allowed}")
    check_memory(rows * max(1, columns) * LEAST_CELL, where=where, what=f"its table of {rows:,} rows")


def check_names(where: str, frame: pd.DataFrame) -> None:
    """Raise UserError, which begins with `where`, if two columns have the same name."""
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise UserError(f"{where}: two columns are named {twice[0]}; allowed: a name for each column")
