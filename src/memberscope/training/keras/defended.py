"""Fleets of the built-in models whose training is a defence: with DP-SGD, or against an attack that is trained alongside.

As in `memberscope.training.keras.fleet`, models are stored as soon as they are finished. They are trained one by one, as many at a time as
there are cores (or `Execution.workers`), each in a thread with a compiled program that trains one model after another. Models of a user's
builder are trained one at a time, because the random numbers of their layers come from generators that a process has once. All are trained
on this machine, also where other fleets are trained on a cluster.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from memberscope.cores import cores
from memberscope.datasets.labeled import LabeledData
from memberscope.installed import require
from memberscope.plans.split import Index
from memberscope.training.accounting import PrivacyPlan, noise_for_members, plan_privacy
from memberscope.training.execution.run import execute
from memberscope.training.execution.work import Unit
from memberscope.training.keras.fleet import KerasFleet, facts, from_arrays, to_arrays
from memberscope.training.keras.groups import KerasSpec, KerasWork, OneByOne
from memberscope.training.keras.weights import TrainingCurves, Weights
from memberscope.training.recipe import LoopRecipe
from memberscope.training.store import digest
from memberscope.training.trainer import Execution, PrivateSettings, TrainingJob

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow import keras

    from memberscope.training.keras.adversarial import CompiledAdversarial
    from memberscope.training.keras.clipping import Clipping
    from memberscope.training.keras.private import CompiledPrivate

NO_CURVES = TrainingCurves(loss=np.empty(0), accuracy=np.empty(0))


@dataclass(frozen=True, kw_only=True, eq=False)
class DefendedWork(KerasWork):
    """The training of a defended fleet; see `KerasWork`."""

    def shared(self) -> tf.Tensor:
        """The records as a tensor."""
        from memberscope.training.keras.fit import to_tensor

        return to_tensor(self.x)


@dataclass(frozen=True, kw_only=True, eq=False)
class PrivateWork(DefendedWork):
    """Training with DP-SGD.

    Attributes:
        settings: the settings, with epochs, batch size and learning rate.
    """

    settings: PrivateSettings

    def program(self, models: int, shared: Any) -> PrivateProgram:
        """See `KerasWork.program`; models are trained one at a time."""
        return PrivateProgram(self, shared)


class PrivateProgram(OneByOne["CompiledPrivate"]):
    """The compiled private training of one model at a time; not thread-safe."""

    def __init__(self, work: PrivateWork, x: tf.Tensor) -> None:
        """Take the work and its records `x`; nothing is compiled yet."""
        super().__init__(work, x)
        self._settings = work.settings

    def _compile(self, model: keras.Model) -> CompiledPrivate:
        from memberscope.training.keras.private import CompiledPrivate

        spec, settings = self._work.spec, self._settings
        assert settings.batch_size is not None
        assert settings.learning_rate is not None
        return CompiledPrivate(
            model, self._x, self._work.y, scale=spec.scale, batch_size=settings.batch_size, learning_rate=settings.learning_rate,
            clip_norm=settings.clip_norm, clipping=cast("Clipping", settings.clipping),
        )  # fmt: skip

    def _train(
        self, training: CompiledPrivate, index: Index, seed: int, position: int, between_steps: Callable[[int], None]
    ) -> TrainingCurves:
        settings = self._settings
        noise = settings.noise_multiplier
        if noise is None:
            assert settings.target_epsilon is not None
            assert settings.epochs is not None
            assert settings.batch_size is not None
            noise = noise_for_members(
                settings.target_epsilon,
                members=len(index),
                epochs=settings.epochs,
                batch_size=settings.batch_size,
                delta=settings.delta,
            )
        training.run(
            index, noise_multiplier=noise, epochs=settings.epochs or 0, seed=seed, after_epoch=lambda epoch: None,
            between_steps=between_steps,
        )  # fmt: skip
        return NO_CURVES


@dataclass(frozen=True, kw_only=True, eq=False)
class AdversarialWork(DefendedWork):
    """Training against an attack.

    Attributes:
        reference: (n_reference,) positions of the defender's reference records.
        strength: weight of the attack's gain in the loss.
        epochs: passes over the members.
        warm_up_steps: steps of the attack before the first step of the classifier.
        start: the weights that each model starts from; None: initial weights by its seed.
    """

    reference: Index
    strength: float
    epochs: int
    warm_up_steps: int
    start: Sequence[Weights] | None

    def program(self, models: int, shared: Any) -> AdversarialProgram:
        """See `KerasWork.program`; models are trained one at a time."""
        return AdversarialProgram(self, shared)


class AdversarialProgram(OneByOne["CompiledAdversarial"]):
    """The compiled adversarial training of one model at a time; not thread-safe."""

    def __init__(self, work: AdversarialWork, x: tf.Tensor) -> None:
        """Take the work and its records `x`; nothing is compiled yet."""
        super().__init__(work, x)
        self._settings = work

    def _compile(self, model: keras.Model) -> CompiledAdversarial:
        from memberscope.training.keras.adversarial import CompiledAdversarial

        spec = self._work.spec
        return CompiledAdversarial(
            model, self._x, self._work.y, scale=spec.scale, strength=self._settings.strength, batch_size=spec.recipe.batch_size,
            learning_rate=spec.recipe.learning_rate,
        )  # fmt: skip

    def _train(
        self, training: CompiledAdversarial, index: Index, seed: int, position: int, between_steps: Callable[[int], None]
    ) -> TrainingCurves:
        settings = self._settings
        if settings.start is not None:
            training.model.set_weights(settings.start[position])
        training.run(
            index, settings.reference, epochs=settings.epochs, seed=seed, warm_up_steps=settings.warm_up_steps,
            after_epoch=lambda epoch: None, between_steps=between_steps,
        )  # fmt: skip
        return NO_CURVES


def train_private(
    jobs: Sequence[TrainingJob], recipe: LoopRecipe, settings: PrivateSettings, run: Execution
) -> tuple[KerasFleet, PrivacyPlan]:
    """Train a model with DP-SGD for each job; finished models are read from the store.

    Returns:
        The fleet, and the guarantee of its first model. Each model has the noise that its own number of members needs.

    Raises:
        UserError: see `memberscope.training.accounting.plan_privacy` and `memberscope.training.keras.clipping.clipped_sum`; the store
            cannot be written.
        Interrupted: a stop was requested.
    """
    require("tensorflow", by="training")
    settings = dataclasses.replace(
        settings, epochs=settings.epochs or recipe.epochs, batch_size=settings.batch_size or recipe.batch_size,
        learning_rate=settings.learning_rate or recipe.learning_rate,
    )  # fmt: skip
    assert settings.epochs is not None
    assert settings.batch_size is not None
    plan = plan_privacy(
        members=len(jobs[0].indices), epochs=settings.epochs, batch_size=settings.batch_size,
        noise_multiplier=settings.noise_multiplier, target_epsilon=settings.target_epsilon, delta=settings.delta,
    )  # fmt: skip
    data = jobs[0].data
    spec = KerasSpec(recipe=recipe, scale=data.scale, classes=data.classes)
    work = PrivateWork(spec=spec, x=data.x, y=data.y, settings=settings)
    units = _units(jobs, epochs=settings.epochs, batch_size=settings.batch_size)
    return _executed(work, data, units, run, {"private": dataclasses.asdict(settings)}), plan


def train_adversarial(
    jobs: Sequence[TrainingJob], recipe: LoopRecipe, reference: Index, run: Execution, *, strength: float, epochs: int,
    warm_up_steps: int = 0, start: KerasFleet | None = None,
) -> KerasFleet:  # fmt: skip
    """Train a model for each job against an attack that is trained alongside; finished models are read from the store.

    For the settings see `memberscope.training.keras.adversarial.fit_adversarial`. `start` has a model for each job, from whose weights that
    job's starts.

    Raises:
        UserError: see `fit_adversarial`; the store cannot be written.
        Interrupted: a stop was requested.
    """
    require("tensorflow", by="training")
    from memberscope.training.keras.adversarial import check_adversarial

    for job in jobs:
        check_adversarial(job.indices, reference, strength=strength, warm_up_steps=warm_up_steps)
    data = jobs[0].data
    spec = KerasSpec(recipe=recipe, scale=data.scale, classes=data.classes)
    work = AdversarialWork(
        spec=spec, x=data.x, y=data.y, reference=reference, strength=strength, epochs=epochs, warm_up_steps=warm_up_steps,
        start=None if start is None else start.weights,
    )  # fmt: skip
    units = _units(jobs, epochs=epochs, batch_size=recipe.batch_size)
    decisive = {
        "strength": strength, "epochs": epochs, "warm_up_steps": warm_up_steps, "reference": digest(reference.astype("<i8")),
    }  # fmt: skip
    own = None if start is None else [{"start": _digest(weights)} for weights in start.weights]
    return _executed(work, data, units, run, {"adversarial": decisive}, own)


def _units(jobs: Sequence[TrainingJob], *, epochs: int, batch_size: int) -> list[Unit]:
    """A unit for each job."""
    return [
        Unit(positions=(place,), members=(job.indices,), seeds=(job.seed,), steps=epochs * -(-len(job.indices) // batch_size))
        for place, job in enumerate(jobs)
    ]


def _executed(
    work: DefendedWork, data: LabeledData, units: Sequence[Unit], run: Execution, decisive: dict[str, Any],
    own: Sequence[dict[str, Any]] | None = None,
) -> KerasFleet:  # fmt: skip
    """The trained fleet; `decisive` are the facts that decide all models besides the recipe, `own` those of each model."""
    recipe = work.spec.recipe
    common, each = facts(data, recipe, units)
    if own is not None:
        each = [{**one, **more} for one, more in zip(each, own, strict=True)]
    here = dataclasses.replace(run, scheduler="")  # the workers of a cluster are sent a `KerasSpec`, which is plain training
    models, reused = execute(
        work, units, here, threads=1 if recipe.own_state else run.workers or cores(), common={**common, **decisive}, each=each,
        to_arrays=to_arrays, from_arrays=from_arrays,
    )  # fmt: skip
    return KerasFleet(
        recipe=recipe, classes=data.classes, input_shape=data.shape, weights=[model.weights for model in models], curves={},
        reused=reused, trained=len(models) - reused,
    )  # fmt: skip


def _digest(weights: Weights) -> str:
    sha = hashlib.sha256()
    for array in weights:
        sha.update(digest(cast(NDArray[Any], array)).encode())
    return sha.hexdigest()
