"""Entry point `shadow`: train a fleet, attack several of its models in turn with the others, audit one of them with every attack."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memberscope import plots, seeds, signals
from memberscope.audit import artifacts
from memberscope.audit.canaries import DELTA, log_canaries
from memberscope.audit.log import attack_progress, log_audit, log_headline
from memberscope.audit.promise import OfCanaries, log_bounds, words_of
from memberscope.audit.request import AuditRequest, make_request
from memberscope.audit.run import AuditReport, run_audit
from memberscope.audit.wording import finding, headline_table, markdown, skips
from memberscope.config import groups
from memberscope.config.outside import ShadowStudyConfig, SynthesisConfig
from memberscope.config.shared import BUILT_IN_TRAINER
from memberscope.datasets import LabeledData, duplicates, load_dataset
from memberscope.errors import UserError, nearest
from memberscope.interrupt import StopFlag
from memberscope.metrics.rounding import logged, logged_each
from memberscope.plans.keyed import shown_digest
from memberscope.plans.shadow import ShadowPlan
from memberscope.plans.split import Index
from memberscope.predictions import Predictions
from memberscope.release import parse_release
from memberscope.slices import check_names
from memberscope.studies import setup
from memberscope.studies.curves import by_step
from memberscope.studies.data_notes import log_reading, with_reading
from memberscope.studies.logged_model import log_model, why_no_model
from memberscope.studies.model_page import with_finding
from memberscope.studies.recorder import writes_evidence
from memberscope.studies.result import StudyResult
from memberscope.studies.seed_check import log_check
from memberscope.studies.shadow import canaries, exposure, exposure_log, from_files, over_models, rotation, second_dataset
from memberscope.studies.shadow.draw import model_seeds, plan_for, with_noise
from memberscope.studies.shadow.evidence import (
    FleetOutputs,
    can_be_perturbed,
    declared_queries,
    evidence_fields,
    query_fleet,
    query_target,
)
from memberscope.studies.shadow.page import headline_metrics, over_targets_table, page
from memberscope.studies.synthesize.sets import METHODS, check_can_be_made, make_set, published
from memberscope.studies.trainer_log import log_trainer
from memberscope.tracking import DataInput, Tracker, as_json
from memberscope.training.elsewhere import ElsewhereTrainer
from memberscope.training.query import Query
from memberscope.training.registry import is_outside
from memberscope.training.trainer import Trainer, TrainingJob

if TYPE_CHECKING:
    import pandas as pd

    from memberscope.training.trainer import Fleet

SHOWN = ("auc", "tpr_at_fpr_0_01")


@writes_evidence("shadow")
def run(config: ShadowStudyConfig, tracker: Tracker, stop: StopFlag) -> StudyResult:
    """Run the study; `tracker` is the parent run, with one child run for the audited target and one for all shadows.

    Raises:
        UserError: before any training, for anything that would fail later, except synthetic records that could not be made against the
            target.
        Interrupted: the run was stopped; finished models stay in the store, and everything logged so far stays in the run.
    """
    request = make_request(
        attacks=config.attacks, primary=config.primary, slices=f"entire,{config.slices}", group_scores=config.group_scores
    )  # fmt: skip
    if config.plan:
        return run_on_files(config, request, tracker, stop)
    check_shadow_data(config)
    trainer = setup.trainer_for(config, config)
    trainer.prepare_process()
    data = setup.choose_classes(setup.load_data(config, each_once=True), config)
    check_names(f"entire,{config.slices}", classes=data.classes)
    trainer.check(setup.facts_of(data))
    if config.shadow_data in METHODS:
        check_can_be_made(data, by=f"shadow_data={config.shadow_data}")
    plan, other = plan_for(data, config), second_dataset.load(config, trainer)
    trainer.check(setup.facts_of(data, members=int(plan.member.sum(axis=1).min())))
    to_plant, before_noise = setup.canary_request(config, config, data), data
    # a user's own models show only once they are trained what they offer; the audit then checks the primary attack
    offered = trainer.capabilities | ({"gradients", "losses"} if is_outside(config.trainer) else frozenset())
    request.check_primary(
        evidence_fields(
            data, plan, offered, copies=config.queries, perturbed=config.perturbed, distill_epochs=config.distill_epochs
        )
    )
    (noise, data), given = with_noise(data, plan, config), data.y
    replaced = data.y != given
    if config.shadow_data != "real":
        data, plan = with_made_pool(data, plan, trainer, config, stop)
    planted, without_canaries = None, data
    if to_plant is not None:
        planted = canaries.plant_for(to_plant, before_noise, data, plan, noise=noise, seed=config.seed)
        data = planted.data
    log_plan(data, plan, trainer, noise, config, tracker)
    log_trainer(trainer, tracker)
    notes = log_reading(data, tracker)
    notes += [f"{config.transfer_dataset}: {line}" for line in duplicates.notes(other, {})] if other else []
    asked = declared_queries(
        data, plan, copies=config.queries, perturbed=config.perturbed, seed=config.seed, wanted=request.needs.__contains__
    )
    members = [plan.members(model) for model in range(plan.n_models)]
    if planted is not None:
        members = [np.concatenate([own, planted.members(model)]) for model, own in enumerate(members)]
        asked = (*asked, Query(index=planted.planted.rows))
    fleet = setup.train_fleet(
        trainer, data, members, model_seeds(plan, config.seed), config, stop, queries=asked
    )  # fmt: skip
    check = None
    if config.check_seed:
        job = TrainingJob(data=data, indices=members[0], seed=model_seeds(plan, config.seed)[0])
        check = setup.check_seed(fleet, trainer, job, asked[:1], config, stop)
        log_check(check, tracker)
    outputs = query_fleet(data, plan, fleet, copies=config.queries, stop=stop)
    log_shadows(outputs, tracker)
    report = audit_first(outputs, trainer, request, config, tracker, stop)
    of_canaries = None
    if planted is not None:
        of_canaries = canaries.audit_canaries(planted, outputs, request, trainer, config, stop)
    rotated = rotation.rotated_attacks(request.attacks)
    elsewhere = audit_from_elsewhere(report, other, trainer, config, tracker, stop) if other else None
    means, judged, exposed = rotate_targets(outputs, rotated, config, tracker, stop, replaced=replaced)
    fidelity = None
    if config.fidelity:  # its other shadows may be trained on all that the plan leaves
        fidelity = measure_fidelity(replace(outputs, data=without_canaries), trainer, config, tracker, stop)
    remarks = [check.sentence] if check else []
    remarks += left_out_of_fidelity(data) if config.fidelity else []
    remarks += log_epsilon(outputs, report, of_canaries, tracker)
    result = conclude(config, trainer, outputs, report, elsewhere, means, judged, exposed, fidelity, remarks, tracker)
    return with_reading(result, notes)


def run_on_files(config: ShadowStudyConfig, request: AuditRequest, tracker: Tracker, stop: StopFlag) -> StudyResult:
    """The same study of models that were trained elsewhere, whose outputs are read; see `memberscope.studies.shadow.from_files`."""
    found = from_files.read(config)
    config, outputs, trainer = found.config, found.outputs, ElsewhereTrainer()
    check_names(f"entire,{config.slices}", classes=outputs.data.classes)
    request.check_primary(found.fields)
    warnings = found.warnings()
    for line in warnings:
        print(f"memberscope: warning: {line}", file=sys.stderr, flush=True)
    log_plan(outputs.data, outputs.plan, trainer, found.folder.noise, config, tracker)
    tracker.params(
        {
            "outputs.form": outputs.form,
            "outputs.plan": shown_digest(found.outputs.data, found.folder.digest),
            "outputs.suspects": len(found.swaps.suspects),
        }
    )
    tracker.text(as_json(found.swaps.to_dict()), artifacts.SWAPS)
    notes = log_reading(outputs.data, tracker)
    log_shadows(outputs, tracker)
    report = audit_first(outputs, trainer, request, config, tracker, stop)
    of_canaries = None
    if found.canaries is not None:
        planted, read = found.canaries
        of_canaries = canaries.audit_canaries(planted, outputs, request, trainer, config, stop, read=read)
    means, judged, exposed = rotate_targets(outputs, rotation.rotated_attacks(request.attacks), config, tracker, stop)
    remarks = [*(f"Warning: {line}." for line in warnings), *found.notes, *log_epsilon(outputs, report, of_canaries, tracker)]
    return with_reading(conclude(config, trainer, outputs, report, None, means, judged, exposed, None, remarks, tracker), notes)


def check_shadow_data(config: ShadowStudyConfig) -> None:
    """Raise UserError for unknown shadow data, or a design that cannot use it."""
    if config.shadow_data == "real":
        return
    if not config.shadow_data.endswith(".npz") and config.shadow_data not in METHODS:
        hint = nearest(config.shadow_data, ("real", *METHODS))
        raise UserError(
            f"shadow_data={config.shadow_data}: unknown; allowed: real, {', '.join(METHODS)}, or an .npz file{hint}"
        )
    if config.design != "disjoint":
        raise UserError(
            f"design={config.design}: shadow_data={config.shadow_data} gives shadows a pool of their own; allowed: disjoint"
        )


def with_made_pool(
    data: LabeledData, plan: ShadowPlan, trainer: Trainer, config: ShadowStudyConfig, stop: StopFlag
) -> tuple[LabeledData, ShadowPlan]:
    """The data with synthetic records appended to the real ones, and the plan with these as the shadows' pool.

    They are read from a file, or as many as the real pool had are made against the first target, as `synthesize` does by default.
    """
    pool = plan.records[~plan.block]
    own_trainer = is_outside(config.trainer)
    as_is = own_trainer and config.shadow_data.endswith(".npz")
    if config.shadow_data.endswith(".npz"):
        made = load_dataset(config.shadow_data, duplicates=config.duplicates, as_is=own_trainer)
        duplicates.check_each_once(made)
        x: NDArray[Any] = made.x if own_trainer else made.scaled(np.arange(len(made)))
        y, source = made.y, "; ".join([made.source, *made.notes])
    else:
        target = int(plan.targets[0])
        own = setup.train_fleet(
            trainer, data, [plan.members(target)], [model_seeds(plan, config.seed)[target]], config, stop, label="first target"
        )
        real = None if config.trainer == BUILT_IN_TRAINER else data
        query = published(own, 0, parse_release("none"), seed=config.seed, real=real)
        made_set = make_set(
            config.shadow_data,
            SynthesisConfig(),
            records=len(pool),
            query=query,
            real=data,
            pool=pool,
            seed=config.seed,
            stop=stop,
            resume=climbs_at(data, plan, trainer, config),
        )
        x, y, source = made_set.x, made_set.y, "; ".join([f"made by {config.shadow_data}", *made_set.notes])
    whole = data.extended(x, y, source=source, as_is=as_is)
    if config.shadow_data.endswith(".npz"):
        check_apart(
            whole.x[len(data) :], whole.x[np.concatenate([plan.records[plan.block], plan.population])], config.shadow_data
        )
    return whole, plan.with_pool(np.arange(len(data), len(whole)), whole.y, seed=config.seed)


def climbs_at(data: LabeledData, plan: ShadowPlan, trainer: Trainer, config: ShadowStudyConfig) -> Path | None:
    """The file of the climbs' state, named by everything that determines the target that they query; None if nothing is to be kept."""
    if setup.open_store(config) is None:
        return None
    decides = {name: value for name, value in trainer.signature().items() if name != "versions"}
    makes = json.dumps({**decides, "seed": config.seed}, sort_keys=True)
    return Path(config.store) / "climbs" / f"{data.digest[:12]}-{plan.digest[:12]}-{seeds.integer(config.seed, makes):08x}.npz"


