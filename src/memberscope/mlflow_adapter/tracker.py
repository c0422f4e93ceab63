"""The `Tracker` over MLflow: explicit run ids, no global active run. Passwords in whatever is logged are masked.

Nothing here asks the store to do anything: what is logged becomes operations, which an `Outbox` delivers, or a `RunBatch`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from memberscope import plots
from memberscope.clock import Clock
from memberscope.errors import Interrupted, UserError
from memberscope.mlflow_adapter import store
from memberscope.mlflow_adapter.operations import MODEL
from memberscope.mlflow_adapter.outbox import Outbox, parent_spool
from memberscope.mlflow_adapter.process import HOST_TAG, PROCESS_TAG, this_process
from memberscope.mlflow_adapter.spool import Operation
from memberscope.outages import nothing
from memberscope.redact import redact, redact_values
from memberscope.tracking import DataInput, KeptRun, LoadedModel, Plain, check_finite

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

BATCH = 1_000  # MLflow's limit of metrics a call
Answer = TypeVar("Answer")
DIGEST_LENGTH = 36  # MLflow's limit of a digest
DESCRIPTION_LENGTH = 8_000  # MLflow's limit of a tag, and so of a description
CUT = "\n\n*This page ends here, because MLflow keeps only 8,000 characters of it; the files of the run have the rest.*\n"
NEW = "-new"  # ends the key of a run that is created through the outbox, so that no key is a run's id


class Delivery(Protocol):
    """What brings operations to a store: see `memberscope.mlflow_adapter.outbox.Outbox` for what each method means."""

    @property
    def client(self) -> MlflowClient:
        """Of the store."""

    def send(self, operation: Operation) -> None:
        """See `Outbox.send`."""

    def sending(self, operation: Operation, name: str) -> AbstractContextManager[Path]:
        """See `Outbox.sending`."""

    def id_of(self, run: str) -> str | None:
        """See `Outbox.id_of`."""

    def wait_for_id(self, run: str) -> str:
        """See `Outbox.wait_for_id`."""

    def ask(self, question: Callable[[MlflowClient], Answer]) -> Answer:
        """See `Outbox.ask`."""

    def finishing(self) -> AbstractContextManager[None]:
        """A block at whose end all that was sent is delivered."""


def _shortened(markdown: str) -> str:
    """A description that MLflow keeps whole: a longer one ends after a line of it, and says so."""
    if len(markdown) <= DESCRIPTION_LENGTH:
        return markdown
    room = markdown[: DESCRIPTION_LENGTH - len(CUT)]
    return room[: room.rfind("\n") if "\n" in room else len(room)] + CUT


def end_status(error: BaseException) -> tuple[str, int]:
    """The run status and exit code that an error ends a run with."""
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return "KILLED", Interrupted.exit_code
    return "FAILED", getattr(error, "exit_code", UserError.exit_code if isinstance(error, UserError) else 1)


def reopen(
    address: str,
    *,
    writing: Callable[[], AbstractContextManager[None]] = nullcontext,
    check: Callable[[], None] = nothing,
) -> MlflowTracker:
    """The tracker of a run that another process opened, from its `address`; close its outbox at the end.

    Args:
        address: see `MlflowTracker.address`.
        writing: makes the context of each write to the store.
        check: called while the store is waited for.

    Raises:
        UserError: the address is none of an MLflow run.

    The address has no password; if the store needs one, MLFLOW_TRACKING_URI must name it.
    """
    try:
        parts = json.loads(address)
        uri, run_id, experiment_id = (str(parts[key]) for key in ("uri", "run_id", "experiment_id"))
        given = os.environ.get("MLFLOW_TRACKING_URI", "")
        uri = given if redact(given) == uri else uri
    except (ValueError, TypeError, KeyError):
        raise UserError(
            f"tracker={address}: not the address of an MLflow run; allowed: the address that a run's tracker gives"
        ) from None
    os.environ["MLFLOW_TRACKING_URI"] = uri
    store.prepare_environment()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import mlflow
    store.quiet_mlflow()
    mlflow.set_tracking_uri(uri)
    outbox = Outbox.of_worker(mlflow.MlflowClient(uri), uri, within=parent_spool(), writing=writing, check=check)
    return MlflowTracker(outbox=outbox, key=run_id, experiment_id=experiment_id)


def _now() -> int:
    return int(time.time() * 1000)


@dataclass(frozen=True, kw_only=True)
class MlflowTracker:
    """One MLflow run. See `memberscope.tracking.Tracker` for what each method means.

    Attributes:
        outbox: delivers what is logged.
        key: the run's id, or the key of a run that an operation creates.
        experiment_id: of the run's experiment.
        waits: whether `address` waits until the run has an id.
        first_tags: tags that the run has from its beginning.
        name: of the run; empty where another program named it.
        clock: what the run's time is spent on.
    """

    outbox: Delivery
    key: str
    experiment_id: str
    waits: bool = True
    first_tags: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    clock: Clock = field(default_factory=Clock)

    @property
    def about(self) -> Mapping[str, str]:
        """See `Tracker.about`; the id is absent while the store is away and has not created the run."""
        run_id = self.outbox.id_of(self.key) if self.is_there else None
        return {**redact_values(self.first_tags), "name": redact(self.name), **({} if run_id is None else {"id": run_id})}

    @property
    def client(self) -> MlflowClient:
        """Of the store."""
        return self.outbox.client

    @property
    def run_id(self) -> str:
        """The run's id, which is waited for while the store is away."""
        return self.outbox.wait_for_id(self.key)

    @property
    def is_there(self) -> bool:
        """Whether the run has been created, or is about to be."""
        return True

    @property
    def address(self) -> str:
        """See `Tracker.address`: the store (without its password), the run and its experiment, as JSON."""
        run_id = self.run_id if self.waits else self.outbox.id_of(self.key)
        run = {"run_key": self.key} if run_id is None else {"run_id": run_id}
        return json.dumps({"uri": redact(self.client.tracking_uri), **run, "experiment_id": self.experiment_id})

    def settle(self, address: str, status: str, *, adopt: bool = False) -> None:
        """See `Tracker.settle`; a run that was deleted meanwhile is left alone."""
        parts = json.loads(address)
        other = {"other_id": parts.get("run_id"), "other_key": parts.get("run_key"), "experiment": parts.get("experiment_id")}
        self._send("settle", **other, status=status, adopt=adopt)

    @contextmanager
    def child(self, name: str, *, tags: Mapping[str, str] | None = None, description: str = "") -> Iterator[MlflowTracker]:
        """See `Tracker.child`."""
        every = {
            "mlflow.note.content": description,
            "memberscope.kind": "model",
            HOST_TAG: socket.gethostname(),
            PROCESS_TAG: this_process(),
            **(tags or {}),
        }
        key = uuid.uuid4().hex + NEW
        self.outbox.send(creation(key, self.experiment_id, name=name, tags=every, parent=self.key))
        child = MlflowTracker(outbox=self.outbox, key=key, experiment_id=self.experiment_id, waits=False)
        try:
            yield child
        except BaseException as error:
            child.end(end_status(error)[0])
            raise
        child.end("FINISHED")

    def end(self, status: str) -> None:
        """End the run as ``FINISHED``, ``FAILED`` or ``KILLED``."""
        self._send("end", status=status, time=_now())

    def _send(self, kind: str, **values: Any) -> None:
        self.outbox.send({"kind": kind, "run": self.key, **values})

    def _sending(self, kind: str, path: str) -> AbstractContextManager[Path]:
        """A context that yields where to write the artifact `path`."""
        folder = str(Path(path).parent) if Path(path).parent.name else ""
        return self.outbox.sending({"kind": kind, "run": self.key, "folder": folder}, Path(path).name)

    def params(self, values: Mapping[str, Plain]) -> None:
        """See `Tracker.params`."""
        self._send("params", values={name: redact(str(value)) for name, value in values.items()})

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """See `Tracker.metrics`."""
        check_finite(values)
        now, items = _now(), [(name, float(value)) for name, value in values.items()]
        for start in range(0, len(items), BATCH):
            self._send("metrics", values=dict(items[start : start + BATCH]), step=step, time=now)

    def tags(self, values: Mapping[str, str]) -> None:
        """See `Tracker.tags`."""
        self._send("tags", values={name: redact(value) for name, value in values.items()})

    def rename(self, name: str) -> None:
        """Give the run another name."""
        object.__setattr__(self, "name", name)  # the class is frozen
        self._send("rename", name=redact(name))

    def describe(self, markdown: str) -> None:
        """See `Tracker.describe`."""
        self._send("tags", values={"mlflow.note.content": _shortened(redact(markdown))})

    def figure(self, figure: Figure, path: str) -> bool:
        """See `Tracker.figure`."""
        with self._sending("file", path) as local:
            plots.save(figure, local)
        return True

    def text(self, text: str, path: str) -> None:
        """See `Tracker.text`."""
        self._text(redact(text), path)

    def _text(self, text: str, path: str) -> None:
        with self._sending("file", path) as local:
            local.write_text(text, encoding="utf-8")

    def file(self, local: Path, path: str) -> None:
        """See `Tracker.file`."""
        with self._sending("file", path) as copy:
            shutil.copyfile(local, copy)

    def table(self, frame: pd.DataFrame, path: str) -> None:
        """See `Tracker.table`."""
        if path.endswith(".json"):
            with self._sending("table", path) as local:
                frame.to_json(local, orient="split", index=False, date_format="iso")
        else:
            self._text(redact(frame.to_csv(index=False)), path)

    def data(self, data: DataInput) -> None:
        """See `Tracker.data`. The digest is the first 36 hexadecimal digits of ours: MLflow's own looks at 10,000 numbers only."""
        dataset = {
            "name": f"{data.name}-{data.context}",
            "digest": data.digest[:DIGEST_LENGTH],
            "source": json.dumps({"tags": {"source": redact(data.source)}}),
            "profile": json.dumps({"records": data.shape[0], "shape": list(data.shape[1:]), "classes": data.classes}),
        }
        self._send("data", dataset=dataset, context=data.context)

    def load_model(self, uri: str, *, prefer_labels: bool = False) -> LoadedModel:
        """See `Tracker.load_model`."""
        from memberscope.mlflow_adapter.models import load_model

        def question(client: MlflowClient) -> LoadedModel:
            try:
                return load_model(uri, prefer_labels=prefer_labels)
            except UserError as error:
                wrong = error
            client.get_experiment(self.experiment_id)  # MLflow hides an outage in the midst of a download; this does not
            raise wrong

        return self.outbox.ask(question)

    def read_run(self, name: str) -> KeptRun:
        """See `Tracker.read_run`: in the run's own experiment first, then in the others."""
        from memberscope.mlflow_adapter.read import read_run

        return self.outbox.ask(lambda client: read_run(client, name, experiment_id=self.experiment_id))

    @property
    def frameworks(self) -> frozenset[str]:
        """See `Tracker.frameworks`."""
        from memberscope.mlflow_adapter.log_model import FRAMEWORKS

        return frozenset(FRAMEWORKS)

    def model(self, model: Any, *, framework: str, input_shape: tuple[int, ...], classes: int) -> None:
        """See `Tracker.model`."""
        from memberscope.mlflow_adapter.log_model import FRAMEWORKS

        operation = {"kind": "model", "run": self.key, "experiment": self.experiment_id, "key": uuid.uuid4().hex + NEW}
        with self.outbox.sending(operation, MODEL) as folder:
            FRAMEWORKS[framework](model, folder, input_shape=input_shape, classes=classes)


