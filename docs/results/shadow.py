"""Prints the tables of docs/results/shadow.md from the MLflow runs of its commands.

    python docs/results/shadow.py RUN [RUN ...]

RUN is the id of a run of `memberscope shadow`, in the store that MLFLOW_TRACKING_URI names. Its tables are printed as Markdown: the
accuracy of its models, one target and every attack (both from child runs), the targets by number of shadows, the claims, LiRA less
RMIA, and the fidelity of shadows, as far as the run has them.
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from memberscope import metrics
from memberscope.audit import artifacts

RATES = ("tpr_at_fpr_0_1", "tpr_at_fpr_0_01")
WITH_INTERVAL = (2, 16, 64)  # numbers of shadows
FIDELITY = (
    ("metric_modified_entropy", "balanced_accuracy"), ("shadow_shokri", "balanced_accuracy"), ("lira_offline", "tpr_at_fpr_0_01"),
    ("rmia_offline", "tpr_at_fpr_0_01"),
)  # fmt: skip


def read(run: str, name: str) -> pd.DataFrame | None:
    """A table of a run; None if it has none of this name."""
    client = mlflow.MlflowClient()
    if name not in [file.path for file in client.list_artifacts(run)]:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return pd.read_csv(client.download_artifacts(run, name, folder))


def child_of(run: str, prefix: str) -> str | None:
    """The id of the child run whose name starts with `prefix`."""
    client = mlflow.MlflowClient()
    experiment = client.get_run(run).info.experiment_id
    found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run}'")
    return next((child.info.run_id for child in found if (child.info.run_name or "").startswith(prefix)), None)


def short(value: float, digits: int = 3) -> str:
    """A rate or an AUC without its leading zero."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("0") if abs(value) < 1 else text


def ranged(row: Any, value: str) -> str:
    """A value with its interval, where it has one."""
    if not np.isfinite(row.ci_low):
        return short(getattr(row, value))
    return f"{short(getattr(row, value))} ({short(row.ci_low)} to {short(row.ci_high)})"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def one_target(attacks: pd.DataFrame) -> str:
    """Every attack on the first target."""
    attacks = attacks[(attacks["slice"] == "entire") & (attacks["status"] == "ok")]
    rows = []
    for attack in attacks["attack"].unique():
        own = {row.metric: row for row in attacks[attacks["attack"] == attack].itertuples()}
        rows.append([
            f"`{attack}`",
            *(ranged(own[name], "value") if name in own else "" for name in ("auc", "advantage_heldout", *RATES)),
        ])  # fmt: skip
    return table(["attack", "AUC", "advantage (held out)", "TPR at FPR 0.1", "TPR at FPR 0.01"], rows)


def by_shadows(means: pd.DataFrame, figure: str) -> str:
    """Means over targets of one metric by number of shadows; the loss threshold, which uses none, is in the last column."""
    means = means[(means["figure"] == figure) & ~means["attack"].str.contains("[", regex=False)]
    counts = sorted(set(means["shadows"]) - {0})
    rows = []
    for attack in means["attack"].unique():
        if attack.endswith("two_sided") or "gamma_1" in attack:
            continue
        own = {int(row.shadows) or counts[-1]: row for row in means[means["attack"] == attack].itertuples()}
        cells = ["" if k not in own else ranged(own[k], "mean") if k in WITH_INTERVAL else short(own[k].mean) for k in counts]
        rows.append([f"`{attack}`", *cells])
    return table(["attack", *map(str, counts)], rows)


def claims(judged: pd.DataFrame) -> str:
    """The claims of the literature."""
    rows = [
        [
            row.claim,
            row.figure,
            f"{row.first:.3f}",
            f"{row.second:.3f}",
            f"{row.difference:+.3f} ({row.ci_low:+.3f} to {row.ci_high:+.3f})",
            f"{row.p_holm:.2g}",
            f"**{row.verdict}**",
        ]
        for row in judged[judged["verdict"] != "not tested"].itertuples()
    ]
    return table(["claim", "metric", "first", "second", "difference (95%)", "p (Holm)", "verdict"], rows)


def lira_less_rmia(targets: pd.DataFrame) -> str:
    """`lira_online` less `rmia_online` by number of shadows, paired over the targets."""
    counts = sorted(set(targets["shadows"]) - {0})
    rows = []
    for figure, name in (("auc", "AUC"), ("tpr_at_fpr_0_01", "TPR at FPR 0.01")):
        wide = targets.pivot_table(index=["shadows", "target"], columns="attack", values=figure)
        found = [metrics.paired_seeds((wide.loc[k, "lira_online"] - wide.loc[k, "rmia_online"]).to_numpy()) for k in counts]
        rows.append([name, *(f"{one.mean:+.3f} ({one.ci_low:+.3f} to {one.ci_high:+.3f})" for one in found)])
    return table(["", *map(str, counts)], rows)


def fidelity(found: pd.DataFrame) -> str:
    """The variants of the shadows."""
    rows = []
    for variant in found["variant"].unique():
        cells = []
        for attack, figure in FIDELITY:
            one = found[(found["variant"] == variant) & (found["attack"] == attack) & (found["figure"] == figure)]
            if one.empty:
                cells.append("not made")
                continue
            row = one.iloc[0]
            text = f"{row['mean']:.3f}"
            if np.isfinite(row["difference"]):
                low, high = row["difference_ci_low"], row["difference_ci_high"]
                text += f" ({row['difference']:+.3f}: {low:+.3f} to {high:+.3f})"
            cells.append(text)
        rows.append([variant, *cells])
    measures = [
        "metric, balanced accuracy",
        "Shokri, balanced accuracy",
        "LiRA offline, TPR at 0.01",
        "RMIA offline, TPR at 0.01",
    ]
    return table(["shadows", *measures], rows)


def main() -> None:
    """Print the tables of the runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="id of a run of memberscope shadow")
    for run in parser.parse_args().runs:
        print(f"## {run}\n")
        models, target = child_of(run, "shadows"), child_of(run, "target-")
        if models and (frame := read(models, artifacts.MODELS)) is not None:
            print(frame[["train_accuracy", "test_accuracy"]].agg(["mean", "min", "max"]).round(3).to_string(), "\n")
        if target and (attacks := read(target, artifacts.ATTACKS)) is not None:
            print(one_target(attacks), "\n")
        means, judged, targets, variants = (
            read(run, name) for name in (artifacts.BY_SHADOWS, artifacts.ORDERINGS, artifacts.TARGETS, artifacts.FIDELITY)
        )
        if means is not None and means["shadows"].any():
            print(by_shadows(means, "auc"), "\n")
            print(by_shadows(means, "tpr_at_fpr_0_01"), "\n")
        if judged is not None:
            print(claims(judged), "\n")
        if targets is not None and {"lira_online", "rmia_online"} <= set(targets["attack"]):
            print(lira_less_rmia(targets), "\n")
        if variants is not None:
            print(fidelity(variants), "\n")


if __name__ == "__main__":
    main()
