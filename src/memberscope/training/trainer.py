"""The seam between studies and frameworks: what trains models, whatever it is made of, and what studies may ask of it. Numpy only.

A study knows a `Trainer`. It turns jobs, each an index set and a seed, into a `Fleet` of models that answer queries. What else a trainer
can do, it names in its `capabilities`; what it cannot do becomes a skipped row with that reason, or is refused before anything trains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from memberscope.datasets.labeled import LabeledData
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.plans.split import Index
from memberscope.training.store import Store

if TYPE_CHECKING:
    from memberscope.training.accounting import PrivacyPlan

Outputs = NDArray[np.float32]
CAPABILITIES = ("batched", "gradients", "epochs", "private", "adversarial", "distill", "save")
"""What a trainer may offer beside training and answering queries:

- ``batched``: many models train in one program;
- ``gradients``: `Fleet.gradient_norms`;
- ``epochs``: `Trainer.begin`, a model that can be looked at after each epoch;
- ``private``, ``adversarial``: `Training.fit_private` and `Training.fit_adversarial`;
- ``distill``: `Trainer.distill`;
- ``save``: `Fleet.native`, the framework's own model, which a run can keep.
"""


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """What a trainer may need to know of the data before it accepts them.

    Attributes:
        shape: of a record.
        classes: how many.
        members: records of the smallest training set; None if that is not known yet.
    """

    shape: tuple[int, ...]
    classes: int
    members: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingJob:
    """One model to train.

    Attributes:
        data: all records, labels final.
        indices: (n_member,) which of them to train on.
        seed: decides the initial weights, the order of the records, and whatever else is random.
        params: the trainer's parameters for this job.
    """

    data: LabeledData
    indices: Index
    seed: int
    params: Mapping[str, object] = field(default_factory=dict)

    @property
    def x(self) -> NDArray[Any]:
        """(n_member, ...) the members' records."""
        members: NDArray[Any] = self.data.x[self.indices]
        return members

    @property
    def y(self) -> NDArray[np.int64]:
        """(n_member,) the members' labels."""
        labels: NDArray[np.int64] = self.data.y[self.indices]
        return labels


