"""The project as its users start it: through `mlflow run`, through the script, and, where only words and codes matter, in this process."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from memberscope import cli

if TYPE_CHECKING:  # an environment without MLflow skips what needs it, and reads this file all the same
    import mlflow

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


@dataclass(frozen=True, kw_only=True)
class Project:
    """What a user does in a folder, with an SQLite store in it."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """This environment's programs, this checkout's sources, the folder's store."""
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        uri = f"sqlite:///{self.folder}/mlflow.db"
        return {**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(ROOT / "src")}

    def command(self, entry: str, values: Mapping[str, str]) -> list[str]:
        """The words of an `mlflow run` of this checkout."""
        words = [str(BIN / "mlflow"), "run", str(ROOT), "-e", entry, "--env-manager", "local", "--experiment-name", "e2e"]
        return words + [part for name, value in values.items() for part in ("-P", f"{name}={value}")]

    def mlflow_run(self, entry: str, values: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run an entry point to its end."""
        return self._run(self.command(entry, values), {})

    def script(self, *words: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run `memberscope WORDS` to its end; `changes` are to its environment."""
        return self._run([sys.executable, "-m", "memberscope.cli", *words], changes)

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What `script` does without a process, in which TensorFlow and MLflow would be imported anew."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main(words)
        return subprocess.CompletedProcess(words, code, stdout=out.getvalue(), stderr=err.getvalue())

    def _run(self, command: list[str], changes: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, **changes}
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)

    @property
    def client(self) -> mlflow.MlflowClient:
        """Of the store."""
        import mlflow

        return mlflow.MlflowClient(f"sqlite:///{self.folder}/mlflow.db")

    def runs(self) -> tuple[list[mlflow.entities.Run], list[mlflow.entities.Run]]:
        """Parent runs and child runs of all experiments."""
        runs = self.client.search_runs([experiment.experiment_id for experiment in self.client.search_experiments()])
        parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        return parents, [run for run in runs if "mlflow.parentRunId" in run.data.tags]


@pytest.fixture
def project(store: Path) -> Project:
    """In a folder of its own."""
    return Project(folder=store)
