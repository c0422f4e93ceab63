"""A study's parent run: adopted from ``mlflow run``, or begun in an experiment of our own; ended by how the study ends."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import re
import shlex
import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from memberscope.errors import Interrupted, UserError
from memberscope.mlflow_adapter import keep_killed, store, view
from memberscope.mlflow_adapter.tracker import MlflowTracker, end_status

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "memberscope"
GENERATED_NAME = re.compile(r"[a-z]+-[a-z]+-\d+|")  # MLflow's own: adjective-noun-number
LIBRARIES = ("memberscope", "numpy", "scipy", "scikit-learn", "tensorflow", "tensorflow-privacy", "mlflow")
HOST_TAG, PROCESS_TAG = "memberscope.host", "memberscope.process"
DESCRIPTION = (
    "Runs of memberscope: how much a classifier memorizes its training data, measured by membership inference attacks. "
    "Rows without a parent are studies; open one, or sort by `auc/threshold_loss`, to see which model leaks most. "
    "Metrics read `figure/attack`; each interval stands beside its figure as `figure_ci_low/attack` and `figure_ci_high/attack`."
)


@dataclass(frozen=True, kw_only=True)
class Session:
    """An open parent run.

    Attributes:
        tracker: the parent's `Tracker`.
        store: where the runs lie, for people: a path or a server's address.
        link: the address of the run in the UI, once ``make ui`` (or the server) runs.
        all_runs: the address of all runs there, the leakiest first.
        adopted: whether ``mlflow run`` made the run.
        nameable: whether the run's name is ours to give: it is new, or has one of MLflow's random names.
    """

    tracker: MlflowTracker
    store: str
    link: str
    all_runs: str
    adopted: bool
    nameable: bool = True

    def name(self, name: str) -> None:
        """Name the run, unless ``mlflow run --run-name`` named it."""
        if self.nameable:
            self.tracker.rename(name)


@contextmanager
def open_session(study: str, *, name: str, arguments: Sequence[str] = ()) -> Iterator[Session]:
    """Adopt the run in ``MLFLOW_RUN_ID``, or begin one; end it FINISHED, FAILED or KILLED, with the exit code as a tag.

    Args:
        study: the entry point, kept as the tag ``memberscope.study``.
        name: the run's name if it is ours to name.
        arguments: of the command line, kept as the tag ``memberscope.command``.

    Raises:
        UserError: the store cannot be written, or the server does not answer.
    """
    store.prepare_environment()
    uri = store.tracking_uri()
    store.check_store(uri)
    os.environ["MLFLOW_TRACKING_URI"] = uri  # workers inherit it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import mlflow
    from mlflow.exceptions import MlflowException

    for noisy in ("alembic", "mlflow.store.db.utils", "mlflow.tracking.fluent"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(uri)
    adopted = os.environ.get("MLFLOW_RUN_ID")
    try:
        client = mlflow.MlflowClient()
        run = client.get_run(adopted) if adopted else client.create_run(_experiment(client, uri), run_name=name)
        run_id, experiment_id = run.info.run_id, run.info.experiment_id
        _end_stale_runs(client, experiment_id)
        client.set_experiment_tag(experiment_id, "mlflow.note.content", DESCRIPTION)
        client.set_experiment_tag(experiment_id, view.TAG, view.state())
    except (MlflowException, OSError) as error:
        raise UserError(
            f"store {uri}: {str(error).splitlines()[0]}; allowed: a store that MLflow {mlflow.__version__} can use"
        ) from None
    tracker = MlflowTracker(client=client, run_id=run_id, experiment_id=experiment_id)
    tracker.tags(
        {"memberscope.study": study, "memberscope.kind": "study", HOST_TAG: socket.gethostname(), PROCESS_TAG: _process()}
    )
    tracker.tags(
        {"memberscope.command": shlex.join(["memberscope", study, *arguments])[:5000], "memberscope.versions": _versions()}
    )
    session = Session(
        tracker=tracker,
        store=unquote(uri.removeprefix("sqlite:///")),
        link=_link(uri, experiment_id, run_id),
        all_runs=view.link(_base(uri), experiment_id),
        adopted=bool(adopted),
        nameable=not adopted or GENERATED_NAME.fullmatch(run.info.run_name or "") is not None,
    )
    session.name(name)
    try:
        yield session
    except BaseException as error:
        status, code = end_status(error)
        tags = {"memberscope.exit_code": str(code)}
        if isinstance(error, Exception) and not isinstance(error, Interrupted):
            tags["memberscope.error"] = f"{type(error).__name__}: {error}"[:500]
        tracker.tags(tags)
        client.set_terminated(run_id, status)
        if adopted and status == "KILLED":
            keep_killed.watch(run_id)
        raise
    tracker.tags({"memberscope.exit_code": "0"})
    client.set_terminated(run_id, "FINISHED")


def _experiment(client: MlflowClient, uri: str) -> str:
    """The experiment of a script started by itself: MLflow's own variables, else ours, made with an explicit artifact location."""
    if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return given
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    found = client.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    location = None
    if uri.startswith("sqlite:///"):
        location = (Path(unquote(uri.removeprefix("sqlite:///"))).resolve().parent / "mlruns" / name).as_uri()
    return str(client.create_experiment(name, artifact_location=location))


def _versions() -> str:
    """Python's and the libraries' versions as JSON, without importing them."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return json.dumps(found)


def _process() -> str:
    """This process, as ``pid:start``; the start tells it from a later process of the same number."""
    import psutil

    me = psutil.Process()
    return f"{me.pid}:{me.create_time():.2f}"


def _alive(process: str) -> bool:
    import psutil

    pid, _, start = process.partition(":")
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(start)) < 1.0
    except (psutil.Error, ValueError):
        return False


def _end_stale_runs(client: MlflowClient, experiment_id: str) -> None:
    """Mark as KILLED our RUNNING runs whose process is gone on this host: a killed ``mlflow run`` leaves them for ever."""
    running = client.search_runs(
        [experiment_id], f"attributes.status = 'RUNNING' and tags.`{HOST_TAG}` = '{socket.gethostname()}'"
    )
    for run in running:
        if not _alive(run.data.tags.get(PROCESS_TAG, "")):
            client.set_terminated(run.info.run_id, "KILLED")


def _base(uri: str) -> str:
    return uri.rstrip("/") if uri.startswith("http") else "http://127.0.0.1:5000"


def _link(uri: str, experiment_id: str, run_id: str) -> str:
    return f"{_base(uri)}/#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"
