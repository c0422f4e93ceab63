"""Models that were trained elsewhere: the same audit as of models trained here, the same scores as by hand, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from memberscope import Predictions, cli, signals
from memberscope.attacks.lira import lira_scores
from memberscope.audit import artifacts
from memberscope.audit.run import AuditReport
from memberscope.config.outside import PlanStudyConfig, ShadowStudyConfig
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.plans.on_disk import read_plan_folder
from memberscope.studies import plan as planning
from memberscope.studies.result import StudyResult
from memberscope.studies.shadow import from_files, study
from memberscope.tracking import MemoryTracker

DRAWN = {"members": 120, "population": 80, "shadows": 4, "targets": 2, "seed": 3, "label_noise": 0.1}
TREES = 15
ATTACKS = "threshold_loss,lira_online,lira_offline,rmia_online,shadow_shokri"


@dataclass(frozen=True, kw_only=True)
class Folders:
    """A data set, its plan, and outputs of forests that were trained by hand."""

    data: Path
    plan: Path
    outputs: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A loop over the index sets, as a user would write it, without memberscope."""
    folder = tmp_path_factory.mktemp("elsewhere")
    rng = np.random.default_rng(0)
    centres, y = rng.normal(size=(3, 6)), rng.integers(0, 3, 400)
    np.savez(folder / "data.npz", x=5 * (centres[y] + rng.normal(size=(400, 6))), y=y)
    planning.run(
        PlanStudyConfig(**DRAWN, dataset=str(folder / "data.npz"), output=str(folder / "plan")), MemoryTracker(), StopFlag()
    )
    plan, outputs = folder / "plan", folder / "outputs"
    outputs.mkdir()
    x, labels = np.load(folder / "data.npz")["x"][np.load(plan / "rows.npy")], np.load(plan / "labels.npy")
    seeds, records, population = (np.load(plan / f"{name}.npy") for name in ("seeds", "records", "population"))
    for number, path in enumerate(sorted((plan / "members").iterdir())):
        members = np.load(path)
        model = RandomForestClassifier(n_estimators=TREES, random_state=int(seeds[number]))
        model.fit(x[members], labels[members])
        np.savez(
            outputs / f"{path.stem}.npz", probs=model.predict_proba(x[records]), population=model.predict_proba(x[population])
        )
    return Folders(data=folder / "data.npz", plan=plan, outputs=outputs)


def _run(config: ShadowStudyConfig) -> tuple[MemoryTracker, StudyResult]:
    tracker = MemoryTracker()
    return tracker, study.run(config, tracker, StopFlag())


def _audited(config: ShadowStudyConfig, monkeypatch: pytest.MonkeyPatch) -> tuple[MemoryTracker, StudyResult, AuditReport]:
    """The study, and the report on its first target with every record's score."""
    found: list[AuditReport] = []
    audit = study.audit_first

    def keep(*args: Any) -> AuditReport:
        found.append(audit(*args))
        return found[-1]

    monkeypatch.setattr(study, "audit_first", keep)
    return *_run(config), found[0]


def _elsewhere(made: Folders, **changes: Any) -> ShadowStudyConfig:
    return ShadowStudyConfig(**{"plan": str(made.plan), "outputs": str(made.outputs), "attacks": ATTACKS} | changes)


