"""Evidence files: the same page as from the runs, the schema, what is refused, and what must not be in them."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memberscope.audit import artifacts
from memberscope.errors import UserError
from memberscope.report import evidence
from memberscope.report.page import pairs_of, render_page
from memberscope.tracking import KeptRun

from .conftest import audited, kept

SEED = 70_123  # of the studies, so that it would be seen wherever it stands


RULES = (
    "threshold_loss.entire.auc > 0.6; threshold_loss.entire.auc > 0.95; any.class_0.tpr_at_fpr_0_1 > 0.3; "
    "metric_confidence.entire.auc > 0.5"
)


def through(*runs: KeptRun) -> tuple[str, evidence.EvidenceFile]:
    """The text of these runs' evidence file, and what is read from it."""
    text = evidence.to_json(evidence.written(runs, study="report", pairs=pairs_of(runs, seed=0)))
    return text, evidence.parse(text, where="from=evidence.json")


def test_the_page_from_the_file_is_the_page_from_the_runs_byte_for_byte() -> None:
    run = kept(audited(), rules=RULES)
    _, found = through(run)
    assert render_page(found.runs, pairs=found.pairs) == render_page([run])


@pytest.mark.usefixtures("undrawn")
def test_the_page_on_several_runs_is_the_same_too() -> None:
    runs = kept(audited(), rules=RULES), kept(audited(shift=0.2, seed=1), name="two")
    _, found = through(*runs)
    assert render_page(found.runs, pairs=found.pairs) == render_page(runs)


@pytest.mark.usefixtures("undrawn")
def test_bounds_of_epsilon_and_the_verdict_on_a_promise_come_back() -> None:
    bounds = pd.DataFrame(
        {"attack": ["a", "b"], "records": ["canaries"] * 2, "method": ["f-DP", "g"], "primary": ["True", "False"], "assumes": ["coins"] * 2,
         "threshold": ["fixed"] * 2, "bound": [1.5, 0.0], "ceiling": [4.0, 4.0], "promise": [1.0, 1.0], "ratio": [1.5, np.nan],
         "verdict": ["refuted", "consistent"], "delta": [1e-5] * 2, "n": [500, 500]}
    )  # fmt: skip
    run = kept(audited())
    run = replace(run, tables={**run.tables, artifacts.BOUNDS: bounds}, tags={**run.tags, "memberscope.promise": "refuted"})
    _, found = through(run)
    assert render_page(found.runs) == render_page([run])
    assert [row["primary"] for row in found.document["runs"][0]["tables"]["bounds"]] == [True, False]
    assert found.document["runs"][0]["promise"] == "refuted"


@pytest.mark.usefixtures("undrawn")
def test_a_study_comes_back_with_its_models_and_its_own_comparison() -> None:
    models = tuple(kept(audited(seed=k), name=f"m{k}") for k in range(2))
    verdicts = pd.DataFrame(
        {"experiment": ["depth"], "first": ["a"], "second": ["b"], "figure": ["auc/x"], "verdict": ["differs"], "difference": [0.1],
         "ci_low": [0.05], "ci_high": [0.15], "seeds": ["5"], "p_holm": [0.01]}
    )  # fmt: skip
    study = KeptRun(id="3" * 32, name="study", children=models, tables={artifacts.EXPERIMENTS: verdicts})
    _, found = through(study)
    assert render_page(found.runs, pairs=found.pairs) == render_page([study])
    assert [child.name for child in found.runs[0].children] == ["m0", "m1"]


@pytest.mark.usefixtures("undrawn")
def test_paired_comparisons_are_kept_though_no_record_is() -> None:
    runs = kept(audited(), private=False), kept(audited(), name="two", private=False)
    text, found = through(*runs)
    assert "the same 800 records with the same members" in render_page(found.runs, pairs=found.pairs)
    assert all(run.scores is None for run in found.runs)
    assert found.pairs is not None
    direct = pairs_of(runs, seed=0)
    assert [pair.rows for pair in found.pairs] == [pair.rows for pair in direct]
    assert [pair.paired for pair in found.pairs] == [True]
    assert "5000001" not in text


