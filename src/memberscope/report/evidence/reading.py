"""An evidence file as kept runs: from it, the page and the other formats are made as from a tracking server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memberscope.audit import artifacts, kept_statement, kept_tables
from memberscope.audit.headline import Headline
from memberscope.errors import UserError
from memberscope.reading.files import read_text
from memberscope.reading.text import json_object
from memberscope.redact import redact_values
from memberscope.report import bounds, facts
from memberscope.report.compare import ComparedRow, Pair
from memberscope.report.evidence import schema
from memberscope.report.evidence.document import STATES, TABLES, Document
from memberscope.report.settings import REPLICATE
from memberscope.tracking import DataInput, KeptRun

ALLOWED = schema.ALLOWED


@dataclass(frozen=True, kw_only=True)
class EvidenceFile:
    """An evidence file that was read.

    Attributes:
        runs: its runs, with their children.
        pairs: its comparisons with the first run; None where it has none.
        title: the title of its page.
        document: its content, as it was written.
    """

    runs: tuple[KeptRun, ...]
    pairs: tuple[Pair, ...] | None
    title: str
    document: Document


def read(path: str, *, option: str = "from") -> EvidenceFile:
    """Read an evidence file.

    Args:
        path: the file; ``~`` is the user's home.
        option: the option that names it, for errors.

    Raises:
        UserError: it cannot be read, is not JSON, is of another major version of the schema, or does not fit the schema or what its
            metrics can be; the line names the field.
    """
    where = f"{option}={path}"
    try:
        file = Path(path).expanduser()
    except RuntimeError as error:  # a user without a home
        raise UserError(f"{where}: cannot be read ({error}); allowed: {ALLOWED}") from None
    return parse(read_text(file, where=where, allowed=ALLOWED), where=where)


def parse(text: str, *, where: str) -> EvidenceFile:
    """The text of an evidence file; `where` begins its errors. For these see `read`."""
    document = json_object(text, where=where, allowed=ALLOWED)
    schema.check(document, where=where)
    document = redact_values(document)
    runs = tuple(_run(fields, f"{where}: $.runs[{place}]") for place, fields in enumerate(document["runs"]))
    known = _by_id(runs)
    pairs = tuple(
        _pair(fields, known, f"{where}: $.comparisons[{place}]") for place, fields in enumerate(document.get("comparisons", ()))
    )
    return EvidenceFile(runs=runs, pairs=pairs or None, title=document.get("title", ""), document=document)


def _run(fields: Mapping[str, Any], where: str) -> KeptRun:
    setting, gate = fields.get("setting", {}), fields.get("gate", {})
    tags = {
        "memberscope.setting": setting.get("name", ""), REPLICATE: str(setting.get("replicate", "")),
        "memberscope.gate": gate.get("outcome", ""), "memberscope.gate_reason": gate.get("reason", ""),
        "memberscope.study": fields.get("study", ""), bounds.VERDICT: fields.get("promise", ""),
        "memberscope.command": fields.get("command", ""), "mlflow.source.git.commit": fields.get("code", ""),
        "memberscope.versions": json.dumps(fields["versions"]) if "versions" in fields else "",
    }  # fmt: skip
    exposure = fields.get("exposure", {})
    states = {metric: exposure.get(field) for metric, field in STATES.items()}
    states["overfit_onset_epoch"] = fields.get("overfit_onset_epoch")
    tables, texts = _tables(fields, where), _texts(fields, where)
    run = KeptRun(
        id=fields["id"], name=fields["name"], status=fields.get("status", ""), started=fields.get("started", ""),
        tags={name: value for name, value in tags.items() if value}, params=fields.get("facts", {}),
        metrics={name: ((0, float(value)),) for name, value in states.items() if value is not None},
        tables=tables, texts=texts, inputs=tuple(_data(part) for part in fields.get("data", ())),
        children=tuple(_run(child, f"{where}.children[{place}]") for place, child in enumerate(fields.get("children", ()))),
    )  # fmt: skip
    _check_finding(fields, run, where)
    return run


def _texts(fields: Mapping[str, Any], where: str) -> dict[str, str]:
    """The settings, the controls and the headline as a run keeps them."""
    texts = {}
    for name, field in ((artifacts.STUDY, "settings"), (artifacts.CONTROLS, "controls")):
        if field in fields:
            texts[name] = json.dumps(fields[field])
    if statement := fields.get("risk_statement"):
        texts[artifacts.RISK_STATEMENT] = json.dumps(statement)
        try:
            kept_statement.read(texts[artifacts.RISK_STATEMENT])
        except ValueError as error:
            raise UserError(f"{where}.risk_statement: {error}; allowed: {ALLOWED}") from None
    if primary := fields.get("finding", {}).get("primary"):
        named = ("attack", "family", "chosen", "candidates", "n_member", "n_nonmember")
        estimates = {
            str(name): {key: one[key] for key in ("value", "ci_low", "ci_high", "status", "reason") if key in one}
            for name, one in primary["metrics"].items()
        }
        values = {name: primary[name] for name in named} | {"reason": primary.get("reason", ""), "figures": estimates}
        try:
            texts[artifacts.HEADLINE] = Headline.from_json(json.dumps(values)).to_json()
        except ValueError as error:
            raise UserError(f"{where}.finding.primary: {error}; allowed: {ALLOWED}") from None
    return texts


def _tables(fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The tables of a run, checked as those of a run that was kept."""
    exposure, gate, names = fields.get("exposure", {}), fields.get("gate", {}), {name: path for path, name in TABLES.items()}
    rows: dict[str, tuple[str, Sequence[Mapping[str, Any]]]] = {
        artifacts.ATTACKS: ("results", fields.get("results", ())),
        artifacts.GATE: ("gate.rules", gate.get("rules", ())),
        artifacts.HISTORY: ("history", fields.get("history", ())),
        artifacts.EXPOSURE_SUMMARY: ("exposure.found", exposure.get("found", ())),
    } | {names[name]: (f"tables.{name}", found) for name, found in fields.get("tables", {}).items() if name in names}  # fmt: skip
    tables = {path: _table(path, found, f"{where}.{field}") for path, (field, found) in rows.items() if found}
    if "curves" in fields:
        tables[artifacts.ROC] = _curves(fields["curves"], ("fpr", "tpr"), artifacts.ROC, f"{where}.curves")
    if "band" in fields:
        tables[artifacts.ROC_BAND] = _curves([fields["band"]], ("fpr", "low", "high"), artifacts.ROC_BAND, f"{where}.band")
    return tables


