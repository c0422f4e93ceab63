"""A study's parent run: adopted from ``mlflow run``, or begun in an experiment of our own; ended by how the study ends."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shlex
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote

from memberscope import addresses, outages
from memberscope.clock import Clock, Stage
from memberscope.errors import Interrupted, UserError
from memberscope.mlflow_adapter import claims, killed_watcher, resend, store, view
from memberscope.mlflow_adapter.faults import is_outage
from memberscope.mlflow_adapter.outbox import Outbox, named
from memberscope.mlflow_adapter.owner import find_owner
from memberscope.mlflow_adapter.process import HOST_TAG, PROCESS_TAG, this_process
from memberscope.mlflow_adapter.spool import PARENT, Spool
from memberscope.mlflow_adapter.stale import end_stale_runs
from memberscope.mlflow_adapter.tracker import MlflowTracker, PendingTracker, end_status
from memberscope.outages import Lookout, Unreachable
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
    "The tag `memberscope.kind` tells studies from models and reports; sort by `auc/threshold_loss` to see which model leaks most. "
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
        charts: the address of their charts by epoch.
        adopted: whether ``mlflow run`` made the run.
        owner: the process that made it, if that is known.
        nameable: whether we may name the run: it is new, or has one of MLflow's random names.
    """

    tracker: MlflowTracker
    store: str
    base: str
    all_runs: str
    charts: str
    adopted: bool
    owner: psutil.Process | None = None
    nameable: bool = True

    @property
    def link(self) -> str:
        """The address of the run in the UI; empty while the store is away and has not created it."""
        run_id = self.tracker.outbox.id_of(self.tracker.key)
        if run_id is None:
            return ""
        return f"{self.base}/#/experiments/{self.tracker.experiment_id}/runs/{run_id}?workflowType=machine_learning"

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
            killed_watcher.watch(self.tracker.key, self.owner.pid if self.owner else os.getppid())

    def kill_runs(self) -> None:
        """Mark whatever run of this process is still RUNNING as KILLED: a stop may have come before the run was known to its tracker.

        While the store is away, that is left to whoever delivers the spool.
        """
        status, code = end_status(KeyboardInterrupt())
        running = f"attributes.status = 'RUNNING' and tags.`{PROCESS_TAG}` = '{this_process()}'"
        client = self.tracker.client
        try:
            with store.failing_requests():
                for run in client.search_runs([self.tracker.experiment_id], running):
                    client.set_tag(run.info.run_id, "memberscope.exit_code", str(code))
                    client.set_terminated(run.info.run_id, status)
        except Exception as error:
            if not is_outage(error):
                raise


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
    check: Callable[[], None] = outages.nothing,
    clock: Clock | None = None,
) -> Iterator[Session]:
    """Adopt the run in ``MLFLOW_RUN_ID``, or begin one; end it FINISHED, FAILED or KILLED, with the exit code as a tag.

    A run of our own is created when the first thing is logged to it, so a mistake that is found earlier leaves no run. What earlier starts
    could not deliver to the store is delivered first. If the store stops answering, what is logged is kept; see `Outbox`.

    Args:
        study: the entry point, kept as the tag ``memberscope.study``.
        name: the run's name if it is ours to name.
        arguments: of the command line, kept as the tag ``memberscope.command``.
        whole: makes the context in which missing tables are created; half of them would be of no use to anybody.
        writing: makes the context of each write to the store; half an artifact would look like a whole one.
        check: called while the store is waited for; raises `Interrupted` if the work is to stop.
        clock: the run's; a new one unless given.

    Raises:
        UserError: the store cannot be written to, the server does not answer, the run or experiment that MLflow's variables name is
            deleted or does not exist, or the spool cannot be written.
        Unreachable: the store stopped answering and was not back within the limit; the line says where all is kept.
    """
    about, clock = addresses.in_use(arguments), Clock() if clock is None else clock
    uri = store.without_credentials(store.tracking_uri())
    lookout = Lookout(named(uri), seconds=outages.limit(), check=check)
    spool = Spool.create(resend.address(uri), study=study)
    outbox: Outbox | None = None
    try:
        with clock.stage(Stage.TRACKING):
            store.check_store(uri)
            with clock.stage(Stage.IMPORTS):
                store.load_mlflow()
            outbox = Outbox(_connected(uri, lookout, whole), spool=spool, lookout=lookout, writing=writing)
        with _spool_for_workers(spool):
            yield from _in_store(study, name, uri, outbox, about, arguments, clock)
    finally:
        spool.close(remove=not spool.pending and not spool.others())


