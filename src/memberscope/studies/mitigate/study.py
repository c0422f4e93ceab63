"""Entry point `mitigate`: what each mitigation gains in privacy and costs in utility, against an attacker who knows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from memberscope import metrics, seeds, signals
from memberscope.attacks import registry
from memberscope.audit import artifacts
from memberscope.audit.canaries import LEAST_SIDE
from memberscope.audit.request import AuditRequest, make_request
from memberscope.audit.run import run_audit
from memberscope.config import groups
from memberscope.config.mitigation import MitigateConfig
from memberscope.datasets import LabeledData
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.interrupt import StopFlag
from memberscope.plans.canaries import CanaryRequest
from memberscope.plans.keyed import split_seed
from memberscope.plans.shadow import make_shadow_plan
from memberscope.plans.target import noise_share
from memberscope.predictions import Predictions, ShadowPredictions
from memberscope.progress import Progress
from memberscope.release import parse_release
from memberscope.release.apply import release_evidence
from memberscope.release.undo import undo
from memberscope.studies import setup
from memberscope.studies.data_notes import log_reading, with_reading
from memberscope.studies.fleet_canaries import beside, draw_for, plant_in_fleet
from memberscope.studies.forms import named
from memberscope.studies.mitigate.answer import conclude
from memberscope.studies.mitigate.audited import MitigationAudit
from memberscope.studies.mitigate.mitigations import (
    ASKED,
    Mitigation,
    check_attacks,
    check_releases,
    check_trainer,
    mitigations_of,
    possible,
)
from memberscope.studies.mitigate.models import (
    TARGET,
    MitigatedModels,
    SeedSplit,
    announce,
    check_private,
    number,
    promised,
    train_mitigated,
)
from memberscope.studies.mitigate.promises import Promise
from memberscope.studies.mitigate.rungs import rungs_of
from memberscope.studies.recorder import writes_evidence
from memberscope.studies.result import StudyResult
from memberscope.studies.seed_check import log_check
from memberscope.studies.shadow.evidence import can_be_perturbed
from memberscope.studies.trainer_log import log_trainer
from memberscope.tracking import Tracker, as_json
from memberscope.training.query import Query
from memberscope.training.trainer import Trainer, TrainingJob

ATTACKS = (
    "threshold_loss", "trained_lr", "trained_mlp", "metric_correctness", "metric_entropy", "metric_modified_entropy", "shadow_shokri",
    "lira_online", "lira_offline", "rmia_online", "label_only_gap", "label_only_robust",
)  # fmt: skip
LEAST_PART = 50  # fewest records in each of population, validation and the defender's reference


@writes_evidence("mitigate")
def run(config: MitigateConfig, tracker: Tracker, stop: StopFlag) -> StudyResult:
    """Train and audit all mitigations; `tracker` is the parent run, with a child run for each mitigation.

    Raises:
        UserError: before any training, for anything that would fail later.
        Interrupted: the run was stopped; finished models stay in the store.
    """
    trainer = setup.trainer_for(config, config)
    trainer.prepare_process()
    data = setup.choose_classes(setup.load_data(config, each_once=True), config)
    trainer.check(setup.facts_of(data))
    requested = mitigations_of(config, trainer, rungs_of(config, trainer, data))
    asked = ASKED if can_be_perturbed(data) else ASKED - {"perturbed_labels"}
    mitigations, skipped = possible(requested, config, trainer, classes=data.classes, asked=asked)
    check_trainer(mitigations, trainer)
    check_releases(mitigations, classes=data.classes)
    request = make_request(attacks=attack_names(mitigations), group_scores=config.group_scores)
    check_attacks(mitigations, asked)
    planted = setup.canary_request(config, config, data)
    splits = {seed: prepare(data, config, seed, planted) for seed in range(config.seed, config.seed + config.seeds)}
    for split in splits.values():
        check_batches(split, trainer, config, mitigations)
    promise = Promise() if number(config.delta) is None else Promise(delta=float(config.delta))
    if any(mitigation.training == "dp" for mitigation in mitigations):
        private = promised(splits[config.seed], trainer, config)
        check_private(splits[config.seed], trainer, config)
        promise = Promise(delta=private.delta, epsilon=private.epsilon if np.isfinite(private.epsilon) else None)
        config = replace(config, delta=private.delta)
    ways = {mitigation.training: mitigation for mitigation in mitigations}
    trainers = {name: trainer if way.rung is None else way.rung.trainer for name, way in ways.items()}
    for split in splits.values():
        for training, way in ways.items():
            announce(training, split, trainers[training], config, shadows=way.shadows)
    tracker.text(as_json(groups(config)), artifacts.STUDY)
    log_trainer(trainer, tracker)
    notes = log_reading(data, tracker)
    if config.check_seed:
        split = splits[config.seed]
        job = TrainingJob(data=split.data, indices=split.members(TARGET), seed=seeds.integer(split.seed, "model", TARGET))
        check = setup.check_seed(None, trainer, job, [Query(index=split.plan.records)], config, stop)
        log_check(check, tracker)
        notes = [check.sentence, *notes]
    audits: dict[str, list[MitigationAudit]] = {mitigation.name: [] for mitigation in mitigations}
    with Progress(len(mitigations) * config.seeds, "mitigations", unit="mitigation") as progress:
        for seed, split in splits.items():
            trained: dict[str, MitigatedModels] = {}
            for mitigation in mitigations:
                stop.check()
                if mitigation.training not in trained:
                    trained[mitigation.training] = train_mitigated(
                        mitigation.training, split, trainers[mitigation.training], config, stop, shadows=mitigation.shadows
                    )
                audits[mitigation.name].append(
                    audit_mitigation(mitigation, trained[mitigation.training], split, request, promise)
                )
                progress.advance(note=f"{mitigation.name}, seed {seed}")
    return with_reading(conclude(config, mitigations, audits, tracker, skipped=skipped, promise=promise), notes)


def attack_names(mitigations: Sequence[Mitigation]) -> tuple[str, ...]:
    """The attacks that are run on every mitigation: `ATTACKS`, and all primary attacks."""
    primary = [registry.get(mitigation.primary).name for mitigation in mitigations]
    return tuple(dict.fromkeys([*ATTACKS, *primary]))


def check_batches(split: SeedSplit, trainer: Trainer, config: MitigateConfig, mitigations: Sequence[Mitigation]) -> None:
    """Raise UserError if a batch would be larger than a model's set of members."""
    least, private = split.fewest_members, config.private_batch_size
    trainer.check(setup.facts_of(split.data, members=least))
    for rung in filter(None, (mitigation.rung for mitigation in mitigations)):
        try:
            rung.trainer.check(setup.facts_of(split.data, members=least))
        except UserError as error:
            raise UserError(f"rungs={config.rungs}: {rung.name}: {error}") from None
    if private > least and any(mitigation.training == "dp" for mitigation in mitigations):
        raise UserError(f"private_batch_size={private}: more than the members of a model; allowed: 1 to {least}")


