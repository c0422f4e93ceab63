"""Whom a shadow study's fleet exposes: what is logged, that it is what the measures say, and what is stored of single records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memberscope.attacks import registry
from memberscope.audit import artifacts
from memberscope.config.outside import ShadowStudyConfig
from memberscope.datasets import LabeledData
from memberscope.exposure.detection import detect_pooled, passes
from memberscope.exposure.memorization import memorization
from memberscope.exposure.privacy_score import privacy_score
from memberscope.interrupt import StopFlag
from memberscope.metrics.rounding import logged_each
from memberscope.plans.shadow import ShadowPlan, make_shadow_plan
from memberscope.secret import key
from memberscope.studies.shadow import exposure, exposure_log, rotation, study
from memberscope.studies.shadow.evidence import FleetOutputs
from memberscope.tracking import MemoryTracker
from memberscope.training.elsewhere import ElsewhereFleet

FUNCTIONS = Path(__file__).parents[1] / "training" / "outside" / "functions.py"
ATTACKS = "threshold_loss,lira_online,lira_offline,rmia_online"
OF_RECORDS = {artifacts.EXPOSURE, artifacts.EXPOSURE_TABLE, artifacts.EXPOSURE_SCATTER, artifacts.EXPOSURE_PICTURES}
ALWAYS = {
    artifacts.EXPOSURE_SUMMARY, artifacts.EXPOSURE_CORRELATIONS, artifacts.EXPOSURE_GROUPS, artifacts.EXPOSURE_FIGURE, artifacts.AGREEMENT,
    artifacts.AGREEMENT_SETS, artifacts.ENSEMBLE,
}  # fmt: skip


def simulated(design: str = "half", *, shadows: int = 14, targets: int = 6, images: bool = False) -> FleetOutputs:
    """Gaussian scaled logits of two classes: a tenth of the records is 4 apart, the others are not; no model is trained."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    x = rng.random((400, 6, 6, 1) if images else (400, 5)).astype(np.float32)
    data = LabeledData(name="made", x=x, y=labels, class_names=("a", "b"), source="a simulation")
    plan = make_shadow_plan(
        labels, design=design, members=80, population=60, shadows=shadows, targets=targets, coin_flips=False, seed=0
    )
    n, memorized = len(plan.records), plan.records % 10 == 0
    phi = rng.normal(size=(plan.n_models, n)) + 4.0 * plan.member * memorized
    sign = 1.0 - 2.0 * labels[plan.records]
    logits = np.stack([0.5 * sign * phi, -0.5 * sign * phi], axis=2)
    outside = rng.normal(size=(plan.n_models, len(plan.population), 2))
    return FleetOutputs(
        data=data, plan=plan, fleet=ElsewhereFleet(n_models=plan.n_models, form="logits"), form="logits", outputs=logits,
        population=outside, can_query=False,
    )  # fmt: skip


def _measured(outputs: FleetOutputs, attacks_named: str = "lira_offline", **options: Any) -> exposure.Found:
    attacks = rotation.rotated_attacks(attacks_named.split(","))
    scores = exposure.RotatedScores(plan=outputs.plan)
    rotation.rotate(outputs, attacks, seed=0, on_scores=scores.keep)
    return exposure.measure_fleet(outputs, scores, attacks, seed=0, stop=StopFlag(), **options)


def _logged(found: exposure.Found, outputs: FleetOutputs, **options: Any) -> tuple[MemoryTracker, list[str]]:
    tracker = MemoryTracker()
    return tracker, exposure_log.log_exposure(found, outputs, ShadowStudyConfig(**options), tracker)


@pytest.fixture(scope="module")
def outputs() -> FleetOutputs:
    return simulated()


@pytest.fixture(scope="module")
def found(outputs: FleetOutputs) -> exposure.Found:
    return _measured(outputs, ATTACKS, replaced=np.arange(400) % 10 == 0)


def _phi(outputs: FleetOutputs) -> np.ndarray:
    labels = outputs.data.y[outputs.plan.records]
    return (outputs.outputs[:, :, 0] - outputs.outputs[:, :, 1]) * (1 - 2 * labels)


