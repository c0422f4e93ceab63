"""The last line of each benchmark: a quick run that is too small to show the full ratio never names its target."""

from __future__ import annotations

import ast
import importlib
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
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


@pytest.fixture
def peers(targets: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark of peers as a module."""
    yield importlib.import_module("peers")
    sys.modules.pop("peers", None)


def _task(peers: Any, tmp_path: Path) -> Any:
    member = np.arange(40) % 2 == 0
    return peers.Task(
        path=tmp_path / "x.npz", audited=np.arange(40), member=member, classes=2, shadows=4, trees=3, cores=1, seed=0
    )


def _runs(peers: Any, seconds: float, scores: np.ndarray) -> Any:
    facts = {"settings": "as they are", "work": seconds, "version": ""}
    return peers.Runs(whole=[seconds], work=[seconds], processor=[seconds], scores=scores, facts=facts)


def test_a_peer_that_cannot_be_installed_is_a_row_with_the_reason(
    peers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[list[str]] = []

    def no_package(words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        tried.append(words)
        return subprocess.CompletedProcess(words, 1, stdout="", stderr="resolving\nno such package\n")

    monkeypatch.setattr(peers.subprocess, "run", no_package)
    monkeypatch.setenv("MEMBERSCOPE_KEY", "the key of the tests")
    found, skipped = peers.measure(
        _task(peers, tmp_path), peers.Peers(tmp_path / "cache"), repeat=2, quick=False, only=["sacro", "sacro_online"]
    )
    assert found == {}
    assert skipped == dict.fromkeys(("sacro", "sacro_online"), "cannot be installed: no such package")
    assert len(tried) == 1  # the second way of the same peer does not try again
    lowest, weaker = peers.table("made", _task(peers, tmp_path), found, skipped, 2)
    assert (lowest, weaker) == (math.inf, False)
    assert "| SACRO-ML | skipped: cannot be installed: no such package |" in capsys.readouterr().out


def test_the_ratio_is_the_lowest_over_its_target_and_weakness_is_told(
    peers: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = _task(peers, tmp_path)
    good, none = task.member + 0.01 * np.arange(40), np.tile([0.0, 0.0, 1.0, 1.0], 10)
    times = {"call": 2.0, "sacro": 5.0, "art": 18.0, "loop": 1.0}
    found = {name: _runs(peers, seconds, good) for name, seconds in times.items()}
    lowest, weaker = peers.table("made", task, found, {}, 1)
    assert lowest == pytest.approx(min(5 / 2 / 2, 18 / 2 / 10) * 2)  # a loop has no target
    assert not weaker
    found["call"] = _runs(peers, 2.0, none)
    assert peers.table("made", task, found, {}, 1)[1]
    found["sacro"], found["art"] = _runs(peers, 5.0, none), _runs(peers, 18.0, good)
    assert not peers.table("made", task, found, {}, 1)[1]  # only SACRO-ML's default counts
    assert "+0.000" in capsys.readouterr().out
