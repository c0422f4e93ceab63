"""What a kept run says, as plain values: its figures, its finding in words, its accuracies, its history by epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memberscope.controls import DIFFERENT
from memberscope.tracking import KeptRun

if TYPE_CHECKING:
    import pandas as pd

ATTACKS = "attacks.csv"
RATES = {"tpr_at_fpr_0_001": "1 in 1,000", "tpr_at_fpr_0_01": "1 in 100", "tpr_at_fpr_0_1": "1 in 10"}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure with its interval, each None where it is not known."""

    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    status: str = "ok"
    reason: str = ""


def audited(runs: list[KeptRun]) -> list[KeptRun]:
    """The runs that hold an attack table: those given, or in place of one without, its children, however deep."""
    found: list[KeptRun] = []
    for run in runs:
        found += [run] if ATTACKS in run.tables else audited(list(run.children))
    return list({run.id: run for run in found}.values())


def figure(run: KeptRun, attack: str, metric: str, part: str = "entire") -> Figure:
    """One figure of a run; an empty one where the run has none."""
    frame = run.tables[ATTACKS]
    rows = frame[(frame["attack"] == attack) & (frame["slice"] == part) & (frame["metric"] == metric)]
    if not len(rows):
        return Figure(status="missing")
    row = rows.iloc[0]
    return Figure(
        value=_number(row["value"]), ci_low=_number(row["ci_low"]), ci_high=_number(row["ci_high"]), status=str(row["status"]),
        reason=_text(row["reason"]),
    )  # fmt: skip


def attacks(run: KeptRun) -> list[str]:
    """The attacks that ran on all records, in the order asked for."""
    frame = run.tables[ATTACKS]
    ran = frame[(frame["slice"] == "entire") & (frame["metric"] == "auc") & frame["value"].notna()]
    return list(dict.fromkeys(ran["attack"].astype(str)))


def skipped(run: KeptRun) -> list[tuple[str, str]]:
    """Attacks that could not run on all records, and why."""
    frame = run.tables[ATTACKS]
    rows = frame[(frame["slice"] == "entire") & (frame["status"] == "skipped") & (frame["metric"] == "auc")]
    return [(str(row["attack"]), _text(row["reason"])) for _, row in rows.iterrows()]


def family(run: KeptRun, attack: str) -> str:
    """An attack's family."""
    frame = run.tables[ATTACKS]
    return str(frame.loc[frame["attack"] == attack, "family"].iloc[0])


def sizes(run: KeptRun) -> tuple[int, int]:
    """Members and non-members of the entire data set."""
    frame = run.tables[ATTACKS]
    row = frame[frame["slice"] == "entire"].iloc[0]
    return int(row["n_member"]), int(row["n_nonmember"])


def classes(run: KeptRun, attack: str) -> list[tuple[str, Figure, int, int]]:
    """Slices that may compete for the worst (classes and a user's columns): name, AUC, members, non-members; worst first."""
    frame = run.tables[ATTACKS]
    rows = frame[(frame["attack"] == attack) & (frame["metric"] == "auc") & frame["value"].notna()]
    outcome = r"entire|worst_slice|correct|incorrect|loss_p\d+_p\d+"
    rows = rows[~rows["slice"].astype(str).str.fullmatch(outcome)].sort_values("value", ascending=False, kind="stable")
    return [
        (
            str(row["slice"]),
            Figure(value=_number(row["value"]), ci_low=_number(row["ci_low"]), ci_high=_number(row["ci_high"])),
            int(row["n_member"]),
            int(row["n_nonmember"]),
        )
        for _, row in rows.iterrows()
    ]


def class_names(run: KeptRun) -> Mapping[str, str]:
    """Slice -> the class's own name, where the run knows it."""
    names = run.params.get("data.class_names", "")
    return {f"class_{number}": name for number, name in enumerate(names.split(","))} if names else {}


def verdict(auc: Figure) -> str:
    """``leaks``, ``quiet`` or ``odd``, by the interval alone; ``none`` without one."""
    if auc.ci_low is None or auc.ci_high is None:
        return "none"
    return "leaks" if auc.ci_low > 0.5 else "odd" if auc.ci_high < 0.5 else "quiet"


