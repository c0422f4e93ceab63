"""Arrow IPC files (``.arrow``, and ``.feather`` of version 2) with the outputs of a model: mapped, and read a piece at a time.

Columns mean what they mean in any other table (`memberscope.score_tables`). Those of logits and probabilities, of which there may be many,
are combined side by side, a chunk of rows at a time, as one array of rows; a large one is held in a temporary file.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memberscope.checks import Array, row_chunks
from memberscope.errors import UserError
from memberscope.installed import require
from memberscope.mapped import FileState, gathered
from memberscope.reading.cells import COUNTED, Block
from memberscope.reading.files import check_file, check_memory
from memberscope.reading.frames import LEAST_CELL, check_names
from memberscope.score_tables import is_count

if TYPE_CHECKING:
    import pandas as pd

ARROW = (".arrow", ".feather")
WIDE = ("logit_", "prob_")


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
        with open(path, "rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # ends with the last of Arrow's buffers over it
        rest, block = _read(mapping, state, where, allowed)
    except (
        OSError, ValueError, TypeError, KeyError, OverflowError, NotImplementedError, MemoryError, BufferError, pyarrow.ArrowException,
    ) as error:  # fmt: skip
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{where}: cannot be read ({words}); allowed: {allowed}") from None
    if block is None:
        return ArrowTable(frame=rest, block=None)
    wide = pd.DataFrame(block.values, columns=list(block.names), copy=False)
    return ArrowTable(frame=pd.concat([rest, wide], axis=1, copy=False), block=block)


def _read(mapping: mmap.mmap, state: FileState, where: str, allowed: str) -> tuple[pd.DataFrame, Block | None]:
    """The columns but those of `WIDE`, and these as one array."""
    import pandas as pd
    import pyarrow
    from pyarrow import ipc

    with ipc.open_file(pyarrow.BufferReader(pyarrow.py_buffer(mapping))) as reader:
        names = [str(name) for name in reader.schema.names]
        check_names(where, pd.DataFrame(columns=pd.Index(names, dtype=object)))
        wide = [name for prefix in WIDE for name in _in_order([name for name in names if name.startswith(prefix)], prefix)]
        for name in wide:
            if not _is_number(reader.schema.field(name).type):
                raise UserError(
                    f"{where}: column {name} holds {reader.schema.field(name).type}; allowed: numbers, since its name says so"
                )
        kept = [number for number, name in enumerate(names) if name not in set(wide)]
        counts, parts = list[int](), list[Any]()
        for number in range(reader.num_record_batches):
            state.check()
            batch = reader.get_batch(number)
            batch.validate(full=True)
            counts.append(batch.num_rows)
            parts.append(pyarrow.table(batch.select(kept)).to_pandas(split_blocks=True).copy() if kept else None)
            _release(mapping)
        rows = sum(counts)
        check_memory(rows * max(1, len(kept)) * LEAST_CELL, where=where, what=f"its table of {rows:,} rows")
        rest = pd.concat(parts, ignore_index=True) if kept and parts else pd.DataFrame(index=pd.RangeIndex(rows))
        if not wide or not rows:
            return rest, None
        dtype = np.result_type(*(_numpy_type(reader.schema.field(name).type) for name in wide))
        values = gathered(_rows(reader, wide, mapping, state, where), dtype=dtype, shape=(rows, len(wide)))
        return rest, Block(names=tuple(wide), values=values)


def _rows(reader: Any, wide: Sequence[str], mapping: mmap.mmap, state: FileState, where: str) -> Iterator[Array]:
    """The columns `wide` side by side, a piece of rows at a time."""
    first = 0
    for number in range(reader.num_record_batches):
        batch = reader.get_batch(number).select(list(wide))
        for rows in row_chunks(batch.num_rows, len(wide)):
            state.check()
            piece = batch.slice(rows.start, rows.stop - rows.start)
            for name, column in zip(wide, piece.columns, strict=True):
                if column.null_count:
                    row = first + rows.start + int(column.is_null().to_numpy(zero_copy_only=False).argmax())
                    raise UserError(f"{where}: column {name} is empty in row {row} {COUNTED}; allowed: a number")
            yield np.stack([column.to_numpy(zero_copy_only=False) for column in piece.columns], axis=1)
            _release(mapping)
        first += batch.num_rows
    state.check()


def _in_order(names: list[str], prefix: str) -> list[str]:
    """The columns of one form in the order of their classes, if these are numbers, so that none has to be moved later."""
    if all(is_count(name.removeprefix(prefix)) for name in names):
        return sorted(names, key=lambda name: int(name.removeprefix(prefix)))
    return names


def _release(mapping: mmap.mmap) -> None:
    if hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_floating(kind) or types.is_integer(kind))


def _numpy_type(kind: Any) -> np.dtype[Any]:
    found = np.dtype(kind.to_pandas_dtype())
    return found if found.kind == "f" else np.dtype(np.float64)
