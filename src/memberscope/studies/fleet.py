"""Fleets as a configuration asks for them: the store, the workers or the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from memberscope.config import FleetConfig
from memberscope.datasets import LabeledData
from memberscope.interrupt import StopFlag
from memberscope.plans.split import Index
from memberscope.training.keras.recipe import Recipe
from memberscope.training.store import Store

if TYPE_CHECKING:
    from memberscope.training.keras.fleet import Fleet


def open_store(config: FleetConfig) -> Store | None:
    """The folder of finished models, or None where nothing is to be kept."""
    return None if config.store in ("", "none") else Store(Path(config.store), reuse=config.reuse)


def train(
    data: LabeledData, members: Sequence[Index], recipe: Recipe, model_seeds: Sequence[int], config: FleetConfig, stop: StopFlag,
    *, label: str = "models",
) -> Fleet:  # fmt: skip
    """Train a model for each index set, from the store as far as it has them."""
    from memberscope.training.keras.fleet import train_fleet

    workers = None if config.workers == "auto" else int(config.workers)
    return train_fleet(
        data, members, recipe, seeds=model_seeds, store=open_store(config), workers=workers, scheduler=config.scheduler, label=label,
        stop=stop,
    )  # fmt: skip
