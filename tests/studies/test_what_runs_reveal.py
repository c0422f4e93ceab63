"""What studies leave, for whoever has all the records: neither is a member named, nor can the split be drawn again or be confirmed."""

from __future__ import annotations

import dataclasses
import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_artifacts import best_guess, everything, unlisted

from memberscope import metrics
from memberscope.audit import artifacts
from memberscope.config.mitigation import MitigateConfig
from memberscope.config.outside import PlanStudyConfig, ShadowStudyConfig, SynthesizeConfig
from memberscope.config.training import SweepStudyConfig, TrainStudyConfig
from memberscope.datasets import LabeledData, Sizes, load_dataset
from memberscope.interrupt import StopFlag
from memberscope.plans.keyed import shown_digest, split_seed
from memberscope.plans.shadow import make_shadow_plan
from memberscope.plans.split import make_plan
from memberscope.plans.target import TargetSettings
from memberscope.scores import KeptScores
from memberscope.secret import VARIABLE, key, make_private
from memberscope.studies import plan as planning
from memberscope.studies import setup, train
from memberscope.studies.mitigate import study as mitigate
from memberscope.studies.shadow import draw
from memberscope.studies.shadow import study as shadow
from memberscope.studies.sweep import study as sweep
from memberscope.studies.synthesize import study as synthesize
from memberscope.sweeps.cells import Part
from memberscope.sweeps.data_files import load_data, save_data
from memberscope.sweeps.selection import select
from memberscope.tracking import MemoryTracker

from .conftest import Own

N = 240  # audited records
CHANCE = 0.17  # the largest deviation of an AUC from 1/2 over some dozen columns of 240 records without any signal: 4.5 standard errors
SIZES = {"members": 120, "nonmembers": 120, "validation": 60}


def _train(own: Own, **changes: Any) -> MemoryTracker:
    tracker = MemoryTracker()
    options = {
        "trainer": own.spec,
        "dataset": own.data,
        "attacks": "threshold,trained_lr",
        "params": "k=41",
        **SIZES,
        **changes,
    }
    train.run(TrainStudyConfig.from_mapping(options), tracker, StopFlag())
    return tracker


def _truth(tracker: MemoryTracker, folder: Path, data: LabeledData) -> tuple[np.ndarray, np.ndarray]:
    """The audited positions, in the order of the data set, and who is a member: what only the owner of the key can read."""
    (folder / "owner.npz").write_bytes(tracker.artifacts[artifacts.SCORES])
    kept = KeptScores.load(folder / "owner.npz", key=key())
    assert kept.record_ids is not None
    member = dict(zip(kept.record_ids.tolist(), kept.member.tolist(), strict=True))
    names = key().identities(np.arange(len(data)), source=kept.source).tolist()
    audited = np.array([place for place, name in enumerate(names) if name in member])
    return audited, np.array([member[names[place]] for place in audited])


