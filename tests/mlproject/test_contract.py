"""MLproject against the scripts' own options: same names, same defaults, each passed."""

from __future__ import annotations

import dataclasses
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from mlflow.projects._project_spec import load_project

from memberscope import mlproject
from memberscope.cli import STUDIES, _run_name, parse, parser_for
from memberscope.config import option_name, written
from memberscope.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PROJECT = yaml.safe_load((ROOT / "MLproject").read_text())


def test_the_files_are_those_that_would_be_written() -> None:
    for path, text in mlproject.files().items():
        assert (ROOT / path).read_text() == text, f"{path} is out of date: make mlproject"


def test_writing_brings_a_checkout_up_to_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="is not a checkout of memberscope"):
        mlproject.write(tmp_path)
    shutil.copytree(ROOT / "entrypoints", tmp_path / "entrypoints", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "MLproject").write_text((ROOT / "MLproject").read_text())
    assert mlproject.write(tmp_path) == []
    (tmp_path / "MLproject").write_text("name: another\n")
    (tmp_path / "entrypoints" / "train.py").unlink()
    (tmp_path / "entrypoints" / "gone.py").write_text("# of a study that there is no longer\n")
    assert mlproject.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "written: MLproject",
        "written: entrypoints/train.py",
        "removed: entrypoints/gone.py",
    ]
    assert (tmp_path / "entrypoints" / "_checkout.py").exists(), "which no study writes"
    assert mlproject.write(tmp_path) == []


def test_an_old_name_works_as_mlflow_passes_it_on(capsys: pytest.CaptureFixture[str]) -> None:
    """With ``-P ladder=l2``, MLflow gives every declared parameter its default and appends ``--ladder l2``, as it does undeclared ones."""
    project = load_project(str(ROOT))
    for study, old, new in (("mitigate", "ladder", "mitigations"), ("shadow", "other_data", "transfer_dataset")):
        capsys.readouterr()
        command = project.get_entry_point(study).compute_command({old: "l2,dp"}, None)
        config, _ = parse(study, shlex.split(command)[2:])
        assert getattr(config, new) == "l2,dp"
        note = f"memberscope: note: {old} is now {new}; the old name works in this version\n"
        assert capsys.readouterr().err == note
        assert f"--{old}" not in parser_for(study).format_help()
        both = project.get_entry_point(study).compute_command({old: "l2,dp", new: "l2"}, None)
        with pytest.raises(UserError, match=f"^{old}=l2,dp: given together with {new}, its current name; allowed: only {new}$"):
            parse(study, shlex.split(both)[2:])
    with pytest.raises(UserError, match=r"^--laddr=l2: unknown option of mitigate; nearest: ") as refused:
        parse("mitigate", ["--laddr=l2"])
    assert "--ladder" not in str(refused.value), "an old name is not offered"


def test_every_study_is_an_entry_point_with_a_script() -> None:
    assert set(PROJECT["entry_points"]) == set(STUDIES) == {path.stem for path in (ROOT / "entrypoints").glob("[a-z]*.py")}


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_parameters_are_the_options(name: str) -> None:
    declared = PROJECT["entry_points"][name]["parameters"]
    fields = {option_name(item): item for item in dataclasses.fields(STUDIES[name].configuration())}
    assert set(declared) == set(fields)
    for parameter, spec in declared.items():
        assert spec["type"] == "string", "MLflow checks no other type; optional paths must not become temporary folders"
        assert spec["default"] == str(written(fields[parameter].default))


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_command_passes_every_parameter_through(name: str) -> None:
    entry = PROJECT["entry_points"][name]
    values = {parameter: spec["default"] for parameter, spec in entry["parameters"].items()}
    values |= {"seed": "11"}
    words = shlex.split(entry["command"].format(**{key: shlex.quote(value) for key, value in values.items()}))
    assert words[:2] == ["python", f"entrypoints/{name}.py"]
    config, verbose = parse(name, words[2:])
    assert (config.seed, verbose) == (11, False)
    assert {key: str(value) for key, value in config.to_dict().items()} == values


def test_environment_file_reads_the_lock() -> None:
    conda = yaml.safe_load((ROOT / PROJECT["conda_env"]).read_text())
    assert "python_env" not in PROJECT
    assert not (ROOT / "uv.lock").exists(), "mlflow would run uv sync instead of reading conda.yaml"
    assert {"pip": ["-r requirements-unhashed.lock", "-e ."]} in conda["dependencies"]
    assert "python=3.11" in conda["dependencies"]


def test_a_sweep_is_named_after_what_it_sweeps() -> None:
    def named(*words: str) -> str:
        return _run_name("sweep", parse("sweep", words)[0].to_dict())

    assert named() == "sweep-classes-digits"
    assert named("--grid=depth") == "sweep-depth-digits"
    assert named("--space=spaces/wide and deep.yaml", "--dataset=cifar10") == "sweep-wide and deep-cifar10"
    assert named("--space=mine.v2.yml", "--dataset=/data/x.npz") == "sweep-mine.v2-x.npz"


def test_an_audit_of_predictions_is_named_after_their_file() -> None:
    def named(*words: str) -> str:
        return _run_name("attack", parse("attack", words)[0].to_dict())

    assert named("--predictions=out/churn v3.npz") == "attack-churn-v3"
    assert named("--trace=loss.trace") == "attack-loss"
    assert named("--predictions=???.npz") == "attack-file"


def test_a_run_with_an_own_trainer_is_named_after_it() -> None:
    def named(study: str, *words: str) -> str:
        return _run_name(study, parse(study, words)[0].to_dict())

    assert named("train") == "train-digits-conv-d3-s0"
    assert named("train", "--trainer=code/my_model.py:train", "--seed=2") == "train-digits-my_model-s2"
    assert named("train", "--trainer=my_model.py:wide", "--dataset=a/b.csv") == "train-b.csv-wide-s0"
    assert named("shadow", "--trainer=sklearn.ensemble:RandomForestClassifier") == "shadow-digits-RandomForestClassifier"
    assert named("shadow", "--trainer=package.models:fit") == "shadow-digits-models"
    assert named("shadow", "--trainer=keras:my_models.py:train") == "shadow-digits-my_models"
