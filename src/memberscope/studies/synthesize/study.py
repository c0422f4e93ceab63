"""Entry point `synthesize`: make shadow data from a model, assess its quality, and measure how well its shadows transfer to the target."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memberscope import metrics, plots, seeds
from memberscope.attacks import registry
from memberscope.attacks.base import Skip
from memberscope.audit import artifacts
from memberscope.audit.groups import counted
from memberscope.audit.wording import markdown
from memberscope.config import groups
from memberscope.config.outside import SynthesizeConfig
from memberscope.config.shared import BUILT_IN_TRAINER
from memberscope.datasets import LabeledData
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.interrupt import StopFlag
from memberscope.metrics.rounding import logged
from memberscope.npz import write_npz
from memberscope.plans.keyed import split_seed
from memberscope.plans.shadow import ShadowPlan, make_shadow_plan
from memberscope.plans.split import Index
from memberscope.predictions import Predictions, ShadowPredictions
from memberscope.release import Release, parse_release
from memberscope.release.apply import release_evidence
from memberscope.release.undo import undo
from memberscope.signals import modified_entropy
from memberscope.studies import setup
from memberscope.studies.data_notes import log_reading, with_reading
from memberscope.studies.forms import named
from memberscope.studies.result import StudyResult
from memberscope.studies.seed_check import log_check
from memberscope.studies.synthesize.answer import FIGURES, JUNK, REAL, sentences, shown, summarize
from memberscope.studies.synthesize.sets import Query as Ask
from memberscope.studies.synthesize.sets import SyntheticSet, check_can_be_made, make_set, parse_methods, published
from memberscope.studies.trainer_log import log_trainer
from memberscope.synthesis.transfer import decide_by_shadows
from memberscope.tracking import Tracker, as_json
from memberscope.training.query import Query
from memberscope.training.trainer import Trainer, TrainingJob

if TYPE_CHECKING:
    import pandas as pd

    from memberscope.training.trainer import Fleet

NOISY = "noisy"  # whose records are real ones with a few wrong values
THRESHOLD = "modified_entropy"  # one threshold for all classes, on minus the modified entropy
ATTACKS = (THRESHOLD, "metric_modified_entropy", "shadow_shokri")
LEAST_KNOWN = 10  # fewest non-members on which the defence of a release is fitted


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """The target of one fleet, and the data that an attacker may have.

    Attributes:
        number: the number of the fleet, from 0.
        data: the records, with labels after noise.
        plan: of design disjoint with one target: its records, the pool of an attacker with real records, and records that nobody uses.
        fleet: the target alone.
        query: returns what the target publishes for given records.
        release: the release that `query` applies, fitted if it needs fitting.
    """

    number: int
    data: LabeledData
    plan: ShadowPlan
    fleet: Fleet
    query: Ask
    release: Release

    @property
    def pool(self) -> NDArray[np.int64]:
        """Positions of the real records that shadows may be trained on."""
        return self.plan.records[~self.plan.block]


def run(config: SynthesizeConfig, tracker: Tracker, stop: StopFlag) -> StudyResult:
    """Run the study: make the sets of the first fleet's target with their cards, then measure transfer over all fleets.

    Raises:
        UserError: before any training, for anything that would fail later; later, for a set with classes that no climb reached, after the
            records that were made are logged.
    """
    methods = parse_methods(config.method)
    release = parse_release(config.release)
    if release.label_only and {"hill_climb", "gan"} & set(methods):
        raise UserError(
            f"release={config.release}: the climb needs confidences; allowed with labels only: noisy, marginal, junk"
        )
    data = setup.choose_classes(setup.load_data(config, each_once=True), config)
    trainer = setup.trainer_for(config, config)
    trainer.check(setup.facts_of(data))
    release.check(data.classes)
    check_can_be_made(data, by=f"method={config.method}")
    plan = plan_for(data, config, config.seed)
    if release.unfitted and len(plan.population) < LEAST_KNOWN:
        raise UserError(
            f"members={config.members}: leaves {len(plan.population)} records as the non-members on which the defence of "
            f"release={config.release} is fitted; allowed: a number of members that leaves at least {LEAST_KNOWN}"
        )
    if release.label_only and config.fleets:
        raise UserError(
            f"release={config.release}: the attacks that measure transfer need confidences; allowed: fleets=0, or a release of confidences"
        )
    tracker.text(as_json(groups(config)), artifacts.STUDY)
    log_trainer(trainer, tracker)
    notes = log_reading(data, tracker)
    rows: list[dict[str, Any]] = []
    cards: list[dict[str, Any]] = []
    short: list[str] = []
    remarks: list[str] = []
    for number in range(max(1, config.fleets)):
        stop.check()
        trial = begin(data, trainer, release, config, number, stop)
        if number == 0 and config.check_seed:
            job = TrainingJob(data=trial.data, indices=trial.plan.members(0), seed=seeds.integer(config.seed, "target"))
            check = setup.check_seed(
                trial.fleet, trainer, job, [Query(index=trial.plan.records[trial.plan.audited])], config, stop
            )
            log_check(check, tracker)
            remarks.append(check.sentence)
        sets = {method: _make(method, trial, config, stop) for method in methods}
        if number == 0:
            lacking = [lack for made in sets.values() if (lack := keep_set(made, trial, config, tracker))]
            if lacking:
                raise UserError("; ".join(lacking) + "; allowed: a lower conf_min, a larger iter_max or budget")
            cards = [log_set(made, trial, config, tracker) for made in sets.values()]
        else:
            short += [f"Fleet {number}, {made.method}: {names}." for made in sets.values() if (names := unreached(made, data))]
        if config.fleets:
            rows += transfer_rows(trial, sets, trainer, release, config, stop)
            tracker.table(_frame(rows), artifacts.FLEETS)
    return with_reading(conclude(config, methods, cards, _frame(rows), short, remarks, tracker), notes)


def plan_for(data: LabeledData, config: SynthesizeConfig, seed: int) -> ShadowPlan:
    """The target's records, a pool of as many real records, and the remaining records for the card; ``members=auto`` leaves a fifth."""
    members = setup.members_of(data, config, parts=5)
    return make_shadow_plan(
        data.y,
        design="disjoint",
        members=members,
        population="auto",
        shadows=config.shadows,
        targets=1,
        coin_flips=False,
        seed=split_seed(data, seed),
        groups=data.groups,
    )


