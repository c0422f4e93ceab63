"""Which process is about to adopt a run, said on this machine before MLflow is imported: a kill in the seconds until then is seen.

A claim is a small file of this user's in the folder for temporary files, named after the run. It is dropped once the run has its tags.
"""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

from memberscope.mlflow_adapter.process import this_process

RUN_ID = re.compile(r"[0-9a-f]{32}")


def claim(run_id: str) -> None:
    """Say that this process is about to adopt the run; without a word if that cannot be written."""
    path = _path(run_id)
    if path is None:
        return
    with suppress(OSError):
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(this_process())


def claimant(run_id: str) -> str:
    """The process that was about to adopt the run, as `this_process` names it; empty if none said so."""
    path = _path(run_id)
    try:
        if path is None or path.lstat().st_uid != os.getuid():
            return ""
        return path.read_text()
    except (OSError, ValueError):
        return ""


def drop(run_id: str) -> None:
    """Take a claim back."""
    path = _path(run_id)
    if path is not None:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _path(run_id: str) -> Path | None:
    if not hasattr(os, "getuid") or not RUN_ID.fullmatch(run_id):
        return None
    return Path(tempfile.gettempdir()) / f"memberscope-{os.getuid()}-run-{run_id}"
