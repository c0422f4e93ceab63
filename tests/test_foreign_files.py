"""A foreign file is read, never executed: no array is loaded with pickles allowed, and ruff refuses what would run a file's code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("src", "benchmarks", "entrypoints", "notebooks", "docs", ".ci", "tests")
# whose call says so itself; a test may leave it to numpy's default, which is False as well
EXPLICIT = ("src", "benchmarks", "entrypoints", "notebooks", "docs", ".ci")
LOADERS = ("load", "read_array")  # of numpy and of numpy.lib.format, by whatever name these are imported
WORTH_PARSING = re.compile(
    rf"allow_pickle|\b({'|'.join(LOADERS)})\b"
)  # without these words there is no fault, and parsing takes seconds


def _faults(code: str, explicit: bool) -> Iterator[int]:
    """The lines that allow pickles, or, with `explicit`, leave it unsaid."""
    for node in ast.walk(ast.parse(code)) if WORTH_PARSING.search(code) else ():
        if not isinstance(node, ast.Call):
            continue
        said = [word.value for word in node.keywords if word.arg == "allow_pickle"]
        of_numpy = (
            isinstance(node.func, ast.Attribute)
            and node.func.attr in LOADERS
            and ast.unparse(node.func).split(".")[0] in ("np", "numpy", "npy")
        )
        positional = of_numpy and len(node.args) > 2  # np.load(file, mmap_mode, allow_pickle)
        unsaid = of_numpy and explicit and not said
        if positional or unsaid or any(not (isinstance(value, ast.Constant) and value.value is False) for value in said):
            yield node.lineno


def test_no_array_is_loaded_with_pickles_allowed() -> None:
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("needs the checkout")
    files = [(folder, path) for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for folder, path in files
        for line in _faults(path.read_text(encoding="utf-8"), folder in EXPLICIT)
    ]
    assert found == []
    assert len(files) > 400


@pytest.mark.parametrize(
    ("code", "faults"),
    [
        ("np.load(f, allow_pickle=True)", 1),
        ("np.load(f, allow_pickle=choice)", 1),
        ("np.load(f, None, True)", 1),
        ("np.load(f)", 1),
        ("npy.read_array(f)", 1),
        ("npy.format.\\\n  read_array(f)", 1),
        ("(np\n  . load(f))", 1),
        ("np.savez(f, x=x, allow_pickle=True)", 1),
        ("np.load(f, allow_pickle=False)", 0),
        ("json.load(f)", 0),
    ],
)
def test_what_counts_as_allowing_pickles(code: str, faults: int) -> None:
    assert len(list(_faults(code, explicit=True))) == faults


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ("import yaml\n\nyaml.load(text, Loader=yaml.Loader)\n", "S506"),
        ("import yaml\n\nyaml.full_load(text)\n", "TID251"),
        ("import pickle\n", "TID251"),
        ("import pandas as pd\n\npd.read_pickle(path)\n", "TID251"),
        ("from joblib import load\n", "TID251"),
        ("import yaml\n\nyaml.safe_load(text)\n", None),
    ],
)
@pytest.mark.parametrize("folder", ["src/memberscope", "benchmarks", "entrypoints", "notebooks", "tests"])
def test_ruff_refuses_what_runs_a_files_code(folder: str, code: str, rule: str | None) -> None:
    pytest.importorskip("ruff", reason="needs ruff")
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--output-format=concise", f"--stdin-filename={folder}/new.py", "-"],
        input=code, capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    refused = {word for word in ("S301", "S302", "S506", "TID251") if f" {word} " in done.stdout}
    assert (rule in refused) if rule else not refused, done.stdout
