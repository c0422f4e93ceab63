"""Queries that a study declares before training, for trainers whose models do not outlive the process that trained them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope import queries
from memberscope.plans.split import Index

KINDS = ("plain", "augmented", "perturbed")
MEASURES = ("outputs", "gradient_norms", "losses_by_epoch")


@dataclass(frozen=True, kw_only=True, eq=False)
class Query:
    """Records with which a study will query the models of a fleet.

    Attributes:
        index: (m,) positions in the jobs' data.
        kind: ``plain``: the records; ``augmented`` or ``perturbed``: copies as `memberscope.queries` makes them.
        copies: number of arrays of copies.
        seed: draws perturbed copies.
        models: positions in the fleet of the models to query; None: all.
        measures: what each model is to answer: ``outputs``, and for plain records ``gradient_norms`` and ``losses_by_epoch``, which are
            left out for a model that does not offer them.
    """

    index: Index
    kind: str = "plain"
    copies: int = 1
    seed: int = 0
    models: tuple[int, ...] | None = None
    measures: tuple[str, ...] = ("outputs",)

    def __post_init__(self) -> None:
        """Check the words."""
        if self.kind not in KINDS or not set(self.measures) <= set(MEASURES):
            raise ValueError(f"kind={self.kind}, measures={self.measures}; allowed: {KINDS}, {MEASURES}")

    @property
    def key(self) -> tuple[object, ...]:
        """What distinguishes queries, as plain values."""
        return (content_digest(self.index), self.kind, self.copies, self.seed, self.models, self.measures)

    def __eq__(self, other: object) -> bool:
        """Whether the same models get the same queries."""
        return isinstance(other, Query) and self.key == other.key

    def __hash__(self) -> int:
        """By content, so that a worker recognizes what it was sent before."""
        return hash(self.key)

    def concerns(self, model: int) -> bool:
        """Whether a model of the fleet is to be queried."""
        return self.models is None or model in self.models

    def arrays(self, x: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """The arrays (m, ...) with which a model is queried, from all records (n, ...)."""
        own = x[self.index]
        if self.kind == "augmented":
            yield from queries.augmentations(own, self.copies)
        elif self.kind == "perturbed":
            yield from queries.perturbations(own, self.copies, seed=self.seed)
        else:
            yield own


def content_digest(x: NDArray[Any]) -> str:
    """A short digest of an array's type, shape and content, which names the outputs for it."""
    found = hashlib.blake2b(f"{x.dtype.str}{x.shape}".encode(), digest_size=16)
    found.update(np.ascontiguousarray(x).view(np.uint8).reshape(-1).data if x.size else b"")
    return found.hexdigest()