@pytest.mark.parametrize(("split", "certain"), [("seed", True), ("auto", False), ("key", False)])
def test_a_trained_model_s_run(own: Own, tmp_path: Path, split: str, certain: bool) -> None:
    tracker, data = _train(own, split=split), load_dataset(own.data, as_is=True)
    audited, member = _truth(tracker, tmp_path, data)
    assert (len(audited), member.sum()) == (N, N // 2)
    run = everything(tracker)
    assert not unlisted(tracker)
    found, how = best_guess(run, {"position": audited}, member)
    assert found < CHANCE, how
    settings = json.loads(run[artifacts.STUDY])
    sizes = Sizes(
        members=settings["data.members"], nonmembers=settings["data.nonmembers"], validation=settings["data.validation"]
    )
    again = make_plan(data.y, sizes, seed=settings["study.seed"])  # who has the records in their order, and reads the seed
    auc = metrics.auc(np.isin(audited, again.members).astype(float), member).value
    assert auc == 1.0 if certain else abs(auc - 0.5) < CHANCE
    plan = make_plan(data.y, sizes, seed=split_seed(setup.load_data(_config(own, split), as_is=True), 0))
    assert set(audited[member]) == set(plan.members), "the owner can draw it again"
    told = str(run["params"]) + str(run["inputs"]) + run[artifacts.CONFIG]
    confirmed = [digest in told for digest in (plan.digest, data.part_digest("member", plan.members))]
    assert confirmed == [certain, certain], "whoever knows all members but one could try the candidates"
    assert ("data.split" in tracker.logged_params) == (not certain)


def _config(own: Own, split: str) -> TrainStudyConfig:
    return TrainStudyConfig(trainer=own.spec, dataset=own.data, split=split)


def test_public_data_sets_are_split_by_the_seed_alone() -> None:
    data = setup.load_data(TrainStudyConfig())
    assert not data.keyed
    assert split_seed(data, 7) == 7
    assert shown_digest(data, data.digest) == data.digest
    assert setup.load_data(TrainStudyConfig(split="key")).keyed


def _plans(config: Any, data: LabeledData) -> list[Any]:
    """The index sets of each kind of plan, for a data set."""
    part = Part(classes=2, members=60, nonmembers=60, validation=20, audited_members=60, audited_nonmembers=60, per_class=90)
    selection = select(data, part, seed=0)
    target = TargetSettings(data=data, sizes=Sizes(members=60, nonmembers=60, validation=20), noise=0.0)
    return [
        target.prepare(0).plan.members,
        draw.plan_for(data, ShadowStudyConfig(members=60, shadows=2, targets=1, population=50)).member,
        synthesize.plan_for(data, SynthesizeConfig(members=60), 0).member,
        mitigate.prepare(data, MitigateConfig(members=60, shadows=2), 0).plan.member,
        mitigate.prepare(data, MitigateConfig(members=60, shadows=2), 0).validation,
        selection.plan.members,
        planning.draw_plan(config)[1].plan.member,
    ]


@pytest.mark.parametrize("grouped", [False, True])
def test_every_kind_of_plan_needs_the_key(own: Own, monkeypatch: pytest.MonkeyPatch, grouped: bool) -> None:
    config = PlanStudyConfig(dataset=own.data, members=60, shadows=2, targets=1)
    data = setup.load_data(config, as_is=True)
    data = dataclasses.replace(data, groups=np.arange(len(data)) // 2 if grouped else None)
    first, again = _plans(config, data), _plans(config, data)
    monkeypatch.setenv(VARIABLE, "the key of somebody else")
    other = _plans(config, data)
    for one, same, foreign in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one, same)
        assert not np.array_equal(one, foreign)


def test_workers_of_a_sweep_split_as_their_parent_does(own: Own, tmp_path: Path) -> None:
    data = setup.load_data(PlanStudyConfig(dataset=own.data), as_is=True)
    loaded = load_data(save_data(data, tmp_path))
    assert loaded.keyed
    assert split_seed(loaded, 3) == split_seed(data, 3)
    public = setup.load_data(PlanStudyConfig(dataset=own.data, split="seed"), as_is=True)
    assert not load_data(save_data(public, tmp_path)).keyed, "another folder"


def _sweep(own: Own, folder: Path, **changes: Any) -> MemoryTracker:
    (folder / "space.yaml").write_text("factors:\n  k: [1, 41]\n")
    tracker = MemoryTracker()
    settings = {
        "trainer": own.spec, "dataset": own.data, "space": str(folder / "space.yaml"), "sampler": "grid", "folder": str(folder / "sweeps"),
        "seeds": 1, "workers": 1, **SIZES, **changes,
    }  # fmt: skip
    sweep.run(SweepStudyConfig.from_mapping(settings), tracker, StopFlag())
    return tracker


def test_a_sweep_s_runs(own: Own, tmp_path: Path) -> None:
    tracker, data = _sweep(own, tmp_path), load_dataset(own.data, as_is=True)
    for child in tracker.children:
        audited, member = _truth(child, tmp_path, data)
        found, how = best_guess(everything(tracker), {"position": audited}, member)
        assert found < CHANCE, how
    assert not unlisted(tracker)
    space = json.loads(tracker.artifacts[artifacts.SPACE])
    assert space["data"]["digest"] != data.digest
    private = _sweep(own, tmp_path, private_artifacts="yes", seed=1)
    assert private.children
    losses = private.artifacts[artifacts.RESULTS]["train_loss"]
    assert (losses == losses.round(3)).all()
    assert losses.nunique() == 2
    for child in private.children:
        assert child.latest("train/loss") in set(losses)
        assert not {artifacts.SCORES, artifacts.MOST_EXPOSED} & set(child.artifacts)


@pytest.mark.thorough  # `make test` has runs of another key in tests/mlflow_adapter/test_what_runs_reveal.py
def test_a_sweep_of_another_key_is_another_sweep(own: Own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(_sweep(own, tmp_path).children) == 2
    monkeypatch.setenv(VARIABLE, "the key of somebody else")
    assert len(_sweep(own, tmp_path).children) == 2, "none of the other's trials is taken for one of these"


@pytest.mark.parametrize("plan", [False, True], ids=["trained here", "trained elsewhere"])
def test_a_shadow_study_s_runs(own: Own, tmp_path: Path, plan: bool) -> None:
    tracker, data = MemoryTracker(), load_dataset(own.data, as_is=True)
    settings: dict[str, Any] = {"members": 120, "shadows": 2, "targets": 1, "dataset": own.data}
    drawn = planning.draw_plan(PlanStudyConfig.from_mapping(settings))[1]
    if plan:
        drawn.write(tmp_path / "plan")
        rng = np.random.default_rng(0)
        (tmp_path / "outputs").mkdir()
        for model in range(drawn.plan.n_models):
            np.savez(
                tmp_path / "outputs" / f"model_{model:03d}.npz", logits=rng.normal(size=(len(drawn.plan.records), data.classes))
            )
        settings = {"plan": str(tmp_path / "plan"), "outputs": str(tmp_path / "outputs")}
    else:
        settings |= {"trainer": own.spec, "params": "k=41", "store": "none", "workers": 1}
    config = ShadowStudyConfig.from_mapping({**settings, "attacks": "threshold_loss", "slices": "entire"})
    shadow.run(config, tracker, StopFlag())
    run = everything(tracker)
    assert not unlisted(tracker)
    audited, member = drawn.plan.records, drawn.plan.member[drawn.plan.targets[0]]
    order = np.argsort(audited)
    found, how = best_guess(run, {"position": audited[order]}, member[order])
    assert found < CHANCE, how
    again = make_shadow_plan(
        data.y, design="half", members=120, population="auto", shadows=2, targets=1, coin_flips=False, seed=0
    )
    guess = dict(zip(again.records.tolist(), again.member[again.targets[0]].tolist(), strict=True))
    auc = metrics.auc(np.array([float(guess.get(place, 0.5)) for place in audited.tolist()]), member).value
    assert abs(auc - 0.5) < CHANCE
    for digest in (drawn.plan.digest, drawn.digest, drawn.data_digest):
        assert digest[:16] not in str({name: content for name, content in run.items() if isinstance(content, str)})


def _synthesize(own: Own, folder: Path, **changes: Any) -> MemoryTracker:
    rng = np.random.default_rng(1)
    np.savez(folder / "unit.npz", x=rng.random((400, 4)), y=rng.integers(0, 2, 400))
    tracker = MemoryTracker()
    options = {
        "trainer": own.spec, "dataset": str(folder / "unit.npz"), "members": 80, "shadows": 2, "fleets": 0, "records": 60, "workers": 1,
        "method": "noisy,marginal", "store": "none", **changes,
    }  # fmt: skip
    synthesize.run(SynthesizeConfig.from_mapping(options), tracker, StopFlag())
    return tracker


def test_records_that_are_nearly_real_are_not_stored(own: Own, tmp_path: Path) -> None:
    noisy, marginal = (artifacts.inside(method, artifacts.SYNTHETIC_RECORDS) for method in ("noisy", "marginal"))
    tracker = _synthesize(own, tmp_path)
    assert not unlisted(tracker)
    left = set(tracker.artifacts)
    assert marginal in left
    assert not {noisy, artifacts.inside("noisy", artifacts.SYNTHETIC_FIGURE)} & left
    assert artifacts.inside("noisy", artifacts.CARD) in left
    assert noisy in _synthesize(own, tmp_path, show_records="yes").artifacts
    assert noisy in _synthesize(own, tmp_path, split="seed").artifacts, "declared to be public"
    private = set(_synthesize(own, tmp_path, private_artifacts="yes").artifacts)
    assert not {name for name in private if name.endswith((artifacts.SYNTHETIC_RECORDS, artifacts.SYNTHETIC_FIGURE))}


def test_pictures_of_records_of_one_s_own_are_not_stored(own: Own, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    np.savez(tmp_path / "images.npz", x=rng.integers(0, 256, (400, 4, 4, 1), dtype=np.uint8), y=rng.integers(0, 2, 400))
    (tmp_path / "flat.py").write_text(
        "import numpy as np\n\ndef train(job):\n    return lambda x: np.tile([0.2, 0.4], (len(x), 1)) + job.seed\n"
    )
    images = {"dataset": str(tmp_path / "images.npz"), "trainer": f"{tmp_path}/flat.py:train", "params": ""}
    assert artifacts.DATA_SAMPLE not in _train(own, **images).artifacts
    assert artifacts.DATA_SAMPLE in _train(own, **images, show_records="yes").artifacts
    assert artifacts.DATA_SAMPLE in _train(own, **images, split="seed").artifacts
    assert artifacts.DATA_SAMPLE not in _train(own, **images, split="seed", private_artifacts="yes").artifacts


def test_mitigations_store_nothing_of_single_records(own: Own, tmp_path: Path) -> None:
    tracker = MemoryTracker()
    options = {
        "trainer": own.spec, "dataset": own.data, "members": 120, "shadows": 2, "seeds": 1, "perturbed": 4, "coin_flips": "no",
        "workers": 1, "store": "none", "mitigations": "digits,label_only",
    }  # fmt: skip
    config = MitigateConfig.from_mapping(options)
    mitigate.run(config, tracker, StopFlag())
    split = mitigate.prepare(setup.load_data(config, as_is=True), config, 0)
    assert not unlisted(tracker)
    run, member = everything(tracker), split.plan.member[0]
    assert not {name for name in run if name.endswith((artifacts.SCORES, artifacts.MOST_EXPOSED))}
    order = np.argsort(split.plan.records)
    found, how = best_guess(run, {"position": split.plan.records[order]}, member[order])
    assert found < CHANCE, how


def test_private_runs_have_no_losses_to_the_last_digit(own: Own) -> None:
    """The mean of a few dozen known losses, with all digits, tells which of them it is the mean of."""
    open_run, private = (_train(own, private_artifacts=choice) for choice in ("no", "yes"))
    for tracker, rounded in ((open_run, False), (private, True)):
        losses = [tracker.latest(name) for name in ("train/loss", "val/loss")]
        losses += tracker.artifacts[artifacts.HISTORY][["train_loss", "val_loss"]].iloc[-1].tolist()
        assert all(loss == round(loss, 3) for loss in losses) == rounded
    assert private.latest("train/loss") == pytest.approx(open_run.latest("train/loss"), abs=5e-4)
    assert private.latest("auc/threshold_loss") == open_run.latest("auc/threshold_loss")
    assert not {artifacts.SCORES, artifacts.MOST_EXPOSED} & set(private.artifacts)


def test_folders_of_index_sets_are_the_users_alone(own: Own, tmp_path: Path) -> None:
    config = PlanStudyConfig(dataset=own.data, members=60, shadows=2, targets=1)
    planning.draw_plan(config)[1].write(tmp_path / "deep" / "plan")
    save_data(setup.load_data(config, as_is=True), tmp_path / "data")
    _synthesize(own, tmp_path, method="hill_climb", records=20, conf_min=0.0, store=str(tmp_path / "models"))
    (tmp_path / "shared").mkdir(mode=0o755)
    make_private(tmp_path / "shared" / "mine")
    for name in ("deep", "deep/plan", "deep/plan/members", "data", "models", "models/climbs", "shared/mine"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700, name
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o755, "it was there"
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_private(tmp_path / "file")