def jobs_for(data: LabeledData, members: Sequence[Index], seeds: Sequence[int]) -> list[TrainingJob]:
    """A job for each index set and its seed."""
    return [TrainingJob(data=data, indices=index, seed=int(seed)) for index, seed in zip(members, seeds, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How jobs are executed.

    Attributes:
        store: where finished models are kept; None keeps nothing.
        workers: processes on this machine; None: as many as cores, or threads where the trainer's framework leaves Python's lock.
        scheduler: ``tcp://HOST:PORT`` of a Dask scheduler whose workers do it all; empty: this machine.
        label: for the progress bar and the store's record.
        stop: looked at between steps.
    """

    store: Store | None = None
    workers: int | None = None
    scheduler: str = ""
    label: str = "models"
    stop: StopFlag = field(default_factory=StopFlag)


@dataclass(frozen=True, kw_only=True)
class PrivateSettings:
    """DP-SGD, as `Training.fit_private` takes it; exactly one of `noise_multiplier` and `target_epsilon` is given.

    Attributes:
        clip_norm: that no record's gradient exceeds.
        noise_multiplier: standard deviation of the noise in units of `clip_norm`.
        target_epsilon: what to find the noise for.
        delta: n_member^-1.1 if None.
        epochs, batch_size, learning_rate: those of the trainer if None.
        clipping: ``auto``, ``fast`` or ``per_example``.
    """

    clip_norm: float
    noise_multiplier: float | None = None
    target_epsilon: float | None = None
    delta: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    clipping: str = "auto"


class Fleet(Protocol):
    """K trained models that answer queries."""

    @property
    def n_models(self) -> int:
        """K."""

    @property
    def reused(self) -> int:
        """How many of them came from the store."""

    @property
    def curves(self) -> Mapping[str, NDArray[np.float64]]:
        """``loss`` and ``accuracy`` of the members seen during each epoch, (K, epochs) each; empty where the trainer does not say."""

    def outputs(self, x: NDArray[Any], *, models: Sequence[int] | None = None) -> Outputs:
        """Logits, or probabilities where that is all there is, (k, m, classes), by the models named, or by all.

        `x` is (m, ...) records as the data set stores them, such as uint8 images; see `LabeledData.scale`.
        """

    def gradient_norms(
        self,
        model: int,
        x: NDArray[Any],
        y: NDArray[np.int64],
        *,
        between_batches: Callable[[int], None] = lambda records: None,
    ) -> NDArray[np.float64]:
        """Norms of each record's own gradient of the loss, by layer, (m, layers). Capability ``gradients``."""

    def native(self, model: int) -> Any:
        """The framework's own model. Capability ``save``."""


class Training(Protocol):
    """One model, about to be trained, that answers queries at any time. Capability ``epochs``."""

    @property
    def parameters(self) -> int:
        """How many trainable parameters it has."""

    @property
    def summary(self) -> str:
        """Its architecture as text."""

    @property
    def native(self) -> Any:
        """The framework's own model. Capability ``save``."""

    def outputs(self, index: Index) -> Outputs:
        """Logits (m, classes) of records of the job's data, with the weights as they stand."""

    def fit(self, *, after_epoch: Callable[[int], None], between_steps: Callable[[int], None]) -> None:
        """Train it.

        Args:
            after_epoch: called with 0 before training, then with each epoch's number once it is done.
            between_steps: called with the number of steps just done; what it raises ends the training there.
        """

    def fit_private(
        self, settings: PrivateSettings, *, after_epoch: Callable[[int], None], between_steps: Callable[[int], None]
    ) -> PrivacyPlan:
        """Train it with differential privacy for each member, and say what that promises. Capability ``private``."""

    def fit_adversarial(
        self, reference: Index, *, strength: float, epochs: int, warm_up_steps: int, after_epoch: Callable[[int], None],
        between_steps: Callable[[int], None],
    ) -> None:  # fmt: skip
        """Train it against an attack that learns alongside, from records that are no members. Capability ``adversarial``."""


class Trainer(Protocol):
    """What trains models."""

    @property
    def capabilities(self) -> frozenset[str]:
        """What it offers, of `CAPABILITIES`."""

    @property
    def params(self) -> Mapping[str, Any]:
        """Its parameters by name, such as ``epochs``."""

    @property
    def name(self) -> str:
        """What to call its models in tables and names of runs, such as ``mlp-d2``."""

    def with_params(self, **changes: Any) -> Self:
        """The same trainer with some parameters changed. UserError for one that it does not know."""

    def check(self, data: DataFacts) -> None:
        """UserError, before anything trains, for data that it cannot be trained on."""

    def signature(self) -> Mapping[str, object]:
        """Every fact that decides what a job gives, beside the job itself, as JSON holds it."""

    def describe(self) -> Mapping[str, int | float | str]:
        """What a run shows as params: dotted names, such as ``train.learning_rate``."""

    def prepare_process(self) -> None:
        """Called once by a program that is about to train a fleet, before anything else is loaded; may divide threads among models."""

    def train(self, jobs: Sequence[TrainingJob], run: Execution) -> Fleet:
        """Train a model for each job, or take from the store those that are finished.

        Raises:
            UserError: nothing to train; records that it cannot carry; a store that cannot be written, or that differs from what is asked
                where reuse is forced; a scheduler that cannot be reached; workers that die again and again.
            Interrupted: a stop was asked for.
        """

    def variants(self, data: DataFacts) -> Sequence[tuple[str, Trainer]]:
        """Trainers whose models differ from this one's in one respect, by a name that says which: how faithful must a shadow be?"""

    def begin(self, job: TrainingJob, *, start: tuple[Fleet, int] | None = None) -> Training:
        """One model to be trained under the caller's eyes, from fresh weights or from those of a fleet's. Capability ``epochs``."""

    def fleet_of(self, trainings: Sequence[Training]) -> Fleet:
        """Models that `begin` gave, once trained, as a fleet. Capability ``epochs``."""

    def distill(
        self, data: LabeledData, *, transfer: Index, teacher: Outputs, watched: Index, epochs: int, seed: int,
        between_epochs: Callable[[], None] = lambda: None,
    ) -> NDArray[np.float64]:  # fmt: skip
        """Losses (w, epochs) on `watched` records of a student trained on a teacher's outputs (t, classes) of the records `transfer`.

        Capability ``distill``.
        """


def require_capability(trainer: Trainer, *needed: str, by: str) -> None:
    """Raise UserError where `by`, an option or a study, needs what the trainer cannot do."""
    lacking = [name for name in needed if name not in trainer.capabilities]
    if lacking:
        able = ", ".join(name for name in CAPABILITIES if name in trainer.capabilities) or "nothing beside training"
        raise UserError(f"{by}: needs a trainer with {' and '.join(lacking)}; {trainer.name} offers {able}")
