"""Where results go: the small interface that studies write to, and an implementation in memory.

Studies never import MLflow: they are given a `Tracker`. The one in `memberscope.mlflow_adapter` logs to MLflow; `MemoryTracker` is for
tests and notebooks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from memberscope.clock import Clock
from memberscope.errors import UserError
from memberscope.redact import redact_values
from memberscope.scores import KeptScores

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

Plain = int | float | str | bool


@dataclass(frozen=True, kw_only=True)
class DataInput:
    """One split of a data set, as a run's inputs list it.

    Attributes:
        name: the name of the data set.
        context: ``member``, ``nonmember``, ``validation``, ``shadow`` or ``population``; ``all`` for a study's whole data set.
        digest: our digest of all of the split's records and labels.
        source: where the data came from, for people.
        shape: the split's shape (n, ...).
        classes: the number of classes.
    """

    name: str
    context: str
    digest: str
    source: str
    shape: tuple[int, ...]
    classes: int


class LoadedModel(Protocol):
    """A model from another program, loaded and ready for queries."""

    @property
    def facts(self) -> Mapping[str, str]:
        """What is known about it, for params and people: ``uri``, ``flavour``, ``method``, ``uuid``, ...."""

    @property
    def classes(self) -> Sequence[Any] | None:
        """The label of each column of its scores; None where the model does not state them."""

    @property
    def columns(self) -> Mapping[str, str] | None:
        """The columns of a table that it uses, with MLflow's name for the type of each (empty where unknown); None for all columns."""

    def check_columns(self, columns: Sequence[str], *, name: str) -> None:
        """Raise UserError, whose text starts with `name`, if a table with these columns lacks one that the model needs."""

    def prepare(self, x: NDArray[Any] | pd.DataFrame, *, name: str) -> tuple[Any, str]:
        """Records as the model's signature requires them, and a note on the changes; UserError, naming columns, if they do not fit."""

    def predict(self, x: Any) -> Any:
        """The raw output for prepared records; UserError if the model fails on them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptRun:
    """A stored run.

    Attributes:
        id, name, status: as in MLflow.
        started: when it started, for people.
        tags, params: as logged.
        metrics: name -> (step, value) in order of step.
        tables: path -> frame of each CSV artifact at the top.
        texts: path -> text of each ``.json`` and ``.md`` artifact at the top.
        images: path -> bytes of each PNG artifact at the top.
        scores: the records' scores, if they were stored and can be read.
        sealed: whether scores were stored with another key.
        inputs: the data sets that it lists.
        children: its nested runs, oldest first.
    """

    id: str
    name: str
    status: str = "FINISHED"
    started: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, bytes] = field(default_factory=dict)
    scores: KeptScores | None = None
    sealed: bool = False
    inputs: Sequence[DataInput] = ()
    children: Sequence[KeptRun] = ()


class Tracker(Protocol):
    """One run. In names of metrics, the metric comes first and the attack last (``auc/threshold_loss``)."""

    @property
    def about(self) -> Mapping[str, str]:
        """What is known of the run without asking the store: its ``id`` and ``name``, and tags that it was created with."""

    @property
    def clock(self) -> Clock:
        """What the run's time is spent on."""

    @property
    def address(self) -> str:
        """A plain text by which another process can find this run."""

    def settle(self, address: str, status: str, *, adopt: bool = False) -> None:
        """End a run of another process, which may be gone, as ``FINISHED`` or ``KILLED``; `adopt` makes it a child of this run."""

    def child(self, name: str, *, tags: Mapping[str, str] | None = None, description: str = "") -> Any:
        """A context manager that yields a `Tracker` for a nested run; it ends FINISHED, KILLED or FAILED, as the block does."""

    def params(self, values: Mapping[str, Plain]) -> None:
        """Log parameters once."""

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Log metrics at a step (an epoch). ValueError if one is NaN or infinite."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""

    def describe(self, markdown: str) -> None:
        """Set the run's description."""

    def figure(self, figure: Figure, path: str) -> bool:
        """Save a figure as an artifact and close it. Returns True if only its pixels were kept, so that the caller may reuse the object."""

    def text(self, text: str, path: str) -> None:
        """Save text as an artifact."""

    def file(self, local: Path, path: str) -> None:
        """Save a copy of a file as an artifact under `path`, for files such as ``.npz`` that programs read and the UI cannot show."""

    def table(self, frame: pd.DataFrame, path: str) -> None:
        """Save a table as a CSV artifact; a path that ends in ``.json`` becomes a table that can be compared across runs."""

    def data(self, data: DataInput) -> None:
        """List a data set among the run's inputs."""

    @property
    def frameworks(self) -> frozenset[str]:
        """The frameworks whose models `model` takes."""

    def model(self, model: Any, *, framework: str, input_shape: tuple[int, ...], classes: int) -> None:
        """Save a model of one of the `frameworks` with its signature; never with a real record as its example."""

    def load_model(self, uri: str, *, prefer_labels: bool = False) -> LoadedModel:
        """Load a logged model, which runs its code. UserError if the URI does not resolve or its libraries are not installed."""

    def read_run(self, name: str) -> KeptRun:
        """Read back a run, by id or name, with its children. UserError if there is no such run, or several have that name."""


