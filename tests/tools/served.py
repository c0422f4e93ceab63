"""Models of the laboratory's records in MLflow, and the options of an audit of them."""

from __future__ import annotations

import warnings
from typing import Any

import mlflow
import numpy as np
import pandas as pd

FILES = ["--members=members.csv", "--nonmembers=nonmembers.parquet", "--attacks=threshold_loss", "--controls=none"]
WHOLE = ["--members=whole.csv", "--nonmembers=whole_out.csv", *FILES[2:], "--slices=entire"]


class Served(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow's own has no types
    """Answers with what it is made of: a table of the class and one probability per class, or one number per class."""

    def __init__(self, forest: Any, form: str) -> None:
        self.forest, self.form = forest, form

    def predict(self, context, model_input, params=None):  # no type hints: MLflow would make a signature of them
        probs = pd.DataFrame(self.forest.predict_proba(model_input), columns=[f"score_{name}" for name in self.forest.classes_])
        return {
            "table": probs.assign(best=probs.to_numpy().argmax(axis=1), rank=100 + np.arange(len(probs))),
            "percent": 100 * probs,
            "backwards": probs.iloc[:, ::-1],
            "sigmoids": probs * [1.0, 0.7],
            "softmax": probs,
        }[self.form]


def serve(laboratory: Any, columns: list[str], form: str, dtype: str = "float64") -> str:
    """A model of records times 100, rounded, whose signature's columns have that type."""
    from mlflow.models import infer_signature
    from sklearn.ensemble import RandomForestClassifier

    sides = {"whole.csv": laboratory.inside, "whole_out.csv": laboratory.outside}
    for path, side in sides.items():
        side.assign(**(100 * side[columns]).round().astype(int)).to_csv(path, index=False)
    x = pd.read_csv("whole.csv")[columns].astype(dtype)
    forest = RandomForestClassifier(20, random_state=0).fit(x, laboratory.inside["label"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own, of integers that may be missing
        signature = infer_signature(x)
    uri: str = laboratory.log(mlflow.pyfunc, None, signature=signature, python_model=Served(forest, form))
    return uri
