"""The risk statement: its three parts, and that they agree with the report and with what was declared."""

from __future__ import annotations

import json

import numpy as np
import pytest

from memberscope import AuditReport, Predictions, run_audit
from memberscope.audit.declared import Declared
from memberscope.audit.statement_text import NOT_DECLARED, statement_text, with_ends
from memberscope.errors import UserError
from memberscope.gate import judge, parse_rules
from memberscope.metrics import Estimate, accusations, rate_name


def made(n: int = 4000, *, shift: float = 1.5, groups: bool = False) -> Predictions:
    rng = np.random.default_rng(0)
    labels, member = rng.integers(0, 4, n), np.arange(n) % 2 == 0
    logits = rng.normal(size=(n, 4)).astype(np.float32)
    logits[np.arange(n), labels] += 1 + shift * member
    return Predictions(
        logits=logits,
        labels=labels,
        member=member,
        record_ids=np.arange(n),
        groups=np.arange(n) // 4 * 2 + ~member if groups else None,
    )


def audited(**options: object) -> AuditReport:
    given = {"attacks": "threshold_loss,threshold_entropy", "workers": 1, **options}
    return run_audit(made(), **given)


@pytest.fixture(scope="module")
def declared() -> AuditReport:
    return audited(prior=0.01, subjects=50_000, sensitivity="has the disease")


def test_measured_is_the_reports_own(declared: AuditReport) -> None:
    found = declared.risk_statement
    assert declared.headline is not None
    first = found.measured[0]
    assert (first.attack, first.primary) == (declared.headline.attack, True)
    assert (first.n_member, first.n_nonmember) == (declared.headline.n_member, declared.headline.n_nonmember) == (1000, 1000)
    assert [one.attack for one in found.measured[1:]] == [r.attack for r in declared.whole() if r.attack != first.attack]
    assert not any(one.primary for one in found.measured[1:])
    for one in found.measured:
        figures = declared.headline.figures if one.primary else declared.result(one.attack).figures
        for rate in one.rates:
            assert rate.tpr == figures[f"tpr_at_fpr_{rate_name(rate.fpr)}"]
            assert rate.lift == figures[f"lift_at_fpr_{rate_name(rate.fpr)}"]
            # scores without ties accuse as many as the rate allows
            assert rate.members_accused == round(rate.tpr.value * one.n_member)
            assert rate.nonmembers_accused == round(rate.fpr * one.n_nonmember)


def test_the_reporting_half_is_the_headlines(declared: AuditReport) -> None:
    part = declared.reported
    assert declared.headline is not None
    assert (part & declared.counted.member).sum() == declared.headline.n_member
    named = audited(primary="threshold_entropy")
    assert named.reported.all()
    assert named.risk_statement.measured[0].n_member == 2000


def test_combined_follows_from_the_primary_attack_and_the_declarations(declared: AuditReport) -> None:
    found = declared.risk_statement
    assert declared.headline is not None
    for rate, combined in zip(found.measured[0].rates, found.combined, strict=True):
        name = rate_name(rate.fpr)
        assert combined.precision == declared.headline.figures[f"ppv_at_fpr_{name}"]
        assert combined.found == declared.headline.figures[f"found_at_fpr_{name}"]
        tpr, fpr = rate.members_accused / 1000, rate.nonmembers_accused / 1000
        assert combined.precision.value == pytest.approx(0.01 * tpr / (0.01 * tpr + 0.99 * fpr), rel=1e-12)
        assert combined.found.value == pytest.approx(50_000 * tpr)
        assert combined.wrongly_accused.value == pytest.approx(50_000 * 99 * fpr)
        for one in (combined.precision, combined.found, combined.wrongly_accused):
            assert one.ci_low < one.value < one.ci_high
    assert found.declared == Declared(prior=0.01, subjects=50_000, sensitivity="has the disease")


def test_what_was_not_declared_is_left_out() -> None:
    bare = audited().risk_statement
    assert bare.combined == ()
    assert NOT_DECLARED in statement_text(bare)
    assert "### Combined" not in statement_text(bare)
    prior_alone = bare.with_declared(Declared(prior=0.2))
    assert all(one.found is None and one.wrongly_accused is None and one.precision for one in prior_alone.combined)
    subjects_alone = bare.with_declared(Declared(subjects=2000))
    assert all(one.precision is None and one.wrongly_accused is None and one.found for one in subjects_alone.combined)
    both = audited(prior=0.01, subjects=50_000).risk_statement
    assert bare.with_declared(both.declared).combined == both.combined