def begin(
    data: LabeledData, trainer: Trainer, release: Release, config: SynthesizeConfig, number: int, stop: StopFlag
) -> Trial:
    """Split the records, replace labels and train the target of one fleet."""
    seed = config.seed + number
    plan = plan_for(data, config, seed)
    noisy = setup.with_noise(data, config, {"records": plan.records, "population": plan.population}, seed=seed)
    own, label = [seeds.integer(seed, "target")], f"target {number}"
    asked = [Query(index=plan.records[plan.audited])]
    asked += [Query(index=defended(plan))] if release.unfitted else []
    fleet = setup.train_fleet(trainer, noisy, [plan.members(0)], own, config, stop, label=label, queries=asked)
    if release.unfitted:
        release = release.fit(defence_data(noisy, plan, fleet), seed=seed)
    query = published(fleet, 0, release, seed=seed, real=None if config.trainer == BUILT_IN_TRAINER else noisy)
    return Trial(number=number, data=noisy, plan=plan, fleet=fleet, query=query, release=release)


def defence_data(data: LabeledData, plan: ShadowPlan, fleet: Fleet) -> Predictions:
    """The data that the defence of a release is fitted on: the members, and records that are neither trained on nor audited."""
    index, members = defended(plan), len(plan.members(0))
    outputs = named(fleet.form, fleet.outputs(data.x[index])[0])
    return Predictions(**outputs, labels=data.y[index], member=np.arange(len(index)) < members)


def defended(plan: ShadowPlan) -> Index:
    """The positions of the members, then of the records that are neither trained on nor audited."""
    return np.concatenate([plan.members(0), plan.population])


def wanted(trial: Trial, config: SynthesizeConfig) -> int:
    """The number of records to make."""
    return len(trial.pool) if config.records == "auto" else int(config.records)


def _make(method: str, trial: Trial, config: SynthesizeConfig, stop: StopFlag) -> SyntheticSet:
    seed = config.seed + trial.number
    store = setup.open_store(config)
    name = f"{trial.data.digest[:12]}-{trial.plan.digest[:12]}-{seeds.integer(seed, config.to_json()):08x}.npz"
    resume = None if store is None else Path(config.store) / "climbs" / name
    return make_set(
        method,
        config,
        records=wanted(trial, config),
        query=trial.query,
        real=trial.data,
        pool=trial.pool,
        seed=seed,
        stop=stop,
        resume=resume,
    )


def unreached(made: SyntheticSet, data: LabeledData) -> str:
    """A phrase that names the classes that no climb reached, with the best confidence in each; empty if there are none."""
    missing = [one for one in made.by_class if one["asked"] and not one["reached"]]
    names = ", ".join(f"{data.class_names[one['label']]} ({one['best_confidence']:.3g})" for one in missing)
    return f"not reached in {len(missing)} of {data.classes} classes (best confidence): {names}" if missing else ""


