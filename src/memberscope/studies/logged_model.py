"""Logs a trained model in its run, if its trainer offers it and the run's store takes models of its framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from memberscope.datasets import LabeledData
from memberscope.tracking import Tracker
from memberscope.training.trainer import Trainer


def can_log(trainer: Trainer, tracker: Tracker) -> bool:
    """Whether a run can log the trainer's models."""
    return "save" in trainer.capabilities and trainer.framework in tracker.frameworks


def why_no_model(trainer: Trainer, tracker: Tracker) -> str:
    """A sentence for the run's description that says why it has no model; empty if it has one."""
    if can_log(trainer, tracker):
        return ""
    if "save" not in trainer.capabilities:
        return f"No model is logged: the trainer `{trainer.name}` offers none that can be saved."
    known = ", ".join(sorted(tracker.frameworks)) or "none"
    return (
        f"No model is logged: it is a model of `{trainer.framework}`, and a run takes models of these frameworks only: {known}."
    )


def log_model(native: Callable[[], Any], trainer: Trainer, data: LabeledData, tracker: Tracker) -> None:
    """Log a model if the run can take it.

    Args:
        native: returns the framework's own model.
        trainer: trained it.
        data: what it was trained on, for the shape of its inputs and outputs.
        tracker: the model's run.
    """
    if can_log(trainer, tracker):
        tracker.model(native(), framework=trainer.framework, input_shape=data.shape, classes=data.classes)
