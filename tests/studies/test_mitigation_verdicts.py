"""Where attacks disagree about a mitigation: what counts as shown, and what takes the verdict away."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from memberscope import metrics
from memberscope.studies.mitigate.verdicts import AttackChange, attack_changes, changes_table, opposed


def _frame(changes: dict[str, dict[str, list[float]]]) -> pd.DataFrame:
    """Undefended AUCs of .8 plus a level by seed; under a mitigation, an attack's AUC moves by its list of changes."""
    rows = []
    attacks = {attack for per in changes.values() for attack in per}
    for attack in sorted(attacks):
        rows += [("undefended", seed, attack, 0.8 + 0.01 * seed) for seed in range(5)]
    for rung, per in changes.items():
        for attack, moved in per.items():
            rows += [(rung, seed, attack, 0.8 + 0.01 * seed + change) for seed, change in enumerate(moved)]
    return pd.DataFrame(rows, columns=["rung", "seed", "attack", "auc"])


DOWN, UP, NOISE = [-0.05, -0.06, -0.04, -0.05, -0.055], [0.02, 0.025, 0.015, 0.02, 0.022], [0.02, -0.03, 0.01, -0.02, 0.015]


def _verdicts(frame: pd.DataFrame, primary: str, changes: list[AttackChange]) -> dict[str, metrics.Verdict]:
    part = {one.mitigation: one for one in changes if one.attack == primary}
    plain = frame[(frame.rung == "undefended") & (frame.attack == primary)].set_index("seed")["auc"]
    values = {
        rung: (frame[(frame.rung == rung) & (frame.attack == primary)].set_index("seed")["auc"] - plain).tolist()
        for rung in part
    }
    return metrics.verdicts(values, margin=0.02)


def test_two_shown_changes_of_opposite_sign_disagree() -> None:
    frame = _frame({"l2": {"lira": DOWN, "rmia": UP, "loss": NOISE}, "dropout": {"lira": DOWN, "rmia": DOWN, "loss": NOISE}})
    changes = attack_changes(frame, undefended="undefended")
    assert [(one.attack, one.sign) for one in changes if one.mitigation == "l2"] == [("lira", -1), ("rmia", 1), ("loss", 0)]
    found = opposed(changes, _verdicts(frame, "rmia", changes))
    assert set(found) == {"l2"}
    assert [one.attack for one in found["l2"]] == ["lira", "rmia"]


def test_a_change_is_paired_by_seed_and_holm_is_over_the_attacks_of_a_mitigation() -> None:
    changes = attack_changes(_frame({"l2": {"lira": DOWN, "rmia": NOISE}}), undefended="undefended")
    lira = changes[0]
    expected = metrics.paired_seeds(DOWN)
    assert lira.change.mean == pytest.approx(expected.mean)
    assert lira.change.sd == pytest.approx(expected.sd)  # the seeds' own levels cancel
    assert lira.p_holm == pytest.approx(2 * expected.p_value)
    table = changes_table(changes)
    assert table["change"].tolist() == pytest.approx([np.mean(DOWN), np.mean(NOISE)])


def test_too_few_seeds_show_nothing() -> None:
    frame = _frame({"l2": {"lira": DOWN, "rmia": UP}})
    few = frame[frame["seed"] < 4]
    changes = attack_changes(few, undefended="undefended")
    assert all(one.sign == 0 for one in changes)
    assert opposed(changes, _verdicts(few, "rmia", changes)) == {}


def test_attacks_that_lack_the_mitigation_or_the_undefended_model_are_left_out() -> None:
    frame = _frame({"label_only": {"gap": DOWN}})
    extra = pd.DataFrame([("label_only", seed, "rmia", 0.5) for seed in range(5)], columns=frame.columns)
    assert [one.attack for one in attack_changes(pd.concat([frame, extra]), undefended="undefended")] == ["gap"]


def test_disagreement_by_noise_is_rare() -> None:
    """Twelve attacks without any change: some pair of opposite shown changes in at most the share that Holm allows (fails 1 in 1,000)."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(100):
        frame = _frame({"l2": {f"a{k}": (0.01 * rng.normal(size=5)).tolist() for k in range(12)}})
        changes = attack_changes(frame, undefended="undefended")
        wrong += bool(opposed(changes, _verdicts(frame, "a0", changes)))
    assert wrong <= 4
