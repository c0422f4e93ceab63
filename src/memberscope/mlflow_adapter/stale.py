"""Runs of ours that stayed RUNNING because their process was killed: found and marked as KILLED by the next start.

Every run that we make carries its host and process as tags from its first write. The run that ``mlflow run`` makes has them only once our
code has started. Until then it has what MLflow writes itself: the project's folder, the user, the time. That such a run was given up is
concluded only where it can be seen: its project is this checkout, its store a file, it is this user's, it is a minute old, and no process
has its id in its environment or may have made it. A run of which any of this is unknown is left alone.
"""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from memberscope.mlflow_adapter import claims
from memberscope.mlflow_adapter.process import HOST_TAG, PROCESS_TAG, is_running

if TYPE_CHECKING:
    import psutil
    from mlflow import MlflowClient
    from mlflow.entities import Run

CHECKOUT = Path(__file__).resolve().parents[3]
STARTING_SECONDS = 60.0  # within it a run may be another machine's whose script is about to say so
CLOCK_SECONDS = 2.0  # how much the times of processes and of runs may differ


def end_stale_runs(client: MlflowClient, experiment_id: str, database: Path | None) -> None:
    """Mark as KILLED the RUNNING runs of ours whose process is gone on this host.

    Args:
        client: of the store.
        experiment_id: where to look.
        database: the store's file; None if it is none, so that other machines may use it, too.
    """
    running = client.search_runs(
        [experiment_id], f"attributes.status = 'RUNNING' and tags.`{HOST_TAG}` = '{socket.gethostname()}'"
    )
    for run in running:
        if not is_running(run.data.tags.get(PROCESS_TAG, "")):
            client.set_terminated(run.info.run_id, "KILLED")
    if os.name != "posix":
        return
    projects = client.search_runs([experiment_id], "attributes.status = 'RUNNING' and tags.`mlflow.source.type` = 'PROJECT'")
    for run in projects:
        if not _is_project_without_tags(run):
            continue
        process = claims.claimant(run.info.run_id)
        if not is_running(process) if process else _is_given_up(run, database):
            client.set_terminated(run.info.run_id, "KILLED")
            claims.drop(run.info.run_id)


def project_folder(name: str) -> Path:
    """The folder that MLflow's tag for a project's source names: a path, or ``file://REPOSITORY#FOLDER`` in a Git repository."""
    repository, _, folder = name.removeprefix("file://").partition("#")
    return Path(repository) / folder


def _is_project_without_tags(run: Run) -> bool:
    tags = run.data.tags
    return HOST_TAG not in tags and PROCESS_TAG not in tags and run.info.run_id != os.environ.get("MLFLOW_RUN_ID")


def _is_given_up(run: Run, database: Path | None) -> bool:
    """Whether a run that nobody has claimed is ours and has no process any more, as far as all of that can be seen."""
    import psutil

    tags = run.data.tags
    return (
        database is not None
        and tags.get("mlflow.project.backend", "local") == "local"
        and tags.get("mlflow.user") == getpass.getuser()
        and (CHECKOUT / "MLproject").is_file()
        and project_folder(tags.get("mlflow.source.name", "")) == CHECKOUT
        and time.time() - run.info.start_time / 1000 > STARTING_SECONDS
        and not any(_may_belong(process, run, database) for process in psutil.process_iter())
    )


def _may_belong(process: psutil.Process, run: Run, database: Path) -> bool:
    """Whether a process has the run's id, or has the store open and is old enough to have made the run."""
    import psutil

    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if process.environ().get("MLFLOW_RUN_ID") == run.info.run_id:
            return True
        if process.create_time() > run.info.start_time / 1000 + CLOCK_SECONDS:
            return False
        return not _is_server(process.cmdline()) and any(file.path == str(database) for file in process.open_files())
    except (psutil.Error, OSError):  # another user's, whose run it is not, or gone
        return False


def _is_server(command: Sequence[str]) -> bool:
    """Whether it is MLflow's server, which has the store open and makes no project's run."""
    words = {Path(word).name for word in command}
    return ("mlflow" in words and not words.isdisjoint({"ui", "server"})) or any(
        word.startswith("mlflow.server") for word in words
    )
