"""Kept runs as an evidence document: plain values for JSON, without anything about single records and without seeds."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from memberscope import __version__
from memberscope.audit import artifacts, kept_controls, kept_tables
from memberscope.metrics import registry
from memberscope.reading.text import plain_object
from memberscope.redact import redact_values
from memberscope.report import bounds, facts, figures, risk, settings
from memberscope.report.compare import Pair
from memberscope.tracking import DataInput, KeptRun

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = "1.0"
Document = dict[str, Any]
"""An evidence document as plain values; ``evidence.schema.json`` says what each field means."""

SEED, REPLICATE = "seed", "replicate"  # a column of a table, and what stands in its place in a document
SECRET = {"plan.digest"}  # with a guess of the seed, it would confirm who was a member
STATES = {"exposure/records": "records", "exposure/shown": "shown"}  # metric -> field of a run's exposure
TABLES = {artifacts.EXPERIMENTS: "experiments", artifacts.BOUNDS: "bounds", **kept_tables.STUDIES}
RESULT = ("attack", "family", "slice", "metric", "value", "ci_low", "ci_high", "n_member", "n_nonmember", "status", "reason")
RULE = (
    "rule", "attack", "slice", "metric", "limit", "value", "ci_low", "ci_high", "ceiling", "can_trip", "p_above", "p_within", "verdict",
    "records", "reason",
)  # fmt: skip
VERDICTS = ("trip", "pass", "undecided", "ignored")
EPOCH = ("epoch", "train_accuracy", "val_accuracy", "train_loss", "val_loss", "auc", "advantage")
WHOLE = ("records", "epoch", "n_member", "n_nonmember", REPLICATE)
_SEED_OPTION = re.compile(r"\s*--seed(?:=|\s+)(?:'[^']*'|\S+)")


def written(runs: Sequence[KeptRun], *, study: str, title: str = "", pairs: Sequence[Pair] = ()) -> Document:
    """The document of these runs.

    Args:
        runs: in the requested order; a study is included with its models.
        study: the study that writes the document.
        title: of the page.
        pairs: runs compared with the first, see `memberscope.report.page.pairs_of`.

    Seeds are numbered from 1 in their order over all runs, so that runs which share their draws can still be paired.
    """
    numbers = {seed: number for number, seed in enumerate(sorted(set(_seeds(runs))), 1)}
    document = {
        "schema_version": SCHEMA_VERSION, "made_by": {"name": "memberscope", "version": __version__}, "study": study, "title": title,
        "summary": _summary(runs, numbers), "runs": [_run(run, numbers) for run in runs],
    }  # fmt: skip
    if pairs:
        document["comparisons"] = [_comparison(pair) for pair in pairs]
    found: Document = redact_values(document)
    return found


def to_json(document: Document) -> str:
    """The text of a document."""
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _run(run: KeptRun, numbers: Mapping[int, int]) -> Document:
    """A run; what it does not have is left out."""
    versions = plain_object(run.tags.get("memberscope.versions"))
    fields: Document = {
        "id": run.id, "name": _name(run, numbers), "study": run.tags.get("memberscope.study", ""), "status": run.status,
        "started": run.started, "setting": _setting(run, numbers),
        **(_audit(run) if artifacts.ATTACKS in run.tables else {}),
        "controls": _controls(run), "gate": _gate(run), "history": _history(run),
        "promise": run.tags.get(bounds.VERDICT, ""), "overfit_onset_epoch": _last(run, "overfit_onset_epoch"), "exposure": _exposure(run),
        "data": [_data(part) for part in run.inputs], "settings": _without_seeds(facts.settings(run)), "facts": _without_seeds(run.params),
        "versions": {str(name): str(version) for name, version in versions.items()},
        "command": _SEED_OPTION.sub("", run.tags.get("memberscope.command", "")), "code": run.tags.get("mlflow.source.git.commit", ""),
        "tables": {
            name: _rows(run.tables[path], numbers) for path, name in TABLES.items() if path in run.tables and len(run.tables[path])
        },
        "children": [_run(child, numbers) for child in run.children],
    }  # fmt: skip
    return {name: value for name, value in fields.items() if value not in (None, "", [], {})}


def _audit(run: KeptRun) -> Document:
    """The finding, the sizes, the metrics and the curves of a run that has an audit."""
    found, (members, nonmembers) = facts.headline(run), facts.sizes(run)
    finding: Document = {"verdict": facts.judged(run)}
    if found is not None:
        primary = json.loads(found.to_json())
        primary["metrics"] = primary.pop("figures")
        finding["primary"] = primary
    fields: Document = {
        "finding": finding,
        "sizes": {"members": members, "nonmembers": nonmembers, "unit": "groups" if facts.grouped(run) else "records"},
        "results": _rows(run.tables[artifacts.ATTACKS], {}, RESULT),
    }
    if (statement := risk.kept(run)) is not None:
        fields["risk_statement"] = statement.to_dict()
    points = run.tables.get(artifacts.ROC)
    if points is not None and len(points):
        fields["curves"] = [
            {"attack": str(name), **{axis: _numbers(part[axis]) for axis in ("fpr", "tpr")}}
            for name, part in points.groupby("attack", sort=False)
        ]
        band = None if found is None else figures.band(run, found.attack)
        if found is not None and band is not None and len(band):
            fields["band"] = {"attack": found.attack} | {axis: _numbers(band[axis]) for axis in ("fpr", "low", "high")}
    return fields


def _controls(run: KeptRun) -> Document:
    """Each control with its values and its sentence. One that an older version stored as a sentence gets the value that is read from it."""
    stored = plain_object(run.texts.get(artifacts.CONTROLS))
    found: Document = {}
    for name, control in kept_controls.read(run.texts.get(artifacts.CONTROLS, "")).items():
        values = stored[name] if isinstance(stored.get(name), dict) else {}
        found[name] = {str(key): _plain(value) for key, value in values.items() if not isinstance(value, dict | list)}
        found[name]["text"] = control.text
        if control.differs or control.derived:
            found[name] |= {"differs": control.differs, "derived": control.derived}
    return found


def _gate(run: KeptRun) -> Document | None:
    """The gate's outcome and its rules; None if the audit had none, or another program's."""
    decided, rules = facts.gate(run), run.tables.get(artifacts.GATE)
    if decided is None or decided.outcome not in facts.OUTCOMES:
        return None
    rows = [] if rules is None else [row for row in _rows(rules, {}, RULE) if row["verdict"] in VERDICTS]
    verdicts = {row["verdict"] for row in rows} - {"ignored"}
    judged = "trip" if "trip" in verdicts else "undecided" if "undecided" in verdicts else "pass"
    return {"outcome": decided.outcome, "judged": judged if rows else decided.outcome, "reason": decided.reason, "rules": rows}


def _history(run: KeptRun) -> list[Document]:
    history = facts.history(run)
    return [] if history is None else _rows(history, {}, EPOCH)


def _exposure(run: KeptRun) -> Document:
    """How many members are exposed; the rows of single records stay with the run."""
    fields = {field: value for metric, field in STATES.items() if (value := _last(run, metric)) is not None}
    summary = run.tables.get(artifacts.EXPOSURE_SUMMARY)
    found: Document = dict(fields)
    if summary is not None and len(summary):
        found["found"] = _rows(summary, {})
    return found


def _data(part: DataInput) -> Document:
    return {
        "name": part.name, "context": part.context, "digest": part.digest, "source": part.source,
        "shape": [int(axis) for axis in part.shape], "classes": int(part.classes),
    }  # fmt: skip


def _setting(run: KeptRun, numbers: Mapping[int, int]) -> Document:
    name, seed = run.tags.get("memberscope.setting", ""), settings.seed_of(run)
    number = run.tags.get(settings.REPLICATE, "") if seed is None else str(numbers[seed])
    return ({"name": name} if name else {}) | ({REPLICATE: int(number)} if number.isdecimal() else {})


def _name(run: KeptRun, numbers: Mapping[int, int]) -> str:
    """The run's name, in which a seed becomes its number: ``dense-d3-c10-s7`` is called ``dense-d3-c10-r1``."""
    seed = settings.seed_of(run)
    return run.name if seed is None else re.sub(rf"-s{seed}(?![\w.])", f"-r{numbers[seed]}", run.name)


