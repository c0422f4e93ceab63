"""A study's parent run: adopted from ``mlflow run``, or begun in an experiment of our own; ended by how the study ends."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shlex
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote

from memberscope import addresses
from memberscope.errors import Interrupted, UserError
from memberscope.mlflow_adapter import claims, killed_watcher, store, view
from memberscope.mlflow_adapter.careful import careful
from memberscope.mlflow_adapter.owner import find_owner
from memberscope.mlflow_adapter.process import HOST_TAG, PROCESS_TAG, this_process
from memberscope.mlflow_adapter.stale import end_stale_runs
from memberscope.mlflow_adapter.tracker import MlflowTracker, PendingTracker, end_status
from memberscope.redact import redact

if TYPE_CHECKING:
    import psutil
    from mlflow import MlflowClient
    from mlflow.entities import Run

_Found = TypeVar("_Found")
EXPERIMENT = "memberscope"
GENERATED_NAME = re.compile(r"[a-z]+-[a-z]+-\d+|")  # MLflow's own: adjective-noun-number
LIBRARIES = ("memberscope", "numpy", "scipy", "scikit-learn", "tensorflow", "tensorflow-privacy", "mlflow")
NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # MLflow's codes for an unknown id, and for an invalid one
DESCRIPTION = (
    "Runs of memberscope: how much a classifier memorizes its training data, measured by membership inference attacks. "
    "Rows without a parent are studies; open one, or sort by `auc/threshold_loss`, to see which model leaks most. "
    "Names of metrics read `metric/attack`; the ends of each interval are `metric_ci_low/attack` and `metric_ci_high/attack`."
)


@dataclass(frozen=True, kw_only=True)
class Session:
    """An open parent run.

    Attributes:
        tracker: the parent's `Tracker`.
        store: where the runs lie, for people: a path or a server's address.
        base: the address of the UI, once ``make ui`` (or the server) runs.
        all_runs: the address of all runs there, the leakiest first.
        adopted: whether ``mlflow run`` made the run.
        owner: the process that made it, if that is known.
        nameable: whether we may name the run: it is new, or has one of MLflow's random names.
    """

    tracker: MlflowTracker
    store: str
    base: str
    all_runs: str
    adopted: bool
    owner: psutil.Process | None = None
    nameable: bool = True

    @property
    def link(self) -> str:
        """The address of the run in the UI."""
        return (
            f"{self.base}/#/experiments/{self.tracker.experiment_id}/runs/{self.tracker.run_id}?workflowType=machine_learning"
        )

    def name(self, name: str) -> None:
        """Name the run, unless ``mlflow run --run-name`` named it."""
        if self.nameable:
            self.tracker.rename(name)

    def end_at_once(self) -> None:
        """Mark this process's runs as KILLED and end what it has started, when the process is about to end without anything else."""
        _end_children()
        if not self.tracker.is_there:
            return
        self.kill_runs()
        if self.adopted:
            killed_watcher.watch(self.tracker.run_id, self.owner.pid if self.owner else os.getppid())

    def kill_runs(self) -> None:
        """Mark whatever run of this process is still RUNNING as KILLED: a stop may have come before the run was known to its tracker."""
        status, code = end_status(KeyboardInterrupt())
        running = f"attributes.status = 'RUNNING' and tags.`{PROCESS_TAG}` = '{this_process()}'"
        for run in self.tracker.client.search_runs([self.tracker.experiment_id], running):
            self.tracker.client.set_tag(run.info.run_id, "memberscope.exit_code", str(code))
            self.tracker.client.set_terminated(run.info.run_id, status)


