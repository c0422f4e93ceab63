"""A metric of someone else's: computed for every attack, in tables, rules, headline and page; and it moves no other figure."""

from __future__ import annotations

import dataclasses
import io
import math
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from memberscope import AuditReport, Predictions, run_audit
from memberscope.audit.log import log_headline
from memberscope.audit.wording import headline_table
from memberscope.errors import UserError
from memberscope.gate import judge, parse_rules
from memberscope.gate.intervals import figure
from memberscope.metrics import Estimate, MetricInput, MetricSpec, figures, registry
from memberscope.metrics.rounding import round_estimate
from memberscope.report.page import render_page
from memberscope.tracking import KeptRun, MemoryTracker

SHIFT = 0.8


def gap(given: MetricInput, confidence: float) -> Estimate:
    """The difference of mean scores, whose normal interval is exact for scores of deviation 1."""
    scores, member = given.arrays
    value = float(scores[member].mean() - scores[~member].mean())
    error = norm.ppf(0.5 + confidence / 2) * math.sqrt(1 / member.sum() + 1 / (~member).sum())
    return Estimate(value=value, ci_low=value - error, ci_high=value + error)


GAP = MetricSpec(
    name="mean_gap", about="difference of mean scores", range=(-50.0, 50.0), chance=0.0, compute=gap, label="mean gap", digits=2,
    summary=True, headline=True,
)  # fmt: skip


@pytest.fixture
def plugged() -> Iterator[MetricSpec]:
    yield registry.register(GAP, package="gap-package")
    registry.unregister("mean_gap")


def audited(n: int = 400, **options: Any) -> AuditReport:
    rng = np.random.default_rng(1)
    member = np.arange(n) % 2 == 0
    loss = rng.normal(size=n) - SHIFT * member
    labels = rng.integers(0, 3, n)
    options = {"attacks": "threshold_loss", **options}
    return run_audit(Predictions(loss_nats=loss - loss.min(), labels=labels, member=member, record_ids=np.arange(n)), **options)


def test_it_has_its_closed_form_in_every_table(plugged: MetricSpec) -> None:
    report = audited(4000, slices="entire,class")
    result = report.result("threshold_loss")
    assert result.figures["mean_gap"].value == pytest.approx(SHIFT, abs=4 * math.sqrt(4 / 4000))
    rows = report.to_frame().query("metric == 'mean_gap'")
    assert rows["slice"].tolist() == ["entire", "class_0", "class_1", "class_2"]
    assert list(result.figures)[-1] == "mean_gap", "after the built-in ones"
    assert report.headlines()["mean_gap/threshold_loss"] == result.figures["mean_gap"].value
    assert report.headlines()["mean_gap_ci_low/threshold_loss"] == result.figures["mean_gap"].ci_low
    assert headline_table(report)["mean_gap"].tolist() == [round(result.figures["mean_gap"].value, 4)]
    tracker = MemoryTracker()
    log_headline(report, tracker)
    assert tracker.latest("mean_gap/headline") == round_estimate(result.figures["mean_gap"])[0]


def test_it_moves_no_other_figure() -> None:
    before = audited(slices="entire,class", attacks="threshold_loss,trained_lr", coin_flips=True).to_frame()
    registry.register(GAP, package="gap-package")
    try:
        after = audited(slices="entire,class", attacks="threshold_loss,trained_lr", coin_flips=True).to_frame()
    finally:
        registry.unregister("mean_gap")
    pd.testing.assert_frame_equal(before, after[after["metric"] != "mean_gap"].reset_index(drop=True))


def test_a_rule_on_it_is_judged_by_its_interval(plugged: MetricSpec) -> None:
    report = audited()
    shown = report.result("threshold_loss").figures["mean_gap"]
    known = figure(report.result("threshold_loss"), "mean_gap", seed=report.seed)
    assert known.at(0.95) == shown
    limit = 0.5
    z = (shown.value - limit) / math.sqrt(4 / 400)
    assert known.p_above(limit) == pytest.approx(2 * norm.sf(z), rel=1e-3), "the p-value of the normal test"
    for below, outcome in ((shown.value - 0.25, "trip"), (shown.value, "undecided"), (shown.value + 0.25, "pass")):
        assert judge(report, parse_rules(f"threshold_loss.entire.mean_gap > {below:.4f}")).outcome == outcome
    with pytest.raises(UserError, match=r"column 23: -51 is out of range; .* between -50 and 50"):
        parse_rules("any.entire.mean_gap > -51")


def kept(report: AuditReport) -> KeptRun:
    assert report.headline is not None
    return KeptRun(
        id="0" * 32, name="one", started="2026-01-02 03:04 UTC", tags={}, params={}, scores=None, inputs=(),
        tables={"attacks.csv": pd.read_csv(io.StringIO(report.to_frame().to_csv(index=False)))},
        texts={"headline.json": report.headline.to_json()},
    )  # fmt: skip


