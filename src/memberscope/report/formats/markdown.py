"""A section for a model card in Markdown, with headings and names that stay, so that scripts can find and replace it.

Numbers are rounded as on the page; ``evidence.json`` has all digits.
"""

from __future__ import annotations

import html
import re

from memberscope.metrics import Estimate, registry, rounding
from memberscope.report import facts
from memberscope.report.evidence import Document
from memberscope.report.formats import flat

TITLE = "## Membership inference"
FINDING, METRICS, RISK, SLICES, GATE, CONTROLS, MEASURED = (
    "### Finding", "### Metrics", "### Risk statement", "### Slices", "### Gate", "### Controls", "### How it was measured",
)  # fmt: skip
COMBINED = ("precision", "found", "wrongly_accused")
DIGITS = 3  # of a metric that is not known here
_MARKUP = re.compile(r"([\\`*_{}\[\]#|~])")


def text_of(document: Document) -> str:
    """The section; with several audits, one for each, under its name."""
    runs = flat.audited(document)
    return "\n".join(
        "\n".join(_section(run, document, title=TITLE if len(runs) == 1 else f"{TITLE}: {plain(run['name'])}")) for run in runs
    )


def _section(run: Document, document: Document, *, title: str) -> list[str]:
    lines = [title, "", FINDING, ""]
    finding, sizes = run["finding"], run["sizes"]
    primary = finding.get("primary")
    lines += [f"- verdict: {finding['verdict']}", f"- meaning: {facts.SENTENCES[finding['verdict']]}"]
    if primary is not None:
        lines += [f"- primary attack: {plain(primary['attack'])}", f"- chosen: {primary['chosen']}"]
    lines += [f"- members: {sizes['members']}", f"- non-members: {sizes['nonmembers']}", f"- unit: {sizes['unit']}", ""]
    names = [spec.name for spec in registry.headline()]
    if primary is not None:
        half = (
            "; those of headline are on the half of the records on which it was not chosen"
            if primary["chosen"] == "strongest"
            else ""
        )
        rows = [(name, "headline", one) for name in names if (one := primary["metrics"].get(name)) is not None]
        rows += [
            (row["metric"], row["attack"], row) for row in run["results"] if row["slice"] == "entire" and row["metric"] in names
        ]
        lines += [METRICS, "", f"95% intervals, on all records{half}.", "", *_table(rows, "attack")]
        lines += _risk(run.get("risk_statement"))
        slices = [
            ("auc", row["slice"], row)
            for row in run["results"]
            if row["attack"] == primary["attack"] and row["metric"] == "auc" and row["slice"] != "entire"
        ]
        if slices:
            lines += [SLICES, "", f"Of {plain(primary['attack'])}.", "", *_table(slices, "slice")]
    lines += [*_gate(run), *_controls(run), *_measured(run, document)]
    return lines


def _risk(statement: Document | None) -> list[str]:
    """The risk statement of the primary attack in its three labelled parts."""
    if statement is None or not statement["measured"]:
        return []
    declared = [
        f"- declared {name}: {plain(str(value))}" for name, value in statement["declared"].items() if value not in (None, "")
    ]
    parts = [("measured", statement["measured"][0]["rates"], ("tpr", "lift")), ("combined", statement["combined"], COMBINED)]
    rows = [
        f"| {part} | {rate['fpr']:g} | {name} | {' | '.join(_estimate(rate[name]))} |"
        for part, rates, names in parts
        for rate in rates
        for name in names
        if rate[name] is not None
    ]
    head = ["| part | FPR | metric | value | low | high | status |", "| --- | ---: | --- | ---: | ---: | ---: | --- |"]
    return [RISK, "", *(declared or ["- declared: nothing"]), "", *head, *rows, ""]


def _estimate(one: Document) -> tuple[str, str, str, str]:
    """Value, lower and upper end as the page rounds them in the risk statement, and the status."""
    if one["value"] is None:
        return "", "", "", one["status"]
    value, low, high = rounding.shown(Estimate(value=one["value"], ci_low=one.get("ci_low"), ci_high=one.get("ci_high")))
    return value, low or "", high or "", one["status"]


def _table(rows: list[tuple[str, str, Document]], what: str) -> list[str]:
    head = [f"| metric | {what} | value | low | high | status |", "| --- | --- | ---: | ---: | ---: | --- |"]
    body = [
        f"| {plain(name)} | {plain(of)} | {_number(name, one['value'])} | {_number(name, one.get('ci_low'))} | "
        f"{_number(name, one.get('ci_high'))} | {one['status']} |"
        for name, of, one in rows
    ]
    return [*head, *body, ""]


def _gate(run: Document) -> list[str]:
    gate = run.get("gate")
    if gate is None:
        return [GATE, "", "- outcome: none", ""]
    head = ["| rule | attack | slice | value | verdict |", "| --- | --- | --- | ---: | --- |"]
    rows = [
        f"| {plain(rule['rule'])} | {plain(rule['attack'])} | {plain(rule['slice'])} | "
        f"{_number(rule.get('metric') or '', rule['value'])} | {flat.outcome_of(rule, gate)} |"
        for rule in gate["rules"]
    ]
    return [GATE, "", f"- outcome: {gate['outcome']}", "", *head, *rows, ""]


def _controls(run: Document) -> list[str]:
    found = run.get("controls", {})
    return (
        [CONTROLS, "", *(f"- {plain(name)}: {plain(control['text'])}" for name, control in found.items()), ""] if found else []
    )


def _measured(run: Document, document: Document) -> list[str]:
    primary = run["finding"].get("primary")
    made = document["made_by"]
    lines = [MEASURED, "", f"- program: {plain(made['name'])} {plain(made['version'])}", f"- run: {plain(run['id'])}"]
    lines += [f"- started: {plain(run['started'])}"] if "started" in run else []
    lines += [f"- attacks: {', '.join(map(plain, primary['candidates']))}"] if primary is not None else []
    lines += [f"- {plain(part['context'])} data: {plain(part['name'])}" for part in run.get("data", ())]
    return [*lines, f"- schema of evidence.json: {document['schema_version']}", ""]


def _number(metric: str, value: float | None) -> str:
    """A number with the digits of its metric, as on the page; empty for none."""
    spec = registry.find(metric)
    return "" if value is None else f"{value:.{DIGITS if spec is None else spec.digits}f}"


def plain(text: str) -> str:
    """The text on one line, with Markdown's and HTML's signs escaped; an underscore within a word needs no escape and keeps its look."""
    escaped = _MARKUP.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))
    return re.sub(r"(?<=\w)\\_(?=\w)", "_", escaped)
