"""One class a name, and every name of an artifact in one file."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Set

import pytest
import sources
from sources import SOURCES

from memberscope.audit import artifacts


def test_no_two_classes_share_a_name() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for path, module in sources.modules().items():
        for node in ast.walk(module):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(str(path.relative_to(SOURCES)))
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


SUFFIX = re.compile(r"\.(csv|json|jsonl|png|svg|npz|parquet|md|txt|html)$")
PICTURE_OR_TEXT = re.compile(r"\.(csv|png|svg|md|txt|html)$")  # files that nothing but a run holds
QUOTED = re.compile(r"(?<!`)`([^`]+)`(?!`)")  # in a page or a message
TRACKER_METHODS = ("table", "text", "figure", "file", "json", "log_table", "log_text", "log_dict", "log_figure", "log_artifact")
KEPT_FILES = ("tables", "texts", "images", "artifacts")  # of a run that is read
NOT_ARTIFACTS = {("config/audits.py", "report.html")}  # the page that `report` writes on the user's disk


def _parts(node: ast.AST) -> list[str]:
    return [child.value for child in ast.walk(node) if isinstance(child, ast.Constant) and isinstance(child.value, str)]


def _is_kept(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in KEPT_FILES


def _of_a_run(node: ast.AST) -> list[str]:
    """The strings that are given to a run's tracker as the name of a file, or by which a file is read from a run."""
    found: list[str] = []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in TRACKER_METHODS:
            named = [keyword.value for keyword in node.keywords if keyword.arg in ("path", "artifact_file", "artifact_path")]
            found += [part for given in (*node.args[1:], *named) for part in _parts(given)]
        if node.func.attr in ("get", "pop") and _is_kept(node.func.value):
            found += [part for given in node.args[:1] for part in _parts(given)]
    if isinstance(node, ast.Subscript) and _is_kept(node.value):
        found += _parts(node.slice)
    if isinstance(node, ast.Compare) and any(_is_kept(given) for given in node.comparators):
        found += _parts(node.left)
    return [part for part in found if SUFFIX.search(part)]


def names_of_artifacts(source: ast.Module, known: Set[str] = frozenset()) -> list[str]:
    """Names of artifacts that a module spells out: those of `known`, and what goes to a run or is read from one."""
    found: list[str] = []
    for node in ast.walk(source):
        found += _of_a_run(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += [node.value] if node.value.lstrip("/_") in known else []
            found += [name for name in QUOTED.findall(node.value) if name in known]
        if isinstance(node, ast.JoinedStr) and isinstance(node.values[-1], ast.Constant):
            found += [part for part in _parts(node.values[-1]) if PICTURE_OR_TEXT.search(part)]
    return list(dict.fromkeys(found))


def test_artifacts_are_named_in_one_file() -> None:
    known = frozenset(
        name
        for value in vars(artifacts).values()
        for name in (value if isinstance(value, tuple) else (value,))
        if isinstance(name, str) and SUFFIX.search(name)
    )
    assert len(known) > 60
    found = {
        (str(path.relative_to(SOURCES)), name)
        for path, module in sources.modules().items()
        if path != SOURCES / "audit" / "artifacts.py"
        for name in names_of_artifacts(module, known)
    }
    assert found - NOT_ARTIFACTS == set(), "name these in audit/artifacts.py"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ('tracker.table(frame, "new.csv")', "new.csv"),
        ('tracker.text(text, path="new.md")', "new.md"),
        ('child.file(local, f"{folder}/new.npz")', "/new.npz"),
        ('tracker.text(text, "new" + ".json")', ".json"),
        ('run.tables["new.csv"]', "new.csv"),
        ('run.texts.get("new.json", "{}")', "new.json"),
        ('"new.png" in run.images', "new.png"),
        ('found[f"{name}_new.png"] = drawn', "_new.png"),
        ('PAGE = "old.html"', "old.html"),
        ('lines.append(f"see `old.html` of {run}")', "old.html"),
    ],
)
def test_a_name_of_an_artifact_is_found_wherever_it_is_written(source: str, name: str) -> None:
    assert names_of_artifacts(ast.parse(source), frozenset({"old.html"})) == [name]


@pytest.mark.parametrize(
    "source",
    [
        'tracker.table(frame, artifacts.RESULTS)', 'tracker.text("see results.csv", artifacts.ANSWER)', 'path.endswith(".json")',
        'folder / f"{label}.json"', 'run.tables.get(artifacts.ROC)',
    ],
)  # fmt: skip
def test_other_strings_are_no_names_of_artifacts(source: str) -> None:
    assert names_of_artifacts(ast.parse(source), frozenset({"results.csv"})) == []


def test_names_that_depend_on_something_are_as_they_were() -> None:
    assert artifacts.inside("vary_depth", artifacts.BY_EPOCH) == "vary_depth/by_epoch.csv"
    assert artifacts.score_figure("threshold_loss") == "scores/threshold_loss.png"
    assert artifacts.by_shadows_figure("auc") == "auc_by_shadows.png"
    assert artifacts.matched("depth", "equal_loss") == "depth/equal_loss.csv"
    assert artifacts.matched_figure("depth", "equal_loss") == "depth/equal_loss.png"
    assert artifacts.importances_figure("auc") == "importances_auc.png"
    assert artifacts.slice_figure("auc") == "slice_auc.png"