def test_the_scores_are_those_by_hand_and_those_of_models_trained_here(
    made: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, result, report = _audited(_elsewhere(made), monkeypatch)
    # by hand, from the files alone
    records, labels = np.load(made.plan / "records.npy"), np.load(made.plan / "labels.npy")
    member = np.stack([np.isin(records, np.load(path)) for path in sorted((made.plan / "members").iterdir())])
    probs = [np.load(path)["probs"] for path in sorted(made.outputs.iterdir())]
    given = [Predictions(probs=p, labels=labels[records], member=m) for p, m in zip(probs, member, strict=True)]
    phi = np.stack([signals.scaled_logit(one) for one in given])[:, :, None]
    shadows = [2, 3, 4, 5]  # of target 0, whose twin is model 1
    for name, online in (("lira_online", True), ("lira_offline", False)):
        by_hand = lira_scores(phi[0], phi[shadows], member[shadows], online=online)
        np.testing.assert_allclose(report.scores(name), by_hand, rtol=0, atol=1e-12)
    p_label = probs[0][np.arange(len(records)), labels[records]]
    np.testing.assert_allclose(report.scores("threshold_loss"), np.log(np.maximum(p_label, 1e-30)), rtol=0, atol=1e-12)
    # trained here
    spec = {"trainer": "sklearn.ensemble:RandomForestClassifier", "params": f"n_estimators={TREES}"}
    here, _, theirs = _audited(
        ShadowStudyConfig(**DRAWN, **spec, dataset=str(made.data), attacks=ATTACKS, store=str(tmp_path / "models"), workers=1), monkeypatch
    )  # fmt: skip
    for name in ATTACKS.split(","):
        np.testing.assert_allclose(report.scores(name), theirs.scores(name), rtol=0, atol=1e-12)
    for name in ("plan.digest", "data.digest", "plan.shadows"):
        assert ours.logged_params[name] == here.logged_params[name]
    for name in ("targets.csv", "by_shadows.csv"):
        assert ours.artifacts[name].equals(here.artifacts[name]), "the rotation too"
    assert ours.children[0].artifacts["models.csv"].equals(here.children[0].artifacts["models.csv"])
    assert "Warning" not in result.answer
    assert ours.logged_params["outputs.suspects"] == 0


def _with_files(made: Folders, folder: Path, change: Callable[[int, dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Folders:
    folder.mkdir()
    for number, path in enumerate(sorted(made.outputs.iterdir())):
        np.savez(folder / path.name, **change(number, dict(np.load(path))))
    return Folders(data=made.data, plan=made.plan, outputs=folder)


def _loss(made: Folders, probs: np.ndarray, index: str = "records") -> np.ndarray:
    labels = np.load(made.plan / "labels.npy")[np.load(made.plan / f"{index}.npy")]
    return -np.log(np.maximum(probs[np.arange(len(labels)), labels], 1e-6))


def test_losses_alone_give_lira_and_rmia_and_say_what_others_lack(made: Folders, tmp_path: Path) -> None:
    losses = _with_files(
        made, tmp_path / "losses",
        lambda number, arrays: {
            "loss_nats": _loss(made, arrays["probs"]), "population": _loss(made, arrays["population"], "population"),
        },
    )  # fmt: skip
    tracker, result = _run(_elsewhere(losses))
    frame = tracker.children[1].artifacts["attacks.csv"]
    whole = frame[frame["slice"] == "entire"].set_index("attack")
    assert set(whole.loc[["lira_online", "rmia_online", "threshold_loss"], "status"]) <= {"ok", "low_power", "skipped"}
    auc = whole[whole["metric"] == "auc"]
    assert {"lira_online", "lira_offline", "rmia_online", "threshold_loss"} <= set(auc.index[auc["status"] == "ok"])
    assert whole.loc["shadow_shokri", "reason"] == "needs logits or probs"
    assert "Skipped: shadow_shokri, needs logits or probs." in result.answer
    models = tracker.children[0].artifacts["models.csv"]
    assert (models["train_loss"] < models["test_loss"]).all()
    assert tracker.latest("train/loss") < tracker.latest("val/loss")
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in losses.outputs.iterdir():
        np.save(bare / f"{path.stem}.npy", np.load(path)["loss_nats"])
    plain, said = _run(_elsewhere(made, outputs=str(bare), attacks="threshold_loss,lira_online,rmia_online"))
    assert plain.logged_params["outputs.form"] == "loss_nats"
    assert "Skipped: rmia_online, needs population." in said.answer
    assert "no outputs for the population" in said.answer
    both = [one.artifacts["targets.csv"].query("attack == 'lira_online'").reset_index(drop=True) for one in (plain, tracker)]
    assert both[0].equals(both[1])


def test_a_plain_file_of_probabilities_or_logits_is_recognized(made: Folders, tmp_path: Path) -> None:
    folder = read_plan_folder(made.plan)
    data = planning.draw_plan(PlanStudyConfig(**DRAWN, dataset=str(made.data)))[0]
    for name, change in (("probs", lambda p: p), ("logits", lambda p: np.log(p + 1e-3) + 2)):
        (tmp_path / name).mkdir()
        for path in made.outputs.iterdir():
            np.save(tmp_path / name / f"{path.stem}.npy", change(np.load(path)["probs"]).astype(np.float32))
        found, _ = from_files.read_outputs(tmp_path / name, folder, data)
        assert (found.form, found.outputs.dtype, found.outputs.shape) == (name, np.float32, (6, 240, 3))
        assert found.population.shape == (6, 0, 3)


def test_without_the_data_set_the_scores_are_the_same_and_the_run_says_so(
    made: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _, with_data = _audited(_elsewhere(made), monkeypatch)
    hidden = made.data.rename(made.data.with_name("elsewhere.npz"))
    try:
        tracker, result, report = _audited(_elsewhere(made), monkeypatch)
        named, _ = _run(_elsewhere(made, dataset=str(hidden)))
    finally:
        hidden.rename(made.data)
    assert np.array_equal(report.scores("lira_online"), with_data.scores("lira_online"))
    assert report.target.inputs is None
    assert with_data.target.inputs is not None
    for text in (result.answer, tracker.description):
        assert text.count("The data set was not loaded (dataset=") == 1
    for other in (tracker, named):
        assert other.logged_params["data.digest"] == whole.logged_params["data.digest"]
    assert "not loaded" not in named.description


def test_swapped_files_are_named_on_the_terminal_and_in_the_run(
    made: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made.outputs, tmp_path / "swapped")
    one, other = tmp_path / "swapped" / "model_002.npz", tmp_path / "swapped" / "model_005.npz"
    one.rename(tmp_path / "kept")
    other.rename(one)
    (tmp_path / "kept").rename(other)
    tracker, result = _run(_elsewhere(made, outputs=str(tmp_path / "swapped"), attacks="threshold_loss,lira_online"))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("memberscope: warning: ")]
    assert [line.split("(")[0] for line in lines[:2]] == [f"memberscope: warning: likely swapped: model {k} " for k in (2, 5)]
    assert lines[2] == "memberscope: warning: exchanging model_002 and model_005 would fix models 2 and 5"
    for text in (result.answer, tracker.description):
        assert [text.count(f"Warning: likely swapped: model {k} ") for k in (2, 5)] == [1, 1]
    assert tracker.logged_params["outputs.suspects"] == 2
    assert '"exchanges": [\n    [\n      2,\n      5\n    ]\n  ]' in tracker.artifacts["outputs_check.json"]


def _alter(number: int, **arrays: object) -> Callable[[int, dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """Model `number` gets other arrays: by functions of its probabilities, values, or None to leave one out."""

    def change(k: int, own: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if k != number:
            return own
        changed = own | {name: value(own["probs"]) if callable(value) else value for name, value in arrays.items()}
        return {name: value for name, value in changed.items() if value is not None}

    return change


def _nan(probs: np.ndarray) -> np.ndarray:
    probs = probs.copy()
    probs[7, 1] = np.nan
    return probs


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_alter(3, probs=lambda p: p[:-1]), "model_003.npz: probs: shape (239, 3); the plan expects (240, 3)"),
        (_alter(3, probs=lambda p: p[:, :2]), "model_003.npz: probs: shape (240, 2); the plan expects (240, 3)"),
        (_alter(1, population=lambda p: p[:5]), "model_001.npz: population: shape (5, 3); the plan expects (80, 3)"),
        (_alter(4, probs=_nan), "model_004.npz: probs: 1 NaN or infinite values, the first at [7, 1]"),
        (_alter(4, probs=lambda p: 2 * p), "model_004.npz: probs: all rows sum to 2"),
        (_alter(4, probs=None, population=None, logits=lambda p: p), "model_004.npz: logits: the rows are non-negative and sum to one"),
        (_alter(2, probs=None, population=None, logits=lambda p: np.log(p + 1e-3)), "model_000 holds probs and model_002 holds logits"),
        (_alter(2, logits=lambda p: np.log(p + 1e-3)), "model_002.npz: holds logits and probs; allowed: exactly one of"),
        (_alter(2, probs=None), "model_002.npz: holds no outputs; allowed: exactly one of logits, probs, loss_nats"),
        (_alter(2, probz=lambda p: p), "model_002.npz: unknown array probz; allowed: logits, probs, loss_nats"),
        (_alter(5, population=None), "1 of 6 models have no population: model_005; allowed: population for all models, or for none"),
        (_alter(5, plan_digest=np.array("abc")), "model_005.npz: outputs of another plan, abc; this one's digest is"),
        (_alter(5, copies=lambda p: p[:, None]), "model_005.npz: holds copies, and the plan was drawn with queries=1"),
        (_alter(5, probs=lambda p: p.astype("U8")), "model_005.npz: probs: dtype <U8; allowed: numbers"),
        (
            lambda k, own: {"loss_nats": np.log(own["probs"][:, 0] + 1e-9) - 1},
            "negative values, the smallest",
        ),
    ],
)  # fmt: skip
def test_outputs_that_do_not_fit_are_refused_in_one_line(
    made: Folders, tmp_path: Path, change: Callable[[int, dict[str, np.ndarray]], dict[str, np.ndarray]], words: str
) -> None:
    with pytest.raises(UserError) as error:
        _run(_elsewhere(_with_files(made, tmp_path / "outputs", change)))
    assert words in str(error.value)
    assert str(error.value).startswith("outputs=")
    assert "\n" not in str(error.value)


def test_missing_doubled_and_surplus_files_are_named(made: Folders, tmp_path: Path) -> None:
    shutil.copytree(made.outputs, tmp_path / "outputs")
    config = _elsewhere(made, outputs=str(tmp_path / "outputs"))
    shutil.copy(made.outputs / "model_000.npz", tmp_path / "outputs" / "model_006.npz")
    with pytest.raises(UserError, match=r"model_006.npz beyond the 6 models of the plan"):
        _run(config)
    for name in ("model_006.npz", "model_001.npz", "model_004.npz"):
        (tmp_path / "outputs" / name).unlink()
    with pytest.raises(UserError, match=r"2 of the 6 models of the plan have no file: model_001, model_004; allowed"):
        _run(config)
    for k in (1, 4):
        np.save(tmp_path / "outputs" / f"model_00{k}.npy", np.zeros(3))
    np.save(tmp_path / "outputs" / "model_000.npy", np.zeros(3))
    with pytest.raises(UserError, match=r"model_000 has both an .npz and an .npy; allowed: one file for each model"):
        _run(config)
    (tmp_path / "outputs" / "model_001.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "outputs" / "model_000.npy").unlink()
    with pytest.raises(UserError, match=r"model_001.npy: truncated or damaged"):
        _run(config)
    with pytest.raises(UserError, match=r"outputs=.*nowhere: no such folder"):
        _run(_elsewhere(made, outputs=str(tmp_path / "nowhere")))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--plan={plan}"], "plan={plan}: given without outputs; allowed: both, or neither"),
        (["--outputs={outputs}"], "outputs={outputs}: given without plan; allowed: both, or neither"),
        (["--plan={outputs}", "--outputs={outputs}"], "plan={outputs}: has no plan.json; allowed: a folder that memberscope plan wrote"),
        (["--plan={plan}", "--outputs={outputs}", "--shadows=8"], "shadows=8: the plan of {plan} was drawn with shadows=4"),
        (["--plan={plan}", "--outputs={outputs}", "--epochs=3"], "epochs=3: has no effect with plan={plan}, since nothing is trained"),
        (["--plan={plan}", "--outputs={outputs}", "--fidelity=yes"], "fidelity=yes: has no effect with plan={plan}"),
        (["--plan={plan}", "--outputs={outputs}", "--dataset={other}"], "dataset={other}: not the data set of plan={plan}: digest"),
        (["--plan={plan}", "--outputs={outputs}", "--dataset=cut.npz"], "dataset=cut.npz: cannot be read"),
        (["--plan={plan}", "--outputs={outputs}", "--attacks=gradient_norm", "--primary=gradient_norm"], "gradient_norm"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(made: Folders, tmp_path: Path, options: list[str], words: str) -> None:
    arrays = dict(np.load(made.data))
    arrays["x"] += 1
    np.savez(tmp_path / "other.npz", **arrays)
    places = {"plan": made.plan, "outputs": made.outputs, "other": tmp_path / "other.npz"}
    with pytest.raises(UserError) as error:
        _run(cli.parse("shadow", [option.format(**places) for option in options])[0])
    assert words.format(**places) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_mistake_on_the_command_line_is_one_line_and_exits_with_2(
    made: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert cli.main(["shadow", f"--outputs={made.outputs}"]) == 2
    assert capsys.readouterr().err == f"memberscope: outputs={made.outputs}: given without plan; allowed: both, or neither\n"
    assert not (tmp_path / "mlflow.db").exists(), "known before there is a run"


@pytest.mark.parametrize("changes", [{"private_artifacts": True}, {"show_records": True}])
def test_what_is_stored_of_single_records_is_free(made: Folders, changes: dict[str, bool]) -> None:
    tracker, _ = _run(_elsewhere(made, attacks="lira_offline", slices="entire", **changes))
    stored = artifacts.SCORES in tracker.children[-1].artifacts, "position" in tracker.artifacts.get(artifacts.EXPOSURE, {})
    assert stored == (("show_records" in changes,) * 2)


def test_the_run_is_named_after_the_plan(made: Folders) -> None:
    config, _ = cli.parse("shadow", [f"--plan={made.plan}/", f"--outputs={made.outputs}"])
    assert cli._run_name("shadow", config.to_dict()) == "shadow-plan"


def test_copies_of_images_are_queried_by_lira(tmp_path: Path) -> None:
    """With outputs for copies, LiRA has as many queries as the plan states; each file's first copy is the record itself."""
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "images.npz", x=rng.integers(0, 256, (240, 4, 4, 1)).astype(np.uint8), y=np.arange(240) % 2)
    config = PlanStudyConfig(
        dataset=str(tmp_path / "images.npz"), members=60, shadows=4, targets=1, queries=3, output=str(tmp_path / "plan")
    )
    planning.run(config, MemoryTracker(), StopFlag())
    folder = read_plan_folder(tmp_path / "plan")
    assert folder.shifts == ((0, 0), (0, 1), (0, -1))
    (tmp_path / "outputs").mkdir()
    for k in range(6):
        logits = (
            rng.normal(size=(120, 3, 2))
            + 2 * folder.plan.member[k][:, None, None] * np.eye(2)[folder.labels[folder.plan.records]][:, None]
        )
        np.savez(tmp_path / "outputs" / f"model_{k:03d}.npz", logits=logits[:, 0], copies=logits)
    tracker, _ = _run(ShadowStudyConfig(plan=str(tmp_path / "plan"), outputs=str(tmp_path / "outputs"), attacks="lira_online"))
    assert {"lira_online", "lira_online[one query]"} <= set(tracker.artifacts["targets.csv"]["attack"])
    frame = tracker.children[1].artifacts["attacks.csv"]
    assert frame[frame["metric"] == "auc"]["value"].iloc[0] > 0.7