def test_all_models_tell_of_every_record_and_attacks_of_the_targets(outputs: FleetOutputs, found: exposure.Found) -> None:
    plan, phi = outputs.plan, _phi(outputs)
    np.testing.assert_allclose(found.exposure.privacy_score.value, privacy_score(phi, plan.member).value, rtol=1e-9)
    np.testing.assert_allclose(found.exposure.memorization.value, memorization(phi > 0, plan.member).value)
    targets = plan.member[plan.targets]
    lira = np.stack([registry.get("lira_online").score(outputs.evidence(t), seed=0).scores for t in plan.targets])
    expected = detect_pooled(lira, targets, attack="lira_online", fpr=0.01)
    got = next(one for one in found.exposure.detections if one.name == "detection_pooled_fpr_0_01/lira_online")
    np.testing.assert_array_equal(got.found, expected.found)
    row = found.summary.set_index(["attack", "at", "fpr"]).loc[("lira_online", "pooled", 0.01)]
    assert row["found"] == expected.found.sum() / 6
    assert (row["members"], row["targets"]) == (80, 6)
    assert row["expected"] == pytest.approx(0.8)
    shown = found.exposure.shown
    memorized = plan.records % 10 == 0
    assert shown[memorized].mean() > 0.3
    assert shown[~memorized].sum() == 0


def test_relations_name_what_the_records_have_in_common(found: exposure.Found) -> None:
    groups = found.groups[found.groups["measure"] == "privacy_score"].set_index(["kind", "group"])["median"]
    assert groups[("label", "replaced")] > groups[("label", "as it was")] + 1.0
    assert set(found.groups[found.groups["kind"] == "class"]["group"]) == {"0", "1"}
    pairs = found.correlations.set_index(["first", "second"])["correlation"]
    assert pairs[("memorization", "privacy_score")] > 0.2
    assert abs(pairs[("privacy_score", "neighbour_distance")]) < 0.25
    assert {"detection_pooled_fpr_0_01/rmia_online", "detection_own_fpr_0_01/scaled_logit"} <= set(found.correlations["second"])


