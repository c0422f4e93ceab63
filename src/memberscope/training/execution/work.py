"""What is executed: the pieces that a fleet's training falls into, and what a trainer must say so that they can run anywhere.

A trainer describes its training as a `Spec`, a small value that can be sent to other processes. With the records, which are sent once, it
becomes a `Work`, whose programs train one `Unit` after another. A unit gives the same bytes wherever it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from memberscope.plans.split import Index

Inputs = NDArray[Any]
Labels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Models trained in one piece.

    Attributes:
        positions: in the fleet.
        members: their index sets.
        seeds: one a model.
        steps: of training in all, for progress.
    """

    positions: tuple[int, ...]
    members: tuple[Index, ...]
    seeds: tuple[int, ...]
    steps: int


class Program(Protocol):
    """Trains units of one size, one after another; not safe for two threads at once."""

    def train(self, members: Sequence[Index], seeds_of: Sequence[int], between_steps: Callable[[int], None]) -> list[Any]:
        """What training leaves of each model; `between_steps` is called with the number of steps just done, and may raise."""


class Work(Protocol):
    """A fleet's training with its records at hand."""

    @property
    def x(self) -> Inputs:
        """(n, ...) all records."""

    @property
    def y(self) -> Labels:
        """(n,) their labels."""

    @property
    def spec(self) -> Spec:
        """It without the records."""

    def shared(self) -> Any:
        """The records as all programs of one process take them, made once."""

    def program(self, models: int, shared: Any) -> Program:
        """What trains units of so many models."""


class Spec(Hashable, Protocol):
    """A fleet's training without its records: what is sent with each unit."""

    def work(self, x: Inputs, y: Labels) -> Work:
        """It with the records."""

    def begin_worker(self) -> None:
        """What a process that was made for training does first, such as keeping its framework to one thread."""


def train_unit(work: Work, unit: Unit, between_steps: Callable[[int], None] = lambda steps: None) -> list[Any]:
    """Train the models of one unit."""
    return work.program(len(unit.members), work.shared()).train(unit.members, unit.seeds, between_steps)
