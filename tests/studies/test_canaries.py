"""Canaries in `train`: who is trained on them, what their audit and their cost say, and what a run tells of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_artifacts import best_guess, everything, unlisted

from memberscope import metrics
from memberscope.audit import artifacts
from memberscope.audit.canaries import audit_canaries
from memberscope.config import FleetConfig
from memberscope.config.training import TrainStudyConfig
from memberscope.datasets import LabeledData
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.interrupt import StopFlag
from memberscope.metrics.rounding import logged, logged_each
from memberscope.plans.canaries import canary_membership, draw_canaries, flip_coins, plant
from memberscope.plans.target import Prepared, target_of
from memberscope.predictions import Predictions
from memberscope.studies import setup, train
from memberscope.studies.result import StudyResult
from memberscope.tracking import MemoryTracker
from memberscope.training.query import Query

from .conftest import Own, make_own

SIZES = {"members": 120, "nonmembers": 100, "validation": 30}
M = 120  # canaries


def _config(own: Own, **changes: Any) -> TrainStudyConfig:
    options = {
        "trainer": own.spec, "dataset": own.data, "attacks": "threshold_loss", "slices": "entire", "canaries": M,
        "canary_kind": "mislabelled", **SIZES, **changes,
    }  # fmt: skip
    return TrainStudyConfig.from_mapping(options)


def _train(own: Own, **changes: Any) -> tuple[MemoryTracker, StudyResult]:
    tracker = MemoryTracker()
    return tracker, train.run(_config(own, **changes), tracker, StopFlag())


def _prepared(own: Own, **changes: Any) -> Prepared:
    config = _config(own, **changes)
    data = setup.choose_classes(setup.load_data(config), config)
    return target_of(data, config, canaries=setup.canary_request(config, config, data)).prepare(config.seed)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Own, MemoryTracker, StudyResult]:
    """A run with mislabelled canaries, whose split follows from the key."""
    own = make_own(tmp_path_factory.mktemp("own"))
    return own, *_train(own)


def test_a_model_that_remembers_its_records_gives_its_canaries_away(ran: tuple[Own, MemoryTracker, StudyResult]) -> None:
    own, tracker, result = ran
    assert own.trained()[:2] == [(1, 0), (1, 0)], "the model, and the same without canaries"
    auc, low, high = (tracker.latest(f"canary/{name}/threshold_loss") for name in ("auc", "auc_ci_low", "auc_ci_high"))
    assert 0.7 < low < auc < high < 0.95, "where a neighbour has the same wrong label, the two sides cannot be told apart"
    assert tracker.latest("canary/epsilon_lower_bound/threshold_loss") > 0.3
    planted = _prepared(own).canaries
    assert planted is not None
    table = tracker.artifacts[artifacts.CANARIES]
    assert set(table["n_member"]) == {planted.member.sum()}
    assert set(table["n_nonmember"]) == {M - planted.member.sum()}
    bounds = tracker.artifacts[artifacts.BOUNDS].set_index("method")
    bounds = bounds[bounds["attack"] == "rmia_offline"]
    assert bounds["primary"].to_dict() == {name: name == "one_run" for name in bounds.index}
    assert 0.3 < bounds.loc["one_run", "bound"] < bounds.loc["fdp_one_run", "bound"] < bounds.loc["fdp_one_run", "ceiling"]
    assert (tracker.logged_params["data.canaries"], tracker.logged_params["data.canary_kind"]) == (M, "mislabelled")
    assert (
        f"Canaries: {planted.member.sum()} of {M} mislabelled canaries were planted; rmia_offline has an AUC of"
        in result.answer
    )


def test_ordinary_records_are_those_of_the_same_run_without_canaries(ran: tuple[Own, MemoryTracker, StudyResult]) -> None:
    own, tracker, _ = ran
    with_canaries, without = _prepared(own), _prepared(own, canaries=0, canary_kind="natural")
    assert with_canaries.plan.digest == without.plan.digest
    assert with_canaries.data.digest == without.data.digest
    assert without.canaries is None
    canaries = with_canaries.canaries
    assert canaries is not None
    on = with_canaries.trained_on
    np.testing.assert_array_equal(on[: len(without.plan.members)], without.plan.members)
    np.testing.assert_array_equal(on[len(without.plan.members) :], len(without.data) + np.flatnonzero(canaries.member))
    assert len(on) == 120 + canaries.member.sum()
    assert tracker.logged_params["data.members"] == 120
    assert set(tracker.artifacts[artifacts.ATTACKS]["n_member"]) == {120}


def test_a_reference_without_canaries_tells_more_of_natural_ones_than_their_loss_alone(own: Own) -> None:
    """Natural canaries differ in difficulty by more than by membership; what is left beside the reference is membership."""
    tracker, _ = _train(own, canary_kind="natural", params="k=3")
    alone, beside = (tracker.latest(f"canary/auc/{name}") for name in ("threshold_loss", "rmia_offline"))
    assert beside > alone + 0.03
    assert 0.6 < beside <= 1.0


def test_a_model_that_barely_depends_on_a_record_leaves_canaries_at_chance(own: Own) -> None:
    tracker, _ = _train(own, canary_kind="natural", params="k=101", seed=2, canary_cost="no")
    assert abs(tracker.latest("canary/auc/threshold_loss") - 0.5) < 3.3 * np.sqrt(1 / (3 * M))
    assert tracker.latest("canary/epsilon_lower_bound/threshold_loss") < 0.7


def test_the_cost_is_that_of_the_same_model_without_canaries(ran: tuple[Own, MemoryTracker, StudyResult]) -> None:
    own, tracker, _ = ran
    plain, _ = _train(own, canaries=0, canary_kind="natural")
    rows = tracker.artifacts[artifacts.CANARY_COST].set_index("metric")
    assert rows.loc["auc/threshold_loss", "without"] == pytest.approx(plain.latest("auc/threshold_loss"))
    assert rows.loc["auc/threshold_loss", "planted"] == pytest.approx(tracker.latest("auc/threshold_loss"))
    assert rows.loc["accuracy", "cost"] == pytest.approx(rows.loc["accuracy", "without"] - rows.loc["accuracy", "planted"])
    of_all = rows.loc["accuracy"]
    expected = logged("canary/accuracy_cost", "", of_all["cost"], of_all["ci_low"], of_all["ci_high"])
    expected |= logged_each({"canary/accuracy_without": of_all["without"]})
    assert {name: tracker.latest(name) for name in expected} == expected, "as its interval supports"
    cost = expected["canary/accuracy_cost"]
    assert tracker.latest("canary/accuracy_cost_ci_low") < cost < tracker.latest("canary/accuracy_cost_ci_high")
    assert 0.05 < cost < 0.4, "half of 120 wrong labels among 180 make one nearest neighbour in three a wrong one"
    assert artifacts.CANARY_COST not in plain.artifacts
    assert not [name for name in plain.logged_metrics if name.startswith("canary/")]


def test_the_second_training_can_be_left_out(own: Own) -> None:
    tracker, result = _train(own, canary_cost="no")
    assert own.trained() == [(1, 0)]
    assert artifacts.CANARY_COST not in tracker.artifacts
    assert "cost" not in result.answer
    assert set(tracker.artifacts[artifacts.CANARIES]["attack"]) == {"threshold_loss", "threshold_entropy"}


@pytest.mark.parametrize("kind", ["noise", "duplicated", "out_of_distribution"])
def test_every_kind_is_planted_and_audited(own: Own, tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(5)
    np.savez(tmp_path / "other.npz", x=rng.normal(size=(150, 4)) * 4, y=rng.integers(0, 3, 150))
    more = {"canary_data": str(tmp_path / "other.npz")} if kind == "out_of_distribution" else {}
    tracker, result = _train(own, canary_kind=kind, canary_cost="no", **more)
    assert tracker.latest("canary/auc_ci_low/threshold_loss") > 0.5
    copies = 4 if kind == "duplicated" else 1
    assert tracker.logged_params["data.canary_copies"] == copies
    assert ("the epsilon of 4 copies of a record together" in result.answer) == (copies == 4)


@pytest.mark.parametrize(
    ("options", "verdict"),
    [
        ({"promised_epsilon": 0.1}, "contradicted"),
        ({"promised_epsilon": 1.5, "delta": 1e-4}, "kept"),
        ({"promised_epsilon": 50}, "cannot be judged"),
        ({"promised_epsilon": 0.1, "canary_kind": "duplicated"}, "cannot be judged"),
    ],
)  # fmt: skip
def test_a_promise_is_judged_by_the_canaries(own: Own, options: dict[str, Any], verdict: str) -> None:
    tracker, result = _train(own, canary_cost="no", **options)
    assert tracker.logged_tags["memberscope.promise"] == verdict
    assert f"Promised epsilon {options['promised_epsilon']:.3g}, {verdict}" in result.answer
    bounds = tracker.artifacts[artifacts.BOUNDS]
    assert set(bounds["delta"]) == {options.get("delta", 1e-5)}
    assert set(bounds["records"]) == {"canaries"}
    primary = bounds[bounds["primary"]]
    assert set(primary["attack"]) == {"threshold_loss"}
    expected = {
        "epsilon_bound/threshold_loss": primary["bound"].item(),
        "promise_ratio/threshold_loss": primary["ratio"].item(),
    }
    assert {name: tracker.latest(name) for name in expected} == logged_each(expected)


def test_a_promise_without_canaries_is_refused(own: Own) -> None:
    with pytest.raises(
        UserError, match=r"^promised_epsilon=8: given without canaries, .*; allowed: none, or canaries=40 or more"
    ):
        _train(own, canaries=0, canary_kind="natural", promised_epsilon=8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"canaries": 160}, "members=120: the data set has 400 records, .*, 30 for validation and 160 canaries; allowed: at most 110"),
        ({"canaries": 280}, "canaries=280: too many; 130 of the 400 records of the data set are non-members or .*at most 269"),
        ({"canaries": 280, "members": "auto"}, "canaries=280: too many; .*; allowed: at most 269"),
        (
            {"canaries": 260, "members": "auto"},
            "canaries=260: too many; 10 members are left, and an audit needs 20; allowed: at most 250, or canary_kind=noise$",
        ),
    ],
)  # fmt: skip
def test_more_canaries_than_records_are_refused_before_any_training(own: Own, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        _train(own, **options)
    assert not own.trained()


def test_members_auto_leaves_records_for_the_canaries(own: Own) -> None:
    assert len(_prepared(own, members="auto").plan.members) == 400 - 100 - 30 - M
    assert len(_prepared(own, members="auto", canary_kind="noise").plan.members) == 400 - 100 - 30


def test_another_data_set_that_does_not_fit_is_refused_before_any_training(own: Own, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    np.savez(tmp_path / "wide.npz", x=rng.normal(size=(150, 5)), y=rng.integers(0, 3, 150))
    given = {"canary_kind": "out_of_distribution"}
    with pytest.raises(UserError, match=r"^canary_data=.*wide.npz: records of shape \(5,\); allowed: \(4,\), the shape of"):
        _train(own, **given, canary_data=str(tmp_path / "wide.npz"))
    with pytest.raises(
        UserError, match=r"^canary_data=.*noisy.npz: the data set itself; allowed: another one, or canary_kind=natural"
    ):
        _train(own, **given, canary_data=own.data)
    with pytest.raises(UserError, match=r"^canary_data=.*none.npz: cannot be read"):
        _train(own, **given, canary_data=str(tmp_path / "none.npz"))
    assert not own.trained()


@pytest.mark.parametrize(("split", "certain"), [("seed", True), ("auto", False)])
def test_a_run_tells_neither_which_records_are_canaries_nor_which_were_planted(
    ran: tuple[Own, MemoryTracker, StudyResult], split: str, certain: bool
) -> None:
    own = ran[0]
    tracker = _train(own, split=split, canary_cost="no")[0] if certain else ran[1]
    prepared = _prepared(own, split=split)
    assert prepared.canaries is not None
    canaries, coins = prepared.canaries.planted.canaries, prepared.canaries.member
    run = everything(tracker)
    assert not unlisted(tracker)
    assert canaries.records is not None
    deviation = 4.5 * np.sqrt(1 / (3 * M))
    found, how = best_guess(run, {"position": canaries.records}, coins)
    assert found < deviation, how
    seed = json.loads(run[artifacts.STUDY])[
        "study.seed"
    ]  # whoever has the records in their order reads the seed and draws again
    again = flip_coins(M, seed=seed)
    auc = metrics.auc(again.astype(float), coins).value
    assert auc == 1.0 if certain else abs(auc - 0.5) < deviation
    drawn = draw_canaries(prepared.data, list(prepared.plan.sides.values()), kind="mislabelled", count=M, seed=seed)
    assert np.array_equal(drawn.records, canaries.records) == certain
    digests = [prepared.trained_data.digest, prepared.trained_data.part_digest("member", prepared.trained_on)]
    assert not any(digest in str(run) for digest in digests), "whoever knows all but one coin could try both"


def test_private_records_of_another_set_are_drawn_with_the_key_beside_a_public_data_set(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "mine.npz", x=rng.random((200, 32, 32, 1)).astype(np.float32), y=rng.integers(0, 2, 200))
    given = {"canary_kind": "out_of_distribution", "canary_data": str(tmp_path / "mine.npz"), "canaries": M}
    for split, certain in (("auto", False), ("seed", True)):
        config = TrainStudyConfig.from_mapping({"dataset": "digits", "split": split, **given})
        data = setup.load_data(config)
        assert not data.keyed
        prepared = target_of(data, config, canaries=setup.canary_request(config, config, data)).prepare(0)
        assert prepared.canaries is not None
        assert np.array_equal(prepared.canaries.member, flip_coins(M, seed=0)) == certain


def test_a_stored_model_is_never_served_for_other_canaries(own: Own, tmp_path: Path) -> None:
    config = _config(own)
    data, trainer = setup.load_data(config), setup.trainer_for(config, config)
    used = np.arange(200)
    fleet = FleetConfig(store=str(tmp_path / "models"), workers=1)

    def trained(data: LabeledData, *, kind: str, seed: int, coins: int, copies: int = 1) -> int:
        planted = plant(data, draw_canaries(data, used, kind=kind, count=50, seed=seed, copies=copies))
        member = canary_membership(50, design="half", models=2, seed=coins)
        members = [np.concatenate([used[k::2], planted.members(one)]) for k, one in enumerate(member)]
        made = setup.train_fleet(
            trainer, planted.data, members, [0, 1], fleet, StopFlag(), queries=[Query(index=planted.rows)]
        )  # fmt: skip
        return made.reused

    assert trained(data, kind="natural", seed=0, coins=0) == 0
    assert trained(data, kind="natural", seed=0, coins=0) == 2
    assert trained(data, kind="natural", seed=0, coins=1) == 0, "other coins"
    assert trained(data, kind="natural", seed=1, coins=0) == 0, "other records"
    assert trained(data, kind="mislabelled", seed=0, coins=0) == 0, "other labels"
    assert trained(data, kind="duplicated", seed=0, coins=0, copies=2) == 0, "more copies"


def test_an_attack_that_is_fitted_on_the_coins_is_no_audit_of_canaries() -> None:
    rng = np.random.default_rng(0)
    target = Predictions(logits=rng.normal(size=(100, 3)), labels=rng.integers(0, 3, 100), member=rng.random(100) < 0.5)
    with pytest.raises(ValueError, match="trained_lr"):
        audit_canaries(Evidence(target=target), attacks=("threshold_loss", "trained_lr"))
    report = audit_canaries(Evidence(target=target))
    assert report.result("threshold_loss").figures["epsilon_lower_bound"].status != "skipped"
