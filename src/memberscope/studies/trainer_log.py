"""Logs a user's own trainer in the run of every study that trains with it: its parameters and its source code."""

from __future__ import annotations

from memberscope.audit import artifacts
from memberscope.tracking import Tracker
from memberscope.training.trainer import Trainer, WithSources


def log_trainer(trainer: Trainer, tracker: Tracker) -> None:
    """Log the name and parameters of a user's own trainer as ``trainer.NAME``, and each local file of its source code.

    A class of an installed package has no files; a built-in trainer's options are logged elsewhere.
    """
    if isinstance(trainer, WithSources):
        own = {name: value for name, value in trainer.describe().items() if name.startswith("trainer.")}
        if own:
            tracker.params(own)
        for name, text in trainer.sources().items():
            tracker.text(text, artifacts.trainer_source(name))
