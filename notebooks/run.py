"""Run notebooks from their text, and keep them as ``.ipynb`` with what they showed.

python notebooks/run.py [--out FOLDER] [NOTEBOOK.py ...]      all of them, beside their text, unless told otherwise

Each runs in a temporary working directory and with a store of its own. The exit code is 1 if a cell of one failed; its error is shown.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).resolve().parent
CELL_SECONDS = 600
# Start-up lines of TensorFlow and a notice of a Google client about Python 3.11, which no reader of a notebook can do anything about
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore::FutureWarning", "MLFLOW_DISABLE_TELEMETRY": "true"}


def run(source: Path, out: Path) -> bool:
    """Run one notebook; True if every cell did. What it showed so far is kept either way."""
    start = time.monotonic()
    notebook = jupytext.read(source)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"  # the kernel inherits it
        client = NotebookClient(notebook, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": folder}})
        try:
            client.execute()
        except CellExecutionError as error:
            print(f"{source.name}: {error}", file=sys.stderr)
            return False
        finally:
            nbformat.write(notebook, out / f"{source.stem}.ipynb")
    print(f"{source.name}: {time.monotonic() - start:.0f} s", flush=True)
    return True


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, default=sorted(HERE.glob("[0-9]*.py")))
    parser.add_argument("--out", type=Path, default=HERE)
    asked = parser.parse_args()
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    ended = [run(source, asked.out) for source in asked.notebooks]
    return int(not all(ended))


if __name__ == "__main__":
    raise SystemExit(main())
