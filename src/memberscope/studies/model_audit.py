"""One model from data to audit, as every study that trains does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from memberscope import metrics, plots, seeds, signals
from memberscope.attacks import registry
from memberscope.audit.log import attack_progress, finding, headline_table, keep_scores, log_headline
from memberscope.audit.run import AuditReport, check_engine, resolve_attacks, resolve_primary, run_audit, tfp_slicings
from memberscope.config import AuditConfig, DataConfig, ModelConfig, TrainConfig
from memberscope.datasets import LabeledData, Sizes, duplicates
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.models import build_model, check_model, summary_text
from memberscope.plans.split import Plan, make_plan, replace_labels, resolve_sizes
from memberscope.predictions import Predictions
from memberscope.progress import Progress
from memberscope.slices import check_names
from memberscope.studies.attack import log_risk, primary_first
from memberscope.tracking import DataInput, Tracker, as_json

if TYPE_CHECKING:
    import pandas as pd


EXPOSED = 25  # how many of the most exposed members a run lists
ONSET_MARGIN = 0.02  # train accuracy this far above validation accuracy, from some epoch on, is called overfitting


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A data set with its plan for one seed: what a model is trained and audited on.

    Attributes:
        data: the records, labels after noise.
        x: the records as a tensor, shared by the models that train on them.
        plan: who is a member.
        noise: the share of labels that were replaced.
        seed: of the plan.
    """

    data: LabeledData
    x: Any
    plan: Plan
    noise: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained and audited model: what studies compare.

    Attributes:
        name: such as ``dense-d3-c10-s0``.
        setting: the name without the seed.
        seed: its seed.
        history: columns epoch, train_accuracy, train_loss, val_accuracy, val_loss, auc, advantage (missing where no audit fell).
        report: the final audit.
        summary: final figures: train_accuracy, val_accuracy, gap, overfit_onset_epoch (if any), parameters.
        predictions: what the final model said of the audited records.
    """

    name: str
    setting: str
    seed: int
    history: pd.DataFrame
    report: AuditReport
    summary: Mapping[str, float]
    predictions: Predictions


def model_setting(model: ModelConfig, classes: int) -> str:
    """The name of a setting, the seed left out: ``conv-d3-c10``; what differs from the defaults is named too."""
    parts = [model.model, f"d{model.depth}", f"c{classes}"]
    default = ModelConfig()
    parts += [
        f"{short}{getattr(model, name)}"
        for short, name in (("w", "width"), ("f", "filters"))
        if getattr(model, name) != getattr(default, name)
    ]
    parts += ["w" + "x".join(map(str, model.hidden))] if model.hidden else []
    parts += [model.activation] if model.activation != default.activation else []
    return "-".join(parts)


def prepare(data: LabeledData, config: DataConfig, *, seed: int, x: Any = None) -> Prepared:
    """Choose classes, draw the sides, replace labels.

    Args:
        data: the whole data set.
        config: sizes, classes, noise.
        seed: redraws all of it.
        x: the chosen records as a tensor, if they are there already.
    """
    from memberscope.training.keras.fit import to_tensor

    chosen = data.choose(config.classes, choice=config.class_choice, seed=seed)
    sizes = sizes_for(chosen, config)
    plan = make_plan(chosen.y, sizes, seed=seed)
    noise = chosen.label_noise if config.label_noise == "auto" else float(config.label_noise)
    labels = replace_labels(chosen.y, plan.sides, share=noise, classes=chosen.classes, seed=seed)
    return Prepared(
        data=chosen.with_labels(labels), x=to_tensor(chosen.x) if x is None else x, plan=plan, noise=noise, seed=seed
    )


def sizes_for(data: LabeledData, config: DataConfig) -> Sizes:
    """The sizes that a configuration asks of a data set; UserError if they do not fit."""
    return resolve_sizes(
        available=len(data),
        members=config.members,
        nonmembers=config.nonmembers,
        validation=config.validation,
        defaults=data.sizes,
    )


def check_before_training(
    data: LabeledData, config: DataConfig, models: list[ModelConfig], train: TrainConfig, audit: AuditConfig, *, seed: int
) -> None:
    """Raise UserError for anything that would fail later: attacks, classes, sizes, depths, a batch larger than the members."""
    check_engine(audit.engine)
    names = resolve_attacks(audit.attacks, engine=audit.engine)
    if not any(registry.get(name).needs <= {"target"} for name in names):
        raise UserError(
            f"attacks={audit.attacks}: all need shadow models; allowed here: all, tfp, threshold, trained, or some of them"
        )
    resolve_primary(audit.primary, names, present=("target",))
    chosen = data.choose(config.classes, choice=config.class_choice, seed=seed)
    sizes = sizes_for(chosen, config)
    if audit.slices != "auto":
        check_names(audit.slices, classes=chosen.classes)
        if audit.engine == "tfp":
            tfp_slicings(audit.slices)
    for model in models:
        check_model(model.model, depth=model.depth, input_shape=data.shape, widths=model.hidden)
    if train.batch_size > sizes.members:
        raise UserError(f"batch_size={train.batch_size}: more than the {sizes.members} members; allowed: 1 to {sizes.members}")


def train_and_audit(
    prepared: Prepared,
    model_config: ModelConfig,
    train: TrainConfig,
    audit: AuditConfig,
    tracker: Tracker,
    stop: StopFlag,
    *,
    setting: str,
) -> Trained:
    """Train one model, look at it by epoch, attack it, and log all of it to `tracker`.

    Raises:
        Interrupted: `stop` was set; what was logged stays.
    """
    from memberscope.training.keras.fit import fit, predictor

    data, plan, seed = prepared.data, prepared.plan, prepared.seed
    model = build_model(
        model_config.model, depth=model_config.depth, input_shape=data.shape, classes=data.classes, width=model_config.width,
        widths=model_config.hidden, filters=model_config.filters, activation=model_config.activation, seed=seed,
    )  # fmt: skip
    _log_inputs(prepared, model, model_config, train, audit, tracker)
    predict = predictor(model, prepared.x, scale=data.scale)
    rows: list[dict[str, float]] = []
    steps = -(-len(plan.members) // train.batch_size) * train.epochs
    with Progress(steps, setting + f"-s{seed}") as progress:

        def between_steps(done: int) -> None:
            progress.advance(done)
            stop.check()

        def after_epoch(epoch: int) -> None:
            row = look(predict, data, plan, epoch=epoch, audited=epoch % audit.audit_every == 0 or epoch == train.epochs)
            rows.append(row)
            tracker.metrics(epoch_metrics(row), step=epoch)
            progress.advance(0, note=f"accuracy: train {row['train_accuracy']:.3f}, validation {row['val_accuracy']:.3f}")
            stop.check()

        fit(
            model, prepared.x, data.y, plan.members, scale=data.scale, epochs=train.epochs, batch_size=train.batch_size,
            learning_rate=train.learning_rate, seed=seed, after_epoch=after_epoch, between_steps=between_steps,
        )  # fmt: skip
    predictions = final_predictions(predict, data, plan)
    report = final_audit(predictions, audit, setting=f"{setting}-s{seed}", seed=seed, epoch=train.epochs, stop=stop)
    history = _history(rows)
    trained = Trained(
        name=f"{setting}-s{seed}", setting=setting, seed=seed, history=history, report=report,
        summary=_summary(history, model.count_params()), predictions=predictions,
    )  # fmt: skip
    log_result(trained, tracker, epochs=train.epochs, source=data.digest)
    tracker.keras_model(model, input_shape=data.shape, classes=data.classes)
    return trained


def look(predict: Any, data: LabeledData, plan: Plan, *, epoch: int, audited: bool) -> dict[str, float]:
    """Accuracy and loss of both sides with the weights as they stand, and, if `audited`, AUC and advantage of the loss threshold."""
    shared = plan.validation_is_nonmembers or not len(plan.validation)
    outside = [] if shared else [plan.validation]
    if audited or shared:
        outside.append(plan.nonmembers)
    index = np.concatenate([plan.members, *outside])
    ends = np.cumsum([len(plan.members), *map(len, outside)])
    seen = Predictions(logits=predict(index), labels=data.y[index], member=np.arange(len(index)) < ends[0])
    correct, loss = signals.correctness(seen), signals.loss_nats(seen)
    row: dict[str, float] = {"epoch": epoch}
    for side, start, end in (("train", 0, ends[0]), ("val", ends[0], ends[1])):
        row[f"{side}_accuracy"], row[f"{side}_loss"] = float(correct[start:end].mean()), float(loss[start:end].mean())
    if audited:
        scores = -np.concatenate([loss[: ends[0]], loss[-len(plan.nonmembers) :]])
        row["auc"] = metrics.auc(scores, plan.member).value
        row["advantage"] = metrics.advantage(scores, plan.member).value
    return row


def epoch_metrics(row: Mapping[str, float]) -> dict[str, float]:
    """An epoch's row under the names that runs show."""
    names = {
        "train_accuracy": "train/accuracy", "train_loss": "train/loss", "val_accuracy": "val/accuracy", "val_loss": "val/loss",
        "auc": "auc/threshold_loss", "advantage": "advantage/threshold_loss",
    }  # fmt: skip
    return {names[key]: value for key, value in row.items() if key in names}