def prepare(data: LabeledData, config: MitigateConfig, seed: int, request: CanaryRequest | None = None) -> SeedSplit:
    """The seed's plan (design half), the canaries if any are requested, the data with labels after noise, and the records outside the plan
    in three parts.
    """
    members = setup.members_of(data, config, parts=4)
    plan = make_shadow_plan(
        data.y, design="half", members=members, population=3 * LEAST_PART, shadows=max(2, config.shadows), targets=1,
        coin_flips=config.coin_flips, seed=split_seed(data, seed), groups=data.groups,
    )  # fmt: skip
    outside, canaries = np.setdiff1d(np.arange(len(data)), plan.records), None
    if request is not None:
        canaries = draw_for(request, data, plan.records, seed=seed, noise=noise_share(data, config))
        left = beside(data, outside, canaries)
        if len(left) < 3 * LEAST_PART:
            raise UserError(
                f"canaries={request.count}: {len(left)} records are left for the population, validation and the defender's reference, "
                f"which need {3 * LEAST_PART}; allowed: fewer canaries or members, or canary_kind=noise"
            )
        outside = left
    parts = np.array_split(seeds.stream(split_seed(data, seed), "mitigate", "outside").permutation(outside), 3)
    noisy = setup.with_noise(data, config, {"records": plan.records, "outside": outside}, seed=seed)
    planted = None
    if request is not None and canaries is not None:
        planted = plant_in_fleet(request, canaries, noisy, plan, seed=seed)
    return SeedSplit(
        data=noisy if planted is None else planted.data, plan=plan, population=parts[0], validation=parts[1], reference=parts[2],
        seed=seed, canaries=planted,
    )  # fmt: skip


def audit_mitigation(
    mitigation: Mitigation, mitigated: MitigatedModels, split: SeedSplit, request: AuditRequest, promise: Promise
) -> MitigationAudit:  # fmt: skip
    """Apply the release to the models' outputs, audit what is published of the records and of the canaries, and measure its utility."""
    plan = split.plan
    evidence = evidence_of(mitigation, mitigated, split)
    published = evidence.target
    requested = parse_release(mitigation.release)
    release = requested.fit(defence_data(mitigated, split), seed=split.seed) if requested.unfitted else requested
    if release.steps:
        evidence = release_evidence(evidence, release, shadow_release=requested, seed=split.seed)
        published, evidence = evidence.target, undo(evidence, release)
    own, planted = np.arange(len(plan.records)), np.arange(len(plan.records), len(published))
    # All bounds are at the promise's delta: at a smaller delta, a bound may exceed the promise without contradicting it, and
    # bounds at different deltas cannot be compared.
    report = run_audit(
        evidence.select(own) if len(planted) else evidence, request=request, seed=split.seed, coin_flips=plan.coin_flips,
        delta=promise.delta, promise=promise.epsilon,
    )  # fmt: skip
    of_canaries = None
    if len(planted):
        of_canaries = run_audit(
            evidence.select(planted), request=request, seed=split.seed, min_records=LEAST_SIDE, coin_flips=True, delta=promise.delta,
            promise=promise.epsilon, duplicates="keep",
        )  # fmt: skip
    found = utility(published.select(own)) | cost_of_canaries(mitigated, split)
    return MitigationAudit(
        mitigation=mitigation, seed=split.seed, report=report, utility=found, mitigated=mitigated, canaries=of_canaries,
        one_record=split.one_record,
    )  # fmt: skip


