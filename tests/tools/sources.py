"""The modules of the package as syntax trees, parsed once for all tests that look through them: it takes more than a second."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "src" / "memberscope"


@functools.cache
def modules() -> dict[Path, ast.Module]:
    """The tree of each module, by its path."""
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES.rglob("*.py")}