def words(text: str) -> set[str]:
    return set(re.findall(r"[\w]+", text))


@pytest.mark.usefixtures("undrawn")
def test_nothing_of_single_records_and_no_seed_is_in_the_file() -> None:
    runs = [kept(audited(seed=k), name=f"conv-d3-s{SEED + k}", seed=SEED + k, private=False) for k in range(3)]
    text, found = through(*runs)
    secrets = (
        {str(SEED + k) for k in range(3)}
        | {f"s{SEED + k}" for k in range(3)}
        | {"c0ffee00c0ffee00", "beef0000beef0000", "0123abcd" * 8}
    )
    assert not secrets & words(text)
    assert not {str(one) for one in range(5_000_000, 5_000_800)} & words(text)
    assert [run.name for run in found.runs] == ["conv-d3-r1", "conv-d3-r2", "conv-d3-r3"]
    assert "memberscope train --depth=3" in text, "the command is there, without its seed"
    page, own = render_page(found.runs, pairs=found.pairs), render_page(runs)
    for part in ("Most exposed records", "most exposed</h4>", "c0ffee"):
        assert part in own
        assert part not in page


@pytest.mark.usefixtures("undrawn")
def test_settings_are_still_paired_by_seed_though_the_seeds_are_only_numbered() -> None:
    shifts = {"a": (0.2, 0.4, 0.6), "b": (0.5, 0.7, 0.9)}
    runs = [
        kept(audited(shift=shift, seed=k, n=300), name=f"{name}-s{SEED + k}", seed=SEED + k)
        for name, of in shifts.items()
        for k, shift in enumerate(of)
    ]
    _, found = through(*runs)

    def table(page: str) -> str:
        return page[page.index("Compared with the first</h2>") : page.index('<section id="setting1"')]

    page, own = render_page(found.runs, pairs=found.pairs), render_page(runs)
    assert table(page) == table(own)
    assert "verdict" in table(page)
    for number in (1, 2, 3):
        assert f">no. {number}<" in page
    assert str(SEED) not in page
    summary = found.document["summary"]["settings"]
    assert [(one["name"], len(one["runs"])) for one in summary] == [("a", 3), ("b", 3)]


def test_passwords_are_masked() -> None:
    run = kept(audited())
    run = replace(run, params={**run.params, "data.source": "postgresql://me:hunter22@host/db"})
    text, found = through(run)
    assert "hunter22" not in text
    assert found.runs[0].params["data.source"] == "postgresql://me:***@host/db"


def test_a_file_read_and_written_again_is_the_same_file() -> None:
    text, found = through(kept(audited(), rules=RULES), kept(audited(shift=0.2, seed=1), name="two"))
    assert evidence.to_json(evidence.written(found.runs, study="report", pairs=found.pairs or ())) == text


# --- the schema ------------------------------------------------------------------------------------------------------


