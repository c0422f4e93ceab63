"""Arrow IPC files (``.arrow``, and ``.feather`` of version 2) with the outputs of a model, read a piece at a time.

Columns mean what they mean in any other table (`memberscope.score_tables`). Those of logits and probabilities, of which there may be many,
are combined side by side, a chunk of rows at a time, as one array of rows; a large one is held in a temporary file. They may also be one
column, ``logits`` or ``probs``, of lists of a fixed size with a number for each class, which are then named 0, 1, and so on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memberscope.checks import Array, row_chunks
from memberscope.errors import UserError
from memberscope.file_state import FileState
from memberscope.installed import require
from memberscope.mapped import gathered
from memberscope.pieces import release
from memberscope.reading.cells import COUNTED, Block
from memberscope.reading.files import check_file, check_memory
from memberscope.reading.frames import LEAST_CELL, check_names
from memberscope.score_tables import is_count

if TYPE_CHECKING:
    import pandas as pd

ARROW = (".arrow", ".feather")
WIDE = {"logit_": "logits", "prob_": "probs"}
"""The beginning of the names of columns with a number for one class each -> the column with a list of the numbers for all of them."""
_BLOCK = 1 << 22  # bytes that are read at once


@dataclass(frozen=True, kw_only=True, eq=False)
class ArrowTable:
    """An Arrow file, read.

    Attributes:
        frame: a column for each of the file's.
        block: those of logits or probabilities as one array of rows, over which their columns in `frame` are views; None without any.
    """

    frame: pd.DataFrame
    block: Block | None


def read_arrow(path: Path, *, where: str, allowed: str, instead: str) -> ArrowTable:
    """Read a file; the arguments are those of `memberscope.reading.frames.read_frame`.

    Raises:
        UserError: the file is missing, no regular file, damaged, or changes while it is read; two columns have one name; a column of
            logits or probabilities holds anything but numbers, or lacks one; or pyarrow is not installed.
    """
    import pandas as pd

    check_file(path, where=where, allowed=allowed)
    require("pyarrow", by=where, instead=instead)
    import pyarrow

    try:
        state = FileState.of(path, where=where)
        rest, block = _read(_copied(state), where)
    except (
        OSError, ValueError, TypeError, KeyError, OverflowError, NotImplementedError, MemoryError, BufferError, pyarrow.ArrowException,
    ) as error:  # fmt: skip
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{where}: cannot be read ({words}); allowed: {allowed}") from None
    if block is None:
        return ArrowTable(frame=rest, block=None)
    wide = pd.DataFrame(block.values, columns=list(block.names), copy=False)
    return ArrowTable(frame=pd.concat([rest, wide], axis=1, copy=False), block=block)


def _copied(state: FileState) -> Array:
    """The bytes of a file as they are now, in memory or in a temporary file: pyarrow would read them through a map, and a file that became
    shorter in the meantime would kill the process.
    """
    if not state.size:
        return np.empty(0, dtype=np.uint8)

    def parts() -> Iterator[Array]:
        with FileIO(state.path) as file:
            left = state.size
            while left and (part := file.read(min(left, _BLOCK))):
                left -= len(part)
                yield np.frombuffer(part, dtype=np.uint8)
        state.check()

    return gathered(parts(), dtype=np.dtype(np.uint8), shape=(state.size,))


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A column of the file that holds numbers of one class (`size` 0), or a list of as many of all classes, and their names in a table."""

    column: str
    names: tuple[str, ...]
    size: int = 0

    def of(self, column: Any) -> Array:
        """(rows, classes) the numbers of a part of the column without nulls."""
        if self.size:
            return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(-1, self.size)
        return np.asarray(column.to_numpy(zero_copy_only=False))[:, None]

    def absent(self, column: Any) -> int | None:
        """The first row of a part of the column that lacks a number; None if none does."""
        if column.null_count:
            return int(column.is_null().to_numpy(zero_copy_only=False).argmax())
        if self.size and (values := column.flatten()).null_count:
            return int(values.is_null().to_numpy(zero_copy_only=False).argmax()) // self.size
        return None


