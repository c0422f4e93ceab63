"""Logs the source code of a user's own trainer in the run of every study that trains with it."""

from __future__ import annotations

from memberscope.audit import artifacts
from memberscope.tracking import Tracker
from memberscope.training.trainer import Trainer, WithSources


def log_source(trainer: Trainer, tracker: Tracker) -> None:
    """Log each local file of the trainer's source code; a trainer of an installed package has none."""
    if isinstance(trainer, WithSources):
        for name, text in trainer.sources().items():
            tracker.text(text, artifacts.trainer_source(name))
