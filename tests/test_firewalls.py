"""The numpy core works where neither TensorFlow nor MLflow can be imported; `--help` loads nothing heavy."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# what may import TensorFlow or MLflow when it is imported; all the rest must not, whatever room it lies in
WITH_A_FRAMEWORK = (
    "mlflow_adapter.evaluator",
    "mlflow_adapter.evaluator_audit",
    "mlflow_adapter.existing_run",
    "datasets.tabular_builders",
    "synthesis.gan",
    "training.keras",
)
EXTRAS = {"sweeps.patient": "optuna"}  # what needs an extra when it is imported, and the library of that extra
WITHOUT = ("training.keras.fleet", "training.keras.trainer")  # of those rooms, what studies import at their top

BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Block())
"""


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)


def test_core_imports_with_tensorflow_and_mlflow_blocked() -> None:
    blocked = BLOCK.format(blocked={"tensorflow", "tensorflow_privacy", "tensorflow_datasets", "keras", "mlflow"})
    walk = f"""
import importlib, importlib.util, pkgutil, memberscope
for found in pkgutil.walk_packages(memberscope.__path__, "memberscope."):
    name = found.name.removeprefix("memberscope.")
    if name in {EXTRAS} and importlib.util.find_spec({EXTRAS}[name]) is None:
        continue
    if name in {WITHOUT} or not any(name == room or name.startswith(room + ".") for room in {WITH_A_FRAMEWORK}):
        importlib.import_module(found.name)
        print(name)
"""
    done = _run(blocked + walk)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 150


def test_the_block_blocks() -> None:
    done = _run(BLOCK.format(blocked={"tensorflow", "mlflow"}) + "import memberscope.training.keras.fit")
    assert "blocked: tensorflow" in done.stderr


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = ("numpy", "scipy", "sklearn", "tensorflow", "mlflow")
    done = _run(f"import memberscope, memberscope.cli, sys; print([m for m in {heavy} if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


# Counts what a child does before it ends: calls and modules, the same on every machine. How long that takes is for benchmarks/start.py.
COUNT = """
import atexit, sys
calls, modules = [0], len(sys.modules)
def count(frame, event, argument):
    calls[0] += event in ("call", "c_call")
def tell():
    sys.setprofile(None)
    print(calls[0], len(sys.modules) - modules, file=sys.stderr)
atexit.register(tell)
sys.setprofile(count)
"""


def _counted(code: str) -> tuple[str, int, int]:
    """What the code prints, how many calls it makes and how many modules it loads."""
    done = _run(COUNT + code)
    assert done.returncode == 0, done.stderr
    calls, modules = map(int, done.stderr.splitlines()[-1].split())
    return done.stdout, calls, modules


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "entrypoints").glob("[a-z]*.py")))
def test_help_does_little_and_names_every_option(script: str) -> None:
    from memberscope.cli import STUDIES
    from memberscope.config import option_name

    run = f"import runpy; sys.argv = [{script!r}, '--help']; sys.path.insert(0, 'entrypoints')"
    printed, calls, modules = _counted(f"{run}; runpy.run_path('entrypoints/{script}', run_name='__main__')")
    for option in map(option_name, dataclasses.fields(STUDIES[script.removesuffix(".py")].configuration())):
        assert f"--{option} " in printed
    # 190,000 and 160 when written, on Python 3.11; NumPy alone is another 150 modules
    assert 50_000 < calls < 250_000
    assert 50 < modules < 200


def test_importing_the_package_does_little() -> None:
    _, calls, modules = _counted("import memberscope")
    assert 0 < calls < 15_000  # 10,000 when written
    assert 0 < modules < 45  # 30 when written


def test_mlflow_can_look_for_evaluators_at_little_cost() -> None:
    """MLflow imports ours in every evaluation, even if only others are requested; `mlflow_adapter.evaluator_audit` does the work."""
    pytest.importorskip("mlflow")
    code = "import mlflow.models.evaluation.base, sys; before = set(sys.modules); import memberscope.mlflow_adapter.evaluator; "
    done = _run(code + "print(*sorted(set(sys.modules) - before))")
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert "memberscope.mlflow_adapter.evaluator" in loaded
    assert len(loaded) <= 15, loaded
    assert [name for name in loaded if not name.startswith("memberscope")] == []


def test_an_entry_script_runs_the_code_beside_it(tmp_path: Path) -> None:
    """`mlflow run` shares one environment among checkouts, so the installed package may be another checkout's, or gone."""
    other = tmp_path / "memberscope"
    other.mkdir()
    (other / "__init__.py").write_text("raise ImportError('the other checkout')")
    show = "import runpy, sys; sys.path.insert(0, 'entrypoints'); runpy.run_path('entrypoints/train.py');"
    child = "import subprocess; subprocess.run([sys.executable, '-c', 'import memberscope; print(memberscope.__file__)'], check=True)"
    done = subprocess.run(
        [sys.executable, "-c", show + child],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(ROOT / "src/memberscope/__init__.py")
