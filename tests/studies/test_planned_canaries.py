"""Canaries in the folder of a plan: written for training elsewhere, read back, and audited from the models' outputs."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier

from memberscope.audit import artifacts
from memberscope.config.outside import PlanStudyConfig, ShadowStudyConfig
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.plans.on_disk import read_plan_folder
from memberscope.studies import plan as planning
from memberscope.studies import setup
from memberscope.studies.result import StudyResult
from memberscope.studies.shadow import canaries, draw, study
from memberscope.tracking import MemoryTracker

M = 80
DRAWN = {
    "members": 100, "population": 60, "shadows": 4, "targets": 2, "seed": 3, "label_noise": 0.0, "coin_flips": "yes", "canaries": M,
    "canary_kind": "mislabelled",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Folders:
    """A data set, its plan, and outputs of forests that were trained by hand."""

    data: Path
    plan: Path
    outputs: Path


def _draw(folder: Path, **options: Any) -> Path:
    rng = np.random.default_rng(0)
    centres, y = rng.normal(size=(3, 6)), rng.integers(0, 3, 400)
    np.savez(folder / "data.npz", x=5 * (centres[y] + rng.normal(size=(400, 6))), y=y)
    config = PlanStudyConfig.from_mapping(
        {"dataset": str(folder / "data.npz"), "output": str(folder / "plan"), **DRAWN, **options}
    )
    planning.run(config, MemoryTracker(), StopFlag())
    return folder / "plan"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A loop over the index sets and canaries, as a user would write it, without memberscope."""
    folder = tmp_path_factory.mktemp("elsewhere")
    plan, outputs = _draw(folder), folder / "outputs"
    outputs.mkdir()
    x, labels = np.load(folder / "data.npz")["x"][np.load(plan / "rows.npy")], np.load(plan / "labels.npy")
    seeds, records, population = (np.load(plan / f"{name}.npy") for name in ("seeds", "records", "population"))
    more, more_labels = (np.load(plan / "canaries" / f"{name}.npy") for name in "xy")
    for number, path in enumerate(sorted((plan / "members").iterdir())):
        members, planted = np.load(path), np.load(plan / "canaries" / "members" / path.name)
        model = RandomForestClassifier(n_estimators=15, random_state=int(seeds[number]))
        model.fit(np.concatenate([x[members], more[planted]]), np.concatenate([labels[members], more_labels[planted]]))
        asked = {"probs": x[records], "population": x[population], "canaries": more}
        np.savez(outputs / f"{path.stem}.npz", **{name: model.predict_proba(rows) for name, rows in asked.items()})
    return Folders(data=folder / "data.npz", plan=plan, outputs=outputs)


def _run(plan: Path, outputs: Path, **options: Any) -> tuple[MemoryTracker, StudyResult]:
    tracker = MemoryTracker()
    given = {"attacks": "threshold_loss,lira_online,rmia_online", "primary": "rmia_online", "slices": "entire"}
    config = ShadowStudyConfig.from_mapping({"plan": str(plan), "outputs": str(outputs), **given, **options})
    return tracker, study.run(config, tracker, StopFlag())


def test_canaries_of_models_from_elsewhere_are_audited_apart(made: Folders) -> None:
    tracker, result = _run(made.plan, made.outputs)
    table = tracker.artifacts[artifacts.CANARIES]
    folder = read_plan_folder(made.plan)
    assert folder.canary_member is not None
    own = folder.canary_member[folder.plan.targets[0]]
    assert set(table["n_member"]) == {own.sum()}
    assert set(table["n_nonmember"]) == {M - own.sum()}
    found = {name: tracker.latest(f"canary/auc/{name}") for name in ("threshold_loss", "lira_online", "rmia_online")}
    assert 0.8 < found["rmia_online"] <= 1.0, "forests learn the wrong labels of their canaries"
    assert min(found.values()) > 0.75
    assert "mislabelled canaries were planted; rmia_online has an AUC of" in result.answer
    assert artifacts.CANARY_COST not in tracker.artifacts, "nothing is trained here"


def test_the_data_set_need_not_be_there(made: Folders, tmp_path: Path) -> None:
    kept = made.data.rename(made.data.with_suffix(".away"))
    try:
        tracker, _ = _run(made.plan, made.outputs)
    finally:
        kept.rename(made.data)
    with_data, _ = _run(made.plan, made.outputs)
    for name in ("threshold_loss", "rmia_online"):
        assert tracker.latest(f"canary/auc/{name}") == with_data.latest(f"canary/auc/{name}")


