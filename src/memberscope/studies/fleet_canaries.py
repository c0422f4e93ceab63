"""The canaries of a fleet: planted behind the data set, with a coin for each canary and model, as the fleet's plan has them for records."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memberscope.datasets import LabeledData
from memberscope.plans.canaries import Canaries, CanaryRequest, Planted, canary_membership, draw_canaries, plant
from memberscope.plans.shadow import ShadowPlan
from memberscope.plans.split import Index


@dataclass(frozen=True, kw_only=True, eq=False)
class FleetCanaries:
    """The canaries of a fleet.

    Attributes:
        planted: the data set with the m canaries behind its own records.
        member: (n_models, m) bool, the canaries that each model is trained on.
    """

    planted: Planted
    member: NDArray[np.bool_]

    @property
    def data(self) -> LabeledData:
        """The data set with the canaries."""
        return self.planted.data

    @property
    def labels(self) -> NDArray[np.int64]:
        """(m,) the labels with which the canaries are planted."""
        return self.planted.canaries.y

    def members(self, model: int) -> Index:
        """Positions in `data` of all copies of the canaries that a model is trained on."""
        return self.planted.members(self.member[model])

    @property
    def digest(self) -> str:
        """SHA-256 over the membership and the number of copies; the records are part of the data set's digest."""
        sha = hashlib.sha256(f"{self.planted.canaries.copies} {self.member.shape}".encode())
        sha.update(np.packbits(self.member).tobytes())
        return sha.hexdigest()


def draw_for(
    request: CanaryRequest, data: LabeledData, used: Index | Sequence[Index], *, seed: int, noise: float
) -> Canaries:  # fmt: skip
    """The canaries that a study of a `seed` plants.

    Args:
        request: what is to be planted.
        data: the data set, with labels before label noise.
        used: positions of the records that must not become canaries.
        seed: of the study.
        noise: the share of labels that is replaced.

    Raises:
        UserError: canaries that cannot be drawn, see `memberscope.plans.canaries.draw_canaries`.
    """
    return draw_canaries(
        data, used, kind=request.kind, count=request.count, seed=request.seed(data, seed), noise=noise, other=request.other,
        copies=request.copies,
    )  # fmt: skip


def plant_in_fleet(
    request: CanaryRequest, canaries: Canaries, data: LabeledData, plan: ShadowPlan, *, seed: int
) -> FleetCanaries:  # fmt: skip
    """Plant what `draw_for` drew behind the data set with its final labels, and flip the coins of every model of the plan."""
    member = canary_membership(
        len(canaries), design=plan.design, models=plan.n_models, seed=request.seed(data, seed), targets=plan.targets
    )
    return FleetCanaries(planted=plant(data, canaries), member=member)


def beside(data: LabeledData, outside: Index, canaries: Canaries) -> Index:
    """The records of `outside` that are no canaries, no copies of one, and of no canary's group."""
    taken = canaries.records
    if taken is None:
        return outside
    out = np.isin(outside, taken)
    for numbers in (data.same, data.groups):
        if numbers is not None:
            out |= np.isin(numbers[outside], numbers[taken])
    return outside[~out]
