"""The settings that every cell of a grid starts from, and the controls of each grid."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope.config.training import SweepStudyConfig
from memberscope.datasets.labeled import LabeledData, Sizes
from memberscope.plans.canaries import CanaryRequest
from memberscope.plans.target import target_of
from memberscope.sweeps.cells import Part
from memberscope.training.recipe import Recipe

# These sentences are part of a grid's content, by which a stored sweep is recognized: a change of wording makes a sweep another one.
CONTROLS = {
    "depth": {
        "fixed_width": "every layer has the same width, so deeper models have more parameters",
        "fixed_parameters": "widths are solved so that parameter counts agree within 2%",
        "equal_loss": "the models of fixed width, each measured at the epoch where it reaches the training loss that all reach",
    },
    "width": {"fixed_depth": "the depth is the same, so wider models have more parameters"},
    "architecture": {
        "matched_depth": "the depth is the same; parameter counts differ",
        "matched_parameters": "widths are solved so that parameter counts agree within 2% of the dense model's",
        "equal_accuracy": "the models of equal depth, each measured at the epoch where it reaches the training accuracy that all reach",
    },
    "classes": {
        "merged": "the same records; labels are merged into that many superclasses, so only the number of classes changes",
        "natural": "fewer classes have less data, as in the case study",
        "equal_total": "the same number of members whatever the classes",
        "equal_steps": "fewer classes have less data, and more epochs for the same number of optimizer steps",
        "equal_head": "fewer classes have less data, but the model keeps all logits",
        "equal_per_class": "each class has the same number of members",
    },
    "size": {"fixed_audit": "the same records are audited whatever the number of members, which are nested"},
    "epochs": {"one_training": "one training per seed, audited as it progresses"},
    "privacy": {
        "noise": "the noise of DP-SGD grows at a fixed clip and batch",
        "clip": "the clip of DP-SGD grows at a fixed noise multiplier",
        "batch": "the batch of DP-SGD grows at a fixed noise multiplier and clip",
    },
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Base:
    """The settings that every cell of a grid starts from; `reserved` records of its classes are left for canaries in each."""

    data: LabeledData
    recipe: Recipe
    sizes: Sizes
    noise: float
    choice: str
    look_every: int
    reserved: int = 0

    @property
    def validation(self) -> int:
        """The number of records on which training is monitored."""
        return self.sizes.validation or 0

    @property
    def whole(self) -> Part:
        """All classes, with the base's numbers of records."""
        return Part(
            classes=self.data.classes, choice=self.choice, members=self.sizes.members, nonmembers=self.sizes.nonmembers,
            validation=self.validation, audited_members=self.sizes.members, audited_nonmembers=self.sizes.nonmembers,
            label_noise=self.noise,
        )  # fmt: skip

    def shares(self, room: int) -> tuple[int, int, int]:
        """The numbers of members, non-members and validation records, in the base's proportions, out of `room` records."""
        every = self.sizes.members + self.sizes.nonmembers + self.validation
        room = min(room, every)
        return (
            self.sizes.members * room // every,
            self.sizes.nonmembers * room // every,
            self.validation * room // every,
        )


def base_of(data: LabeledData, config: SweepStudyConfig) -> Base:
    """The base that a configuration requests; UserError if its sizes do not fit the data."""
    canaries = CanaryRequest(kind=config.canary_kind, count=config.canaries, copies=config.copies) if config.canaries else None
    target = target_of(data, config, canaries=canaries)
    return Base(
        data=data, recipe=Recipe.of(config, config), sizes=target.sizes, noise=target.noise, choice=config.class_choice,
        look_every=config.audit_every, reserved=config.reserved,
    )  # fmt: skip