def evidence_of(mitigation: Mitigation, mitigated: MitigatedModels, split: SeedSplit) -> Evidence:
    """The evidence against the target before any release: of the plan's records and, behind them, of the canaries."""
    plan, data, canaries = split.plan, split.data, split.canaries
    rows = plan.shadows_of(TARGET) if mitigation.shadows else np.empty(0, dtype=np.intp)
    models = 1 + len(rows)
    ids, member = plan.records, plan.member
    outputs, perturbed = mitigated.outputs[:models], mitigated.perturbed
    if canaries is not None:
        ids, member = np.concatenate([ids, canaries.planted.rows]), np.concatenate([member, canaries.member], axis=1)
        outputs = np.concatenate([outputs, mitigated.canaries[:models]], axis=1)
        perturbed = np.concatenate([perturbed, mitigated.canaries_perturbed])
    labels = data.y[ids]
    return Evidence(
        target=Predictions(
            **named(mitigated.form, outputs[TARGET]), labels=labels, member=member[TARGET], record_ids=ids, groups=data.groups_of(ids)
        ),
        shadows=ShadowPredictions(**named(mitigated.form, outputs[1:]), labels=labels, member=member[rows], record_ids=ids)
        if len(rows)
        else None,
        population=ShadowPredictions(
            **named(mitigated.form, mitigated.population[:models]), labels=data.y[split.population],
            member=np.zeros((models, len(split.population)), dtype=np.bool_),
        ),
        perturbed_labels=perturbed if perturbed.shape[1] else None,
    )  # fmt: skip


def cost_of_canaries(mitigated: MitigatedModels, split: SeedSplit) -> dict[str, float]:
    """The accuracy on non-members of the same model trained without the canaries, and how much lower it is with them; before any release.

    Empty if there are no canaries, or no such model.
    """
    if not len(mitigated.without):
        return {}
    outside, labels = ~split.plan.member[TARGET], split.data.y[split.plan.records]
    with_them, without = (
        float((outputs.argmax(axis=1) == labels)[outside].mean()) for outputs in (mitigated.outputs[TARGET], mitigated.without)
    )
    return {"canary/accuracy_without": without, "canary/accuracy_cost": without - with_them}


def defence_data(mitigated: MitigatedModels, split: SeedSplit) -> Predictions:
    """The data that MemGuard's classifier is fitted on: the members, canaries among them, and the reference records, which are never
    audited.
    """
    member = split.plan.member[TARGET]
    inside, outputs = split.plan.records[member], [mitigated.outputs[TARGET][member]]
    if split.canaries is not None:
        own = split.canaries.member[TARGET]
        inside = np.concatenate([inside, split.canaries.planted.rows[own]])
        outputs.append(mitigated.canaries[TARGET][own])
    return Predictions(
        **named(mitigated.form, np.concatenate([*outputs, mitigated.reference])),
        labels=split.data.y[np.concatenate([inside, split.reference])],
        member=np.arange(len(inside) + len(split.reference)) < len(inside),
    )


def utility(target: Predictions) -> dict[str, float]:
    """Accuracy on members and on non-members; loss (nats) and expected calibration error of the confidences on non-members."""
    outside = ~target.member
    right = signals.correctness(target)
    found = {"train/accuracy": float(right[target.member].mean()), "val/accuracy": float(right[outside].mean())}
    if target.form in ("logits", "probs"):
        found["val/loss"] = float(signals.loss_nats(target)[outside].mean())
        found["val/ece"] = calibration_error(target, outside)
    return found


def calibration_error(target: Predictions, outside: NDArray[np.bool_]) -> float:
    """The expected calibration error of the published confidences; rows that sum to less than one are scaled to sum to one."""
    assert target.labels is not None
    if target.logits is not None:
        probs = softmax(target.logits[outside].astype(np.float64), axis=1)
    else:
        assert target.probs is not None
        probs = target.probs[outside].astype(np.float64)
        probs = probs / probs.sum(axis=1, keepdims=True)
    return metrics.expected_calibration_error(probs, target.labels[outside], rng=seeds.stream(0, "ece"), draws=1).value
