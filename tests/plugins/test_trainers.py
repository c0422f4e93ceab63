"""A trainer of someone else's, in a study that knows nothing of it: models that remember everything, and models that remember nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memberscope.config.outside import ShadowStudyConfig
from memberscope.config.training import SweepStudyConfig
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.studies.shadow import study as shadow
from memberscope.tracking import MemoryTracker
from memberscope.training import registry
from memberscope.training.recipe import Recipe
from memberscope.training.trainer import DataFacts, Execution, Trainer, TrainingJob


@dataclasses.dataclass(frozen=True, kw_only=True)
class Models:
    """Answers by the nearest training record of each class, or by nothing at all."""

    jobs: tuple[TrainingJob, ...]
    remembers: bool
    form: str = "logits"
    capabilities: frozenset[str] = frozenset()
    reused: int = 0
    curves: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def n_models(self) -> int:
        return len(self.jobs)

    def outputs(self, x: np.ndarray, *, models: Sequence[int] | None = None) -> np.ndarray:
        return np.stack([self._of(self.jobs[k], x) for k in (range(self.n_models) if models is None else models)])

    def _of(self, job: TrainingJob, x: np.ndarray) -> np.ndarray:
        flat = x.reshape(len(x), -1) / job.data.scale  # asked about as they are stored
        found = np.zeros((len(x), job.data.classes), dtype=np.float32)
        for c in range(job.data.classes) if self.remembers else ():
            own = job.data.scaled(job.indices[job.y == c]).reshape(-1, flat.shape[1]).astype(np.float64)
            if len(own):
                squared = (flat**2).sum(1)[:, None] + (own**2).sum(1) - 2 * flat @ own.T
                found[:, c] = -np.maximum(squared.min(axis=1), 0.0)
        return found

    def gradient_norms(self, model: int, x: Any, y: Any, *, between_batches: Any = None) -> Any:
        raise NotImplementedError

    def native(self, model: int) -> Any:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Neighbours:
    """See `memberscope.training.trainer.Trainer`; it can do nothing but train and answer."""

    recipe: Recipe
    remembers: bool = True
    capabilities: frozenset[str] = frozenset()
    name: str = "neighbours"

    @property
    def params(self) -> Mapping[str, Any]:
        return {"batch_size": 1}

    def with_params(self, **changes: Any) -> Neighbours:
        raise UserError(f"{next(iter(changes))}: no parameter of neighbours; allowed: none")

    def check(self, data: DataFacts) -> None:
        if self.recipe.model == "conv":
            raise UserError("model=conv: neighbours have no convolutions; allowed: dense, mlp")

    def signature(self) -> Mapping[str, object]:
        return {"trainer": "neighbours", "remembers": self.remembers}

    def describe(self) -> Mapping[str, int | float | str]:
        return {"model.architecture": "neighbours"}

    def prepare_process(self) -> None:
        return None

    def train(self, jobs: Sequence[TrainingJob], run: Execution) -> Any:
        return Models(jobs=tuple(jobs), remembers=self.remembers)

    def variants(self, data: DataFacts) -> Sequence[tuple[str, Trainer]]:
        return ()


@pytest.fixture
def plugged() -> Iterator[Callable[..., None]]:
    names: list[str] = []

    def add(name: str, **changes: Any) -> None:
        registry.register(name, lambda recipe: Neighbours(recipe=recipe, **changes), package="neighbour-package")
        names.append(name)

    yield add
    for name in names:
        registry.unregister(name)


def study(folder: Path, **options: Any) -> MemoryTracker:
    tracker = MemoryTracker()
    options = {
        "store": str(folder / "models"),
        "shadows": 2,
        "targets": 2,
        "members": 200,
        "attacks": "threshold_loss,gradient_norm",
        **options,
    }
    shadow.run(ShadowStudyConfig(**options), tracker, StopFlag())
    return tracker


@pytest.mark.parametrize(("remembers", "low", "high"), [(True, 0.82, 0.93), (False, 0.5, 0.5)])
def test_its_models_are_audited_for_what_they_remember(
    remembers: bool, low: float, high: float, plugged: Callable[..., None], tmp_path: Path
) -> None:
    plugged("neighbours", remembers=remembers)
    tracker = study(tmp_path, trainer="neighbours")
    (child,) = [one for one in tracker.children if "attacks.csv" in one.artifacts]
    frame = child.artifacts["attacks.csv"].set_index(["attack", "slice", "metric"])
    assert low <= frame.loc[("threshold_loss", "entire", "auc"), "value"] <= high
    skipped = child.artifacts["attacks.csv"].query("attack == 'gradient_norm'").iloc[0]
    assert (skipped["status"], skipped["reason"]) == (
        "skipped", "needs gradients (models from neighbours offer no gradient_norms)",
    )  # fmt: skip
    assert not (tmp_path / "models").exists(), "nothing of the built-in trainer ran"
    assert tracker.logged_tags["memberscope.setting"] == "neighbours", (
        "its own name, without an architecture that it does not have"
    )
    assert not {"train.optimizer", "model.depth"} & set(tracker.logged_params)
    assert child.description.endswith("No model is logged: the trainer `neighbours` offers none that can be saved.")


def test_what_it_refuses_is_refused_before_it_trains(plugged: Callable[..., None], tmp_path: Path) -> None:
    plugged("neighbours")
    with pytest.raises(UserError, match=r"^model=conv: neighbours have no convolutions"):
        study(tmp_path, trainer="neighbours", model="conv", depth=1)


def test_a_primary_attack_that_it_cannot_serve_is_refused_before_it_trains(
    plugged: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugged("neighbours")
    monkeypatch.setattr(Neighbours, "train", pytest.fail)
    with pytest.raises(UserError, match=r"^primary=gradient_norm: needs gradients, .* allowed: auto, threshold_loss"):
        study(tmp_path, trainer="neighbours", primary="gradient_norm")


def test_an_unknown_one_gets_the_nearest(plugged: Callable[..., None], tmp_path: Path) -> None:
    plugged("neighbours")
    with pytest.raises(
        UserError, match=r"^trainer=neighbors: unknown; nearest: neighbours; allowed: keras, neighbours, or a function"
    ):
        study(tmp_path, trainer="neighbors")
    with pytest.raises(UserError, match=r"^trainer 'keras' of mine: the name is taken by memberscope itself"):
        registry.register("keras", lambda recipe: Neighbours(recipe=recipe), package="mine")


def test_a_sweep_trains_the_built_in_models() -> None:
    with pytest.raises(UserError, match=r"^trainer=neighbours: unknown; allowed: keras"):
        SweepStudyConfig(trainer="neighbours")
