"""Verdicts on the rungs of a mitigation ladder, from the changes of all attacks.

A rung is judged by an attack that was named beforehand. If other attacks show the contrary, the only verdict is that the attacks disagree:
an attack can get weaker, or stronger, for reasons of its own, and a defence is no better than its strongest attacker makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memberscope import metrics

if TYPE_CHECKING:
    import pandas as pd

DISAGREE = "attacks disagree"
_MISS = 0.05


@dataclass(frozen=True, kw_only=True)
class AttackChange:
    """What a rung does to one attack's AUC, over seeds.

    Attributes:
        rung: its name.
        attack: its name.
        undefended: mean AUC on the undefended model.
        value: mean AUC on the rung.
        change: summary of the per-seed differences.
        p_holm: two-sided, Holm over all attacks on all rungs of the ladder; None with one seed.
        trifle: a mean change below this counts for nothing.
    """

    rung: str
    attack: str
    undefended: float
    value: float
    change: metrics.SeedDifference
    p_holm: float | None
    trifle: float

    @property
    def sign(self) -> int:
        """1 or -1 where the change is no trifle and is shown at 95% (Holm) over enough seeds, else 0."""
        shown = self.p_holm is not None and self.p_holm <= _MISS and self.change.n_seeds >= metrics.LEAST_SEEDS
        shown = shown and abs(self.change.mean) >= self.trifle
        return (1 if self.change.mean > 0 else -1) if shown else 0


def attack_changes(frame: pd.DataFrame, *, undefended: str, margin: float = 0.02) -> list[AttackChange]:
    """Every attack's change on every rung, paired by seed.

    Args:
        frame: columns rung, seed, attack, auc; a row for each attack that could be made.
        undefended: the rung that the others are compared with.
        margin: the smallest change of the primary attack that matters; of another attack's, a quarter of it can contradict.
    """
    plain = frame[frame["rung"] == undefended].set_index(["attack", "seed"])["auc"]
    rows: list[tuple[str, str, float, float, metrics.SeedDifference]] = []
    for (rung, attack), own in frame[frame["rung"] != undefended].groupby(["rung", "attack"], sort=False):
        values = own.set_index(["attack", "seed"])["auc"]
        shared = values.index.intersection(plain.index)
        if len(shared):
            change = metrics.paired_seeds((values[shared] - plain[shared]).round(9).to_numpy())
            rows.append((str(rung), str(attack), float(plain[shared].mean()), float(values[shared].mean()), change))
    adjusted = iter(metrics.holm([change.p_value for *_, change in rows if change.p_value is not None]).tolist())
    return [
        AttackChange(
            rung=rung, attack=attack, undefended=before, value=after, change=change, trifle=margin / 4,
            p_holm=None if change.p_value is None else next(adjusted),
        )
        for rung, attack, before, after, change in rows
    ]  # fmt: skip


def opposed(changes: list[AttackChange], verdicts: Mapping[str, metrics.Verdict]) -> dict[str, tuple[AttackChange, ...]]:
    """For each rung whose attacks disagree, those that do: all attacks with a shown change, if both signs occur.

    A rung's verdict counts as a change of its primary attack. Attacks without a shown change contradict nothing.
    """
    found: dict[str, tuple[AttackChange, ...]] = {}
    for rung, verdict in verdicts.items():
        shown = tuple(change for change in changes if change.rung == rung and change.sign)
        signs = {change.sign for change in shown} | {{"increases": 1, "decreases": -1}.get(verdict.verdict, 0)} - {0}
        if {1, -1} <= signs:
            found[rung] = shown
    return found


def changes_table(changes: list[AttackChange]) -> pd.DataFrame:
    """A row per rung and attack: undefended, auc, change with its interval, p_holm."""
    import pandas as pd

    columns = ["rung", "attack", "undefended", "auc", "change", "ci_low", "ci_high", "p_holm", "seeds"]
    rows = [
        (one.rung, one.attack, one.undefended, one.value, one.change.mean, one.change.ci_low, one.change.ci_high, one.p_holm,
         one.change.n_seeds)
        for one in changes
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)
