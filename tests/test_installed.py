"""A library that is not installed is one line and exit code 2, before anything is computed or any run is made."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import sources

import memberscope
from memberscope import cli, installed, models, plots, run_audit
from memberscope.datasets import load_dataset
from memberscope.errors import MissingLibrary, UserError
from memberscope.predictions import Predictions
from memberscope.sweeps import space, storage
from memberscope.training import accounting
from memberscope.training.keras.fleet import train_fleet
from memberscope.training.recipe import Recipe

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
LOGGING = ("mlflow", "sqlalchemy", "matplotlib")
EXTRAS = (*WITHOUT_TENSORFLOW, *LOGGING, "pyarrow", "optuna", "yaml", "distributed", "psycopg", "dp_accounting")


def _run(code: str, folder: Path, *, blocked: tuple[str, ...] = WITHOUT_TENSORFLOW) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    return subprocess.run(
        [sys.executable, "-c", BLOCK.format(blocked=blocked) + code], capture_output=True, text=True, cwd=folder, env=environment,
        check=False,
    )  # fmt: skip


def _lines(studies: tuple[str, ...], folder: Path, *, blocked: tuple[str, ...], set_up: str = "") -> list[str]:
    code = f"{set_up}\nfrom memberscope import cli\nprint([cli.main(name.split()) for name in {studies}])"
    done = _run(code, folder, blocked=blocked)
    assert done.stdout.strip() == str([2] * len(studies)), done.stderr
    assert list(folder.iterdir()) == [], "no store, no folder of sweeps"
    return done.stderr.splitlines()


def test_on_the_core_alone_every_study_names_all_that_it_lacks_and_the_extras(tmp_path: Path) -> None:
    trains = "mlflow, sqlalchemy, matplotlib and tensorflow"
    wanted = {
        "attack": ("mlflow, sqlalchemy and matplotlib", "mlflow"),
        "audit": ("mlflow, sqlalchemy and matplotlib", "mlflow"),
        "report": ("mlflow, sqlalchemy and matplotlib", "mlflow"),
        **dict.fromkeys(("main", "train", "shadow", "synthesize"), (trains, "keras,mlflow")),
        "mitigate": (trains.replace(" and", ",") + " and dp_accounting", "keras,mlflow"),
        "sweep": (trains.replace(" and", ",") + ", dp_accounting and optuna", "keras,mlflow,sweep"),
    }
    assert set(wanted) == set(cli.STUDIES) - {"plan"}, "which needs no extra"
    for name, line in zip(wanted, _lines(tuple(wanted), tmp_path, blocked=EXTRAS), strict=True):
        needs, extras = wanted[name]
        assert line == (
            f"memberscope: {name}: needs {needs}, which are not installed here; allowed: an environment that has them "
            f"(pip install 'memberscope[{extras}]')"
        )


def test_studies_that_train_name_tensorflow_and_make_nothing(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="needs mlflow, of the extra [mlflow]")
    pytest.importorskip("optuna", reason="needs optuna, of the extra [sweep]")
    studies = ("main", "train", "shadow", "sweep", "synthesize")
    for name, line in zip(studies, _lines(studies, tmp_path, blocked=WITHOUT_TENSORFLOW), strict=True):
        own = "" if name == "main" else "a trainer of your own (such as trainer=my_model.py:train), or "
        assert line.startswith(
            f"memberscope: {name}: needs tensorflow, which is not installed here; allowed: {own}an environment"
        )
        assert line.endswith("(pip install 'memberscope[keras]')")


def test_a_run_that_mlflow_made_is_not_looked_for_without_it(tmp_path: Path) -> None:
    (line,) = _lines(("attack",), tmp_path, blocked=EXTRAS, set_up="import os; os.environ['MLFLOW_RUN_ID'] = 'a'")
    assert line.startswith("memberscope: attack: needs mlflow, ")


def test_a_scheduler_is_not_looked_for_without_what_speaks_to_it(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="needs tensorflow, of the extra [keras]")
    (line,) = _lines(("shadow --scheduler=tcp://host:1",), tmp_path, blocked=("distributed",))
    assert line == (
        "memberscope: scheduler=tcp://host:1: needs distributed, which is not installed here; allowed: nothing, for this machine, or an "
        "environment that has it (pip install 'memberscope[cluster]')"
    )


CALLS = {
    "plots.new_figure()": "plots: needs matplotlib, .*memberscope\\[plots]'",
    "models.build_model('dense', depth=1, input_shape=(4,), classes=2)": "build_model.*: needs tensorflow, .*memberscope\\[keras]'",
    "space.read_space('space.yaml')": "space=space.yaml: needs yaml, .*memberscope\\[sweep]'",
    "storage._check_driver('postgresql+psycopg://me:secret@host/x', 'postgresql+psycopg://me:secret@host/x')": (
        "storage=postgresql.psycopg://me:...@host/x: needs psycopg, .*sqlite:///FILE, or .*memberscope\\[cluster]'"
    ),
    "accounting.epsilon(1.0, sampling_probability=0.1, steps=1, delta=1e-5)": "needs dp_accounting, .*memberscope\\[keras]'",
    "run_audit(PREDICTIONS, attacks='threshold_loss').to_tfp()": "to_tfp: needs tensorflow and tensorflow_privacy, .*\\[tfp]'",
    "run_audit(PREDICTIONS, engine='tfp')": "engine=tfp: needs tensorflow and tensorflow_privacy, .*engine=fast, or .*\\[tfp]'",
    "train_fleet(load_dataset('digits'), [np.arange(9)], Recipe(), seeds=[0])": "training: needs tensorflow, .*\\[keras]'",
}


def test_from_python_the_line_is_the_same_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "is_installed", lambda module: module not in EXTRAS)
    accounting.epsilon_by_epoch.cache_clear()  # another test may have asked for the same
    y = np.tile([0, 1], 40)
    names = {
        "plots": plots, "models": models, "space": space, "storage": storage, "accounting": accounting, "run_audit": run_audit,
        "PREDICTIONS": Predictions(loss_nats=1.0 * y, labels=y, member=np.arange(80) < 40), "load_dataset": load_dataset,
        "train_fleet": train_fleet, "Recipe": Recipe, "np": np,
    }  # fmt: skip
    for call, line in CALLS.items():
        with pytest.raises(MissingLibrary, match=line):
            eval(call, names)


def test_the_core_needs_no_extra(tmp_path: Path) -> None:
    """The README's snippet, a gate and a file of predictions, where none of the extras' libraries can be imported."""
    code = """
