"""What a mitigation ladder came to: its tables, verdicts and page, from the audits of all rungs at all seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from memberscope import metrics, plots
from memberscope.audit.log import log_repeated
from memberscope.audit.run import AuditReport
from memberscope.audit.wording import markdown
from memberscope.config import MitigateConfig
from memberscope.release import parse_release
from memberscope.release.undo import temperature_of
from memberscope.studies.mitigate.models import MitigatedModels
from memberscope.studies.mitigate.rungs import UNDEFENDED, Rung
from memberscope.studies.mitigate.verdicts import DISAGREE, AttackChange, attack_changes, changes_table, opposed
from memberscope.studies.result import StudyResult
from memberscope.tracking import Tracker

if TYPE_CHECKING:
    import pandas as pd

CHANGED = ("auc", "advantage_heldout", "tpr_at_fpr_0_01")
BOUND = ("epsilon_lower_bound", "epsilon_lower_bound_ceiling")


@dataclass(frozen=True, kw_only=True, eq=False)
class RungAudit:
    """One rung at one seed: the audit of what is published, and the utility."""

    rung: Rung
    seed: int
    report: AuditReport
    utility: Mapping[str, float]
    mitigated: MitigatedModels


def estimate_of(one: RungAudit, attack: str, figure: str) -> metrics.Estimate | None:
    """A figure of a rung's audit, with its interval over the records; None where the attack was skipped."""
    estimate = one.report.cell(attack).figures.get(figure)
    return None if estimate is None or estimate.status == "skipped" else estimate


def figure_of(one: RungAudit, attack: str, figure: str) -> float | None:
    """The value of such a figure."""
    estimate = estimate_of(one, attack, figure)
    return None if estimate is None else float(estimate.value)


def ladder_frame(ladder: Sequence[Rung], audits: Mapping[str, list[RungAudit]]) -> pd.DataFrame:
    """A row per rung and seed: utility, each changed figure of its primary attack, and of `Rung.against` on the undefended model."""
    import pandas as pd

    rows = []
    for rung in ladder:
        for one, plain in zip(audits[rung.name], audits[UNDEFENDED], strict=True):
            row: dict[str, Any] = {
                "rung": rung.name,
                "seed": one.seed,
                "primary": rung.primary,
                "against": rung.against,
                **one.utility,
            }
            for figure in CHANGED:
                own = estimate_of(one, rung.primary, figure)
                row[figure] = None if own is None else float(own.value)
                row |= {f"{figure}_{end}": None if own is None else getattr(own, end) for end in ("ci_low", "ci_high")}
                row[f"undefended_{figure}"] = figure_of(plain, rung.against, figure)
            cell = one.report.cell(rung.primary)
            for figure in BOUND:
                row[figure] = figure_of(one, rung.primary, figure)
            row["epsilon"] = one.mitigated.epsilon
            row["delta"] = one.mitigated.delta if cell.one_run is None else cell.one_run.delta
            row["seconds"] = one.mitigated.seconds
            rows.append(row)
    return pd.DataFrame(rows)


def attack_frame(ladder: Sequence[Rung], audits: Mapping[str, list[RungAudit]]) -> pd.DataFrame:
    """Columns rung, seed, attack, auc; a row for each attack that could be made on a rung with a seed."""
    import pandas as pd

    rows = [
        (rung.name, one.seed, cell.attack, figure_of(one, cell.attack, "auc"))
        for rung in ladder
        for one in audits[rung.name]
        for cell in one.report.whole()
        if cell.status == "ok"
    ]
    return pd.DataFrame(rows, columns=["rung", "seed", "attack", "auc"]).dropna()


def judge(frame: pd.DataFrame, *, margin: float) -> dict[str, dict[str, metrics.Verdict]]:
    """For each changed figure, the verdict on each rung's per-seed change from the undefended model; Holm over the rungs."""
    found: dict[str, dict[str, metrics.Verdict]] = {}
    for figure in CHANGED:
        changes: dict[str, list[float]] = {}
        for rung, part in frame.groupby("rung", sort=False):
            change = (part[figure] - part[f"undefended_{figure}"]).dropna()
            if rung != UNDEFENDED and len(change):
                changes[str(rung)] = change.tolist()
        found[figure] = metrics.verdicts(changes, margin=margin) if changes else {}
    return found


