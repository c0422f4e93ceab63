"""A search: points of a space, sampled by Optuna, with objectives on records that the final audit does not use."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from memberscope import seeds
from memberscope.errors import UserError, nearest
from memberscope.sweeps.answer import low_name
from memberscope.sweeps.cells import Cell, SettingValue
from memberscope.sweeps.space import Factor, with_values

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

Direction = Literal["minimize", "maximize"]
OBJECTIVES: dict[str, Direction] = {
    "accuracy": "maximize",
    "advantage_heldout": "minimize",
    "auc": "minimize",
    "tpr_at_low_fpr": "minimize",
    "canary_auc": "minimize",
}
OF_CANARIES = "canary_auc"
"""The objective that needs canaries: the AUC of their primary attack, on every other canary; the final audit is of the rest."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """The space of a search, and the objectives of its points.

    Attributes:
        factors: the factors that span the space.
        base: the cell whose values the factors change.
        objectives: names among `OBJECTIVES`. The accuracy is that on the validation records, which no audit uses; the others are metrics
            of the first attack on one half of the audited records. The final audit is on the other half.
        kind: ``random`` or ``tpe``.
        seeds, seed: the number of trainings per point, and the first seed.
    """

    factors: tuple[Factor, ...]
    base: Cell
    objectives: tuple[str, ...]
    kind: str
    seeds: int
    seed: int

    @property
    def directions(self) -> tuple[Direction, ...]:
        """``maximize`` or ``minimize`` for each objective."""
        return tuple(OBJECTIVES[name] for name in self.objectives)

    def sampler(self, *, worker: int, done: int) -> BaseSampler:
        """A sampler whose draws are keyed by the worker and by the number of trials done at its start: with equal draws, two workers, or a
        worker that is started again, would try the same points.
        """
        import optuna

        draw = seeds.integer(self.seed, "sampler", worker, done)
        return optuna.samplers.RandomSampler(seed=draw) if self.kind == "random" else optuna.samplers.TPESampler(seed=draw)

    def ask(self, trial: Any) -> dict[str, SettingValue]:
        """The point of an Optuna trial."""
        return {factor.name: factor.ask(trial) for factor in self.factors}

    def cell(self, values: Mapping[str, Any]) -> Cell:
        """The cell at a point."""
        return with_values(self.base, values)

    def values(self, figures: Mapping[str, float]) -> list[float]:
        """A point's objectives, from its metrics on the tuning records."""
        nonmembers = (self.base.part.audited_nonmembers + 1) // 2
        names = {"accuracy": "accuracy", "tpr_at_low_fpr": f"tuning_{low_name(nonmembers)}"}
        return [figures[names.get(name, f"tuning_{name}")] for name in self.objectives]

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values."""
        return {
            "factors": [dataclasses.asdict(factor) for factor in self.factors], "base": self.base.to_dict(),
            "objectives": list(self.objectives), "kind": self.kind, "seeds": self.seeds, "seed": self.seed,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the output of `to_dict`."""
        factors = tuple(Factor(**{**item, "values": tuple(item["values"])}) for item in values["factors"])
        return cls(
            factors=factors, base=Cell.from_dict(values["base"]), objectives=tuple(values["objectives"]), kind=values["kind"],
            seeds=values["seeds"], seed=values["seed"],
        )  # fmt: skip


def read_objectives(request: str) -> tuple[str, ...]:
    """The objectives that a request names.

    Raises:
        UserError: an unknown objective (the message suggests the nearest), none, or one that is named twice.
    """
    names = tuple(part.strip() for part in request.split(",") if part.strip())
    for name in names:
        if name not in OBJECTIVES:
            raise UserError(f"objectives={name}: unknown; allowed: some of {', '.join(OBJECTIVES)}{nearest(name, OBJECTIVES)}")
    if not names or len(set(names)) < len(names):
        raise UserError(f"objectives={request}: allowed: one or more of {', '.join(OBJECTIVES)}, each once")
    return names
