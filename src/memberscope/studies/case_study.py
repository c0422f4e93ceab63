"""Entry point `main`: the case study's three experiments, over several seeds.

Each seed takes four models, since dense 3 serves in all three experiments: architecture (conv 3 against dense 3), depth (dense 6 against
dense 3) and classes (dense 3 on all classes against the first four).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memberscope import plots
from memberscope.audit import artifacts
from memberscope.audit.headline import AUTO
from memberscope.audit.request import AuditRequest
from memberscope.audit.wording import headline_table
from memberscope.config import DataConfig, ModelConfig, groups
from memberscope.config.training import CaseStudyConfig
from memberscope.datasets import LabeledData
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.metrics import Verdict, verdicts
from memberscope.metrics.rounding import logged
from memberscope.plans.target import TargetSettings, target_of
from memberscope.studies import model_audit, setup
from memberscope.studies.data_notes import log_reading, with_reading
from memberscope.studies.model_page import description, leakage_table, with_finding
from memberscope.studies.recorder import writes_evidence
from memberscope.studies.result import StudyResult
from memberscope.tracking import Tracker, as_json
from memberscope.training.recipe import Recipe
from memberscope.training.trainer import Trainer

if TYPE_CHECKING:
    import pandas as pd

    from memberscope.studies.model_audit import AuditedModel

MARGIN = 0.02  # differences in AUC smaller than this do not matter, for the verdict "no difference"
FIGURE = "auc"  # the metric compared: advantage is biased upward, the more so the fewer the records; AUC can be compared across sizes


@dataclass(frozen=True, kw_only=True)
class Role:
    """One of the four models: its architecture, and whether it is trained on few classes."""

    model: ModelConfig
    few: bool = False


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A comparison of two roles: does `first` leak more than `second`?"""

    name: str
    title: str
    first: str
    second: str
    expected: str
    published: str


EXPERIMENTS = (
    Experiment(
        name="architecture", title="Experiment 1: conv against dense", first="conv", second="dense",
        expected="the conv model memorizes more than the dense one",
        published="as expected (CIFAR-10, one run each: AUC .560 against .545)",
    ),
    Experiment(
        name="depth", title="Experiment 2: deep against shallow dense", first="deep", second="dense",
        expected="the deeper dense model, having more parameters, memorizes more",
        published="inconclusive (CIFAR-10, one run each: AUC .545 and .545)",
    ),
    Experiment(
        name="classes", title="Experiment 3: all classes against few", first="dense", second="few",
        expected="the model with more classes leaks more, since it publishes more",
        published="contrary (CIFAR-10, one run each: AUC .545 for ten against .566 for four classes, which had 2/5 of the data)",
    ),
)  # fmt: skip


def roles(config: CaseStudyConfig) -> dict[str, Role]:
    """Role -> its model."""
    return {
        "conv": Role(model=ModelConfig(model="conv", depth=config.depth)),
        "dense": Role(model=ModelConfig(model="dense", depth=config.depth)),
        "deep": Role(model=ModelConfig(model="dense", depth=config.deep)),
        "few": Role(model=ModelConfig(model="dense", depth=config.depth), few=True),
    }


@writes_evidence("main")
def run(config: CaseStudyConfig, tracker: Tracker, stop: StopFlag) -> StudyResult:
    """Run the experiments; `tracker` is the parent run, with a child run for each model.

    Raises:
        UserError: before any training, for anything that would fail later.
        Interrupted: the run was stopped; everything logged so far stays.
    """
    data = setup.load_data(config)
    if config.experiments in ("all", "depth") and config.deep <= config.depth:
        raise UserError(
            f"deep={config.deep}: the deep model must be deeper than the others; allowed: above depth={config.depth}"
        )
    chosen = [item for item in EXPERIMENTS if config.experiments in ("all", item.name)]
    chosen_roles = {
        name: role for name, role in roles(config).items() if any(name in (item.first, item.second) for item in chosen)
    }
    base = setup.trainer_for(ModelConfig(), config)
    trainers = {name: base.with_params(**Recipe.of(role.model, config).fields()) for name, role in chosen_roles.items()}
    if len(data.shape) == 1:
        check_rows(trainers, data, config)
    chosen_data = setup.choose_classes(data, config)
    targets: dict[bool, TargetSettings] = {}
    request: AuditRequest | None = None
    for name, role in chosen_roles.items():
        part, part_config = _share(chosen_data, config, role)
        try:
            request = setup.audit_request(config, classes=part.classes)
            target = targets.setdefault(role.few, target_of(part, part_config))
            setup.check_sides(target)
            setup.check_trainer(trainers[name], target)
        except UserError as error:
            if not role.few:
                raise
            raise UserError(f"few_classes={config.few_classes} (with its share of the records): {error}") from None
    assert request is not None
    tracker.text(as_json(groups(config)), artifacts.STUDY)
    notes = log_reading(data, tracker)
    found: dict[str, list[AuditedModel]] = {name: [] for name in chosen_roles}
    for seed in range(config.seed, config.seed + config.seeds):
        by_few = {few: target.prepare(seed) for few, target in targets.items()}
        for name, role in chosen_roles.items():
            stop.check()
            prepared = by_few[role.few]
            setting = model_audit.model_setting(trainers[name], prepared.data.classes)
            serves = [item.name for item in chosen if name in (item.first, item.second)]
            tags = {"memberscope.setting": setting, "memberscope.seed": str(seed), "memberscope.experiments": ",".join(serves)}
            tags |= {f"memberscope.experiment.{experiment}": setting for experiment in serves}
            about = description(prepared, trainers[name], tracker) + f"\n\nServes in: {', '.join(serves)}."
            with tracker.child(f"{setting}-s{seed}", tags=tags, description=about) as child:
                trained = model_audit.train_and_audit(
                    prepared, trainers[name], request, child, stop, setting=setting, requested=config
                )
                child.describe(with_finding(trained.report, about))
                found[name].append(trained)
    return with_reading(_conclude(config, chosen, found, tracker), notes)