def test_the_canaries_are_those_that_shadow_itself_would_plant(made: Folders) -> None:
    folder = read_plan_folder(made.plan)
    config = ShadowStudyConfig.from_mapping(
        {**DRAWN, "dataset": str(made.data), "trainer": "sklearn.ensemble:RandomForestClassifier"}
    )
    data = setup.load_data(config, each_once=True)
    plan = draw.plan_for(data, config)
    noise, noisy = draw.with_noise(data, plan, config)
    request = setup.canary_request(config, config, data)
    assert request is not None
    planted = canaries.plant_for(request, data, noisy, plan, noise=noise, seed=config.seed)
    assert folder.canaries is not None
    assert folder.canaries.digest == planted.planted.canaries.digest
    np.testing.assert_array_equal(folder.canary_member, planted.member)
    assert (planted.member[0::2] ^ planted.member[1::2]).all()
    assert folder.canaries.records is not None
    assert not np.isin(folder.canaries.records, np.concatenate([plan.records, plan.population])).any()


@pytest.mark.parametrize("file", ["x.npy", "y.npy", "members/model_002.npy"])
def test_a_folder_whose_canaries_were_changed_is_refused(made: Folders, tmp_path: Path, file: str) -> None:
    plan = shutil.copytree(made.plan, tmp_path / "plan")
    path = plan / "canaries" / file
    array = np.load(path)
    np.save(path, array[:-1] if "members" in file else np.roll(array, 1, axis=0))
    with pytest.raises(UserError, match=r"^plan=.*plan: its files do not belong together"):
        read_plan_folder(plan)
    path.unlink()
    with pytest.raises(UserError, match=r"^plan="):
        read_plan_folder(plan)


def test_outputs_without_those_for_canaries_are_audited_without_them(made: Folders, tmp_path: Path) -> None:
    outputs = shutil.copytree(made.outputs, tmp_path / "outputs")
    files = sorted(outputs.iterdir())
    for path in files:
        np.savez(path, **{name: array for name, array in np.load(path).items() if name != "canaries"})
    tracker, result = _run(made.plan, outputs)
    assert "The files hold no outputs for the canaries, which are not audited." in result.answer
    assert artifacts.CANARIES not in tracker.artifacts
    np.savez(files[0], **np.load(made.outputs / files[0].name))
    with pytest.raises(
        UserError, match=r"^outputs=.*: 5 of 6 models have no canaries: model_001, .*; allowed: canaries for all models, or"
    ):
        _run(made.plan, outputs)


def test_outputs_of_another_number_of_canaries_are_refused(made: Folders, tmp_path: Path) -> None:
    outputs = shutil.copytree(made.outputs, tmp_path / "outputs")
    first = outputs / "model_000.npz"
    arrays = dict(np.load(first))
    np.savez(first, **{**arrays, "canaries": arrays["canaries"][1:]})
    with pytest.raises(UserError, match=r"model_000.npz: canaries: shape \(79, 3\); the plan expects \(80, 3\)"):
        _run(made.plan, outputs)


def test_plans_without_canaries_are_as_they_were(tmp_path: Path) -> None:
    plan = _draw(tmp_path, canaries=0, canary_kind="natural")
    assert not (plan / "canaries").exists()
    about = json.loads((plan / "plan.json").read_text())
    assert "canaries" not in about
    before = {name: value for name, value in about["options"].items() if not name.startswith("canar")}
    (plan / "plan.json").write_text(json.dumps({**about, "options": before}))  # as an earlier version wrote it
    with pytest.raises(UserError, match=r"^outputs=.*no such folder"):
        _run(plan, tmp_path / "none")


def test_canaries_of_a_table_are_written_as_rows_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"age": rng.integers(18, 90, 400), "town": rng.choice(["Bern", "Oslo"], 400), "label": rng.choice(["no", "yes"], 400)}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    given = {**DRAWN, "duplicates": "drop", "members": 40, "population": 50, "canaries": 60}
    config = PlanStudyConfig.from_mapping({**given, "dataset": str(tmp_path / "t.csv"), "output": str(tmp_path / "plan")})
    result = planning.run(config, MemoryTracker(), StopFlag())
    assert "Canaries: 60 (mislabelled) are in" in result.answer
    rows, own = np.load(tmp_path / "plan" / "rows.npy"), np.load(tmp_path / "plan" / "canaries" / "records.npy")
    found = pd.read_csv(tmp_path / "plan" / "canaries" / "records.csv")
    mine = frame.iloc[rows[own]].reset_index(drop=True)
    assert found[["age", "town"]].equals(mine[["age", "town"]])
    assert (found["label"] != mine["label"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coin_flips": "no"}, "canaries=80: coin_flips=no, and canaries are members by coin flips; allowed: coin_flips=yes"),
        ({"canaries": 141}, "canaries=141: 140 records of data are on no side of the plan; allowed: at most 140, or lower members, "),
        (
            {"canaries": 9000, "members": "auto", "population": "auto"},
            "canaries=9000: too many; the .* records of the data set would leave fewer than 10 members .*; allowed: at most ",
        ),
    ],
)  # fmt: skip
def test_a_plan_that_its_canaries_do_not_fit_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        _draw(tmp_path, **options)
    assert not (tmp_path / "plan").exists()
