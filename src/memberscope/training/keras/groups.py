"""The units of a fleet's training: a group of batched models, or one model. A unit's result has the same bytes wherever it runs.

Groups are fixed by position, so which models are trained together depends neither on the size of the fleet nor on which are finished.
"""

from __future__ import annotations

import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from memberscope.cores import cores
from memberscope.plans.split import Index
from memberscope.training.execution.work import Unit, UnitProgram
from memberscope.training.keras.weights import TrainedModel
from memberscope.training.recipe import LoopRecipe, Recipe

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow import keras

    from memberscope.training.keras.adversarial import CompiledAdversarial
    from memberscope.training.keras.batched import Program
    from memberscope.training.keras.fit import CompiledTraining
    from memberscope.training.keras.inputs import InputSource
    from memberscope.training.keras.private import CompiledPrivate
    from memberscope.training.keras.weights import TrainingCurves

Compiled = TypeVar("Compiled", "CompiledTraining", "CompiledPrivate", "CompiledAdversarial")

GROUP = 8  # most models in a batched program: if a larger group is killed, more work is lost
STATE_BYTES = (
    4 << 20
)  # largest size of a group's weights, moments and gradients: if they exceed the caches, Adam waits for memory


@dataclass(frozen=True, kw_only=True)
class KerasSpec:
    """A fleet's training without its records.

    Attributes:
        recipe: the recipe of all models.
        scale: divisor that maps a record to [0, 1].
        classes: number of logits.
    """

    recipe: LoopRecipe
    scale: float
    classes: int

    def work(self, x: NDArray[Any], y: NDArray[np.int64]) -> KerasWork:
        """See `memberscope.training.execution.work.Spec.work`."""
        return KerasWork(spec=self, x=x, y=y)

    def environment(self, workers: int) -> Mapping[str, str]:
        """See `memberscope.training.execution.work.Spec.environment`: TensorFlow is quiet."""
        return {"TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3")}

    def begin_worker(self, place: int) -> None:
        """See `memberscope.training.execution.work.Spec.begin_worker`."""
        one_thread()


@dataclass(frozen=True, kw_only=True, eq=False)
class KerasWork:
    """A fleet's training with its records, shared by all units.

    Attributes:
        spec: the training without the records.
        x, y: all records (n, ...) and their labels (n,) int64.
    """

    spec: KerasSpec
    x: NDArray[Any]
    y: NDArray[np.int64]

    def shared(self) -> InputSource | tf.Tensor:
        """The records in the form that programs use: made once per process on this machine, once per unit on a cluster."""
        from memberscope.training.keras.fit import to_tensor
        from memberscope.training.keras.inputs import source_of

        return source_of(self.x) if self.spec.recipe.batched else to_tensor(self.x)

    def program(self, models: int, shared: InputSource | tf.Tensor) -> UnitProgram:
        """The compiled training of `models` models at once, or of one at a time if the recipe is not batched."""
        import tensorflow as tf

        from memberscope.training.keras.batched import Program

        spec = self.spec
        if not isinstance(spec.recipe, Recipe) or not spec.recipe.batched:
            return Single(self, shared)
        labels = tf.constant(self.y, tf.int32)
        return Group(Program(spec.recipe, models=models, x=shared, y=labels, scale=spec.scale, classes=spec.classes))


