"""The pieces that a fleet's work falls into: a group of batched models, or one model; each can run anywhere and gives the same bytes.

Groups are fixed by position, so which models train together depends neither on how many there are in all nor on which are finished.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memberscope.cores import cores
from memberscope.plans.split import Index
from memberscope.training.execution.work import Unit
from memberscope.training.keras.weights import TrainedModel
from memberscope.training.recipe import Recipe

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow import keras

    from memberscope.training.keras.batched import Program
    from memberscope.training.keras.inputs import InputSource

GROUP = 8  # models a batched program at most: more would only lose more when killed
STATE_BYTES = 4 << 20  # of a group's weights, moments and gradients: beyond what caches hold, Adam waits for memory


@dataclass(frozen=True, kw_only=True)
class KerasSpec:
    """A fleet's training without its records.

    Attributes:
        recipe: how each model is made.
        scale: what a record is divided by to lie in [0, 1].
        classes: number of logits.
    """

    recipe: Recipe
    scale: float
    classes: int

    def work(self, x: NDArray[Any], y: NDArray[np.int64]) -> KerasWork:
        """See `memberscope.training.execution.work.Spec.work`."""
        return KerasWork(spec=self, x=x, y=y)

    def begin_worker(self) -> None:
        """See `memberscope.training.execution.work.Spec.begin_worker`."""
        one_thread()


@dataclass(frozen=True, kw_only=True, eq=False)
class KerasWork:
    """What all units of a fleet share.

    Attributes:
        spec: how each model is made.
        x, y: all records (n, ...) and their labels (n,) int64.
    """

    spec: KerasSpec
    x: NDArray[Any]
    y: NDArray[np.int64]

    def shared(self) -> InputSource | tf.Tensor:
        """The records as all programs take them: made once for those of one process on this machine, once a unit on a cluster."""
        from memberscope.training.keras.fit import to_tensor
        from memberscope.training.keras.inputs import source_of

        return source_of(self.x) if self.spec.recipe.batched else to_tensor(self.x)

    def program(self, models: int, shared: InputSource | tf.Tensor) -> Program | Single:
        """The compiled training of `models` models at once, or of one at a time where they do not train batched."""
        import tensorflow as tf

        from memberscope.training.keras.batched import Program

        spec = self.spec
        if not spec.recipe.batched:
            return Single(self, shared)
        labels = tf.constant(self.y, tf.int32)
        return Program(spec.recipe, models=models, x=shared, y=labels, scale=spec.scale, classes=spec.classes)


def group_size(recipe: Recipe, *, input_shape: Sequence[int], classes: int) -> int:
    """How many models of a recipe train together: 1 where they do not train batched, else 2 to `GROUP`, the fewer the larger they are."""
    if not recipe.batched:
        return 1
    sizes = recipe.layer_sizes(input_shape=input_shape, classes=classes)
    state = 4 * 4 * sum((a + 1) * b for a, b in itertools.pairwise(sizes))  # four float32 arrays a weight
    return max(2, min(GROUP, STATE_BYTES // state))


def split(
    recipe: Recipe, members: Sequence[Index], seeds: Sequence[int], *, input_shape: Sequence[int], classes: int
) -> list[Unit]:
    """The units of a fleet: `group_size` consecutive models each."""
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


class Single:
    """The compiled training of one model at a time, as `Program` is that of several; not safe for two threads at once either."""

    def __init__(self, work: KerasWork, x: tf.Tensor) -> None:
        """Build the model; `x` are the work's records."""
        from memberscope.training.keras.fit import Trainer

        recipe, self._work = work.spec.recipe, work
        self._trainer = Trainer(
            self._build(0), x, work.y, scale=work.spec.scale, batch_size=recipe.batch_size, learning_rate=recipe.learning_rate,
            l2=recipe.l2, label_smoothing=recipe.label_smoothing, dropout=recipe.dropout,
        )  # fmt: skip

    def _build(self, seed: int) -> keras.Model:
        spec = self._work.spec
        return spec.recipe.build(input_shape=self._work.x.shape[1:], classes=spec.classes, seed=seed)

    def train(
        self, members: Sequence[Index], seeds_of: Sequence[int], between_steps: Callable[[int], None]
    ) -> list[TrainedModel]:
        """Train one model after another, each from its initial weights; for the arguments see `Program.train`."""
        trained = []
        for index, seed in zip(members, seeds_of, strict=True):
            self._trainer.model.set_weights(self._build(seed).get_weights())
            curves = self._trainer.run(
                index,
                epochs=self._work.spec.recipe.epochs,
                seed=seed,
                after_epoch=lambda epoch: None,
                between_steps=between_steps,
            )
            trained.append(TrainedModel(weights=self._trainer.model.get_weights(), curves=curves))
        return trained


def a_thread_each() -> None:
    """For a program about to train a fleet: where its parts train side by side, let no kernel of one spread over the others' cores.

    Measured on two cores: a fifth less time for groups than with TensorFlow's own threads; and single models, which else train in processes
    of their own, can train in threads, without the seconds that such processes need to start. It holds for the whole process, so it is
    for the program to call, not for `train_fleet`. Without effect where TensorFlow has started already.
    """
    import contextlib

    import tensorflow as tf

    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(max(2, cores()))


def has_a_thread_each() -> bool:
    """Was TensorFlow in this process held to a thread a kernel?"""
    import tensorflow as tf

    return bool(tf.config.threading.get_intra_op_parallelism_threads() == 1)


def one_thread() -> None:
    """Hold TensorFlow to one thread in a process made for training: several such processes share the cores without contending for them,
    and sums come out in one order. Without effect where TensorFlow has started already.
    """
    import contextlib

    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # it warns of a program traced anew for each model, which is what is meant here
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