def check_apart(pool: NDArray[Any], ours: NDArray[Any], path: str) -> None:
    """Raise UserError if a file for the shadows holds exact copies of the targets' or the population's records."""
    known = {np.ascontiguousarray(row).tobytes() for row in ours}
    shared = sum(np.ascontiguousarray(row).tobytes() in known for row in pool)
    if shared:
        raise UserError(
            f"shadow_data={path}: {shared} of its {len(pool)} records are the targets' or the population's, which no shadow of "
            "design=disjoint may see; allowed: a file without them"
        )


def log_plan(
    data: LabeledData, plan: ShadowPlan, trainer: Trainer, noise: float, config: ShadowStudyConfig, tracker: Tracker
) -> None:
    """Log the configuration, the resolved parameters and the data sets; the plan itself is named by its digest alone."""
    tracker.text(as_json(groups(config)), artifacts.STUDY)
    resolved: dict[str, Any] = {
        "data.name": data.name, "data.classes": data.classes, "data.digest": shown_digest(data, data.digest), "data.label_noise": noise,
        "data.members": int(plan.member[plan.targets[0]].sum()), "data.records": len(plan.records), "data.population": len(plan.population),
        "plan.design": plan.design, "plan.models": plan.n_models, "plan.shadows": len(plan.shadows_of(int(plan.targets[0]))),
        "plan.targets": len(plan.targets), "plan.coin_flips": plan.coin_flips, "plan.digest": shown_digest(data, plan.digest),
    }  # fmt: skip
    resolved |= trainer.describe()
    tracker.params(resolved)
    tracker.text(as_json(resolved), artifacts.CONFIG)
    for context, index in (("shadow", plan.records), ("population", plan.population)):
        if len(index):
            tracker.data(
                DataInput(
                    name=data.name, context=context, digest=shown_digest(data, data.part_digest(context, index)), source=data.source,
                    shape=(len(index), *data.shape), classes=data.classes,
                )
            )  # fmt: skip