def table_of(frame: pd.DataFrame, judged: Mapping[str, Mapping[str, metrics.Verdict]]) -> pd.DataFrame:
    """The ladder table: a row per rung; means over seeds with t intervals, changes with verdicts.

    Of one seed there is no interval over seeds: a figure of its audit keeps the one over its records.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for rung, part in frame.groupby("rung", sort=False):
        row: dict[str, Any] = {
            "rung": rung,
            "primary": part["primary"].iloc[0],
            "against": part["against"].iloc[0],
            "seeds": len(part),
        }
        row["delta"] = part["delta"].iloc[0]
        for name in ("train/accuracy", "val/accuracy", "val/loss", "val/ece", *CHANGED, "seconds"):
            values = part[name].dropna().to_numpy(dtype=float) if name in part else np.empty(0)
            if len(values):
                seen = metrics.paired_seeds(values)
                row |= {name: seen.mean, f"{name}_ci_low": seen.ci_low, f"{name}_ci_high": seen.ci_high}
        if len(part) == 1:
            row |= {f"{figure}_{end}": part[f"{figure}_{end}"].iloc[0] for figure in CHANGED for end in ("ci_low", "ci_high")}
        for figure in CHANGED:
            verdict = judged.get(figure, {}).get(str(rung))
            if verdict is not None:
                change = verdict.difference
                row |= {
                    f"{figure}_change": change.mean,
                    f"{figure}_change_ci_low": change.ci_low,
                    f"{figure}_change_ci_high": change.ci_high,
                }
                row |= {f"{figure}_verdict": verdict.verdict}
        row["epsilon"] = part["epsilon"].max()
        row |= {
            figure: part[figure].iloc[0] for figure in BOUND
        }  # those of the first seed: the best of several would not be a bound
        rows.append(row)
    return pd.DataFrame(rows)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The ladder table for people: figures with intervals as text."""
    import pandas as pd

    def text(row: Mapping[str, Any], name: str, *, signed: bool = False) -> str:
        value, low, high = (row.get(key) for key in (name, f"{name}_ci_low", f"{name}_ci_high"))
        if value is None or value != value:
            return ""
        form = "+.3f" if signed else ".3f"
        return f"{value:{form}}" + ("" if low is None or low != low else f" ({low:{form}} to {high:{form}})")

    rows = []
    for row in table.to_dict("records"):
        shown_row = {
            "rung": row["rung"],
            "accuracy": text(row, "val/accuracy"),
            "loss": text(row, "val/loss"),
            "ECE": text(row, "val/ece"),
        }
        shown_row |= {"primary attack": row["primary"], "AUC": text(row, "auc"), "advantage": text(row, "advantage_heldout")}
        shown_row |= {"TPR at FPR 0.01": text(row, "tpr_at_fpr_0_01"), "AUC change": text(row, "auc_change", signed=True)}
        shown_row |= {"verdict": row.get("auc_verdict") if isinstance(row.get("auc_verdict"), str) else ""}
        bound, ceiling = (row[figure] for figure in BOUND)
        shown_row["epsilon"] = "" if row["epsilon"] != row["epsilon"] else f"{row['epsilon']:.2f}"
        shown_row["delta"] = "" if row["delta"] != row["delta"] else f"{row['delta']:.1e}"
        shown_row["epsilon at least"] = "" if bound is None or bound != bound else f"{bound:.2f} of at most {ceiling:.2f}"
        seconds = row.get("seconds")
        shown_row["seconds"] = "" if seconds is None or seconds != seconds else f"{seconds:.1f}"
        rows.append(shown_row)
    return pd.DataFrame(rows)


