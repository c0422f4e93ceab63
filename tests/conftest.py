"""Fixtures for all tests: a store of its own for each, and no run or store inherited from outside."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
if "PYTEST_XDIST_WORKER" in os.environ:  # workers, and the processes that tests start, share the cores: a thread each
    for name in ("OMP_NUM", "OPENBLAS_NUM", "MKL_NUM", "TF_NUM_INTRAOP", "TF_NUM_INTEROP"):
        os.environ.setdefault(f"{name}_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "tools"))

import slow_tests  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    if _is_quick(config):
        config.pluginmanager.register(slow_tests.Guard())


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if _is_quick(config) and slow_tests.imports_slowly(collection_path) else None


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    judge = slow_tests.Judge()
    for item in items:
        if judge.is_slow(item):
            item.add_marker("slow")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: as many as this process has cores, up to eight; each imports TensorFlow."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)


def _is_quick(config: pytest.Config) -> bool:
    return str(config.option.markexpr) == "not slow"


@pytest.fixture(autouse=True)
def no_outer_run(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tests never write to the user's store, nor adopt a run that started them; what MLflow sets for processes ends with the test."""
    names = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_URI")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    yield
    for name in names:
        os.environ.pop(name, None)


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


@pytest.fixture(scope="session")
def cifar10_dir() -> str:
    """The folder that holds CIFAR-10 as TFDS prepares it."""
    folder = os.environ.get("TFDS_DATA_DIR", "")
    if not (Path(folder) / "cifar10").is_dir():
        pytest.skip("needs CIFAR-10 as TFDS prepares it: set TFDS_DATA_DIR to the folder that holds cifar10/")
    return folder
