"""The documentation's site has every page and every module, and the files that describe the project agree with the package."""

from __future__ import annotations

import ast
import importlib.util
import io
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import memberscope

ROOT = Path(__file__).resolve().parents[2]


def _build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_site", ROOT / "docs" / "site" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    _build().stage(folder)
    return folder


def _in_contents(page: Path) -> set[Path]:
    """The pages that a page's tables of contents name, and those that these name in turn."""
    text = page.read_text()
    blocks = re.findall(r"```\{toctree\}\n(.*?)```", text, flags=re.DOTALL) + re.findall(
        r"\.\. toctree::\n((?: .*\n|\n)*)", text
    )
    found: set[Path] = set()
    for line in "\n".join(blocks).split("\n"):
        entry = line.strip()
        if entry and not entry.startswith(":"):
            name = match.group(1) if (match := re.search(r"<(.*)>", entry)) else entry
            found |= {path for kind in ("md", "rst") for path in page.parent.glob(f"{name}.{kind}")}
    return found | {below for path in found for below in _in_contents(path)}


def test_every_page_is_in_the_contents(staged: Path) -> None:
    pages = {staged / path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.md")}
    pages |= {staged / name for name in ("GLOSSARY.md", "CHANGELOG.md", "CONTRIBUTING.md")}
    assert len(pages) > 15
    assert pages <= _in_contents(staged / "index.md")
    assert (staged / "index.md").read_text().startswith((ROOT / "README.md").read_text())


def test_every_module_is_in_the_reference(staged: Path) -> None:
    source = ROOT / "src"
    files = [path for path in (source / "memberscope").rglob("*.py") if not path.stem.startswith("_")]
    modules = {".".join(path.relative_to(source).with_suffix("").parts) for path in files}
    modules |= {".".join(path.parent.relative_to(source).parts) for path in source.rglob("__init__.py")} - {"memberscope"}
    pages = [path for path in _in_contents(staged / "index.md") if path.parent.name == "api"]
    named = [name for page in pages for name in re.findall(r"automodule:: (\S+)", page.read_text())]
    assert sorted(named) == sorted(modules), "each exactly once"


def _markup_warnings(docstring: str) -> str:
    pytest.importorskip("sphinx", reason="needs Sphinx, which make setup installs")  # make test-core does not
    from docutils.core import publish_doctree
    from sphinx.ext.napoleon import Config, GoogleDocstring

    warnings = io.StringIO()
    markup = str(GoogleDocstring(docstring, Config(napoleon_use_ivar=True)))  # with ivar, without Sphinx's own directives
    publish_doctree(markup, settings_overrides={"warning_stream": warnings, "report_level": 2, "halt_level": 5})
    return warnings.getvalue()


def test_every_docstring_is_sound_markup() -> None:
    found: dict[str, str] = {}
    count = 0
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
                text := ast.get_docstring(node)
            ):
                count += 1
                if warnings := _markup_warnings(text):
                    found[f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'module')}"] = warnings
    assert not found
    assert count > 1000


def test_a_formula_that_is_no_literal_is_found() -> None:
    assert "start-string without end-string" in _markup_warnings("Squared distances are |p|^2 + |q|^2 - 2 p q.")
    assert not _markup_warnings("Squared distances are ``|p|^2 + |q|^2 - 2 p q``.")


def test_the_public_names_come_first(staged: Path) -> None:
    shown = re.findall(r"auto\w+:: memberscope\.(\w+)", (staged / "api" / "index.rst").read_text())
    assert shown == [name for name in memberscope.__all__ if not name.startswith("__")]
    assert {"Predictions", "ShadowPredictions", "Evidence", "run_audit"} <= set(shown)


def test_the_citation_and_the_changelog_name_the_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    required = {"cff-version", "message", "title", "authors"}
    assert required <= set(citation)
    assert citation["version"] == memberscope.__version__
    assert citation["license"] == "Apache-2.0"
    versions = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d{2}-\d{2}))?$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert versions[0] == ("Unreleased", "")
    assert versions[1] == (memberscope.__version__, str(citation["date-released"]))


def test_the_license_is_apache() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