def pareto(table: pd.DataFrame) -> list[str]:
    """Rungs that no other beats in both accuracy and AUC of its primary attack, among those judged by the same attack as most."""
    part = table.dropna(subset=["auc"])
    common = part["primary"].mode().iloc[0] if len(part) else ""
    part = part[part["primary"] == common]
    front = []
    for row in part.to_dict("records"):
        better = (part["val/accuracy"] >= row["val/accuracy"]) & (part["auc"] <= row["auc"])
        strictly = (part["val/accuracy"] > row["val/accuracy"]) | (part["auc"] < row["auc"])
        if not (better & strictly).any():
            front.append(str(row["rung"]))
    return front


def conclude(
    config: MitigateConfig, ladder: Sequence[Rung], audits: Mapping[str, list[RungAudit]], tracker: Tracker
) -> StudyResult:
    """A child a rung, the ladder table, the plot, the page."""
    frame = ladder_frame(ladder, audits)
    judged = judge(frame, margin=config.margin)
    changes = attack_changes(attack_frame(ladder, audits), undefended=UNDEFENDED, margin=config.margin)
    disagreeing = opposed(changes, judged["auc"])
    table = table_of(frame, judged)
    if disagreeing:
        table.loc[table["rung"].isin(disagreeing), "auc_verdict"] = DISAGREE
    for rung in ladder:
        log_rung(rung, audits[rung.name], table, tracker)
    front = pareto(table)
    people = shown(table)
    tracker.table(frame, "by_seed.csv")
    tracker.table(table, "ladder.csv")
    tracker.table(people, "ladder.json")
    every = changes_table(changes)
    tracker.table(every, "attack_changes.csv")
    tracker.table(every.astype(object).where(every.notna(), None), "attack_changes.json")
    tracker.figure(plots.pareto_figure(table, front), "utility_privacy.png")
    plain = table.set_index("rung").loc[UNDEFENDED]
    tracker.metrics(
        {f"{name}/undefended": float(plain[name]) for name in ("auc", "val/accuracy") if plain[name] == plain[name]}
    )
    verdicts = {rung: DISAGREE if rung in disagreeing else verdict.verdict for rung, verdict in judged["auc"].items()}
    tracker.tags({f"memberscope.verdict.{rung}": verdict for rung, verdict in verdicts.items()})
    lines = [sentence(rung, judged, disagreeing.get(rung.name, ())) for rung in ladder if rung.name in judged["auc"]]
    notes = [*bound_lines(ladder, audits), *skipped_lines(ladder, audits)]
    tracker.describe(page(config, ladder, people, front, lines, notes))
    return StudyResult(table=people.to_string(index=False), answer="\n".join([*lines, *notes]))


def log_rung(rung: Rung, seen: Sequence[RungAudit], table: pd.DataFrame, tracker: Tracker) -> None:
    """A rung's child run: every attack at every seed, the mean figures, epsilon by epoch."""

    tags = {"memberscope.kind": "mitigation", "memberscope.rung": rung.name, "memberscope.primary": rung.primary}
    with tracker.child(rung.name, tags=tags, description=f"{rung.about}. Judged by `{rung.primary}`.") as child:
        child.params({"mitigate.rung": rung.name, "mitigate.training": rung.training, "mitigate.release": rung.release})
        log_repeated({one.seed: one.report for one in seen}, child)
        for one in seen:
            child.metrics(one.utility, step=one.seed)
        for epoch, epsilon in enumerate(seen[0].mitigated.epsilons.tolist(), start=1):
            if np.isfinite(epsilon):
                child.metrics({"epsilon": epsilon}, step=epoch)
        row = table.set_index("rung").loc[rung.name]
        means = {f"{name}_mean/{rung.primary}": row[name] for name in CHANGED} | {"accuracy_mean": row["val/accuracy"]}
        child.metrics({name: float(value) for name, value in means.items() if value == value and value is not None})


