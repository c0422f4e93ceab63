"""One target: the sizes of its sides and its label noise, resolved once from a configuration, and its plan for each seed.

`train`, `main` and every cell of a sweep take their numbers from here.
"""

from __future__ import annotations

from dataclasses import dataclass

from memberscope.config import DataConfig, RecordsConfig, SweepStudyConfig
from memberscope.datasets.labeled import LabeledData, Sizes
from memberscope.plans.keyed import split_seed
from memberscope.plans.split import Plan, make_plan, replace_labels, resolve_sizes


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
    """

    data: LabeledData
    sizes: Sizes
    noise: float

    def prepare(self, seed: int) -> Prepared:
        """The split and the labels for a seed."""
        plan = make_plan(self.data.y, self.sizes, seed=split_seed(self.data, seed), groups=self.data.groups)
        labels = replace_labels(self.data.y, plan.sides, share=self.noise, classes=self.data.classes, seed=seed)
        return Prepared(data=self.data.with_labels(labels), plan=plan, noise=self.noise, seed=seed)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A data set with its plan for one seed, on which a model is trained and audited.

    Attributes:
        data: the records, with labels after noise.
        plan: which records are members.
        noise: the share of labels that were replaced.
        seed: the seed of plan and labels.
    """

    data: LabeledData
    plan: Plan
    noise: float
    seed: int


def target_of(data: LabeledData, config: DataConfig | SweepStudyConfig) -> TargetSettings:
    """The data and sizes of a target; UserError if the sizes do not fit."""
    sizes = resolve_sizes(
        available=len(data), members=config.members, nonmembers=config.nonmembers, validation=config.validation, defaults=data.sizes
    )  # fmt: skip
    return TargetSettings(data=data, sizes=sizes, noise=noise_share(data, config))
