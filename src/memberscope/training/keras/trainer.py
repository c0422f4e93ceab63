"""The built-in trainer: models of the built-in architectures by a recipe, or those of a user's builder.

TensorFlow is imported when the first model is built.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from memberscope.datasets.labeled import LabeledData
from memberscope.errors import UserError
from memberscope.models import summary_text
from memberscope.plans.split import Index
from memberscope.training.keras.fleet import KerasFleet, train_fleet
from memberscope.training.keras.versions import versions
from memberscope.training.recipe import LoopRecipe
from memberscope.training.trainer import DataFacts, Execution, Fleet, Outputs, PrivateSettings, Trainer, Training, TrainingJob

if TYPE_CHECKING:
    from tensorflow import keras

    from memberscope.training.accounting import PrivacyPlan
    from memberscope.training.keras.clipping import Clipping


@dataclass(frozen=True, kw_only=True)
class KerasTrainer:
    """See `memberscope.training.trainer.Trainer`.

    Attributes:
        recipe: the recipe of all models.
    """

    recipe: LoopRecipe
    # The records of the latest data set as a tensor that models trained one by one share, and the array that it was made from.
    _tensors: list[tuple[NDArray[Any], Any]] = field(default_factory=list, repr=False, compare=False)

    @property
    def capabilities(self) -> frozenset[str]:
        """All of `CAPABILITIES`, except that only some recipes are batched."""
        batched = ("batched",) if self.recipe.batched else ()
        return frozenset({"gradients", "epochs", "private", "adversarial", "distill", "save", *batched})

    @property
    def params(self) -> Mapping[str, Any]:
        """The recipe."""
        return self.recipe.values

    @property
    def name(self) -> str:
        """See `Trainer.name`."""
        return self.recipe.name

    @property
    def framework(self) -> str:
        """See `Trainer.framework`."""
        return "keras"

    def with_params(self, **changes: Any) -> Self:
        """See `Trainer.with_params`."""
        return dataclasses.replace(self, recipe=self.recipe.changed(**changes))

    def check(self, data: DataFacts) -> None:
        """See `Trainer.check`: the models must suit the records, and a batch must not be larger than the set of members."""
        if data.table is not None and data.table.words:
            words = ", ".join(column.name for column in data.table.columns if column.kind == "word")
            raise UserError(
                f"label: the columns {words} hold words, and Keras models are given numbers; allowed: columns of numbers"
            )
        self.recipe.check(data.shape, data.classes)
        if data.members is not None and self.recipe.batch_size > data.members:
            raise UserError(
                f"batch_size={self.recipe.batch_size}: more than the members of a model; allowed: 1 to {data.members}"
            )

    def signature(self) -> Mapping[str, object]:
        """See `Trainer.signature`."""
        return {"recipe": self.recipe.to_dict(), "versions": versions()}

    def describe(self) -> Mapping[str, int | float | str]:
        """See `Trainer.describe`."""
        return self.recipe.describe()

    def sources(self) -> Mapping[str, str]:
        """See `memberscope.training.trainer.WithSources`; empty for the built-in models."""
        return self.recipe.sources()

    def prepare_process(self) -> None:
        """See `Trainer.prepare_process`: kernels of models that are trained in parallel are limited to one thread."""
        from memberscope.training.keras.groups import a_thread_each

        a_thread_each()

    def train(self, jobs: Sequence[TrainingJob], run: Execution) -> KerasFleet:
        """See `Trainer.train`; the jobs share one data set."""
        if not jobs:
            raise UserError("shadows=0: no model to train; allowed: 1 or more")
        _check_values(jobs[0].data)
        return train_fleet(
            jobs[0].data, [job.indices for job in jobs], self.recipe, seeds=[job.seed for job in jobs], store=run.store,
            workers=run.workers, scheduler=run.scheduler, label=run.label, stop=run.stop,
        )  # fmt: skip

    def train_private(
        self, jobs: Sequence[TrainingJob], settings: PrivateSettings, run: Execution
    ) -> tuple[KerasFleet, PrivacyPlan]:
        """See `memberscope.training.trainer.TrainsDefended`."""
        from memberscope.training.keras.defended import train_private

        _check_values(jobs[0].data)
        return train_private(jobs, self.recipe, settings, run)

    def train_adversarial(
        self, jobs: Sequence[TrainingJob], reference: Index, run: Execution, *, strength: float, epochs: int, warm_up_steps: int,
        start: Fleet | None = None,
    ) -> KerasFleet:  # fmt: skip
        """See `memberscope.training.trainer.TrainsDefended`."""
        from memberscope.training.keras.defended import train_adversarial

        _check_values(jobs[0].data)
        return train_adversarial(
            jobs, self.recipe, reference, run, strength=strength, epochs=epochs, warm_up_steps=warm_up_steps,
            start=cast("KerasFleet | None", start),
        )  # fmt: skip

    def variants(self, data: DataFacts) -> Sequence[tuple[str, Trainer]]:
        """See `Trainer.variants`."""
        return [(name, dataclasses.replace(self, recipe=recipe)) for name, recipe in self.recipe.variants(data.shape)]

    def begin(self, job: TrainingJob, *, start: tuple[Fleet, int] | None = None) -> KerasTraining:
        """See `Trainer.begin`."""
        _check_values(job.data)
        model = self.recipe.build(input_shape=job.data.shape, classes=job.data.classes, seed=job.seed)
        if start is not None:
            model.set_weights(cast(KerasFleet, start[0]).weights[start[1]])
        return KerasTraining(recipe=self.recipe, job=job, native=model, x=self._tensor(job.data.x))

    def fleet_of(self, trainings: Sequence[Training]) -> KerasFleet:
        """See `Trainer.fleet_of`."""
        done = [cast(KerasTraining, training) for training in trainings]
        data = done[0].job.data
        return KerasFleet(
            recipe=self.recipe, classes=data.classes, input_shape=data.shape, weights=[one.native.get_weights() for one in done],
            curves={}, reused=0, trained=len(done),
        )  # fmt: skip

    def distill(
        self, data: LabeledData, *, transfer: Index, teacher: Outputs, watched: Index, epochs: int, seed: int,
        between_epochs: Callable[[], None] = lambda: None,
    ) -> NDArray[np.float64]:  # fmt: skip
        """See `Trainer.distill`."""
        from memberscope.training.keras.distill import distill

        return distill(
            self.recipe, self._tensor(data.x), scale=data.scale, classes=data.classes, transfer=transfer, teacher_logits=teacher,
            watched=watched, watched_labels=data.y[watched], epochs=epochs, seed=seed, between_epochs=between_epochs,
        )  # fmt: skip

    def _tensor(self, x: NDArray[Any]) -> Any:
        """The records as a tensor, which is kept for the next model that is trained on the same array."""
        from memberscope.training.keras.fit import to_tensor

        if not self._tensors or self._tensors[0][0] is not x:
            self._tensors[:] = [(x, to_tensor(x))]
        return self._tensors[0][1]


@dataclass(kw_only=True, eq=False)
class KerasTraining:
    """See `memberscope.training.trainer.Training`.

    Attributes:
        recipe: the recipe of the model.
        job: its records and seed.
        native: the Keras model.
        x: the job's records as a tensor.
    """

    recipe: LoopRecipe
    job: TrainingJob
    native: keras.Model
    x: Any
    _predict: Callable[[Index], Outputs] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Define the compiled function that answers queries."""
        from memberscope.training.keras.fit import predictor

        self._predict = predictor(self.native, self.x, scale=self.job.data.scale)

    @property
    def parameters(self) -> int:
        """See `Training.parameters`."""
        return sum(int(np.prod(weight.shape)) for weight in self.native.trainable_weights)

    @property
    def summary(self) -> str:
        """See `Training.summary`."""
        return summary_text(self.native)

    def outputs(self, index: Index) -> Outputs:
        """See `Training.outputs`."""
        return self._predict(index)

    def fit(self, *, after_epoch: Callable[[int], None], between_steps: Callable[[int], None]) -> None:
        """See `Training.fit`."""
        from memberscope.training.keras.fit import fit

        recipe = self.recipe
        fit(
            self.native, self.x, self.job.data.y, self.job.indices, scale=self.job.data.scale, epochs=recipe.epochs,
            batch_size=recipe.batch_size, learning_rate=recipe.learning_rate, seed=self.job.seed, after_epoch=after_epoch,
            between_steps=between_steps, l2=recipe.l2, label_smoothing=recipe.label_smoothing, dropout=recipe.dropout,
        )  # fmt: skip

    def check_private(self, settings: PrivateSettings) -> None:
        """See `Training.check_private`."""
        from memberscope.training.keras.clipping import clipped_sum

        clipped_sum(self.native, cast("Clipping", settings.clipping), settings.clip_norm)

    def fit_private(
        self, settings: PrivateSettings, *, after_epoch: Callable[[int], None], between_steps: Callable[[int], None]
    ) -> PrivacyPlan:
        """See `Training.fit_private`."""
        from memberscope.training.keras.private import fit_private

        recipe = self.recipe
        trained = fit_private(
            self.native, self.x, self.job.data.y, self.job.indices, scale=self.job.data.scale,
            epochs=settings.epochs or recipe.epochs, batch_size=settings.batch_size or recipe.batch_size,
            learning_rate=settings.learning_rate or recipe.learning_rate, clip_norm=settings.clip_norm, seed=self.job.seed,
            after_epoch=after_epoch, between_steps=between_steps, noise_multiplier=settings.noise_multiplier,
            target_epsilon=settings.target_epsilon, delta=settings.delta, clipping=cast("Clipping", settings.clipping),
        )  # fmt: skip
        return trained.privacy

    def fit_adversarial(
        self, reference: Index, *, strength: float, epochs: int, warm_up_steps: int, after_epoch: Callable[[int], None],
        between_steps: Callable[[int], None],
    ) -> None:  # fmt: skip
        """See `Training.fit_adversarial`."""
        from memberscope.training.keras.adversarial import fit_adversarial

        recipe = self.recipe
        fit_adversarial(
            self.native, self.x, self.job.data.y, self.job.indices, reference, scale=self.job.data.scale, strength=strength,
            epochs=epochs, batch_size=recipe.batch_size, learning_rate=recipe.learning_rate, seed=self.job.seed,
            after_epoch=after_epoch, between_steps=between_steps, warm_up_steps=warm_up_steps,
        )  # fmt: skip


def _check_values(data: LabeledData) -> None:
    """Raise UserError for records with a missing or infinite value, with which training would give no numbers."""
    if data.x.dtype.kind == "f" and not np.isfinite(data.x).all():
        bad = int((~np.isfinite(data.x.reshape(len(data), -1)).all(axis=1)).sum())
        raise UserError(
            f"dataset={data.name}: {bad} of {len(data)} records have missing or infinite values, with which a Keras model cannot be "
            "trained; allowed: finite numbers"
        )
