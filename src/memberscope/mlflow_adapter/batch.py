"""What is logged to a run that belongs to another program: gathered, and sent to the store when it is complete."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    from memberscope.mlflow_adapter.spool import Operation

Answer = TypeVar("Answer")


@dataclass(kw_only=True, eq=False)
class _Files:
    """Files that are waiting in a folder, with the folders of the run that they go to, and the thread that writes some of them."""

    folder: Path
    thread: ThreadPoolExecutor
    writing: list[Future[object]] = field(default_factory=list)
    waiting: list[tuple[Path, str]] = field(default_factory=list)


class RunBatch:
    """Gathers tags, metrics and files of one run. At the end, tags and metrics are sent in one request, and then the files, one by one.

    Nothing is sent of an audit that fails. If the store does not take all that is sent, that is an error, and nothing is kept for later:
    the run's owner decides whether to evaluate again.

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
        self._files: _Files | None = None  # outside the block there are none

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """A block in which the batch is filled, and after which it is sent. Nothing is sent if the block fails."""
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(max_workers=1) as thread:
            self._files = files = _Files(folder=Path(folder), thread=thread)
            try:
                yield
            finally:
                self._files = None
            for one in files.writing:
                one.result()
            self._send(files)

    def _send(self, files: _Files) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(name, value) for name, value in self._tags.items()]
        self.client.log_batch(self._run_id, metrics=self._metrics, tags=tags)  # refused if the run is deleted
        for path, folder in files.waiting:
            # not all in one call, which would write over a file of an earlier evaluation instead of replacing it
            self.client.log_artifact(self._run_id, str(path), folder or None)

    def send(self, operation: Operation) -> None:
        """Add tags or metrics."""
        from mlflow.entities import Metric

        kind = operation["kind"]
        self._check(kind, "tags", "metrics")
        if kind == "tags":
            self._tags |= operation["values"]
        else:
            time, step = operation["time"], operation["step"]
            self._metrics += [Metric(name, value, time, step) for name, value in operation["values"].items()]

    @contextmanager
    def sending(self, operation: Operation, name: str) -> Iterator[Path]:
        """Add a file, which the block writes at the path that it is given, or has written by `write`."""
        files = self._check(operation["kind"], "file")
        path = files.folder / str(operation["folder"]) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path
        files.waiting.append((path, str(operation["folder"])))

    def write(self, writer: Callable[[], object]) -> None:
        """Have a file written in a thread, beside the work that follows; what fails there is raised before anything is sent."""
        files = self._check("file", "file")
        files.writing.append(files.thread.submit(writer))

    def _check(self, kind: str, *known: str) -> _Files:
        if kind not in known:
            raise NotImplementedError(f"{kind} in a run that belongs to another program")
        if self._files is None:
            raise RuntimeError("a batch is filled in the block of `finishing`")
        return self._files

    def id_of(self, run: str) -> str | None:
        """The run itself, since it is there already."""
        return run

    def wait_for_id(self, run: str) -> str:
        """The run itself."""
        return run

    def ask(self, question: Callable[[MlflowClient], Answer]) -> Answer:
        """What the store answers."""
        return question(self.client)
