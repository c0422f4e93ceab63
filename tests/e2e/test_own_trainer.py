"""A user's own training function as an MLflow project is run: parameters with commas, an absolute path, its source in the run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.e2e


@pytest.fixture
def own(store: Path) -> Path:
    """The function on the page, as a file, and records for it."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/howto/own_trainer.md").read_text(), flags=re.DOTALL)
    (store / "my_model.py").write_text(code)
    rng = np.random.default_rng(0)
    np.savez(store / "table.npz", x=rng.normal(scale=3, size=(300, 20)), y=np.arange(300) % 3)
    return store


@pytest.mark.thorough
def test_shadow_through_mlflow_run(own: Path, project: Any) -> None:
    values = {
        "trainer": f"{own}/my_model.py:train", "params": "epochs=200,rate=0.3", "dataset": str(own / "table.npz"), "shadows": "2",
        "targets": "2", "members": "60", "attacks": "threshold_loss,gradient_norm", "slices": "entire", "check_seed": "yes",
        "store": str(own / "models"),
    }  # fmt: skip
    done = project.mlflow_run("shadow", values)
    assert done.returncode == 0, done.stderr[-3000:]
    (parent,), _ = project.runs()
    assert parent.info.run_name == "shadow-table.npz-my_model"
    params = parent.data.params
    assert params["params"] == "epochs=200,rate=0.3"
    assert (params["trainer.name"], params["trainer.epochs"], params["trainer.rate"]) == ("my_model", "200", "0.3")
    files = [item.path for item in project.client.list_artifacts(parent.info.run_id, "trainer")]
    assert files == ["trainer/my_model.py"]
    assert parent.data.tags["memberscope.seed_determines"] == "yes"
    assert parent.data.metrics["control/seed_difference"] < 1e-6
    assert 0.65 < parent.data.metrics["auc/threshold_loss"] <= 1.0, "with as many members as it can memorize"
    assert "needs gradients (models from my_model offer no gradient_norms)" in done.stdout


def test_parameters_that_are_no_plain_numbers_are_kept_as_text(own: Path, project: Any) -> None:
    (own / "any.py").write_text(
        "import numpy as np\n\n\ndef fit_one(job):\n    assert job.params['sizes'] == [4, 2]\n    assert job.params['limit'] is None\n"
        "    return lambda x: np.tile(np.bincount(job.y, minlength=job.classes) / len(job.y), (len(x), 1))\n"
    )
    (own / "p.yaml").write_text("sizes: [4, 2]\nlimit: null\nfast: yes\nepochs: 3\n")
    done = project.call(
        "train", f"--trainer={own}/any.py:fit_one", f"--params={own}/p.yaml", f"--dataset={own}/table.npz", "--members=60",
        "--nonmembers=60", "--validation=20", "--attacks=threshold",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (run,), _ = project.runs()
    assert run.info.run_name == "train-table.npz-fit_one-s0"
    kept = {name: run.data.params[f"trainer.{name}"] for name in ("sizes", "limit", "fast", "epochs")}
    assert kept == {"sizes": "[4, 2]", "limit": "null", "fast": "True", "epochs": "3"}