def creation(key: str, experiment_id: str, *, name: str, tags: Mapping[str, str], parent: str = "") -> Operation:
    """The operation that creates a run, which starts now."""
    return {
        "kind": "create", "run": key, "experiment": experiment_id, "name": redact(name), "tags": redact_values(tags), "time": _now(),
        "parent": parent,
    }  # fmt: skip


class PendingTracker(MlflowTracker):
    """A run that is created when the first thing is logged to it; reading from it does not create it.

    Args:
        outbox: of the store.
        experiment_id: of the experiment that the run will belong to.
        name: of the run.
        first_tags: tags that the run is created with.
        clock: what the run's time is spent on.
    """

    def __init__(self, *, outbox: Delivery, experiment_id: str, name: str, first_tags: Mapping[str, str], clock: Clock) -> None:
        """Remember what the run will be created with."""
        attributes = {
            "outbox": outbox, "experiment_id": experiment_id, "waits": True, "name": name, "first_tags": first_tags, "clock": clock,
        }  # fmt: skip
        for attribute, value in attributes.items():
            object.__setattr__(self, attribute, value)  # the class is frozen

    def __repr__(self) -> str:
        """A text that does not create the run."""
        return f"{type(self).__name__}(name={self.name!r}, is_there={self.is_there})"

    @cached_property
    def key(self) -> str:
        """The run's key; the run is created when it is first asked for."""
        key = uuid.uuid4().hex + NEW
        self.outbox.send(creation(key, self.experiment_id, name=self.name, tags=self.first_tags))
        return key

    @property
    def is_there(self) -> bool:
        """See `MlflowTracker.is_there`."""
        return "key" in self.__dict__

    def rename(self, name: str) -> None:
        """Rename the run, or set the name that it will be created with."""
        if self.is_there:
            super().rename(name)
        else:
            object.__setattr__(self, "name", name)
