"""Fixtures for all tests: a store of its own for each, and no run or store inherited from outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def no_outer_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never write to the user's store, nor adopt a run that started them."""
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own, with an SQLite store named in MLflow's variable; returns the directory."""
    monkeypatch.chdir(tmp_path)
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