def final_predictions(predict: Any, data: LabeledData, plan: Plan) -> Predictions:
    """What the model says of members and non-members; record ids are positions in the data set, or numbers shared by kept copies."""
    index = plan.audited
    return Predictions(logits=predict(index), labels=data.y[index], member=plan.member, record_ids=data.record_ids(index))


def final_audit(
    predictions: Predictions, audit: AuditConfig, *, setting: str, seed: int, epoch: int, stop: StopFlag
) -> AuditReport:
    """The attacks of the configuration, with progress by attack."""
    from memberscope.tfprivacy import Metadata

    names = resolve_attacks(audit.attacks, engine=audit.engine)
    correct = signals.correctness(predictions)
    loss = signals.loss_nats(predictions)
    sides = [predictions.member, ~predictions.member]
    accuracy_train, accuracy_test = (float(correct[side].mean()) for side in sides)
    loss_train, loss_test = (float(loss[side].mean()) for side in sides)
    metadata = Metadata(
        accuracy_train=accuracy_train, accuracy_test=accuracy_test, loss_train=loss_train, loss_test=loss_test, name=setting, epoch=epoch
    )  # fmt: skip
    with attack_progress(names, setting, stop) as on_attack:
        report = run_audit(
            predictions, attacks=names, primary=audit.primary, slices=_slices(audit), engine=audit.engine, seed=seed, metadata=metadata,
            on_attack=on_attack,
        )  # fmt: skip
    stop.check()
    return report


