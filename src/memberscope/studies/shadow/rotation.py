"""Each of several models is the target in turn: the strength of attacks over targets, by number of shadows, and compared in pairs.

Targets of one plan share their pool and most of their shadows, and differ in membership, weights and order. An interval over them is about
this data set, this recipe and this pool.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memberscope import metrics
from memberscope.attacks import registry
from memberscope.attacks.base import Attack, Skip
from memberscope.audit.groups import POOLINGS, counted
from memberscope.metrics.area import auc_value
from memberscope.metrics.curve import rank
from memberscope.metrics.low_fpr import tpr_value
from memberscope.studies.shadow.evidence import FleetOutputs

if TYPE_CHECKING:
    import pandas as pd

RATES = (0.1, 0.01, 0.001)
FIGURES = ("auc", *(f"tpr_at_fpr_{metrics.rate_name(rate)}" for rate in RATES))
ROTATED = {"target", "shadows", "population", "augmented"}
ONE_PAIR = 2  # a complementary pair of shadows: for each record, exactly one was not trained on it
COMPARED = 16  # number of shadows at which the two variances of LiRA are compared
TWO_SIDED = "lira_offline[two_sided]"  # the authors' two-sided score, beside the one-sided test of the paper
ONE_QUERY = "[one query]"  # marks an attack that queries only the record itself, beside the same attack with copies


def point_figures(scores: NDArray[np.float64], member: NDArray[np.bool_]) -> dict[str, float]:
    """AUC and TPR at each of `RATES`, without intervals: these are computed over targets."""
    ranking = rank(scores, member)
    return {"auc": auc_value(ranking)} | {name: tpr_value(ranking, rate) for name, rate in zip(FIGURES[1:], RATES, strict=True)}


def counts(shadows: int, *, paired: bool) -> tuple[int, ...]:
    """Numbers of shadows to try: from 1 (2 if they come in pairs), doubling up to all."""
    found, count = [], 2 if paired else 1
    while count < shadows:
        found.append(count)
        count *= 2
    return (*found, shadows)


def rotated_attacks(names: Iterable[str]) -> tuple[Attack, ...]:
    """The named attacks that are run against every target: all that use shadows and need no further queries of the target."""
    return tuple(
        attack
        for attack in registry.resolve(names)
        if "shadows" in attack.needs and attack.needs <= ROTATED and not attack.cross_fitted
    )


def variances() -> dict[str, Attack]:
    """LiRA with either variance, by name; they are compared at `COMPARED` shadows."""
    from memberscope.attacks.lira import Lira

    lira = registry.get("lira_online")
    assert isinstance(lira, Lira)
    return {f"lira_online[{kind}]": dataclasses.replace(lira, variance=kind) for kind in ("global", "per_record")}


def for_claims(names: Collection[str], count: int, *, paired: bool) -> dict[str, Attack]:
    """Attacks that run beside those of that name, by name, since a claim with that number of shadows compares them."""
    found: dict[str, Attack] = {}
    if count == (ONE_PAIR if paired else 1) and {"lira_offline", "rmia_offline"} <= set(names):
        found[TWO_SIDED] = registry.get("lira_offline_two_sided")
    if count == COMPARED and "lira_online" in names:
        found |= variances()
    return found


def rotate(
    outputs: FleetOutputs,
    attacks: Sequence[Attack],
    *,
    seed: int,
    workers: int | None = None,
    group_scores: str = POOLINGS[0],
    on_target: Callable[[int], None] = lambda t: None,
    on_scores: Callable[[int, str, int, NDArray[np.float64]], None] = lambda target, attack, shadows, scores: None,
) -> pd.DataFrame:
    """Attack every target of the plan with growing numbers of its shadows.

    Args:
        outputs: the outputs of all models.
        attacks: the attacks that `rotated_attacks` selects.
        seed: seed of the attacks' draws.
        workers: threads per attack.
        group_scores: how scores of groups are made, where records have groups; see `memberscope.audit.groups`.
        on_target: called with each target before its turn; an exception from it ends the rotation.
        on_scores: called with the target, the attack's name, the number of shadows and the scores (m,), for each attack as it is
            registered (with copies, where there are any).

    Returns:
        Columns target, attack, shadows (0 for the loss threshold, which uses none) and `FIGURES`; an attack that could not be run has
        no row.
    """
    import pandas as pd

    plan = outputs.plan
    rows: list[dict[str, Any]] = []
    for target in plan.targets.tolist():
        on_target(target)
        pool = plan.shadows_of(target)
        loss = registry.get("threshold_loss")
        whole = outputs.evidence(target)
        for count in (0, *counts(len(pool), paired=plan.design == "half")):
            evidence = whole if count in (0, len(pool)) else outputs.evidence(target, pool[:count])
            by_name: dict[str, Attack] = {attack.name: attack for attack in (attacks if count else [loss])}
            by_name |= for_claims(by_name, count, paired=plan.design == "half")
            turns = [(name, attack, evidence) for name, attack in by_name.items()]
            if evidence.augmented is not None:
                alone = dataclasses.replace(evidence, augmented=None)
                turns += [(f"{name}{ONE_QUERY}", attack, alone) for name, attack in by_name.items() if attack.reads_copies]
            for name, attack, given in turns:
                result = attack.score(given, seed=seed, workers=workers)
                if not isinstance(result, Skip):
                    if given is evidence and name == attack.name:
                        on_scores(target, name, count, result.scores)
                    rows.append(
                        {"target": target, "attack": name, "shadows": count}
                        | point_figures(*counted(result.scores, evidence.target, group_scores=group_scores))
                    )
    return pd.DataFrame(rows, columns=["target", "attack", "shadows", *FIGURES])


def over_targets(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over targets with t intervals: columns attack, shadows, figure (the metric), mean, ci_low, ci_high, targets.

    With one target there is no interval.
    """
    import pandas as pd

    rows = []
    for (attack, shadows), part in frame.groupby(["attack", "shadows"], sort=False):
        for figure in FIGURES:
            mean = metrics.paired_seeds(part[figure].to_numpy())
            rows.append(
                {
                    "attack": attack, "shadows": int(shadows), "figure": figure, "mean": mean.mean, "ci_low": mean.ci_low,
                    "ci_high": mean.ci_high, "targets": mean.n_seeds,
                }
            )  # fmt: skip
    columns = ["attack", "shadows", "figure", "mean", "ci_low", "ci_high", "targets"]
    return pd.DataFrame(rows, columns=columns).astype({"ci_low": float, "ci_high": float})


