"""The units of work that a fleet's training is divided into, and the description by which they can be run in any process.

A trainer describes its training as a `Spec`, a small value that can be sent to other processes. Together with the records, which are sent
once, it becomes a `Work`, whose programs train one `Unit` after another. The result of a unit has the same bytes wherever it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import UserError
from memberscope.plans.split import Index

Inputs = NDArray[Any]
Labels = NDArray[np.int64]


class JobFailed(UserError):
    """The training of one job failed, for a reason specific to that job: others continue, and what they finish is kept."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Models that are trained together.

    Attributes:
        positions: positions of the models in the fleet.
        members: the index set of each model.
        seeds: the seed of each model.
        steps: total number of training steps, for progress.
    """

    positions: tuple[int, ...]
    members: tuple[Index, ...]
    seeds: tuple[int, ...]
    steps: int


class UnitProgram(Protocol):
    """Trains units of one size, one after another; not thread-safe."""

    def train(self, unit: Unit, between_steps: Callable[[int], None]) -> list[Any]:
        """The result of training for each model; `between_steps` is called with the number of steps just done, and may raise."""


class Work(Protocol):
    """A fleet's training with its records."""

    @property
    def x(self) -> Inputs:
        """(n, ...) all records."""

    @property
    def y(self) -> Labels:
        """(n,) labels of all records."""

    @property
    def spec(self) -> Spec:
        """The same training without the records."""

    def shared(self) -> Any:
        """The records in the form that all programs of one process share."""

    def program(self, models: int, shared: Any) -> UnitProgram:
        """A program that trains units of this number of models."""


class Spec(Hashable, Protocol):
    """A fleet's training without its records; it is sent with each unit."""

    def work(self, x: Inputs, y: Labels) -> Work:
        """The same training with the records."""

    def environment(self, workers: int) -> Mapping[str, str]:
        """Environment variables of each of `workers` worker processes on this machine, set before any library is loaded."""

    def begin_worker(self, place: int) -> None:
        """Prepare a worker process, for example limit its framework to one thread.

        Args:
            place: the worker's number among those that run at the same time on this machine, from 0; -1 on a cluster.
        """


def train_unit(work: Work, unit: Unit) -> list[Any] | JobFailed:
    """Train the models of one unit; a mistake of the user is returned, not raised, so that nobody tries again."""
    try:
        return work.program(len(unit.members), work.shared()).train(unit, lambda steps: None)
    except UserError as error:
        return error if isinstance(error, JobFailed) else JobFailed(str(error))