def parts(schema: Any, path: str = "$") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field that the schema declares."""
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}", field
        yield from parts(field, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from parts(schema["items"], f"{path}[]")
    for name, field in schema.get("$defs", {}).items():
        yield from parts(field, name)


def test_the_schema_is_one_and_describes_every_field() -> None:
    from jsonschema import Draft202012Validator

    found = evidence.schema()
    Draft202012Validator.check_schema(found)
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    bare = [path for path, field in parts(found) if "description" not in field and "$ref" not in field]
    assert bare == []
    closed = [
        path for path, field in parts(found) if field.get("additionalProperties") is False or "unevaluatedProperties" in field
    ]
    assert closed == [], "later versions 1.x may add fields anywhere"


def test_what_is_written_fits_the_schema_and_says_so_in_its_version() -> None:
    from jsonschema import Draft202012Validator

    text, _ = through(kept(audited(), rules=RULES), kept(audited(shift=0.2, seed=1), name="two"))
    document = json.loads(text)
    assert list(Draft202012Validator(evidence.schema()).iter_errors(document)) == []
    assert document["schema_version"] == evidence.SCHEMA_VERSION == "1.0"
    known = {path for path, _ in parts(evidence.schema())}
    for field in document["runs"][0]:
        assert f"run.{field}" in known, "what is written is documented"
    for row in document["runs"][0]["gate"]["rules"]:
        assert {f"rule.{field}" for field in row} <= known


@pytest.fixture(scope="module")
def document() -> Any:
    found, _ = through(kept(audited(), rules=RULES))
    return json.loads(found)


def parse(document: Any) -> evidence.EvidenceFile:
    return evidence.parse(json.dumps(document), where="from=e.json")


def changed(document: Any, *path: Any, value: Any) -> Any:
    made = place = copy.deepcopy(document)
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return made


@pytest.mark.usefixtures("undrawn")
def test_fields_of_later_minor_versions_are_read_over(document: Any) -> None:
    later = changed(document, "schema_version", value="1.7")
    for path in (
        (),
        ("runs", 0),
        ("runs", 0, "finding"),
        ("runs", 0, "results", 0),
        ("runs", 0, "gate", "rules", 0),
        ("runs", 0, "risk_statement"),
    ):
        later = changed(later, *path, "added_later", value={"a": [1, None]})
    assert render_page(parse(later).runs) == render_page(parse(document).runs)


LINES = (
    (("schema_version",), "2.0", "schema_version: 2.0 is of another major version; allowed: an evidence file of schema version 1.x"),
    (("schema_version",), 1.0, "schema_version: 1.0; allowed: an evidence file of schema version 1.x"),
    (("runs", 0, "finding", "verdict"), "fine", '$.runs[0].finding.verdict: "fine"; allowed: leaks, doubt, quiet, odd, none'),
    (("runs", 0, "finding", "verdict"), "quiet", "$.runs[0].finding.verdict: quiet; allowed: leaks, which follows"),
    (("runs", 0, "results", 3, "value"), "0.5", '$.runs[0].results[3].value: "0.5"; allowed: a number or null'),
    (("runs", 0, "results", 0, "value"), 1.5, "$.runs[0].results, row 0: auc is 1.5; allowed: 0 to 1"),
    (("runs", 0, "results", 0, "n_member"), -1, "$.runs[0].results[0].n_member: -1; allowed: at least 0"),
    (("runs", 0, "results"), [], "$.runs[0].results: a list of 0; allowed: a list of at least 1"),
    (("runs", 0, "curves", 0, "tpr"), [0.0, 1.0], "$.runs[0].curves[0]: "),
    (("runs", 0, "gate", "outcome"), "maybe", '$.runs[0].gate.outcome: "maybe"; allowed: pass, trip, undecided'),
    (("runs", 0), {"id": "1"}, "$.runs[0]: has no name; allowed: an object with id, name"),
    (("runs", 0, "risk_statement", "declared", "prior"), 2, "$.runs[0].risk_statement: "),
    (("runs", 0, "finding", "primary", "candidates"), ["threshold_loss", "threshold_entropy", "lira"], "$.runs[0].finding.primary: "),
)  # fmt: skip


@pytest.mark.parametrize(("path", "value", "line"), LINES)
def test_what_does_not_fit_is_named_with_what_is_allowed(document: Any, path: tuple[Any, ...], value: Any, line: str) -> None:
    with pytest.raises(UserError) as refused:
        parse(changed(document, *path, value=value))
    found = str(refused.value)
    assert found.startswith(f"from=e.json: {line}")
    assert "allowed: " in found
    assert "\n" not in found


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1e999", "1" + "0" * 400])
def test_numbers_that_json_has_not_are_refused(document: Any, number: str) -> None:
    text = json.dumps(document).replace('"members": 400', f'"members": {number}')
    assert number in text
    with pytest.raises(UserError, match=r"from=e\.json"):
        evidence.parse(text, where="from=e.json")


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text("no JSON")
    with pytest.raises(UserError, match=r"e\.json is damaged .* allowed: an evidence file of schema version 1\.x"):
        evidence.read(str(tmp_path / "e.json"))
    with pytest.raises(UserError, match=r"from=.*none\.json: cannot be read \(No such file"):
        evidence.read(str(tmp_path / "none.json"))
    with pytest.raises(UserError, match=r"cannot be read \(a folder\)"):
        evidence.read(str(tmp_path))
