"""What the documentation tells a reader to do exists: options, values, links; its Python runs."""

from __future__ import annotations

import os
import re
import shlex
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from memberscope import cli
from memberscope.attacks import registry as attacks
from memberscope.metrics import registry as metrics
from memberscope.training import registry as trainers

ROOT = Path(__file__).resolve().parents[2]
TOP = [ROOT / f"{name}.md" for name in ("README", "GLOSSARY", "CONTRIBUTING", "CHANGELOG")]
PAGES = sorted([*TOP, *(ROOT / "docs").rglob("*.md")])
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
LONG = ("docs/howto/audit_a_model.md", "docs/howto/audit_from_anywhere.md")  # three to five seconds each, and so for .ci/run
PYTHON = [page for page in PAGES if "```python" in page.read_text() and "results" not in page.parts]  # those need data


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _commands(text: str) -> list[list[str]]:
    """Every ``memberscope STUDY ...`` and ``mlflow run . ...`` of a page, as `memberscope`'s words; lines that end in \\ go on."""
    joined = re.sub(r"\\\n\s*", " ", text)
    found = []
    for line in re.findall(r"^    (?:.* )?((?:memberscope|mlflow run) [^#\n]*)", joined, flags=re.MULTILINE):
        found.append(line)
    found += re.findall(r"`(memberscope [a-z]+ [^`]*|mlflow run \. -e [^`]*)`", joined)
    return [words for line in found if (words := _words(line)) and words[0] in cli.STUDIES]


def _words(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    if words[0] == "memberscope":
        return words[1:]
    study = words[words.index("-e") + 1] if "-e" in words else "main"
    given = [words[place + 1] for place, word in enumerate(words[:-1]) if word == "-P"]
    return [study, *(f"--{pair}" for pair in given)]


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=_name)
def test_commands_have_options_and_values_that_exist(page: Path) -> None:
    for study, *options in _commands(page.read_text()):
        if "--help" in options or "..." in " ".join(options):
            continue
        cli.parse(study, options)  # UserError: an unknown option, or a value that is not allowed


def test_the_readme_has_every_study() -> None:
    shown = {words[0] for words in _commands((ROOT / "README.md").read_text())}
    text = (ROOT / "README.md").read_text()
    assert all(study in shown or f"`memberscope {study}`" in text for study in cli.STUDIES)


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    broken = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert broken == []


def test_both_pipelines_run_the_same_commands() -> None:
    yaml = pytest.importorskip("yaml")
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "howto" / "gate_in_ci.md").read_text(), flags=re.DOTALL)
    github, gitlab = (yaml.safe_load(block)["membership" if "image:" in block else "jobs"] for block in blocks)
    steps = [step["run"] for step in github["membership"]["steps"] if "run" in step]
    assert steps == [*gitlab["script"], *gitlab["after_script"]]
    assert [step.split()[0] for step in steps] == ["pip", "python", "memberscope", "memberscope"]
    assert [step.get("if") for step in github["membership"]["steps"] if "report" in step.get("run", "")] == ["always()"], (
        "also after a trip"
    )


@pytest.fixture
def registries() -> Iterator[None]:
    """Takes away what a page has registered, which would otherwise stay for the tests that this process runs later."""
    known = (attacks, metrics, trainers)
    before = [set(registry.names()) for registry in known]
    yield
    for registry, names in zip(known, before, strict=True):
        for name in set(registry.names()) - names:
            registry.unregister(name)


@pytest.mark.e2e
@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize(
    "page", [pytest.param(page, id=_name(page), marks=[pytest.mark.thorough] * (_name(page) in LONG)) for page in PYTHON]
)
def test_python_on_a_page_runs_from_top_to_bottom(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In names, a folder and a store of its own, but in this process, which may have imported TensorFlow and MLflow already."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [page.name])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    if "mlflow" in sys.modules:
        sys.modules["mlflow"].set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])  # it outlives a test
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they stop no reader
        exec(compile("\n".join(blocks), str(page), "exec"), {"__name__": "__main__"})