def check_rows(trainers: Mapping[str, Trainer], data: LabeledData, config: CaseStudyConfig) -> None:
    """Raise UserError where an experiment has a model that cannot be trained on rows of numbers."""
    for name, trainer in trainers.items():
        try:
            trainer.check(setup.facts_of(data))
        except UserError:
            raise UserError(
                f"experiments={config.experiments}: one of its models is {name}, which needs images, and the records of {data.name} have "
                f"shape {data.shape}; allowed here: depth, classes"
            ) from None


def _share(part: LabeledData, config: CaseStudyConfig, role: Role) -> tuple[LabeledData, DataConfig]:
    """The data of a role, and its sizes: with few classes, each side keeps the share of its records that the classes have among all
    records, so there are fewer records, as in the case study.
    """
    values: dict[str, Any] = {item.name: getattr(config, item.name) for item in dataclasses.fields(DataConfig)}
    values["classes"] = "all"
    if role.few:
        if config.few_classes >= part.classes:
            raise UserError(
                f"few_classes={config.few_classes}: {part.name} has {part.classes}; allowed: 2 to {part.classes - 1}"
            )
        few = part.choose(str(config.few_classes), choice=config.class_choice, seed=config.seed)
        for name in ("members", "nonmembers", "validation"):
            if isinstance(values[name], int):
                values[name] = max(10, round(values[name] * len(few) / len(part)))
        part = few
    return part, DataConfig(**values)


def _conclude(
    config: CaseStudyConfig, chosen: Sequence[Experiment], found: Mapping[str, list[AuditedModel]], tracker: Tracker
) -> StudyResult:
    models = [model for of_role in found.values() for model in of_role]
    report = models[0].report  # the models are compared by one attack, not each by its strongest
    attack = report.whole()[0].attack if report.primary == AUTO else report.primary
    differences = {
        item.name: [
            first.report.result(attack).figures[FIGURE].value - second.report.result(attack).figures[FIGURE].value
            for first, second in zip(found[item.first], found[item.second], strict=True)
        ]
        for item in chosen
    }
    judged = verdicts(differences, margin=MARGIN)
    histories = {model.name: model.history.assign(model=model.setting, seed=model.seed) for model in models}
    for item in chosen:
        frame = _stack([histories[model.name] for role in (item.first, item.second) for model in found[role]])
        tracker.figure(plots.training_figure(frame, title=item.title), artifacts.inside(item.name, artifacts.TRAINING_FIGURE))
        tracker.figure(
            plots.leakage_figure(frame, title=f"{item.title}: leakage by epoch"),
            artifacts.inside(item.name, artifacts.LEAKAGE_FIGURE),
        )
        tracker.table(frame, artifacts.inside(item.name, artifacts.BY_EPOCH))
    table = _comparison(chosen, found, judged, attack)
    tracker.table(table, artifacts.EXPERIMENTS)
    tracker.table(table, artifacts.EXPERIMENTS_TABLE)
    tracker.table(_per_model(models), artifacts.MODELS_TABLE)
    headlines: dict[str, float] = {}
    for item in chosen:
        difference = judged[item.name].difference
        headlines |= logged("auc_difference", item.name, difference.mean, difference.ci_low, difference.ci_high)
    for of_role in found.values():
        mean = sum(model.report.result(attack).figures[FIGURE].value for model in of_role) / len(of_role)
        headlines |= logged("auc_mean", of_role[0].setting, mean)
    tracker.metrics(headlines)
    tracker.tags({f"memberscope.verdict.{item.name}": outcome(judged[item.name]) for item in chosen})
    answer = "\n".join(answer_line(item, judged[item.name], found) for item in chosen)
    tracker.describe(_page(config, chosen, judged, found, attack))
    return StudyResult(table=leakage_table(models), answer=answer)


