"""The interface between studies and frameworks: what every trainer provides, and what studies may call. Needs only NumPy.

A study has a `Trainer`, which turns jobs, each an index set and a seed, into a `Fleet` of models that answer queries. A trainer lists what
else it can do in its `capabilities`. An attack that needs more becomes a skipped row with that reason; an option that needs more is
rejected before any training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from memberscope.datasets.labeled import LabeledData
from memberscope.datasets.table import Table
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.plans.split import Index
from memberscope.training.query import Query
from memberscope.training.store import Store

if TYPE_CHECKING:
    from memberscope.training.accounting import PrivacyPlan

Outputs = NDArray[Any]
Form = Literal["logits", "probs"]
CAPABILITIES = ("batched", "gradients", "epochs", "private", "adversarial", "distill", "save", "losses")
"""What a trainer may offer besides training and answering queries:

- ``batched``: many models are trained in one program;
- ``gradients``: `Fleet.gradient_norms`;
- ``epochs``: `Trainer.begin`, a model that can be queried after each epoch;
- ``private``, ``adversarial``: `Training.fit_private` and `Training.fit_adversarial`;
- ``distill``: `Trainer.distill`;
- ``save``: `Fleet.native`, the framework's own model, which can be logged in a run;
- ``losses``: `Fleet.losses_by_epoch`.
"""


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """Facts about the data that a trainer may check before it accepts them.

    Attributes:
        shape: shape of a record.
        classes: number of classes.
        members: number of records in the smallest training set; None if it is not known yet.
        table: the columns, if the records are rows of a table that was read as it is.
    """

    shape: tuple[int, ...]
    classes: int
    members: int | None = None
    table: Table | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingJob:
    """One model to train.

    Attributes:
        data: all records, with final labels.
        indices: (n_member,) positions of the records to train on.
        seed: determines the initial weights, the order of the records and everything else that is random.
        params: the trainer's parameters for this job.
        frames: whether `x` is a pandas frame, for the records of a table.
        on_report: called with what `report` was given.
    """

    data: LabeledData
    indices: Index
    seed: int
    params: Mapping[str, Any] = field(default_factory=dict)
    frames: bool = False
    on_report: Callable[[Mapping[str, float]], None] = field(default=lambda values: None, repr=False)

    @property
    def x(self) -> Any:
        """(n_member, ...) the members' records as the data set stores them, or a frame of a table's rows (see `frames`)."""
        members = self.data.x[self.indices]
        return self.data.table.frame(members) if self.frames and self.data.table is not None else members

    @property
    def y(self) -> NDArray[np.int64]:
        """(n_member,) the members' labels."""
        labels: NDArray[np.int64] = self.data.y[self.indices]
        return labels

    @property
    def classes(self) -> int:
        """The number of classes, of which some may be absent from `y`."""
        return self.data.classes

    def report(self, *, epoch: int | None = None, **values: float) -> None:
        """Report the state of the training: an epoch's number and mean values such as ``loss`` and ``accuracy``, for curves.

        Raises:
            Interrupted: the run is to stop.
        """
        found = {name: float(value) for name, value in values.items()}
        self.on_report(found if epoch is None else {"epoch": float(epoch), **found})