def _without_seeds(values: Mapping[str, Any]) -> dict[str, str]:
    """Options or facts as text, without seeds and without what would confirm one."""
    kept = {name: value for name, value in values.items() if name.rpartition(".")[2] != SEED and name not in SECRET}
    return {str(name): str(value) for name, value in kept.items()}


def _comparison(pair: Pair) -> Document:
    names = ("attack", "metric", "first", "second", "difference", "ci_low", "ci_high", "p_value", "p_holm", "weak", "note")
    rows = [{name: _plain(getattr(row, name)) for name in names} for row in pair.rows]
    return {"first": pair.first.id, "second": pair.second.id, "paired": pair.paired, "why": pair.why, "rows": rows}


def _summary(runs: Sequence[KeptRun], numbers: Mapping[int, int]) -> Document:
    """All settings at a glance."""
    shown = facts.audited(list(runs))
    found = settings.settings_of(shown)
    judged = [setting.judged for setting in found]
    outcomes = [decided.outcome for run in shown if (decided := facts.gate(run)) is not None]
    return {
        "verdict": next((verdict for verdict in settings.VERDICTS if verdict in judged), "none"),
        "gate": next((outcome for outcome in ("trip", "undecided", "pass") if outcome in outcomes), None),
        "settings": [
            {
                "name": setting.name if setting.several else _name(setting.runs[0], numbers), "runs": [run.id for run in setting.runs],
                "verdict": verdict, "primary": setting.attack, "metrics": _means(setting),
            }
            for setting, verdict in zip(found, judged, strict=True)
        ],
    }  # fmt: skip


