"""One audit as HTML, JSON, JUnit, CycloneDX and Markdown, made by one command: the same numbers in all, read by the parsers of others."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memberscope import cli
from memberscope.audit import artifacts
from memberscope.config import AttackStudyConfig, ReportStudyConfig
from memberscope.errors import GateError, UserError
from memberscope.interrupt import StopFlag
from memberscope.metrics import registry
from memberscope.report import evidence, formats
from memberscope.report.formats import cyclonedx, junit, markdown
from memberscope.report.page import render_page
from memberscope.report.parts import number
from memberscope.studies import attack, report
from memberscope.tracking import MemoryTracker

from .conftest import audited, kept

RULES = "threshold_loss.entire.auc > 0.5; threshold_loss.entire.auc > 0.99; threshold_loss.entire.tpr_at_fpr_0_1 > 0.2"
FILES = {"report.html", "evidence.json", "gate.junit.xml", "model_card.cdx.json", "model_card.md"}


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The evidence file of an audit whose gate has a rule that is tripped, one that is met and one that is undecided."""
    path = tmp_path_factory.mktemp("audit") / "evidence.json"
    run = kept(audited(shift=0.6, seed=3, n=600), rules=RULES)
    path.write_text(evidence.to_json(evidence.written([run], study="attack")))
    return path


@pytest.fixture(scope="module")
def document(audit: Path) -> Any:
    return json.loads(audit.read_text())


