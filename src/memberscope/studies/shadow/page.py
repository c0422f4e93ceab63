"""The page and the headline metrics of a shadow study's run, from what was found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from memberscope.audit.report import AuditReport
from memberscope.audit.wording import finding, headline_table, markdown, skips
from memberscope.metrics.rounding import logged
from memberscope.plans.keyed import shown_digest
from memberscope.studies.shadow.evidence import FleetOutputs

if TYPE_CHECKING:
    import pandas as pd


def at_most_shadows(means: pd.DataFrame) -> pd.DataFrame:
    """The rows with all shadows, and those of the loss threshold."""
    most = means["shadows"].max()
    return means[(means["shadows"] == most) | (means["shadows"] == 0)]


def headline_metrics(means: pd.DataFrame) -> dict[str, float]:
    """Means over targets as metrics of the run: ``auc_mean/lira_online`` with ``auc_mean_ci_low/...``."""
    found: dict[str, float] = {}
    for row in at_most_shadows(means).to_dict("records"):
        values = [None if row[name] != row[name] else float(row[name]) for name in ("mean", "ci_low", "ci_high")]
        attack = str(row["attack"])
        if "[" not in attack:
            found |= logged(f"{row['figure']}_mean", attack, *values)
    return found


def over_targets_table(means: pd.DataFrame) -> pd.DataFrame:
    """A row per attack: each metric's mean over targets with its interval, as text."""
    import pandas as pd

    rows: dict[str, dict[str, str]] = {}
    for row in at_most_shadows(means).to_dict("records"):
        text = f"{row['mean']:.4f}"
        if row["ci_low"] == row["ci_low"]:
            text += f" ({row['ci_low']:.4f} to {row['ci_high']:.4f})"
        rows.setdefault(str(row["attack"]), {"attack": str(row["attack"])})[str(row["figure"])] = text
    return pd.DataFrame(list(rows.values()))


def page(
    outputs: FleetOutputs,
    report: AuditReport,
    table: pd.DataFrame,
    lines: Sequence[str],
    exposed: Sequence[str],
    remarks: Sequence[str],
    fidelity: pd.DataFrame | None,
    from_elsewhere: str,
) -> str:
    """The parent run's page; the finding comes first, and `remarks` after what was trained."""
    plan, data = outputs.plan, outputs.data
    coins = "each membership by a fair coin" if plan.coin_flips else "half of each class"
    parts = [
        f"**{finding(report)}**",
        f"# Shadow models on {data.name}",
        f"{plan.n_models} models, design `{plan.design}`, {coins}; {len(plan.shadows_of(int(plan.targets[0])))} shadows per target, "
        f"{len(plan.targets)} targets in turn, {len(plan.population):,} records that no model saw. "
        f"Plan digest `{shown_digest(data, plan.digest)[:16]}`.",
        *remarks,
        "## Over targets\n\n" + markdown(table),
        "Intervals are t intervals over targets, which share their pool and most of their shadows.",
        "## Who is exposed\n\n" + "\n".join(f"- {line}" for line in exposed),
        "## The literature's orderings\n\n" + "\n".join(f"- {line}" for line in lines),
        "## One target, every attack\n\n" + markdown(headline_table(report)),
        *skips(report),
        *filter(None, [from_elsewhere]),
    ]
    if fidelity is not None:
        parts.append("## How faithful must a shadow be?\n\n" + markdown(fidelity.round(4)))
    return "\n\n".join(parts) + "\n"