def outcome(verdict: Verdict) -> str:
    """A verdict in the words of the case study, which expected the first model of each experiment to leak more."""
    words = {"increases": "as expected", "decreases": "contrary", "no difference": "contrary (no difference)"}
    return words.get(verdict.verdict, verdict.verdict)


def answer_line(item: Experiment, verdict: Verdict, found: Mapping[str, list[AuditedModel]]) -> str:
    """One line on an experiment: the verdict, then its numbers."""
    return f"{item.name}: {outcome(verdict)}. {difference_line(item, verdict, found)}."


def short_answer(item: Experiment, verdict: Verdict, found: Mapping[str, list[AuditedModel]]) -> str:
    """The verdict on an experiment and its difference in AUC, as a phrase."""
    difference = verdict.difference
    ends = f", 95% {difference.ci_low:+.3f} to {difference.ci_high:+.3f}" if difference.ci_low is not None else ""
    settings = f"{found[item.first][0].setting} minus {found[item.second][0].setting}"
    return f"{item.name}: {outcome(verdict)} (AUC {settings} {difference.mean:+.3f}{ends})"


def difference_line(item: Experiment, verdict: Verdict, found: Mapping[str, list[AuditedModel]]) -> str:
    """The two settings, their mean difference, its interval over seeds, and why there is no verdict, if there is none."""
    difference = verdict.difference
    parts = []
    if difference.ci_low is not None and difference.ci_high is not None:
        parts.append(f"95% interval {difference.ci_low:+.3f} to {difference.ci_high:+.3f} over {difference.n_seeds} seeds")
    if verdict.reason:
        parts.append(verdict.reason)
    return (
        f"AUC {found[item.first][0].setting} minus {found[item.second][0].setting}: {difference.mean:+.3f} ({'; '.join(parts)})"
    )


def _page(
    config: CaseStudyConfig,
    chosen: Sequence[Experiment],
    judged: Mapping[str, Verdict],
    found: Mapping[str, list[AuditedModel]],
    attack: str,
) -> str:
    """The parent run's page, the answers first."""
    lines = [
        "**" + "; ".join(short_answer(item, judged[item.name], found) for item in chosen) + ".**",
        f"# The case study on {config.dataset}, {config.seeds} seed{'s' if config.seeds > 1 else ''}",
        f"Differences are between the AUCs of `{attack}` on all records, paired by seed; the attack was chosen before anything ran. A "
        "verdict needs at least 5 seeds and is adjusted for the number of experiments (Holm). Results of different attacks are not "
        "compared with each other.",
        "| experiment | the case study expected | the case study found | this run found | first minus second |",
        "| --- | --- | --- | --- | --- |",
    ]
    for item in chosen:
        result, numbers = outcome(judged[item.name]), difference_line(item, judged[item.name], found)
        lines.append(f"| {item.name} | {item.expected} | {item.published} | **{result}** | {numbers} |")
    if any(item.name == "classes" for item in chosen):
        lines.append("")
        lines.append(
            "The few-class model has fewer records as well as fewer classes, as in the case study: "
            "this comparison cannot tell the two apart."
        )
    if config.validation == "nonmembers":
        lines.append("")
        lines.append("Training was monitored on the audited non-members (`validation=nonmembers`), as in the case study.")
    head, table = lines[:3], lines[3:]
    return "\n\n".join(head) + "\n\n" + "\n".join(table) + "\n"


def _comparison(
    chosen: Sequence[Experiment], found: Mapping[str, list[AuditedModel]], judged: Mapping[str, Verdict], attack: str
) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for item in chosen:
        difference = judged[item.name].difference
        rows.append(
            {
                "experiment": item.name,
                "first": found[item.first][0].setting,
                "second": found[item.second][0].setting,
                "figure": f"{FIGURE}/{attack}",
                "first_mean": _mean(found[item.first], attack),
                "second_mean": _mean(found[item.second], attack),
                "difference": difference.mean,
                "ci_low": difference.ci_low,
                "ci_high": difference.ci_high,
                "seeds": difference.n_seeds,
                "p_holm": judged[item.name].p_adjusted,
                "verdict": outcome(judged[item.name]),
                "expected": item.expected,
                "published": item.published,
            }
        )
    return pd.DataFrame(rows)


def _mean(models: Sequence[AuditedModel], attack: str) -> float:
    return sum(model.report.result(attack).figures[FIGURE].value for model in models) / len(models)


def _per_model(models: Sequence[AuditedModel]) -> pd.DataFrame:
    import pandas as pd

    frames = [headline_table(model.report).assign(model=model.name, **model.summary) for model in models]
    return pd.concat(frames, ignore_index=True)


def _stack(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(frames, ignore_index=True)