class _Tables(HTMLParser):
    """The cells of all tables of a page, row by row; a line break is a bar."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        self.open = tag in ("td", "th") or (self.open and tag not in ("tr", "table"))
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "br" and self.open:
            self.rows[-1][-1] += "|"

    def handle_endtag(self, tag: str) -> None:
        self.open = self.open and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.open and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


def ends(one: Any) -> tuple[Any, Any, Any]:
    return one["value"], one.get("ci_low"), one.get("ci_high")


@pytest.mark.usefixtures("undrawn")
def test_all_five_are_made_by_one_command_and_agree_number_for_number(
    audit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from junitparser import JUnitXml

    assert cli.main(["report", f"--from={audit}", "--formats=all", f"--folder={tmp_path / 'out'}"]) == 0
    said = capsys.readouterr().out
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == FILES
    assert all(name in said for name in FILES)
    found = json.loads((out / "evidence.json").read_text())
    (run,) = found["runs"]
    names = [spec.name for spec in registry.headline()]
    truth = {
        (row["metric"], row["attack"]): ends(row)
        for row in run["results"]
        if row["slice"] == "entire" and row["metric"] in names and row["status"] != "skipped"
    }
    truth |= {(name, "headline"): ends(one) for name, one in run["finding"]["primary"]["metrics"].items() if name in names}
    assert len(truth) == 3 * len(names)

    bom = json.loads((out / "model_card.cdx.json").read_text())
    card = {}
    for one in bom["components"][0]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]:
        if one["slice"] in ("entire", "half of the records"):
            span = one.get("confidenceInterval", {})
            card[tuple(one["type"].split("/"))] = tuple(
                None if end is None else float(end) for end in (one["value"], span.get("lowerBound"), span.get("upperBound"))
            )
    assert {key: card[key] for key in truth} == truth, "all digits"

    def rounded(key: tuple[str, str]) -> tuple[str, ...]:
        digits = registry.get(key[0]).digits
        return tuple("" if end is None else f"{end:.{digits}f}" for end in truth[key])

    lines = (out / "model_card.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    table = {(cell[0], cell[1]): tuple(cell[2:5]) for cell in cells if len(cell) == 6}
    assert {key: table[key] for key in truth} == {key: rounded(key) for key in truth}

    reader = _Tables()
    reader.feed((out / "report.html").read_text())
    for name in ("threshold_loss", "threshold_entropy"):
        row = next(row for row in reader.rows if row and row[0].startswith(f"{name}|threshold"))
        for place, metric in enumerate(names, start=1):
            value, low, high = truth[metric, name]
            expected = f"{number(value)}|{number(low)} to {number(high)}"
            assert row[place].replace("*", "") == expected, (name, metric)

    gate = JUnitXml.fromfile(str(out / "gate.junit.xml"))
    shown = {}
    for suite in gate:
        for case in suite:
            shown[case.name] = dict(line.split(": ") for line in case.system_out.splitlines())
    assert len(shown) == len(run["gate"]["rules"]) == 3
    for rule in run["gate"]["rules"]:
        values = shown[f"{rule['rule']} [{rule['attack']}.{rule['slice']}]"]
        for field in ("value", "ci_low", "ci_high", "limit", "p_above", "p_within"):
            assert float(values[field]) == rule[field]
    for row in reader.rows:  # the gate's rules on the page
        for rule in run["gate"]["rules"]:
            if row and row[0] == rule["rule"]:
                assert row[3:] == [number(rule["value"]), rule["verdict"]]


@pytest.mark.usefixtures("undrawn")
def test_the_risk_statement_agrees_as_well(document: Any) -> None:
    (run,) = document["runs"]
    metrics = {one["type"]: one for one in cyclonedx.metrics(run)}
    text = markdown.text_of(document)
    assert "- declared prior: 0.01" in text
    combined = run["risk_statement"]["combined"]
    assert [rate["fpr"] for rate in combined] == [0.1, 0.01, 0.001]
    for name in ("precision", "found", "wrongly_accused"):
        one, shown = combined[0][name], metrics[f"{name}_at_fpr_0_1/headline"]
        assert (float(shown["value"]), float(shown["confidenceInterval"]["lowerBound"])) == (one["value"], one["ci_low"])
        line = next(line for line in text.splitlines() if line.startswith(f"| combined | 0.1 | {name} |"))
        value = float(line.split("|")[4].replace(",", ""))
        assert abs(value - one["value"]) < (one["ci_high"] - one["ci_low"]) / 10


# --- what a study writes ---------------------------------------------------------------------------------------------


def test_a_study_writes_its_evidence_and_its_gate(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    labels, member = np.arange(600) % 3, np.arange(600) < 300
    logits = rng.normal(size=(600, 3))
    logits[np.arange(600), labels] += 1 + 0.6 * member
    np.savez(tmp_path / "p.npz", logits=logits, labels=labels, member=member)
    options: dict[str, Any] = {
        "attacks": "threshold",
        "slices": "entire,class",
        "prior": 0.01,
        "subjects": 5000,
        "fail_if": RULES,
    }
    tracker = MemoryTracker()
    result = attack.run(AttackStudyConfig(predictions=str(tmp_path / "p.npz"), **options), tracker, StopFlag())
    assert isinstance(result.gate, GateError)
    found = json.loads(tracker.artifacts[artifacts.EVIDENCE])
    evidence.parse(tracker.artifacts[artifacts.EVIDENCE], where="what the study wrote")
    (run,) = found["runs"]
    assert (found["study"], run["study"], run["status"]) == ("attack", "attack", "FAILED"), "its gate tripped"
    rows = {(row["metric"], row["attack"]): row["value"] for row in run["results"] if row["slice"] == "entire"}
    for name in ("auc", "tpr_at_fpr_0_1"):
        assert round(rows[name, "threshold_loss"], 2) == round(tracker.latest(f"{name}/threshold_loss"), 2)
    assert tracker.artifacts[artifacts.GATE_JUNIT] == junit.text_of(found)
    assert [rule["verdict"] for rule in run["gate"]["rules"]] == ["trip", "pass", "undecided"]
    assert "attack.seed" not in run["settings"]
    assert run["settings"]["attack.attacks"] == "threshold"
    assert run["risk_statement"] == json.loads(tracker.artifacts[artifacts.RISK_STATEMENT])


# --- JUnit -----------------------------------------------------------------------------------------------------------


def cases(text: str) -> dict[str, tuple[str, str]]:
    """Name -> kind and message of the result of each case, as another program reads them."""
    from junitparser import JUnitXml

    found = {}
    for suite in JUnitXml.fromstring(text.encode()):
        for case in suite:
            result = case.result[0] if case.result else None
            found[case.name] = ("passed", "") if result is None else (type(result).__name__.lower(), result.message)
    return found


def test_each_rule_is_a_case(document: Any) -> None:
    found = list(cases(junit.text_of(document)).values())
    assert [kind for kind, _ in found] == ["failure", "passed", "error"]
    assert found[0][1].startswith("tripped: ")
    records = document["runs"][0]["gate"]["rules"][2]["records"]
    assert records > 600
    assert found[2][1].endswith(f"about {records:,} records would decide it")


@pytest.mark.parametrize(
    ("outcome", "tripped", "kind", "part"),
    [
        ("undecided", False, "error", "undecided: "),
        ("pass", False, "skipped", "counts as a pass"),
        ("trip", False, "failure", "counts as tripped"),
        ("trip", True, "error", "undecided: "),
    ],
)
def test_an_undecided_rule_follows_how_the_gate_takes_it(
    document: Any, outcome: str, tripped: bool, kind: str, part: str
) -> None:
    (run,) = document["runs"]
    rules = [rule for rule in run["gate"]["rules"] if tripped or rule["verdict"] != "trip"]
    rules.append({**rules[0], "rule": "any.class_9.auc > 0.5", "verdict": "ignored", "value": None, "reason": "skipped"})
    made = {**document, "runs": [{**run, "gate": {**run["gate"], "outcome": outcome, "rules": rules}}]}
    found = cases(junit.text_of(made))
    one = next(result for name, result in found.items() if "tpr_at_fpr_0_1" in name)
    assert one[0] == kind
    assert part in one[1]
    assert found["any.class_9.auc > 0.5 [threshold_loss.entire]"][0] == "skipped"


def test_no_gate_is_no_pass_and_names_may_hold_anything(document: Any) -> None:
    (run,) = document["runs"]
    name = 'a<b>&"\x00\x1b\ud800\ufffe]]>'
    without = {key: value for key, value in run.items() if key != "gate"} | {"id": "2", "name": name}
    rules = [{**run["gate"]["rules"][0], "slice": name, "reason": name}]
    odd = {**run, "gate": {**run["gate"], "rules": rules, "reason": name}, "name": name}
    text = junit.text_of({**document, "runs": [odd, without]})
    found = cases(text)
    assert found["gate"] == ("skipped", "no gate was set; --fail_if sets one")
    assert any('a<b>&"\ufffd\ufffd\ufffd\ufffd]]>' in one for one in found)
    counts = [re.search(rf'<testsuites [^>]*{word}="(\d+)"', text) for word in ("tests", "failures", "errors", "skipped")]
    assert [int(one[1]) for one in counts if one] == [2, 1, 0, 1]


# --- CycloneDX -------------------------------------------------------------------------------------------------------


def test_the_model_card_passes_cyclonedx_own_validator(document: Any) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = cyclonedx.text_of(document)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert cyclonedx.text_of(document) == text, "the same text each time"
    broken = text.replace('"performanceMetrics"', '"measures"')
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(broken) is not None
    (component,) = json.loads(text)["components"]
    assert component["type"] == "machine-learning-model"
    named = {one["name"]: one["value"] for one in component["properties"]}
    assert named["memberscope:verdict"] == document["runs"][0]["finding"]["verdict"]
    assert named["memberscope:gate"] == "trip"
    slices = {one["slice"] for one in component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]}
    assert {"entire", "class_0"} <= slices


def test_without_the_library_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memberscope.installed.is_installed", lambda module: module != "cyclonedx")
    with pytest.raises(UserError, match=r"^formats=cyclonedx: needs cyclonedx, .*pip install 'memberscope\[evidence\]'"):
        formats.named("html,cyclonedx")
    assert formats.named("junit, html") == ("html", "junit")


# --- Markdown --------------------------------------------------------------------------------------------------------


def test_the_headings_of_the_model_card_stay(document: Any) -> None:
    text = markdown.text_of(document)
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "## Membership inference", "### Finding", "### Metrics", "### Risk statement", "### Slices", "### Gate", "### Controls",
        "### How it was measured",
    ]  # fmt: skip
    assert f"- verdict: {document['runs'][0]['finding']['verdict']}" in text


def test_names_cannot_become_markup(document: Any) -> None:
    (run,) = document["runs"]
    name = "<img src=x>|`*_a_\n# b"
    rows = [{**row, "slice": name} if row["slice"] == "class_0" else row for row in run["results"]]
    odd = {**run, "results": rows, "controls": {name: {"text": name}}}
    text = markdown.text_of({**document, "runs": [odd, {**run, "id": "2", "name": name}]})
    assert "<img" not in text
    assert "\n# b" not in text
    (line,) = (line for line in text.splitlines() if line.startswith("| auc | ") and "img" in line)
    assert len(re.split(r"(?<!\\)\|", line)) == 8, "a cell is one cell"


# --- the entry point -------------------------------------------------------------------------------------------------


def options(audit: Path, **values: object) -> ReportStudyConfig:
    return ReportStudyConfig.from_mapping({"from": str(audit), **values})


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"formats": "html,pdf"}, "formats=pdf: unknown; allowed: html, json, junit, cyclonedx, markdown, all"),
        ({"formats": "jsn"}, "formats=jsn: unknown; allowed: html, json, junit, cyclonedx, markdown, all; nearest: json"),
        ({"formats": ","}, "formats=,: names none"),
        ({"runs": "a"}, "given together with runs=a; allowed: one of them"),
        ({"folder": "/proc/none"}, "folder=/proc/none: cannot be "),
        ({"folder": "/etc/hostname"}, "folder=/etc/hostname: cannot be written; allowed: a folder that may be written"),
        ({"folder": "no/such"}, "folder=no/such: cannot be written"),
        ({"page": "x.pdf"}, "page=x.pdf: allowed: the path of an .html file, or none"),
        ({"page": "none"}, "page=none: nothing would be written"),
        ({"from": "none.json"}, "from=none.json: cannot be read (No such file or directory)"),
        ({"from": ""}, "runs=: missing; allowed: run ids or names separated by commas, or an evidence file (from)"),
        ({"subjects": 5}, "subjects=5: fewer than the 300 members audited"),
    ],
)
def test_bad_input_gets_one_line(
    audit: Path, values: dict[str, object], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tracker = MemoryTracker()
    with pytest.raises(UserError) as refused:
        report.run(options(audit, **values), tracker, StopFlag())
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)
    assert tracker.artifacts == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("undrawn")
def test_a_page_can_be_made_under_other_declarations(audit: Path, tmp_path: Path) -> None:
    tracker = MemoryTracker()
    report.run(options(audit, formats="json", folder=str(tmp_path), prior="0.5"), tracker, StopFlag())
    found = json.loads((tmp_path / "evidence.json").read_text())
    assert found["runs"][0]["risk_statement"]["declared"]["prior"] == 0.5
    assert found["study"] == "attack"
    assert set(tracker.artifacts) == {"evidence.json"}


def test_a_report_on_a_file_needs_neither_mlflow_nor_matplotlib(
    audit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = ("mlflow", "sqlalchemy", "matplotlib")
    for module in [name for name in sys.modules if name.partition(".")[0] in absent]:
        monkeypatch.delitem(sys.modules, module)
    for module in absent:
        monkeypatch.setitem(sys.modules, module, None)  # an import of it fails
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", "--from", str(audit), "--formats", "html,junit"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "gate.junit.xml"}
    page = (tmp_path / "report.html").read_text()
    assert page.count("Not drawn: ") == 3
    assert "The model gives away" in page or "better than by chance" in page
    assert "store:" not in capsys.readouterr().out


def test_only_the_figures_are_missing_without_matplotlib(audit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib  # noqa: F401, the test is skipped where it is absent

    found = evidence.read(str(audit))
    drawn = render_page(found.runs)
    monkeypatch.setattr("memberscope.report.parts.is_installed", lambda module: module != "matplotlib")
    plain = re.sub(r'<p class="note">Not drawn: .*?</p>', "", render_page(found.runs))
    text = re.sub(r'<figure class="(plain|small)"><img [^>]*>.*?</figure>', "", drawn, flags=re.S)
    assert re.sub(r"\s+", " ", plain) == re.sub(r"\s+", " ", text)


def test_the_document_names_every_format() -> None:
    assert {one.file for one in formats.FORMATS.values()} == FILES
    assert formats.named("all") == tuple(formats.FORMATS)
    assert evidence.SCHEMA_VERSION.startswith("1.")
    assert replace(formats.FORMATS["json"], file="x").text is evidence.to_json
