"""The `Tracker` over MLflow: explicit run ids, no global active run. Passwords in whatever is logged are masked."""

from __future__ import annotations

import logging
import shutil
import socket
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memberscope.errors import Interrupted, UserError
from memberscope.mlflow_adapter.careful import careful
from memberscope.mlflow_adapter.process import HOST_TAG, PROCESS_TAG, this_process
from memberscope.redact import redact, redact_values
from memberscope.tracking import DataInput, KeptRun, LoadedModel, Plain, check_finite

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

BATCH = 1_000  # MLflow's limit of metrics a call
DIGEST_LENGTH = 36  # MLflow's limit of a digest


def end_status(error: BaseException) -> tuple[str, int]:
    """The run status and exit code that an error ends a run with."""
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return "KILLED", Interrupted.exit_code
    return "FAILED", getattr(error, "exit_code", UserError.exit_code if isinstance(error, UserError) else 1)


def reopen(address: str, *, writing: Callable[[], AbstractContextManager[None]] = nullcontext) -> MlflowTracker:
    """The tracker of a run that another process opened, from its `address`; `writing` makes the context of each write to the store.

    Raises:
        UserError: the address is none of an MLflow run.

    The address has no password; if the store needs one, MLFLOW_TRACKING_URI must name it.
    """
    import json
    import os

    try:
        parts = json.loads(address)
        uri, run_id, experiment_id = (str(parts[key]) for key in ("uri", "run_id", "experiment_id"))
        given = os.environ.get("MLFLOW_TRACKING_URI", "")
        uri = given if redact(given) == uri else uri
    except (ValueError, TypeError, KeyError):
        raise UserError(f"tracker={address}: no address of an MLflow run; allowed: what a run's tracker says it is") from None
    os.environ["MLFLOW_TRACKING_URI"] = uri
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import mlflow
    for noisy in ("alembic", "mlflow.store.db.utils", "mlflow.tracking.fluent"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(uri)
    return MlflowTracker(client=careful(mlflow.MlflowClient(uri), writing), run_id=run_id, experiment_id=experiment_id)


@dataclass(frozen=True, kw_only=True)
class MlflowTracker:
    """One MLflow run. See `memberscope.tracking.Tracker` for what each method means."""

    client: MlflowClient
    run_id: str
    experiment_id: str

    @property
    def is_there(self) -> bool:
        """Whether the run has been created."""
        return True

    @property
    def address(self) -> str:
        """See `Tracker.address`: the store (without its password), the run and its experiment, as JSON."""
        import json

        return json.dumps({"uri": redact(self.client.tracking_uri), "run_id": self.run_id, "experiment_id": self.experiment_id})

    def settle(self, address: str, status: str, *, adopt: bool = False) -> None:
        """See `Tracker.settle`; a run that was deleted meanwhile is left alone."""
        import json

        from mlflow.exceptions import MlflowException

        try:
            run = self.client.get_run(json.loads(address)["run_id"])
        except MlflowException:
            return
        if run.info.status != status:
            self.client.set_terminated(run.info.run_id, status)
        if adopt and run.data.tags.get("mlflow.parentRunId") != self.run_id:
            self.client.set_tag(run.info.run_id, "mlflow.parentRunId", self.run_id)

    @contextmanager
    def child(self, name: str, *, tags: Mapping[str, str] | None = None, description: str = "") -> Iterator[MlflowTracker]:
        """See `Tracker.child`."""
        every = {
            "mlflow.parentRunId": self.run_id,
            "mlflow.note.content": description,
            "memberscope.kind": "model",
            HOST_TAG: socket.gethostname(),
            PROCESS_TAG: this_process(),
            **(tags or {}),
        }
        run = self.client.create_run(self.experiment_id, run_name=redact(name), tags=redact_values(every))
        child = MlflowTracker(client=self.client, run_id=run.info.run_id, experiment_id=self.experiment_id)
        try:
            yield child
        except BaseException as error:
            self.client.set_terminated(child.run_id, end_status(error)[0])
            raise
        self.client.set_terminated(child.run_id, "FINISHED")

    def params(self, values: Mapping[str, Plain]) -> None:
        """See `Tracker.params`."""
        from mlflow.entities import Param

        self.client.log_batch(self.run_id, params=[Param(name, redact(str(value))) for name, value in values.items()])

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """See `Tracker.metrics`."""
        from mlflow.entities import Metric

        check_finite(values)
        now = int(time.time() * 1000)
        entities = [Metric(name, float(value), now, step) for name, value in values.items()]
        for start in range(0, len(entities), BATCH):
            self.client.log_batch(self.run_id, metrics=entities[start : start + BATCH])

    def tags(self, values: Mapping[str, str]) -> None:
        """See `Tracker.tags`."""
        from mlflow.entities import RunTag

        self.client.log_batch(self.run_id, tags=[RunTag(name, redact(value)) for name, value in values.items()])

    def rename(self, name: str) -> None:
        """Give the run another name."""
        self.client.update_run(self.run_id, name=redact(name))

    def describe(self, markdown: str) -> None:
        """See `Tracker.describe`."""
        self.client.set_tag(self.run_id, "mlflow.note.content", redact(markdown))

    def figure(self, figure: Figure, path: str) -> None:
        """See `Tracker.figure`."""
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / Path(path).name
            figure.savefig(local)
            self.client.log_artifact(self.run_id, str(local), str(Path(path).parent) if Path(path).parent.name else None)

    def text(self, text: str, path: str) -> None:
        """See `Tracker.text`."""
        self.client.log_text(self.run_id, redact(text), path)

    def file(self, local: Path, path: str) -> None:
        """See `Tracker.file`."""
        folder = str(Path(path).parent) if Path(path).parent.name else None
        with tempfile.TemporaryDirectory() as temporary:
            named = Path(temporary) / Path(path).name
            shutil.copyfile(local, named)
            self.client.log_artifact(self.run_id, str(named), folder)

    def table(self, frame: pd.DataFrame, path: str) -> None:
        """See `Tracker.table`."""
        if path.endswith(".json"):
            words = [column for column, dtype in frame.dtypes.items() if str(dtype) == "str"]
            frame = frame.astype(
                dict.fromkeys(words, object)
            )  # MLflow asks pandas 3 for objects, which warns where it finds words
            self.client.log_table(self.run_id, frame, path)
        else:
            self.client.log_text(self.run_id, redact(frame.to_csv(index=False)), path)

    def data(self, data: DataInput) -> None:
        """See `Tracker.data`. The digest is the first 36 hexadecimal digits of ours: MLflow's own looks at 10,000 numbers only."""
        import json

        from mlflow.entities import Dataset, DatasetInput, InputTag

        profile = json.dumps({"records": data.shape[0], "shape": list(data.shape[1:]), "classes": data.classes})
        entity = Dataset(
            name=f"{data.name}-{data.context}",
            digest=data.digest[:DIGEST_LENGTH],
            source_type="code",
            source=json.dumps({"tags": {"source": redact(data.source)}}),
            schema=None,
            profile=profile,
        )
        self.client.log_inputs(self.run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", data.context)])])

    def load_model(self, uri: str, *, prefer_labels: bool = False) -> LoadedModel:
        """See `Tracker.load_model`."""
        from memberscope.mlflow_adapter.models import load_model

        return load_model(uri, prefer_labels=prefer_labels)

    def read_run(self, name: str) -> KeptRun:
        """See `Tracker.read_run`: in the run's own experiment first, then in the others."""
        from memberscope.mlflow_adapter.read import read_run

        return read_run(self.client, name, experiment_id=self.experiment_id)

    @property
    def frameworks(self) -> frozenset[str]:
        """See `Tracker.frameworks`."""
        from memberscope.mlflow_adapter.log_model import FRAMEWORKS

        return frozenset(FRAMEWORKS)

    def model(self, model: Any, *, framework: str, input_shape: tuple[int, ...], classes: int) -> None:
        """See `Tracker.model`."""
        from memberscope.mlflow_adapter.log_model import FRAMEWORKS

        # made here, since Model.log would put it into the process's current experiment instead of the run's
        logged = self.client.create_logged_model(self.experiment_id, name="model", source_run_id=self.run_id)
        FRAMEWORKS[framework](model, run_id=self.run_id, model_id=logged.model_id, input_shape=input_shape, classes=classes)


class PendingTracker(MlflowTracker):
    """A run that is created when the first thing is logged to it; reading from it does not create it.

    Args:
        client: of the store.
        experiment_id: of the experiment that the run will belong to.
        name: of the run.
        first_tags: tags that the run is created with.
    """

    _name: str
    _tags: Mapping[str, str]

    def __init__(self, *, client: MlflowClient, experiment_id: str, name: str, first_tags: Mapping[str, str]) -> None:
        """Remember what the run will be created with."""
        for attribute, value in (("client", client), ("experiment_id", experiment_id), ("_name", name), ("_tags", first_tags)):
            object.__setattr__(self, attribute, value)  # the class is frozen

    def __repr__(self) -> str:
        """A text that does not create the run."""
        return f"{type(self).__name__}(name={self._name!r}, is_there={self.is_there})"

    @cached_property
    def run_id(self) -> str:
        """The run's id; the run is created when it is first asked for."""
        made = self.client.create_run(self.experiment_id, run_name=redact(self._name), tags=redact_values(self._tags))
        return str(made.info.run_id)

    @property
    def is_there(self) -> bool:
        """See `MlflowTracker.is_there`."""
        return "run_id" in self.__dict__

    def rename(self, name: str) -> None:
        """Rename the run, or set the name that it will be created with."""
        if self.is_there:
            super().rename(name)
        else:
            object.__setattr__(self, "_name", name)
