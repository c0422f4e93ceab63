"""One audited model in words: the description of its run, a sentence on its audit, and the table of several models."""

from __future__ import annotations

from collections.abc import Sequence

from memberscope.audit.report import AuditReport
from memberscope.audit.wording import finding
from memberscope.plans.target import Prepared
from memberscope.studies.data_notes import reading_notes
from memberscope.studies.logged_model import why_no_model
from memberscope.studies.model_audit import AuditedModel, is_followed
from memberscope.tracking import Tracker
from memberscope.training.trainer import Trainer


def model_words(trainer: Trainer) -> tuple[str, tuple[str, ...]]:
    """The model in words, and how it is trained, as far as the trainer describes them."""
    facts = dict(trainer.describe())
    architecture, depth = facts.get("model.architecture"), facts.get("model.depth")
    model = f"`{trainer.name}`" if architecture is None or depth is None else f"`{architecture}` of depth {depth}"
    optimizer = str(facts.get("train.optimizer", "learning rate")).replace("adam", "Adam")
    known = {"train.epochs": "{:g} epochs", "train.batch_size": "batch {:g}", "train.learning_rate": optimizer + " {:g}"}
    how = [text.format(facts[name]) for name, text in known.items() if name in facts]
    how += [
        f"{name.partition('.')[2]} {value}"
        for name, value in facts.items()
        if name.partition(".")[0] not in ("model", "train") and name != "trainer.name"
    ]
    return model, tuple(how)


def description(prepared: Prepared, trainer: Trainer, tracker: Tracker) -> str:
    """The run's description in markdown: model, data, training, and what a reader must know before comparing runs."""
    data, plan = prepared.data, prepared.plan
    model, how = model_words(trainer)
    lines = [
        f"{model} on **{data.name}** ({data.classes} classes: {', '.join(data.class_names[:10])}"
        f"{', ...' if data.classes > 10 else ''}){''.join(f', {part}' for part in how)}.",
        f"{len(plan.members):,} members, {len(plan.nonmembers):,} non-members, "
        + (
            "**training was monitored on the audited non-members**, as in the case study: choosing an epoch by them would bias the audit."
            if plan.validation_is_nonmembers
            else f"{len(plan.validation):,} further records for validation, which are never audited."
        ),
        f"Source: {data.source}.",
        *reading_notes(data, plan.sides),
    ]
    if prepared.noise:
        lines.append(
            f"**Label noise:** {prepared.noise:.0%} of the labels of every side were replaced at random, "
            "so that there is something to memorize."
        )
    if not is_followed(trainer):
        lines.append("The model was audited at the end of its training alone: this trainer's models answer no queries before.")
    if missing := why_no_model(trainer, tracker):
        lines.append(missing)
    return "\n\n".join(lines)


def with_finding(report: AuditReport, about: str) -> str:
    """A run's description that begins with what the audit found: MLflow folds away whatever comes after the first two lines."""
    return f"**{finding(report)}**\n\n{about}"


def plain_words(trained: AuditedModel) -> str:
    """One sentence on what the audit's primary attack found."""
    return f"{trained.name}: {finding(trained.report)}"


def leakage_table(models: Sequence[AuditedModel]) -> str:
    """A row per model: accuracies, the AUC of each attack on all records, and the primary attack with its metrics (see `Headline`)."""
    import pandas as pd

    rows, halved = [], False
    for model in models:
        row: dict[str, str] = {
            "model": model.name,
            "train": f"{model.summary['train_accuracy']:.3f}",
            "val": f"{model.summary['val_accuracy']:.3f}",
        }
        for result in model.report.whole():
            row[f"AUC {result.attack}"] = f"{result.figures['auc'].value:.3f}"
        found = model.report.headline
        if found is not None:
            low, high = found.auc.ci_low, found.auc.ci_high
            row["primary"] = found.attack
            row["its AUC"] = f"{found.auc.value:.3f}" + ("" if low is None else f" ({low:.3f}-{high:.3f})")
            row["advantage"] = f"{found.figures['advantage_heldout'].value:.3f}"
            halved |= found.halved
        rows.append(row)
    frame = pd.DataFrame(rows)
    renamed = {
        column: column.replace("AUC ", "").replace("threshold_", "t_").replace("trained_", "") for column in frame.columns
    }
    head = (
        "AUC by attack (t_: threshold on that signal; lr, mlp, rf, knn: attack models cross-fitted on the target's own outputs)"
    )
    if halved:
        head += "\nprimary: the strongest attack on half of the records, with AUC (95% interval) and held-out advantage on the other half"
    return f"{head}\n{frame.rename(columns=renamed).to_string(index=False)}"