def test_the_json_holds_all_of_it(declared: AuditReport) -> None:
    values = json.loads(declared.risk_statement.to_json())
    assert list(values) == ["version", "counted", "measured", "declared", "combined"]
    assert values["declared"] == {"prior": 0.01, "subjects": 50_000, "sensitivity": "has the disease"}
    assert values["combined"][1]["found"]["value"] == declared.headline.figures["found_at_fpr_0_01"].value
    assert values["measured"][0]["rates"][2]["tpr"]["status"] == "low_power"


def test_the_words_have_the_three_parts_and_no_judgement(declared: AuditReport) -> None:
    text = statement_text(declared.risk_statement)
    heads = [text.index(head) for head in ("### Measured", "### Declared", "### Combined")]
    assert heads == sorted(heads)
    assert "- Membership reveals: has the disease." in text
    assert "of the 50,000 people are expected to be found" in text
    for word in ("low risk", "high risk", "safe", "acceptable", "negligible", "severe"):
        assert word not in text.lower()


def test_text_that_people_gave_is_not_markup() -> None:
    hostile = audited(sensitivity="<script>alert(1)</script>\n# a | b").risk_statement
    assert "- Membership reveals: \\<script\\>alert(1)\\</script\\> \\# a \\| b." in statement_text(hostile)


def test_groups_count_as_persons() -> None:
    report = run_audit(made(groups=True), attacks="threshold_loss", workers=1, prior=0.1, subjects=5000)
    found = report.risk_statement
    assert found.counted == "groups"
    assert found.measured[0].n_member == 1000
    assert "Groups of records were counted, as persons." in statement_text(found)
    with pytest.raises(
        UserError, match=r"^subjects=999: fewer than the 1000 groups of members audited, .*; allowed: 1000 or more$"
    ):
        run_audit(made(groups=True), attacks="threshold_loss", workers=1, subjects=999)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"prior": 0.0}, "prior=0: out of range; allowed: above 0 and below 1, or nothing"),
        ({"prior": 1.0}, "prior=1: out of range"),
        ({"prior": float("nan")}, "prior=nan: out of range"),
        ({"subjects": 0}, "subjects=0: out of range"),
        ({"subjects": 1999}, "subjects=1999: fewer than the 2000 members audited"),
        ({"prior": 0.1, "declared": Declared()}, "declared: given together with prior"),
    ],
)
def test_bad_declarations(options: dict[str, object], line: str) -> None:
    with pytest.raises(UserError, match=f"^{line}"):
        audited(**options)


def test_rules_may_name_what_was_declared(declared: AuditReport) -> None:
    primary = declared.headline.attack
    value = declared.result(primary).figures["ppv_at_fpr_0_1"].value
    judged = judge(declared, parse_rules(f"{primary}.entire.ppv_at_fpr_0_1 > {value / 2:.4f}"))
    assert judged.outcome == "trip"
    assert judge(declared, parse_rules(f"{primary}.entire.found_at_fpr_0_1 > 49999")).outcome == "pass"
    assert (
        judge(declared, parse_rules(f"{primary}.entire.lift > {declared.result(primary).figures['lift'].value:.6f}")).outcome
        == "undecided"
    )
    with pytest.raises(UserError, match=r"^fail_if: any\.entire\.ppv > 0\.5: ppv needs prior, which was not declared"):
        judge(audited(), parse_rules("any.entire.ppv > 0.5"))


def test_a_lift_without_an_upper_end_reads_as_a_lower_bound() -> None:
    counted = accusations.Accusations(true_pos=40, false_pos=0, n_member=200, n_nonmember=200)
    low = 1 / accusations.fpr_over_tpr_interval(counted, 0.05)[1]
    assert 5 < low < 40
    assert with_ends(accusations.lift(counted, fpr=0.1)) == f"at least {low:.{1 if low >= 10 else 2}f}"
    assert with_ends(Estimate(value=1234.56, ci_low=1234.56)) == "at least 1,235"


def test_the_counts_are_those_of_the_public_function() -> None:
    report = audited(primary="threshold_loss")
    scores, member = report.scores("threshold_loss"), report.target.member
    threshold = np.sort(scores[~member])[::-1][20]
    rate = report.risk_statement.measured[0].rates[1]
    assert (rate.members_accused, rate.nonmembers_accused) == (
        (scores[member] > threshold).sum(),
        (scores[~member] > threshold).sum(),
    )
    assert rate.lift == accusations.lift_at_fpr(scores, member, fpr=0.01)
