"""Targets in turn: means over them, numbers of shadows, and the literature's orderings judged at their stated error rate."""

from __future__ import annotations

import dataclasses
import types

import numpy as np
import pandas as pd
import pytest

from memberscope.attacks import registry
from memberscope.plans.shadow import ShadowPlan
from memberscope.studies.shadow.evidence import FleetOutputs
from memberscope.studies.shadow.rotation import (
    FIGURES,
    ONE_QUERY,
    TWO_SIDED,
    Ordering,
    claims,
    counts,
    judge,
    over_targets,
    point_figures,
    rotate,
    rotated_attacks,
    sentences,
)


def _frame(first: np.ndarray, second: np.ndarray, *, figure: str = "auc") -> pd.DataFrame:
    """Two attacks over targets: rows as `rotate` gives them, every other figure 0.5."""
    rows = []
    for name, shadows, values in (("lira_online", 4, first), ("threshold_loss", 0, second)):
        for target, value in enumerate(values):
            rows.append({"target": target, "attack": name, "shadows": shadows} | dict.fromkeys(FIGURES, 0.5) | {figure: value})
    return pd.DataFrame(rows)


CLAIM = Ordering(
    text="first above second", source="nobody", figure="auc", first=("lira_online", None), second=("threshold_loss", 0)
)


def test_numbers_of_shadows_double_up_to_all() -> None:
    assert counts(64, paired=True) == (2, 4, 8, 16, 32, 64)
    assert counts(10, paired=True) == (2, 4, 8, 10)
    assert counts(1, paired=False) == (1,)
    assert counts(2, paired=True) == (2,)


def test_figures_are_those_of_a_closed_form() -> None:
    rng = np.random.default_rng(0)
    member = np.arange(40_000) < 20_000
    found = point_figures(rng.normal(size=40_000) + 1.5 * member, member)
    assert found["auc"] == pytest.approx(0.8556, abs=0.008)  # Phi(1.5 / sqrt 2)
    assert found["tpr_at_fpr_0_01"] == pytest.approx(0.2041, abs=0.03)  # Phi(1.5 - 2.3263)


def test_means_have_a_t_interval_and_one_target_has_none() -> None:
    values = np.array([0.6, 0.62, 0.64, 0.7])
    means = over_targets(_frame(values, values)).set_index(["attack", "figure"]).loc[("lira_online", "auc")]
    half = 3.1824463 * values.std(ddof=1) / 2
    assert means["mean"] == pytest.approx(0.64)
    assert (means["ci_low"], means["ci_high"]) == (pytest.approx(0.64 - half), pytest.approx(0.64 + half))
    alone = over_targets(_frame(values[:1], values[:1]))
    assert alone["ci_low"].isna().all()


def test_a_clear_difference_is_confirmed_or_refuted_and_a_small_one_undecided() -> None:
    rng = np.random.default_rng(1)
    base = 0.6 + 0.01 * rng.normal(size=8)
    for shift, verdict in ((0.1, "confirmed"), (-0.1, "refuted"), (0.0, "undecided")):
        noise = 0.01 * rng.normal(size=8)
        noise -= noise.mean()
        row = judge(_frame(base + shift + noise, base), [CLAIM]).iloc[0]
        assert row["verdict"] == verdict
        assert row["difference"] == pytest.approx(shift, abs=1e-12)
        assert verdict in sentences(judge(_frame(base + shift + noise, base), [CLAIM]))[0]


def test_few_targets_or_a_missing_attack_are_not_tested() -> None:
    few = judge(_frame(np.full(4, 0.7), np.linspace(0.5, 0.6, 4)), [CLAIM])
    assert few["verdict"].tolist() == ["not tested"]
    absent = Ordering(text="x", source="y", figure="auc", first=("rmia_online", None), second=("threshold_loss", 0))
    row = judge(_frame(np.full(8, 0.7), np.full(8, 0.5)), [absent]).iloc[0]
    assert row["verdict"] == "not tested"
    (line,) = sentences(judge(_frame(np.full(8, 0.7), np.full(8, 0.5)), [absent]))
    assert (
        line
        == "1 of the literature's 1 orderings: **not tested**, since their attacks did not run with the required number of shadows."
    )


def test_at_least_is_not_refuted_by_a_draw() -> None:
    claim = Ordering(
        text="x", source="y", figure="auc", first=("lira_online", None), second=("threshold_loss", 0), at_least=True
    )
    values = np.linspace(0.5, 0.6, 8)
    assert judge(_frame(values, values), [claim])["verdict"].tolist() == ["confirmed"]
    assert judge(_frame(values - 0.05 - 0.001 * np.arange(8), values), [claim])["verdict"].tolist() == ["refuted"]


def test_at_least_is_held_to_the_adjusted_level_like_any_claim() -> None:
    """An interval just above 0 confirms it alone (p = 0.04), and not as one of seven (0.28)."""
    claim = Ordering(
        text="x", source="y", figure="auc", first=("lira_online", None), second=("threshold_loss", 0), at_least=True
    )
    values, noise = np.linspace(0.5, 0.6, 8), 0.01 * np.random.default_rng(3).normal(size=8)
    noise -= noise.mean()
    base = values + noise + 2.5 * noise.std(ddof=1) / np.sqrt(8)
    alone = judge(_frame(base, values), [claim]).iloc[0]
    assert 0.03 < alone["p_holm"] < 0.05
    assert alone["verdict"] == "confirmed"
    others = judge(_frame(base, values), [claim] * 7)
    assert (others["ci_low"] > 0).all()
    assert set(others["verdict"]) == {"undecided"}