@dataclass(frozen=True, kw_only=True)
class Ordering:
    """An ordering that the literature states: `first` is above (with `at_least`: not below) `second` in the metric `figure`. Each side is
    an attack and a number of shadows, where None means all.
    """

    text: str
    source: str
    figure: str
    first: tuple[str, int | None]
    second: tuple[str, int | None]
    at_least: bool = False


def claims(*, paired: bool = True, copies: bool = False) -> tuple[Ordering, ...]:
    """The orderings that the literature leads one to expect; only attacks with the same queries are compared.

    Args:
        paired: whether shadows come in complementary pairs. The fewest references are then a pair, which has one OUT model for each
            record; otherwise a single shadow.
        copies: whether attacks queried several copies of each record. RMIA is then compared with LiRA on a single query.
    """
    alone = ONE_QUERY if copies else ""
    one_each = ONE_PAIR if paired else 1
    low = "tpr_at_fpr_0_01"
    loss = ("threshold_loss", 0)
    lira, rmia = "Carlini et al. 2022", "Zarifzadeh et al. 2024"
    above = [
        Ordering(text=f"{name} above the loss threshold", source=source, figure=low, first=(name, None), second=loss)
        for name, source in (("lira_online", lira), ("lira_offline", lira), ("rmia_online", rmia), ("rmia_offline", rmia))
    ]
    one = [
        Ordering(
            text=f"RMIA with one reference model per record above {kind} LiRA with one",
            source=rmia,
            figure=figure,
            first=(f"rmia_offline{alone}", one_each),
            second=(f"{other}{alone}", one_each),
        )
        for kind, other in (("one-sided", "lira_offline"), ("the authors' two-sided", TWO_SIDED))
        for figure in ("auc", low)
    ]
    variance = Ordering(
        text=f"at {COMPARED} shadows, LiRA with the global variance at least as good as with per-record variances",
        source=lira,
        figure=low,
        first=("lira_online[global]", COMPARED),
        second=("lira_online[per_record]", COMPARED),
        at_least=True,
    )
    return (*above, *one, variance)