def _slices(audit: AuditConfig) -> str | dict[str, str]:
    if audit.slices != "auto":
        return f"entire,{audit.slices}"  # every summary speaks of all records first
    return {"threshold": "all", "trained": "entire"} if audit.engine == "tfp" else "all"


def _history(rows: list[dict[str, float]]) -> pd.DataFrame:
    import pandas as pd

    columns = ["epoch", "train_accuracy", "train_loss", "val_accuracy", "val_loss", "auc", "advantage"]
    return pd.DataFrame(rows, columns=columns).astype({"epoch": int})


def overfit_onset(history: pd.DataFrame, margin: float = ONSET_MARGIN) -> int | None:
    """The first epoch from which train accuracy stays more than `margin` above validation accuracy to the end; None if never."""
    above = (history["train_accuracy"] - history["val_accuracy"]).to_numpy() > margin
    if not above[-1]:
        return None
    under = np.flatnonzero(~above)
    first = int(under[-1]) + 1 if len(under) else 0
    return int(history["epoch"].iloc[first])


def _summary(history: pd.DataFrame, parameters: int) -> dict[str, float]:
    last = history.iloc[-1]
    summary = {
        "train_accuracy": float(last["train_accuracy"]),
        "val_accuracy": float(last["val_accuracy"]),
        "gap": float(last["train_accuracy"] - last["val_accuracy"]),
        "parameters": float(parameters),
    }
    onset = overfit_onset(history)
    if onset is not None:
        summary["overfit_onset_epoch"] = float(onset)
    return summary


