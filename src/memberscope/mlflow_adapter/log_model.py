"""Saves trained models as MLflow models: a function for each framework whose models a run can take."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class SaveModel(Protocol):
    """Saves a model in a folder, in MLflow's format."""

    def __call__(self, model: Any, folder: Path, *, input_shape: tuple[int, ...], classes: int) -> None:
        """`input_shape` is that of one record."""


def save_keras(model: Any, folder: Path, *, input_shape: tuple[int, ...], classes: int) -> None:
    """Save a Keras model. Signature and requirements are given: inferring them costs 8 s and would run the model. One HDF5 file is written
    in 0.05 s, TensorFlow's SavedModel, which traces every layer, in 0.4 s or more.
    """
    import mlflow
    import numpy as np
    import tensorflow as tf
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, *input_shape))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, classes))]),
    )
    for noisy in (
        "mlflow.tensorflow",
        "mlflow.models.model",
        "mlflow.tracking.fluent",
        "mlflow.utils.environment",
        "tensorflow",
        "absl",
    ):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.tensorflow.save_model(
            model, path=str(folder), signature=signature, pip_requirements=[f"tensorflow=={tf.__version__}"],
            keras_model_kwargs={"save_format": "h5"},
        )  # fmt: skip


FRAMEWORKS: Mapping[str, SaveModel] = {"keras": save_keras}
"""The functions by the framework's name, which `memberscope.training.trainer.Trainer.framework` gives."""