def keep_set(made: SyntheticSet, trial: Trial, config: SynthesizeConfig, tracker: Tracker) -> str:
    """Log the set as ``.npz`` and its counts by class; returns a phrase on the classes that it lacks, empty if there are none."""
    import pandas as pd

    if made.by_class:
        tracker.table(pd.DataFrame(list(made.by_class)), artifacts.inside(made.method, artifacts.BY_CLASS))
    kept = artifacts.inside(made.method, artifacts.SYNTHETIC_RECORDS)
    if shown := may_be_stored(made.method, trial.data, config):
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / artifacts.SYNTHETIC_RECORDS
            write_npz(path, {"x": made.x, "y": made.y, "class_names": np.array(trial.data.class_names)})
            tracker.file(path, kept)
    names = unreached(made, trial.data)
    others = f"; the {len(made.y)} records of the other classes are kept in {kept}" if shown else ""
    return f"conf_min={config.conf_min}: {names}{others}" if names else ""


def may_be_stored(method: str, data: LabeledData, config: SynthesizeConfig) -> bool:
    """Whether made records, and pictures of them, are stored with the run: not those that are a user's own records with a few wrong values,
    unless that is requested, and none with ``private_artifacts``.
    """
    return not config.private_artifacts and (method != NOISY or not data.keyed or config.show_records)


def log_set(made: SyntheticSet, trial: Trial, config: SynthesizeConfig, tracker: Tracker) -> dict[str, Any]:
    """Log the set's card and its figure; returns the card as a row of the comparison."""
    import pandas as pd

    from memberscope.synthesis.card import make_card
    from memberscope.synthesis.figures import synthetic_figure

    data, plan = trial.data, trial.plan
    pool = trial.pool
    outside = plan.population if len(plan.population) >= 20 else pool
    card = make_card(
        made.x, made.y, method=made.method, classes=data.classes, queries=made.queries, query=trial.query, real=data.scaled(outside),
        real_labels=None if outside is pool else data.y[outside], seed=config.seed,
    )  # fmt: skip
    tracker.table(pd.DataFrame(card.rows()), artifacts.inside(made.method, artifacts.CARD))
    tracker.text(as_json(card.to_dict()), artifacts.inside(made.method, artifacts.CARD_JSON))
    figure = None
    if may_be_stored(made.method, data, config):
        figure = synthetic_figure(made.x, made.y, method=made.method, class_names=data.class_names, real=data.scaled(outside))
    if figure is not None:
        tracker.figure(figure, artifacts.inside(made.method, artifacts.SYNTHETIC_FIGURE))
    row: dict[str, Any] = {"method": made.method}
    row |= {str(one["figure"]): _with_interval(one) for one in card.rows()}
    return row | {"notes": "; ".join(made.notes)}


