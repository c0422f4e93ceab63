"""Groups through the entry points: `attack`, `audit` of tables, `shadow` with a trainer of one's own, and plans trained elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from memberscope import Predictions
from memberscope.config import AttackStudyConfig
from memberscope.config.outside import PlanStudyConfig, ShadowStudyConfig
from memberscope.datasets.records import read_records
from memberscope.datasets.schema import take_groups
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.plans.on_disk import model_name, read_plan_folder
from memberscope.studies import attack, plan
from memberscope.studies.shadow import study as shadow
from memberscope.tracking import MemoryTracker


def _visits(folder: Path, *, persons: int = 160, rows: int = 4, name: str = "visits.csv") -> Path:
    """A table of several visits of each person, whose diagnosis is hard to tell from the measurements."""
    rng = np.random.default_rng(0)
    lines = ["a,b,c,patient,label"]
    for person in range(persons):
        center, label = rng.normal(size=3), rng.integers(0, 2)
        for _ in range(rows):
            a, b, c = center + 0.1 * rng.normal(size=3)
            lines.append(f"{a:.4f},{b:.4f},{c:.4f},p{person},{'ill' if label else 'well'}")
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def _shadow(folder: Path, **options: object) -> tuple[MemoryTracker, str]:
    tracker = MemoryTracker()
    config = ShadowStudyConfig(
        trainer="sklearn.tree:DecisionTreeClassifier", dataset=str(_visits(folder)), group="patient", shadows=4, targets=2, workers=1,
        attacks="threshold_loss,lira_online,shadow_salem", slices="entire", store="none", **options,
    )  # type: ignore[arg-type]  # fmt: skip
    found = shadow.run(config, tracker, StopFlag())
    return tracker, f"{found.table}\n{found.answer}"


def test_a_shadow_study_keeps_patients_whole_and_counts_them(tmp_path: Path) -> None:
    tracker, said = _shadow(tmp_path)
    child = next(run for run in tracker.children if run.name == "target-0")
    frame = child.artifacts["attacks.csv"]
    entire, rows = (
        frame[(frame["slice"] == part) & (frame["metric"] == "auc")].set_index("attack") for part in ("entire", "rows")
    )
    members = int(entire.loc["lira_online", "n_member"])
    assert 50 <= members <= 56  # a third of 160 patients, give or take the whole groups that did not fit
    assert rows.loc["lira_online", "n_member"] == 4 * members
    assert 0.7 < entire.loc["lira_online", "value"] < 0.97  # a tree remembers whom it saw; four shadows
    assert rows.loc["lira_online", "ci_low"] < rows.loc["lira_online", "value"]
    assert "groups" in said


def test_a_plan_elsewhere_keeps_groups_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    path = _visits(tmp_path)
    config = PlanStudyConfig(dataset=str(path), group="patient", shadows=2, targets=1, output=str(tmp_path / "plan"))
    plan.run(config, MemoryTracker(), StopFlag())
    folder = read_plan_folder(tmp_path / "plan")
    assert folder.groups is not None
    of = folder.groups[folder.plan.records]
    for one in folder.plan.member:
        assert not np.isin(of[one], of[~one]).any()
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    rng = np.random.default_rng(0)
    for model in range(folder.plan.n_models):
        np.save(outputs / f"{model_name(model, folder.plan.n_models)}.npy", rng.normal(size=(len(of), 2)))
    config2 = ShadowStudyConfig(plan=str(tmp_path / "plan"), outputs=str(outputs), attacks="threshold_loss,lira_online")
    tracker = MemoryTracker()
    shadow.run(config2, tracker, StopFlag())
    child = next(run for run in tracker.children if run.name == "target-0")
    assert set(child.artifacts["attacks.csv"]["slice"]) >= {"entire", "rows"}
    changed = folder.groups.copy()
    changed[folder.plan.records] = 0
    changed[folder.plan.population] = 1
    np.save(tmp_path / "plan" / "groups.npy", changed)
    with pytest.raises(UserError, match="its files do not belong together"):
        read_plan_folder(tmp_path / "plan")


def test_attack_takes_a_column_of_the_predictions(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 5)
    member = groups < 30
    logits = rng.normal(size=(300, 2)) + member[:, None] * np.array([1.0, 0.0])
    given = Predictions(
        logits=logits, labels=np.zeros(300, dtype=int), member=member, columns={"patient": np.char.add("p", groups.astype(str))}
    )
    path = tmp_path / "p.npz"
    given.save(path)
    tracker = MemoryTracker()
    config = AttackStudyConfig(predictions=str(path), group="patient", attacks="threshold_loss", slices="entire")
    found = attack.run(config, tracker, StopFlag())
    assert "Groups: 30 groups are members and 30 are not, with 300 records in all; metrics count groups." in found.answer
    assert tracker.logged_params["data.groups"] == 60
    with_key = Predictions(logits=logits, labels=np.zeros(300, dtype=int), member=member, groups=groups)
    with_key.save(path)
    assert Predictions.load(path).groups is not None
    with pytest.raises(UserError, match=r"group=patiemt: .* has no column patiemt, or key column_patiemt; its columns: none"):
        attack.run(
            AttackStudyConfig(predictions=str(path), group="patiemt", attacks="threshold_loss"), MemoryTracker(), StopFlag()
        )


def test_the_group_column_of_audited_tables_is_no_feature(tmp_path: Path) -> None:
    sides = [read_records("members", str(_visits(tmp_path, persons=5)), label="label"),
             read_records("nonmembers", str(_visits(tmp_path, persons=3, name="n.csv")), label="label")]  # fmt: skip
    rest, groups = take_groups(sides, "patient")
    assert [side.columns for side in rest] == [("a", "b", "c")] * 2
    assert len(set(groups.tolist())) == 5  # p0 to p2 are on both sides
    np.testing.assert_array_equal(groups[:12], groups[20:])
    with pytest.raises(UserError, match=r"group=person: no column of .*; allowed: a, b, c, patient"):
        take_groups(sides, "person")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "m.npz", x=rng.normal(size=(6, 2)), y=np.zeros(6, dtype=int), who=np.array([1, 1, 2, 2, 3, 3]))
    arrays = [read_records("members", str(tmp_path / "m.npz"), label="label")] * 2
    assert take_groups(arrays, "who")[1].tolist() == [0, 0, 1, 1, 2, 2] * 2
    with pytest.raises(UserError, match=r"group=whom: no array of .*; allowed: who; nearest: who"):
        take_groups(arrays, "whom")


def test_groups_that_are_missing_or_constant(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,who,label\n" + "".join(f"{k},,x\n{k},b,y\n" for k in range(40)))
    sides = [read_records("members", str(path), label="label")]
    with pytest.raises(UserError, match=r"group=who: 40 records of .* have no group; allowed: a group for each record"):
        take_groups(sides, "who")
    path.write_text("a,who,label\n" + "".join(f"{k},b,y\n" for k in range(40)))
    with pytest.raises(UserError, match=r"group=who: all records are in one group, b; allowed: at least two groups"):
        take_groups([read_records("members", str(path), label="label")], "who")
