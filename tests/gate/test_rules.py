"""The gate's rules: what parses, and that each error points at its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memberscope.attacks import registry
from memberscope.errors import UserError
from memberscope.gate import Rule, parse_rules
from memberscope.metrics import registry as known_metrics


def test_the_rules_of_the_design_parse() -> None:
    rules = parse_rules("trained_mlp.entire.auc > 0.55; any.entire.tpr_at_fpr_0_001 > 0.01;")
    assert rules == (
        Rule(attack="trained_mlp", slice="entire", metric="auc", limit=0.55),
        Rule(attack="any", slice="entire", metric="tpr_at_fpr_0_001", limit=0.01),
    )


@given(
    st.lists(
        st.builds(
            Rule,
            attack=st.sampled_from(["any", *registry.names()]),
            slice=st.sampled_from(["any", "entire", "class_12", "correct", "loss_p90_p100", "site:St. Mary", "age:1.5"]),
            metric=st.sampled_from(sorted(known_metrics.gated())),
            limit=st.floats(0, 1),
        ).filter(lambda rule: rule.slice == "entire" or "subjects" not in known_metrics.get(rule.metric).declared),
        min_size=1,
        unique=True,
    )
)
def test_rules_read_back_their_own_text(rules: list[Rule]) -> None:
    assert parse_rules("; ".join(map(str, rules))) == tuple(rules)
    assert parse_rules("; ".join(map(str, [*rules, *rules]))) == tuple(rules), "each once"


GOOD = "any.entire.auc > 0.6; "  # 22 characters: what follows begins at column 23


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", r"no rule in ''; expected ATTACK\.SLICE\.METRIC > NUMBER"),
        (
            "trained_mpl.entire.auc > 0.55",
            r"column 1: 'trained_mpl' is not an attack; nearest: trained_mlp.*; expected any or one of",
        ),
        (GOOD + "trained_mpl.entire.auc > 0.55", r"column 23: 'trained_mpl' is not an attack"),
        (GOOD + "any.entier.auc > 0.55", r"column 27: 'entier' is not a slice; nearest: entire; expected any, entire"),
        (GOOD + "any.worst_slice.auc > 0.55", r"column 27: worst_slice is picked by its own metric; expected any"),
        (
            GOOD + "any.entire.tpr_at_fpr_001 > 0.1",
            r"column 34: 'tpr_at_fpr_001' is not a metric with an interval; nearest: tpr_at_fpr",
        ),
        (
            GOOD + "any.entire.advantage > 0.1",
            r"column 34: advantage has no interval .*; allowed instead: advantage_heldout, auc",
        ),
        (
            GOOD + "any.entire.ppv > 0.1",
            r"column 34: ppv needs prior, which was not declared; allowed: with prior=SHARE, such as prior=0\.01, or",
        ),
        (GOOD + "any.entire.lift_at_fpr_0_01 > 2", r"column 34: lift_at_fpr_0_01 needs prior"),
        (GOOD + "any.class_1.found > 9", r"column 35: found counts all people .*; expected the slice entire, not 'class_1'"),
        (GOOD + "any.entire.null_auc > 0.1", r"column 34: null_auc is a control"),
        (GOOD + "any.entire.auc >= 0.1", r"column 38: '>='; expected >"),
        (GOOD + "any.entire.auc < 0.1", r"column 38: '<'; expected >"),
        (GOOD + "any.entire.auc", r"column 37: expected > and a number after 'any\.entire\.auc'"),
        (GOOD + "any.entire.auc >", r"column 39: expected a number after >"),
        (GOOD + "any.entire.auc > high", r"column 40: 'high' is not a number; expected a limit for auc, between 0 and 1"),
        (GOOD + "any.entire.auc > 0.1 0.2", r"column 40: '0\.1 0\.2' is not a number"),
        (GOOD + "any.entire.auc > 55", r"column 40: 55 is out of range; .* between 0 and 1 \(rates are fractions\)"),
        (GOOD + "any.entire.auc > nan", r"column 40: nan is out of range"),
        (GOOD + "any.entire.epsilon_heuristic > -1", r"column 54: -1 is out of range; expected a limit for .*, at least 0"),
        (GOOD + "any > 0.1", r"column 26: expected ATTACK\.SLICE\.METRIC > NUMBER; there is no slice after 'any'"),
        (GOOD + "any.auc > 0.1", r"column 30: expected \.METRIC after 'any\.auc'"),
        (GOOD + "> 0.1", r"column 23: expected ATTACK\.SLICE\.METRIC > NUMBER; there is no attack"),
        ("any.class_10.auc > 0.6", r"column 5: slice 'class_10' is not one of the 10 classes; expected class_0 to class_9"),
        (
            "trained_rf.entire.auc > 0.6",
            r"column 1: attack 'trained_rf' does not run; expected one of trained_mlp, threshold_loss, or any",
        ),
    ],
)
def test_errors_point_at_the_place(text: str, line: str) -> None:
    with pytest.raises(UserError, match=f"^fail_if: {line}") as caught:
        parse_rules(
            text, attacks=("trained_mlp", "threshold_loss"), classes=[f"class_{k}" for k in range(10)], declared=("subjects",)
        )
    assert "\n" not in str(caught.value)


def test_without_knowing_what_runs_any_attack_and_class_is_allowed() -> None:
    assert parse_rules("trained_rf.class_99.auc > 0.6")