def group_size(recipe: LoopRecipe, *, input_shape: Sequence[int], classes: int) -> int:
    """The number of models that are trained together: 1 if the recipe is not batched, else 2 to `GROUP`, fewer for larger models."""
    if not isinstance(recipe, Recipe) or not recipe.batched:
        return 1
    sizes = recipe.layer_sizes(input_shape=input_shape, classes=classes)
    state = 4 * 4 * sum((a + 1) * b for a, b in itertools.pairwise(sizes))  # four float32 arrays per weight
    return max(2, min(GROUP, STATE_BYTES // state))


def split(
    recipe: LoopRecipe, members: Sequence[Index], seeds: Sequence[int], *, input_shape: Sequence[int], classes: int
) -> list[Unit]:
    """The units of a fleet, of `group_size` consecutive models each."""
    size = group_size(recipe, input_shape=input_shape, classes=classes)
    return [
        Unit(
            positions=tuple(range(start, min(start + size, len(members)))),
            members=tuple(members[start : start + size]),
            seeds=tuple(int(seed) for seed in seeds[start : start + size]),
            steps=recipe.epochs * sum(-(-len(index) // recipe.batch_size) for index in members[start : start + size]),
        )
        for start in range(0, len(members), size)
    ]


class Group:
    """The compiled training of several models at once; not thread-safe."""

    def __init__(self, program: Program) -> None:
        """Take the compiled program."""
        self._program = program

    def train(self, unit: Unit, between_steps: Callable[[int], None]) -> list[TrainedModel]:
        """Train the models of one unit together."""
        return self._program.train(unit.members, unit.seeds, between_steps)


class OneByOne(ABC, Generic[Compiled]):
    """The compiled training of one model at a time, the counterpart of `Group`; not thread-safe."""

    def __init__(self, work: KerasWork, x: tf.Tensor) -> None:
        """Take the work and its records `x`; nothing is compiled yet."""
        self._work, self._x = work, x
        self._compiled: Compiled | None = None

    @abstractmethod
    def _compile(self, model: keras.Model) -> Compiled:
        """The compiled training of a model."""

    @abstractmethod
    def _train(
        self, training: Compiled, index: Index, seed: int, position: int, between_steps: Callable[[int], None]
    ) -> TrainingCurves:
        """Train the compiled model, which has initial weights, as the one at a position in the fleet."""

    def _begin(self, seed: int) -> Compiled:
        """The compiled training of a model with the initial weights of a seed, which is reused unless models have a state of their own."""
        spec, recipe = self._work.spec, self._work.spec.recipe
        model = recipe.build(input_shape=self._x.shape[1:], classes=spec.classes, seed=seed)
        if self._compiled is None or recipe.own_state:
            self._compiled = self._compile(model)
        else:
            self._compiled.model.set_weights(model.get_weights())
        return self._compiled

    def train(self, unit: Unit, between_steps: Callable[[int], None]) -> list[TrainedModel]:
        """Train one model after another, each from its initial weights."""
        trained = []
        for position, index, seed in zip(unit.positions, unit.members, unit.seeds, strict=True):
            training = self._begin(seed)
            curves = self._train(training, index, seed, position, between_steps)
            trained.append(TrainedModel(weights=training.model.get_weights(), curves=curves))
        return trained


class Single(OneByOne["CompiledTraining"]):
    """Plain training of one model at a time."""

    def _compile(self, model: keras.Model) -> CompiledTraining:
        from memberscope.training.keras.fit import CompiledTraining

        spec, recipe = self._work.spec, self._work.spec.recipe
        return CompiledTraining(
            model, self._x, self._work.y, scale=spec.scale, batch_size=recipe.batch_size, learning_rate=recipe.learning_rate,
            l2=recipe.l2, label_smoothing=recipe.label_smoothing, dropout=recipe.dropout,
        )  # fmt: skip

    def _train(
        self, training: CompiledTraining, index: Index, seed: int, position: int, between_steps: Callable[[int], None]
    ) -> TrainingCurves:
        return training.run(
            index, epochs=self._work.spec.recipe.epochs, seed=seed, after_epoch=lambda epoch: None, between_steps=between_steps
        )


def a_thread_each() -> None:
    """Limit each TensorFlow kernel of this process to one thread, for a program that is about to train units in parallel.

    Measured on two cores, groups take a fifth less time than with TensorFlow's own threads; and single models, which are otherwise trained
    in worker processes, can be trained in threads, without the seconds that processes need to start. The setting holds for the whole
    process, so it is the program that must call this function, not `train_fleet`. It has no effect if TensorFlow has started already.
    """
    import contextlib

    import tensorflow as tf

    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(max(2, cores()))


def has_a_thread_each() -> bool:
    """Whether TensorFlow in this process is limited to one thread per kernel."""
    import tensorflow as tf

    return bool(tf.config.threading.get_intra_op_parallelism_threads() == 1)


def one_thread() -> None:
    """Limit TensorFlow to one thread in a worker process: several workers then share the cores without contention, and sums are computed in
    a fixed order. It has no effect if TensorFlow has started already.
    """
    import contextlib

    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # it warns that a program is retraced for each model, which is intended here
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
