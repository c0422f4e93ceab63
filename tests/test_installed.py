"""A library that is not installed is one line and exit code 2, before anything is computed or any run is made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from memberscope import installed
from memberscope.errors import UserError
from memberscope.predictions import Predictions

ROOT = Path(__file__).resolve().parent.parent
BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError("No module named " + name, name=name)
sys.meta_path.insert(0, Block())
"""
WITHOUT_TENSORFLOW = ("tensorflow", "tensorflow_privacy", "tensorflow_datasets", "keras")


def _run(code: str, folder: Path, *, blocked: tuple[str, ...] = WITHOUT_TENSORFLOW) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    return subprocess.run(
        [sys.executable, "-c", BLOCK.format(blocked=blocked) + code], capture_output=True, text=True, cwd=folder, env=environment,
        check=False,
    )  # fmt: skip


def test_studies_that_train_name_tensorflow_and_make_nothing(tmp_path: Path) -> None:
    studies = ("main", "train", "shadow", "sweep", "mitigate", "synthesize")
    done = _run(f"from memberscope import cli\nprint([cli.main([name]) for name in {studies}])", tmp_path)
    assert done.stdout.strip() == str([2] * len(studies)), done.stderr
    lines = done.stderr.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == list(studies)
    assert all("needs tensorflow, which is not installed here" in line and "pip install 'tensorflow" in line for line in lines)
    assert list(tmp_path.iterdir()) == [], "no store, no folder of sweeps"


TFP = """
from memberscope import cli
from memberscope.config import AttackStudyConfig, TrainStudyConfig
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.tracking import MemoryTracker
from memberscope.studies import {study}
tracker = MemoryTracker()
try:
    {study}.run({config}.from_mapping({values}), tracker, StopFlag())
except UserError as error:
    print(error)
print(tracker.artifacts)
"""


def test_the_engine_of_tensorflow_privacy_is_missed_before_the_audit(tmp_path: Path) -> None:
    y = np.tile([0, 1], 40)
    Predictions(predicted=y, labels=y, member=np.arange(80) < 40).save(tmp_path / "said.npz")
    values = {"predictions": "said.npz", "engine": "tfp"}
    done = _run(
        TFP.format(study="attack", config="AttackStudyConfig", values=values), tmp_path, blocked=("tensorflow_privacy",)
    )
    said, kept = done.stdout.splitlines()
    assert said.startswith(
        "engine=tfp: needs tensorflow_privacy, which is not installed here; allowed: engine=fast, or an environment"
    )
    assert "'tensorflow-privacy==" in said
    assert kept == "{}", "nothing was logged"


def test_training_for_that_engine_is_not_begun(tmp_path: Path) -> None:
    values = {"engine": "tfp", "epochs": 1}
    done = _run(TFP.format(study="train", config="TrainStudyConfig", values=values), tmp_path, blocked=("tensorflow_privacy",))
    said, kept = done.stdout.splitlines()
    assert said.startswith("engine=tfp: needs tensorflow_privacy")
    assert kept == "{}"


def test_data_sets_of_tfds_name_what_reads_them(tmp_path: Path) -> None:
    code = "from memberscope.datasets import load_dataset\nfrom memberscope.errors import UserError\n"
    for name in ("cifar10", "location30"):
        done = _run(code + f"try:\n    load_dataset('{name}')\nexcept UserError as error:\n    print(error)", tmp_path)
        assert done.stdout.startswith(
            f"dataset={name}: needs tensorflow_datasets, which is not installed here; allowed: digits"
        ), done.stderr


def test_what_an_import_comes_upon_is_told_and_what_is_ours_is_not_hidden() -> None:
    with (
        pytest.raises(UserError, match=r"sweep: needs no_such_library, .*pip install no-such-library"),
        installed.absence_told("sweep"),
    ):
        import no_such_library.inner  # type: ignore[import-not-found]  # noqa: F401
    for name in ("memberscope.none", "os.none", None):
        with pytest.raises(ModuleNotFoundError), installed.absence_told("sweep"):
            raise ModuleNotFoundError("broken", name=name)


def test_the_command_names_the_version_or_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["tensorflow==2.15.1", 'tensorflow_privacy==0.8.12; extra == "tfp"', "scipy"]
    monkeypatch.setattr(installed.metadata, "requires", lambda name: wanted)
    monkeypatch.setattr(installed, "is_installed", lambda module: False)
    for module, command in (
        ("tensorflow", "pip install 'tensorflow==2.15.1'"),
        ("tensorflow_privacy", "pip install 'memberscope[tfp]'"),
        ("psycopg", "pip install psycopg"),
    ):
        with pytest.raises(UserError) as caught:
            installed.require(module, by="x")
        assert str(caught.value).endswith(f"allowed: an environment that has it ({command})")