def test_one_reference_is_one_shadow_where_they_do_not_come_in_pairs() -> None:
    for paired, count in ((True, 2), (False, 1)):
        one = [claim for claim in claims(paired=paired) if "one reference" in claim.text]
        assert len(one) == 4
        assert all(claim.first[1] == claim.second[1] == count for claim in one)


def test_no_difference_is_called_one_in_about_a_twentieth_of_studies() -> None:
    """Seven true nulls a study, Holm: at least one false verdict in about 5% of 200 studies; 2 to 22 of them fail once in 1,000."""
    rng = np.random.default_rng(2)
    stated = [Ordering(text=f"{k}", source="nobody", figure="auc", first=(f"a{k}", 4), second=(f"b{k}", 4)) for k in range(7)]
    names = [f"{side}{k}" for k in range(7) for side in "ab"]
    frame = pd.DataFrame({"target": np.tile(np.arange(8), 14), "attack": np.repeat(names, 8), "shadows": 4})
    wrong = 0
    for _ in range(200):
        found = judge(frame.assign(auc=0.6 + 0.02 * rng.normal(size=len(frame))), stated)
        wrong += bool(found["verdict"].isin(["confirmed", "refuted"]).any())
    assert 2 <= wrong <= 22


def test_attacks_that_are_compared_ask_the_same_queries() -> None:
    """Where copies of the record were queried too, the claim about one reference takes both attacks with one query."""
    for copies, mark in ((False, ""), (True, "[one query]")):
        one = [claim for claim in claims(copies=copies) if "one reference" in claim.text]
        assert [claim.first[0] for claim in one] == [f"rmia_offline{mark}"] * 4
        assert [claim.second[0] for claim in one] == [f"lira_offline{mark}"] * 2 + [f"lira_offline[two_sided]{mark}"] * 2


def test_lira_is_scored_with_and_without_copies() -> None:
    rng = np.random.default_rng(0)
    n, models = 80, 4
    first = rng.random((models // 2, n)) < 0.5
    plan = ShadowPlan(
        design="half", records=np.arange(n), block=np.ones(n, dtype=bool),
        member=np.stack([first, ~first], axis=1).reshape(models, n), targets=np.array([0]), population=np.arange(n, n), coin_flips=True,
    )  # fmt: skip
    logits = rng.normal(size=(models, n, 3))
    data = types.SimpleNamespace(
        x=np.zeros((n, 2)), y=rng.integers(0, 3, n), groups=None, inputs=lambda index: np.zeros((len(index), 2)), groups_of=lambda _: None
    )  # fmt: skip
    said = {"data": data, "plan": plan, "fleet": None, "form": "logits", "outputs": logits, "population": logits[:, :0]}
    copies = np.repeat(logits[:, :, None], 2, axis=2) + rng.normal(size=(models, n, 2, 3))
    attacks = rotated_attacks(["lira_offline", "metric_confidence"])
    with_copies = rotate(FleetOutputs(**said, augmented=copies), attacks, seed=0).set_index("attack")["auc"]
    alone = rotate(FleetOutputs(**said), attacks, seed=0).set_index("attack")["auc"]
    assert with_copies[f"lira_offline{ONE_QUERY}"] == alone["lira_offline"]
    assert with_copies["lira_offline"] != alone["lira_offline"]
    assert f"lira_offline{ONE_QUERY}" not in alone
    assert f"metric_confidence{ONE_QUERY}" not in with_copies


def test_the_authors_two_sided_lira_runs_beside_for_the_claim_about_one_reference() -> None:
    """With one pair of shadows alone, with and without copies; it is no result of its own that later steps would keep."""
    rng = np.random.default_rng(1)
    n, models, outside = 80, 6, 40
    first = rng.random((models // 2, n)) < 0.5
    plan = ShadowPlan(
        design="half", records=np.arange(n), block=np.ones(n, dtype=bool),
        member=np.stack([first, ~first], axis=1).reshape(models, n), targets=np.array([0]), population=np.arange(n, n + outside),
        coin_flips=True,
    )  # fmt: skip
    logits = rng.normal(size=(models, n + outside, 3))
    data = types.SimpleNamespace(
        x=np.zeros((n + outside, 2)), y=rng.integers(0, 3, n + outside), groups=None, inputs=lambda index: np.zeros((len(index), 2)),
        groups_of=lambda _: None,
    )  # fmt: skip
    copies = np.repeat(logits[:, :n, None], 2, axis=2) + rng.normal(size=(models, n, 2, 3))
    outputs = FleetOutputs(
        data=data, plan=plan, fleet=None, form="logits", outputs=logits[:, :n], population=logits[:, n:], augmented=copies
    )
    kept: list[str] = []
    attacks = rotated_attacks(["lira_offline", "rmia_offline"])
    frame = rotate(outputs, attacks, seed=0, on_scores=lambda target, attack, shadows, scores: kept.append(attack))
    assert set(kept) == {"threshold_loss", "lira_offline", "rmia_offline"}
    found = frame.set_index(["attack", "shadows"])["auc"]
    assert {shadows for attack, shadows in found.index if attack.startswith(TWO_SIDED)} == {2}
    evidence = outputs.evidence(0, plan.shadows_of(0)[:2])
    for mark, given in (("", evidence), (ONE_QUERY, dataclasses.replace(evidence, augmented=None))):
        scores = registry.get("lira_offline_two_sided").score(given, seed=0).scores
        assert found[f"{TWO_SIDED}{mark}", 2] == point_figures(scores, evidence.target.member)["auc"]
        assert (f"rmia_offline{mark}", 2) in found
    without = rotate(outputs, rotated_attacks(["lira_offline"]), seed=0)
    assert not without["attack"].str.startswith(TWO_SIDED).any()
