"""The whole files that how-tos show are those that lie beside them, and each trains the models of a study on small data."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from memberscope.installed import is_installed

ROOT = Path(__file__).resolve().parents[2]
TRAINERS = ROOT / "docs" / "howto" / "trainers"
SMALL = {
    "torch_loop": ("images.npz", "epochs=8,width=8", ("torch",)),
    "resnet18": ("images.npz", "epochs=1,batch_size=128", ("torch",)),
    "skorch_net": ("table.csv", "epochs=30,width=32", ("torch", "skorch")),
    "boosted_trees": ("words.csv", "trees=20", ("xgboost",)),
    "pipeline": ("words.csv", "C=100", ()),
}


def test_every_file_is_shown_on_a_page_and_tried() -> None:
    pages = "\n".join(page.read_text() for page in TRAINERS.parent.glob("*.md"))
    blocks = [block.rstrip() for block in re.findall(r"```py\n(.*?)```", pages, flags=re.DOTALL)]
    files = sorted(TRAINERS.glob("*.py"))
    assert {path.stem for path in files} == set(SMALL)
    assert [path.name for path in files if path.read_text().rstrip() not in blocks] == []


def _write_data(folder: Path) -> None:
    rng = np.random.default_rng(0)
    n = 400
    y = rng.integers(0, 2, n)
    images = np.clip(rng.normal(100 + 20 * y[:, None, None, None], 60, (n, 8, 8, 1)), 0, 255).astype(np.uint8)
    np.savez(folder / "images.npz", x=images, y=y)
    numbers = rng.normal(y[:, None] * 0.5, 1, (n, 6))
    words = rng.choice(["red", "green", "blue"], n)
    for name, further in (("table.csv", ""), ("words.csv", ",colour")):
        lines = ["a,b,c,d,e,f" + further + ",label"]
        for row, word, label in zip(numbers, words, y, strict=True):
            lines.append(",".join([*map(str, row), *([word] if further else []), "yes" if label else "no"]))
        (folder / name).write_text("\n".join(lines) + "\n")


@pytest.mark.e2e
@pytest.mark.thorough
@pytest.mark.parametrize("name", SMALL)
def test_a_file_trains_the_models_of_a_study(name: str, tmp_path: Path) -> None:
    data, params, needed = SMALL[name]
    missing = [library for library in (*needed, "mlflow") if not is_installed(library)]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}: make test-trainers installs them in an environment of its own")
    _write_data(tmp_path)
    done = subprocess.run(
        [
            sys.executable, "-m", "memberscope.cli", "shadow", f"--trainer={TRAINERS / name}.py:train", f"--params={params}",
            f"--dataset={data}", "--shadows=4", "--targets=2", "--attacks=threshold_loss,lira_online", "--store=models",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"},
    )  # fmt: skip
    print(done.stdout[-3000:], done.stderr[-3000:])
    assert done.returncode == 0
    auc = re.search(r"lira_online (0\.\d+) \(", done.stdout)
    assert auc is not None
    assert 0.45 < float(auc[1]) < 1.0
    assert len(list((tmp_path / "models").glob("*.npz"))) == 6