def judged(run: KeptRun) -> str:
    """The `verdict` on the first attack, or ``doubt`` where that leaks and the blind control says that the two sides differ anyhow."""
    names = attacks(run)
    found = verdict(figure(run, names[0], "auc")) if names else "none"
    return "doubt" if found == "leaks" and doubt(run) else found


def doubt(run: KeptRun) -> str:
    """What the blind control said, where it puts every other figure in doubt; else nothing."""
    said = controls(run).get("blind", "")
    return said if said.removeprefix("Blind control: ").startswith(DIFFERENT) else ""


def plain_words(run: KeptRun) -> tuple[str, list[str]]:
    """The finding of the first attack (not of the best of several), and what its figures mean in words."""
    names = attacks(run)
    if not names:
        reasons = "; ".join(f"{attack}: {reason}" for attack, reason in skipped(run))
        return f"No attack could run ({reasons}).", []
    attack = names[0]
    auc = figure(run, attack, "auc")
    told = {
        "leaks": "The model gives away which records it was trained on.",
        "doubt": "Members are told from non-members, but the two differ without the model, too: how much is its doing is open.",
        "quiet": "With these records, members cannot be told from non-members better than by chance.",
        "odd": "Non-members look more like members than members do: look at how the records were split before trusting any figure.",
        "none": "There is no interval to judge by.",
    }[judged(run)]
    lines = [doubt(run)] if doubt(run) else []
    if auc.value is not None:
        lines.append(
            f"Shown one member and one non-member, the attack `{attack}` picks the member in {auc.value:.1%} of cases; a coin picks it in "
            f"50%. The 95% interval is {auc.ci_low or 0:.1%} to {auc.ci_high or 1:.1%}."
        )
    metric = finest_rate(run, attack)
    tpr = figure(run, attack, metric)
    if tpr.value is not None and tpr.ci_low is not None and tpr.ci_high is not None:
        lines.append(
            f"If it may accuse {RATES[metric]} non-members wrongly, it finds {tpr.value:.2%} of the members "
            f"(95% {tpr.ci_low:.2%} to {tpr.ci_high:.2%})."
        )
    if verdict(auc) == "quiet":
        lines.append(
            f"That is not proof of safety: a stronger attack, or more records, may find what this one missed. An AUC up to "
            f"{auc.ci_high or 1:.3f} remains possible for this attack."
        )
    return told, lines


def finest_rate(run: KeptRun, attack: str) -> str:
    """The TPR at the lowest FPR that the run's non-members can measure: ten false positives or more."""
    return next((metric for metric in RATES if figure(run, attack, metric).status == "ok"), "tpr_at_fpr_0_1")


def history(run: KeptRun) -> pd.DataFrame | None:
    """Accuracy, loss, AUC and advantage by epoch, from the run's table or its metrics; None for what was not trained here."""
    import pandas as pd

    frame = run.tables.get("history.csv")
    if frame is None:
        names = {
            "train/accuracy": "train_accuracy", "val/accuracy": "val_accuracy", "train/loss": "train_loss", "val/loss": "val_loss",
            "auc/threshold_loss": "auc", "advantage/threshold_loss": "advantage",
        }  # fmt: skip
        if len(run.metrics.get("train/accuracy", ())) < 2:
            return None
        series = {column: pd.Series(dict(run.metrics[name])) for name, column in names.items() if name in run.metrics}
        frame = pd.DataFrame(series).rename_axis("epoch").reset_index()
    return frame if len(frame) > 1 and {"train_accuracy", "val_accuracy"} <= set(frame.columns) else None


def controls(run: KeptRun) -> dict[str, str]:
    """The sentences of the controls, as the audit wrote them."""
    try:
        found = json.loads(run.texts.get("controls.json", "{}"))
    except ValueError:
        return {}
    return {str(name): str(text) for name, text in found.items()} if isinstance(found, dict) else {}


def settings(run: KeptRun) -> dict[str, str]:
    """The resolved configuration under dotted names, empty values left out."""
    found: dict[str, Any] = {}
    for name in ("study.json", "config.json"):
        try:
            found |= json.loads(run.texts.get(name, "{}"))
        except ValueError:
            continue
    return {str(name): str(value) for name, value in found.items() if str(value) != ""}


def _number(value: Any) -> float | None:
    return None if value is None or value != value else float(value)


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value)
