"""A fleet of the built-in models: K models of one recipe, each trained on its own index set, and stored as soon as they are finished."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memberscope.cores import cores
from memberscope.datasets.labeled import LabeledData
from memberscope.errors import UserError
from memberscope.installed import require
from memberscope.interrupt import StopFlag
from memberscope.plans.split import Index
from memberscope.training.execution.run import execute
from memberscope.training.execution.work import Unit
from memberscope.training.keras.forward import ForwardPasses
from memberscope.training.keras.groups import KerasSpec, has_a_thread_each, split
from memberscope.training.keras.versions import versions
from memberscope.training.keras.weights import TrainedModel, TrainingCurves
from memberscope.training.recipe import LoopRecipe, Recipe
from memberscope.training.store import Store, digest
from memberscope.training.trainer import Execution, Form

if TYPE_CHECKING:
    from tensorflow import keras

LOGIT_RECORDS, LOGIT_MODELS = 2_000, 16  # records and models in one step of a batched forward pass, per thread


@dataclass(frozen=True, kw_only=True)
class KerasFleet:
    """K trained models.

    Attributes:
        recipe, classes, input_shape: shared by all models.
        weights: K lists of arrays in the order of `keras.Model.get_weights`.
        curves: ``"loss"`` and ``"accuracy"``, each (K, epochs): means over the members during each epoch.
        reused: number of models from the store.
        trained: number of models trained now.
    """

    recipe: LoopRecipe
    classes: int
    input_shape: tuple[int, ...]
    weights: Sequence[list[NDArray[np.float32]]]
    curves: Mapping[str, NDArray[np.float64]]
    reused: int
    trained: int
    _passes: ForwardPasses = field(default_factory=ForwardPasses, init=False, repr=False, compare=False)

    @property
    def n_models(self) -> int:
        """K."""
        return len(self.weights)

    @property
    def form(self) -> Form:
        """``logits``."""
        return "logits"

    @property
    def capabilities(self) -> frozenset[str]:
        """Those of the trainer that describe its models."""
        return frozenset({"gradients", "save"})

    def losses_by_epoch(self, model: int, x: NDArray[Any], y: NDArray[np.int64]) -> NDArray[np.float64]:
        """Not offered."""
        raise NotImplementedError

    def native(self, model: int) -> keras.Model:
        """One of the models as a Keras model."""
        native = self.recipe.build(input_shape=self.input_shape, classes=self.classes, seed=0)
        native.set_weights(self.weights[model])
        return native

    def gradient_norms(
        self,
        model: int,
        x: NDArray[Any],
        y: NDArray[np.int64],
        *,
        between_batches: Callable[[int], None] = lambda records: None,
    ) -> NDArray[np.float64]:
        """See `memberscope.training.trainer.Fleet.gradient_norms`."""
        from memberscope.training.keras.fit import to_tensor
        from memberscope.training.keras.gradients import gradient_norms

        scale = 255.0 if x.dtype == np.uint8 else 1.0
        every = np.arange(len(x), dtype=np.int64)
        return gradient_norms(self.native(model), to_tensor(x), every, y, scale=scale, between_batches=between_batches)

    def outputs(self, x: NDArray[Any], *, models: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Logits of records.

        Args:
            x: (m, ...) records as a data set stores them: uint8 is divided by 255, any other type is not scaled.
            models: the models to query, in this order; None: all.

        Returns:
            (len(models), m, classes) float32 logits. Their last digits may depend on the numbers of records and models in one call.
        """
        chosen = range(self.n_models) if models is None else models
        out = np.empty((len(chosen), len(x), self.classes), np.float32)
        if len(x):
            # A small query of one model, such as those of a climb, is answered by one compiled program.
            many = len(chosen) > 1 or len(x) > LOGIT_RECORDS
            recipe = self.recipe
            if many and isinstance(recipe, Recipe) and recipe.model in ("dense", "mlp"):
                self._logits_batched(x, chosen, out, activation=recipe.activation)
            else:
                self._logits_singly(x, chosen, out)
        return out

    def _logits_batched(self, x: NDArray[Any], chosen: Sequence[int], out: NDArray[np.float32], *, activation: str) -> None:
        import tensorflow as tf

        from memberscope.training.keras.batched import forward

        def some(start: int) -> None:
            rows = x[start : start + LOGIT_RECORDS].reshape(len(x[start : start + LOGIT_RECORDS]), -1)
            batch = tf.cast(tf.constant(rows), tf.float32) / (255.0 if x.dtype == np.uint8 else 1.0)
            for first in range(0, len(chosen), LOGIT_MODELS):
                weights = [self.weights[k] for k in chosen[first : first + LOGIT_MODELS]]
                found = forward(weights, batch, activation=activation).numpy()
                out[first : first + len(weights), start : start + len(rows)] = found

        with ThreadPoolExecutor(max_workers=cores()) as pool:
            list(pool.map(some, range(0, len(x), LOGIT_RECORDS)))  # reraises an exception of any thread

    def _logits_singly(self, x: NDArray[Any], chosen: Sequence[int], out: NDArray[np.float32]) -> None:
        threads = cores() if has_a_thread_each() else 1

        def some(rows: NDArray[np.intp]) -> None:
            with self._passes.lend(lambda: self.native(0), x.dtype) as forward_pass:
                for row in rows:
                    out[row] = forward_pass(self.weights[chosen[row]], x)

        shares = [share for share in np.array_split(np.arange(len(chosen)), threads) if len(share)]
        with ThreadPoolExecutor(max_workers=threads) as pool:
            list(pool.map(some, shares))


