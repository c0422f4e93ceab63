"""Every file of the package that is no Python is declared as package data, so that a wheel has it too."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "memberscope"


def test_every_template_and_mark_is_packaged() -> None:
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("needs the checkout's pyproject.toml")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    declared = {path for pattern in settings["package-data"]["memberscope"] for path in PACKAGE.glob(pattern)}
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert {path.name for path in files} > {"page.html.j2", "style.css"}
    assert files == declared