def _table(path: str, rows: Sequence[Mapping[str, Any]], where: str) -> Any:
    import pandas as pd

    frame = pd.DataFrame(list(rows))
    if path == artifacts.ATTACKS:
        frame = frame.reindex(columns=list(dict.fromkeys([*frame.columns, "ci_low", "ci_high", "reason"])))
    return kept_tables.of_rows(path, frame, where=where, allowed=ALLOWED)


def _curves(curves: Sequence[Mapping[str, Any]], axes: Sequence[str], path: str, where: str) -> Any:
    """Curves as a table of points; UserError where the axes of one have different lengths."""
    import pandas as pd

    parts = []
    for place, curve in enumerate(curves):
        lengths = {axis: len(curve[axis]) for axis in axes}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{length} of {axis}" for axis, length in lengths.items())
            raise UserError(f"{where}[{place}]: {shown}; allowed: as many of each, {ALLOWED}")
        named = {"attack": curve["attack"]} if "attack" in curve else {}
        parts.append(pd.DataFrame({**named, **{axis: curve[axis] for axis in axes}}))
    return kept_tables.of_rows(path, pd.concat(parts, ignore_index=True), where=where, allowed=ALLOWED)


def _data(part: Mapping[str, Any]) -> DataInput:
    return DataInput(
        name=part["name"], context=part["context"], digest=part.get("digest", ""), source=part.get("source", ""),
        shape=tuple(part.get("shape", ())), classes=part.get("classes", 0),
    )  # fmt: skip


def _check_finding(fields: Mapping[str, Any], run: KeptRun, where: str) -> None:
    """Raise UserError where the finding is not what the metrics and controls say."""
    if artifacts.ATTACKS not in run.tables:
        return
    if artifacts.HEADLINE in run.texts:
        found = Headline.from_json(run.texts[artifacts.HEADLINE])
        kept_tables.check_headline(found, run.tables[artifacts.ATTACKS], where=f"{where}.finding.primary", allowed=ALLOWED)
    verdict, judged = fields.get("finding", {}).get("verdict"), facts.judged(run)
    if verdict is not None and verdict != judged:
        raise UserError(f"{where}.finding.verdict: {verdict}; allowed: {judged}, which follows from the metrics and controls")


def _by_id(runs: Sequence[KeptRun]) -> dict[str, KeptRun]:
    """Every run by its id; a run may be there twice, by itself and as a child."""
    return {key: one for run in runs for key, one in {run.id: run, **_by_id(run.children)}.items()}


def _pair(fields: Mapping[str, Any], known: Mapping[str, KeptRun], where: str) -> Pair:
    for side in ("first", "second"):
        one = known.get(fields[side])
        if one is None or artifacts.ATTACKS not in one.tables:
            raise UserError(f"{where}.{side}: {fields[side][:100]}; allowed: the id of an audited run of the file, {ALLOWED}")
    names = ("attack", "metric", "first", "second", "difference", "ci_low", "ci_high", "p_value", "p_holm", "weak", "note")
    rows = tuple(ComparedRow(**{name: row[name] for name in names if name in row}) for row in fields["rows"])
    return Pair(
        first=known[fields["first"]], second=known[fields["second"]], paired=fields["paired"], why=fields.get("why", ""), rows=rows,
    )  # fmt: skip