def _end_children() -> None:
    """Terminate the processes that this one has started; one in a session of its own (a watcher) is left."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error, OSError):
            if os.getpgid(child.pid) == os.getpgrp():
                child.terminate()


@contextmanager
def open_session(
    study: str,
    *,
    name: str,
    arguments: Sequence[str] = (),
    whole: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    writing: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> Iterator[Session]:
    """Adopt the run in ``MLFLOW_RUN_ID``, or begin one; end it FINISHED, FAILED or KILLED, with the exit code as a tag.

    A run of our own is created when the first thing is logged to it, so a mistake that is found earlier leaves no run.

    Args:
        study: the entry point, kept as the tag ``memberscope.study``.
        name: the run's name if it is ours to name.
        arguments: of the command line, kept as the tag ``memberscope.command``.
        whole: makes the context in which missing tables are created; half of them would be of no use to anybody.
        writing: makes the context of each write to the store; half an artifact would look like a whole one.

    Raises:
        UserError: the store cannot be written to, the server does not answer, or the run or experiment that MLflow's variables name is
            deleted or does not exist.
    """
    about = addresses.in_use(arguments)
    uri = store.without_credentials(store.tracking_uri())
    store.check_store(uri)
    client = careful(store.connect(uri, whole=whole), writing)
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    tags = {
        "memberscope.study": study,
        "memberscope.kind": "study",
        HOST_TAG: socket.gethostname(),
        PROCESS_TAG: this_process(),
        "memberscope.command": redact(shlex.join(["memberscope", study, *map(redact, arguments)]))[:5000],
        "memberscope.versions": _versions(),
    }
    adopted = os.environ.get("MLFLOW_RUN_ID")
    try:
        run = _adopted_run(client, adopted) if adopted else None
        experiment_id = run.info.experiment_id if run else _experiment(client, uri)
        end_stale_runs(client, experiment_id, store.database(uri))
        client.set_experiment_tag(experiment_id, "mlflow.note.content", DESCRIPTION)
        client.set_experiment_tag(experiment_id, view.TAG, view.state())
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise store.unusable(uri, error) from None
    tracker: MlflowTracker
    if run:
        tracker = MlflowTracker(client=client, run_id=run.info.run_id, experiment_id=experiment_id)
        tracker.tags(tags)
        claims.drop(run.info.run_id)
        if run.info.status == "KILLED":  # by a start that could not know of us
            client.update_run(run.info.run_id, status="RUNNING")
    else:
        tracker = PendingTracker(client=client, experiment_id=experiment_id, name=name, first_tags=tags)
    session = Session(
        tracker=tracker,
        store=redact(unquote(uri.removeprefix("sqlite:///"))),
        base=_base(uri),
        all_runs=view.link(_base(uri), experiment_id),
        adopted=bool(adopted),
        owner=find_owner() if adopted else None,
        nameable=run is None or GENERATED_NAME.fullmatch(run.info.run_name or "") is not None,
    )
    if run:
        session.name(name)
    try:
        yield session
    except BaseException as error:
        status, code = end_status(error)
        if isinstance(error, UserError | Interrupted | KeyboardInterrupt) and not tracker.is_there:
            if status == "KILLED":
                session.kill_runs()
            raise  # nothing was logged: there is no run to end
        end_tags = {"memberscope.exit_code": str(code)}
        if isinstance(error, Exception) and not isinstance(error, Interrupted):
            end_tags["memberscope.error"] = f"{type(error).__name__}: {redact(str(error), about)}"[:500]
        tracker.tags(end_tags)
        client.set_terminated(tracker.run_id, status)
        if status == "KILLED":
            session.kill_runs()
        if adopted and status == "KILLED":
            killed_watcher.watch(tracker.run_id, session.owner.pid if session.owner else os.getppid())
        raise
    tracker.tags({"memberscope.exit_code": "0"})
    client.set_terminated(tracker.run_id, "FINISHED")


def _adopted_run(client: MlflowClient, run_id: str) -> Run:
    """The run that MLflow, or a person, told us to log to; UserError unless it and its experiment exist and are not deleted."""
    run = _known(client.get_run, "MLFLOW_RUN_ID", run_id, what="run")
    if run.info.lifecycle_stage != "active":
        raise UserError(
            f"MLFLOW_RUN_ID={run_id}: that run is deleted; allowed: restore it (mlflow runs restore --run-id {run_id}), or name another"
        )
    store.check_active(client.get_experiment(run.info.experiment_id), given=f"the experiment of MLFLOW_RUN_ID={run_id}")
    return run


def _experiment(client: MlflowClient, uri: str) -> str:
    """The experiment of a script that was started directly: the one that MLflow's variables name, else our default."""
    given = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if not given:
        return store.experiment_id(client, uri, os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT)
    found = _known(client.get_experiment, "MLFLOW_EXPERIMENT_ID", given, what="experiment")
    store.check_active(found, given=f"MLFLOW_EXPERIMENT_ID={given}")
    return given


def _known(get: Callable[[str], _Found], variable: str, given: str, *, what: str) -> _Found:
    """What `get` finds under the id that an environment variable gives; UserError if the store has no `what` with that id."""
    from mlflow.exceptions import MlflowException

    try:
        return get(given)
    except MlflowException as error:
        if error.error_code not in NOT_THERE:
            raise
        raise UserError(
            f"{variable}={given}: no {what} in this store has that id; allowed: an id that exists, or no value"
        ) from None


def _versions() -> str:
    """Python's and the libraries' versions as JSON, without importing them."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return json.dumps(found)


def _base(uri: str) -> str:
    return redact(uri).rstrip("/") if uri.startswith("http") else "http://127.0.0.1:5000"
