"""Trains the models of a mitigation and collects the outputs that its audit needs; both are kept in a file, so that a study can resume."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memberscope import queries, seeds
from memberscope.audit.bounds_table import Records
from memberscope.config.mitigation import MitigateConfig
from memberscope.datasets import LabeledData
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.npz import read_npz, write_npz
from memberscope.plans.shadow import ShadowPlan
from memberscope.plans.split import Index
from memberscope.progress import Progress
from memberscope.secret import make_private
from memberscope.studies import setup
from memberscope.studies.fleet_canaries import FleetCanaries
from memberscope.studies.shadow.evidence import can_be_perturbed
from memberscope.training.query import Query
from memberscope.training.store import Store
from memberscope.training.trainer import Fleet, Form, Outputs, PrivateSettings, Trainer, Training, TrainingJob, TrainsDefended

if TYPE_CHECKING:
    from memberscope.training.accounting import PrivacyPlan

FORMAT = 2  # version of the kept files; to be raised when a change of training code or queries changes results
TARGET = 0
WARM_UP_STEPS = 200  # of the attack, before it fine-tunes a trained model


@dataclass(frozen=True, kw_only=True, eq=False)
class MitigatedModels:
    """The outputs of the models trained under one mitigation.

    Attributes:
        form: whether outputs are ``logits`` or ``probs``.
        outputs: (k, n, classes) for the plan's records: of the target, then of its shadows, if they were trained.
        population: (k, p, classes) for the population.
        reference: (r, classes) of the target for the defender's reference records.
        perturbed: (n, copies) classes that the target predicts for perturbed copies of the plan's records; no copies of records that have
            none.
        seconds: of training per model; NaN if some models came from the store. For fine-tuning, without the training that it starts from.
        epsilon, delta, noise_multiplier: of DP-SGD; NaN for other mitigations.
        epsilons: (epochs,) epsilon by epoch of DP-SGD; empty for other mitigations.
        epochs: number of epochs trained; 0 if the trainer has no such parameter.
        canaries: (k, m, classes) for the canaries; m is 0 if there are none.
        canaries_perturbed: (m, copies) classes that the target predicts for perturbed copies of the canaries.
        without: (n, classes) for the plan's records, of the target trained without the canaries; no records if it was not trained.
    """

    form: Form
    outputs: Outputs
    population: Outputs
    reference: Outputs
    perturbed: NDArray[np.int64]
    seconds: float
    epsilon: float
    delta: float
    noise_multiplier: float
    epsilons: NDArray[np.float64]
    epochs: int
    canaries: Outputs = field(default_factory=lambda: np.empty((0, 0, 0)))
    canaries_perturbed: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 0), dtype=np.int64))
    without: Outputs = field(default_factory=lambda: np.empty((0, 0)))


@dataclass(frozen=True, kw_only=True, eq=False)
class SeedSplit:
    """The data and plan of one seed, and the records outside the plan: the population, validation, and the defender's reference.

    With `canaries`, `data` is the data set with the canaries behind its own records.
    """

    data: LabeledData
    plan: ShadowPlan
    population: Index
    validation: Index
    reference: Index
    seed: int
    canaries: FleetCanaries | None = None

    def members(self, model: int) -> Index:
        """Positions in `data` of all that a model is trained on: the plan's members, and all copies of its canaries."""
        own = self.plan.members(model)
        return own if self.canaries is None else np.concatenate([own, self.canaries.members(model)])

    @property
    def one_record(self) -> dict[Records, bool]:
        """Whether a coin of the plan, and of the canaries, decides on one record: not on a group of them, nor on several copies."""
        return {
            "ordinary": self.data.groups is None,
            "canaries": self.canaries is not None and self.canaries.planted.canaries.tests_one_record,
        }

    @property
    def fewest_members(self) -> int:
        """The size of the smallest training set, canaries included."""
        return min(len(self.members(model)) for model in range(self.plan.n_models))

    @property
    def usual_members(self) -> int:
        """The expected size of a training set, which no coin decides: half of the plan's records and of all copies of the canaries."""
        planted = 0 if self.canaries is None else len(self.canaries.labels) * self.canaries.planted.canaries.copies
        return (len(self.plan.records) + planted) // 2


def models_of(plan: ShadowPlan, *, shadows: bool) -> list[int]:
    """The models to train: the target and, if `shadows`, its shadows; never its twin."""
    return [TARGET, *(plan.shadows_of(TARGET).tolist() if shadows else [])]


