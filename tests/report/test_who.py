"""The section "who is exposed": counts with intervals and chance, groups, and what a fleet knows; small samples say that they are."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from memberscope import Predictions, run_audit
from memberscope.audit import artifacts
from memberscope.report import facts, page
from memberscope.report.who import who
from memberscope.tracking import KeptRun


def _run(*, n: int = 2000, groups: bool = False, **changes: object) -> KeptRun:
    rng = np.random.default_rng(0)
    member = np.arange(n) < n // 2
    logits = rng.normal(size=(n, 3))
    logits[:, 0] += 2.5 * member
    target = Predictions(
        logits=logits, labels=np.zeros(n, dtype=int), member=member, groups=np.arange(n) // 2 if groups else None
    )
    report = run_audit(target, attacks="threshold_loss", primary="threshold_loss", slices="entire")
    assert report.headline is not None
    given = KeptRun(
        id="a" * 32, name="one", status="FINISHED", tables={artifacts.ATTACKS: report.to_frame()},
        texts={artifacts.HEADLINE: report.headline.to_json()},
    )  # fmt: skip
    return dataclasses.replace(given, **changes)  # type: ignore[arg-type]


def _exposure() -> dict[str, pd.DataFrame]:
    rows = [
        {"attack": attack, "at": at, "fpr": rate, "found": found, "expected": 1000 * rate, "members": 1000, "targets": 4}
        for attack, at, rate, found in (
            ("lira_online", "pooled", 0.01, 300.5), ("lira_online", "pooled", 0.001, 90.25), ("lira_online", "own", 0.01, 1.0),
            ("threshold_loss", "pooled", 0.01, 20.0),
        )
    ]  # fmt: skip
    records = pd.DataFrame(
        {"rank": np.arange(1, 41), "record": [f"{k:016x}" for k in range(40)], "memorization": np.linspace(1, 0.2, 40),
         "memorization_low": np.linspace(0.9, 0.1, 40), "memorization_high": np.ones(40), "privacy_score": [np.nan] * 40}
    )  # fmt: skip
    return {artifacts.EXPOSURE_SUMMARY: pd.DataFrame(rows), artifacts.EXPOSURE: records}


def test_counts_are_those_of_the_attack_with_interval_and_chance() -> None:
    run = _run()
    found = who(run)
    assert found is not None
    table = run.tables[artifacts.ATTACKS]
    row = table[(table["metric"] == "tpr_at_fpr_0_01") & (table["slice"] == "entire")].iloc[0]
    cells = next(cells for cells in found.found.rows if cells[0] == "1 in 100 non-members accused")
    assert cells[1].text == f"{row['value'] * 1000:.0f}"  # type: ignore[union-attr]
    assert cells[1].beneath == f"{row['ci_low'] * 1000:.0f} to {row['ci_high'] * 1000:.0f}"  # type: ignore[union-attr]
    assert cells[2] == "10"
    assert re.match(
        r"\d+ of 1,000 members are found by threshold_loss when 1 in 1,000 others may be wrongly accused", found.lines[0]
    )
    assert "expected by chance: 1.0." in found.lines[0]
    assert "too few others" in found.lines[1]  # a thousand non-members allow one false positive
    assert (found.fleet, found.records) == (None, None)


def test_groups_are_counted_and_are_no_class() -> None:
    run = _run(groups=True)
    found = who(run)
    assert found is not None
    assert found.what == "groups"
    assert "of 500 groups are found" in found.lines[0]
    assert facts.classes(run, "threshold_loss") == []


def test_a_fleets_run_gives_its_models_what_it_knows_of_records() -> None:
    child = _run()
    parent = dataclasses.replace(
        child, id="b" * 32, tables=_exposure(), texts={}, children=(child,),
        metrics={"exposure/shown": ((0, 12.0),), "exposure/records": ((0, 2000.0),), "auc/x": ((0, 0.5),)},
    )  # type: ignore[arg-type]  # fmt: skip
    (run,) = facts.audited([parent])
    assert run.id == child.id
    found = who(run)
    assert found is not None
    assert found.fleet is not None
    assert found.records is not None
    assert "show 12 of 2,000 records to be exposed" in found.lines[-1]
    assert [list(row) for row in found.fleet.rows] == [
        ["lira_online", "300.5", "90.2"], ["threshold_loss", "20.0", "–"], ["by chance", "10.0", "1.0"],
    ]  # fmt: skip
    assert len(found.records.rows) == 25
    assert found.records.rows[0][2].beneath == "0.90 to 1.00"  # type: ignore[union-attr]
    assert found.records.rows[0][3].text == "–"  # type: ignore[union-attr]


@pytest.mark.parametrize("table", [pd.DataFrame({"a": [1]}), pd.DataFrame({"rank": [], "record": []})])
def test_a_table_of_another_kind_is_left_out(table: pd.DataFrame) -> None:
    found = who(_run(tables={**_run().tables, artifacts.EXPOSURE: table}))
    assert found is not None
    assert found.records is None


def test_the_page_says_who_before_it_lists_classes_and_records() -> None:
    child = _run()
    html = page.render_page([facts.audited([dataclasses.replace(child, tables={**child.tables, **_exposure()})])[0]])
    assert html.index("Who is exposed") > html.index("<h3>Attacks</h3>")
    assert "The records that the fleet shows to be most exposed" in html
