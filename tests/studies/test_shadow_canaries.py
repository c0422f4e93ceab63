"""Canaries and bounds of epsilon in the shadow study."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from memberscope import metrics
from memberscope.config.outside import ShadowStudyConfig
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.metrics.rounding import logged
from memberscope.plans.shadow import ShadowPlan
from memberscope.studies.result import StudyResult
from memberscope.studies.shadow import over_models
from memberscope.studies.shadow import study as shadow
from memberscope.tracking import MemoryTracker

TINY: dict[str, Any] = {
    "members": 120, "population": 100, "shadows": 8, "targets": 2, "epochs": 40, "width": 32, "depth": 1, "queries": 1,
    "attacks": "threshold_loss,rmia_online,trained_lr", "primary": "rmia_online", "slices": "entire", "coin_flips": "yes",
    "canaries": 100, "canary_kind": "mislabelled", "label_noise": 0.0, "store": "none",
}  # fmt: skip


def _run(**changes: object) -> tuple[MemoryTracker, StudyResult]:
    tracker = MemoryTracker()
    with StopFlag() as stop:
        result = shadow.run(ShadowStudyConfig(**(TINY | changes)), tracker, stop)
    return tracker, result


@pytest.fixture(scope="module")
def done() -> tuple[MemoryTracker, StudyResult]:
    return _run()


def test_canaries_are_attacked_apart_and_leak_more_than_ordinary_records(done: tuple[MemoryTracker, StudyResult]) -> None:
    tracker, result = done
    canaries = tracker.artifacts["canaries.csv"].set_index(["attack", "metric"])["value"]
    ordinary = tracker.children[1].artifacts["attacks.csv"]
    ordinary = ordinary[ordinary["slice"] == "entire"].set_index(["attack", "metric"])["value"]
    assert "trained_lr" in set(tracker.artifacts["canaries.csv"]["attack"])
    assert 0.75 < canaries["rmia_online", "auc"] < 0.99
    assert canaries["rmia_online", "auc"] > ordinary["rmia_online", "auc"] + 0.03
    counts = tracker.artifacts["canaries.csv"].iloc[0]
    assert counts["n_member"] + counts["n_nonmember"] == 100
    assert (tracker.children[1].artifacts["attacks.csv"]["n_member"] <= 240).all(), "no canary is among the ordinary records"
    exact = tracker.artifacts["canaries.csv"].set_index(["attack", "metric"]).loc[("rmia_online", "auc")]
    expected = logged("canary/auc", "rmia_online", exact["value"], exact["ci_low"], exact["ci_high"])
    assert tracker.latest("canary/auc/rmia_online") == expected["canary/auc/rmia_online"], "as its interval supports"
    assert "mislabelled canaries were planted; rmia_online has an AUC of" in result.answer
    cost = tracker.artifacts["canary_cost.csv"].set_index("metric")
    assert 0 < cost.loc["accuracy", "cost"] < 0.5, "wrong labels cost accuracy"


def test_the_table_of_bounds_judges_the_primary_attack_on_both(done: tuple[MemoryTracker, StudyResult]) -> None:
    tracker, result = done
    bounds = tracker.artifacts["bounds.csv"]
    primary = bounds[bounds["primary"]]
    assert primary[["attack", "records", "method"]].to_numpy().tolist() == [
        ["rmia_online", "ordinary", "one_run"], ["rmia_online", "canaries", "one_run"],
    ]  # fmt: skip
    assert "trained_lr" not in set(bounds["attack"]), "it was fitted on the coins"
    assert (bounds["verdict"] == "no promise").all()
    assert primary["bound"].iloc[1] > primary["bound"].iloc[0]
    combined = tracker.latest("epsilon_bound/rmia_online")
    assert 0.7 * primary["bound"].max() < combined < primary["bound"].max(), "each of two looks has half of the error"
    assert "No epsilon was promised: epsilon is at least" in result.answer
    own = tracker.children[1].artifacts["bounds.csv"]
    assert set(own["records"]) == {"ordinary"}
    assert over_models.SIGNAL not in set(bounds["attack"]), "five pairs of models could show nothing"


def test_shadows_of_a_disjoint_design_see_no_canary() -> None:
    tracker, _ = _run(
        design="disjoint", members=80, shadows=2, targets=1, epochs=10, canary_kind="noise", canary_cost="no", primary="auto",
        attacks="threshold_loss,rmia_offline",
    )  # fmt: skip
    frame = tracker.artifacts["canaries.csv"]
    assert set(frame["attack"]) == {"threshold_loss", "rmia_offline"}
    assert "canary_cost.csv" not in tracker.artifacts
    primary = tracker.artifacts["bounds.csv"].query("primary")
    assert len(primary) == 4, "with no attack named beforehand, all have a look"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coin_flips": "no"}, "canaries=100: coin_flips=no"),
        ({"canaries": 5000, "members": 400}, "canaries=5000: "),
        ({"canary_kind": "out_of_distribution"}, "canary_data="),
    ],
)
def test_canaries_that_cannot_be_planted_are_refused_before_training(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as error:
        _run(**changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def pairs_of(first: np.ndarray) -> ShadowPlan:
    member = np.stack([first, ~first], axis=1).reshape(2 * len(first), first.shape[1])
    return ShadowPlan(
        design="half", records=np.arange(first.shape[1]), block=np.ones(first.shape[1], bool), member=member,
        targets=np.array([0]), population=np.empty(0, np.int64), coin_flips=True,
    )  # fmt: skip


def test_the_bound_over_models_exceeds_the_truth_in_at_most_five_percent_of_fleets() -> None:
    """Each record's score is one draw of the Gaussian mechanism of mu a model, and the two of a pair share most of their noise."""
    rng = np.random.default_rng(0)
    for mu in (0.0, 1.0):
        truth, above, shown = (metrics.gaussian_epsilon(mu, 1e-5) if mu else 0.0), 0, []
        for _ in range(300):
            first = rng.random((32, 20)) < 0.5
            member = np.stack([first, ~first], axis=1).reshape(64, 20)
            shared = np.repeat(rng.normal(size=(32, 20)), 2, axis=0)
            scores = 0.9 * shared + np.sqrt(1 - 0.81) * rng.normal(size=(64, 20)) + mu * member
            record, threshold = over_models.choose(scores[:32], member[:32])
            counts = over_models.errors(scores[32:, record], member[32:, record], threshold)
            bound = metrics.clopper_pearson_epsilon(counts[0], 16, counts[1], 16, delta=1e-5, confidence=0.95, sides="both")
            above += bound > truth
            shown.append(bound)
        assert above <= 15
    assert max(shown) > 0


