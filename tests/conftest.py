"""Fixtures for all tests: a store of its own for each, and no run or store inherited from outside; tests without the extras."""

from __future__ import annotations

import functools
import gc
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ["MEMBERSCOPE_KEY"] = "the key of the tests"  # none is written into the home of whoever runs them
# a process that may keep no bytecode compiles TensorFlow and MLflow anew: 10 s of a core instead of 4, and tests start many
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
if "PYTEST_XDIST_WORKER" in os.environ:  # workers, and the processes that tests start, share the cores: a thread each
    for name in ("OMP_NUM", "OPENBLAS_NUM", "MKL_NUM", "TF_NUM_INTRAOP", "TF_NUM_INTEROP"):
        os.environ.setdefault(f"{name}_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "tools"))

import slow_tests  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    if _is_quick(config):
        config.pluginmanager.register(slow_tests.Guard())
        # jsonschema makes grammars of internationalized addresses when it is imported, a second of each worker's; no quick test needs them
        sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if _is_quick(config) and slow_tests.imports_slowly(collection_path) else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What a collection makes stays, and so does TensorFlow: looking for garbage among them takes a tenth of all tests' time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
        gc.enable()


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    judge = slow_tests.Judge()
    for item in items:
        if judge.is_slow(item):
            item.add_marker("slow")
    _order(items)


def _order(items: list[pytest.Item]) -> None:
    """Files with whole studies first, then the other slow ones: with `--dist loadfile`, the last that workers take are then quick."""
    studies = {item.path for item in items if item.get_closest_marker("e2e")}
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in studies, item.path not in slow))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """`-n auto`: a worker per core that this process has, and half as many more where tests wait for processes; at most eight.

    Each worker of the slow tests imports TensorFlow and MLflow, ten seconds of a core.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores if _is_quick(config) else cores + cores // 2, 8)


def _is_quick(config: pytest.Config) -> bool:
    return str(config.option.markexpr) == "not slow"


@pytest.fixture(autouse=True)
def no_outer_run(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests write to no store or spool of the user's, and adopt no run that started them; what MLflow sets for processes ends with them."""
    monkeypatch.setenv("MEMBERSCOPE_SPOOL", str(tmp_path_factory.getbasetemp() / "spool"))
    names = (
        "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_URI", "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
        "MLFLOW_HTTP_REQUEST_TIMEOUT",
    )  # fmt: skip
    for name in names:
        monkeypatch.delenv(name, raising=False)
    yield
    for name in names:
        os.environ.pop(name, None)


@pytest.fixture(scope="session", autouse=True)
def layout() -> Iterator[Callable[..., object] | None]:
    """Figures are drawn, with all that stands in them, but not laid out, which takes a fifth of a study's time; see `laid_out`."""
    if importlib.util.find_spec("matplotlib") is None:
        yield None
        return
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    execute = ConstrainedLayoutEngine.execute
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConstrainedLayoutEngine, "execute", lambda engine, figure: None)
        yield execute


@pytest.fixture
def laid_out(layout: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are laid out, as they are outside the tests."""
    monkeypatch.setattr(pytest.importorskip("matplotlib.layout_engine").ConstrainedLayoutEngine, "execute", layout)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite store with MLflow's tables and nothing in them: they take MLflow a second, a copy none."""
    import mlflow

    path = tmp_path_factory.mktemp("empty-store") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)  # where the default experiment's artifacts go
        mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own, with an SQLite store named in MLflow's variable; returns the directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_store, tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    import mlflow

    mlflow.set_tracking_uri(uri)  # it outlives a test
    return tmp_path


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every array is read in many pieces, every file is mapped, and what is put together goes to a temporary file."""
    from memberscope import mapped, npz, pieces, signals

    monkeypatch.setattr(pieces, "CHUNK_ELEMENTS", 64)
    monkeypatch.setattr(signals, "CHUNK", 35)
    monkeypatch.setattr(npz, "MAPPED_FROM", 0)
    monkeypatch.setattr(mapped, "SPILLED", 0)


@pytest.fixture(scope="session")
def cifar10_dir() -> str:
    """The folder that holds CIFAR-10 as TFDS prepares it."""
    folder = os.environ.get("TFDS_DATA_DIR", "")
    if not (Path(folder) / "cifar10").is_dir():
        pytest.skip("needs CIFAR-10 as TFDS prepares it: set TFDS_DATA_DIR to the folder that holds cifar10/")
    return folder


# --- tests where extras are absent: `make test-core` ------------------------------------------------------------------
#
# With --skip-absent-extras, a test that fails because a library of an extra is not installed is skipped and says which. A library that no
# extra names still fails it, and so does one of the core's own requirements: what the core imports must be declared.


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--skip-absent-extras", action="store_true", help="skip what needs an extra that is not installed")


@functools.cache
def absent_extras() -> dict[str, str]:
    """The extra, by the name of each module that pyproject.toml's extras name and that is not installed here."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    found: dict[str, str] = {}
    for extra, lines in extras.items():
        for line in lines:
            module = re.split(r"[\[<>=!~; ]", line)[0].replace("-", "_").lower()
            module = {"pyyaml": "yaml", "import_linter": "importlinter", "cyclonedx_python_lib": "cyclonedx"}.get(
                module, module
            )
            if module != "memberscope" and importlib.util.find_spec(module) is None:
                found.setdefault(module, extra)
    return found


def absence(error: BaseException | None) -> str:
    """Why a test cannot run here, if the error comes of an absent extra; else nothing."""
    while error is not None:
        for name in _missing(error):
            if name in absent_extras():
                return f"needs {name}, of the extra [{absent_extras()[name]}]"
        error = error.__cause__ or error.__context__
    return ""


def _missing(error: BaseException) -> list[str]:
    if isinstance(error, ModuleNotFoundError):  # importlib.metadata's PackageNotFoundError is one
        return [(error.name or "").split(".")[0].replace("-", "_")]
    if isinstance(error, subprocess.CalledProcessError):  # of a child whose last words are those of a missing module
        return re.findall(r"^ModuleNotFoundError: No module named '(\w+)", str(error.stderr), flags=re.MULTILINE)[-1:]
    return list(getattr(error, "modules", ()))  # of a MissingLibrary


def _or_skip(item: pytest.Item) -> Generator[None, object, object]:
    try:
        return (yield)
    except Exception as error:
        reason = absence(error) if item.config.getoption("--skip-absent-extras") else ""
        if not reason:
            raise
        pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from _or_skip(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from _or_skip(item))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.failed and collector.config.getoption("--skip-absent-extras"):
        call: pytest.CallInfo[object] | None = getattr(report, "call", None)
        reason = absence(call.excinfo.value) if call is not None and call.excinfo is not None else ""
        if reason:
            report.outcome = "skipped"
            report.longrepr = (str(collector.path), 0, f"Skipped: {reason}")
    return report
