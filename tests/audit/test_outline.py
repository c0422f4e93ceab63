"""What a report shows when it is printed, drawn or saved."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from memberscope import AuditReport, Predictions, run_audit
from memberscope.audit import artifacts
from memberscope.audit.statement import RiskStatement
from memberscope.errors import UserError


@pytest.fixture(scope="module")
def report() -> AuditReport:
    rng = np.random.default_rng(0)
    labels, member = rng.integers(0, 3, 1200), np.arange(1200) % 2 == 0
    logits = rng.normal(size=(1200, 3))
    logits[np.arange(1200), labels] += 1 + 1.5 * member
    return run_audit(
        Predictions(logits=logits, labels=labels, member=member),
        attacks="threshold_loss,threshold_entropy,lira_online", prior=0.1, workers=1,
    )  # fmt: skip


def test_print_gives_the_finding_the_table_and_what_was_skipped(report: AuditReport) -> None:
    headline = report.headline
    assert headline is not None
    finding, table, remark, skipped = str(report).split("\n\n")
    assert finding == report.outline.finding
    assert f"AUC {headline.auc.value:.3f}, 95% interval {headline.auc.ci_low:.3f} to {headline.auc.ci_high:.3f}" in finding
    lines = table.splitlines()
    assert lines[0].split() == [
        "attack",
        "AUC",
        "95%",
        "advantage",
        "(held",
        "out)",
        "TPR",
        "at",
        "0.1",
        "at",
        "0.01",
        "at",
        "0.001",
    ]
    assert [line.split()[0] for line in lines[1:]] == [headline.attack, "threshold_loss" if headline.attack != "threshold_loss" else
                                                       "threshold_entropy"]  # fmt: skip
    for line in lines[1:]:
        auc = report.result(line.split()[0]).figures["auc"]
        assert f"{auc.value:.3f} {auc.ci_low:.3f} to {auc.ci_high:.3f}" in line
    assert remark == "* rests on fewer than ten false positives"
    assert skipped.startswith("Skipped: lira_online (")
    assert "\n" not in skipped
    assert len(str(report)) < 1500, "not the arrays"


def test_a_notebook_shows_the_same_and_no_markup_of_others(report: AuditReport) -> None:
    page = report._repr_html_()
    assert page.startswith("<p><b>")
    tables = pd.read_html(page) if _has_lxml() else None
    if tables is not None:
        assert list(tables[0]["attack"]) == list(report.outline.short_table()["attack"])
    rows = [result.attack for result in report.results]
    assert all(name in page for name in rows)


def _has_lxml() -> bool:
    from memberscope.installed import is_installed

    return is_installed("lxml")


def test_plot_roc_draws_the_chosen_curves_on_given_axes(report: AuditReport) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    assert report.plot_roc(axes, attacks=["threshold_entropy"], log=False) is axes
    curve, chance = axes.get_lines()
    assert str(curve.get_label()).startswith("threshold_entropy (AUC 0.")
    assert chance.get_label() == "chance"
    roc = report.roc("threshold_entropy")
    at = np.interp([0.1, 0.5], np.asarray(roc.fpr), np.asarray(roc.tpr))
    assert np.interp([0.1, 0.5], curve.get_xdata(), curve.get_ydata()) == pytest.approx(at, abs=0.02)
    own = report.plot_roc()
    assert own.get_xscale() == "log"
    assert len(own.get_lines()) == 3
    with pytest.raises(UserError, match=r"^attacks=lira_online: did not run; allowed: threshold_"):
        report.plot_roc(attacks=["lira_online"])


def test_save_writes_what_a_run_would_hold_and_nothing_of_single_records(report: AuditReport, tmp_path: Path) -> None:
    folder = report.save(tmp_path / "new" / "folder")
    there = {path.name for path in folder.iterdir()}
    assert there - {artifacts.ROC_FIGURE} == {
        artifacts.SUMMARY, artifacts.RISK_STATEMENT, artifacts.ATTACKS, artifacts.HEADLINE, artifacts.ROC,
    }  # fmt: skip
    frame = pd.read_csv(folder / artifacts.ATTACKS)
    assert frame["value"].to_numpy() == pytest.approx(report.to_frame()["value"].to_numpy(), nan_ok=True)
    assert json.loads((folder / artifacts.RISK_STATEMENT).read_text()) == json.loads(report.risk_statement.to_json())
    assert isinstance(report.risk_statement, RiskStatement)
    points = pd.read_csv(folder / artifacts.ROC)
    assert list(points.columns) == ["attack", "fpr", "tpr"]
    for _, part in points.groupby("attack"):
        steps = np.diff(np.round(part["fpr"] * 600 + part["tpr"] * 600))
        assert steps.min() >= 50
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match=r"^folder=.*file/inside: cannot be written \(.*\); allowed: a folder that can be written$"
    ):
        report.save(tmp_path / "file" / "inside")
