"""What a process logs on its way to the store: written down in a spool, delivered in order, and kept while the store does not answer."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from memberscope.mlflow_adapter.careful import careful
from memberscope.mlflow_adapter.faults import is_answer, is_outage
from memberscope.mlflow_adapter.operations import Attempt, carry_out
from memberscope.mlflow_adapter.spool import Operation, Spool
from memberscope.mlflow_adapter.store import failing_requests
from memberscope.outages import Lookout, Unreachable, is_locked, limit, nothing
from memberscope.redact import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient

Answer = TypeVar("Answer")
SECOND_LOOK_SECONDS = 0.2  # before an outage is announced: a server that was restarted breaks old connections only once
PAUSE_SECONDS = 1.0  # between two attempts during an outage; longer if an attempt takes long


def named(uri: str) -> str:
    """A store for people."""
    return f"the tracking {'server' if uri.startswith('http') else 'store'} {redact(uri)}"


class Outbox:
    """Delivers operations to a store, each once and in order.

    While the store does not answer, they stay in the spool and the work goes on. Each operation that follows is an attempt to deliver those
    before it; `ask` and `finish` wait for the store, up to the limit.

    Args:
        client: of the store.
        spool: where operations are written down.
        lookout: what to say about the store, and how long to wait for it.
        writing: makes the context of each write to the store or the spool; half an artifact would look like a whole one.

    Attributes:
        client: a client each of whose writes runs in such a context.
    """

    def __init__(
        self, client: MlflowClient, *, spool: Spool, lookout: Lookout,
        writing: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:  # fmt: skip
        """Deliver what the spool holds, and what follows."""
        self.client, self.spool, self.lookout = careful(client, writing), spool, lookout
        self._client, self._writing = client, writing
        self._inherited = set(spool.pending)  # nobody knows what a former process came to
        self._tried = self._refused = 0  # the numbers of the operations that were tried, and refused, last
        self._next_attempt = 0.0
        self.gather: Callable[[], None] = nothing  # called before a run of another process is settled
        self._lock = threading.RLock()

    @classmethod
    def of_worker(
        cls, client: MlflowClient, uri: str, *, within: Path | None, check: Callable[[], None] = nothing,
        writing: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> Outbox:  # fmt: skip
        """That of a worker process, whose spool lies in its parent's."""
        spool = Spool.create(uri, study="worker", within=within)
        return cls(client, spool=spool, lookout=Lookout(named(uri), seconds=limit(), check=check), writing=writing)

    def send(self, operation: Operation) -> None:
        """Write an operation down, and deliver it unless the store is away.

        Raises:
            Exception: what the store says, if it refuses an operation.
        """
        with self._lock, self._writing():
            self.spool.add(operation)
            self.deliver()

    @contextmanager
    def sending(self, operation: Operation, name: str) -> Iterator[Path]:
        """As `send`, for an operation with a file or folder of that name, which the block writes at the path it is given."""
        with self._lock:
            operation = {**operation, "files": [name]}
            with self.spool.files() as (number, folder):
                yield folder / name
            with self._writing():
                self.spool.add(operation, number=number)
                self.deliver()

    def id_of(self, run: str) -> str | None:
        """The id of a run that an operation names; None while it is not created."""
        if run in self.spool.ids:
            return self.spool.ids[run]
        is_ours = any(one["run"] == run and one["kind"] == "create" for one in self.spool.pending.values())
        return None if is_ours else run

    def wait_for_id(self, run: str) -> str:
        """The id of a run, once it is created.

        Raises:
            Unreachable: the store does not answer for longer than the limit.
        """
        while (found := self.id_of(run)) is None:
            if not self._wait():
                raise self._unreachable()
        return found

    def ask(self, question: Callable[[MlflowClient], Answer], *, first: bool = False) -> Answer:
        """What the store answers, which is waited for; not if it is the `first` question, and a server answers that it cannot serve.

        Raises:
            Unreachable: it does not answer for longer than the limit.
            Exception: what else the question raises.
        """
        others = 0  # times that the store answered in the next moment: it came back in between, or the error is somebody else's
        while True:
            try:
                with failing_requests():
                    answer = question(self.client)
            except Exception as error:
                is_final = first and self.lookout.since is None and is_answer(error)
                if not is_outage(error) or is_final:
                    raise
                if self._answers():
                    others += 1
                    if others > 1:
                        raise
                    continue
                self.lookout.is_away(error)
                if not self._wait(deliver=False):
                    raise self._unreachable() from error
                continue
            self.lookout.is_back()
            return answer

    def deliver(self, *, now: bool = False) -> bool:
        """Deliver what is pending as far as the store takes it; whether nothing is left. During an outage, not at every call unless `now`.

        Raises:
            Exception: what the store says, if it refuses an operation twice; that one is not tried again, unless a former process left it.
        """
        with self._lock:
            if self.lookout.since is not None and not now and time.monotonic() < self._next_attempt:
                return not self.spool.pending
            while self.spool.pending:
                if not self._attempt(next(iter(self.spool.pending.values()))):
                    return False
            return True

    def _attempt(self, operation: Operation) -> bool:
        """Whether an operation was carried out; False if the store is away."""
        number, begun = operation["n"], time.monotonic()
        again, self._tried = number == self._tried or number in self._inherited, number
        try:
            if operation["kind"] == "settle":
                self.gather()
            with failing_requests():
                run_id = self._carry_out(operation, self.spool.folder, again=again)
        except Exception as error:
            if not is_outage(error):
                if self._refused != number:  # two processes that create the same data set at once are in each other's way
                    self._refused = number
                    time.sleep(SECOND_LOOK_SECONDS)
                    return self._attempt(operation)
                if number not in self._inherited:
                    self.spool.delivered(number)
                raise
            if not again and self.lookout.since is None and not is_locked(error):  # a lock has been waited for
                time.sleep(SECOND_LOOK_SECONDS)
                return self._attempt(operation)
            self.lookout.is_away(error)
            self._next_attempt = time.monotonic() + max(PAUSE_SECONDS, 2 * (time.monotonic() - begun))
            return False
        self.spool.delivered(number, run_id)
        self.lookout.is_back()
        return True

    def _carry_out(self, operation: Operation, folder: Path, *, again: bool) -> str | None:
        ids = self.spool.ids
        run_id = "" if operation["kind"] == "create" else str(ids.get(operation["run"], operation["run"]))
        return carry_out(Attempt(client=self._client, operation=operation, run_id=run_id, ids=ids, folder=folder, again=again))

    def _answers(self) -> bool:
        """Whether the store answers, so that an error was somebody else's."""
        try:
            with failing_requests():
                self.client.search_experiments(max_results=1)
        except Exception as error:
            return not is_outage(error)
        return True

    def _wait(self, *, deliver: bool = True) -> bool:
        """Wait a moment, and try to deliver; False once the outage is over its limit."""
        if deliver and self._deliver_now():
            return True
        return self.lookout.wait()

    def _unreachable(self) -> Unreachable:
        if self.lookout.since is None:
            began = f"{self.lookout.what}: not everything that worker processes logged could be sent"
        else:
            elapsed = time.monotonic() - self.lookout.since
            began = f"{self.lookout.what} has not answered for {elapsed:.0f} s ({self.lookout.why})"
        if not self.spool.pending and not self.spool.others():
            return Unreachable(f"{began}; nothing is left to be sent; allowed, once it answers: start the same study again")
        return Unreachable(
            f"{began}; what was logged is kept in {self.spool.folder}; allowed, once it answers: memberscope resend {self.spool.folder}, "
            "or start any study on that store, which sends it as well"
        )

    def _deliver_now(self) -> bool:
        with self._writing():
            return self.deliver(now=True)

    def deliver_waiting(self) -> None:
        """Deliver everything that is pending, waiting for the store.

        Raises:
            Unreachable: the store does not answer for longer than the limit.
            Exception: what the store says, if it refuses an operation.
        """
        while not self._deliver_now():
            if not self.lookout.wait():
                raise self._unreachable()

    def finish(self, *, wait: bool = True) -> None:
        """Deliver the rest, waiting for the store if asked to, and remove the spool.

        Raises:
            Unreachable: the store does not answer; the spool is kept.
        """
        try:
            if wait:
                self.deliver_waiting()
            elif not self._deliver_now():
                raise self._unreachable()
            if self.spool.others():
                raise self._unreachable()
        except BaseException as error:
            if self.spool.pending and not isinstance(error, Unreachable):  # a stop, while the store was waited for
                print(f"memberscope: note: {self._unreachable()}", file=sys.stderr, flush=True)
            self.spool.close(remove=False)
            raise
        self.spool.close(remove=True)

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """A block of a worker process, after which the rest is delivered; what the store does not take in time is left to the parent."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(Unreachable):
                self.finish(wait=False)
            raise
        with contextlib.suppress(Unreachable):  # the parent, which waits for the same store, says so
            self.finish()


def parent_spool() -> Path | None:
    """The spool of the process that started this worker, if it said so and the spool is still there."""
    from memberscope.mlflow_adapter.spool import ABOUT, PARENT

    found = os.environ.get(PARENT, "")
    with contextlib.suppress(OSError):
        return Path(found) if found and (Path(found) / ABOUT).is_file() else None
    return None
