"""The last line of each benchmark: a quick run that is too small to show the full ratio never names its target."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

pytestmark = pytest.mark.skipif(not BENCHMARKS.exists(), reason="needs the checkout")


@pytest.fixture
def targets(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("shared.targets")
    for name in ("shared.targets", "shared"):
        sys.modules.pop(name, None)


def _calls(name: str) -> list[ast.Call]:
    tree = ast.parse((BENCHMARKS / f"{name}.py").read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_a_quick_run_never_names_the_target_of_a_full_one_where_they_differ(targets: Any) -> None:
    own = {name for name, target in targets.TARGETS.items() if target.quick is not None}
    assert {"attacks", "fleet", "trainer", "peers"} <= own
    for name, target in targets.TARGETS.items():
        full, quick = (targets.last_line(name, 3.456, quick=quick) for quick in (False, True))
        assert full == f"{name}: ratio 3.46 (target {target.full:g})"
        assert (quick != full) == (name in own)
        if name in own:
            assert target.quick < target.full
            assert target.why
            assert quick == f"{name}: ratio 3.46 (target {target.quick:g}); a quick run's own: {target.why}"
            assert f"(target {target.full:g})" not in quick


def test_every_benchmark_of_the_table_prints_its_last_line_by_it(targets: Any) -> None:
    files = [name for name in targets.TARGETS if "," not in name]
    assert len(files) > 12
    for name in files:
        named = [call for call in _calls(name) if ast.unparse(call.func) == "last_line"]
        assert [ast.literal_eval(call.args[0]) for call in named] == [name]
        (quick,) = [ast.unparse(word.value) for call in named for word in call.keywords if word.arg == "quick"]
        assert quick in ("quick", "arguments.quick", "asked.quick"), f"{name} does not say whether the run is quick"
        text = (BENCHMARKS / f"{name}.py").read_text(encoding="utf-8")
        assert f'f"{name}: ratio' not in text, f"{name} prints a last line of its own"


def test_targets_beside_the_last_line_are_those_of_the_run(targets: Any) -> None:
    (call,) = [call for call in _calls("fleet") if ast.unparse(call.func) == "target_text"]
    assert ast.unparse(call) == "target_text(case.target, quick=quick)"
    assert targets.target_text("fleet, conv", quick=False) == "(target 1.6)"
    assert targets.target_text("fleet, conv", quick=True).startswith("(target 0.9); a quick run's own")
