"""Verdicts on mitigations, from the changes of all attacks.

A mitigation is assessed by its primary attack, which is fixed beforehand. If other attacks are shown to change in the opposite direction,
the only verdict is that the attacks disagree: an attack can become weaker or stronger for reasons of its own, and a mitigation is only as
good as it is against the strongest attack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from memberscope import metrics

if TYPE_CHECKING:
    import pandas as pd

DISAGREE = "attacks disagree"
_MISS = 0.05


@dataclass(frozen=True, kw_only=True)
class AttackChange:
    """The change of one attack's AUC under a mitigation, over seeds.

    Attributes:
        mitigation: the name of the mitigation.
        attack: the name of the attack.
        undefended: mean AUC on the undefended model.
        value: mean AUC under the mitigation.
        change: summary of the per-seed differences.
        p_holm: two-sided p-value, adjusted (Holm) over all attacks on all mitigations; None with one seed.
        negligible: mean changes below this are ignored.
    """

    mitigation: str
    attack: str
    undefended: float
    value: float
    change: metrics.SeedDifference
    p_holm: float | None
    negligible: float

    @property
    def sign(self) -> int:
        """1 or -1 if the change is not negligible and is shown at 95% (Holm) over enough seeds, else 0."""
        shown = self.p_holm is not None and self.p_holm <= _MISS and self.change.n_seeds >= metrics.LEAST_SEEDS
        shown = shown and abs(self.change.mean) >= self.negligible
        return (1 if self.change.mean > 0 else -1) if shown else 0


def attack_changes(frame: pd.DataFrame, *, undefended: str, margin: float = 0.02) -> list[AttackChange]:
    """Every attack's change under every mitigation, paired by seed.

    Args:
        frame: columns rung (the mitigation), seed, attack, auc; a row for each attack that could be run.
        undefended: the name under which `frame` has the undefended model.
        margin: the smallest change of the primary attack that matters; a quarter of it is enough for another attack to contradict.
    """
    plain = dict(zip(*_by_attack_and_seed(frame[frame["rung"] == undefended]), strict=True))
    rows: list[tuple[str, str, float, float, metrics.SeedDifference]] = []
    for (mitigation, attack), own in frame[frame["rung"] != undefended].groupby(["rung", "attack"], sort=False):
        pairs = [(plain[key], auc) for key, auc in zip(*_by_attack_and_seed(own), strict=True) if key in plain]
        if pairs:
            before, after = (np.array(values) for values in zip(*pairs, strict=True))
            change = metrics.paired_seeds(np.round(after - before, 9))
            rows.append((str(mitigation), str(attack), float(before.mean()), float(after.mean()), change))
    adjusted = iter(metrics.holm([change.p_value for *_, change in rows if change.p_value is not None]).tolist())
    return [
        AttackChange(
            mitigation=mitigation, attack=attack, undefended=before, value=after, change=change, negligible=margin / 4,
            p_holm=None if change.p_value is None else next(adjusted),
        )
        for mitigation, attack, before, after, change in rows
    ]  # fmt: skip


def _by_attack_and_seed(rows: pd.DataFrame) -> tuple[list[tuple[str, int]], list[float]]:
    return list(zip(rows["attack"].tolist(), rows["seed"].tolist(), strict=True)), rows["auc"].tolist()


def opposed(changes: list[AttackChange], verdicts: Mapping[str, metrics.Verdict]) -> dict[str, tuple[AttackChange, ...]]:
    """For each mitigation whose attacks disagree, all attacks with a shown change; they disagree if both signs occur.

    A mitigation's verdict counts as the sign of its primary attack. Attacks without a shown change contradict nothing.
    """
    found: dict[str, tuple[AttackChange, ...]] = {}
    for mitigation, verdict in verdicts.items():
        shown = tuple(change for change in changes if change.mitigation == mitigation and change.sign)
        signs = {change.sign for change in shown} | {{"increases": 1, "decreases": -1}.get(verdict.verdict, 0)} - {0}
        if {1, -1} <= signs:
            found[mitigation] = shown
    return found


def changes_table(changes: list[AttackChange]) -> pd.DataFrame:
    """A row per mitigation (column rung) and attack: undefended, auc, change with its interval, p_holm."""
    import pandas as pd

    columns = ["rung", "attack", "undefended", "auc", "change", "ci_low", "ci_high", "p_holm", "seeds"]
    rows = [
        (one.mitigation, one.attack, one.undefended, one.value, one.change.mean, one.change.ci_low, one.change.ci_high, one.p_holm,
         one.change.n_seeds)
        for one in changes
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)
