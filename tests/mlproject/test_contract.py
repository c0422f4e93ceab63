"""MLproject against the scripts' own options: same names, same defaults, each passed."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pytest
import yaml

from memberscope.cli import STUDIES, _run_name, parse

ROOT = Path(__file__).resolve().parents[2]
PROJECT = yaml.safe_load((ROOT / "MLproject").read_text())


def test_every_study_is_an_entry_point_with_a_script() -> None:
    assert set(PROJECT["entry_points"]) == set(STUDIES) == {path.stem for path in (ROOT / "entrypoints").glob("[a-z]*.py")}


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_parameters_are_the_options(name: str) -> None:
    declared = PROJECT["entry_points"][name]["parameters"]
    fields = {item.name: item for item in dataclasses.fields(STUDIES[name].configuration())}
    assert set(declared) == set(fields)
    for parameter, spec in declared.items():
        assert spec["type"] == "string", "MLflow checks no other type; optional paths must not become temporary folders"
        assert spec["default"] == str(fields[parameter].default)


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
    assert {"pip": ["-r requirements.lock", "-e ."]} in conda["dependencies"]
    assert "python=3.11" in conda["dependencies"]


def test_a_sweep_is_named_after_what_it_sweeps() -> None:
    def named(*words: str) -> str:
        return _run_name("sweep", parse("sweep", words)[0].to_dict())

    assert named() == "sweep-classes-digits"
    assert named("--grid=depth") == "sweep-depth-digits"
    assert named("--space=spaces/wide and deep.yaml", "--dataset=cifar10") == "sweep-wide and deep-cifar10"
    assert named("--space=mine.v2.yml", "--dataset=/data/x.npz") == "sweep-mine.v2-x.npz"
