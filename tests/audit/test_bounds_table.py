"""The table of lower bounds on epsilon, and the verdict on a promise."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from memberscope import Predictions, metrics, run_audit
from memberscope.audit import artifacts, promise
from memberscope.audit import bounds_table as bounds
from memberscope.audit.bounds_table import BoundRow, Look, bounds_frame, bounds_table, judge_promise, primary_method
from memberscope.audit.report import AuditReport
from memberscope.errors import UserError
from memberscope.metrics.rounding import logged_each
from memberscope.tracking import MemoryTracker


def gaussian_run(mu: float, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores of one run of the Gaussian mechanism of this mu on `n` coin-flip records."""
    member = rng.random(n) < 0.5
    return rng.normal(size=n) + mu * member, member


def table(scores: np.ndarray, member: np.ndarray, **options: Any) -> dict[str, BoundRow]:
    given: dict[str, Any] = {"attack": "lira_online", "coin_flips": True, "delta": 1e-5, "promise": None}
    return {row.method: row for row in bounds_table(scores, member, **given | options)}


def look(scores: np.ndarray, member: np.ndarray, records: bounds.Records = "ordinary") -> Look:
    return Look(attack="lira_online", records=records, scores=scores, member=member)


def test_each_row_is_the_bound_that_it_names() -> None:
    scores, member = gaussian_run(2.0, 640, np.random.default_rng(0))
    rows = table(scores, member, promise=2.0)
    assert list(rows) == ["one_run", "fdp_one_run", "gaussian_dp", "clopper_pearson"]
    shares = metrics.GuessShares(shares=(1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0))
    for method, threshold, sides in (
        ("one_run", shares, "both"),
        ("fdp_one_run", shares, "both"),
        ("gaussian_dp", metrics.AllThresholds(), "members"),
        ("clopper_pearson", metrics.AllThresholds(), "both"),
    ):
        expected = metrics.epsilon_bound(
            scores, member, method=method, threshold=threshold, sides=sides, delta=1e-5, coin_flips=True  # type: ignore[arg-type]
        )  # fmt: skip
        row = rows[method]
        assert row.bound == expected.estimate.value > 0
        assert row.ratio == row.bound / 2
        assert (row.sides, row.assumes, row.n, row.delta, row.confidence) == (sides, expected.assumes, 640, 1e-5, 0.95)
        assert row.bound <= row.ceiling  # type: ignore[operator]
    assert [row.method for row in rows.values() if row.primary] == ["one_run"]
    assert rows["one_run"].verdict == "contradicted"
    frame = bounds_frame(list(rows.values()))
    assert frame["primary"].sum() == 1
    assert list(frame.columns)[:4] == ["attack", "records", "method", "primary"]


@pytest.mark.parametrize("method", ["one_run", "fdp_one_run", "gaussian_dp", "clopper_pearson"])
def test_no_scores_give_more_than_the_ceiling_and_perfect_ones_give_it(method: Any) -> None:
    rng = np.random.default_rng(1)
    member = rng.random(300) < 0.5
    perfect = table(member + rng.random(300) / 2, member)[method]
    assert perfect.bound == pytest.approx(perfect.ceiling)
    assert perfect.bound > 1  # type: ignore[operator]
    for mu in (0.0, 2.0, 4.0):
        row = table(rng.normal(size=300) + mu * member, member)[method]
        assert row.ceiling == perfect.ceiling
        assert row.bound < row.ceiling * (0.5 if mu == 0 else 1 + 1e-9)  # type: ignore[operator]


@pytest.mark.parametrize(("mu", "promise"), [(0.0, None), (0.0, 0.5), (1.0, 4.0), (1.0, 8.0)])
def test_the_primary_bound_exceeds_the_truth_in_at_most_five_percent_of_runs(mu: float, promise: float | None) -> None:
    """600 runs of a null mechanism and of the Gaussian mechanism; above 5% of 600 by chance only once in 10,000 times: 52."""
    truth = metrics.gaussian_epsilon(mu, 1e-5)
    rng, above, shown, chosen = np.random.default_rng(2), 0, [], ""
    for _ in range(600):
        scores, member = gaussian_run(mu, 200, rng)
        chosen = primary_method(200, delta=1e-5, promise=promise)
        found = judge_promise([look(scores, member)], coin_flips=True, delta=1e-5, promise=promise)
        assert found.method == chosen
        assert found.bound is not None
        above += found.bound > truth
        shown.append(found.bound)
    assert chosen == ("fdp_one_run" if promise in (4.0, 8.0) else "one_run")
    assert above <= 30
    if mu:
        assert 0.25 < np.median(shown) / truth < 1


