"""Deliver what earlier processes left in their spools: ``memberscope resend FOLDER``, and each start on the same store."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memberscope.errors import UserError
from memberscope.mlflow_adapter import spool as spools
from memberscope.mlflow_adapter import store
from memberscope.mlflow_adapter.outbox import Outbox, named
from memberscope.mlflow_adapter.spool import Spool
from memberscope.outages import Lookout, limit, nothing
from memberscope.redact import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient

GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE")  # MLflow's codes for a run that was deleted


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What came of spools: how many operations the store has now, of how many runs, and why it refused others (of deleted runs)."""

    operations: int = 0
    runs: int = 0
    refused: tuple[str, ...] = ()

    def __add__(self, other: Sent) -> Sent:
        """Both together."""
        return Sent(
            operations=self.operations + other.operations, runs=self.runs + other.runs, refused=self.refused + other.refused
        )

    def __str__(self) -> str:
        """A phrase for people."""
        runs = f"{self.runs} run{'s' if self.runs != 1 else ''}"
        refused = f"; {len(self.refused)} were refused, the first because: {self.refused[0]}" if self.refused else ""
        return f"{self.operations} logged item{'s' if self.operations != 1 else ''} of {runs}{refused}"


def main(arguments: list[str]) -> int:
    """``memberscope resend FOLDER``; returns the exit code.

    Raises:
        UserError: no folder, a folder that holds nothing to send or belongs to another store, or a store that does not answer.
    """
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise UserError(
            f"resend: {len(arguments)} arguments; allowed: one folder, which an earlier run named: memberscope resend FOLDER"
        )
    folder = Path(arguments[0]).expanduser().absolute()
    kept = spools.store_of(folder)
    uri = _uri_for(folder, kept)
    seconds = limit()
    store.check_store(uri)
    client = store.connect(uri)
    spool = Spool.take(folder)
    if spool is None:
        raise UserError(
            f"folder={folder}: another process is still using it; allowed: wait for that process to finish, or end it"
        )
    sent = deliver(client, spool, seconds=seconds)
    print(
        f"sent to {named(uri)}: {sent}"
        if sent.operations or sent.refused
        else f"folder={folder}: there was nothing left to send"
    )
    return 0


def _uri_for(folder: Path, kept: str) -> str:
    """The address for a spool of the store `kept`: the one in use if it is that store's, which alone has its password; else `kept`."""
    import os

    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    if given and address(store.without_credentials(given)) == kept:
        return store.without_credentials(given)
    if given or redact(kept.replace("***", "secret")) != kept.replace("***", "secret"):
        raise UserError(
            f"folder={folder}: was left for the store {kept}, and MLFLOW_TRACKING_URI={redact(given)}; allowed: "
            f"MLFLOW_TRACKING_URI with that store's address{' and its password' if '***' in kept else ', or no value'}"
        )
    return kept


def address(uri: str) -> str:
    """What a spool keeps of a store's address: no password, and no path that means another file in another working directory."""
    path = store.database(uri)
    if path is not None:
        return f"sqlite:///{path}"
    return redact(uri) if ":" in uri else str(Path(uri).absolute())


def deliver_left(client: MlflowClient, uri: str, *, check: Callable[[], None] = nothing) -> None:
    """Deliver what earlier processes left for a store, and say so; what cannot be delivered now is left for the next start."""
    for folder in spools.spools_in(spools.root()):
        try:
            if spools.store_of(folder) != address(uri):
                continue
            spool = Spool.take(folder)
            if spool is None:
                continue
            sent = deliver(client, spool, seconds=0.0, check=check)
        except UserError as error:
            print(f"memberscope: note: {error}", file=sys.stderr, flush=True)
            continue
        if sent.operations or sent.refused:
            print(
                f"memberscope: what an earlier run could not send is now in the store: {sent}",
                file=sys.stderr,
                flush=True,
            )


def deliver(client: MlflowClient, spool: Spool, *, seconds: float, check: Callable[[], None] = nothing) -> Sent:
    """Deliver a spool and those of its workers, end the runs that its process began and never ended as KILLED, and remove it.

    Args:
        client: of the store.
        spool: see `Spool.take`.
        seconds: how long an outage is waited for.
        check: called while waiting.

    Raises:
        UserError: the store does not answer, or does not let us in; the spool is kept, and what was delivered is noted in it.
    """
    from mlflow.exceptions import MlflowException

    waiting, sent = list(spool.pending.values()), Sent()
    try:
        for folder in spool.others():  # a sweep's own operations may be about the runs of its workers
            if (worker := Spool.take(folder)) is not None:
                sent += deliver(client, worker, seconds=seconds, check=check)
        outbox = Outbox(client, spool=spool, lookout=Lookout(named(client.tracking_uri), seconds=seconds, check=check))
        refused: list[str] = []
        while spool.pending:
            try:
                outbox.deliver_waiting()
            except MlflowException as error:
                if error.error_code not in GONE:
                    first = next(iter(redact(str(error)).splitlines()), type(error).__name__)
                    raise UserError(
                        f"folder={spool.folder}: the store refuses what is kept there ({first}); allowed: a user who may write to it"
                    ) from None
                refused.append(" ".join(redact(str(error)).split())[:200])
                spool.delivered(next(iter(spool.pending)))
        outbox.ask(lambda client: _end_unfinished(client, spool))
    except BaseException:
        spool.close(remove=False)
        raise
    spool.close(remove=True)
    runs = {spool.ids.get(one["run"], one["run"]) for one in waiting}
    return sent + Sent(operations=len(waiting) - len(refused), runs=len(runs), refused=tuple(refused))


def _end_unfinished(client: MlflowClient, spool: Spool) -> None:
    """End the runs that a process created and did not come to end, as it would have been if the store had been there."""
    from mlflow.exceptions import MlflowException

    for key, run_id in spool.ids.items():
        if key not in spool.ended:
            try:
                run = client.get_run(run_id)
            except MlflowException as error:
                if error.error_code in GONE:
                    continue
                raise
            if run.info.status == "RUNNING" and run.info.lifecycle_stage == "active":
                client.set_terminated(run_id, "KILLED")