def test_the_bound_over_models_of_one_leaking_record() -> None:
    """Record 3 is known by its loss under every model: no error in 8 trials a side, so the bound is its ceiling."""
    rng = np.random.default_rng(1)
    plan = pairs_of(rng.random((16, 10)) < 0.5)
    loss = rng.random((32, 10))
    loss[:, 3] = np.where(plan.member[:, 3], 0.01, 5.0) + rng.random(32) / 100
    outputs: Any = SimpleNamespace(
        plan=plan,
        outputs=loss,
        data=SimpleNamespace(y=np.zeros(10, np.int64), groups=None),
        named=lambda own: {"loss_nats": own},
    )
    row = over_models.over_models(outputs, delta=1e-5)
    assert row is not None
    expected = metrics.clopper_pearson_epsilon(0, 8, 0, 8, delta=1e-5, confidence=0.95)
    assert row.bound == row.ceiling == expected > 0
    assert (row.n, row.primary, row.verdict) == (16, False, "no promise")
    assert row.reason == "one record under 8 models with it and 8 without, chosen on 8 other pairs of models"
    import dataclasses

    outputs.plan = dataclasses.replace(plan, coin_flips=False)
    assert over_models.over_models(outputs, delta=1e-5) is None, "memberships were balanced, not drawn by coins"