def _means(setting: settings.Setting) -> Document:
    found: Document = {}
    for spec in registry.headline():
        one = setting.mean(spec.name)
        if one.value is not None:
            found[spec.name] = {"value": one.value, "ci_low": one.ci_low, "ci_high": one.ci_high}
    return found


def _last(run: KeptRun, metric: str) -> float | None:
    series = run.metrics.get(metric, ())
    return float(series[-1][1]) if series else None


def _seeds(runs: Iterable[KeptRun]) -> Iterable[int]:
    """The seeds of runs, their children and the rows of their tables."""
    for run in runs:
        if (seed := settings.seed_of(run)) is not None:
            yield seed
        for path in TABLES:
            if path in run.tables and SEED in run.tables[path]:
                yield from (int(one) for one in run.tables[path][SEED].dropna().unique())
        yield from _seeds(run.children)


def _rows(frame: pd.DataFrame, numbers: Mapping[int, int], columns: Sequence[str] | None = None) -> list[Document]:
    """The rows of a table: all columns, or those of `columns` that it has. A column of seeds becomes one of their numbers."""
    if SEED in frame:
        seeds = numbers or {int(seed): number for number, seed in enumerate(sorted(frame[SEED].dropna().unique()), 1)}
        frame = frame.rename(columns={SEED: REPLICATE})
        frame[REPLICATE] = [None if seed != seed else seeds[int(seed)] for seed in frame[REPLICATE]]
    kept = list(map(str, frame.columns)) if columns is None else [name for name in (*columns, REPLICATE) if name in frame]
    series = [(name, frame[name].tolist()) for name in kept]
    return [{name: _cell(name, values[row]) for name, values in series} for row in range(len(frame))]


def _cell(name: str, value: Any) -> Any:
    found = _plain(value)
    if name == "reason":
        return found or ""
    if name == "primary" and found in ("True", "False"):  # as tables of bounds keep it
        return found == "True"
    return int(found) if name in WHOLE and isinstance(found, float) and found.is_integer() else found


def _plain(value: Any) -> Any:
    """A value for JSON: numbers as Python's own, and null for what is missing or not finite."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else None if value != value else str(value)


def _numbers(values: pd.Series) -> list[float]:
    return [float(value) for value in values]
