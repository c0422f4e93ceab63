"""The built-in trainer: models of the built-in architectures by a recipe. TensorFlow is imported when the first model is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from memberscope.datasets.labeled import LabeledData
from memberscope.errors import UserError, nearest
from memberscope.models import is_convolutional, largest_depth, summary_text
from memberscope.plans.split import Index
from memberscope.training.keras.fleet import KerasFleet, train_fleet
from memberscope.training.keras.versions import versions
from memberscope.training.recipe import Recipe
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

    recipe: Recipe
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
        return self.recipe.to_dict()

    @property
    def name(self) -> str:
        """Such as ``mlp-d2``."""
        return f"{self.recipe.model}-d{self.recipe.depth}"

    @property
    def framework(self) -> str:
        """See `Trainer.framework`."""
        return "keras"

    def with_params(self, **changes: Any) -> Self:
        """See `Trainer.with_params`."""
        known = [item.name for item in dataclasses.fields(Recipe)]
        for name in changes:
            if name not in known:
                raise UserError(
                    f"{name}: no parameter of the built-in models; allowed: {', '.join(known)}{nearest(name, known)}"
                )
        return dataclasses.replace(self, recipe=dataclasses.replace(self.recipe, **changes))

    def check(self, data: DataFacts) -> None:
        """See `Trainer.check`: the architecture must suit the records, and a batch must not be larger than the set of members."""
        self.recipe.check(data.shape)
        if data.members is not None and self.recipe.batch_size > data.members:
            raise UserError(
                f"batch_size={self.recipe.batch_size}: more than the members of a model; allowed: 1 to {data.members}"
            )

    def signature(self) -> Mapping[str, object]:
        """See `Trainer.signature`."""
        return {"recipe": self.recipe.to_dict(), "versions": versions()}

    def describe(self) -> Mapping[str, int | float | str]:
        """See `Trainer.describe`."""
        recipe = self.recipe
        found: dict[str, int | float | str] = {"model.architecture": recipe.model}
        found |= {f"model.{name}": getattr(recipe, name) for name in ("depth", "width", "filters", "activation")}
        found["model.widths"] = ",".join(map(str, recipe.widths))
        found |= {f"train.{name}": getattr(recipe, name) for name in ("epochs", "batch_size", "learning_rate")}
        return found | {"train.optimizer": "adam"}

    def prepare_process(self) -> None:
        """See `Trainer.prepare_process`: kernels of models that are trained in parallel are limited to one thread."""
        from memberscope.training.keras.groups import a_thread_each

        a_thread_each()

    def train(self, jobs: Sequence[TrainingJob], run: Execution) -> KerasFleet:
        """See `Trainer.train`; the jobs share one data set."""
        if not jobs:
            raise UserError("shadows=0: no model to train; allowed: 1 or more")
        return train_fleet(
            jobs[0].data, [job.indices for job in jobs], self.recipe, seeds=[job.seed for job in jobs], store=run.store,
            workers=run.workers, scheduler=run.scheduler, label=run.label, stop=run.stop,
        )  # fmt: skip

    def variants(self, data: DataFacts) -> Sequence[tuple[str, Trainer]]:
        """See `Trainer.variants`: other depths, another width, another activation, another architecture."""
        recipe, found = self.recipe, list[tuple[str, Trainer]]()
        for depth in (1, 2 * recipe.depth):
            most = largest_depth(recipe.model, data.shape)
            if depth != recipe.depth and (most is None or depth <= most):
                found.append((f"depth {depth} instead of {recipe.depth}", self.with_params(widths=(), depth=depth)))
        narrow = max(8, recipe.width // 8)
        if narrow != recipe.width:
            found.append((f"width {narrow} instead of {recipe.width}", self.with_params(widths=(), width=narrow)))
        other = "tanh" if recipe.activation != "tanh" else "relu"
        found.append((f"{other} instead of {recipe.activation}", self.with_params(activation=other)))
        if is_convolutional(recipe.model):
            found.append(("dense instead of conv", self.with_params(widths=(), model="dense")))
        return found

    def begin(self, job: TrainingJob, *, start: tuple[Fleet, int] | None = None) -> KerasTraining:
        """See `Trainer.begin`."""
        if start is None:
            model = self.recipe.build(input_shape=job.data.shape, classes=job.data.classes, seed=job.seed)
        else:
            model = start[0].native(start[1])
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

    recipe: Recipe
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
        return int(self.native.count_params())

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
