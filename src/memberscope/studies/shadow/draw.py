"""Draws a shadow study's plan, labels and seeds from a configuration: the same whether its models are trained here or elsewhere."""

from __future__ import annotations

import numpy as np

from memberscope import seeds
from memberscope.config.outside import PlanStudyConfig, ShadowStudyConfig
from memberscope.datasets import LabeledData
from memberscope.plans.keyed import split_seed
from memberscope.plans.shadow import ShadowPlan, make_shadow_plan
from memberscope.plans.target import noise_share
from memberscope.studies import setup


def plan_for(data: LabeledData, config: ShadowStudyConfig | PlanStudyConfig) -> ShadowPlan:
    """The plan that a configuration requests; ``members=auto`` takes the data set's usual number, but leaves a population, and both leave
    the records that become canaries.
    """
    blocks = 2 if config.design == "half" else 4
    members, population = setup.members_of(data, config, parts=blocks + 1), config.population
    if population == "auto" and config.reserved:
        population = max(0, min(members, len(data) - blocks * members - config.reserved))
    return make_shadow_plan(
        data.y, design=config.design, members=members, population=population, shadows=config.shadows, targets=config.targets,
        coin_flips=config.coin_flips, seed=split_seed(data, config.seed), groups=data.groups,
    )  # fmt: skip


def with_noise(data: LabeledData, plan: ShadowPlan, config: ShadowStudyConfig | PlanStudyConfig) -> tuple[float, LabeledData]:
    """The share of labels that are replaced, and the data with these labels."""
    rest = np.setdiff1d(np.arange(len(data)), np.concatenate([plan.records, plan.population]))
    sides = {"records": plan.records, "population": plan.population, "rest": rest}  # `fidelity` trains shadows on the rest
    return noise_share(data, config), setup.with_noise(data, config, sides, seed=config.seed)


def model_seeds(plan: ShadowPlan, seed: int) -> list[int]:
    """The seed of each model's weights and order."""
    return [seeds.integer(seed, "model", model) for model in range(plan.n_models)]