def train_mitigated(
    training: str, split: SeedSplit, trainer: Trainer, config: MitigateConfig, stop: StopFlag, *, shadows: bool
) -> MitigatedModels:
    """Train the models of a mitigation and collect their outputs, or read the file that an earlier run of the same settings kept.

    Args:
        training: ``undefended``, one of `memberscope.studies.mitigate.mitigations.TRAINING`, or the name of a training with changed
            parameters, which `trainer` has.
        split: the seed's data and plan.
        trainer: trains the undefended model, or the one with changed parameters.
        config: the settings of the mitigations.
        stop: checked between steps.
        shadows: whether to train shadows alike.
    """
    path = kept_at(training, split, trainer, config, shadows=shadows)
    if path is not None and config.reuse != "no" and (kept := _read(path)) is not None:
        return kept
    if config.reuse == "force":
        config = replace(config, reuse="auto")  # `announce` has compared the settings; what is missing is trained
    models = models_of(split.plan, shadows=shadows)
    start = time.perf_counter()
    fleet, private, epochs = _train(training, models, split, trainer, config, stop)
    seconds = (time.perf_counter() - start) / len(models) if not fleet.reused else float("nan")  # reading is not training
    found = _query(fleet, private, split, config, stop, seconds=seconds, epochs=epochs)
    if split.canaries is not None and config.canary_cost:
        alone, _, _ = _train(training, [TARGET], replace(split, canaries=None), trainer, config, stop)
        found = replace(found, without=alone.outputs(split.data.x[split.plan.records])[0])
    if path is not None:
        make_private(path.parent)
        names = {item.name: item.name for item in fields(found) if item.name != "form"} | {"outputs": found.form}
        write_npz(path, {kept: np.asarray(getattr(found, name)) for name, kept in names.items()})
    return found


def announce(training: str, split: SeedSplit, trainer: Trainer, config: MitigateConfig, *, shadows: bool) -> None:
    """Write the settings of a mitigation's models beside their file, before anything is trained, for people and for ``reuse="force"``.

    Raises:
        UserError: with ``reuse="force"``, there is neither a file of these models nor an announcement of the same settings; or the folder
            cannot be written.
    """
    path = kept_at(training, split, trainer, config, shadows=shadows)
    store = setup.open_store(config)
    if path is None or store is None or (config.reuse == "force" and _read(path) is not None):
        return
    content = facts_of(training, split, trainer, config, shadows=shadows)
    Store(path.parent, reuse=config.reuse).plan(f"{training}-s{split.seed}", content, ())


def facts_of(training: str, split: SeedSplit, trainer: Trainer, config: MitigateConfig, *, shadows: bool) -> dict[str, Any]:
    """Everything that the models of a mitigation, and the outputs that are kept of them, depend on."""
    names = {
        "l2": ("l2",), "dropout": ("dropout",), "label_smoothing": ("label_smoothing",), "adversarial": ("strength",),
        "adversarial_tuned": ("strength",),
        "dp": (
            "target_epsilon", "noise_multiplier", "delta", "clip_norm", "clipping", "private_batch_size", "private_learning_rate",
            "private_epochs",
        ),
    }.get(training, ())  # fmt: skip
    return {
        "format": FORMAT, "training": training, "data": split.data.digest, "plan": split.plan.digest,
        "seed": split.seed, "shadows": shadows, "perturbed": config.perturbed, "settings": {name: getattr(config, name) for name in names},
        **trainer.signature(),
        "parts": [hashlib.sha256(part.tobytes()).hexdigest() for part in (split.population, split.validation, split.reference)],
        **({} if split.canaries is None else {"canaries": split.canaries.digest, "canary_cost": config.canary_cost}),
    }  # fmt: skip


def kept_at(training: str, split: SeedSplit, trainer: Trainer, config: MitigateConfig, *, shadows: bool) -> Path | None:
    """The file of a mitigation's models, named by a digest of everything that its content depends on; None if nothing is to be kept."""
    if config.store in ("", "none"):
        return None
    content = facts_of(training, split, trainer, config, shadows=shadows)
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return Path(config.store) / "mitigate" / f"{training}-s{split.seed}-{digest[:16]}.npz"


def _read(path: Path) -> MitigatedModels | None:
    """The content of a kept file; None if there is no valid file."""
    if not path.exists():
        return None
    try:
        arrays = read_npz(path)
        plain = {name: arrays[name].item() for name in ("seconds", "epsilon", "delta", "noise_multiplier", "epochs")}
        form: Form = "probs" if "probs" in arrays else "logits"
        values: dict[str, Any] = {**arrays, **plain, "outputs": arrays[form]}
        del values[form]
        return MitigatedModels(form=form, **values)
    except (UserError, KeyError, TypeError, ValueError):
        return None  # damaged, or in another format: the models are trained anew


