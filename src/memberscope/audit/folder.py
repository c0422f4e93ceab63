"""Writes files into a folder, for those who do not use MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from memberscope.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_folder(folder: str | Path, content: Mapping[str, str | Figure]) -> Path:
    """Write texts and figures under their names into a folder, which is made if it does not exist; UserError if it cannot be written."""
    where = Path(folder)
    try:
        where.mkdir(parents=True, exist_ok=True)
        for name, part in content.items():
            if isinstance(part, str):
                (where / name).write_text(part, encoding="utf-8")
            else:
                part.savefig(where / name)
    except OSError as error:
        raise UserError(
            f"folder={folder}: cannot be written ({error.strerror or error}); allowed: a folder that can be written"
        ) from None
    return where
