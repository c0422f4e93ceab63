"""One target: the sizes of its sides and its label noise, resolved once from a configuration, and its plan for each seed.

`train`, `main` and every cell of a sweep take their numbers from here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope.config import DataConfig, RecordsConfig
from memberscope.config.training import SweepStudyConfig
from memberscope.datasets.labeled import LabeledData, Sizes
from memberscope.plans.canaries import CanaryRequest, TargetCanaries, flip_coins
from memberscope.plans.keyed import split_seed
from memberscope.plans.split import Index, Plan, make_plan, replace_labels, resolve_sizes


def noise_share(data: LabeledData, config: RecordsConfig) -> float:
    """The share of labels to replace: as configured, or by default that of the data set."""
    return data.noise_share(config.label_noise)


@dataclass(frozen=True, kw_only=True)
class TargetSettings:
    """The data on which one target is trained and audited; its split and label noise follow from a seed.

    Attributes:
        data: the records of the chosen classes, labels before noise.
        sizes: number of records on each side.
        noise: the share of labels to replace.
        canaries: the canaries to plant; None for none.
    """

    data: LabeledData
    sizes: Sizes
    noise: float
    canaries: CanaryRequest | None = None

    def prepare(self, seed: int) -> Prepared:
        """The split, the labels and the canaries for a seed; the split is the same with canaries and without.

        Raises:
            UserError: canaries that cannot be drawn, see `memberscope.plans.canaries.draw_canaries`.
        """
        plan = make_plan(self.data.y, self.sizes, seed=split_seed(self.data, seed), groups=self.data.groups)
        labels = replace_labels(self.data.y, plan.sides, share=self.noise, classes=self.data.classes, seed=seed)
        data, canaries = self.data.with_labels(labels), None
        if self.canaries is not None:
            drawn_from = self.canaries.seed(self.data, seed)
            planted = self.canaries.plant(data, list(plan.sides.values()), seed=drawn_from, noise=self.noise)
            canaries = TargetCanaries(planted=planted, member=flip_coins(self.canaries.count, seed=drawn_from))
        return Prepared(data=data, plan=plan, noise=self.noise, seed=seed, canaries=canaries)


@dataclass(frozen=True, kw_only=True)
class PlannedData:
    """A data set with its plan and the canaries that are planted in its training set.

    Attributes:
        data: the records, with labels after noise.
        plan: which records are members.
        canaries: the canaries that are planted; None for none. They are not part of `data` and `plan`, whose positions are also valid in
            `trained_data`.
    """

    data: LabeledData
    plan: Plan
    canaries: TargetCanaries | None = None

    @property
    def trained_data(self) -> LabeledData:
        """The records on which the model is trained and queried: `data`, with the canaries behind it."""
        return self.data if self.canaries is None else self.canaries.planted.data

    @property
    def trained_on(self) -> Index:
        """Positions in `trained_data` of the model's training set: the plan's members, then the planted canaries."""
        return self.plan.members if self.canaries is None else np.concatenate([self.plan.members, self.canaries.members])


@dataclass(frozen=True, kw_only=True)
class Prepared(PlannedData):
    """A data set with its plan for one seed, on which a model is trained and audited.

    Attributes:
        data, plan, canaries: see `PlannedData`.
        noise: the share of labels that were replaced.
        seed: the seed of plan and labels.
    """

    noise: float
    seed: int

    @property
    def queried(self) -> Index:
        """Ascending positions in `trained_data` of all records for which the model's outputs are needed."""
        parts = [self.plan.audited, self.plan.validation]
        index: Index = np.unique(np.concatenate([*parts, *([] if self.canaries is None else [self.canaries.planted.rows])]))
        return index


def target_of(
    data: LabeledData, config: DataConfig | SweepStudyConfig, *, canaries: CanaryRequest | None = None
) -> TargetSettings:
    """The data, sizes and canaries of a target; ``members=auto`` leaves records for the canaries. UserError if the sizes do not fit."""
    sizes = resolve_sizes(
        available=len(data), members=config.members, nonmembers=config.nonmembers, validation=config.validation, defaults=data.sizes,
        reserved=0 if canaries is None else canaries.reserved,
    )  # fmt: skip
    return TargetSettings(data=data, sizes=sizes, noise=noise_share(data, config), canaries=canaries)
