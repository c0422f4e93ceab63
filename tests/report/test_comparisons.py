"""Runs side by side: paired where they share records, and what can still be said where they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from report_pages import report, run_of

from memberscope import metrics, seeds
from memberscope.audit.run import AuditReport
from memberscope.report import comparison
from memberscope.report.compare import compare_runs, match
from memberscope.report.page import render_page
from memberscope.scores import KeptScores
from memberscope.tracking import KeptRun


def test_a_weak_comparison_is_marked_by_its_status(leaky: AuditReport, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [run_of(leaky), run_of(report(shift=0.6, seed=1), name="two")]

    def marks() -> list[tuple[str, bool]]:
        (pair,) = comparison.pairs(compare_runs(runs, seed=0)).paired
        return [(row[1], row[3].mark == "*") for row in pair.table.rows]

    before = marks()
    assert set(before) == {("AUC", False), ("TPR at FPR 0.01", True)}, "600 non-members allow 6 false positives"
    monkeypatch.setattr("memberscope.metrics.paired.budget_reason", lambda *_: "")
    assert marks() == before


def test_same_records_are_paired_in_whatever_order(leaky: AuditReport) -> None:
    other = report(shift=0.6, seed=1)
    second = run_of(other, name="two")
    assert second.scores is not None
    order = seeds.stream(0, "shuffle").permutation(1200)
    shuffled = KeptScores(
        member=second.scores.member[order], ranks={name: ranks[order] for name, ranks in second.scores.ranks.items()},
        record_ids=np.arange(1200)[order],
    )  # fmt: skip
    (pair,) = compare_runs([run_of(leaky), replace(second, scores=shuffled)], seed=0)
    assert pair.paired
    assert "the same 1,200 records" in pair.why
    expected = metrics.compare_auc(other.scores("threshold_loss"), leaky.scores("threshold_loss"), leaky.target.member)
    row = next(row for row in pair.rows if (row.attack, row.metric) == ("threshold_loss", "auc"))
    assert row.difference == pytest.approx(expected.difference, abs=1e-12)
    assert row.p_value == pytest.approx(expected.p_value)
    tested = [row.p_value for row in pair.rows]
    np.testing.assert_allclose([row.p_holm for row in pair.rows], metrics.holm(tested))


@pytest.mark.usefixtures("undrawn")
def test_different_records_say_what_can_still_be_said(leaky: AuditReport) -> None:
    other = report(shift=0.2, seed=2, ids=1000)
    runs = [run_of(leaky), run_of(other, name="two")]
    (pair,) = compare_runs(runs, seed=0)
    assert not pair.paired
    assert "200 of the 1,200 records of the first run are among the 1,200 of the second" in pair.why
    a, b = other.result("threshold_loss").figures["auc"], leaky.result("threshold_loss").figures["auc"]
    row = next(row for row in pair.rows if row.attack == "threshold_loss")
    assert row.p_value is None
    assert row.difference == pytest.approx(a.value - b.value)
    assert row.ci_low == pytest.approx(row.difference - np.hypot(a.value - a.ci_low, b.ci_high - b.value))
    html = render_page(runs)
    assert "A paired test needs records that both runs share" in html
    assert f"<code>two</code> ({pair.why})" in html


def test_intervals_of_unpaired_differences_cover_the_truth() -> None:
    """Two models on records of their own, AUC Phi(d / sqrt 2) each; 200 draws, misses beyond 22 in less than 1 of 1,000 runs at 5%."""
    from scipy.stats import norm

    rng = np.random.default_rng(1)
    truth = float(norm.cdf(1.0 / np.sqrt(2)) - norm.cdf(0.5 / np.sqrt(2)))
    missed = 0
    member = np.arange(300) < 150
    for _ in range(200):
        runs = []
        for name, apart in (("one", 0.5), ("two", 1.0)):
            auc = metrics.auc(rng.normal(size=300) + apart * member, member)
            line = {"attack": "a", "family": "f", "slice": "entire", "metric": "auc", "value": auc.value, "ci_low": auc.ci_low,
                    "ci_high": auc.ci_high, "n_member": 150, "n_nonmember": 150, "status": "ok", "reason": ""}  # fmt: skip
            runs.append(KeptRun(id=name, name=name, tables={"attacks.csv": pd.DataFrame([line])}))
        (row,) = compare_runs(runs, seed=0)[0].rows
        missed += not row.ci_low <= truth <= row.ci_high
    assert 1 <= missed <= 22


def test_why_records_do_not_match() -> None:
    member = np.array([True, True, False, False])
    ranks = {"a": np.arange(4, dtype=np.int32)}

    def scores(ids: list[int] | None, *, source: str = "given", truth: np.ndarray = member) -> KeptScores:
        return KeptScores(member=truth, ranks=ranks, record_ids=None if ids is None else np.array(ids), source=source)

    assert "not stored" in match(None, scores([1, 2, 3, 4]))[1]
    assert "no ids" in match(scores(None), scores([1, 2, 3, 4]))[1]
    assert "different data sets" in match(scores([1, 2, 3, 4], source="x"), scores([1, 2, 3, 4], source="y"))[1]
    assert "occur several times" in match(scores([1, 1, 3, 4]), scores([1, 1, 3, 4]))[1]
    assert (
        "2 of 4 are members in one run only" in match(scores([1, 2, 3, 4]), scores([1, 2, 3, 4], truth=member[[0, 2, 1, 3]]))[1]
    )
    order, _ = match(scores([1, 1, 3, 4], source="content"), scores([1, 1, 4, 3], source="content"))
    assert order is not None
    assert order.tolist() == [0, 1, 3, 2]