import numpy as np
from memberscope import Predictions, run_audit
from memberscope.gate.rules import parse_rules
rng = np.random.default_rng(0)
logits, labels = rng.normal(size=(400, 3)), rng.integers(0, 3, 400)
given = Predictions(logits=logits, labels=labels, member=np.arange(400) % 2 == 0)
given.save("predictions.npz")
report = run_audit(Predictions.load("predictions.npz"), attacks="all", slices=("entire", "class"))
frame = report.to_frame()
forest = frame.query("metric == 'auc' and slice == 'entire' and attack == 'trained_rf'")
print(sorted(set(frame["status"])), forest.value.between(0.4, 0.6).all())
"""
    done = _run(code, tmp_path, blocked=EXTRAS)
    assert done.stdout.strip() == "['low_power', 'ok', 'skipped'] True", done.stderr


TFP = """
from memberscope import cli
from memberscope.config import AttackStudyConfig
from memberscope.config.training import TrainStudyConfig
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
    assert said.startswith("engine=tfp: needs tensorflow")
    assert "tensorflow_privacy, which" in said
    assert "not installed here; allowed: engine=fast, or an environment" in said
    assert said.endswith("(pip install 'memberscope[tfp]')")
    assert kept == "{}", "nothing was logged"


def test_training_for_that_engine_is_not_begun(tmp_path: Path) -> None:
    values = {"engine": "tfp", "epochs": 1}
    done = _run(TFP.format(study="train", config="TrainStudyConfig", values=values), tmp_path, blocked=("tensorflow_privacy",))
    said, kept = done.stdout.splitlines()
    assert re.match("engine=tfp: needs (tensorflow and )?tensorflow_privacy, which ", said)
    assert kept == "{}"


def test_data_sets_of_tfds_name_what_reads_them(tmp_path: Path) -> None:
    code = "from memberscope.datasets import load_dataset\nfrom memberscope.errors import UserError\n"
    for name in ("cifar10", "location30"):
        done = _run(code + f"try:\n    load_dataset('{name}')\nexcept UserError as error:\n    print(error)", tmp_path)
        assert done.stdout.startswith(
            f"dataset={name}: needs tensorflow_datasets and tensorflow, which are not installed here; allowed: digits"
        ), done.stderr


