"""Mitigations of a user's own trainer: what it can make, and a file of rungs that change its parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from memberscope.config.mitigation import MitigateConfig
from memberscope.datasets import load_dataset
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.npz import read_npz
from memberscope.studies import setup
from memberscope.studies.mitigate import study as mitigate
from memberscope.studies.mitigate.mitigations import ASKED, TRAINING, UNDEFENDED, Mitigation, mitigations_of, possible
from memberscope.studies.mitigate.rungs import rungs_of
from memberscope.studies.result import StudyResult
from memberscope.tracking import MemoryTracker

from .conftest import Own, evidence_of, make_own

MADE = [UNDEFENDED, "digits", "temperature", "memguard", "label_only", "smooth", "dp"]
Done = tuple[MemoryTracker, StudyResult, Own, Path]


def _run(own: Own, folder: Path, **changes: object) -> tuple[MemoryTracker, StudyResult]:
    values = {
        "trainer": own.spec, "dataset": own.data, "members": 120, "shadows": 2, "seeds": 1, "perturbed": 4, "coin_flips": "no",
        "workers": 1, "split": "seed", "store": str(folder), **changes,
    }  # fmt: skip
    tracker = MemoryTracker()
    with StopFlag() as stop:
        result = mitigate.run(MitigateConfig.from_mapping(values), tracker, stop)
    return tracker, result


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("own")
    own = make_own(folder)
    (folder / "rungs.yaml").write_text("smooth: {k: 41}\ndp: {k: 11}\n")
    tracker, result = _run(own, folder / "models", rungs=str(folder / "rungs.yaml"))
    return tracker, result, own, folder


def _table(done: Done) -> pd.DataFrame:
    return done[0].artifacts["ladder.csv"].set_index("rung")


def test_every_release_is_there_beside_the_rungs_of_the_file(done: Done) -> None:
    assert [child.name for child in done[0].children] == MADE
    smooth = done[0].children[MADE.index("smooth")]
    assert (smooth.logged_params["mitigate.training"], smooth.logged_params["trainer.k"]) == ("params-smooth", 41)
    first, about = smooth.description.split("\n\n")
    assert first.startswith("**smooth: AUC of rmia_online not assessed (-0."), "the answer, and then what it is"
    assert about == "k=41. Assessed by `rmia_online`."
    assert (_table(done)["primary"].drop("label_only") == "rmia_online").all()


def test_the_evidence_has_each_mitigation_and_what_it_changed(done: Done) -> None:
    run = evidence_of(done[0], study="mitigate")
    assert [row["rung"] for row in run["tables"]["mitigations"]] == done[0].artifacts["ladder.csv"]["rung"].tolist()
    assert len(run["tables"]["attack_changes"]) == len(done[0].artifacts["attack_changes.csv"])
    assert [child["name"] for child in run["children"]] == MADE
    replicates = {row["replicate"] for child in run["children"] for row in child["results"]}
    assert replicates == set(range(1, len(set(done[0].children[0].artifacts["attacks.csv"]["seed"])) + 1))


def test_a_strong_rung_lowers_the_attack_beyond_both_intervals(done: Done) -> None:
    """A model of one neighbour remembers every label, one of 41 hardly any."""
    table = _table(done)
    assert 0.6 < table.loc[UNDEFENDED, "auc_ci_low"] < table.loc[UNDEFENDED, "auc"] < 1.0
    assert 0.35 < table.loc["smooth", "auc_ci_low"] < table.loc["smooth", "auc_ci_high"] < table.loc[UNDEFENDED, "auc_ci_low"]
    assert table.loc["smooth", "auc"] < table.loc["dp", "auc"] < table.loc[UNDEFENDED, "auc"], "by the number of neighbours"


def test_shadows_of_a_rung_are_trained_as_it_is(done: Done) -> None:
    by_k = {k: sorted(seed for number, seed in done[2].trained() if number == k) for k in (1, 11, 41)}
    assert len(set(by_k[1])) == 3, "the target and two shadows"
    assert by_k[1] == by_k[11] == by_k[41]


def test_a_temperature_on_probabilities_is_undone(done: Done) -> None:
    """Most confidences of a model of one neighbour are exactly 0 or 1."""
    assert abs(_table(done).loc["temperature", "auc_change"]) < 0.005
    assert _table(done).loc["temperature", "val/loss"] < _table(done).loc[UNDEFENDED, "val/loss"]


def test_what_the_trainer_cannot_make_is_named_with_the_reason(done: Done) -> None:
    lines = [line for line in done[1].answer.splitlines() if line.startswith("Not made: ")]
    assert any(line.startswith("Not made: top: the model has 2 classes") for line in lines)
    assert "Not made: l2: needs a trainer with the parameter l2; near has none." in lines
    assert (
        "Not made: adversarial, adversarial_tuned: needs a trainer with epochs and adversarial; near offers only training."
        in lines
    )
    assert not any("dp" in line.split(":")[1] for line in lines), "which the file makes"
    assert all(line in done[0].description for line in lines)


@pytest.mark.thorough  # `make test` has a rerun in test_mitigate.py
def test_a_rerun_trains_nothing_and_the_kept_files_hold_probabilities(done: Done) -> None:
    before = done[2].trained()
    _, again = _run(done[2], done[3] / "models", rungs=str(done[3] / "rungs.yaml"))
    assert (again.table, done[2].trained()) == (done[1].table, before)
    names = sorted(path.name.rpartition("-")[0] for path in (done[3] / "models" / "mitigate").glob("*.npz"))
    assert names == ["params-dp-s0", "params-smooth-s0", "undefended-s0"]
    (kept,) = (done[3] / "models" / "mitigate").glob("params-smooth-*.npz")
    arrays = read_npz(kept)
    assert "logits" not in arrays
    np.testing.assert_allclose(arrays["probs"].sum(axis=2), 1.0)
    other = (done[3] / "rungs.yaml").read_text().replace("41", "31")
    (done[3] / "other.yaml").write_text(other)
    _run(done[2], done[3] / "models", rungs=str(done[3] / "other.yaml"), mitigations="undefended")
    assert sorted({k for k, _ in done[2].trained()[len(before) :]}) == [31], "another value is another model"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; allowed: names with changed parameters"),
        ("- k\n", "holds list, not names; allowed: names"),
        ("a: [\n", "not YAML ("),
        ("a: 3\n", "a: 3 names no parameters; allowed"),
        ("a: {}\n", "a: changes nothing; allowed: at least one"),
        ("a: {k: 1}\n", "a: changes nothing, since the trainer already has these values; allowed: another value"),
        ("a: {depth: 2}\n", "a: depth: no parameter of near; allowed: k, soft"),
        ("a: {k: .inf}\n", "a: k=inf: not a finite number"),
        ("a/b: {k: 2}\n", "'a/b' is not a name for a mitigation; allowed: at most 60 letters"),
        ("3: {k: 2}\n", "3 is not a name for a mitigation"),
        ("undefended: {k: 2}\n", "undefended: the name of a built-in mitigation or group"),
        ("label_only: {k: 2}\n", "label_only: the name of a built-in mitigation or group"),
        ("all: {k: 2}\n", "all: the name of a built-in mitigation or group"),
    ],
)
def test_a_bad_file_is_one_line_before_anything_trains(own: Own, tmp_path: Path, text: str, message: str) -> None:
    pytest.importorskip("yaml")
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        _run(own, tmp_path / "models", rungs=str(tmp_path / "bad.yaml"))
    assert str(error.value).startswith(f"rungs={tmp_path / 'bad.yaml'}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert (own.trained(), (tmp_path / "models").exists()) == ([], False)


def test_what_is_named_itself_is_refused_if_the_trainer_cannot_make_it(own: Own, tmp_path: Path) -> None:
    for name, message in (
        ("l2", "^l2: needs a trainer with the parameter l2; near has none"), ("dp", "^dp: needs a trainer with epochs and private"),
        ("early_stopping", "^early_stopping: needs a trainer with epochs"), ("top", "top=3: the model has 2 classes"),
        ("smoth", "^mitigations=smoth: unknown"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            _run(own, tmp_path / "models", mitigations=f"digits,{name}")
    with pytest.raises(UserError, match=r"^rungs=.*gone.yaml: cannot be read \(No such file"):
        _run(own, tmp_path / "models", rungs=str(tmp_path / "gone.yaml"))
    assert own.trained() == []


def _chosen(tmp_path: Path, text: str, **changes: object) -> tuple[Mitigation, ...]:
    (tmp_path / "rungs.yaml").write_text(text)
    config = MitigateConfig.from_mapping({"rungs": str(tmp_path / "rungs.yaml"), **changes})
    trainer = setup.trainer_for(config, config)
    return mitigations_of(config, trainer, rungs_of(config, trainer, load_dataset("digits")))


def test_the_built_in_models_have_rungs_too(tmp_path: Path) -> None:
    found = _chosen(tmp_path, "narrow: {widths: [16, 8]}\ndropout: {dropout: 0.3}\n", mitigations="training")
    assert [one.name for one in found] == [UNDEFENDED, *(name for name in TRAINING if name != "dropout"), "narrow", "dropout"]
    narrow, dropout = found[-2:]
    assert narrow.rung is not None
    assert narrow.rung.trainer.params["widths"] == [16, 8]
    assert dropout.rung is not None, "one parameter is changed either way"
    assert (dropout.training, dropout.rung.trainer.params["dropout"]) == ("params-dropout", 0.3)
    assert [one.shadows for one in _chosen(tmp_path, "a: {width: 8}", mitigations="l2", shadow_rungs="undefended,a")] == [
        True, False, True,
    ]  # fmt: skip
    for text, message in (
        ("dp: {epochs: 2}", "dp: the name of a built-in mitigation"), ("a: {width: 0}", "a: width=0: out of range"),
        ("a: {l2: much}", "a: l2=much: not a number"), ("a: {noise: 1}", "a: noise: no parameter of the built-in models"),
        ("a: {width: 256}", "a: changes nothing"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            _chosen(tmp_path, text)


def test_records_without_noisy_copies_leave_labels_to_the_attack_that_needs_none(own: Own) -> None:
    """A table with words: the attack that asks for noisy copies cannot be run, which is no reason to end a study of all mitigations."""
    config = MitigateConfig(trainer=own.spec)
    trainer = setup.trainer_for(config, config)
    asked = ASKED - {"perturbed_labels"}
    kept, skipped = possible(mitigations_of(config, trainer), config, trainer, classes=4, asked=asked)
    assert "allowed: primary_labels=label_only_gap" in skipped["label_only"]
    assert [one.name for one in kept] == [UNDEFENDED, "digits", "top", "temperature", "memguard"]
    config = MitigateConfig(trainer=own.spec, primary_labels="label_only_gap")
    kept, _ = possible(mitigations_of(config, trainer), config, trainer, classes=4, asked=asked)
    assert "label_only" in [one.name for one in kept]


def test_epochs_of_a_users_own_trainer_can_be_fewer(own: Own) -> None:
    config = MitigateConfig(trainer="sklearn.linear_model:LogisticRegression", params="max_iter=40")
    trainer = setup.trainer_for(config, config)
    assert "fewer_epochs" in possible(mitigations_of(config, trainer), config, trainer, classes=4)[1], (
        "max_iter is not known to be epochs"
    )
    path = Path(own.spec.removesuffix(":train"))
    path.write_text(path.read_text().replace("soft=False", "epochs=8"))
    config = MitigateConfig(trainer=own.spec, params="epochs=8")
    trainer = setup.trainer_for(config, config)
    (fewer,) = [
        one for one in possible(mitigations_of(config, trainer), config, trainer, classes=4)[0] if one.name == "fewer_epochs"
    ]
    assert fewer.about == "2 epochs instead of 8"
