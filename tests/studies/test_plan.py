"""The entry point `plan`: the same plan as `shadow` draws, positions that lead back to the user's file, no MLflow and no TensorFlow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from memberscope import cli
from memberscope.config.outside import PlanStudyConfig, ShadowStudyConfig
from memberscope.errors import UserError
from memberscope.plans.on_disk import read_plan_folder
from memberscope.studies import setup
from memberscope.studies.plan import draw_plan
from memberscope.studies.shadow import draw

SMALL = {"members": 40, "population": 60, "shadows": 4, "targets": 2}


def _file(folder: Path) -> Path:
    """300 records of any scale in four classes, every tenth an exact copy of the one before."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(3, 50, (300, 5)), rng.choice(["a", "b", "c", "d"], 300)
    x[9::10], y[9::10] = x[8::10], y[8::10]
    np.savez(folder / "data.npz", x=x, y=y)
    return folder / "data.npz"


def test_the_plan_is_that_of_shadow_with_the_same_options(tmp_path: Path) -> None:
    given = {**SMALL, "dataset": str(_file(tmp_path)), "seed": 5, "label_noise": 0.1, "design": "disjoint"}
    data, made = draw_plan(PlanStudyConfig(**given))
    config = ShadowStudyConfig(**given, trainer="sklearn.ensemble:RandomForestClassifier")
    theirs = setup.choose_classes(setup.load_data(config, each_once=True), config)
    plan = draw.plan_for(theirs, config)
    assert made.plan.digest == plan.digest
    noise, theirs = draw.with_noise(theirs, plan, config)
    assert (noise, theirs.digest) == (0.1, made.data_digest)
    assert np.array_equal(data.y, theirs.y)
    assert made.seeds.tolist() == draw.model_seeds(plan, 5)


def test_rows_lead_from_positions_to_the_file_though_copies_and_classes_are_left_out(tmp_path: Path) -> None:
    path = _file(tmp_path)
    data, made = draw_plan(PlanStudyConfig(**SMALL, dataset=str(path), classes="a,b,d", label_noise=0.0))
    arrays = np.load(path)
    assert len(made.rows) == len(data) < 270
    assert np.array_equal(arrays["x"][made.rows], data.x)
    assert arrays["y"][made.rows].tolist() == [made.class_names[label] for label in made.labels]


def test_labels_are_those_to_train_on(tmp_path: Path) -> None:
    path = _file(tmp_path)
    _, clean = draw_plan(PlanStudyConfig(**SMALL, dataset=str(path), label_noise=0.0))
    _, noisy = draw_plan(PlanStudyConfig(**SMALL, dataset=str(path), label_noise=0.25))
    changed = clean.labels != noisy.labels
    assert changed[clean.plan.records].mean() == pytest.approx(0.25)
    assert changed[clean.plan.population].mean() == pytest.approx(0.25)


def test_a_table_has_its_columns_beside_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [f"{rng.normal():.6f},{rng.choice(['red', 'blue'])},{rng.integers(2)}" for _ in range(200)]
    (tmp_path / "table.csv").write_text("\n".join(["size,colour,target", *rows]) + "\n")
    code = cli.main(
        ["plan", "--dataset", str(tmp_path / "table.csv"), "--label=target", "--shadows=2", "--targets=1", f"--output={tmp_path}/plan"]
    )  # fmt: skip
    assert code == 0
    columns = json.loads((tmp_path / "plan" / "columns.json").read_text())["columns"]
    assert [(one["name"], one["kind"], one["categories"]) for one in columns] == [
        ("size", "number", []), ("colour", "word", ["blue", "red"]),
    ]  # fmt: skip
    assert json.loads((tmp_path / "plan" / "plan.json").read_text())["options"]["label"] == "target"


def test_it_needs_neither_mlflow_nor_tensorflow(tmp_path: Path) -> None:
    blocked = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('mlflow', 'tensorflow', 'matplotlib', 'sqlalchemy', 'psutil'):\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "from memberscope import cli\n"
        f"sys.exit(cli.main(['plan', '--shadows=2', '--targets=1', '--members=30', '--output={tmp_path}/plan']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", blocked], capture_output=True, text=True, check=False, cwd=tmp_path, env={"PATH": "/bin"}
    )
    assert done.returncode == 0, done.stderr
    assert f"memberscope shadow --plan {tmp_path}/plan --outputs FOLDER" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan"], "no store of runs"
    assert read_plan_folder(tmp_path / "plan").plan.n_models == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shadows=3"], "shadows=3: odd"),
        (["--queries=3", "--dataset={path}"], "queries=3: records of shape (5,) are not images, "
         "and only images have shifted copies; allowed: 1"),
        (["--members=5000"], "members=5000: design=half needs 2 x members"),
        (["--dataset=nowhere.npz"], "dataset=nowhere.npz: cannot be read"),
        (["--output={path}"], "a file; allowed: a folder that is new or empty"),
        (["--trainer=keras"], "--trainer=keras: unknown option of plan"),
    ],
)  # fmt: skip
def test_mistakes_get_one_line_and_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    path = _file(tmp_path)
    assert cli.main(["plan", f"--output={tmp_path}/plan", *(option.format(path=path) for option in options)]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "plan").exists()


def test_copies_that_are_kept_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="duplicates=keep: data has exact copies"):
        draw_plan(PlanStudyConfig(**SMALL, dataset=str(_file(tmp_path)), duplicates="keep"))