def check_finite(values: Mapping[str, float]) -> None:
    """Raise ValueError, with the name, if a metric is NaN or infinite: MLflow would accept it and plot nothing."""
    for name, value in values.items():
        if not float("-inf") < value < float("inf"):
            raise ValueError(f"metric {name} is {value}")


@dataclass(kw_only=True)
class MemoryTracker:
    """A run in memory, with everything that was logged to it."""

    name: str = "run"
    status: str = "RUNNING"
    description: str = ""
    logged_params: dict[str, Plain] = field(default_factory=dict)
    logged_metrics: dict[str, dict[int, float]] = field(default_factory=dict)
    logged_tags: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, Any] = field(default_factory=dict)
    inputs: list[DataInput] = field(default_factory=list)
    frameworks: frozenset[str] = frozenset({"keras"})
    models: list[tuple[tuple[int, ...], int]] = field(default_factory=list)
    children: list[MemoryTracker] = field(default_factory=list)
    loadable: dict[str, LoadedModel] = field(default_factory=dict)
    kept: dict[str, KeptRun] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)

    @property
    def about(self) -> Mapping[str, str]:
        """See `Tracker.about`."""
        return {"name": self.name}

    @property
    def address(self) -> str:
        """See `Tracker.address`; it is valid only in this process."""
        return f"memory:{id(self)}"

    def settle(self, address: str, status: str, *, adopt: bool = False) -> None:
        """See `Tracker.settle`; it looks for the run among this one's children."""
        for run in self.children:
            if run.address == address:
                run.status = status

    @contextmanager
    def child(self, name: str, *, tags: Mapping[str, str] | None = None, description: str = "") -> Iterator[MemoryTracker]:
        """See `Tracker.child`."""
        run = MemoryTracker(name=name, description=description, logged_tags=dict(tags or {}))
        self.children.append(run)
        try:
            yield run
        except BaseException:
            run.status = "FAILED"
            raise
        run.status = "FINISHED"

    def params(self, values: Mapping[str, Plain]) -> None:
        """See `Tracker.params`; a second value under one name is a ValueError, as in MLflow."""
        for name, value in values.items():
            if self.logged_params.setdefault(name, value) != value:
                raise ValueError(f"param {name} is {self.logged_params[name]} and cannot be changed to {value}")

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """See `Tracker.metrics`."""
        check_finite(values)
        for name, value in values.items():
            self.logged_metrics.setdefault(name, {})[step] = float(value)

    def tags(self, values: Mapping[str, str]) -> None:
        """See `Tracker.tags`."""
        self.logged_tags.update(values)

    def describe(self, markdown: str) -> None:
        """See `Tracker.describe`."""
        self.description = markdown

    def figure(self, figure: Figure, path: str) -> bool:
        """See `Tracker.figure`; the figure itself is kept."""
        from matplotlib import pyplot

        self.artifacts[path] = figure
        pyplot.close(figure)
        return False

    def text(self, text: str, path: str) -> None:
        """See `Tracker.text`."""
        self.artifacts[path] = text

    def file(self, local: Path, path: str) -> None:
        """See `Tracker.file`."""
        self.artifacts[path] = local.read_bytes()

    def table(self, frame: pd.DataFrame, path: str) -> None:
        """See `Tracker.table`."""
        self.artifacts[path] = frame

    def data(self, data: DataInput) -> None:
        """See `Tracker.data`."""
        self.inputs.append(data)

    def model(self, model: Any, *, framework: str, input_shape: tuple[int, ...], classes: int) -> None:
        """See `Tracker.model`."""
        self.models.append((input_shape, classes))

    def load_model(self, uri: str, *, prefer_labels: bool = False) -> LoadedModel:
        """See `Tracker.load_model`; returns a model that a test put into `loadable`."""
        if uri not in self.loadable:
            raise UserError(f"model_uri={uri}: does not resolve")
        return self.loadable[uri]

    def read_run(self, name: str) -> KeptRun:
        """See `Tracker.read_run`; returns a run that a test put into `kept`."""
        if name not in self.kept:
            raise UserError(f"runs={name}: there is no such run")
        return self.kept[name]

    def latest(self, name: str) -> float:
        """The value of a metric at its last step."""
        steps = self.logged_metrics[name]
        return steps[max(steps)]


def as_json(values: Mapping[str, Any]) -> str:
    """JSON for an artifact: indented, keys in their order, passwords masked."""
    return json.dumps(redact_values(values), indent=2) + "\n"
