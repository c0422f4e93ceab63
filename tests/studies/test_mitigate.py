"""The mitigation ladder on a little of the embedded data: what it measures, how it judges, that it goes on where it stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memberscope.config.mitigation import MitigateConfig
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.metrics import one_run_epsilon, verdicts
from memberscope.studies.mitigate import models as defended
from memberscope.studies.mitigate import study as mitigate
from memberscope.studies.mitigate.answer import opening
from memberscope.studies.mitigate.mitigations import RELEASE, TRAINING, UNDEFENDED, mitigations_of, parse_mitigations
from memberscope.studies.result import StudyResult
from memberscope.tracking import MemoryTracker

TINY = {
    "members": 200, "shadows": 4, "seeds": 1, "epochs": 30, "width": 64, "depth": 1, "perturbed": 4, "private_batch_size": 50,
    "private_epochs": 2, "coin_flips": "no",
}  # fmt: skip
LADDER: dict[str, object] = {"l2": 0.1, "coin_flips": "yes", "shadows": 2}  # of the study that most tests here look at


def _run(folder: Path, **changes: object) -> tuple[MemoryTracker, StudyResult]:
    tracker = MemoryTracker()
    with StopFlag() as stop:
        result = mitigate.run(MitigateConfig(**({**TINY, "store": str(folder)} | changes)), tracker, stop)
    return tracker, result


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryTracker, StudyResult, Path]:
    folder = tmp_path_factory.mktemp("models")
    return *_run(folder, mitigations="release,l2,dp", **LADDER), folder


def _table(done: tuple[MemoryTracker, StudyResult, Path]) -> pd.DataFrame:
    return done[0].artifacts["ladder.csv"].set_index("rung")


def test_what_shows_before_show_more_is_the_answer(done: tuple[MemoryTracker, StudyResult, Path]) -> None:
    """MLflow folds a description after two lines."""
    tracker, table = done[0], _table(done)
    first = tracker.description.split("\n\n")[0]
    assert first.startswith("**AUC of the primary attack against the undefended model: not assessed: ")
    for name in ("l2", "dp"):
        assert f"{name} ({table.loc[name, 'auc_change']:+.3f})" in first
        (child,) = (child for child in tracker.children if child.name == name)
        assert child.description.startswith(f"**{name}: AUC of {table.loc[name, 'primary']} not assessed ")
    assert tracker.children[0].description.startswith("**undefended: rmia_online "), (
        "what the attack found, as nothing is compared"
    )
    (given,) = tracker.inputs
    assert given.context == "all"


def test_reached_verdicts_come_first_in_the_opening() -> None:
    judged = verdicts({"a": [0.0, 0.3, -0.3, 0.1, -0.1], "b": [-0.1, -0.11, -0.09, -0.1, -0.1]}, margin=0.02)
    words = {name: verdict.verdict for name, verdict in judged.items()}
    assert words == {"a": "inconclusive", "b": "decreases"}
    assert opening(judged, words) == (
        "AUC of the primary attack against the undefended model: decreases: b (-0.100); inconclusive: a (+0.000)."
    )


def test_a_child_a_rung_and_the_undefended_model_first(done: tuple[MemoryTracker, StudyResult, Path]) -> None:
    assert [child.name for child in done[0].children] == [UNDEFENDED, *RELEASE, "l2", "dp"]
    assert done[0].children[0].logged_tags["memberscope.primary"] == "rmia_online"
    assert done[0].children[RELEASE.index("label_only") + 1].logged_tags["memberscope.primary"] == "label_only_robust"


def test_releases_keep_accuracy_and_the_gap_attack_where_they_were(done: tuple[MemoryTracker, StudyResult, Path]) -> None:
    table = _table(done)
    plain = done[0].children[0].artifacts["attacks.csv"].set_index(["attack", "metric"])
    for child in done[0].children[1 : 1 + len(RELEASE)]:
        assert table.loc[child.name, "val/accuracy"] == table.loc[UNDEFENDED, "val/accuracy"]
        released = child.artifacts["attacks.csv"].set_index(["attack", "metric"])
        for metric in ("auc", "balanced_accuracy"):
            here, there = (frame.loc[("label_only_gap", metric), "value"] for frame in (released, plain))
            assert here == there
    assert np.isnan(table.loc["label_only", "val/loss"])


def test_what_a_release_leaves_nothing_for_is_skipped_with_its_reason(done: tuple[MemoryTracker, StudyResult, Path]) -> None:
    assert "Skipped on label_only: " in done[1].answer
    frame = done[0].children[RELEASE.index("label_only") + 1].artifacts["attacks.csv"]
    skipped = frame[(frame["status"] == "skipped") & (frame["metric"] == "auc")]
    assert {"threshold_loss", "lira_online", "rmia_online"} <= set(skipped["attack"])
    assert skipped["reason"].str.startswith("needs ").all()


def test_l2_and_private_training_lower_the_primary_attack(done: tuple[MemoryTracker, StudyResult, Path]) -> None:
    """A fifth of the labels are noise that the undefended model fits; a strong penalty and DP-SGD cannot."""
    auc = _table(done)["auc"]
    assert 0.65 < auc[UNDEFENDED] < 0.98
    assert 0.6 < auc["l2"] < auc[UNDEFENDED] - 0.02
    assert 0.40 < auc["dp"] < 0.60


def test_the_promised_epsilon_stands_above_the_measured_bound(done: tuple[MemoryTracker, StudyResult, Path]) -> None:
    row = _table(done).loc["dp"]
    assert row["epsilon"] == pytest.approx(1.0, abs=0.02)
    assert 0.0 <= row["epsilon_lower_bound"] <= row["epsilon"]
    by_epoch = done[0].children[-1].logged_metrics["epsilon"]
    assert by_epoch[1] < by_epoch[2] == pytest.approx(row["epsilon"])


def test_every_rungs_bound_stands_at_the_delta_of_the_promise(done: tuple[MemoryTracker, StudyResult, Path]) -> None:
    """An epsilon at delta 1e-5 is no answer to one that was promised at members^-1.1, and cannot be compared with a bound there."""
    table = _table(done)
    assert (table["delta"] == 200**-1.1).all(), "members that a model has on average, whatever the seed's coins"
    for row in (0, -1):
        frame = done[0].children[row].artifacts["attacks.csv"].set_index(["attack", "metric"])
        assert f"at delta {200**-1.1:g}, add/remove" in frame.loc[("rmia_online", "epsilon_lower_bound"), "reason"]


def test_the_bound_could_exceed_the_promise_and_its_ceiling_stands_beside_it(
    done: tuple[MemoryTracker, StudyResult, Path],
) -> None:
    """A tenth of 400 records, and even 100, could not: their ceiling at this delta is below 1."""
    assert one_run_epsilon(400, 100, 100, delta=200**-1.1, confidence=0.95) < 1
    table = _table(done)
    ceiling = table["epsilon_lower_bound_ceiling"]
    assert ceiling.nunique() == 1, "one test for all rungs"
    assert 1.9 < ceiling["dp"] < 2.2
    assert (table["epsilon_lower_bound"] <= ceiling).all()


def test_the_ladder_says_whether_the_promise_is_kept(done: tuple[MemoryTracker, StudyResult, Path]) -> None:
    """At this delta, 400 coins could put no assumption-free bound well above 1, so all rungs are judged on a Gaussian curve."""
    table = _table(done)
    assert table.loc["dp", "promise_verdict"] == "kept"
    assert (table.drop("dp")["promise_verdict"] == "no promise").all()
    assert (table["bound_method"] == "fdp_one_run").all(), "one method, so that rungs can be compared"
    assert 0 <= table.loc["dp", "bound"] <= 1 < table.loc[UNDEFENDED, "bound"] < table.loc[UNDEFENDED, "bound_ceiling"]
    assert table.loc["dp", "promise_ratio"] == table.loc["dp", "bound"] / table.loc["dp", "promise"]
    shown = done[0].artifacts["ladder.json"].set_index("rung")
    assert (
        shown.loc["dp", "epsilon at least"]
        == f"{table.loc['dp', 'bound']:.2f} of at most {table.loc['dp', 'bound_ceiling']:.2f}"
    )
    assert shown.loc["dp", "promise"].startswith("kept, ")
    assert shown.loc["l2", "promise"] == "no promise"
    told = f"dp: promised epsilon {table.loc['dp', 'promise']:.3g}, kept: epsilon is at least"
    assert told in done[1].answer
    assert done[0].logged_tags["memberscope.promise.dp"] == done[0].children[-1].logged_tags["memberscope.promise"] == "kept"
    assert "memberscope.promise.l2" not in done[0].logged_tags
    assert done[0].logged_metrics["epsilon_bound_ceiling/dp"]


def test_the_table_of_bounds_has_one_primary_row_a_rung(done: tuple[MemoryTracker, StudyResult, Path]) -> None:
    bounds = done[0].artifacts["bounds.csv"]
    rungs = [UNDEFENDED, *RELEASE, "l2", "dp"]
    assert bounds[bounds["primary"]]["rung"].tolist() == rungs
    assert (bounds.groupby("rung")["method"].nunique() == 4).all()
    assert (bounds["bound"].dropna() <= bounds["ceiling"].dropna()).all()
    assert (bounds["delta"] == 200**-1.1).all()
    assert (bounds[bounds["rung"] == "dp"]["promise"] == _table(done).loc["dp", "epsilon"]).all()
    assert bounds[bounds["rung"] != "dp"]["promise"].isna().all()
    own = done[0].children[-1].artifacts["bounds.csv"]
    pd.testing.assert_frame_equal(own, bounds[bounds["rung"] == "dp"].reset_index(drop=True), check_dtype=False)
    assert set(done[0].artifacts["bounds.json"]["method"]) == {"fdp_one_run"}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryTracker, StudyResult, Path]:
    folder = tmp_path_factory.mktemp("planted")
    changes: dict[str, object] = {"canaries": 120, "canary_kind": "mislabelled", "coin_flips": "yes", "seeds": 2, "shadows": 2}
    changes |= {"shadow_rungs": UNDEFENDED, "private_epochs": 1}
    return *_run(folder, mitigations="dp", members=150, epochs=40, **changes), folder


@pytest.mark.thorough  # a study of its own; `make test` has canaries in tests/studies/test_canaries.py
def test_a_rung_is_judged_by_its_canaries_too(planted: tuple[MemoryTracker, StudyResult, Path]) -> None:
    """Undefended, mislabelled canaries are memorized, and bound epsilon higher than records of which a fifth have wrong labels."""
    table, by_seed = _table(planted), planted[0].artifacts["by_seed.csv"]
    assert (table["looks"] == 4).all(), "records and canaries at two seeds"
    assert (by_seed["looks"] == 2).all()
    assert table.loc[UNDEFENDED, "bound_records"] == "canaries"
    assert table.loc["dp", "promise_verdict"] == "kept"
    bounds = planted[0].artifacts["bounds.csv"]
    assert bounds["primary"].sum() == 8, "two rungs, two seeds, two kinds of records"
    first = bounds[(bounds["method"] == "fdp_one_run") & (bounds["rung"] == UNDEFENDED)]
    by_records = first.groupby("records")["bound"].mean()
    assert by_records["canaries"] > by_records["ordinary"]
    assert first.groupby("records")["n"].first().to_dict() == {"canaries": 120, "ordinary": 300}
    assert set(bounds[bounds["rung"] == "dp"]["attack"]) == {"threshold_loss"}, "its primary attack learns from the coins"
    frame = planted[0].children[0].artifacts["canaries.csv"]
    aucs = frame[(frame["metric"] == "auc") & (frame["attack"] == "rmia_online")]
    assert sorted(aucs["seed"]) == [0, 1]
    assert (aucs["value"] > 0.85).all()
    assert (aucs["n_member"] + aucs["n_nonmember"] == 120).all()
    private = planted[0].children[1].artifacts["canaries.csv"]
    assert 0.25 < private[(private["metric"] == "auc") & (private["attack"] == "threshold_loss")]["value"].mean() < 0.75
    assert planted[0].children[0].logged_metrics["canary/auc/rmia_online"]


@pytest.mark.thorough
def test_canaries_are_training_records_of_dp_sgd_and_their_cost_is_said(
    planted: tuple[MemoryTracker, StudyResult, Path],
) -> None:
    table = _table(planted)
    assert (table["delta"] == 210**-1.1).all(), "half of 300 records and of 120 canaries"
    cost = table.loc[UNDEFENDED, "canary/accuracy_cost"]
    assert cost == pytest.approx(table.loc[UNDEFENDED, "canary/accuracy_without"] - table.loc[UNDEFENDED, "val/accuracy"])
    assert -0.05 < cost < 0.4
    assert "cost of canaries" in planted[0].artifacts["ladder.json"]


def test_the_training_sets_hold_the_canaries_of_their_coins(tmp_path: Path) -> None:
    """And no canary is a record of the plan or of the parts outside it."""
    from memberscope.datasets import load_dataset
    from memberscope.studies import setup

    data = load_dataset("digits", data_dir="", archive_dir="")
    options: dict[str, object] = {"canaries": 100, "canary_kind": "duplicated", "coin_flips": "yes", "members": 300}
    config = MitigateConfig(**(TINY | options))
    plain = mitigate.prepare(data, config, 0)
    split = mitigate.prepare(data, config, 0, setup.canary_request(config, config, data))
    assert split.plan.digest == plain.plan.digest, "canaries change nothing about the plan"
    assert split.canaries is not None
    drawn = split.canaries.planted.canaries
    assert drawn.records is not None
    sides = np.concatenate([split.plan.records, split.population, split.validation, split.reference])
    assert not np.isin(drawn.records, sides).any()
    assert len(sides) + 100 == len(data)
    for model in range(split.plan.n_models):
        own = split.members(model)
        assert own[: split.plan.member[model].sum()].tolist() == split.plan.members(model).tolist()
        extra = own[split.plan.member[model].sum() :]
        assert len(extra) == 4 * split.canaries.member[model].sum()
        assert set((extra - len(data)) % 100) == set(np.flatnonzero(split.canaries.member[model]))
    assert (split.canaries.member[0::2] ^ split.canaries.member[1::2]).all()
    assert split.one_record == {"ordinary": True, "canaries": False}
    assert split.fewest_members == min(len(split.members(model)) for model in range(split.plan.n_models))
    assert split.usual_members == 300 + 200
    natural = MitigateConfig(**(TINY | options | {"canary_kind": "natural", "canaries": 700, "members": 540}))
    with pytest.raises(UserError, match=r"^canaries=700: 17 records are left for the population.*allowed: fewer canaries"):
        mitigate.prepare(data, natural, 0, setup.canary_request(natural, natural, data))


def test_without_coins_a_promise_cannot_be_judged(tmp_path: Path) -> None:
    tracker, result = _run(tmp_path, mitigations="dp", shadows=0, epochs=1, private_epochs=1, members=120)
    table = tracker.artifacts["ladder.csv"].set_index("rung")
    assert table["promise_verdict"].to_dict() == {UNDEFENDED: "no promise", "dp": "cannot be judged"}
    assert table["bound"].isna().all()
    assert "bounds.csv" not in tracker.artifacts
    assert "dp: promised epsilon" in result.answer
    assert ", cannot be judged: no attack whose scores do not depend on membership" in result.answer


def test_labels_alone_are_judged_against_what_they_took_from_the_attacker(
    done: tuple[MemoryTracker, StudyResult, Path],
) -> None:
    """The same attack on labels does as well on either model: that change is 0 by construction, and says nothing."""
    table = _table(done)
    assert table.loc["label_only", "against"] == "rmia_online"
    change = table.loc["label_only", "auc"] - table.loc[UNDEFENDED, "auc"]
    assert table.loc["label_only", "auc_change"] == pytest.approx(change)
    assert (table.drop("label_only")["against"] == table.drop("label_only")["primary"]).all()


def test_one_seed_gives_no_verdict(done: tuple[MemoryTracker, StudyResult, Path]) -> None:
    assert set(_table(done)["auc_verdict"].dropna()) == {"not assessed"}


def test_one_seeds_figures_keep_the_interval_of_their_audit(done: tuple[MemoryTracker, StudyResult, Path]) -> None:
    table = _table(done)
    audit = done[0].children[0].artifacts["attacks.csv"].set_index(["attack", "metric"]).loc[("rmia_online", "auc")]
    row = table.loc[UNDEFENDED]
    assert (row["auc"], row["auc_ci_low"], row["auc_ci_high"]) == (audit["value"], audit["ci_low"], audit["ci_high"])
    assert row["auc_ci_low"] < row["auc"] < row["auc_ci_high"]
    assert pd.isna(row["val/accuracy_ci_low"]), "no interval over seeds"


def test_a_rerun_trains_nothing(done: tuple[MemoryTracker, StudyResult, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("nothing is left to train")

    monkeypatch.setattr("memberscope.studies.mitigate.models._train", refuse)
    again, _ = _run(done[2], mitigations="label_only,l2,dp", **LADDER)  # a release is made of what is kept
    first, second = (tracker.artifacts["ladder.csv"].set_index("rung").drop(columns="seconds") for tracker in (done[0], again))
    assert second.index.tolist() == [UNDEFENDED, "label_only", "l2", "dp"]
    pd.testing.assert_frame_equal(second, first.loc[second.index])


@pytest.mark.thorough  # `make test` has damaged models in tests/training/test_fleet.py
def test_a_damaged_file_is_trained_anew(done: tuple[MemoryTracker, StudyResult, Path], tmp_path: Path) -> None:
    first, _ = _run(tmp_path, mitigations="undefended")
    (kept,) = (tmp_path / "mitigate").glob("undefended-*.npz")
    kept.write_bytes(kept.read_bytes()[:5000])
    again, _ = _run(tmp_path, mitigations="undefended")
    for name in ("auc", "val/accuracy"):
        assert first.artifacts["ladder.csv"][name].equals(again.artifacts["ladder.csv"][name])
    assert float(first.artifacts["ladder.csv"]["seconds"].item()) > 0  # not the rounded one, which is 0.0 on a quick machine
    assert again.artifacts["ladder.json"]["seconds"].tolist() == [""], "the models themselves came from the store, in no time"


def test_forced_reuse_goes_on_with_the_same_settings_and_refuses_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never loses what is kept: a run that was stopped is continued, and other settings stop the study before it trains."""
    training = "l2"
    options: dict[str, object] = {"mitigations": training, "epochs": 2, "shadows": 0, "members": 120}
    whole, train = defended.train_mitigated, defended._train

    def stopped(name: str, *args: Any, **more: Any) -> Any:
        if name == training:
            raise KeyboardInterrupt
        return whole(name, *args, **more)

    monkeypatch.setattr(mitigate, "train_mitigated", stopped)
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path, **options)
    monkeypatch.setattr(mitigate, "train_mitigated", whole)
    before = {path.name: path.read_bytes() for path in (tmp_path / "mitigate").glob("*.npz")}
    assert [name.split("-")[0] for name in before] == ["undefended"]

    def refuse(*args: object, **more: object) -> None:
        raise AssertionError("it trains")

    monkeypatch.setattr(defended, "_train", refuse)
    with pytest.raises(UserError, match=r"^reuse=force: .* was written with other settings: .*; allowed: the same settings"):
        _run(tmp_path, **options, learning_rate=0.01, reuse="force")
    with pytest.raises(UserError, match=r"^reuse=force: .* is not a list of finished models"):
        _run(tmp_path / "empty", **options, reuse="force")
    with pytest.raises(UserError, match=r"^reuse=force: store=none keeps no models; allowed: a folder"):
        _run(tmp_path, **options, store="none", reuse="force")
    assert not (tmp_path / "empty").exists()
    trained = []

    def watched(name: str, *args: Any, **more: Any) -> Any:
        trained.append(name)
        return train(name, *args, **more)

    monkeypatch.setattr(defended, "_train", watched)
    _run(tmp_path, **options, reuse="force")
    assert trained == [training], "only what was missing"
    assert {name: (tmp_path / "mitigate" / name).read_bytes() for name in before} == before


