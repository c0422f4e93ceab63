"""Runs read back, as `KeptRun`: what they logged, and those of their artifacts that a report shows.

Passwords that older versions left in them are masked.
"""

from __future__ import annotations

import itertools
import math
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from memberscope.audit import artifacts, kept_statement, kept_tables
from memberscope.audit.headline import Headline
from memberscope.errors import GateTripped, GateUndecided, UserError, one_line
from memberscope.reading.files import check_file, read_text
from memberscope.reading.text import json_object, plain_object
from memberscope.redact import redact, redact_values
from memberscope.scores import KeptScores
from memberscope.sealed import OtherKey
from memberscope.secret import key
from memberscope.tracking import DataInput, KeptRun

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

TABLES = tuple(kept_tables.TABLES)
TEXTS = (artifacts.STUDY, artifacts.CONFIG, artifacts.CONTROLS, artifacts.HEADLINE, artifacts.SUMMARY, artifacts.RISK_STATEMENT)
IMAGES = (artifacts.MOST_EXPOSED_FIGURE,)
BY_EPOCH = re.compile(r"(train|val)/.+|(auc|advantage)/threshold_loss")
RUN_ID = re.compile(r"[0-9a-f]{32}")
COMPLETE = (
    "attributes.status = 'FINISHED'",
    *(f"tags.`memberscope.exit_code` = '{gate.exit_code}'" for gate in (GateTripped, GateUndecided)),
)
"""Which runs have all of their results; one whose gate tripped or was undecided has them, although its status is FAILED."""
ALLOWED = "a run as memberscope logged it"
PNG = b"\x89PNG\r\n\x1a\n"
MOST_TABLE = 256 << 20  # bytes of a table
MOST_IMAGE = 64 << 20
MOST_GENERATIONS = 20  # of runs within runs