def test_repetitions_share_no_model_and_no_pair(outputs: FleetOutputs, found: exposure.Found) -> None:
    for target in outputs.plan.targets.tolist():
        first, second = exposure.halves(outputs.plan, target)
        assert len(first) == len(second) == 6  # seven pairs: one is left over
        pairs = [set((half // 2).tolist()) for half in (first, second)]
        assert not pairs[0] & pairs[1]
        assert target // 2 not in pairs[0] | pairs[1]
        assert all((half // 2 == pair).sum() == 2 for half in (first, second) for pair in set((half // 2).tolist()))
    sets = found.sets.set_index(["fpr", "attack"])
    assert sets.loc[(0.01, "threshold_loss"), "repetitions"] == 1
    row = sets.loc[(0.01, "lira_online")]
    assert row["repetitions"] == 2
    assert row["stability"] <= row["found"] <= row["coverage"]
    assert set(found.pairs["set"]) == {"one", "coverage", "stability"}
    one = found.pairs[(found.pairs["set"] == "one") & (found.pairs["fpr"] == 0.01)]
    assert len(one) == 6  # of four attacks


def test_what_was_scored_with_half_of_the_shadows_is_not_scored_again(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = simulated(shadows=8, targets=2)
    attacks = rotation.rotated_attacks(["lira_offline"])
    scores = exposure.RotatedScores(plan=outputs.plan)
    rotation.rotate(outputs, attacks, seed=0, on_scores=scores.keep)
    assert set(scores.half["lira_offline"]) == set(outputs.plan.targets.tolist())
    asked: list[Any] = []
    evidence = FleetOutputs.evidence
    monkeypatch.setattr(FleetOutputs, "evidence", lambda self, *args: asked.append(args) or evidence(self, *args))
    given = exposure.repeat(outputs, attacks, scores, seed=0, stop=StopFlag())["lira_offline"]
    again = exposure.repeat(outputs, attacks, exposure.RotatedScores(plan=outputs.plan), seed=0, stop=StopFlag())[
        "lira_offline"
    ]
    np.testing.assert_array_equal(given, again)
    monkeypatch.setattr(type(attacks[0]), "score", lambda *args, **options: pytest.fail("scored again"))
    with pytest.raises(pytest.fail.Exception):
        exposure.repeat(outputs, attacks, scores, seed=0, stop=StopFlag())
    assert len(asked) == 8 + 2  # two halves of two targets twice, and the first two of the last call


def test_agreement_is_of_the_members_found(outputs: FleetOutputs, found: exposure.Found) -> None:
    plan = outputs.plan
    targets = plan.member[plan.targets]
    sets = []
    for name in ("threshold_loss", "lira_offline"):
        scores = np.stack([registry.get(name).score(outputs.evidence(t), seed=0).scores for t in plan.targets])
        sets.append(passes(scores, targets, fpr=0.01) & targets)
    row = found.pairs.set_index(["fpr", "set", "first", "second"])
    names = [name for name in dict.fromkeys(found.pairs["first"]) if name in ("threshold_loss", "lira_offline")]
    got = row.loc[(0.01, "one", names[0], "lira_offline" if names[0] == "threshold_loss" else "threshold_loss")]
    assert got["both"] == pytest.approx((sets[0] & sets[1]).sum(axis=1).mean())


def test_rows_name_records_by_keyed_identity_in_the_order_of_exposure(outputs: FleetOutputs, found: exposure.Found) -> None:
    tracker, lines = _logged(found, outputs)
    rows = tracker.artifacts[artifacts.EXPOSURE]
    assert set(tracker.artifacts) == ALWAYS | OF_RECORDS - {artifacts.EXPOSURE_PICTURES}
    named = dict(zip(key().identities(outputs.plan.records, source=outputs.data.digest).tolist(), range(160), strict=True))
    places = [named[int(one, 16)] for one in rows["record"]]
    assert sorted(places) == list(range(160))
    np.testing.assert_allclose(rows["privacy_score"], found.exposure.privacy_score.value[places].round(2))
    assert (np.diff(found.exposure.privacy_score.value[places]) <= 0).all()
    hidden = {"position", "models_in", "models_out", "reason", "neighbour_distance", "neighbours_of_other_class"}
    assert not hidden & set(rows.columns)
    assert not [column for column in rows.columns if column.endswith("_false")]
    assert "detection_pooled_fpr_0_01/lira_online" in rows
    assert "detection_pooled_fpr_0_01/lira_online_low" not in rows
    table = tracker.artifacts[artifacts.EXPOSURE_TABLE]
    assert len(table) == exposure_log.TABLE_ROWS
    assert "detection_own_fpr_0_01/scaled_logit" in table
    assert "detection_own_fpr_0_01/rmia_online" not in table
    assert any(f"{int(found.exposure.shown.sum())} of 160 records are shown" in line for line in lines)
    assert tracker.latest("exposure/shown") == found.exposure.shown.sum()
    number = found.summary.set_index(["attack", "at", "fpr"]).loc[("lira_online", "pooled", 0.01), "found"]
    assert tracker.latest("members_found_fpr_0_01/lira_online") == logged_each({"": number})[""], "four digits"


def test_private_runs_store_nothing_of_single_records(outputs: FleetOutputs, found: exposure.Found) -> None:
    tracker, _ = _logged(found, outputs, private_artifacts=True, show_records=True)
    assert set(tracker.artifacts) == ALWAYS
    assert (tracker.artifacts[artifacts.EXPOSURE_GROUPS]["records"] >= exposure_log.LEAST_GROUP).all()


def test_records_are_shown_on_request_with_their_pictures() -> None:
    outputs = simulated(images=True)
    found = _measured(outputs)
    tracker, _ = _logged(found, outputs, show_records=True)
    rows = tracker.artifacts[artifacts.EXPOSURE]
    assert set(tracker.artifacts) == ALWAYS | OF_RECORDS
    assert {"position", "models_in", "neighbour_distance", "reason"} <= set(rows.columns)
    assert sorted(rows["position"]) == sorted(outputs.plan.records)
    again = pd.Series(found.exposure.memorization.value, index=outputs.plan.records)
    np.testing.assert_allclose(rows["memorization"], again[rows["position"]])
    assert "of_other_class" not in str(_logged(found, outputs)[0].artifacts[artifacts.EXPOSURE].columns)


def test_few_targets_do_not_tell_under_which_a_record_was_a_member() -> None:
    outputs = simulated(targets=exposure_log.LEAST_TARGETS - 1)
    rows = _logged(_measured(outputs), outputs)[0].artifacts[artifacts.EXPOSURE]
    assert [column for column in rows.columns if "lira" in column] == []
    assert "detection_own_fpr_0_01/scaled_logit" in rows


def test_in_a_disjoint_design_the_targets_tell_of_their_block() -> None:
    outputs = simulated("disjoint", shadows=6, targets=12)
    found = _measured(outputs)
    plan = outputs.plan
    own = plan.audited
    np.testing.assert_allclose(
        found.exposure.privacy_score.value, privacy_score(_phi(outputs)[:12][:, own], plan.member[:12][:, own]).value, rtol=1e-9
    )
    assert len(found.exposure) == 160
    few = simulated("disjoint", shadows=4, targets=1)
    nothing = _measured(few)
    assert {text.split(";")[0] for text in nothing.exposure.reason} == {
        "memorization needs at least 1 IN and 1 OUT models (the record has 1 and 0)",
        "memorization needs at least 1 IN and 1 OUT models (the record has 0 and 1)",
    }
    tracker, _ = _logged(nothing, few)
    assert not OF_RECORDS & set(tracker.artifacts), "with one target, a row would say whether it was a member"


@pytest.mark.parametrize("form", ["loss_nats", pytest.param("probs", marks=pytest.mark.thorough)])
def test_outputs_of_other_forms_are_measured(form: str, outputs: FleetOutputs) -> None:
    import dataclasses

    phi = _phi(outputs)
    if form == "loss_nats":
        values = np.logaddexp(0.0, -phi)
    else:
        values = np.exp(outputs.outputs - np.logaddexp(*np.moveaxis(outputs.outputs, 2, 0))[:, :, None])
    population = np.abs(outputs.population[:, :, 0]) if form == "loss_nats" else np.full((16, 60, 2), 0.5)
    changed = dataclasses.replace(outputs, form=form, outputs=values, population=population, known_inputs=False)
    found = _measured(changed)
    np.testing.assert_allclose(found.exposure.privacy_score.value, privacy_score(phi, outputs.plan.member).value, rtol=1e-6)
    assert np.isnan(found.exposure.memorization.value).all() == (form == "loss_nats")
    assert not found.exposure.columns, "records that are not known have no neighbours"
    tracker, lines = _logged(found, changed)
    assert set(tracker.artifacts) >= ALWAYS
    assert any(line.startswith("Memorization: mean") for line in lines) == (form == "probs")


def test_a_whole_study_logs_it_and_says_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "d.npz", x=rng.random((300, 4)), y=rng.integers(0, 2, 300))
    tracker = MemoryTracker()
    config = ShadowStudyConfig(
        dataset=str(tmp_path / "d.npz"), trainer=f"{FUNCTIONS}:neighbour", params="sharpness=0.01", shadows=6, targets=4, members=60,
        attacks=ATTACKS, slices="entire", store="none", label_noise=0.2,
    )  # fmt: skip
    result = study.run(config, tracker, StopFlag())
    assert set(tracker.artifacts) >= ALWAYS | OF_RECORDS - {artifacts.EXPOSURE_PICTURES}
    assert set(tracker.artifacts[artifacts.EXPOSURE_GROUPS]["group"]) == {"0", "1", "as it was", "replaced"}
    assert "## Who is exposed" in tracker.description
    assert len(tracker.description) < 8000
    assert "of 120 records are shown to be exposed" in result.answer
    assert "finds" in result.answer
    replaced = int(tracker.artifacts[artifacts.EXPOSURE_GROUPS].set_index("group").loc["replaced", "records"].iloc[0])
    assert replaced == pytest.approx(24, abs=2)


def test_plans_of_a_single_pair_of_shadows_have_no_repetitions() -> None:
    outputs = simulated(shadows=2, targets=2)
    assert isinstance(outputs.plan, ShadowPlan)
    assert exposure.halves(outputs.plan, 0) == []
    found = _measured(outputs)
    assert (found.sets["repetitions"] == 1).all()
    assert set(found.pairs["set"]) == {"one"}
