"""Variants of shadows differ in what their name says and in nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from memberscope.config.outside import ShadowStudyConfig
from memberscope.datasets import LabeledData
from memberscope.plans.shadow import make_shadow_plan
from memberscope.studies.setup import trainer_for
from memberscope.studies.shadow import fidelity
from memberscope.studies.shadow.evidence import FleetOutputs
from memberscope.training.trainer import Trainer

CLASSES = 4


@dataclasses.dataclass(frozen=True)
class FakeFleet:
    """Stands for models that were trained: random logits of whatever is asked."""

    models: int
    form: str = "logits"

    def outputs(self, x: np.ndarray) -> np.ndarray:
        return np.random.default_rng(len(x)).normal(size=(self.models, len(x), CLASSES)).astype(np.float32)


def _trainer() -> Trainer:
    config = ShadowStudyConfig(width=64)
    return trainer_for(config, config)


def _outputs(*, design: str, population: int | str = "auto", n: int = 600, members: int = 60) -> FleetOutputs:
    rng = np.random.default_rng(0)
    x = np.arange(n, dtype=np.float32)[:, None] / n + np.zeros((1, 30), dtype=np.float32)  # a record tells its own number
    data = LabeledData(name="numbers", x=x, y=rng.integers(0, CLASSES, n), class_names=tuple("abcd"), source="a test")
    plan = make_shadow_plan(
        data.y, design=design, members=members, population=population, shadows=4, targets=2, coin_flips=False, seed=0
    )
    fleet: Any = FakeFleet(plan.n_models)
    return FleetOutputs(
        data=data, plan=plan, fleet=fleet, form="logits", outputs=fleet.outputs(x[plan.records]),
        population=fleet.outputs(x[plan.population]),
    )  # fmt: skip


@pytest.mark.parametrize("design", [pytest.param("half", marks=pytest.mark.thorough), "disjoint"])
def test_every_variant_has_shadows_as_large_as_the_target(design: str) -> None:
    outputs = _outputs(design=design)
    seen: dict[str, set[int]] = {}

    def train(data: LabeledData, members: Sequence[Any], trainer: Trainer, seeds: Sequence[int], name: str, asked: Any) -> Any:
        seen[name] = {len(index) for index in members}
        return FakeFleet(len(members))

    fidelity.measure(outputs, _trainer(), train, seed=0)
    assert {"noisy records", "shuffled features", "other records (120)"} <= set(seen)
    assert set().union(*seen.values()) == {60}


def test_no_variant_of_a_disjoint_plan_is_trained_on_the_targets_records() -> None:
    outputs = _outputs(design="disjoint")
    targets = outputs.data.x[outputs.plan.records[outputs.plan.audited], 0]
    for variant in fidelity.variants(outputs, _trainer(), seed=0):
        if variant.data is not None and variant.name != "noisy records":
            assert not np.isin(variant.data.x[:, 0], targets).any(), variant.name
    noisy = next(variant.data for variant in fidelity.variants(outputs, _trainer(), seed=0) if variant.name == "noisy records")
    assert noisy is not None
    assert np.array_equal(noisy.y, outputs.data.y[outputs.plan.records[~outputs.plan.block]])


def test_a_plan_without_a_population_is_measured_too() -> None:
    outputs = _outputs(design="half", n=240, members=120)
    assert not len(outputs.plan.population)
    frame = fidelity.measure(outputs, _trainer(), lambda data, members, *rest: FakeFleet(len(members)), seed=0)  # type: ignore[arg-type, return-value]
    attacks = set(frame[frame["variant"] == fidelity.BASE]["attack"])
    assert "lira_offline" in attacks
    assert "rmia_offline" not in attacks
