"""Runs read back, as `KeptRun`: what they logged, and those of their artifacts that a report shows.

Passwords that older versions left in them are masked.
"""

from __future__ import annotations

import io
import itertools
import json
import re
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memberscope.audit import artifacts
from memberscope.errors import UserError
from memberscope.redact import redact, redact_values
from memberscope.scores import KeptScores
from memberscope.sealed import OtherKey
from memberscope.secret import key
from memberscope.tracking import DataInput, KeptRun

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

TABLES = (
    artifacts.ATTACKS, artifacts.ROC, artifacts.ROC_BAND, artifacts.HISTORY, artifacts.MOST_EXPOSED, artifacts.EXPERIMENTS,
    artifacts.ORDERINGS, artifacts.GATE, artifacts.EXPOSURE, artifacts.EXPOSURE_SUMMARY,
)  # fmt: skip
TEXTS = (artifacts.STUDY, artifacts.CONFIG, artifacts.CONTROLS, artifacts.HEADLINE, artifacts.SUMMARY)
IMAGES = (artifacts.MOST_EXPOSED_FIGURE,)
BY_EPOCH = re.compile(r"(train|val)/.+|(auc|advantage)/threshold_loss")
RUN_ID = re.compile(r"[0-9a-f]{32}")


def read_run(client: MlflowClient, name: str, *, experiment_id: str) -> KeptRun:
    """The run of an id or a name, with its children.

    Args:
        client: of the store.
        name: an id of 32 hexadecimal digits, or a run's name.
        experiment_id: where a name is looked for first; then in all others.

    Raises:
        UserError: there is none, or several of that name (their ids are listed); of those that finished, where any did.
    """
    return _kept(client, _found(client, name, experiment_id))


def _found(client: MlflowClient, name: str, experiment_id: str) -> Run:
    from mlflow.exceptions import MlflowException

    if RUN_ID.fullmatch(name):
        try:
            return client.get_run(name)
        except MlflowException:
            raise UserError(
                f"runs={name}: there is no run of that id in this store; allowed: ids and names of its runs"
            ) from None
    quote = '"' if "'" in name else "'"
    query = f"attributes.run_name = {quote}{name}{quote}"
    everywhere = [found.experiment_id for found in client.search_experiments()]
    finished = " and attributes.status = 'FINISHED'"  # first: a name is often tried in vain before
    for wanted, place in itertools.product((query + finished, query), ([experiment_id], everywhere)):
        runs = client.search_runs(place, wanted, max_results=20)
        if len(runs) == 1:
            return runs[0]
        if runs:
            listed = ", ".join(f"{run.info.run_id} ({_when(run)}, {run.info.status})" for run in runs[:5])
            raise UserError(f"runs={name}: {len(runs)} runs have that name; allowed: the id of one: {listed}")
    raise UserError(f"runs={name}: there is no run of that name in this store; allowed: ids and names of its runs")


def _kept(client: MlflowClient, run: Run) -> KeptRun:
    run_id = run.info.run_id
    children = client.search_runs(
        [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'", order_by=["attributes.start_time ASC"]
    )
    with tempfile.TemporaryDirectory() as folder:
        files = _files(client, run_id, Path(folder))
        scores, sealed = _scores(files.get(artifacts.SCORES))
        return KeptRun(
            id=run_id,
            name=redact(run.info.run_name or run_id),
            status=run.info.status,
            started=_when(run),
            tags=redact_values(run.data.tags),
            params=redact_values(run.data.params),
            metrics=_metrics(client, run),
            tables={name: frame for name in TABLES if name in files and (frame := _table(files[name])) is not None},
            texts={name: redact(files[name].read_text(encoding="utf-8")) for name in TEXTS if name in files},
            images={name: files[name].read_bytes() for name in IMAGES if name in files},
            scores=scores,
            sealed=sealed,
            inputs=tuple(_inputs(run)),
            children=tuple(_kept(client, child) for child in children),
        )


def _scores(file: Path | None) -> tuple[KeptScores | None, bool]:
    """The scores of the records, and whether there are some that were written with another key."""
    if file is None:
        return None, False
    try:
        return KeptScores.load(file, key=key()), False
    except OtherKey:
        return None, True


def _files(client: MlflowClient, run_id: str, folder: Path) -> dict[str, Path]:
    """Local copies of the artifacts that are read, from the top or from our folder in another's run."""
    wanted = {*TABLES, *TEXTS, *IMAGES, artifacts.SCORES}
    found: dict[str, Path] = {}
    top = client.list_artifacts(run_id)
    ours = (
        client.list_artifacts(run_id, artifacts.FOLDER)
        if any(item.is_dir and item.path == artifacts.FOLDER for item in top)
        else []
    )
    for item in [*ours, *top]:
        name = item.path.removeprefix(f"{artifacts.FOLDER}/")
        if not item.is_dir and name in wanted:
            found[name] = Path(client.download_artifacts(run_id, item.path, str(folder)))
    return found


def _table(path: Path) -> Any:
    import pandas as pd

    text = redact(path.read_text(encoding="utf-8"))
    return pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""]) if text.strip() else None


def _metrics(client: MlflowClient, run: Run) -> Mapping[str, tuple[tuple[int, float], ...]]:
    """Each metric's last value, and the whole history of those that are followed by epoch."""
    found: dict[str, tuple[tuple[int, float], ...]] = {}
    for name, value in run.data.metrics.items():
        if BY_EPOCH.fullmatch(name):
            points = {point.step: point.value for point in client.get_metric_history(run.info.run_id, name)}
            found[name] = tuple(sorted(points.items()))
        else:
            found[name] = ((0, value),)
    return found


def _inputs(run: Run) -> list[DataInput]:
    found = []
    for given in run.inputs.dataset_inputs if run.inputs else []:
        context = next((tag.value for tag in given.tags if tag.key == "mlflow.data.context"), "")
        try:
            profile = json.loads(given.dataset.profile or "{}")
            source = redact(str(json.loads(given.dataset.source or "{}").get("tags", {}).get("source", "")))
        except (ValueError, AttributeError):
            profile, source = {}, ""
        shape = (profile.get("records", 0), *profile.get("shape", ()))
        found.append(
            DataInput(
                name=given.dataset.name.removesuffix(f"-{context}"), context=context, digest=given.dataset.digest, source=source,
                shape=shape, classes=profile.get("classes", 0),
            )
        )  # fmt: skip
    return found


def _when(run: Run) -> str:
    return datetime.fromtimestamp(run.info.start_time / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