def jobs_for(data: LabeledData, members: Sequence[Index], seeds: Sequence[int]) -> list[TrainingJob]:
    """A job for each index set and its seed."""
    return [TrainingJob(data=data, indices=index, seed=int(seed)) for index, seed in zip(members, seeds, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How jobs are executed.

    Attributes:
        store: the store of finished models; None keeps nothing.
        workers: processes on this machine; None: one per core, or threads if the trainer's framework releases the GIL.
        scheduler: ``tcp://HOST:PORT`` of a Dask scheduler whose workers train all models, or ``env:NAME`` of the variable that holds it;
            empty: this machine.
        devices: accelerators, such as ``("0", "1")``, that worker processes on this machine get in turn; empty: all see what this process
            sees.
        queries: the queries that the study will make. A trainer that keeps its models may ignore them.
        label: name in the progress bar and in the store.
        stop: checked between steps.
    """

    store: Store | None = None
    workers: int | None = None
    scheduler: str = ""
    devices: tuple[str, ...] = ()
    queries: tuple[Query, ...] = ()
    label: str = "models"
    stop: StopFlag = field(default_factory=StopFlag)


@dataclass(frozen=True, kw_only=True)
class PrivateSettings:
    """Settings of DP-SGD for `Training.fit_private`; exactly one of `noise_multiplier` and `target_epsilon` is given.

    Attributes:
        clip_norm: norm to which each record's gradient is clipped.
        noise_multiplier: standard deviation of the noise in units of `clip_norm`.
        target_epsilon: epsilon for which to find the noise.
        delta: delta of the guarantee; None: n_member^-1.1.
        epochs, batch_size, learning_rate: None: those of the trainer.
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
        """The number of models that came from the store."""

    @property
    def form(self) -> Form:
        """Whether `outputs` are ``logits`` or ``probs``."""

    @property
    def capabilities(self) -> frozenset[str]:
        """Those of the trainer that all models of this fleet offer."""

    @property
    def curves(self) -> Mapping[str, NDArray[np.float64]]:
        """``loss`` and ``accuracy`` on the members during each epoch, (K, epochs) each; empty if the trainer does not record them."""

    def outputs(self, x: NDArray[Any], *, models: Sequence[int] | None = None) -> Outputs:
        """Logits or probabilities, see `form`, (k, m, classes) of the given models or of all, float32 or float64.

        `x` are (m, ...) records as the data set stores them, such as uint8 images; see `LabeledData.scale`.
        """

    def gradient_norms(
        self,
        model: int,
        x: NDArray[Any],
        y: NDArray[np.int64],
        *,
        between_batches: Callable[[int], None] = lambda records: None,
    ) -> NDArray[np.float64]:
        """Norms of each record's gradient of the loss, by layer, (m, layers). Capability ``gradients``."""

    def losses_by_epoch(self, model: int, x: NDArray[Any], y: NDArray[np.int64]) -> NDArray[np.float64]:
        """Losses in nats (m, epochs) of each record after each epoch of the model's training. Capability ``losses``."""

    def native(self, model: int) -> Any:
        """The framework's own model. Capability ``save``."""


class Training(Protocol):
    """One model in training, which answers queries at any time. Capability ``epochs``."""

    @property
    def parameters(self) -> int:
        """The number of trainable parameters."""

    @property
    def summary(self) -> str:
        """The architecture as text."""

    @property
    def native(self) -> Any:
        """The framework's own model. Capability ``save``."""

    def outputs(self, index: Index) -> Outputs:
        """Logits (m, classes) of records of the job's data with the present weights."""

    def fit(self, *, after_epoch: Callable[[int], None], between_steps: Callable[[int], None]) -> None:
        """Train the model.

        Args:
            after_epoch: called with 0 before training, then with each epoch's number once it is done.
            between_steps: called with the number of steps just done; an exception from it ends the training.
        """

    def check_private(self, settings: PrivateSettings) -> None:
        """Raise UserError for a model that cannot be trained with differential privacy. Capability ``private``."""

    def fit_private(
        self, settings: PrivateSettings, *, after_epoch: Callable[[int], None], between_steps: Callable[[int], None]
    ) -> PrivacyPlan:
        """Train the model with differential privacy for each member; returns the guarantee. Capability ``private``."""

    def fit_adversarial(
        self, reference: Index, *, strength: float, epochs: int, warm_up_steps: int, after_epoch: Callable[[int], None],
        between_steps: Callable[[int], None],
    ) -> None:  # fmt: skip
        """Train the model against an attack that is trained alongside, on non-members `reference`. Capability ``adversarial``."""


class Trainer(Protocol):
    """Trains models."""

    @property
    def capabilities(self) -> frozenset[str]:
        """Those of `CAPABILITIES` that it offers."""

    @property
    def params(self) -> Mapping[str, Any]:
        """Its parameters by name, such as ``epochs``."""

    @property
    def name(self) -> str:
        """Name of its models in tables and in the names of runs, such as ``mlp-d2``."""

    @property
    def framework(self) -> str:
        """The library of its own models, such as ``keras``, which decides whether a run can log them. Capability ``save``."""

    def with_params(self, **changes: Any) -> Self:
        """The same trainer with some parameters changed; UserError for an unknown parameter."""

    def check(self, data: DataFacts) -> None:
        """Raise UserError for data on which its models cannot be trained; called before any training."""

    def signature(self) -> Mapping[str, object]:
        """Every fact, apart from the job itself, that determines the result of a job, as plain JSON values."""

    def describe(self) -> Mapping[str, int | float | str]:
        """Parameters that a run logs, under dotted names such as ``train.learning_rate``."""

    def prepare_process(self) -> None:
        """Prepare a process for training a fleet, for example limit its threads; called once, before anything else is loaded."""

    def train(self, jobs: Sequence[TrainingJob], run: Execution) -> Fleet:
        """Train a model for each job; finished models are read from the store.

        Raises:
            UserError: there are no jobs; the records do not suit the models; the store cannot be written or, if reuse is forced, has
                other settings; the scheduler cannot be reached; workers die repeatedly.
            Interrupted: a stop was requested.
        """

    def variants(self, data: DataFacts) -> Sequence[tuple[str, Trainer]]:
        """Trainers whose models differ from this one's in one respect, each with a name that states the respect."""

    def begin(self, job: TrainingJob, *, start: tuple[Fleet, int] | None = None) -> Training:
        """A model that the caller can follow during training, from new weights or those of a fleet's model. Capability ``epochs``."""

    def fleet_of(self, trainings: Sequence[Training]) -> Fleet:
        """Trained models that `begin` returned, as a fleet. Capability ``epochs``."""

    def distill(
        self, data: LabeledData, *, transfer: Index, teacher: Outputs, watched: Index, epochs: int, seed: int,
        between_epochs: Callable[[], None] = lambda: None,
    ) -> NDArray[np.float64]:  # fmt: skip
        """Losses (w, epochs) on the records `watched` of a student trained on a teacher's outputs (t, classes) for the records `transfer`.

        Capability ``distill``.
        """


@runtime_checkable
class TrainsDefended(Protocol):
    """A trainer that can train whole fleets with DP-SGD or against an attack, several models at a time; others train them one by one."""

    def train_private(
        self, jobs: Sequence[TrainingJob], settings: PrivateSettings, run: Execution
    ) -> tuple[Fleet, PrivacyPlan]:
        """Train a model for each job as `Training.fit_private` does; returns them, and the guarantee of the first."""

    def train_adversarial(
        self, jobs: Sequence[TrainingJob], reference: Index, run: Execution, *, strength: float, epochs: int, warm_up_steps: int,
        start: Fleet | None = None,
    ) -> Fleet:  # fmt: skip
        """Train a model for each job as `Training.fit_adversarial` does, from new weights or from those of the fleet `start`."""


@runtime_checkable
class WithSources(Protocol):
    """A trainer whose code is a user's own."""

    def sources(self) -> Mapping[str, str]:
        """The text of each local file by its path."""


def require_capability(trainer: Trainer, *needed: str, by: str) -> None:
    """Raise UserError if the trainer lacks a capability that `by`, an option or a study, needs."""
    lacking = [name for name in needed if name not in trainer.capabilities]
    if lacking:
        offered = ", ".join(name for name in CAPABILITIES if name in trainer.capabilities) or "only training"
        raise UserError(f"{by}: needs a trainer with {' and '.join(lacking)}; {trainer.name} offers {offered}")