def judge(frame: pd.DataFrame, stated: Sequence[Ordering]) -> pd.DataFrame:
    """Test each claim on the targets: paired differences with t intervals, Holm over the claims that could be tested.

    Returns:
        Columns claim, source, figure (the metric), first, second (means), difference, ci_low, ci_high, p_holm, targets, verdict. The
        verdict is *confirmed* or *refuted* if the adjusted two-sided p-value is at most 0.05, else *undecided* (an ``at_least`` claim is
        also confirmed by equality on every target); *not tested* if an attack is missing or there are fewer than five targets.
    """
    import pandas as pd

    most = int(frame["shadows"].max()) if len(frame) else 0

    def values(attack: str, shadows: int | None, figure: str) -> pd.Series:
        part = frame[(frame["attack"] == attack) & (frame["shadows"] == (most if shadows is None else shadows))]
        return part.set_index("target")[figure]

    rows: list[dict[str, Any]] = []
    tests: list[tuple[int, float]] = []
    for claim in stated:
        first, second = (values(*side, claim.figure) for side in (claim.first, claim.second))
        row: dict[str, Any] = {"claim": claim.text, "source": claim.source, "figure": claim.figure, "verdict": "not tested"}
        shared = first.index.intersection(second.index)
        if len(shared):
            tested = metrics.paired_seeds((first[shared] - second[shared]).to_numpy())
            row |= {
                "first": float(first[shared].mean()), "second": float(second[shared].mean()), "difference": tested.mean,
                "ci_low": tested.ci_low, "ci_high": tested.ci_high, "targets": tested.n_seeds,
            }  # fmt: skip
            if tested.p_value is not None and tested.n_seeds >= metrics.LEAST_SEEDS:
                tests.append((len(rows), tested.p_value))
        rows.append(row)
    adjusted = metrics.holm([p for _, p in tests])
    for (place, _), p in zip(tests, adjusted, strict=True):
        row, claim = rows[place], stated[place]
        row["p_holm"] = float(p)
        row["verdict"] = _verdict(row, at_least=claim.at_least)
    columns = [
        "claim", "source", "figure", "first", "second", "difference", "ci_low", "ci_high", "p_holm", "targets", "verdict",
    ]  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=columns)


def _verdict(row: Mapping[str, Any], *, at_least: bool) -> str:
    if row["p_holm"] <= 0.05:
        return "confirmed" if row["difference"] > 0 else "refuted"
    return "confirmed" if at_least and row["ci_low"] == row["ci_high"] == 0 else "undecided"


def sentences(judged: pd.DataFrame) -> list[str]:
    """One line per tested claim, for people; one last line counts the claims whose attacks did not run."""
    lines, absent = [], 0
    for row in judged.to_dict("records"):
        if row["targets"] != row["targets"]:  # NaN
            absent += 1
            continue
        numbers = ""
        if row["ci_low"] == row["ci_low"] and row["ci_low"] is not None:
            numbers = (
                f": {row['figure']} {row['first']:.4f} against {row['second']:.4f}, difference {row['difference']:+.4f} "
                f"(95% {row['ci_low']:+.4f} to {row['ci_high']:+.4f} over {row['targets']:.0f} targets)"
            )
        lines.append(f"{row['claim']} ({row['source']}): **{row['verdict']}**{numbers}.")
    if absent:
        why = "since their attacks did not run with the required number of shadows"
        lines.append(f"{absent} of the literature's {len(judged)} orderings: **not tested**, {why}.")
    return lines
