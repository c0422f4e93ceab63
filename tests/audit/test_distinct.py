"""g copies of every record give the figures, the intervals and the gate of one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from memberscope import Evidence, Predictions, ShadowPredictions, run_audit
from memberscope.attacks import registry
from memberscope.audit.blind import blind_control
from memberscope.audit.distinct import distinct_records, refuse_copies
from memberscope.audit.null import refitted_null
from memberscope.errors import UserError
from memberscope.gate import judge, parse_rules

COPIES = 30


def arrays(n: int = 200, *, shift: float = 0.5, seed: int = 0, told: str = "inputs") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels, member = rng.integers(0, 4, n), np.arange(n) % 2 == 0
    logits = rng.normal(size=(n, 4))
    logits[np.arange(n), labels] += 1 + shift * member
    found = {"logits": logits, "labels": labels, "member": member}
    known = {"inputs": rng.normal(size=(n, 5)), "record_ids": np.array([f"r{k}" for k in range(n)])}
    return found | {name: known[name] for name in told.split(",") if name}


def times(found: dict[str, np.ndarray], copies: int = COPIES) -> dict[str, np.ndarray]:
    return {name: np.concatenate([array] * copies) for name, array in found.items()}


@pytest.mark.parametrize("told", ["inputs", "record_ids", "inputs,record_ids"])
def test_thirty_copies_are_one_record_in_every_figure(told: str) -> None:
    """AUC, TPR at low FPR, held-out advantage, epsilon, worst slice and the permuted null, of fitted attacks too."""
    one = run_audit(Predictions(**arrays(told=told)), attacks="tfp", slices="entire,class")
    many = run_audit(Predictions(**times(arrays(told=told))), attacks="tfp", slices="entire,class")
    pd.testing.assert_frame_equal(one.to_frame(), many.to_frame())
    assert {"worst_slice", "entire"} <= set(many.to_frame()["slice"])
    assert {"null_p_value", "epsilon_heuristic", "advantage_heldout"} <= set(many.to_frame()["metric"])
    assert many.distinct is not None
    assert "5,800 of 6,000 records" in many.distinct.copies_line
    assert "100 members and 100 non-members" in many.distinct.copies_line
    assert one.distinct is not None
    assert (one.distinct.copies, one.distinct.copies_line) == (0, "")
    naive = run_audit(Predictions(**times(arrays(told=told))), attacks="threshold_loss", duplicates="keep")
    widths = [
        (figure := report.result("threshold_loss").figures["auc"]).ci_high - figure.ci_low for report in (one, many, naive)
    ]
    assert widths[0] == widths[1]
    assert 4.5 < widths[0] / widths[2] < 6.5, "thirty times the records: an interval sqrt(30) times as narrow"
    assert "narrower" in naive.distinct.copies_line


def test_the_gate_of_thirty_copies_is_that_of_one() -> None:
    rules = parse_rules("any.entire.auc > 0.55")

    def outcome(found: dict[str, np.ndarray], **options: str) -> str:
        report = run_audit(Predictions(**found), attacks="threshold_loss", **options)
        return judge(report, rules).outcome

    one = arrays(told="inputs")
    assert outcome(one) == "undecided"
    assert outcome(times(one)) == "undecided"
    assert outcome(times(one), duplicates="keep") == "trip", "the naive way decides on copies"


def test_copies_in_another_order_and_of_some_records_alone() -> None:
    one = arrays()
    rng = np.random.default_rng(1)
    rows = rng.permutation(np.repeat(np.arange(200), rng.integers(1, 9, 200)))
    many = run_audit(Predictions(**{name: array[rows] for name, array in one.items()}), attacks="threshold_loss")
    frame = run_audit(Predictions(**one), attacks="threshold_loss").to_frame()
    exact = frame["metric"].isin(["auc", "advantage", "tpr_at_fpr_0_1"])
    pd.testing.assert_frame_equal(frame[exact], many.to_frame()[exact])
    assert np.array_equal(one["inputs"][rows[many.positions]], many.target.inputs)
    assert np.array_equal(many.target.member, one["member"][rows][many.positions])


def test_outputs_of_copies_may_differ_by_rounding_and_no_more() -> None:
    many = times(arrays(), 3)
    noise = np.random.default_rng(2).normal(size=many["logits"].shape)
    rounded = distinct_records(Evidence(target=Predictions(**many | {"logits": many["logits"] + 1e-6 * noise})))
    assert (rounded.copies, rounded.unlike, len(rounded.positions)) == (400, 0, 200)
    other = distinct_records(Evidence(target=Predictions(**many | {"logits": many["logits"] + noise})))
    assert (other.copies, len(other.positions)) == (0, 600)
    assert "400 records have the same inputs and label" in other.copies_line
    assert "records of their own" in other.copies_line


def test_one_id_for_several_records_keeps_each_of_them() -> None:
    """Two records of each person under one id, twice over: the copies go, the records stay."""
    found = arrays(told="record_ids") | {"record_ids": np.arange(200) // 4}
    many = distinct_records(Evidence(target=Predictions(**times(found, 2))))
    assert (many.copies, len(many.positions)) == (200, 200)
    assert many.positions.tolist() == list(range(200))
    assert many.unlike == 100


def test_another_label_is_another_record() -> None:
    found = arrays()
    twice = times(found, 2)
    twice["labels"] = np.r_[found["labels"], (found["labels"] + 1) % 4]
    assert distinct_records(Evidence(target=Predictions(**twice))).copies == 0


def test_equal_outputs_alone_prove_nothing() -> None:
    many = distinct_records(Evidence(target=Predictions(**times(arrays(told="")))))
    assert (many.copies, many.told_by, many.copies_line, many.facts) == (0, (), "", {})
    assert len(many.evidence.target) == 6000


def test_copies_on_the_other_side_are_overlap_and_stay() -> None:
    found = arrays()
    both = {name: np.concatenate([array, array[:20]]) for name, array in found.items()}
    both["member"][200:] = ~found["member"][:20]
    seen = distinct_records(Evidence(target=Predictions(**both)))
    assert (seen.copies, seen.both_sides, len(seen.evidence.target)) == (0, 20, 220)
    assert "20 members are also non-members" in seen.overlap_line
    with pytest.raises(UserError, match=r"duplicates=refuse: .*20 members are also"):
        run_audit(Predictions(**both), attacks="threshold_loss", duplicates="refuse")


def test_shadows_and_what_else_there_is_stay_in_line() -> None:
    found = arrays(told="record_ids")
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(4, 200, 4))
    member = rng.random((4, 200)) < 0.5
    logits[:, np.arange(200), found["labels"]] += 1 + member

    def evidence(copies: int) -> Evidence:
        target = Predictions(**times(found, copies))
        shadows = ShadowPredictions(
            logits=np.concatenate([logits] * copies, axis=1), labels=target.labels, member=np.concatenate([member] * copies, axis=1),
            record_ids=target.record_ids,
        )  # fmt: skip
        return Evidence(target=target, shadows=shadows, gradients=np.exp(target.logits))

    one, many = (run_audit(evidence(copies), attacks="lira_online,rmia_online,gradient_norm") for copies in (1, 7))
    pd.testing.assert_frame_equal(one.to_frame(), many.to_frame())
    assert {result.attack for result in many.whole()} >= {"lira_online", "gradient_norm"}


def test_controls_and_paired_tests_of_copies_are_those_of_one() -> None:
    found, other = arrays(told="inputs,record_ids"), arrays(told="inputs,record_ids", shift=0.2)
    other |= {"labels": found["labels"], "inputs": found["inputs"]}
    reports = [run_audit(Predictions(**times(found, copies)), attacks="threshold_loss") for copies in (1, 5)]
    others = [run_audit(Predictions(**times(other, copies)), attacks="threshold_loss") for copies in (1, 5)]
    paired = [ours.compare(theirs)["threshold_loss"] for ours, theirs in zip(reports, others, strict=True)]
    assert paired[0] == paired[1]
    blind = [blind_control(report.target, seed=0).auc for report in reports]
    assert blind[0] == blind[1]
    lr = registry.get("trained_lr")
    null = [refitted_null(report.distinct.evidence, lr, seed=0, draws=3).draws.tolist() for report in reports]
    assert null[0] == null[1]


def test_too_few_distinct_records_say_so() -> None:
    with pytest.raises(UserError, match=r"10 members and 10 non-members after 580 copies were left out; allowed: at least 20"):
        run_audit(Predictions(**times(arrays(20))), attacks="threshold_loss")


def test_what_is_refused() -> None:
    with pytest.raises(UserError, match=r"duplicates=refuse: 5,800 of 6,000 records"):
        run_audit(Predictions(**times(arrays())), attacks="threshold_loss", duplicates="refuse")
    with pytest.raises(UserError, match=r"duplicates=drob: .*nearest: drop"):
        run_audit(Predictions(**arrays()), attacks="threshold_loss", duplicates="drob")
    refuse_copies({"members": np.array([1, 1])}, duplicates="drop")
    refuse_copies({"members": np.array([1, 2]), "nonmembers": np.array([3])}, duplicates="refuse")
    with pytest.raises(UserError, match="1 of 2 members and 0 of 1 nonmembers"):
        refuse_copies({"members": np.array([1, 1]), "nonmembers": np.array([3])}, duplicates="refuse")
