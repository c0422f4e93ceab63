"""What is logged to a run that belongs to another program: gathered, and sent to the store in few requests."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    from memberscope.mlflow_adapter.spool import Operation

Answer = TypeVar("Answer")


class RunBatch:
    """Gathers tags, metrics and files of one run, and sends them together: first the files, then the rest.

    If the store does not answer, that is an error, and nothing is kept for later: the run's owner decides whether to evaluate again.

    Args:
        client: of the store.
        run_id: the run.

    Attributes:
        client: of the store.
    """

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        """An empty batch, to be filled in the block of `finishing`."""
        self.client = client
        self._run_id = run_id
        self._tags: dict[str, str] = {}
        self._metrics: list[Metric] = []
        self._folder: Path  # this and the thread are there in the block of `finishing`
        self._thread: ThreadPoolExecutor
        self._writing: list[Future[object]] = []

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """A block in which the batch is filled, and after which it is sent. Nothing is sent if the block fails."""
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(max_workers=1) as self._thread:
            self._folder = Path(folder)
            yield
            for one in self._writing:
                one.result()
            self._send()

    def _send(self) -> None:
        from mlflow.entities import RunTag

        if any(self._folder.iterdir()):
            self.client.log_artifacts(self._run_id, str(self._folder))
        tags = [RunTag(name, value) for name, value in self._tags.items()]
        self.client.log_batch(self._run_id, metrics=self._metrics, tags=tags)

    def send(self, operation: Operation) -> None:
        """Add tags or metrics."""
        from mlflow.entities import Metric

        values = operation["values"]
        if operation["kind"] == "tags":
            self._tags |= values
        elif operation["kind"] == "metrics":
            self._metrics += [Metric(name, value, operation["time"], operation["step"]) for name, value in values.items()]
        else:
            raise NotImplementedError(operation["kind"])

    @contextmanager
    def sending(self, operation: Operation, name: str) -> Iterator[Path]:
        """Add a file, which the block writes at the path that it is given."""
        if operation["kind"] != "file":
            raise NotImplementedError(operation["kind"])
        folder = self._folder / str(operation["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        yield folder / name

    def write(self, writer: Callable[[], object]) -> None:
        """Write files in a thread, beside the work that follows; what fails there is raised before anything is sent."""
        self._writing.append(self._thread.submit(writer))

    def id_of(self, run: str) -> str | None:
        """The run itself, since it is there already."""
        return run

    def wait_for_id(self, run: str) -> str:
        """The run itself."""
        return run

    def ask(self, question: Callable[[MlflowClient], Answer]) -> Answer:
        """What the store answers."""
        return question(self.client)