def test_a_judgement_of_ten_looks_is_wrong_in_at_most_five_percent_of_studies() -> None:
    """Five seeds, ordinary records and canaries; with each look at the whole error a third of null studies would be wrong."""
    rng, above, uncorrected = np.random.default_rng(3), 0, 0
    for _ in range(200):
        looks = [look(*gaussian_run(0.0, 100, rng), records) for _ in range(5) for records in ("ordinary", "canaries")]  # type: ignore[arg-type]
        found = judge_promise(looks, coin_flips=True, delta=1e-5, promise=0.0)
        assert found.looks == 10
        above += found.verdict == "contradicted"
        uncorrected += any(
            judge_promise([one], coin_flips=True, delta=1e-5, promise=0.0).verdict == "contradicted" for one in looks
        )
    assert above <= 10
    assert uncorrected > 30


def test_verdicts() -> None:
    rng = np.random.default_rng(4)
    weak, strong = look(*gaussian_run(0.3, 500, rng)), look(*gaussian_run(4.0, 500, rng), "canaries")

    def judged(looks: list[Look], promise: float | None) -> bounds.Judgement:
        return judge_promise(looks, coin_flips=True, delta=1e-5, promise=promise)

    assert judged([weak], 2.0).verdict == "kept"
    found = judged([weak, strong], 2.0)
    assert (found.verdict, found.records, found.looks) == ("contradicted", "canaries", 2)
    assert found.ratio == found.bound / 2 > 1  # type: ignore[operator]
    assert found.bound < judged([strong], 2.0).bound  # type: ignore[operator]
    assert judged([weak, strong], None).verdict == "no promise"
    hopeless = judged([weak], 50.0)
    assert hopeless.verdict == "cannot be judged"
    assert "cannot refute the promised epsilon 50" in hopeless.reason
    assert hopeless.ceiling < 50  # type: ignore[operator]


def test_coins_that_decide_on_several_records_say_nothing_of_a_promise_for_one() -> None:
    """Each look at copies of a canary is left out of the judgement, and takes no part of the error."""
    rng = np.random.default_rng(8)
    plain = look(*gaussian_run(0.3, 500, rng))
    copies = dataclasses.replace(look(*gaussian_run(4.0, 500, rng), "canaries"), one_record=False)
    both = judge_promise([plain, copies], coin_flips=True, delta=1e-5, promise=1.0)
    assert both == judge_promise([plain], coin_flips=True, delta=1e-5, promise=1.0)
    assert (both.verdict, both.looks) == ("kept", 1)
    alone = judge_promise([copies], coin_flips=True, delta=1e-5, promise=1.0)
    assert alone.bound > 2  # type: ignore[operator]
    assert (alone.verdict, alone.reason) == (
        "cannot be judged", "each coin flip decided on several records, and the promise is about one"
    )  # fmt: skip
    row = table(copies.scores, copies.member, promise=1.0, one_record=False)["one_run"]
    assert (row.verdict, row.ratio) == ("cannot be judged", row.bound)


def test_the_primary_method_needs_no_curve_where_coins_suffice() -> None:
    """500 coins give at most about 4.7 without a curve, so promises of up to 3.7 are judged without one."""
    at = {promise: primary_method(500, delta=1e-5, promise=promise) for promise in (None, 0.5, 1.0, 3.0, 4.0, 8.0)}
    assert at == {None: "one_run", 0.5: "one_run", 1.0: "one_run", 3.0: "one_run", 4.0: "fdp_one_run", 8.0: "fdp_one_run"}
    assert primary_method(20_000, delta=1e-6, promise=4.0) == "one_run"
    assert primary_method(500, delta=0.0, promise=8.0) == "one_run", "there is no other at delta 0"


def test_rows_without_a_bound_say_why() -> None:
    rng = np.random.default_rng(5)
    scores, member = gaussian_run(2.0, 200, rng)
    rows = table(scores, member, delta=0.0, promise=1.0)
    assert rows["one_run"].bound > 0  # type: ignore[operator]
    assert rows["fdp_one_run"].bound is None
    assert rows["fdp_one_run"].verdict == "cannot be judged"
    assert "no epsilon" in rows["fdp_one_run"].reason
    unfair = table(scores, np.arange(200) < 180, promise=1.0)["one_run"]
    assert (unfair.bound, unfair.ratio, unfair.verdict) == (None, None, "cannot be judged")
    assert "did not come from fair coin flips" in unfair.reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coin_flips": False}, "coin_flips=no: "),
        ({"delta": None}, "delta=none: "),
        ({"delta": 1.0}, "delta=1: "),
        ({"promise": -1.0}, "promised_epsilon=-1: "),
        ({"promise": float("inf")}, "promised_epsilon=inf: "),
    ],
)
def test_bad_requests_get_one_line(options: dict[str, Any], message: str) -> None:
    scores, member = gaussian_run(1.0, 100, np.random.default_rng(6))
    with pytest.raises(UserError, match=message) as raised:
        table(scores, member, **options)
    assert "\n" not in str(raised.value)
    assert "allowed: " in str(raised.value)


