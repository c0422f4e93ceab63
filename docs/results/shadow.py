"""Prints the tables of docs/results/shadow.md from the artifacts of runs of `memberscope shadow`.

python docs/results/shadow.py FOLDER ...    each the folder of a parent run's artifacts, as `mlflow artifacts download` makes it
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

METRICS = {
    "auc": "AUC", "advantage_heldout": "advantage (held out)", "tpr_at_fpr_0_1": "TPR at FPR 0.1", "tpr_at_fpr_0_01": "TPR at FPR 0.01",
}  # fmt: skip
OVER_TARGETS = ("auc", "tpr_at_fpr_0_01")


def short(value: float) -> str:
    """A rate with three decimals, without the leading zero below 1."""
    text = f"{value:.3f}"
    return text[1:] if text.startswith("0.") else text


def with_interval(row: pd.Series) -> str:
    """A value, and its interval if there is one."""
    low, high = row["ci_low"], row["ci_high"]
    return short(row["value"]) + (f" ({short(low)} to {short(high)})" if low == low else "")


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Print a markdown table."""
    print(f"| {' | '.join(header)} |\n|{' --- |' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print()


def one_target(attacks: pd.DataFrame) -> None:
    """Every attack on the whole of the audited target."""
    whole = attacks[(attacks["slice"] == "entire") & attacks["value"].notna()]
    rows = []
    for attack, found in whole.groupby("attack", sort=False):
        figures = found.set_index("metric")
        rows.append([f"`{attack}`", *(with_interval(figures.loc[name]) if name in figures.index else "" for name in METRICS)])
    print_table(["attack", *METRICS.values()], rows)


def by_shadows(means: pd.DataFrame) -> None:
    """Means over targets, with intervals for the fewest and most shadows, and for 16."""
    numbers = sorted(set(means["shadows"]) - {0})
    most = numbers[-1]
    for metric in OVER_TARGETS:
        print(f"{METRICS[metric]}, mean over targets:\n")
        rows = []
        for attack, found in means[means["figure"] == metric].groupby("attack", sort=False):
            cells = found.rename(columns={"mean": "value"}).assign(shadows=found["shadows"].where(found["shadows"] > 0, most))
            cells = cells.set_index("shadows")
            texts = []
            for number in numbers:
                row = cells.loc[number] if number in cells.index else None
                full = number in (numbers[0], 16, most)
                texts.append("" if row is None else with_interval(row) if full else short(row["value"]))
            rows.append([f"`{attack}`", *texts])
        print_table(["attack", *map(str, numbers)], rows)


def orderings(found: pd.DataFrame) -> None:
    """The claims of the literature with their tests."""
    header = ["claim", "metric", "first", "second", "difference (95%)", "p (Holm)", "verdict"]
    rows = []
    for _, row in found.iterrows():
        spread = f"{row['difference']:+.3f} ({row['ci_low']:+.3f} to {row['ci_high']:+.3f})"
        values = [f"{row[side]:.3f}" for side in ("first", "second")]
        rows.append([row["claim"], row["figure"], *values, spread, f"{row['p_holm']:.2g}", f"**{row['verdict']}**"])
    print_table(header, rows)


def main() -> None:
    """Print the tables of each folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="the folder of a parent run's artifacts")
    for folder in parser.parse_args().folders:
        print(f"# {folder}\n")
        for name, show in (("attacks.csv", one_target), ("by_shadows.csv", by_shadows), ("orderings.csv", orderings)):
            if (folder / name).exists():
                show(pd.read_csv(folder / name))


if __name__ == "__main__":
    main()
