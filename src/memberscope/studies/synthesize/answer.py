"""The result of `synthesize` over fleets: means, transfer, and comparisons of each kind of shadow data with junk and marginals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from memberscope import metrics
from memberscope.synthesis.transfer import transfer

if TYPE_CHECKING:
    import pandas as pd

REAL, JUNK = "real", "junk"
FIGURES = (
    "balanced_accuracy",
    "fpr",
    "fpr_at_promise_0_1",
    "fpr_at_promise_0_01",
    "tpr_at_promise_0_1",
    "tpr_at_promise_0_01",
    "auc",
)


def summarize(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per method and attack: means over fleets with t intervals, and transfer of the balanced accuracy with Fieller's interval.

    Columns method, attack, fleets, each of `FIGURES` with ``_ci_low`` and ``_ci_high``, transfer, transfer_ci_low, transfer_ci_high,
    transfer_status, gain over junk with its interval.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for attack, part in frame.groupby("attack", sort=False):
        by = {method: rows_of.set_index("fleet") for method, rows_of in part.groupby("method", sort=False)}
        for method, fleets in by.items():
            row: dict[str, Any] = {"method": method, "attack": attack, "fleets": len(fleets)}
            for figure in FIGURES:
                values = fleets[figure].dropna().to_numpy()
                if len(values):
                    mean = metrics.paired_seeds(values)
                    row |= {figure: mean.mean, f"{figure}_ci_low": mean.ci_low, f"{figure}_ci_high": mean.ci_high}
            if method not in (REAL, JUNK) and {REAL, JUNK} <= set(by):
                of_fleet = pd.concat([by[one]["balanced_accuracy"] for one in (method, JUNK, REAL)], axis=1).dropna()
                if not len(of_fleet):
                    rows.append(row)
                    continue
                share = transfer(*of_fleet.to_numpy().T)
                row |= {
                    "transfer": share.value, "transfer_ci_low": share.ci_low, "transfer_ci_high": share.ci_high,
                    "transfer_status": share.status,
                    "gain": share.gain.value, "gain_ci_low": share.gain.ci_low, "gain_ci_high": share.gain.ci_high,
                }  # fmt: skip
            rows.append(row)
    return pd.DataFrame(rows)


def beats(frame: pd.DataFrame, first: str, second: str, *, attack: str) -> metrics.SeedDifference | None:
    """The paired difference of two methods' balanced accuracies over fleets; None if one of them was not measured."""
    part = frame[frame["attack"] == attack].pivot(index="fleet", columns="method", values="balanced_accuracy")
    if not {first, second} <= set(part.columns):
        return None
    differences = (part[first] - part[second]).dropna().to_numpy()
    return metrics.paired_seeds(differences) if len(differences) else None


def sentences(frame: pd.DataFrame, methods: tuple[str, ...]) -> list[str]:
    """A line per method and attack for the comparison with junk, and with marginals if they were measured; Holm over all comparisons.

    The verdict is *above* or *below* if the adjusted p-value is at most 0.05, else *not told apart*; *not assessed* with fewer than five
    fleets.
    """
    pairs = [
        (attack, method, other)
        for attack in frame["attack"].unique()
        for method in methods
        for other in (JUNK, "marginal")
        if method not in (JUNK, other)
    ]
    found = {pair: apart for pair in pairs if (apart := beats(frame, pair[1], pair[2], attack=pair[0])) is not None}
    tested = {pair: apart.p_value for pair, apart in found.items() if apart.n_seeds >= metrics.LEAST_SEEDS}
    adjusted = dict(zip(tested, metrics.holm([p for p in tested.values() if p is not None]), strict=True))
    lines = []
    for (attack, method, other), apart in found.items():
        line = f"{attack}, {method} minus {other}: balanced accuracy {apart.mean:+.4f}"
        if apart.ci_low is not None and apart.ci_high is not None:
            line += f" (95% {apart.ci_low:+.4f} to {apart.ci_high:+.4f} over {apart.n_seeds} fleets)"
        p = adjusted.get((attack, method, other))
        if p is None:
            word = f"not assessed, at least {metrics.LEAST_SEEDS} fleets are needed"
        else:
            word = f"{'not told apart' if p > 0.05 else 'above' if apart.mean > 0 else 'below'} (Holm, p {p:.2g})"
        lines.append(f"{line}: {word}.")
    return lines


def shown(summary: pd.DataFrame) -> pd.DataFrame:
    """The table for people, with metrics and intervals as text."""
    import pandas as pd

    def text(row: Mapping[str, Any], name: str, digits: int = 3) -> str:
        value, low, high = (row.get(key) for key in (name, f"{name}_ci_low", f"{name}_ci_high"))
        if value is None or value != value:
            status = row.get(f"{name}_status")
            return str(status) if isinstance(status, str) else ""
        interval = "" if low is None or low != low else f" ({low:.{digits}f} to {high:.{digits}f})"
        return f"{value:.{digits}f}{interval}"

    names = ("balanced_accuracy", "fpr", "fpr_at_promise_0_1", "fpr_at_promise_0_01", "auc", "transfer", "gain")
    return pd.DataFrame(
        [
            {"method": row["method"], "attack": row["attack"], **{name: text(row, name) for name in names}}
            for row in summary.to_dict("records")
        ]
    )