def test_what_an_import_comes_upon_is_told_and_what_is_ours_is_not_hidden() -> None:
    with (
        pytest.raises(UserError, match=r"sweep: needs no_such_library, .*pip install no-such-library"),
        installed.explain_missing_library("sweep"),
    ):
        import no_such_library.inner  # type: ignore[import-not-found]  # noqa: F401
    for name in ("memberscope.none", "os.none", None):
        with pytest.raises(ModuleNotFoundError), installed.explain_missing_library("sweep"):
            raise ModuleNotFoundError("broken", name=name)


def test_the_command_names_the_extras_or_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [
        "scipy<2,>=1.13", 'tensorflow==2.15.1; extra == "keras"', 'PyYAML>=6; extra == "sweep"', 'SQLAlchemy>=2; extra == "sweep"',
        'SQLAlchemy>=2; extra == "mlflow"', 'mlflow>=3; extra == "mlflow"', 'tensorflow-privacy==0.8.12; extra == "tfp"',
        'tensorflow==2.15.1; extra == "tfp"', 'memberscope[tfp]; extra == "all"',
    ]  # fmt: skip
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: wanted)
    monkeypatch.setattr(installed, "is_installed", lambda module: False)
    for modules, command in (
        (["tensorflow"], "has it (pip install 'memberscope[keras]')"),
        (["tensorflow", "tensorflow_privacy"], "has them (pip install 'memberscope[tfp]')"),
        (["sqlalchemy", "yaml", "mlflow"], "has them (pip install 'memberscope[mlflow,sweep]')"),
        (["sqlalchemy", "yaml"], "has them (pip install 'memberscope[sweep]')"),
        (["scipy"], "has it (pip install 'scipy<2,>=1.13')"),
        (["yaml", "fastparquet"], "has them (pip install 'memberscope[sweep]' fastparquet)"),
    ):
        with pytest.raises(MissingLibrary) as caught:
            installed.require(*modules, by="x")
        assert str(caught.value).endswith(f"allowed: an environment that {command}")
        assert caught.value.modules == tuple(modules)


def test_an_extra_that_this_python_cannot_have_names_the_one_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ['tensorflow-privacy==0.8.12; python_version < "3.12" and extra == "tfp"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines)
    monkeypatch.setattr(installed, "is_installed", lambda module: False)
    for version, python in (((3, 13), " of Python before 3.12"), ((3, 11), "")):
        monkeypatch.setattr(installed.sys, "version_info", version)
        with pytest.raises(MissingLibrary) as caught:
            installed.require("tensorflow_privacy", by="engine=tfp", instead="engine=fast")
        assert str(caught.value) == (
            f"engine=tfp: needs tensorflow_privacy, which is not installed here; allowed: engine=fast, or an environment{python} that has "
            "it (pip install 'memberscope[tfp]')"
        )
    lines[:] = [
        'tensorflow==2.15.1; python_version < "3.12" and extra == "keras"',
        'tensorflow>=2.20; python_version >= "3.12" and extra == "keras"',
    ]
    for version in ((3, 11), (3, 13)):
        monkeypatch.setattr(installed.sys, "version_info", version)
        with pytest.raises(MissingLibrary, match=r"an environment that has it \(pip install 'memberscope\[keras\]'\)$"):
            installed.require("tensorflow", by="train")


def test_the_version_is_in_one_place_and_every_import_is_declared() -> None:
    """Names of modules that the sources import, against what pyproject.toml declares for the core or an extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" in project["dynamic"]
    assert importlib.metadata.version("memberscope") == memberscope.__version__
    declared = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
    named = {installed._plain(re.split(r"[\[<>=!~; ]", line)[0]) for line in declared}
    imported = set()
    for module in sources.modules().values():
        for node in ast.walk(module):
            if isinstance(node, ast.Import):
                imported |= {name.name.split(".")[0] for name in node.names}
            if isinstance(node, ast.ImportFrom) and not node.level:
                imported.add((node.module or "").split(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - {"memberscope"}
    assert {installed._plain(installed._DISTRIBUTIONS.get(module, module)) for module in foreign} - named == set()