def _log_inputs(
    prepared: Prepared, model: Any, model_config: ModelConfig, train: TrainConfig, audit: AuditConfig, tracker: Tracker
) -> None:
    data, plan = prepared.data, prepared.plan
    resolved = {
        "data.name": data.name, "data.classes": data.classes, "data.class_names": ",".join(data.class_names), "data.digest": data.digest,
        "data.label_noise": prepared.noise, "data.members": len(plan.members), "data.nonmembers": len(plan.nonmembers),
        "data.validation": "nonmembers" if plan.validation_is_nonmembers else len(plan.validation), "plan.digest": plan.digest,
        "model.architecture": model_config.model, "model.depth": model_config.depth, "model.width": model_config.width,
        "model.widths": model_config.widths,
        "model.filters": model_config.filters, "model.activation": model_config.activation, "model.parameters": model.count_params(),
        "train.epochs": train.epochs, "train.batch_size": train.batch_size, "train.learning_rate": train.learning_rate,
        "train.optimizer": "adam", "audit.attacks": audit.attacks, "audit.primary": audit.primary, "audit.slices": audit.slices,
        "audit.engine": audit.engine, "study.seed": prepared.seed, **duplicates.facts(data, plan.sides),
    }  # fmt: skip
    tracker.params(resolved)
    tracker.text(as_json(resolved), "config.json")
    tracker.text(summary_text(model), "model_summary.txt")
    splits = {"member": plan.members, "nonmember": plan.nonmembers}
    if not plan.validation_is_nonmembers:
        splits["validation"] = plan.validation
    for context, index in splits.items():
        tracker.data(
            DataInput(
                name=data.name,
                context=context,
                digest=data.part_digest(context, index),
                source=data.source,
                shape=(len(index), *data.shape),
                classes=data.classes,
            )
        )
    if len(data.shape) == 3:
        tracker.figure(sample_of(prepared), "data_sample.png")


def sample_of(prepared: Prepared) -> Any:
    """A 5x5 sample of the data set with its class names: records outside the plan's members where there are enough."""
    data, plan = prepared.data, prepared.plan
    pool = plan.validation if len(plan.validation) >= 25 else plan.nonmembers
    index = seeds.stream(prepared.seed, "sample").choice(pool, size=min(25, len(pool)), replace=False)
    noise = f", {prepared.noise:.0%} of labels replaced at random" if prepared.noise else ""
    return plots.sample_figure(
        data.x[index], [data.class_names[label] for label in data.y[index]], title=f"{data.name}: {data.classes} classes{noise}"
    )


def log_result(trained: Trained, tracker: Tracker, *, epochs: int, source: str) -> None:
    """Log the final figures, the attack table, the records' scores, the curves and their points; `source` is the data set's digest."""
    found = trained.report.headlines()
    tracker.metrics(found, step=epochs)
    log_headline(trained.report, tracker, step=epochs)
    tracker.metrics(
        {name: value for name, value in trained.summary.items() if name in ("gap", "overfit_onset_epoch")}, step=epochs
    )
    frame = trained.report.to_frame()
    tracker.table(frame, "attacks.csv")
    tracker.table(headline_table(trained.report), "attacks.json")
    keep_scores(trained.report, tracker, source=source)
    log_risk(trained.report, tracker, seed=trained.seed, top=EXPOSED)
    tracker.table(trained.history, "history.csv")
    curves = {cell.attack: cell.roc for cell in primary_first(trained.report)}
    if curves:
        points = plots.roc_points(curves)
        labels = {name: f"{name} (AUC {trained.report.cell(name).figures['auc'].value:.3f})" for name in curves}
        tracker.table(points, "roc.csv")
        tracker.figure(
            plots.roc_figure(points, title=f"{trained.name}: membership inference, all records", labels=labels), "roc.png"
        )


def description(prepared: Prepared, model: ModelConfig, train: TrainConfig) -> str:
    """The run's markdown: what was trained on what, and what a reader must know before comparing."""
    data, plan = prepared.data, prepared.plan
    lines = [
        f"`{model.model}` of depth {model.depth} on **{data.name}** ({data.classes} classes: {', '.join(data.class_names[:10])}"
        f"{', ...' if data.classes > 10 else ''}), {train.epochs} epochs, batch {train.batch_size}, Adam {train.learning_rate:g}.",
        f"{len(plan.members):,} members, {len(plan.nonmembers):,} non-members, "
        + (
            "**the audited non-members also validated the training**, as in the case study: choosing an epoch by them would bias the audit."
            if plan.validation_is_nonmembers
            else f"{len(plan.validation):,} further records for validation, which the audit never sees."
        ),
        f"Source: {data.source}.",
        *duplicates.notes(data, plan.sides),
    ]
    if prepared.noise:
        lines.append(
            f"**Label noise:** {prepared.noise:.0%} of the labels of every side were replaced at random, "
            "so that there is something to memorize."
        )
    return "\n\n".join(lines)


def plain_words(trained: Trained) -> str:
    """One sentence on what the audit's primary attack found."""
    return f"{trained.name}: {finding(trained.report)}"
