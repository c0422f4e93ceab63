"""The section with the risk statement: what a run has stored, and what follows under other declarations."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memberscope import AuditReport, Predictions, run_audit
from memberscope.audit import artifacts, kept_statement
from memberscope.audit.declared import Declared
from memberscope.errors import UserError
from memberscope.report import page
from memberscope.report.risk import risk, under
from memberscope.tracking import KeptRun


@pytest.fixture(scope="module")
def report() -> AuditReport:
    rng = np.random.default_rng(0)
    member = np.arange(2000) < 1000
    logits = rng.normal(size=(2000, 3))
    logits[:, 0] += 2.0 * member
    target = Predictions(logits=logits, labels=np.zeros(2000, dtype=int), member=member)
    return run_audit(
        target, attacks="threshold_loss,threshold_entropy", primary="threshold_loss", prior=0.05, subjects=4000, workers=1
    )


@pytest.fixture(scope="module")
def run(report: AuditReport) -> KeptRun:
    assert report.headline is not None
    return KeptRun(
        id="a" * 32, name="one", status="FINISHED", tables={artifacts.ATTACKS: report.to_frame()},
        texts={artifacts.HEADLINE: report.headline.to_json(), artifacts.RISK_STATEMENT: report.risk_statement.to_json()},
    )  # fmt: skip


def test_what_was_stored_is_read_back(report: AuditReport) -> None:
    found = report.risk_statement
    assert kept_statement.read(found.to_json()).to_json() == found.to_json()
    none = dataclasses.replace(found, declared=Declared(), combined=())
    assert kept_statement.read(none.to_json()) == none


def test_the_table_has_the_statements_numbers(run: KeptRun, report: AuditReport) -> None:
    found = risk(run)
    assert found is not None
    assert (found.primary, found.grouped, found.left_out) == ("threshold_loss", False, 0)
    assert [row[0] for row in found.measured.rows] == ["threshold_loss (primary)", "", "", "threshold_entropy", "", ""]
    first = report.risk_statement.measured[0]
    for row, rate in zip(found.measured.rows, first.rates, strict=False):
        assert row[4].text == str(rate.members_accused)  # type: ignore[union-attr]
        assert float(row[2].text) == pytest.approx(rate.tpr.value, abs=0.006)  # type: ignore[union-attr]
    assert found.declared == (
        "Among the candidates that an attacker considers, a share of 0.05 are members.", "The training set holds 4,000 people.",
    )  # fmt: skip
    assert found.combined is not None
    assert found.combined.head == ("FPR", "accusations that are right", "people found", "others wrongly accused")
    wrong = report.risk_statement.combined[1].wrongly_accused
    assert wrong is not None
    assert float(found.combined.rows[1][3].text.replace(",", "")) == pytest.approx(wrong.value, rel=0.01)  # type: ignore[union-attr]


def test_a_lift_without_an_upper_end_is_kept_and_shown_as_a_lower_bound() -> None:
    """Half of the members have a loss that no non-member reaches, and all others are tied."""
    member = np.arange(800) % 2 == 0
    target = Predictions(loss_nats=np.where(np.arange(800) % 4 == 0, 0.1, 1.0), member=member)
    report = run_audit(target, attacks="threshold_loss", prior=0.05, workers=1)
    found = report.risk_statement
    assert kept_statement.read(found.to_json()).to_json() == found.to_json()  # a skipped metric's NaN equals nothing
    shown = risk(
        KeptRun(
            id="a" * 32,
            name="one",
            status="FINISHED",
            tables={artifacts.ATTACKS: report.to_frame()},
            texts={artifacts.HEADLINE: report.headline.to_json(), artifacts.RISK_STATEMENT: found.to_json()},  # type: ignore[union-attr]
        )
    )
    assert shown is not None
    cell, lift = shown.measured.rows[0][3], found.measured[0].rates[0].lift
    assert (cell.text, cell.beneath) == (f"{lift.ci_low:.1f}", "or more")  # type: ignore[union-attr]
    assert (lift.value, lift.ci_high) == (lift.ci_low, None)


def test_the_page_shows_it_and_other_declarations_change_it(run: KeptRun) -> None:
    shown = page.render_page([run])
    assert "<h3>Risk statement</h3>" in shown
    assert "The training set holds 4,000 people." in shown
    other = page.render_page([run], declared=Declared(subjects=90_000, sensitivity="<b>has the disease</b>"))
    assert "The training set holds 90,000 people." in other
    assert "a share of 0.05 are members" in other
    assert "Membership reveals: &lt;b&gt;has the disease&lt;/b&gt;." in other
    with pytest.raises(UserError, match=r"^subjects=10: fewer than the 1000 members audited"):
        page.render_page([run], declared=Declared(subjects=10))


def test_runs_without_a_statement_have_no_section(run: KeptRun) -> None:
    old = dataclasses.replace(run, texts={artifacts.HEADLINE: run.texts[artifacts.HEADLINE]})
    assert risk(old) is None
    assert under(old, Declared(prior=0.1)) is old
    assert "Risk statement" not in page.render_page([old])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "not a risk statement of version 1"),
        ({"counted": "people"}, "counted is 'people'"),
        ({"measured": "all"}, "measured is not a list"),
        ({"declared": {"prior": 2, "subjects": None, "sensitivity": ""}}, "prior=2"),
        ({"declared": {"prior": True, "subjects": None, "sensitivity": ""}}, r"declared\.prior is not a number"),
        ({"declared": {"prior": None, "subjects": 1.5, "sensitivity": ""}}, r"declared\.subjects is not a number of records"),
        ({"combined": [{"fpr": 0.1}]}, "precision"),
        (
            {"combined": [{"fpr": 7, "precision": None, "found": None, "wrongly_accused": None}]},
            r"combined\[0\]\.fpr is not a rate",
        ),
    ],
)
def test_damaged_statements_are_refused(run: KeptRun, change: dict[str, object], words: str) -> None:
    damaged = {**json.loads(run.texts[artifacts.RISK_STATEMENT]), **change}
    with pytest.raises(ValueError, match=rf"^risk_statement\.json: .*{words}"):
        kept_statement.read(json.dumps(damaged))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.data())
def test_any_damage_is_a_value_error_or_a_statement(run: KeptRun, data: st.DataObject) -> None:
    values = json.loads(run.texts[artifacts.RISK_STATEMENT])
    at = values
    while isinstance(at, dict | list) and at:  # walk to a random place and put something else there
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if data.draw(st.booleans()) or not isinstance(at[key], dict | list):
            at[key] = data.draw(JSON)
            break
        at = at[key]
    try:
        found = kept_statement.read(json.dumps(values))
    except ValueError:
        return
    assert json.loads(found.to_json()).keys() == values.keys()
