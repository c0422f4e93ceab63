"""The `Tracker` for a run that belongs to another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.models.evaluation.base import EvaluationArtifact

from memberscope import plots
from memberscope.audit.artifacts import FOLDER
from memberscope.errors import UserError
from memberscope.mlflow_adapter.batch import RunBatch
from memberscope.mlflow_adapter.tracker import MlflowTracker
from memberscope.redact import redact

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from memberscope.tracking import Plain


@dataclass(frozen=True, kw_only=True)
class ExistingRunTracker(MlflowTracker):
    """A tracker in a run that belongs to another: artifacts keep to a folder of ours, facts are tags, and the description stays.

    Facts are tags since a second evaluation in the same run could not change a param. What is logged is sent at the end of the block
    `batch.finishing()`.
    """

    batch: RunBatch
    sent: dict[str, float] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)

    @classmethod
    def in_run(cls, run_id: str) -> ExistingRunTracker:
        """In the run of that id.

        Raises:
            UserError: it is deleted.
        """
        import mlflow

        client = mlflow.MlflowClient()
        info = client.get_run(run_id).info
        if info.lifecycle_stage != "active":
            raise UserError(
                f"run {run_id} is deleted; allowed: restore it (mlflow runs restore --run-id {run_id}), or another run"
            )
        batch = RunBatch(client, run_id)
        return cls(batch=batch, outbox=batch, key=run_id, experiment_id=info.experiment_id)

    @contextmanager
    def child(self, name: str, *, tags: Mapping[str, str] | None = None, description: str = "") -> Iterator[MlflowTracker]:
        """The run itself: a guest begins no runs."""
        yield self

    def params(self, values: Mapping[str, Plain]) -> None:
        """As tags, under ``memberscope.``."""
        self.tags({f"memberscope.{name}": redact(str(value))[:500] for name, value in values.items()})

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """As `MlflowTracker.metrics`, and remembered for the result."""
        super().metrics(values, step=step)
        self.sent.update(values)

    def tags(self, values: Mapping[str, str]) -> None:
        """As `MlflowTracker.tags`, but for the kind of run, which is its owner's."""
        super().tags({name: value for name, value in values.items() if name != "memberscope.kind"})

    def describe(self, markdown: str) -> None:
        """Not ours to write; ``summary.md`` holds it."""

    def _ours(self, path: str) -> str:
        self.paths.append(path)
        return f"{FOLDER}/{path}"

    def figure(self, figure: Figure, path: str) -> bool:
        """See `Tracker.figure`; the pixels are compressed beside the work that follows."""
        with self._sending("file", self._ours(path)) as local:
            self.batch.write(plots.writer(figure, local))
        return True

    def text(self, text: str, path: str) -> None:
        """See `Tracker.text`."""
        super().text(text, self._ours(path))

    def file(self, local: Path, path: str) -> None:
        """See `Tracker.file`."""
        super().file(local, f"{FOLDER}/{path}")

    def table(self, frame: pd.DataFrame, path: str) -> None:
        """See `Tracker.table`."""
        if not path.endswith(".json"):  # MLflow would append to a table that is there; the CSV beside it holds more
            super().table(frame, self._ours(path))

    def artifacts(self) -> dict[str, EvaluationArtifact]:
        """What was logged, by name, for the result of an evaluation; contents are fetched when they are asked for."""
        from mlflow.models.evaluation.artifacts import CsvEvaluationArtifact, ImageEvaluationArtifact, TextEvaluationArtifact

        kinds: dict[str, Any] = {".csv": CsvEvaluationArtifact, ".png": ImageEvaluationArtifact, ".md": TextEvaluationArtifact}
        return {
            f"{FOLDER}/{path}": kinds[Path(path).suffix](uri=f"runs:/{self.run_id}/{FOLDER}/{path}")
            for path in dict.fromkeys(self.paths)
            if Path(path).suffix in kinds
        }
