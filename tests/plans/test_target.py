"""The sizes of a target and its label noise have one rule, which `train` and `sweep` share."""

from __future__ import annotations

import pytest

from memberscope.config.training import SweepStudyConfig, TrainStudyConfig
from memberscope.datasets import load_dataset
from memberscope.plans.target import target_of
from memberscope.sweeps.base import base_of


@pytest.mark.parametrize(
    "options", [{}, {"members": 300, "nonmembers": 120}, {"members": 200, "validation": 50, "label_noise": 0.1}]
)
def test_a_sweep_takes_the_numbers_of_a_single_training(options: dict[str, object]) -> None:
    data = load_dataset("digits")
    base = base_of(data, SweepStudyConfig(**options))  # type: ignore[arg-type]
    target = target_of(data, TrainStudyConfig(**options))  # type: ignore[arg-type]
    assert (base.sizes, base.noise) == (target.sizes, target.noise)
    assert base.noise == options.get("label_noise", 0.2)
    assert data.sizes is not None
    assert base.sizes.members == options.get("members", data.sizes.members)
    assert base.sizes.nonmembers == options.get("nonmembers", data.sizes.nonmembers)
    assert base.validation == options.get("validation", data.sizes.validation)
