"""Resolves a configuration into the data, sizes, label noise, trainer, execution and attacks that it requests; all studies share this."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from memberscope.attacks import registry
from memberscope.audit.request import AuditRequest, Slices, check_grouped, make_request
from memberscope.audit.run import MIN_RECORDS
from memberscope.config import AuditConfig, CanaryConfig, FleetConfig, ModelConfig, RecordsConfig, TrainConfig
from memberscope.config.base import Config
from memberscope.config.shared import BUILT_IN_TRAINER
from memberscope.datasets import LabeledData, duplicates, is_file, load_dataset
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.plans.canaries import CanaryRequest
from memberscope.plans.shadow import LEAST_HALF
from memberscope.plans.split import Index, replace_labels
from memberscope.plans.target import TargetSettings, noise_share
from memberscope.slices import check_names
from memberscope.studies.seed_check import SeedCheck, check_fleet
from memberscope.training import registry as registry_of_trainers
from memberscope.training.query import Query
from memberscope.training.recipe import Recipe
from memberscope.training.store import Store
from memberscope.training.trainer import DataFacts, Execution, Fleet, Trainer, TrainingJob, jobs_for

# ---------------------------------------------------------------------------------------------------------------------------- data


def load_data(
    config: RecordsConfig, *, name: str = "", option: str = "dataset", each_once: bool = False, as_is: bool = False
) -> LabeledData:
    """The data set that a configuration names, with all of its classes; records are kept as they are for a trainer from outside.

    Args:
        config: names the data set, its folders, and what is done about copies.
        name: the name of another data set to load instead; it has no groups.
        option: the option that names the data set, for errors.
        each_once: raise UserError if copies were kept, for a study whose plan needs each record to occur once.
        as_is: keep the records as they are whatever the trainer, for models that are trained elsewhere.
    """
    trainer = getattr(config, "trainer", "")
    if trainer:
        registry_of_trainers.check_name(trainer)  # first, since it decides how records are read
    path = name or config.dataset
    with _blaming(option, path):
        data = load_dataset(
            path, data_dir=config.data_dir, archive_dir=config.archive_dir, duplicates=config.duplicates,
            as_is=as_is or ":" in trainer, label=config.label, group="" if name else config.group,
            na_values=tuple(word.strip() for word in config.na_values.split(",") if word.strip()),
        )  # fmt: skip
    if each_once:
        duplicates.check_each_once(data)
    return dataclasses.replace(data, keyed=is_keyed(config, path))


@contextmanager
def _blaming(option: str, path: str) -> Iterator[None]:
    """Name the option that gave the path in a UserError about a data set, which says ``dataset`` of its own."""
    try:
        yield
    except UserError as error:
        error.args = tuple(
            f"{option}{part.removeprefix('dataset')}" if str(part).startswith(f"dataset={path}") else part
            for part in error.args
        )
        raise


def is_keyed(config: RecordsConfig, path: str = "") -> bool:
    """Whether splits of a data set, by default the configuration's own, depend on the user's key; see `memberscope.plans.keyed`."""
    return config.split == "key" or (config.split == "auto" and is_file(path or config.dataset))


def choose_classes(data: LabeledData, config: RecordsConfig) -> LabeledData:
    """The data of the classes that a configuration requests; random classes are drawn from its seed."""
    seed: int = getattr(config, "seed", 0)
    return data.choose(config.classes, choice=config.class_choice, seed=seed)


def with_noise(data: LabeledData, config: RecordsConfig, sides: Mapping[str, Index], *, seed: int) -> LabeledData:
    """The data with the configured share of labels replaced on each side."""
    share = noise_share(data, config)
    return data.with_labels(replace_labels(data.y, sides, share=share, classes=data.classes, seed=seed))


def members_of(data: LabeledData, config: RecordsConfig, *, parts: int) -> int:
    """Members of each model of a fleet: as configured, or the data set's usual number but at most 1 / `parts` of the records that do not
    become canaries.

    Raises:
        UserError: the canaries leave fewer than the least number of members that a fleet may have, which there would be without them.
    """
    if config.members != "auto":
        return int(config.members)
    reserved = getattr(config, "reserved", 0)
    largest = (len(data) - reserved) // parts
    if largest < LEAST_HALF <= len(data) // parts:
        raise UserError(
            f"canaries={reserved}: too many; the {len(data)} records of the data set would leave fewer than {LEAST_HALF} members for each "
            f"model, and {parts} times as many are needed; allowed: at most {len(data) - parts * LEAST_HALF}, or canary_kind=noise"
        )
    usual = data.sizes.members if data.sizes else 0
    return min(usual, largest) if usual else largest


def canary_request(
    config: RecordsConfig, canaries: CanaryConfig, data: LabeledData, *, as_is: bool = False
) -> CanaryRequest | None:
    """The canaries that a configuration requests; None for none.

    Args:
        config: names the data set and its folders.
        canaries: the options of canaries.
        data: the data set, of which another one's records must have the shape.
        as_is: see `load_data`.

    Raises:
        UserError: another data set that cannot be read, that is the data set itself, or whose records have another shape.
    """
    if not canaries.canaries:
        return None
    other = None
    if canaries.canary_data:
        if canaries.canary_data == config.dataset:
            raise UserError(
                f"canary_data={canaries.canary_data}: the data set itself; allowed: another one, or canary_kind=natural"
            )
        other = dataclasses.replace(
            load_data(config, name=canaries.canary_data, option="canary_data", as_is=as_is), name=canaries.canary_data
        )
        if data.table is None and other.table is None and other.shape != data.shape:
            raise UserError(
                f"canary_data={other.name}: records of shape {other.shape}; allowed: {data.shape}, the shape of the records of {data.name}"
            )
    return CanaryRequest(kind=canaries.canary_kind, count=canaries.canaries, copies=canaries.copies, other=other)


# ------------------------------------------------------------------------------------------------------------------ trainer, fleets


def trainer_for(model: ModelConfig, train: TrainConfig) -> Trainer:
    """The trainer that configurations request."""
    if registry_of_trainers.is_outside(model.trainer):
        _check_options(model, train, kinds=(ModelConfig, TrainConfig))
    if registry_of_trainers.is_builder(model.trainer):
        _check_options(model, train, kinds=(ModelConfig,))
    return registry_of_trainers.make(model.trainer, Recipe.of(model, train), model.params)


def _check_options(model: ModelConfig, train: TrainConfig, *, kinds: Sequence[type[Config]]) -> None:
    """Raise UserError for an option of `kinds`, which are the built-in models', that was set together with a user's own function, which has
    parameters instead.
    """
    own = {"trainer", "params", "check_seed"}
    names = [item.name for kind in kinds for item in dataclasses.fields(kind) if item.name not in own]
    for config in (model, train):
        for item in dataclasses.fields(config):
            value = getattr(config, item.name)
            if item.name in names and value != item.default:
                raise UserError(
                    f"{item.name}={value}: an option of the built-in models, which trainer={model.trainer} does not read; "
                    f"allowed: params={item.name}={value}"
                )


def trainer_of(recipe: Recipe) -> Trainer:
    """The built-in trainer of a recipe."""
    return registry_of_trainers.make(BUILT_IN_TRAINER, recipe)


def facts_of(data: LabeledData, *, members: int | None = None) -> DataFacts:
    """The facts about the data that a trainer checks before it accepts them."""
    return DataFacts(shape=data.shape, classes=data.classes, members=members, table=data.table)


def open_store(config: FleetConfig) -> Store | None:
    """The store of finished models, or None if nothing is to be kept; UserError if its models are demanded nevertheless."""
    if config.store in ("", "none"):
        if config.reuse == "force":
            raise UserError(
                f"reuse=force: store={config.store} keeps no models; allowed: a folder that an earlier run has written, or reuse=auto"
            )
        return None
    return Store(Path(config.store), reuse=config.reuse)


def train_fleet(
    trainer: Trainer, data: LabeledData, members: Sequence[Index], seeds: Sequence[int], config: FleetConfig, stop: StopFlag,
    *, label: str = "models", queries: Sequence[Query] = (),
) -> Fleet:  # fmt: skip
    """Train a model on each index set as a configuration requests; models that the store has are read from it.

    `queries` are all that the study will ask the models, so that a trainer that cannot keep its models answers them right after training.
    """
    return trainer.train(jobs_for(data, members, seeds), execution(config, stop, label=label, queries=queries))


def execution(config: FleetConfig, stop: StopFlag, *, label: str, queries: Sequence[Query] = ()) -> Execution:
    """How a configuration has jobs executed; for the arguments see `train_fleet`."""
    workers = None if config.workers == "auto" else int(config.workers)
    return Execution(
        store=open_store(config), workers=workers, scheduler=config.scheduler, devices=_devices(config), queries=tuple(queries),
        label=label, stop=stop,
    )  # fmt: skip


def check_seed(
    fleet: Fleet | None, trainer: Trainer, job: TrainingJob, queries: Sequence[Query], config: FleetConfig, stop: StopFlag
) -> SeedCheck:
    """Train the first model of a fleet a second time, where the others were trained, and compare its outputs; nothing is stored.

    Args:
        fleet: the models; None if none was trained yet, and the first model is then trained twice.
        trainer: trained them.
        job: the job of the first.
        queries: what the models were asked.
        config: where models are trained.
        stop: checked between steps.
    """
    run = Execution(
        workers=1, scheduler=config.scheduler, devices=_devices(config), queries=tuple(queries), label="first model, again", stop=stop
    )  # fmt: skip
    first = fleet or trainer.train([job], dataclasses.replace(run, label="first model"))
    return check_fleet(first, trainer, job, run)


def _devices(config: FleetConfig) -> tuple[str, ...]:
    return tuple(name.strip() for name in config.devices.split(",") if name.strip())


# ------------------------------------------------------------------------------------------------------- one target and its audit


def audit_request(config: AuditConfig, *, classes: int) -> AuditRequest:
    """The audit that a configuration requests for one model without shadows.

    Raises:
        UserError: an unknown engine, attack or slice, or only attacks that need shadow models.
    """
    check_grouped(config.engine, grouped=bool(getattr(config, "group", "")))
    slices: Slices = "all"
    if config.slices != "auto":
        check_names(config.slices, classes=classes)
        slices = f"entire,{config.slices}"  # every summary starts with all records
    elif config.engine == "tfp":
        slices = {"threshold": "all", "trained": "entire"}
    request = make_request(
        attacks=config.attacks, primary=config.primary, slices=slices, engine=config.engine, group_scores=config.group_scores
    )
    present = {"target", "loss_trace"} if config.loss_trace else {"target"}
    if not any(registry.get(name).needs <= present for name in request.attacks):
        raise UserError(
            f"attacks={config.attacks}: all need shadow models or a loss trace; allowed here: all, tfp, threshold, trained, trace "
            "(with loss_trace=yes), or some of them"
        )
    request.check_primary(present)
    return request


def check_sides(target: TargetSettings) -> None:
    """Raise UserError, before any training, if a side has fewer records than an audit needs."""
    members, nonmembers = target.sizes.members, target.sizes.nonmembers
    reserved = 0 if target.canaries is None else target.canaries.reserved
    if members < MIN_RECORDS and members + reserved > MIN_RECORDS:
        raise UserError(
            f"canaries={reserved}: too many; {members} members are left, and an audit needs {MIN_RECORDS}; allowed: at most "
            f"{reserved + members - MIN_RECORDS}, or canary_kind=noise"
        )
    for name, count in (("members", members), ("nonmembers", nonmembers)):
        if count < MIN_RECORDS:
            raise UserError(f"{name}={count}: too few to be audited; allowed: {MIN_RECORDS} or more")


def check_trainer(trainer: Trainer, target: TargetSettings) -> None:
    """Raise UserError if the trainer does not accept the target's data, or if a batch would be larger than the set of members."""
    trainer.check(facts_of(target.data))
    batch = trainer.params.get("batch_size") if "epochs" in trainer.capabilities else None
    if isinstance(batch, int) and batch > target.sizes.members:
        raise UserError(
            f"batch_size={batch}: more than the {target.sizes.members} members; allowed: 1 to {target.sizes.members}"
        )