def sentence(rung: Rung, judged: Mapping[str, Mapping[str, metrics.Verdict]], disagreeing: Sequence[AttackChange] = ()) -> str:
    """One line: how the rung changes its primary attack's AUC, or what each attack shows if they disagree."""
    verdict = judged["auc"][rung.name]
    if disagreeing:
        shown = ", ".join(f"{one.attack} {one.change.mean:+.3f}" for one in disagreeing)
        primary = f"primary {rung.primary} {verdict.difference.mean:+.3f}"
        return f"{rung.name}: {DISAGREE} ({shown}; each shown at 95%, Holm over the ladder); {primary}."
    change = verdict.difference
    if temperature_of(parse_release(rung.release)) is not None:
        mean = f"{change.mean:+.3f} over {change.n_seeds} seed{'s' if change.n_seeds > 1 else ''}"
        return f"{rung.name}: {verdict.verdict} ({mean}): whoever sees the confidences and knows the temperature undoes it exactly."
    against = "" if rung.against == rung.primary else f" from that of {rung.against} on the undefended model"
    line = f"{rung.name}: AUC of {rung.primary} {verdict.verdict}{against} ({change.mean:+.3f}"
    if change.ci_low is not None and change.ci_high is not None:
        line += f", 95% {change.ci_low:+.3f} to {change.ci_high:+.3f} over {change.n_seeds} seeds"
    return line + (f"; {verdict.reason})." if verdict.reason else ").")


def bound_lines(ladder: Sequence[Rung], audits: Mapping[str, list[RungAudit]]) -> list[str]:
    """A line on the bounds of epsilon: their delta, how large they can be, and whether they could refute the promise."""
    first = [audits[rung.name][0].report.cell(rung.primary) for rung in ladder]
    plan = next((cell.one_run for cell in first if cell.one_run is not None), None)
    if plan is None:
        return []
    ceiling = plan.ceiling(0.95)
    line = (
        f"Bounds of epsilon: 95% lower bounds from the first seed, at delta {plan.delta:.2g}, from {plan.n_guesses} guesses on "
        f"{plan.n_flips} coin flips, a number fixed before any outcome; all guesses right would give {ceiling:.2f}, the largest possible."
    )
    if plan.promise is not None and plan.cannot_refute(0.95):
        line += (
            f" That is not above the promised epsilon {plan.promise:.2g}, so this audit cannot refute it and is no test of it."
        )
    elif plan.promise is not None:
        line += f" That is above the promised epsilon {plan.promise:.2g}, which this audit could therefore refute."
    return [line]


def skipped_lines(ladder: Sequence[Rung], audits: Mapping[str, list[RungAudit]]) -> list[str]:
    """Attacks that a rung's release leaves nothing for, and why."""
    lines = []
    for rung in ladder:
        cells = audits[rung.name][0].report.cells
        missing = {cell.attack: cell.reason for cell in cells if cell.status != "ok"}
        if missing:
            reasons = dict.fromkeys(missing.values())
            text = "; ".join(f"{', '.join(a for a, r in missing.items() if r == reason)}: {reason}" for reason in reasons)
            lines.append(f"Skipped on {rung.name}: {text}.")
    return lines


def page(
    config: MitigateConfig,
    ladder: Sequence[Rung],
    people: pd.DataFrame,
    front: Sequence[str],
    lines: Sequence[str],
    notes: Sequence[str],
) -> str:
    """The parent run's page."""
    parts = [
        f"# Mitigations on {config.dataset}, {config.seeds} seed{'s' if config.seeds > 1 else ''}",
        "Figures are of each rung's primary attack, named before anything ran; every attack sees only what is published, and shadows "
        "are trained and released as the target is. If a release can be inverted (a temperature), the attacker inverts it. "
        "Changes are from the same attack on the undefended model, paired by seed; for labels only, from the attack that judges the "
        "undefended model, for which labels leave nothing. Verdicts: Holm over the rungs, margin "
        f"{config.margin:g}; at least 5 seeds. Every attack's change is in `attack_changes.csv`; if attacks are shown to change in "
        f"opposite directions, the rung has no verdict (*{DISAGREE}*).",
        markdown(people),
        f"Not beaten in both accuracy and AUC (by their means): {', '.join(front)}.",
        "\n".join(f"- {line}" for line in lines),
        "\n".join(f"- **{rung.name}**: {rung.about}." for rung in ladder),
        "\n".join(f"- {line}" for line in notes),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