def _train(
    training: str, models: Sequence[int], split: SeedSplit, trainer: Trainer, config: MitigateConfig, stop: StopFlag
) -> tuple[Fleet, PrivacyPlan | None, int]:
    """The trained models, the privacy plan of DP-SGD, and the number of epochs."""
    by_mitigation: dict[str, dict[str, Any]] = {
        "l2": {"l2": config.l2}, "dropout": {"dropout": config.dropout}, "label_smoothing": {"label_smoothing": config.label_smoothing},
    }  # fmt: skip
    changes = by_mitigation.get(training, {})
    if training == "fewer_epochs":
        changes = {"epochs": max(1, int(trainer.params["epochs"]) // 4)}
    if training == "early_stopping":
        changes = {"epochs": best_epoch(split, trainer, stop)}
    if training in ("adversarial", "adversarial_tuned", "dp"):
        return _loop(training, models, split, trainer, config, stop)
    changed = trainer.with_params(**changes)
    members = [split.members(model) for model in models]
    label = f"{training}, seed {split.seed}"
    fleet = setup.train_fleet(
        changed, split.data, members, _seeds(models, split), config, stop, label=label, queries=declared_queries(split, config)
    )  # fmt: skip
    epochs = changed.params.get("epochs")
    return fleet, None, epochs if isinstance(epochs, int) else 0


def declared_queries(split: SeedSplit, config: MitigateConfig) -> tuple[Query, ...]:
    """All that `_query` asks the models of a mitigation, of which the target is the first."""
    records = split.plan.records
    found = [Query(index=records), Query(index=split.population), Query(index=split.reference, models=(TARGET,))]
    if can_be_perturbed(split.data):
        found.append(Query(index=records, kind="perturbed", copies=config.perturbed, seed=split.seed, models=(TARGET,)))
    if split.canaries is not None:
        rows = split.canaries.planted.rows
        found.append(Query(index=rows))
        if can_be_perturbed(split.data):
            found.append(Query(index=rows, kind="perturbed", copies=config.perturbed, seed=split.seed, models=(TARGET,)))
    return tuple(found)


def _seeds(models: Sequence[int], split: SeedSplit) -> list[int]:
    return [seeds.integer(split.seed, "model", model) for model in models]


def best_epoch(split: SeedSplit, trainer: Trainer, stop: StopFlag) -> int:
    """The epoch with the lowest loss on the validation records, found by training the target once; shadows stop at this epoch too."""
    from memberscope.predictions import Predictions
    from memberscope.signals import loss_nats

    data, losses = split.data, list[float]()
    model = trainer.begin(TrainingJob(data=data, indices=split.members(TARGET), seed=_seeds([TARGET], split)[0]))
    labels, nobody = data.y[split.validation], np.arange(len(split.validation)) < 1

    def after_epoch(epoch: int) -> None:
        stop.check()
        losses.append(
            float(loss_nats(Predictions(logits=model.outputs(split.validation), labels=labels, member=nobody)).mean())
        )

    model.fit(after_epoch=after_epoch, between_steps=lambda steps: stop.check())
    return max(1, int(np.argmin(losses)))


def _loop(
    training: str, models: Sequence[int], split: SeedSplit, trainer: Trainer, config: MitigateConfig, stop: StopFlag
) -> tuple[Fleet, PrivacyPlan | None, int]:
    data = split.data
    start: Fleet | None = None
    epochs = int(trainer.params["epochs"])
    if training == "adversarial_tuned":
        members = [split.members(model) for model in models]
        label = f"undefended, seed {split.seed}"
        start = setup.train_fleet(trainer, data, members, _seeds(models, split), config, stop, label=label)
        epochs = max(1, epochs // 4)
    if training == "dp" and config.private_epochs != "auto":
        epochs = int(config.private_epochs)
    private: PrivacyPlan | None = None
    jobs = [
        TrainingJob(data=data, indices=split.members(model), seed=seed)
        for model, seed in zip(models, _seeds(models, split), strict=True)
    ]
    if isinstance(trainer, TrainsDefended):
        run = setup.execution(config, stop, label=f"{training}, seed {split.seed}")
        if training == "dp":
            return *trainer.train_private(jobs, private_settings(config, epochs=epochs), run), epochs
        warm_up = 0 if start is None else WARM_UP_STEPS
        return (
            trainer.train_adversarial(
                jobs, split.reference, run, strength=config.strength, epochs=epochs, warm_up_steps=warm_up, start=start
            ),
            None,
            epochs,
        )
    done: list[Training] = []
    with Progress(epochs * len(models), f"{training}, seed {split.seed}", unit="epoch") as progress:

        def after_epoch(epoch: int) -> None:
            stop.check()
            progress.advance(int(epoch > 0))

        def between_steps(steps: int) -> None:
            stop.check()

        for place, job in enumerate(jobs):
            net = trainer.begin(job, start=None if start is None else (start, place))
            if training == "dp":
                settings = private_settings(config, epochs=epochs)
                promise = net.fit_private(settings, after_epoch=after_epoch, between_steps=between_steps)
                private = private or promise
            else:
                net.fit_adversarial(
                    split.reference, strength=config.strength, epochs=epochs, warm_up_steps=0 if start is None else WARM_UP_STEPS,
                    after_epoch=after_epoch, between_steps=between_steps,
                )  # fmt: skip
            done.append(net)
    return trainer.fleet_of(done), private, epochs


def private_settings(config: MitigateConfig, *, epochs: int) -> PrivateSettings:
    """The settings of DP-SGD that a configuration requests."""
    return PrivateSettings(
        batch_size=config.private_batch_size, learning_rate=config.private_learning_rate, clip_norm=config.clip_norm,
        noise_multiplier=number(config.noise_multiplier), target_epsilon=number(config.target_epsilon), delta=number(config.delta),
        clipping=config.clipping, epochs=epochs,
    )  # fmt: skip


def number(value: float | str) -> float | None:
    """A setting as a number; None for ``none`` and ``auto``."""
    return None if value in ("none", "auto") else float(value)


def promised(split: SeedSplit, trainer: Trainer, config: MitigateConfig) -> PrivacyPlan:
    """The guarantee that DP-SGD will give the target; UserError for an epsilon that no noise reaches. Nothing is trained.

    ``delta=auto`` follows from the average number of a model's members, not from one seed's coin flips, so that all seeds share it.
    """
    from memberscope.training.accounting import default_delta, plan_privacy

    epochs = int(trainer.params["epochs"]) if config.private_epochs == "auto" else int(config.private_epochs)
    delta = number(config.delta)
    return plan_privacy(
        members=len(split.members(TARGET)), epochs=epochs, batch_size=config.private_batch_size,
        noise_multiplier=number(config.noise_multiplier), target_epsilon=number(config.target_epsilon),
        delta=default_delta(split.usual_members) if delta is None else delta,
    )  # fmt: skip


def check_private(split: SeedSplit, trainer: Trainer, config: MitigateConfig) -> None:
    """Raise UserError for a model that DP-SGD cannot train, such as one with batch normalization. The model is built, not trained."""
    job = TrainingJob(data=split.data, indices=split.members(TARGET), seed=_seeds([TARGET], split)[0])
    trainer.begin(job).check_private(private_settings(config, epochs=1))


def _query(
    fleet: Fleet,
    private: PrivacyPlan | None,
    split: SeedSplit,
    config: MitigateConfig,
    stop: StopFlag,
    *,
    seconds: float,
    epochs: int,
) -> MitigatedModels:
    data, x = split.data, split.data.x[split.plan.records]
    perturbed = _perturbed(fleet, x, split, config, stop)
    planted: dict[str, Any] = {}
    if split.canaries is not None:
        of_canaries = data.x[split.canaries.planted.rows]
        planted = {
            "canaries": fleet.outputs(of_canaries),
            "canaries_perturbed": _perturbed(fleet, of_canaries, split, config, stop),
        }
    nan = float("nan")
    return MitigatedModels(
        form=fleet.form, outputs=fleet.outputs(x), population=fleet.outputs(data.x[split.population]),
        reference=fleet.outputs(data.x[split.reference], models=[0])[0], perturbed=perturbed, seconds=seconds,
        epsilon=private.epsilon if private else nan, delta=private.delta if private else nan,
        noise_multiplier=private.noise_multiplier if private else nan,
        epsilons=np.asarray(private.epsilons if private else (), dtype=np.float64), epochs=epochs, **planted,
    )  # fmt: skip


def _perturbed(
    fleet: Fleet, x: NDArray[Any], split: SeedSplit, config: MitigateConfig, stop: StopFlag
) -> NDArray[np.int64]:  # fmt: skip
    """(n, copies) classes that the target predicts for perturbed copies of records; no copies of records that have none."""
    copies = config.perturbed if can_be_perturbed(split.data) else 0
    found = np.empty((len(x), copies), dtype=np.int64)
    for number, copy in enumerate(queries.perturbations(x, copies, seed=split.seed)):
        stop.check()
        found[:, number] = fleet.outputs(copy, models=[0])[0].argmax(axis=1)
    return found