def train_fleet(
    data: LabeledData,
    members: Sequence[Index],
    recipe: LoopRecipe,
    *,
    seeds: Sequence[int],
    store: Store | None = None,
    workers: int | None = None,
    scheduler: str = "",
    label: str = "shadows",
    stop: StopFlag | None = None,
) -> KerasFleet:
    """Train K models; finished models are read from the store.

    Dense models are trained many at a time in one program (`memberscope.training.keras.batched`), the others one by one in worker
    processes, or in threads if the program has called `memberscope.training.keras.groups.a_thread_each`. Models of a user's builder are
    always trained in worker processes, because the random numbers of their layers come from generators that a process has once. A unit
    of work is stored as soon as it is finished, so that a run that was stopped or killed continues from there and ends with the same bytes.

    Args:
        data: all records, with final labels.
        members: K index arrays into `data`, of any sizes.
        recipe: the recipe of all models.
        seeds: K seeds; each determines a model's initial weights and the order of its records.
        store: the store of finished models; None keeps nothing.
        workers: processes on this machine for models that are not batched; None: one per core, or threads.
        scheduler: ``tcp://HOST:PORT`` of a Dask scheduler whose workers train all models; empty: this machine.
        label: name in the progress bar and in the store.
        stop: checked between steps.

    Raises:
        UserError: there is nothing to train; the recipe does not suit the records; the store cannot be written or, if reuse is forced, has
            other settings; the scheduler cannot be reached; workers die repeatedly; TensorFlow is not installed.
        Interrupted: `stop` was set.
    """
    _check(data, members, recipe, seeds, workers)
    require("tensorflow", by="training")
    work = KerasSpec(recipe=recipe, scale=data.scale, classes=data.classes).work(data.x, data.y)
    units = split(recipe, members, seeds, input_shape=data.shape, classes=data.classes)
    common, each = facts(data, recipe, units)
    run = Execution(store=store, workers=workers, scheduler=scheduler, label=label, stop=stop or StopFlag())
    threads = recipe.batched or (workers is None and has_a_thread_each() and not recipe.own_state)
    models, reused = execute(
        work,
        units,
        run,
        threads=cores() if threads else 0,
        common=common,
        each=each,
        to_arrays=to_arrays,
        from_arrays=from_arrays,
    )
    return KerasFleet(
        recipe=recipe, classes=data.classes, input_shape=data.shape, weights=[model.weights for model in models],
        curves={name: np.array([getattr(model.curves, name) for model in models]) for name in ("loss", "accuracy")},
        reused=reused, trained=len(models) - reused,
    )  # fmt: skip


def _check(data: LabeledData, members: Sequence[Index], recipe: LoopRecipe, seeds: Sequence[int], workers: int | None) -> None:
    recipe.check(data.shape, data.classes)
    if len(seeds) != len(members):
        raise ValueError(f"{len(members)} index sets with {len(seeds)} seeds")
    if not members:
        raise UserError("shadows=0: no model to train; allowed: 1 or more")
    for k, index in enumerate(members):
        if not len(index) or index.min() < 0 or index.max() >= len(data):
            raise UserError(f"members of model {k}: {len(index)} records; allowed: at least one, all from 0 to {len(data) - 1}")
    if workers is not None and workers < 1:
        raise UserError(f"workers={workers}: out of range; allowed: 1 or more")


def facts(data: LabeledData, recipe: LoopRecipe, units: Sequence[Unit]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The facts that can change a bit of the result: those that all models share, and those of each model."""
    common = {
        "data": data.digest, "recipe": recipe.to_dict(), "input_shape": list(data.shape), "classes": data.classes, **versions(),
    }  # fmt: skip
    each = [
        {
            "members": digest(index.astype("<i8")),
            "seed": seed,
            "group": len(unit.positions),
        }  # products may depend on the group's size
        for unit in units
        for index, seed in zip(unit.members, unit.seeds, strict=True)
    ]
    return common, each


def to_arrays(model: TrainedModel) -> Mapping[str, NDArray[Any]]:
    """A trained model as arrays for the store."""
    weights = {f"weight_{i:03d}": array for i, array in enumerate(model.weights)}
    return {**weights, "loss": model.curves.loss, "accuracy": model.curves.accuracy}


def from_arrays(position: int, arrays: Mapping[str, NDArray[Any]]) -> TrainedModel:
    """The trained model that `to_arrays` gave, whatever its position in the fleet."""
    weights = [arrays[key] for key in sorted(arrays) if key.startswith("weight_")]
    return TrainedModel(weights=weights, curves=TrainingCurves(loss=arrays["loss"], accuracy=arrays["accuracy"]))
