"""A run states what its trainer says of itself, and logs a model only where it can, whichever framework trained it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pytest

from memberscope.config import ModelConfig, TrainConfig
from memberscope.config.training import TrainStudyConfig
from memberscope.interrupt import StopFlag
from memberscope.studies import logged_model, model_audit, model_page, setup, train
from memberscope.tracking import MemoryTracker
from memberscope.training.trainer import DataFacts, TrainingJob


@dataclasses.dataclass(kw_only=True)
class Means:
    """A model whose logits are distances to the mean of each class, of the members that it has seen so far."""

    job: TrainingJob
    epochs: int
    parameters: int = 640
    summary: str = "means of classes"
    native: object = "a model of torch"
    seen: float = 0.0

    def outputs(self, index: np.ndarray) -> np.ndarray:
        data, members = self.job.data, self.job.indices[: int(self.seen * len(self.job.indices))]
        flat = data.x.reshape(len(data.x), -1).astype(np.float64)
        found = np.zeros((len(index), data.classes), np.float32)
        for label in range(data.classes):
            own = members[data.y[members] == label]
            if len(own):
                found[:, label] = -((flat[index] - flat[own].mean(axis=0)) ** 2).mean(axis=1) / flat.var()
        return found

    def fit(self, *, after_epoch: Callable[[int], None], between_steps: Callable[[int], None]) -> None:
        for epoch in range(self.epochs + 1):
            self.seen = epoch / self.epochs
            after_epoch(epoch)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeansTrainer:
    """A trainer that knows neither layers nor batches nor an optimizer."""

    temperature: float = 2.0
    capabilities: frozenset[str] = frozenset({"epochs", "save"})
    framework: str = "torch"
    name: str = "means"

    @property
    def params(self) -> Mapping[str, Any]:
        return {"epochs": 3, "temperature": self.temperature}

    def with_params(self, **changes: Any) -> Self:
        return dataclasses.replace(self, **changes)

    def check(self, data: DataFacts) -> None:
        return None

    def describe(self) -> Mapping[str, int | float | str]:
        return {"train.epochs": 3, "trainer.temperature": self.temperature}

    def begin(self, job: TrainingJob, *, start: object = None) -> Means:
        return Means(job=job, epochs=3)


def run(monkeypatch: pytest.MonkeyPatch, trainer: object) -> MemoryTracker:
    monkeypatch.setattr(setup, "trainer_for", lambda *configs: trainer)
    tracker = MemoryTracker()
    train.run(TrainStudyConfig(members=120, nonmembers=110, validation=50, attacks="threshold_loss"), tracker, StopFlag())
    return tracker


def test_a_trainer_of_another_framework_states_its_own_facts_and_logs_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = run(monkeypatch, MeansTrainer())
    assert tracker.logged_tags["memberscope.setting"] == "means-c10"
    params = tracker.logged_params
    assert (params["train.epochs"], params["trainer.temperature"], params["model.parameters"]) == (3, 2.0, 640)
    false = {
        "train.optimizer",
        "train.batch_size",
        "train.learning_rate",
        "model.architecture",
        "model.depth",
        "model.activation",
    }
    assert not false & set(params)
    finding, first = tracker.description.split("\n\n")[:2]
    assert finding.startswith("**threshold_")
    assert "(AUC " in finding
    assert first.startswith("`means` on **digits** (10 classes: ")
    assert first.endswith("), 3 epochs, temperature 2.0.")
    assert "Adam" not in tracker.description
    assert tracker.models == []
    assert (
        "No model is logged: it is a model of `torch`, and a run takes models of these frameworks only: keras."
        in tracker.description
    )
    assert sorted(tracker.logged_metrics["train/accuracy"]) == [0, 1, 2, 3]


def test_a_trainer_that_offers_no_model_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = run(monkeypatch, MeansTrainer(capabilities=frozenset({"epochs"})))
    assert tracker.models == []
    assert tracker.description.endswith("No model is logged: the trainer `means` offers none that can be saved.")


def test_a_framework_that_the_run_takes_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = MemoryTracker(frameworks=frozenset({"keras", "torch"}))
    monkeypatch.setattr(setup, "trainer_for", lambda *configs: MeansTrainer())
    train.run(TrainStudyConfig(members=120, nonmembers=110, validation=50, attacks="threshold_loss"), tracker, StopFlag())
    assert tracker.models == [((32, 32, 1), 10)]
    assert "No model is logged" not in tracker.description


SMALL: Sequence[tuple[ModelConfig, str, str]] = [
    (ModelConfig(), "conv-d3-c10", "`conv` of depth 3"),
    (ModelConfig(model="mlp", widths="32,16", activation="tanh"), "mlp-d3-c10-w32x16-tanh", "`mlp` of depth 3"),
]


@pytest.mark.parametrize(("model", "setting", "words"), SMALL)
def test_the_built_in_trainer_is_described_as_before(model: ModelConfig, setting: str, words: str) -> None:
    trainer = setup.trainer_for(model, TrainConfig(epochs=7, batch_size=16, learning_rate=0.01))
    assert model_audit.model_setting(trainer, 10) == setting
    assert model_page.model_words(trainer) == (words, ("7 epochs", "batch 16", "Adam 0.01"))
    assert trainer.describe()["train.optimizer"] == "adam"
    assert logged_model.why_no_model(trainer, MemoryTracker()) == ""