def test_shadows_have_defences_of_their_own_and_not_the_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target's MemGuard learned from the target's members: an attacker who had it would have been told of them."""
    given = []
    whole = mitigate.release_evidence

    def watched(evidence: Any, release: Any, *, shadow_release: Any, seed: int) -> Any:
        given.append((release, shadow_release))
        return whole(evidence, release, shadow_release=shadow_release, seed=seed)

    monkeypatch.setattr(mitigate, "release_evidence", watched)
    _run(tmp_path, mitigations="memguard", shadows=2, epochs=5)
    ((of_target, of_shadows),) = given
    assert not of_target.unfitted
    assert of_shadows.unfitted


def test_what_is_kept_is_named_by_all_that_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from memberscope.datasets import load_dataset
    from memberscope.studies.setup import trainer_for

    def name(training: str, **changes: object) -> str:
        config = MitigateConfig(**({**TINY, "store": "kept"} | changes))
        split = mitigate.prepare(data, config, config.seed)
        return str(defended.kept_at(training, split, trainer_for(config, config), config, shadows=True))

    data = load_dataset("digits", data_dir="", archive_dir="")
    for training, changes in (
        ("undefended", {"learning_rate": 0.01}), ("undefended", {"shadows": 6}), ("undefended", {"seed": 1}),
        ("undefended", {"label_noise": 0.0}), ("undefended", {"perturbed": 5}), ("undefended", {"coin_flips": "yes"}),
        ("l2", {"l2": 0.5}), ("adversarial", {"strength": 1.0}), ("dp", {"private_learning_rate": 0.1}), ("dp", {"clip_norm": 0.5}),
    ):  # fmt: skip
        assert name(training) != name(training, **changes), changes
        assert name(training) == name(training)
    assert name("undefended") == name("undefended", l2=0.5, margin=0.1, workers=1)
    before = name("undefended")
    monkeypatch.setattr("memberscope.training.keras.trainer.versions", lambda: {"tensorflow": "9"})
    assert name("undefended") != before


@pytest.mark.thorough  # fifteen trainings and their audits; `make test` has the verdicts in test_mitigation_verdicts.py
def test_seeds_give_verdicts_and_no_shadows_the_other_primary_attack(tmp_path: Path) -> None:
    tracker, result = _run(tmp_path, mitigations="fewer_epochs,early_stopping", shadows=0, seeds=5, epochs=12, members=120)
    table = tracker.artifacts["ladder.csv"].set_index("rung")
    assert (table["primary"] == "trained_mlp").all()
    assert table.loc["fewer_epochs", "auc_verdict"] in ("decreases", "inconclusive", "no difference")
    assert table.loc["fewer_epochs", "auc_change_ci_low"] < table.loc["fewer_epochs", "auc_change"]
    assert "over 5 seeds" in result.answer


def test_ladders_by_name() -> None:
    assert parse_mitigations("all") == (UNDEFENDED, *RELEASE, *TRAINING)
    assert parse_mitigations("l2") == (UNDEFENDED, "l2")
    assert parse_mitigations("release, l2,l2") == (UNDEFENDED, *RELEASE, "l2")
    with_some = mitigations_of(MitigateConfig(mitigations="l2,dp", shadow_rungs="undefended,dp"))
    assert [(one.shadows, one.primary) for one in with_some] == [
        (True, "rmia_online"), (False, "trained_mlp"), (True, "rmia_online"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mitigations": "l3"}, "mitigations=l3: unknown"),
        ({"shadows": 3}, "shadows=3: odd"),
        ({"top": 11}, "top"),
        ({"noise_multiplier": 1.0}, "target_epsilon=1.0, noise_multiplier=1.0: both given"),
        ({"target_epsilon": "none"}, "neither given"),
        ({"private_batch_size": 400}, "private_batch_size=400: more than the members of a model"),
        ({"members": 900}, "allowed: 10 to 823"),
        ({"primary": "rmia_onlin"}, "rmia_online"),
        ({"shadow_rungs": "l2,digits"}, "shadow_rungs=digits"),
        ({"shadow_rungs": "l2"}, "shadow_rungs=l2: changes are relative to the undefended model"),
        ({"primary": "quantile"}, "primary attack quantile of mitigation undefended: needs population_inputs"),
        ({"shadows": 0, "primary_without_shadows": "lira_offline"}, "lira_offline of mitigation undefended: needs shadows"),
        ({"primary_labels": "threshold_loss"}, "threshold_loss of mitigation label_only: needs"),
        ({"target_epsilon": 1e-6, "delta": 1e-9}, "target_epsilon=1e-06: no noise reaches it"),
        ({"canaries": 100}, "canaries=100: coin_flips=no"),
        ({"canaries": 2000, "coin_flips": "yes"}, "canaries=2000: "),
        (
            {"canaries": 100, "coin_flips": "yes", "canary_kind": "out_of_distribution", "canary_data": "rows.npz"},
            "canary_data=",
        ),
    ],
)
def test_what_would_fail_later_is_refused_before_anything_trains(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    if "canary_data" in changes:  # records of another shape
        np.savez(tmp_path / "rows.npz", x=np.zeros((200, 7)), y=np.arange(200) % 10)
        changes = {**changes, "canary_data": str(tmp_path / "rows.npz")}
    with pytest.raises(UserError) as error:
        _run(tmp_path / "models", **changes)
    assert message in str(error.value)
    assert not (tmp_path / "models").exists()


@pytest.mark.thorough
@pytest.mark.needs_data
def test_private_training_brings_location30_to_chance_at_a_stated_cost(tmp_path: Path) -> None:
    """Epsilon 1: the primary attack within 3.3 standard errors (0.013) and 0.01 of one half, and accuracy well below."""
    if not os.environ.get("MEMBERSCOPE_ARCHIVE_DIR"):
        pytest.skip(
            "needs the archive of Location-30: set MEMBERSCOPE_ARCHIVE_DIR to the folder that holds dataset_location.tgz"
        )
    tracker, _ = _run(
        tmp_path,
        dataset="location30",
        members=1000,
        mitigations="dp",
        epochs=30,
        width=128,
        private_batch_size=250,
        private_epochs=10,
    )
    table = tracker.artifacts["ladder.csv"].set_index("rung")
    assert 0.85 < table.loc[UNDEFENDED, "auc"] < 0.99
    assert abs(table.loc["dp", "auc"] - 0.5) < 3.3 * 0.013 + 0.01
    assert 0.03 < table.loc["dp", "val/accuracy"] < table.loc[UNDEFENDED, "val/accuracy"] - 0.1