def log_shadows(outputs: FleetOutputs, tracker: Tracker) -> None:
    """Log one child run for all models: a row per model, the training curves as a band."""
    frame = shadow_table(outputs)
    train, test = (name for name in frame.columns[-2:])
    about = (
        f"**All {outputs.plan.n_models} models of the study: mean {train.replace('_', ' ')} {frame[train].mean():.3f}, "
        f"{test.replace('_', ' ')} {frame[test].mean():.3f}.**\n\n"
        f"Targets and shadows: a row per model in `{artifacts.MODELS}`, curves as a band."
    )
    with tracker.child("shadows", tags={"memberscope.kind": "shadows"}, description=about) as child:
        child.table(frame, artifacts.MODELS)
        child.table(frame, artifacts.MODELS_TABLE)
        curves = outputs.fleet.curves
        if {"loss", "accuracy"} <= set(curves):
            child.figure(plots.band_figure(curves, title=f"{outputs.plan.n_models} models"), artifacts.TRAINING_FIGURE)
        for step, means in by_step(curves):
            child.metrics(logged_each({f"train/{name}": value for name, value in means.items()}), step=step)
        for name in (train, test):
            child.metrics(logged(f"{name}_mean", "", float(frame[name].mean())))


def shadow_table(outputs: FleetOutputs) -> pd.DataFrame:
    """Columns model, role, members, train_accuracy, test_accuracy (records of its own block that it was not trained on).

    Where only losses are known, the last two are train_loss and test_loss.
    """
    import pandas as pd

    plan, labels = outputs.plan, outputs.data.y[outputs.plan.records]
    rows, what = [], "loss" if outputs.form == "loss_nats" else "accuracy"
    for model in range(plan.n_models):
        own_outputs = outputs.outputs[model]
        right = own_outputs if what == "loss" else own_outputs.argmax(axis=1) == labels
        own = plan.block if plan.design == "half" or model in plan.targets else ~plan.block
        member = plan.member[model]
        rows.append(
            {
                "model": model, "role": "target" if model in plan.targets else "shadow", "members": int(member.sum()),
                f"train_{what}": float(right[member].mean()), f"test_{what}": float(right[own & ~member].mean()),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def audit_first(
    outputs: FleetOutputs, trainer: Trainer, request: AuditRequest, config: ShadowStudyConfig, tracker: Tracker, stop: StopFlag
) -> AuditReport:
    """Audit the first target with every requested attack, in a child run of its own."""
    target = int(outputs.plan.targets[0])
    evidence = query_target(
        outputs, target, trainer=trainer, perturbed=config.perturbed, distill_epochs=config.distill_epochs, seed=config.seed, stop=stop,
        wanted=request.needs.__contains__,
    )  # fmt: skip
    about = f"Model {target} of the study as the target: every attack on {len(evidence.target):,} records."
    if missing := why_no_model(trainer, tracker):
        about += f"\n\n{missing}"
    with tracker.child(f"target-{target}", tags={"memberscope.kind": "model"}, description=about) as child:
        with attack_progress(request.attacks, "target", stop) as on_attack:
            report = run_audit(
                evidence, request=request, seed=config.seed, coin_flips=outputs.plan.coin_flips, on_attack=on_attack
            )
        stop.check()
        log_audit(report, child, source=outputs.data.digest, band_seed=config.seed, private=config.private_artifacts)
        child.metrics(logged_each(accuracies(evidence.target)))
        child.describe(with_finding(report, about))
        log_model(lambda: outputs.fleet.native(target), trainer, outputs.data, child)
    return report


def log_epsilon(
    outputs: FleetOutputs, report: AuditReport, of_canaries: canaries.CanaryAudit | None, tracker: Tracker
) -> list[str]:  # fmt: skip
    """Log the audit of the canaries and the table of bounds of epsilon of the first target; returns sentences on both."""
    words, planted = list[str](), None
    if of_canaries is not None:
        log_canaries(of_canaries.report, tracker, cost=of_canaries.cost)
        planted = OfCanaries(report=of_canaries.report, one_record=of_canaries.one_record)
        words.append(of_canaries.words)
    row = over_models.over_models(outputs, delta=DELTA)
    judged = log_bounds(report, tracker, canaries=planted, more=() if row is None else (row,))
    return words if judged is None else [*words, words_of(judged)]


def audit_from_elsewhere(
    report: AuditReport, other: LabeledData, trainer: Trainer, config: ShadowStudyConfig, tracker: Tracker, stop: StopFlag
) -> AuditReport:
    """Audit the first target again with a shadow of another data set; the names of its metrics end in ``_other_data``."""
    found = second_dataset.audit(report.target, other, trainer, config, stop)
    tracker.metrics({f"{name}_other_data": value for name, value in found.headlines(rounded=True).items()})
    tracker.table(found.to_frame(), artifacts.SECOND_DATASET)
    return found


def accuracies(target: Predictions) -> dict[str, float]:
    """Accuracy on members and on non-members, and their gap; mean losses where these alone are known."""
    if target.form == "summary":
        loss = signals.loss_nats(target)
        return {"train/loss": float(loss[target.member].mean()), "val/loss": float(loss[~target.member].mean())}
    right = signals.correctness(target)
    inside, outside = float(right[target.member].mean()), float(right[~target.member].mean())
    return {"train/accuracy": inside, "val/accuracy": outside, "gap": inside - outside}


def rotate_targets(
    outputs: FleetOutputs, attacks: Sequence[Any], config: ShadowStudyConfig, tracker: Tracker, stop: StopFlag,
    *, replaced: NDArray[np.bool_] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:  # fmt: skip
    """Attack every target in turn: means over targets by number of shadows, verdicts on the literature's orderings, and sentences on whom
    the attacks find. `replaced`: whether label noise replaced each record's label.
    """
    from memberscope.progress import Progress

    scores = exposure.RotatedScores(plan=outputs.plan)

    with Progress(len(outputs.plan.targets), "attacking each target", unit="target") as progress:

        def on_target(target: int) -> None:
            stop.check()
            progress.advance(int(target != outputs.plan.targets[0]))

        frame = rotation.rotate(
            outputs, attacks, seed=config.seed, group_scores=config.group_scores, on_target=on_target, on_scores=scores.keep
        )
        progress.advance()
    means = rotation.over_targets(frame)
    judged = rotation.judge(frame, rotation.claims(paired=outputs.plan.design == "half", copies=outputs.augmented is not None))
    tracker.table(frame, artifacts.TARGETS)
    tracker.table(means, artifacts.BY_SHADOWS)
    tracker.table(judged, artifacts.ORDERINGS)
    tracker.table(judged.astype(object).where(judged.notna(), None), artifacts.ORDERINGS_TABLE)
    for figure in SHOWN:
        tracker.figure(plots.by_shadows_figure(means, figure=figure), artifacts.by_shadows_figure(figure))
    found = exposure.measure_fleet(outputs, scores, attacks, seed=config.seed, stop=stop, replaced=replaced)
    return means, judged, exposure_log.log_exposure(found, outputs, config, tracker)


def measure_fidelity(
    outputs: FleetOutputs, trainer: Trainer, config: ShadowStudyConfig, tracker: Tracker, stop: StopFlag
) -> pd.DataFrame:
    """Measure how faithful a shadow must be; see `memberscope.studies.shadow.fidelity`."""
    from memberscope.studies.shadow import fidelity

    def train_shadows(
        data: LabeledData,
        members: Sequence[Index],
        other: Trainer,
        model_seeds: Sequence[int],
        name: str,
        asked: Sequence[Index],
    ) -> Fleet:
        queries = [Query(index=index) for index in asked]
        return setup.train_fleet(other, data, members, model_seeds, config, stop, label=name, queries=queries)

    frame = fidelity.measure(outputs, trainer, train_shadows, seed=config.seed)
    tracker.table(frame, artifacts.FIDELITY)
    tracker.figure(plots.fidelity_figure(frame), artifacts.FIDELITY_FIGURE)
    return frame


def left_out_of_fidelity(data: LabeledData) -> list[str]:
    """A sentence on the variant that cannot be made of these records; empty if all can."""
    if can_be_perturbed(data):
        return []
    return ["Shadows on noisy records were left out: records with words or missing numbers have no noisy copies."]


def conclude(
    config: ShadowStudyConfig, trainer: Trainer, outputs: FleetOutputs, report: AuditReport, elsewhere: AuditReport | None,
    means: pd.DataFrame, judged: pd.DataFrame, exposed: Sequence[str], fidelity: pd.DataFrame | None, remarks: Sequence[str],
    tracker: Tracker,
) -> StudyResult:  # fmt: skip
    """Log the headline metrics and the page of the parent run; returns the result for the terminal. `remarks` are further sentences."""
    tracker.metrics(report.headlines(rounded=True))
    log_headline(report, tracker)
    tracker.metrics(headline_metrics(means))
    tracker.metrics(logged_each(accuracies(report.target)))
    tracker.tags({"memberscope.setting": trainer.name})
    lines = rotation.sentences(judged)
    from_elsewhere = (
        f"## One shadow of another data set, {config.transfer_dataset}\n\n{markdown(headline_table(elsewhere))}"
        if elsewhere
        else ""
    )
    table = over_targets_table(means)
    tracker.text(page(outputs, report, table, lines, exposed, remarks, fidelity, from_elsewhere), artifacts.SUMMARY)
    tracker.describe(
        page(outputs, report, table, lines, exposed, remarks, None, from_elsewhere)
    )  # without fidelity: the store takes at most 8,000 characters
    left_out = skips(report)
    plain = [line.replace("**", "").replace("`", "") for line in (*lines, *exposed)]
    answer = [finding(report), *plain, *left_out, *remarks]
    shown = headline_table(report)[["attack", "auc", "auc_ci", "tpr_at_fpr_0_01", "tpr_at_fpr_0_01_ci"]]
    counted = f"{len(report.target):,} records" if report.groups is None else f"{len(report.groups):,} groups of records"
    text = f"one target, {counted}\n{shown.to_string(index=False)}"
    if elsewhere:
        from_there = headline_table(elsewhere)[list(shown)].to_string(index=False)
        text += f"\n\none shadow of another data set, {config.transfer_dataset}\n{from_there}"
    text += f"\n\nmean over {len(outputs.plan.targets)} targets (95% t interval)\n{table.to_string(index=False)}"
    return StudyResult(table=text, answer="\n".join(answer))
