"""Models trained under a mitigation, and all that the audit asks of them; kept in a file, so that a study goes on where it stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from memberscope import queries, seeds
from memberscope.config import MitigateConfig
from memberscope.datasets import LabeledData
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.npz import read_npz, write_npz
from memberscope.plans.shadow import ShadowPlan
from memberscope.plans.split import Index
from memberscope.progress import Progress
from memberscope.studies.fleet import train
from memberscope.training.keras.recipe import Recipe
from memberscope.training.store import versions

if TYPE_CHECKING:
    from memberscope.training.accounting import PrivacyPlan
    from memberscope.training.keras.clipping import Clipping
    from memberscope.training.keras.fleet import Fleet

FORMAT = 2  # of what is kept; to be raised when a change of training code or queries changes figures
TARGET = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Defended:
    """What models trained under one mitigation said.

    Attributes:
        logits: (k, n, classes) of the plan's records: the target, then its shadows, if they were trained.
        population: (k, p, classes).
        reference: (r, classes) of the target on the defender's own reference records.
        perturbed: (n, copies) classes of the target on perturbed copies.
        seconds: of training, a model; NaN where some came from the store. Fine-tuning counts without what it starts from.
        epsilon, delta, noise_multiplier: of DP-SGD; NaN elsewhere.
        epsilons: (epochs,) by epoch; empty elsewhere.
        epochs: that were trained.
    """

    logits: NDArray[np.float32]
    population: NDArray[np.float32]
    reference: NDArray[np.float32]
    perturbed: NDArray[np.int64]
    seconds: float
    epsilon: float
    delta: float
    noise_multiplier: float
    epsilons: NDArray[np.float64]
    epochs: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """One seed's data, plan and the records outside it, in three parts: for the population, validation, and the defender's reference."""

    data: LabeledData
    plan: ShadowPlan
    population: Index
    validation: Index
    reference: Index
    seed: int


def models_of(plan: ShadowPlan, *, shadows: bool) -> list[int]:
    """The models to train: the target, and its shadows if wanted; never its twin."""
    return [TARGET, *(plan.shadows_of(TARGET).tolist() if shadows else [])]


def defend(training: str, bench: Bench, recipe: Recipe, config: MitigateConfig, stop: StopFlag, *, shadows: bool) -> Defended:
    """Train under a mitigation and ask; or read what an earlier run of the same settings kept.

    Args:
        training: ``undefended`` or one of `memberscope.studies.mitigate.rungs.TRAINING`.
        bench: the seed's data and plan.
        recipe: of the undefended model.
        config: the mitigations' settings.
        stop: checked between steps.
        shadows: train shadows alike?
    """
    path = kept_at(training, bench, recipe, config, shadows=shadows)
    if path is not None and config.reuse != "no" and (kept := _read(path)) is not None:
        return kept
    if config.reuse == "force":
        raise UserError(f"reuse=force: {training} of seed {bench.seed} is not in the store={config.store}; allowed: auto or no")
    models = models_of(bench.plan, shadows=shadows)
    start = time.perf_counter()
    asked, private, epochs = _train(training, models, bench, recipe, config, stop)
    seconds = (time.perf_counter() - start) / len(models) if not asked.reused else float("nan")  # reading is not training
    found = _ask(asked, private, bench, config, stop, seconds=seconds, epochs=epochs)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        values = {item.name: np.asarray(getattr(found, item.name)) for item in fields(found)}
        write_npz(path, values)
    return found


def kept_at(training: str, bench: Bench, recipe: Recipe, config: MitigateConfig, *, shadows: bool) -> Path | None:
    """The file that keeps a rung: its name is a digest of all that its content depends on. None where nothing is kept."""
    if config.store in ("", "none"):
        return None
    names = {
        "l2": ("l2",), "dropout": ("dropout",), "label_smoothing": ("label_smoothing",), "adversarial": ("strength",),
        "adversarial_tuned": ("strength",),
        "dp": (
            "target_epsilon", "noise_multiplier", "delta", "clip_norm", "clipping", "private_batch_size", "private_learning_rate",
            "private_epochs",
        ),
    }.get(training, ())  # fmt: skip
    content = {
        "format": FORMAT, "training": training, "data": bench.data.digest, "plan": bench.plan.digest, "recipe": recipe.to_dict(),
        "seed": bench.seed, "shadows": shadows, "perturbed": config.perturbed, "settings": {name: getattr(config, name) for name in names},
        "versions": versions(),
        "parts": [hashlib.sha256(part.tobytes()).hexdigest() for part in (bench.population, bench.validation, bench.reference)],
    }  # fmt: skip
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return Path(config.store) / "mitigate" / f"{training}-s{bench.seed}-{digest[:16]}.npz"


def _read(path: Path) -> Defended | None:
    """What is kept, or None where there is nothing sound."""
    if not path.exists():
        return None
    try:
        arrays = read_npz(path)
        plain = {name: arrays[name].item() for name in ("seconds", "epsilon", "delta", "noise_multiplier", "epochs")}
        return Defended(**{**arrays, **plain})
    except (UserError, KeyError, TypeError, ValueError):
        return None  # damaged or of another make: it is trained anew


def _train(
    training: str, models: Sequence[int], bench: Bench, recipe: Recipe, config: MitigateConfig, stop: StopFlag
) -> tuple[Fleet, Any, int]:
    """The trained models, the privacy plan of DP-SGD, and the epochs."""
    by_rung: dict[str, dict[str, Any]] = {
        "l2": {"l2": config.l2}, "dropout": {"dropout": config.dropout}, "label_smoothing": {"label_smoothing": config.label_smoothing},
        "fewer_epochs": {"epochs": max(1, recipe.epochs // 4)},
    }  # fmt: skip
    changes = by_rung.get(training, {})
    if training == "early_stopping":
        changes = {"epochs": best_epoch(bench, recipe, stop)}
    if training in ("adversarial", "adversarial_tuned", "dp"):
        return _loop(training, models, bench, recipe, config, stop)
    changed = dataclasses.replace(recipe, **changes)
    members = [bench.plan.members(model) for model in models]
    fleet = train(bench.data, members, changed, _seeds(models, bench), config, stop, label=f"{training}, seed {bench.seed}")
    return fleet, None, changed.epochs


def _seeds(models: Sequence[int], bench: Bench) -> list[int]:
    return [seeds.integer(bench.seed, "model", model) for model in models]


def best_epoch(bench: Bench, recipe: Recipe, stop: StopFlag) -> int:
    """The epoch of least loss on the validation records, seen on one training of the target; shadows stop there as well."""
    from memberscope.predictions import Predictions
    from memberscope.signals import loss_nats
    from memberscope.training.keras.fit import fit, predictor, to_tensor

    data, seed = bench.data, _seeds([TARGET], bench)[0]
    model = recipe.build(input_shape=data.shape, classes=data.classes, seed=seed)
    x, losses = to_tensor(data.x), []
    predict = predictor(model, x, scale=data.scale)
    labels, nobody = data.y[bench.validation], np.arange(len(bench.validation)) < 1

    def after_epoch(epoch: int) -> None:
        stop.check()
        losses.append(float(loss_nats(Predictions(logits=predict(bench.validation), labels=labels, member=nobody)).mean()))

    fit(
        model, x, data.y, bench.plan.members(TARGET), scale=data.scale, epochs=recipe.epochs, batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate, seed=seed, after_epoch=after_epoch, between_steps=lambda steps: stop.check(),
    )  # fmt: skip
    return max(1, int(np.argmin(losses)))


def _loop(
    training: str, models: Sequence[int], bench: Bench, recipe: Recipe, config: MitigateConfig, stop: StopFlag
) -> tuple[Fleet, Any, int]:
    from memberscope.training.keras.fit import to_tensor
    from memberscope.training.keras.fleet import Fleet

    data, plan, x = bench.data, bench.plan, to_tensor(bench.data.x)
    start: Fleet | None = None
    epochs = recipe.epochs
    if training == "adversarial_tuned":
        members = [plan.members(model) for model in models]
        start = train(data, members, recipe, _seeds(models, bench), config, stop, label=f"undefended, seed {bench.seed}")
        epochs = max(1, recipe.epochs // 4)
    if training == "dp" and config.private_epochs != "auto":
        epochs = int(config.private_epochs)
    done: list[Any] = []
    private: Any = None
    with Progress(epochs * len(models), f"{training}, seed {bench.seed}", unit="epoch") as progress:

        def after_epoch(epoch: int) -> None:
            stop.check()
            progress.advance(int(epoch > 0))

        for place, (model, seed) in enumerate(zip(models, _seeds(models, bench), strict=True)):
            net = recipe.build(input_shape=data.shape, classes=data.classes, seed=seed) if start is None else start.model(place)
            common = {
                "scale": data.scale, "epochs": epochs, "seed": seed, "after_epoch": after_epoch, "between_steps": lambda s: stop.check(),
            }  # fmt: skip
            if training == "dp":
                training_record = _private(net, x, data, plan.members(model), config, common)
                private = private or training_record.privacy
            else:
                _adversarial(
                    net, x, data, plan.members(model), bench.reference, recipe, config, common, tuned=start is not None
                )
            done.append(net)
    fleet = Fleet(
        recipe=recipe, classes=data.classes, input_shape=data.shape, weights=[net.get_weights() for net in done], curves={}, reused=0,
        trained=len(done),
    )  # fmt: skip
    return fleet, private, epochs


def number(value: float | str) -> float | None:
    """A setting as a number; None for ``none`` and ``auto``."""
    return None if value in ("none", "auto") else float(value)


def promised(bench: Bench, recipe: Recipe, config: MitigateConfig) -> PrivacyPlan:
    """What DP-SGD will promise for the target; UserError, before anything is trained, for an epsilon that no noise reaches.

    ``delta=auto`` is set by how many members a model has on average, not by one seed's coin flips, so that all seeds share it.
    """
    from memberscope.training.accounting import default_delta, plan_privacy

    epochs = recipe.epochs if config.private_epochs == "auto" else int(config.private_epochs)
    delta = number(config.delta)
    return plan_privacy(
        members=len(bench.plan.members(TARGET)), epochs=epochs, batch_size=config.private_batch_size,
        noise_multiplier=number(config.noise_multiplier), target_epsilon=number(config.target_epsilon),
        delta=default_delta(len(bench.plan.records) // 2) if delta is None else delta,
    )  # fmt: skip


def _private(net: Any, x: Any, data: LabeledData, members: Index, config: MitigateConfig, common: dict[str, Any]) -> Any:
    from memberscope.training.keras.private import fit_private

    return fit_private(
        net, x, data.y, members, batch_size=config.private_batch_size, learning_rate=config.private_learning_rate,
        clip_norm=config.clip_norm, noise_multiplier=number(config.noise_multiplier), target_epsilon=number(config.target_epsilon),
        delta=number(config.delta), clipping=cast("Clipping", config.clipping), **common,
    )  # fmt: skip


def _adversarial(
    net: Any, x: Any, data: LabeledData, members: Index, reference: Index, recipe: Recipe, config: MitigateConfig,
    common: dict[str, Any], *, tuned: bool,
) -> None:  # fmt: skip
    from memberscope.training.keras.adversarial import fit_adversarial

    fit_adversarial(
        net, x, data.y, members, reference, strength=config.strength, batch_size=recipe.batch_size, learning_rate=recipe.learning_rate,
        warm_up_steps=200 if tuned else 0, **common,
    )  # fmt: skip


def _ask(
    asked: Fleet, private: Any, bench: Bench, config: MitigateConfig, stop: StopFlag, *, seconds: float, epochs: int
) -> Defended:
    data, x = bench.data, bench.data.x[bench.plan.records]
    said = np.empty((len(x), config.perturbed), dtype=np.int64)
    for number, copy in enumerate(queries.perturbations(x, config.perturbed, seed=bench.seed)):
        stop.check()
        said[:, number] = asked.logits(copy, models=[0])[0].argmax(axis=1)
    nan = float("nan")
    return Defended(
        logits=asked.logits(x), population=asked.logits(data.x[bench.population]),
        reference=asked.logits(data.x[bench.reference], models=[0])[0], perturbed=said, seconds=seconds,
        epsilon=private.epsilon if private else nan, delta=private.delta if private else nan,
        noise_multiplier=private.noise_multiplier if private else nan,
        epsilons=np.asarray(private.epsilons if private else (), dtype=np.float64), epochs=epochs,
    )  # fmt: skip