def coin_report(mu: float, **options: Any) -> AuditReport:
    """An audit of 600 coin-flip records whose loss is lower for members, by mu standard deviations of its logarithm."""
    scores, member = gaussian_run(mu, 600, np.random.default_rng(7))
    target = Predictions(
        loss_nats=np.exp(-scores), entropy_nats=np.exp(np.random.default_rng(9).normal(size=600)), member=member
    )
    given: dict[str, Any] = {
        "attacks": ("threshold_loss", "threshold_entropy", "trained_lr"),
        "coin_flips": True,
        "promise": 1.0,
    }
    return run_audit(target, **given | options)


def test_an_audit_of_coins_logs_its_bounds_and_the_verdict() -> None:
    report, tracker = coin_report(3.0, primary="threshold_loss"), MemoryTracker()
    judged = promise.log_bounds(report, tracker)
    assert judged is not None
    assert (judged.verdict, judged.attack, judged.looks) == ("contradicted", "threshold_loss", 1)
    frame = tracker.artifacts[artifacts.BOUNDS]
    assert frame["attack"].unique().tolist() == ["threshold_loss", "threshold_entropy"], "a fitted attack saw the coins"
    assert frame[frame["primary"]][["attack", "method"]].to_numpy().tolist() == [["threshold_loss", "one_run"]]
    assert frame.loc[frame["primary"], "bound"].item() == judged.bound, "every digit"
    assert tracker.latest("epsilon_bound/threshold_loss") == logged_each({"": judged.bound})[""], "four digits"
    assert tracker.latest("promise_ratio/threshold_loss") == tracker.latest("epsilon_bound/threshold_loss") > 1  # type: ignore[operator]
    assert tracker.logged_tags["memberscope.promise"] == "contradicted"
    assert len(tracker.artifacts[artifacts.BOUNDS_TABLE]) == 1
    (said,) = promise.sentences(report)
    assert said.startswith("Promised epsilon 1, contradicted: epsilon is at least ")
    assert said.endswith("the training is not as private as promised, or its accounting is wrong.")


def test_without_a_primary_attack_named_beforehand_all_share_the_error() -> None:
    named, auto = coin_report(1.0, primary="threshold_loss"), coin_report(1.0)
    one, all_of_them = promise.judge(named), promise.judge(auto)
    assert one is not None
    assert all_of_them is not None
    assert (one.looks, all_of_them.looks) == (1, 2)
    assert all_of_them.attack == "threshold_loss"
    assert 0 < all_of_them.bound < one.bound  # type: ignore[operator]


def test_no_bounds_without_coins_and_no_verdict_without_a_promise() -> None:
    tracker = MemoryTracker()
    assert promise.log_bounds(coin_report(1.0, coin_flips=False, promise=None), tracker) is None
    assert not tracker.artifacts
    assert promise.sentences(coin_report(1.0, coin_flips=False, promise=None)) == []
    judged = promise.log_bounds(coin_report(1.0, promise=None), tracker)
    assert judged is not None
    assert judged.verdict == "no promise"
    assert "memberscope.promise" not in tracker.logged_tags


def test_canaries_are_one_more_look() -> None:
    weak, strong = coin_report(0.3, primary="threshold_loss"), coin_report(4.0, primary="threshold_loss")
    both = promise.judge(weak, promise.OfCanaries(report=strong, one_record=True))
    assert both is not None
    assert (both.verdict, both.records, both.looks) == ("contradicted", "canaries", 2)
    copies = promise.judge(weak, promise.OfCanaries(report=strong, one_record=False))
    assert copies == promise.judge(weak), "copies of a canary say nothing about one record"
    tracker = MemoryTracker()
    promise.log_bounds(weak, tracker, canaries=promise.OfCanaries(report=strong, one_record=False))
    frame = tracker.artifacts[artifacts.BOUNDS]
    assert frame.groupby("records").size().to_dict() == {"canaries": 8, "ordinary": 8}
    assert set(frame[frame["records"] == "canaries"]["verdict"]) == {"cannot be judged"}


def test_groups_of_records_say_nothing_about_one_record() -> None:
    scores, member = gaussian_run(3.0, 200, np.random.default_rng(11))
    twice = np.repeat(np.arange(200), 2)
    target = Predictions(loss_nats=np.exp(-scores[twice]), entropy_nats=np.ones(400), member=member[twice], groups=twice)
    report = run_audit(target, attacks="threshold_loss", primary="threshold_loss", coin_flips=True, promise=0.5)
    judged = promise.judge(report)
    assert judged is not None
    assert judged.bound > 1  # type: ignore[operator]
    assert judged.verdict == "cannot be judged"