def _sources(schema: Any, where: str) -> list[_Source]:
    """The columns with logits and probabilities, in the order of their classes."""
    from pyarrow import types

    names = [str(name) for name in schema.names]
    found = []
    for prefix, whole in WIDE.items():
        for name in _in_order([name for name in names if name.startswith(prefix)], prefix):
            if not _is_number(schema.field(name).type):
                raise UserError(
                    f"{where}: column {name} holds {schema.field(name).type}; allowed: numbers, since its name says so"
                )
            found.append(_Source(column=name, names=(name,)))
        if whole in names:
            kind = schema.field(whole).type
            if not (types.is_fixed_size_list(kind) and _is_number(kind.value_type) and kind.list_size > 1):
                raise UserError(
                    f"{where}: column {whole} holds {kind}; allowed: lists of a fixed size of numbers, one for each of two or more "
                    f"classes, or a column {prefix}NAME for each class"
                )
            listed = tuple(f"{prefix}{number}" for number in range(kind.list_size))
            found.append(_Source(column=whole, names=listed, size=kind.list_size))
    check_names(where, _empty([name for source in found for name in source.names]))
    return found


def _read(held: Array, where: str) -> tuple[pd.DataFrame, Block | None]:
    """The columns but those of `WIDE`, and these as one array."""
    import pandas as pd
    import pyarrow
    from pyarrow import ipc

    with ipc.open_file(pyarrow.BufferReader(pyarrow.py_buffer(held))) as reader:
        names = [str(name) for name in reader.schema.names]
        check_names(where, _empty(names))
        sources = _sources(reader.schema, where)
        wide = {source.column for source in sources}
        kept = [number for number, name in enumerate(names) if name not in wide]
        parts = []
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            batch.validate(full=True)
            parts.append(batch.select(kept))
            release(held)
        rows = sum(part.num_rows for part in parts)
        check_memory(rows * max(1, len(kept)) * LEAST_CELL, where=where, what=f"its table of {rows:,} rows")
        if kept and parts:  # as a whole: a column that lacks a value in one part has one type in all
            rest = pyarrow.Table.from_batches(parts).to_pandas(split_blocks=True).copy()
        else:
            rest = pd.DataFrame(index=pd.RangeIndex(rows))
        del parts
        release(held)
        if not sources or not rows:
            return rest, None
        dtype = np.result_type(*(_numpy_type(reader.schema.field(source.column).type) for source in sources))
        listed = tuple(name for source in sources for name in source.names)
        values = gathered(_rows(reader, sources, held, where), dtype=dtype, shape=(rows, len(listed)))
        return rest, Block(names=listed, values=values)


def _empty(names: Sequence[str]) -> pd.DataFrame:
    """A table without rows, with columns of these names."""
    import pandas as pd

    return pd.DataFrame(columns=pd.Index(names, dtype=object))


def _rows(reader: Any, sources: Sequence[_Source], held: Array, where: str) -> Iterator[Array]:
    """The columns of the sources side by side, a piece of rows at a time."""
    first, width = 0, sum(len(source.names) for source in sources)
    for number in range(reader.num_record_batches):
        batch = reader.get_batch(number).select([source.column for source in sources])
        for rows in row_chunks(batch.num_rows, width):
            piece = batch.slice(rows.start, rows.stop - rows.start)
            for source, column in zip(sources, piece.columns, strict=True):
                if (row := source.absent(column)) is not None:
                    place = f"row {first + rows.start + row} {COUNTED}"
                    raise UserError(f"{where}: column {source.column} is empty in {place}; allowed: a number")
            yield np.concatenate([source.of(column) for source, column in zip(sources, piece.columns, strict=True)], axis=1)
            release(held)
        first += batch.num_rows


def _in_order(names: list[str], prefix: str) -> list[str]:
    """The columns of one form in the order of their classes, if these are numbers, so that none has to be moved later."""
    if all(is_count(name.removeprefix(prefix)) for name in names):
        return sorted(names, key=lambda name: int(name.removeprefix(prefix)))
    return names


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_floating(kind) or types.is_integer(kind))


def _numpy_type(kind: Any) -> np.dtype[Any]:
    found = np.dtype((kind if _is_number(kind) else kind.value_type).to_pandas_dtype())
    return found if found.kind == "f" else np.dtype(np.float64)