def _with_interval(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return ""
    text = f"{row['value']:.0f}" if float(row["value"]).is_integer() else f"{row['value']:.4g}"
    return text if row["ci_low"] is None else f"{text} ({row['ci_low']:.3f} to {row['ci_high']:.3f})"


def transfer_rows(
    trial: Trial, sets: Mapping[str, SyntheticSet], trainer: Trainer, release: Release, config: SynthesizeConfig, stop: StopFlag
) -> list[dict[str, Any]]:
    """Train a fleet of shadows on each set, on real records and on junk, with equal numbers of records, and attack the target with each.

    `release` is the requested one, before any defence is fitted: each shadow gets a defence of its own.

    The pool of the shadows is twice as large as the target's set of members, or as large as `records` if that is smaller, and each shadow
    is trained on half of it. Pools of real records, junk and synthetic records have the same size, so that they differ only in kind, but
    a set that fell short has fewer records. Shadows publish through the same release as the target.
    """
    data, plan, seed = trial.data, trial.plan, config.seed + trial.number
    block = plan.records[plan.audited]
    target = Predictions(
        **named(trial.fleet.form, trial.fleet.outputs(data.x[block])[0]),
        labels=data.y[block],
        member=plan.member[0][plan.audited],
        record_ids=block,
        groups=data.groups_of(block),
    )
    size = min(len(trial.pool), wanted(trial, config))
    if JUNK not in sets:
        sets = {**sets, JUNK: make_set(
            JUNK, config, records=size, query=trial.query, real=data, pool=trial.pool, seed=seed, stop=stop
        )}  # fmt: skip
    pools = {REAL: (data, trial.pool[:size])}  # the pool's order spreads every class evenly
    for method, made in sets.items():
        take = seeds.stream(seed, "synthetic", method).permutation(len(made.y))[:size]
        whole = data.extended(made.x[take], made.y[take], source=f"made by {method}")
        pools[method] = (whole, np.arange(len(data), len(data) + len(take)))
    rows = []
    for method, (whole, pool) in pools.items():
        stop.check()
        extended = plan.with_pool(pool, whole.y, seed=seed)
        shadows = extended.shadows_of(0)
        model_seeds = [seeds.integer(seed, "shadow", int(model)) for model in shadows]
        label = f"fleet {trial.number}, {method}"
        fleet = setup.train_fleet(
            trainer,
            whole,
            [extended.members(int(model)) for model in shadows],
            model_seeds,
            config,
            stop,
            label=label,
            queries=[Query(index=pool)],
        )
        outputs = ShadowPredictions(
            **named(fleet.form, fleet.outputs(whole.x[pool])),
            labels=whole.y[pool],
            member=extended.member[shadows][:, ~extended.block],
        )
        evidence = (
            undo(
                release_evidence(Evidence(target=target, shadows=outputs), trial.release, shadow_release=release, seed=seed),
                trial.release,
            )
            if config.release != "none"
            else None
        )
        rows += _attack(evidence or Evidence(target=target, shadows=outputs), trial.number, method, seed=seed)
    return rows


def _attack(evidence: Evidence, number: int, method: str, *, seed: int) -> list[dict[str, Any]]:
    """Each attack's metrics on the target, with its threshold fixed on the shadows."""
    target, shadows = evidence.target, evidence.shadows
    assert shadows is not None
    rows: list[dict[str, Any]] = []
    head = {"fleet": number, "method": method}
    if target.form in ("logits", "probs"):
        scores = -modified_entropy(target)
        on_shadows = np.concatenate([-modified_entropy(shadows.model(k)) for k in range(shadows.n_models)])
        scores, member = counted(scores, target)
        decided = decide_by_shadows(on_shadows, shadows.member.ravel(), scores, member)
        auc = metrics.auc(scores, member).value
        rows.append({**head, "attack": THRESHOLD, **decided.to_dict(), "auc": auc})
    for name in ATTACKS[1:]:
        result = registry.get(name).score(evidence, seed=seed)
        if isinstance(result, Skip):
            continue
        scores, member = counted(result.scores, target)
        called = result.decisions if result.decisions is not None and target.groups is None else scores >= 0
        fpr, tpr = float(called[~member].mean()), float(called[member].mean())
        auc = metrics.auc(scores, member).value
        rows.append({**head, "attack": name, "balanced_accuracy": (1 + tpr - fpr) / 2, "fpr": fpr, "auc": auc})
    return rows


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows).reindex(columns=["fleet", "method", "attack", *FIGURES])


def conclude(
    config: SynthesizeConfig,
    methods: tuple[str, ...],
    cards: list[dict[str, Any]],
    frame: pd.DataFrame,
    short: list[str],
    remarks: list[str],
    tracker: Tracker,
) -> StudyResult:
    """Log the comparison of cards, the transfer table and the page; returns the result for the terminal."""
    import pandas as pd

    card_frame = pd.DataFrame(cards).T
    card_frame.columns = pd.Index(card_frame.loc["method"])
    card_frame = card_frame.drop(index="method").rename_axis("figure").reset_index()
    tracker.table(card_frame, artifacts.CARDS)
    tracker.table(card_frame.astype(str), artifacts.CARDS_TABLE)
    tracker.tags({"memberscope.methods": ",".join(methods)})
    parts = [f"# Shadow data for {config.dataset}", "## How good are the records?\n\n" + markdown(card_frame)]
    table, lines = card_frame, []
    if len(frame):
        summary = summarize(frame)
        lines = sentences(frame, methods) + short
        tracker.table(summary, artifacts.TRANSFER)
        table = shown(summary)
        tracker.table(table.fillna(""), artifacts.TRANSFER_TABLE)
        for row in summary.to_dict("records"):
            for name in ("balanced_accuracy", "fpr", "transfer"):
                values = [row.get(f"{name}{end}") for end in ("", "_ci_low", "_ci_high")]
                known = [None if value is None or value != value else float(value) for value in values]
                tracker.metrics(logged(f"{name}_{row['method']}", str(row["attack"]), *known))
        tracker.figure(plots.transfer_figure(summary, attack=THRESHOLD), artifacts.TRANSFER_FIGURE)
        parts += [
            "## How well do their shadows transfer?\n\n" + markdown(table),
            f"Means over {config.fleets} fleets, each with a target of its own; the threshold is fixed on the shadows, not the target. "
            "Transfer is (method - junk) / (real - junk) of the balanced accuracy. There are as many real and junk records as synthetic "
            "ones, at most twice the number of the target's members.",
            "\n".join(f"- {line}" for line in lines),
        ]
    answer = lines or ["records made; no fleets were trained (fleets=0)."]
    tracker.describe("\n\n".join([f"**{answer[0]}**", *parts, *remarks]) + "\n")
    return StudyResult(table=table.to_string(index=False), answer="\n".join([*answer, *remarks]))
