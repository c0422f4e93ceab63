"""Entry point `plan`: write the index sets of a shadow study as plain files, so that its models can be trained anywhere."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from memberscope import queries
from memberscope.config.outside import PlanStudyConfig
from memberscope.datasets import LabeledData
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.plans.on_disk import CANARIES, PlanFolder
from memberscope.plans.split import Index
from memberscope.studies import setup
from memberscope.studies.data_notes import log_reading, with_reading
from memberscope.studies.result import StudyResult
from memberscope.studies.shadow import draw
from memberscope.studies.shadow.canaries import plant_for
from memberscope.tracking import Tracker


def run(config: PlanStudyConfig, tracker: Tracker, stop: StopFlag) -> StudyResult:
    """Draw the plan and write its folder; nothing is trained.

    Raises:
        UserError: before anything is written, for data that cannot be read, sizes that do not fit, or a folder that holds something else.
    """
    data, made = draw_plan(config)
    folder = Path(config.output)
    stop.check()
    with stop.patient():  # half a folder would have to be removed by hand
        made.write(folder)
    notes = log_reading(data, tracker)
    plan, per_model = made.plan, made.plan.member.sum(axis=1)
    sizes = str(per_model.min()) if per_model.min() == per_model.max() else f"{per_model.min()} to {per_model.max()}"
    table = (
        f"{plan.n_models} models ({len(plan.targets)} of them targets), design {plan.design}, {sizes} members each\n"
        f"{len(plan.records):,} records and {len(plan.population):,} of a population, of {len(data):,} in {data.name}; "
        f"{data.classes} classes\nplan digest {made.digest}"
    )
    answer = [
        f"The plan is in {folder}; {folder / 'plan.json'} describes the outputs to return.",
        f"When the models' outputs are in a folder: memberscope shadow --plan {folder} --outputs FOLDER",
    ]
    if not np.array_equal(made.rows, np.arange(len(made.rows))):
        answer.insert(
            1, f"Positions count the {len(data):,} records that are left: record i is row rows[i] of the original (rows.npy)."
        )
    if made.canaries is not None:
        answer.insert(
            1,
            f"Canaries: {len(made.canaries)} ({made.canaries.kind}) are in {folder / CANARIES}, with lists of those that each "
            "model is trained on.",
        )
    if made.noise:
        answer.insert(1, f"Labels: {made.noise:.0%} were replaced at random; train with those in labels.npy.")
    return with_reading(StudyResult(table=table, answer="\n".join(answer)), notes)


def draw_plan(config: PlanStudyConfig) -> tuple[LabeledData, PlanFolder]:
    """The data set with its labels after noise, and the plan that a configuration requests.

    Raises:
        UserError: data that cannot be read, copies that were kept, sizes that do not fit, or canaries that cannot be drawn.
    """
    whole = setup.load_data(config, each_once=True, as_is=True)
    chosen = setup.choose_classes(whole, config)
    plan = draw.plan_for(chosen, config)
    noise, data = draw.with_noise(chosen, plan, config)
    wanted, planted = setup.canary_request(config, config, chosen, as_is=True), None
    if wanted is not None:
        planted = plant_for(wanted, chosen, data, plan, noise=noise, seed=config.seed)
    shifts = queries.SHIFTS[: config.queries] if config.queries > 1 else ()
    if shifts and not queries.is_image(data.x):
        raise UserError(
            f"queries={config.queries}: records of shape {data.shape} are not images, and only images have shifted copies; "
            "allowed: 1"
        )
    return data, PlanFolder(
        plan=plan, labels=data.y, seeds=np.array(draw.model_seeds(plan, config.seed), dtype=np.int64), rows=rows_of(whole, chosen, config),
        dataset=config.dataset, name=data.name, source=data.source, data_digest=data.digest, class_names=data.class_names,
        shape=data.shape, noise=noise, shifts=tuple(shifts), table=data.table, groups=data.groups, options=drawn_from(config),
        canaries=None if planted is None else planted.planted.canaries, canary_member=None if planted is None else planted.member,
    )  # fmt: skip


def rows_of(whole: LabeledData, chosen: LabeledData, config: PlanStudyConfig) -> Index:
    """(n,) the place of each record among all that were read: before copies and other classes were left out."""
    places: Index = np.arange(len(whole))
    if whole.copies:
        every = setup.load_data(dataclasses.replace(config, duplicates="keep"), as_is=True)
        if every.same is not None:
            places = np.flatnonzero(every.same == np.arange(len(every))).astype(np.int64)
    names = set(chosen.class_names)
    kept = [number for number, name in enumerate(whole.class_names) if name in names]
    return places[np.isin(whole.y, kept)]


def drawn_from(config: PlanStudyConfig) -> dict[str, int | float | str]:
    """The options that decide the plan, with absolute paths; not those of this machine or of the output."""
    own = {"output", "data_dir", "archive_dir"}
    options = {name: value for name, value in config.to_dict().items() if name not in own}
    for name in ("dataset", "label", "group", "canary_data"):
        if os.path.isfile(str(options[name])):
            options[name] = os.path.abspath(str(options[name]))
    return options
