"""The `Tracker` for a run that another program started."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.models.evaluation.base import EvaluationArtifact

from memberscope.audit.artifacts import FOLDER
from memberscope.mlflow_adapter.tracker import MlflowTracker

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from memberscope.tracking import Plain


@dataclass(frozen=True, kw_only=True)
class ExistingRunTracker(MlflowTracker):
    """A tracker for a run that another program started: artifacts go into our own folder, params become tags, the description is untouched.

    Params become tags because a second evaluation in the same run could not change a param.
    """

    sent: dict[str, float] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)

    @classmethod
    def in_run(cls, run_id: str) -> ExistingRunTracker:
        """A tracker for the run with that id."""
        import mlflow

        client = mlflow.MlflowClient()
        return cls(client=client, run_id=run_id, experiment_id=client.get_run(run_id).info.experiment_id)

    @contextmanager
    def child(self, name: str, *, tags: Mapping[str, str] | None = None, description: str = "") -> Iterator[MlflowTracker]:
        """Yield this tracker itself: no runs are started inside another program's run."""
        yield self

    def params(self, values: Mapping[str, Plain]) -> None:
        """Log the params as tags, with the prefix ``memberscope.``."""
        self.tags({f"memberscope.{name}": str(value)[:500] for name, value in values.items()})

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """As `MlflowTracker.metrics`; the metrics are also remembered for the evaluation's result."""
        super().metrics(values, step=step)
        self.sent.update(values)

    def tags(self, values: Mapping[str, str]) -> None:
        """As `MlflowTracker.tags`, except for the tag with the kind of run, which its owner sets."""
        super().tags({name: value for name, value in values.items() if name != "memberscope.kind"})

    def describe(self, markdown: str) -> None:
        """Do nothing: the description belongs to the run's owner. ``summary.md`` has the same text."""

    def _ours(self, path: str) -> str:
        self.paths.append(path)
        return f"{FOLDER}/{path}"

    def figure(self, figure: Figure, path: str) -> None:
        """See `Tracker.figure`."""
        super().figure(figure, self._ours(path))

    def text(self, text: str, path: str) -> None:
        """See `Tracker.text`."""
        super().text(text, self._ours(path))

    def file(self, local: Path, path: str) -> None:
        """See `Tracker.file`."""
        super().file(local, f"{FOLDER}/{path}")

    def table(self, frame: pd.DataFrame, path: str) -> None:
        """See `Tracker.table`."""
        if not path.endswith(".json"):  # MLflow would append to an existing table; the CSV next to it holds more
            super().table(frame, self._ours(path))

    def artifacts(self) -> dict[str, EvaluationArtifact]:
        """The logged artifacts by name, for the result of an evaluation; their contents are fetched on access."""
        from mlflow.models.evaluation.artifacts import CsvEvaluationArtifact, ImageEvaluationArtifact, TextEvaluationArtifact

        kinds: dict[str, Any] = {".csv": CsvEvaluationArtifact, ".png": ImageEvaluationArtifact, ".md": TextEvaluationArtifact}
        return {
            f"{FOLDER}/{path}": kinds[Path(path).suffix](uri=f"runs:/{self.run_id}/{FOLDER}/{path}")
            for path in dict.fromkeys(self.paths)
            if Path(path).suffix in kinds
        }
