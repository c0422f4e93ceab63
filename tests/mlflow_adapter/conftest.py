"""Real models in a real local store, made once: a fresh SQLite store costs seconds."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

COLUMNS = [f"f{number}" for number in range(8)]


@dataclass(frozen=True)
class Laboratory:
    """A store with members and non-members as files beside it."""

    folder: Path
    inside: pd.DataFrame
    outside: pd.DataFrame

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"

    def log(self, flavour: Any, model: Any, *, signature: Any = None, **options: Any) -> str:
        """Log a model to a run of its own; its address."""
        import mlflow

        for noisy in (
            "mlflow.models.model",
            "mlflow.utils.environment",
            "mlflow.sklearn",
            "mlflow.tensorflow",
            "mlflow.utils.requirements_utils",
        ):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with mlflow.start_run(experiment_id=mlflow.get_experiment_by_name("models").experiment_id) as run:
                flavour.log_model(model, name="model", signature=signature, pip_requirements=["x"], **options)
        return f"runs:/{run.info.run_id}/model"

    def forest(self, **options: Any) -> str:
        """A forest that knows its members by heart, with a signature of columns."""
        import mlflow.sklearn
        from mlflow.models import infer_signature
        from sklearn.ensemble import RandomForestClassifier

        model = RandomForestClassifier(20, random_state=0).fit(self.inside[COLUMNS], self.inside["label"])
        signature = infer_signature(self.inside[COLUMNS], self.inside["label"])
        return self.log(mlflow.sklearn, model, signature=signature, serialization_format="cloudpickle", **options)


def _table(n: int = 400, *, seed: int = 0) -> pd.DataFrame:
    """Records whose label is mostly noise: something to memorize."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(COLUMNS)))
    y = (x[:, 0] + 1.5 * rng.normal(size=n) > 0).astype(int)
    return pd.DataFrame(x, columns=COLUMNS).assign(label=np.array(["stay", "churn"])[y])


@pytest.fixture(scope="session")
def _laboratory(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    import mlflow

    folder = tmp_path_factory.mktemp("laboratory")
    made = Laboratory(folder=folder, inside=_table(), outside=_table(seed=1))
    made.inside.to_csv(folder / "members.csv", index=False)
    made.outside.to_parquet(folder / "nonmembers.parquet", index=False)
    mlflow.set_tracking_uri(made.uri)
    for name in ("models", "memberscope"):
        mlflow.create_experiment(name, artifact_location=(folder / name).as_uri())
    return made


@pytest.fixture
def laboratory(_laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch) -> Laboratory:
    """The store, named in MLflow's variable, and its folder as the working directory."""
    import mlflow

    monkeypatch.chdir(_laboratory.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", _laboratory.uri)
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    return _laboratory


@pytest.fixture
def columns() -> list[str]:
    """The names of the feature columns."""
    return COLUMNS


@pytest.fixture
def registered_evaluator() -> Iterator[None]:
    """As the entry point registers it, whether or not this checkout is installed."""
    from mlflow.models.evaluation.evaluator_registry import _model_evaluation_registry

    from memberscope.mlflow_adapter.evaluator import MembershipEvaluator

    before = dict(_model_evaluation_registry._registry)
    _model_evaluation_registry.register("memberscope", MembershipEvaluator)
    yield
    _model_evaluation_registry._registry.clear()
    _model_evaluation_registry._registry.update(before)