@contextmanager
def _spool_for_workers(spool: Spool) -> Iterator[None]:
    """While entered, worker processes put their spools into this one."""
    before = os.environ.get(PARENT)
    os.environ[PARENT] = str(spool.folder)
    try:
        yield
    finally:
        os.environ.pop(PARENT)
        if before is not None:
            os.environ[PARENT] = before


def _connected(uri: str, lookout: Lookout, whole: Callable[[], AbstractContextManager[None]]) -> MlflowClient:
    """A client of a store that answered a moment ago; a database that is locked, or restarts, is waited for."""
    is_passing = outages.is_locked if store.database(uri) else outages.is_database_outage
    while True:
        try:
            client = store.connect(uri, whole=whole)
        except UserError as error:
            if not is_passing(error):
                raise
            lookout.is_away(error)
            if not lookout.wait():
                raise
        else:
            lookout.is_back()
            return client


def _in_store(
    study: str, name: str, uri: str, outbox: Outbox, about: Sequence[str], arguments: Sequence[str], clock: Clock
) -> Iterator[Session]:
    """The session once the store has answered; see `open_session`."""
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
    check = outbox.lookout.check
    outbox.gather = lambda: _gather(outbox, seconds=0.0)
    with clock.stage(Stage.TRACKING):
        try:
            run = outbox.ask(lambda client: _adopted_run(client, adopted), first=True) if adopted else None
            experiment_id = run.info.experiment_id if run else outbox.ask(lambda client: _experiment(client, uri), first=True)
            resend.deliver_left(outbox.client, uri, check=check)
            outbox.ask(lambda client: end_stale_runs(client, experiment_id, store.database(uri)))
            outbox.ask(lambda client: client.set_experiment_tag(experiment_id, "mlflow.note.content", DESCRIPTION))
            for tag, state in view.tags().items():
                outbox.ask(lambda client, tag=tag, state=state: client.set_experiment_tag(experiment_id, tag, state))  # type: ignore[misc]  # defaults bind the loop's values
            if run and run.info.status == "KILLED":  # by a start that could not know of us
                outbox.ask(lambda client: client.update_run(run.info.run_id, status="RUNNING"))
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise store.unusable(uri, error) from None
    tracker: MlflowTracker
    if run:
        tracker = MlflowTracker(
            outbox=outbox, key=run.info.run_id, experiment_id=experiment_id, first_tags=tags, name=run.info.run_name or "", clock=clock,
        )  # fmt: skip
        tracker.tags(tags)
        claims.drop(run.info.run_id)
    else:
        tracker = PendingTracker(outbox=outbox, experiment_id=experiment_id, name=name, first_tags=tags, clock=clock)
    session = Session(
        tracker=tracker,
        store=redact(unquote(uri.removeprefix("sqlite:///"))),
        base=_base(uri),
        all_runs=view.link(_base(uri), experiment_id),
        charts=view.charts_link(_base(uri), experiment_id),
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
        tracker.end(status)
        if status == "KILLED":
            session.kill_runs()
        if adopted and status == "KILLED":
            killed_watcher.watch(adopted, session.owner.pid if session.owner else os.getppid())
        try:
            _finish(outbox, wait=status != "KILLED" and not isinstance(error, Unreachable))
        except Unreachable as kept:
            if not isinstance(error, Unreachable):  # which says the same
                print(f"memberscope: note: {kept}", file=sys.stderr, flush=True)
        raise
    tracker.tags({"memberscope.exit_code": "0"})
    tracker.end("FINISHED")
    _finish(outbox)
    # workers of an earlier start that was killed may have lived for some seconds longer than our look at the beginning
    with contextlib.suppress(Exception), store.failing_requests():
        end_stale_runs(outbox.client, experiment_id, store.database(uri))


def _finish(outbox: Outbox, *, wait: bool = True) -> None:
    """Deliver the rest, and what worker processes left."""
    try:
        _gather(outbox, seconds=outbox.lookout.left if wait else 0.0)
    except UserError as error:
        if not isinstance(error, Unreachable):
            print(f"memberscope: note: {error}", file=sys.stderr, flush=True)
    outbox.finish(wait=wait)


def _gather(outbox: Outbox, *, seconds: float) -> None:
    """Deliver what worker processes that are gone have left in the spool."""
    for folder in outbox.spool.others():
        if (left := Spool.take(folder)) is not None:
            resend.deliver(outbox.client, left, seconds=seconds, check=outbox.lookout.check)


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