def read_run(client: MlflowClient, name: str, *, experiment_id: str) -> KeptRun:
    """The run of an id or a name, with its children.

    Args:
        client: of the store.
        name: an id of 32 hexadecimal digits, or a run's name.
        experiment_id: where a name is looked for first; then in all others.

    Raises:
        UserError: there is none, or several of that name (their ids are listed). Where any of them is complete, only those that are
            count: they finished, or failed at their gate alone, which comes after all results.
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
    everywhere = [found.experiment_id for found in _all(client.search_experiments)]
    for conditions, place in itertools.product(
        (COMPLETE, ("",)), ([experiment_id], everywhere)
    ):  # in this experiment before all others, and complete runs before those that were cut off
        found = {run.info.run_id: run for condition in conditions for run in _named(client, name, condition, place)}
        runs = sorted(found.values(), key=lambda run: run.info.start_time, reverse=True)
        if len(runs) == 1:
            return runs[0]
        if runs:
            listed = ", ".join(f"{run.info.run_id} ({_when(run)}, {run.info.status})" for run in runs[:5])
            raise UserError(f"runs={name}: {len(runs)} runs have that name; allowed: the id of one: {listed}")
    raise UserError(f"runs={name}: there is no run of that name in this store; allowed: ids and names of its runs")


def _named(client: MlflowClient, name: str, condition: str, place: list[str]) -> list[Run]:
    """At most twenty runs of a name, of those that meet a condition if one is given."""
    conditions = [condition] if condition else []
    if not {"'", '"'} <= set(name):
        quote = '"' if "'" in name else "'"
        conditions = [f"attributes.run_name = {quote}{name}{quote}", *conditions]
        return list(client.search_runs(place, " and ".join(conditions), max_results=20))
    every = _all(client.search_runs, place, " and ".join(conditions))  # MLflow's filters cannot hold a name with both quotes
    return list(itertools.islice((run for run in every if run.info.run_name == name), 20))


def _all(search: Callable[..., Any], *arguments: Any, **options: Any) -> Iterator[Any]:
    """Everything that a search of MLflow's finds, page by page."""
    token = None
    while True:
        page = search(*arguments, **options, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _kept(client: MlflowClient, run: Run, above: tuple[str, ...] = ()) -> KeptRun:
    """A run with its children; `above` are the ids of the runs that it lies in, none of which is read again."""
    run_id, name = run.info.run_id, redact(run.info.run_name or run.info.run_id)
    if len(above) >= MOST_GENERATIONS:
        raise UserError(f"runs={name}: a run within {len(above)} others; allowed: at most {MOST_GENERATIONS}")
    children = _all(
        client.search_runs, [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'", order_by=["attributes.start_time ASC"]
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        files = _files(client, name, run_id, Path(folder))
        where = f"run {name}"
        texts = {one: _text(files[one], f"{where}: {one}") for one in TEXTS if one in files}
        tables = {
            one: frame for one in TABLES if one in files and (frame := _table(files[one], one, f"{where}: {one}")) is not None
        }
        if artifacts.HEADLINE in texts and artifacts.ATTACKS in tables:
            found = Headline.from_json(texts[artifacts.HEADLINE])
            kept_tables.check_headline(found, tables[artifacts.ATTACKS], where=where, allowed=ALLOWED)
        scores, sealed = _scores(files.get(artifacts.SCORES), where)
        return KeptRun(
            id=run_id,
            name=name,
            status=run.info.status,
            started=_when(run),
            tags=redact_values(run.data.tags),
            params=redact_values(run.data.params),
            metrics=_metrics(client, run),
            tables=tables,
            texts=texts,
            images={one: _image(files[one], f"{where}: {one}") for one in IMAGES if one in files},
            scores=scores,
            sealed=sealed,
            inputs=tuple(_inputs(run)),
            children=tuple(
                _kept(client, child, (*above, run_id)) for child in children if child.info.run_id not in (*above, run_id)
            ),
        )


def _text(path: Path, where: str) -> str:
    """A text artifact; UserError for JSON that is no object, or no headline or risk statement of an audit."""
    text = redact(read_text(path, where=where, allowed=ALLOWED))
    if path.suffix == ".json" and (text.strip() or path.name in (artifacts.HEADLINE, artifacts.RISK_STATEMENT)):
        json_object(text, where=where, allowed=ALLOWED)
    if reader := {artifacts.HEADLINE: Headline.from_json, artifacts.RISK_STATEMENT: kept_statement.read}.get(path.name):
        try:
            reader(text)
        except ValueError as error:
            raise UserError(f"{where} is damaged ({error}); allowed: {ALLOWED}") from None
    return text


def _table(path: Path, name: str, where: str) -> Any:
    text = redact(read_text(path, where=where, allowed=ALLOWED, most=MOST_TABLE))
    return kept_tables.read(name, text, where=where, allowed=ALLOWED)


def _image(path: Path, where: str) -> bytes:
    if check_file(path, where=where, allowed=ALLOWED) > MOST_IMAGE:
        raise UserError(f"{where}: more than {MOST_IMAGE:,} bytes; allowed: {ALLOWED}")
    content = path.read_bytes()
    if not content.startswith(PNG):
        raise UserError(f"{where} is not a PNG file; allowed: {ALLOWED}")
    return content


def _scores(file: Path | None, where: str) -> tuple[KeptScores | None, bool]:
    """The scores of the records, and whether there are some that were written with another key."""
    if file is None:
        return None, False
    try:
        return KeptScores.load(file, key=key()), False
    except OtherKey:
        return None, True
    except UserError as error:
        raise UserError(f"{where}: {str(error).replace(str(file), artifacts.SCORES)}") from None


def _files(client: MlflowClient, name: str, run_id: str, folder: Path) -> dict[str, Path]:
    """Local copies of the artifacts that are read: in another's run those in our folder, else those at the top.

    Raises:
        UserError: an artifact cannot be fetched.
    """
    from mlflow.exceptions import MlflowException

    wanted = {*TABLES, *TEXTS, *IMAGES, artifacts.SCORES}
    found: dict[str, Path] = {}
    try:
        items = client.list_artifacts(run_id)
        if any(item.is_dir and item.path == artifacts.FOLDER for item in items):
            items = client.list_artifacts(run_id, artifacts.FOLDER)  # those at the top are the owner's, whatever their names
        for item in items:
            one = item.path.removeprefix(f"{artifacts.FOLDER}/")
            if not item.is_dir and one in wanted:
                found[one] = Path(client.download_artifacts(run_id, item.path, str(folder)))
    except (MlflowException, OSError) as error:
        raise UserError(
            f"run {name}: its artifacts cannot be read ({one_line(str(error))[:200]}); allowed: {ALLOWED}"
        ) from None
    return found


def _metrics(client: MlflowClient, run: Run) -> Mapping[str, tuple[tuple[int, float], ...]]:
    """Each metric's last value, and the whole history of those that are followed by epoch."""
    found: dict[str, tuple[tuple[int, float], ...]] = {}
    for name, value in run.data.metrics.items():
        if BY_EPOCH.fullmatch(name):
            points = {point.step: point.value for point in client.get_metric_history(run.info.run_id, name)}
            found[name] = tuple(sorted((step, one) for step, one in points.items() if math.isfinite(one)))
        elif math.isfinite(value):  # ours always are
            found[name] = ((0, value),)
    return found


def _inputs(run: Run) -> list[DataInput]:
    """The data sets that a run lists; another program's have no number of records or classes that we know."""
    found = []
    for given in run.inputs.dataset_inputs if run.inputs else []:
        context = next((tag.value for tag in given.tags if tag.key == "mlflow.data.context"), "")
        profile, source = plain_object(given.dataset.profile), plain_object(given.dataset.source)
        tags, shape, records = source.get("tags"), profile.get("shape"), profile.get("records")
        axes = [records, *(shape if isinstance(shape, list) else [])]
        known = tuple(axis for axis in axes if _is_count(axis))
        found.append(
            DataInput(
                name=given.dataset.name.removesuffix(f"-{context}"), context=context, digest=given.dataset.digest,
                source=redact(str(tags.get("source", ""))) if isinstance(tags, dict) else "",
                shape=known if len(known) == len(axes) and isinstance(shape, list) else (known[:1] if _is_count(records) else (0,)),
                classes=profile["classes"] if _is_count(profile.get("classes")) else 0,
            )
        )  # fmt: skip
    return found


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < 2**53


def _when(run: Run) -> str:
    """When a run started, for people; empty if it has no such time."""
    try:
        return datetime.fromtimestamp(run.info.start_time / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (TypeError, ValueError, OverflowError, OSError):
        return ""
