"""What a study logs, kept in memory as well, so that its evidence file can be made without reading anything from the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from memberscope.audit import artifacts, kept_tables
from memberscope.clock import Clock, Stage
from memberscope.config import Config
from memberscope.interrupt import StopFlag
from memberscope.report import evidence
from memberscope.studies.result import StudyResult
from memberscope.tracking import DataInput, KeptRun, LoadedModel, Plain, Tracker

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_Config = TypeVar("_Config", bound=Config)
OF_RECORDS = {artifacts.MOST_EXPOSED, artifacts.EXPOSURE}  # tables of single records, which no evidence file has
TABLES = set(kept_tables.TABLES) - OF_RECORDS
TEXTS = {artifacts.STUDY, artifacts.CONFIG, artifacts.CONTROLS, artifacts.HEADLINE, artifacts.RISK_STATEMENT}
ALLOWED = "what the study logged"


def writes_evidence(
    study: str, *, children: bool = True
) -> Callable[[Callable[[_Config, Tracker, StopFlag], StudyResult]], Callable[[_Config, Tracker, StopFlag], StudyResult]]:
    """Decorate a study's `run`: once it is through, its evidence file is logged to its run and, if it had a gate, the gate as JUnit XML.

    Args:
        study: the name of the entry point.
        children: whether the evidence file holds the runs of its models as well. Those of a sweep are logged by its workers, which may be
            other processes; its tables have a row for each.
    """

    def decorated(
        run: Callable[[_Config, Tracker, StopFlag], StudyResult],
    ) -> Callable[[_Config, Tracker, StopFlag], StudyResult]:
        @wraps(run)
        def recorded(config: _Config, tracker: Tracker, stop: StopFlag) -> StudyResult:
            recorder = Recorder.over(tracker, study=study)
            result = run(config, recorder, stop)
            log_evidence(recorder, study=study, status="FAILED" if result.gate is not None else "FINISHED", children=children)
            return result

        return recorded

    return decorated


def log_evidence(recorder: Recorder, *, study: str, status: str, children: bool = True) -> None:
    """Log the evidence file of what was recorded, and the gate as JUnit XML if there was one."""
    document = evidence.written([recorder.kept(status=status, children=children)], study=study)
    recorder.text(evidence.to_json(document), artifacts.EVIDENCE)
    if document["summary"]["gate"] is not None:
        from memberscope.report.formats import junit

        recorder.text(junit.text_of(document), artifacts.GATE_JUNIT)


@dataclass(kw_only=True, eq=False)
class Recorder:
    """A `Tracker` that passes everything on to another, and keeps of it what an evidence file holds.

    Attributes:
        inner: the tracker that logs.
        name: the name of the run.
        number: tells the run apart within the file where its id is not known, since the store is away.
        status: how the run ended, as far as that is known.
    """

    inner: Tracker
    name: str
    number: str = "1"
    status: str = "FINISHED"
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    kept_tags: dict[str, str] = field(default_factory=dict)
    kept_params: dict[str, str] = field(default_factory=dict)
    kept_metrics: dict[str, dict[int, float]] = field(default_factory=dict)
    kept_tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    kept_texts: dict[str, str] = field(default_factory=dict)
    kept_inputs: list[DataInput] = field(default_factory=list)
    kept_children: list[Recorder] = field(default_factory=list)

    @classmethod
    def over(cls, tracker: Tracker, *, study: str) -> Recorder:
        """A recorder of a study's run, which `tracker` logs."""
        about = tracker.about
        tags = {"memberscope.study": study, **{name: value for name, value in about.items() if name.startswith("memberscope.")}}
        return cls(inner=tracker, name=about.get("name", "") or study, kept_tags=tags)

    def kept(self, *, status: str = "", children: bool = True) -> KeptRun:
        """The run as it would be read back from the store."""
        return KeptRun(
            id=self.inner.about.get("id", "") or self.number, name=self.name, status=status or self.status,
            started=self.started.strftime("%Y-%m-%d %H:%M UTC"), tags=self.kept_tags, params=self.kept_params,
            metrics={name: tuple(sorted(steps.items())) for name, steps in self.kept_metrics.items()},
            tables={
                path: kept_tables.of_rows(path, frame, where=path, allowed=ALLOWED)
                for path, frame in self.kept_tables.items()
                if len(frame)
            },
            texts=self.kept_texts, inputs=tuple(self.kept_inputs),
            children=tuple(child.kept() for child in self.kept_children) if children else (),
        )  # fmt: skip

    @property
    def clock(self) -> Clock:
        """See `Tracker.clock`."""
        return self.inner.clock

    @property
    def about(self) -> Mapping[str, str]:
        """See `Tracker.about`."""
        return self.inner.about

    @property
    def address(self) -> str:
        """See `Tracker.address`."""
        return self.inner.address

    def settle(self, address: str, status: str, *, adopt: bool = False) -> None:
        """See `Tracker.settle`."""
        self.inner.settle(address, status, adopt=adopt)

    @contextmanager
    def child(self, name: str, *, tags: Mapping[str, str] | None = None, description: str = "") -> Iterator[Recorder]:
        """See `Tracker.child`."""
        with self.inner.child(name, tags=tags, description=description) as inner:
            number = f"{self.number}.{len(self.kept_children) + 1}"
            run = Recorder(inner=inner, name=name, number=number, status="FAILED", kept_tags=dict(tags or {}))
            self.kept_children.append(run)
            yield run
            run.status = "FINISHED"

    def params(self, values: Mapping[str, Plain]) -> None:
        """See `Tracker.params`."""
        with self.clock.stage(Stage.TRACKING):
            self.inner.params(values)
        self.kept_params |= {name: str(value) for name, value in values.items()}

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """See `Tracker.metrics`."""
        with self.clock.stage(Stage.TRACKING):
            self.inner.metrics(values, step=step)
        for name, value in values.items():
            self.kept_metrics.setdefault(name, {})[step] = float(value)

    def tags(self, values: Mapping[str, str]) -> None:
        """See `Tracker.tags`."""
        with self.clock.stage(Stage.TRACKING):
            self.inner.tags(values)
        self.kept_tags |= values

    def describe(self, markdown: str) -> None:
        """See `Tracker.describe`."""
        with self.clock.stage(Stage.TRACKING):
            self.inner.describe(markdown)

    def figure(self, figure: Figure, path: str) -> bool:
        """See `Tracker.figure`."""
        with self.clock.stage(Stage.TRACKING):
            return self.inner.figure(figure, path)

    def text(self, text: str, path: str) -> None:
        """See `Tracker.text`."""
        with self.clock.stage(Stage.TRACKING):
            self.inner.text(text, path)
        if path in TEXTS:
            self.kept_texts[path] = text

    def file(self, local: Path, path: str) -> None:
        """See `Tracker.file`."""
        with self.clock.stage(Stage.TRACKING):
            self.inner.file(local, path)

    def table(self, frame: pd.DataFrame, path: str) -> None:
        """See `Tracker.table`."""
        with self.clock.stage(Stage.TRACKING):
            self.inner.table(frame, path)
        if path in TABLES:
            self.kept_tables[path] = frame.copy()

    def data(self, data: DataInput) -> None:
        """See `Tracker.data`."""
        with self.clock.stage(Stage.TRACKING):
            self.inner.data(data)
        self.kept_inputs.append(data)

    @property
    def frameworks(self) -> frozenset[str]:
        """See `Tracker.frameworks`."""
        return self.inner.frameworks

    def model(self, model: Any, *, framework: str, input_shape: tuple[int, ...], classes: int) -> None:
        """See `Tracker.model`."""
        with self.clock.stage(Stage.TRACKING):
            self.inner.model(model, framework=framework, input_shape=input_shape, classes=classes)

    def load_model(self, uri: str, *, prefer_labels: bool = False) -> LoadedModel:
        """See `Tracker.load_model`."""
        return self.inner.load_model(uri, prefer_labels=prefer_labels)

    def read_run(self, name: str) -> KeptRun:
        """See `Tracker.read_run`."""
        return self.inner.read_run(name)