def test_the_page_shows_it_with_and_without_the_package() -> None:
    registry.register(GAP, package="gap-package")
    try:
        run = kept(audited())
        page = render_page([run], title="t")
    finally:
        registry.unregister("mean_gap")
    value = run.tables["attacks.csv"].query("metric == 'mean_gap'")["value"].iloc[0]
    assert "mean gap, threshold_loss" in page, "a tile of the headline"
    assert re.search(r"<th[^>]*>mean gap</th>", page), "a column of the table of attacks"
    assert f"{value:.2f}" in page
    assert "mean gap: difference of mean scores." in page
    without = render_page([run], title="t")
    assert "mean_gap" in without
    assert f"{value:.3f}" in without


def broken(given: MetricInput, confidence: float) -> Estimate:
    return Estimate(value=1 / 0)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (dataclasses.replace(GAP, compute=broken), "mean_gap of gap-package failed: ZeroDivisionError: division by zero"),
        (
            dataclasses.replace(GAP, range=(100.0, 101.0)),
            r"mean_gap of gap-package failed: RuntimeError: mean_gap: returned [\d.]+, outside its range 100 to 101",
        ),
        (dataclasses.replace(GAP, compute=lambda given, c: 0.5), ".* returned float where an Estimate was expected"),
        (
            dataclasses.replace(GAP, compute=lambda given, c: Estimate(value=0.5, ci_low=0.9, ci_high=0.1)),
            r".* returned 0.5 with an interval from 0.9 to 0.1, which does not contain it",
        ),
        (dataclasses.replace(GAP, compute=lambda given, c: sys.exit(7)), "mean_gap of gap-package failed: SystemExit: 7"),
        (dataclasses.replace(GAP, needs=frozenset({"coin_flips"})), "membership was not drawn by independent coin flips"),
    ],
    ids=["raises", "out of range", "no estimate", "interval beside it", "exits", "lacks coins"],
)
def test_what_cannot_be_computed_is_skipped_with_its_reason(spec: MetricSpec, reason: str) -> None:
    registry.register(spec, package="gap-package")
    try:
        report = audited()
        found = report.result("threshold_loss").figures["mean_gap"]
        assert found.status == "skipped"
        with pytest.raises(AssertionError, match=f"^{reason}$"):
            raise AssertionError(found.reason)
        assert report.result("threshold_loss").figures["auc"].status == "ok"
        limit = 100.5 if spec.range[0] > 0 else 0.5
        assert judge(report, parse_rules(f"threshold_loss.entire.mean_gap > {limit}")).outcome == "undecided"
    finally:
        registry.unregister("mean_gap")


def test_its_own_draws_are_the_same_whatever_else_is_asked_for() -> None:
    def draw(given: MetricInput, confidence: float) -> Estimate:
        return Estimate(value=float(given.stream("drawn").random()))

    spec = MetricSpec(name="drawn", about="a draw", range=(0.0, 1.0), compute=draw, gate=False)
    scores, member = np.arange(60.0), np.arange(60) % 2 == 0
    registry.register(spec)
    try:
        alone = figures(scores, member, rng=np.random.default_rng(3))["drawn"].value
        again = figures(scores, member, rng=np.random.default_rng(3), null_draws=5, fpr_targets=(0.2,))["drawn"].value
        other = figures(scores, member, rng=np.random.default_rng(4))["drawn"].value
    finally:
        registry.unregister("drawn")
    assert alone == again
    assert alone != other
    assert not math.isclose(alone, float(np.random.default_rng(3).random())), "a stream of its own"


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        (dataclasses.replace(GAP, name="auc"), "metric 'auc' of mine: the name is taken by memberscope itself"),
        (dataclasses.replace(GAP, name="gap"), "metric 'gap' of mine: the name is taken by the train-validation gap"),
        (
            dataclasses.replace(GAP, name="worst_slice_gap"),
            "metric 'worst_slice_gap' of mine: its name could be mistaken for part of another",
        ),
        (
            dataclasses.replace(GAP, name="gap_ci_low"),
            "metric 'gap_ci_low' of mine: its name could be mistaken for part of another",
        ),
        (dataclasses.replace(GAP, name="Gap/2"), "metric 'Gap/2' of mine: not a valid name"),
    ],
)
def test_names_that_would_be_misread_are_refused(spec: MetricSpec, line: str) -> None:
    with pytest.raises(UserError, match=f"^{line}"):
        registry.register(spec, package="mine")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"range": (1.0, 0.0)}, "its lower end must be below"),
        ({"needs": frozenset({"moon"})}, "needs=moon; allowed: labels, coin_flips"),
        ({"higher_leaks": False}, "gate=True: a rule trips above its limit"),
    ],
)
def test_a_metric_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(GAP, **changes)


def test_a_ceiling_that_fails_ends_no_study() -> None:
    """Without a ceiling a rule can trip, and the figures decide."""

    def boom(given: MetricInput, confidence: float) -> float:
        raise RuntimeError("boom")

    registry.register(dataclasses.replace(GAP, ceiling=boom), package="gap-package")
    try:
        assert judge(audited(), parse_rules("threshold_loss.entire.mean_gap > 0.001")).outcome == "trip"
    finally:
        registry.unregister("mean_gap")
