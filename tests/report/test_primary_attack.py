"""The attack that a page opens with."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from report_pages import report, run_of, weak_and_strong

from memberscope.audit.run import AuditReport
from memberscope.report import facts, figures
from memberscope.report.page import render_page
from memberscope.tracking import KeptRun


def without(run: KeptRun, *names: str, **changes: object) -> KeptRun:
    """As a run was kept before there were such texts."""
    return replace(run, texts={name: text for name, text in run.texts.items() if name not in names}, **changes)


@pytest.mark.usefixtures("undrawn")
def test_the_page_opens_with_the_strongest_attack_on_the_other_half_and_not_with_the_first() -> None:
    found = weak_and_strong()
    assert found.whole()[0].attack == "label_only_gap"
    assert found.headline is not None
    assert (found.headline.attack, found.headline.n_member) == ("threshold_loss", 500)
    html = render_page([run_of(found)])
    opening = html[html.index('class="finding') : html.index("What to do")]
    assert "threshold_loss" in opening
    assert "label_only_gap" not in opening
    assert f"{found.headline.auc.value:.1%}" in opening
    assert f"{found.result('threshold_loss').figures['auc'].value:.1%}" not in opening, (
        "the figure of all records is best of several"
    )
    assert "the strongest of 2 attacks on one half of the records, reported on the other half" in opening


def test_a_named_attack_opens_the_page_on_all_records() -> None:
    found = weak_and_strong(primary="label_only_gap")
    told, lines = facts.plain_words(run_of(found))
    assert f"{found.result('label_only_gap').figures['auc'].value:.1%}" in " ".join([told, *lines])
    assert "named before the audit: 1,000 members and 1,000 non-members" in " ".join(lines)


def test_runs_from_before_headlines_get_one_from_their_scores() -> None:
    """By the rule of the audits of today, with the draw of seed 0: the very figures that such an audit would have kept."""
    found = weak_and_strong()
    before = without(run_of(found), "headline.json")
    again, now = facts.headline(before), found.headline
    assert again is not None
    assert now is not None
    assert (again.attack, again.chosen, again.auc) == (now.attack, now.chosen, now.auc)
    assert again.figures["tpr_at_fpr_0_1"] == now.figures["tpr_at_fpr_0_1"]
    bare = without(run_of(found), "headline.json", scores=None)
    told = facts.headline(bare)
    assert told is not None
    assert (told.attack, told.chosen, told.n_member) == ("label_only_gap", "first", 1000)
    assert told.auc.value == pytest.approx(found.result("label_only_gap").figures["auc"].value)
    assert "scores of individual records were not stored" in " ".join(facts.plain_words(bare)[1])
    assert facts.audited([before])[0].texts["headline.json"] == again.to_json(), "computed once a page"


def test_the_primary_attack_is_drawn_wherever_it_stands() -> None:
    names = [f"a{k}" for k in range(16)]
    assert figures.drawn("a12", names) == ["a12", *names[:7]]
    assert figures.drawn("a2", names) == ["a2", "a0", "a1", *names[3:8]]
    found = weak_and_strong()
    bands = pd.DataFrame({"fpr": [0.1], "low": [0.0], "high": [1.0], "attack": ["label_only_gap"]})
    run = run_of(found)
    run = replace(run, tables={**run.tables, "roc_band.csv": bands})
    band = figures.band(run, "threshold_loss")
    assert band is not None
    assert len(band) > 1, "the band of another attack is not drawn as this one's"
    assert figures.band(run, "label_only_gap") is bands
    old = replace(run, tables={**run.tables, "roc_band.csv": bands.drop(columns="attack")})
    assert len(figures.band(old, "label_only_gap")) == 1, "bands without a name are the first attack's"
    assert len(figures.band(old, "threshold_loss")) > 1


@pytest.mark.usefixtures("undrawn")
def test_what_to_do_follows_the_verdict_and_the_gate(leaky: AuditReport) -> None:
    leaks, quiet = run_of(leaky), run_of(report(shift=0.0, seed=5))
    gated = [
        replace(run, tags={"memberscope.gate": outcome, "memberscope.gate_reason": "because"})
        for run, outcome in ((leaks, "trip"), (quiet, "undecided"), (quiet, "pass"))
    ]
    said = [facts.advice(run, facts.judged(run)) for run in (leaks, quiet, *gated)]
    assert ["mitigate" in " ".join(lines) for lines in said] == [True, False, True, False, False]
    assert ["--fail_if" in " ".join(lines) for lines in said] == [True, True, False, False, False]
    affected = "See who is affected: the worst classes{} are below."
    assert affected.format(" and the most exposed records") in said[0]
    private = {name: table for name, table in leaks.tables.items() if name != "most_exposed.csv"}
    assert affected.format("") in facts.advice(replace(leaks, tables=private), "leaks")
    attacks = leaks.tables["attacks.csv"]
    whole = private | {"attacks.csv": attacks[attacks["slice"] == "entire"]}
    assert "See who is affected" not in " ".join(facts.advice(replace(leaks, tables=whole), "leaks"))
    assert said[2][0].startswith("Do not release")
    assert said[3][0].startswith("Audit more records")
    assert "Try stronger attacks" in said[4][0]
    html = render_page([gated[0]])
    assert (
        html.index("gives away") < html.index("Gate: tripped.") < html.index("Do not release") < html.index("What was audited")
    )
