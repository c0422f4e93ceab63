"""Audits that count groups: scores, metrics, permutations and halves; g copies of every record give the figures of one."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope import Predictions, metrics, run_audit
from memberscope.attacks import registry
from memberscope.attacks.folds import assign
from memberscope.audit.blind import blind_control
from memberscope.audit.controls import Controls
from memberscope.audit.groups import POOLINGS, ROWS, make_groups
from memberscope.audit.null import refitted_null
from memberscope.audit.report import AuditReport
from memberscope.audit.wording import copy_notes, summary
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.plans.whole_groups import most_frequent


def _persons(persons: int = 120, rows: int = 5, *, seed: int = 0, shift: float = 1.0, classes: int = 3) -> Predictions:
    """Persons with several correlated records each; members' true class scores higher by `shift`."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(persons), rows)
    member = groups < persons // 2
    labels = np.repeat(rng.integers(0, classes, persons), rows)
    logits = rng.normal(size=(persons * rows, classes)) * 0.5
    logits[np.arange(len(groups)), labels] += shift * member + rng.normal(size=persons)[groups]
    order = rng.permutation(len(groups))
    return Predictions(
        logits=logits[order],
        labels=labels[order],
        member=member[order],
        groups=groups[order] + 1000,
        record_ids=np.arange(len(groups)),
    )


def _copied(one: Predictions, copies: int) -> Predictions:
    index = np.repeat(np.arange(len(one)), copies)
    assert one.logits is not None
    assert one.labels is not None
    return Predictions(
        logits=one.logits[index], labels=one.labels[index], member=one.member[index], record_ids=np.arange(len(index)),
        groups=index,
    )  # fmt: skip


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooled_scores_are_those_of_a_loop_in_any_order(pooling: str) -> None:
    rng = np.random.default_rng(4)
    names = rng.choice(np.array(["b", "a", "c", "d"]), 40)
    member = np.isin(names, ["a", "c"])
    member[np.flatnonzero(names == "c")[:3]] = False  # c is on both sides
    scores = rng.normal(size=40) * 3
    found = make_groups(names, member, None, pooling=pooling)
    assert found.names.tolist() == ["a", "b", "c", "d"]
    assert found.member.tolist() == [True, False, True, False]
    plain = {"mean": np.mean, "max": np.max, "logsumexp": lambda part: np.log(np.mean(np.exp(part)))}[pooling]
    kept = member | (names != "c")
    expected = [plain(scores[(names == name) & kept]) for name in "abcd"]
    np.testing.assert_allclose(found.pool(scores), expected, rtol=1e-12)
    order = rng.permutation(40)
    shuffled = make_groups(names[order], member[order], None, pooling=pooling)
    np.testing.assert_array_equal(shuffled.pool(scores[order]), found.pool(scores))


def test_the_mean_of_equal_scores_is_exactly_that_score() -> None:
    scores = np.random.default_rng(0).normal(size=30)
    groups = make_groups(np.repeat(np.arange(30), 7), np.repeat(np.arange(30) < 15, 7), None)
    np.testing.assert_array_equal(groups.pool(np.repeat(scores, 7)), scores)


def test_a_part_has_the_groups_of_its_records() -> None:
    groups = make_groups(np.array([5, 5, 7, 7, 9, 9]), np.array([1, 1, 0, 0, 1, 0], dtype=bool), np.array([0, 1, 1, 1, 2, 2]))
    assert groups.labels is not None
    assert groups.labels.tolist() == [0, 1, 2]
    assert groups.both_sides.tolist() == [2]
    part = groups.part(np.array([1, 2, 5]))
    assert part.names.tolist() == [5, 7]  # the only record of 9 here does not count
    assert part.member.tolist() == [True, False]
    np.testing.assert_array_equal(part.pool(np.array([3.0, 1.0, 9.0])), [3.0, 1.0])
    part = groups.part(np.array([4, 5]))
    assert (part.names.tolist(), part.both_sides.tolist()) == ([9], [0])


def test_the_most_frequent_label_is_the_lowest_of_several() -> None:
    of = np.array([0, 0, 1, 1, 1, 2], dtype=np.intp)
    assert most_frequent(of, np.array(["b", "a", "c", "c", "a", "z"]), 3).tolist() == ["a", "c", "z"]


@pytest.mark.parametrize("duplicates", ["keep", "drop"])
def test_copies_of_every_record_give_the_figures_of_one(duplicates: str) -> None:
    """The row-level interval fails this: it is narrower by the square root of the number of copies."""
    rng = np.random.default_rng(2)
    n, classes = 150, 3
    labels = rng.integers(0, classes, n)
    member = np.arange(n) < n // 2
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), labels] += member
    single = Predictions(logits=logits, labels=labels, member=member, record_ids=np.arange(n), groups=np.arange(n))
    names = ["threshold_loss", "metric_correctness", "threshold_entropy"]
    names = [name for name in names if registry.get(name).needs <= {"target"}]
    one = run_audit(single, attacks=names, duplicates=duplicates)
    seven = run_audit(_copied(single, 7), attacks=names, duplicates=duplicates)
    plain = run_audit(
        Predictions(logits=logits, labels=labels, member=member, record_ids=np.arange(n)), attacks=names, duplicates=duplicates
    )
    for name in names:
        shown = [
            repr(dict(report.result(name).figures)) for report in (seven, one, plain)
        ]  # a skipped metric's value is not a number
        assert shown[0] == shown[1] == shown[2]
    rows, groups = seven.result("threshold_loss", ROWS).figures["auc"], seven.result("threshold_loss").figures["auc"]
    assert rows.value == pytest.approx(groups.value, abs=1e-12)
    assert (rows.ci_low, rows.ci_high) == pytest.approx((groups.ci_low, groups.ci_high), abs=1e-9)
    fooled = metrics.auc(seven.scores("threshold_loss"), seven.target.member)
    if duplicates == "keep":
        assert fooled.ci_high - fooled.ci_low < 0.5 * (groups.ci_high - groups.ci_low)  # type: ignore[operator]


def test_counts_intervals_and_tables_are_of_groups_and_rows_stand_beside_them() -> None:
    target = _persons()
    report = run_audit(target, attacks="threshold_loss,trained_lr", slices="entire,class")
    entire, rows = report.result("trained_lr"), report.result("trained_lr", ROWS)
    assert (entire.n_member, entire.n_nonmember) == (60, 60)
    assert (rows.n_member, rows.n_nonmember) == (300, 300)
    assert sum(report.result("trained_lr", f"class_{k}").n_member for k in range(3)) == 60
    assert entire.scores is not None
    assert len(entire.scores) == 120
    assert len(report.scores("trained_lr")) == 600
    assert rows.figures["auc"].ci_low is not None
    assert all(figure.ci_low is None for name, figure in rows.figures.items() if name != "auc")
    assert not [name for name in rows.figures if name.startswith(("null_", "epsilon_"))]
    assert report.headline is not None
    assert report.headline.n_member + report.headline.n_nonmember <= 61
    frame = report.to_frame()
    assert set(frame[frame["slice"] == ROWS]["n_member"]) == {300}
    note = copy_notes(report)["groups"]
    assert note == "Groups: 60 groups are members and 60 are not, with 600 records in all; metrics count groups."
    assert "60 groups of members against 60 other groups" in summary(report, notes={}, controls=Controls())


def test_no_group_is_split_between_training_and_scoring() -> None:
    """A person's records have outputs of their own; an attack that saw some of them in training would know the others."""
    target = _persons(persons=40, shift=0.0)
    assert target.units is target.groups
    order = np.arange(len(target))
    folds = assign(order, target.member, None, target.units, 4, np.random.default_rng(0))
    assert target.groups is not None
    for group in np.unique(target.groups):
        assert len(set(folds[target.groups == group])) == 1
    # a quarter of 40 fingerprints, one a person: learnable unless whole persons are held out
    aucs = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(80), 6)
        prints = rng.normal(size=(80, 4))[groups] + rng.normal(scale=0.01, size=(480, 4))
        one = Predictions(
            logits=prints, labels=np.zeros(480, dtype=int), member=rng.permutation(80)[groups] < 40, groups=groups
        )
        aucs.append(run_audit(one, attacks="trained_knn", seed=seed).result("trained_knn").figures["auc"].value)
    assert 0.35 < np.mean(aucs) < 0.62


@pytest.mark.slow  # it trains two hundred models
def test_null_and_blind_controls_permute_and_count_groups() -> None:
    target = _persons(persons=80, rows=4, shift=1.5)
    null = refitted_null(Evidence(target=target), registry.get("trained_lr"), seed=0, draws=20)
    assert isinstance(null, metrics.NullControl)
    assert null.auc > 0.7
    assert 0.4 < null.mean_auc < 0.58
    rng = np.random.default_rng(0)
    assert target.groups is not None
    codes = np.unique(target.groups, return_inverse=True)[1]
    inputs = rng.normal(size=(80, 5))[codes] + 0.01 * rng.normal(size=(320, 5))
    alarms = 0
    for seed in range(30):
        member = rng.permutation(80)[codes] < 40
        given = Predictions(logits=target.logits, labels=np.zeros(320, dtype=int), member=member, groups=codes, inputs=inputs)
        alarms += blind_control(given, seed=seed).differs
    assert alarms <= 4  # 2.5% a side; the same data without groups trip it in most


def test_groups_on_both_sides_count_as_members_with_their_member_records() -> None:
    target = _persons(persons=60)
    assert target.groups is not None
    member = target.member.copy()
    shared = target.groups == 1000
    member[np.flatnonzero(shared)[:2]] = False
    given = Predictions(logits=target.logits, labels=target.labels, member=member, groups=target.groups)
    report = run_audit(given, attacks="threshold_loss")
    assert report.groups is not None
    assert report.groups.facts == {"data.groups": 60, "data.groups_on_both_sides": 1}
    assert (report.result("threshold_loss").n_member, report.result("threshold_loss").n_nonmember) == (30, 30)
    assert (
        "1 groups are on both sides (1000): they count as members, and their 2 non-member records do not count"
        in (copy_notes(report)["groups"])
    )


def test_reports_of_groups_are_compared_by_group() -> None:
    first, second = (run_audit(_persons(seed=0, shift=shift), attacks="threshold_loss") for shift in (1.0, 0.2))
    found = first.compare(second)["threshold_loss"]
    assert found.difference == pytest.approx(
        first.result("threshold_loss").figures["auc"].value - second.result("threshold_loss").figures["auc"].value
    )
    other = _persons(seed=0)
    assert other.groups is not None
    moved = Predictions(logits=other.logits, labels=other.labels, member=other.member, groups=other.groups + 5)
    with pytest.raises(UserError, match="5 of 120 groups are not in the other report"):
        first.compare(run_audit(moved, attacks="threshold_loss"))


def _audit(**changes: object) -> AuditReport:
    target = _persons(persons=60)
    given = {"logits": target.logits, "labels": target.labels, "member": target.member, "groups": target.groups}
    options = {name: changes.pop(name) for name in ("group_scores", "engine", "min_records") if name in changes}
    return run_audit(Predictions(**(given | changes)), attacks="threshold_loss", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"group_scores": "median"}, "group_scores=median: unknown; allowed: mean, max, logsumexp"),
        ({"groups": np.zeros(300, dtype=int)}, "groups: all records are in one group, 0; allowed: at least two groups"),
        ({"groups": np.zeros(299, dtype=int)}, r"groups: shape \(299,\); the other arrays require \(300,\)"),
        ({"groups": np.zeros(300)}, "groups: dtype float64; allowed: integers and text"),
        (
            {"engine": "tfp"},
            "engine=tfp: tensorflow_privacy's attacks count records, and these have groups; allowed: engine=fast",
        ),
        (
            {"min_records": 31},
            r"predictions: 30 member groups and 30 other groups; allowed: at least 31 on each side \(a group with any member",
        ),
    ],
)
def test_bad_input(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        _audit(**changes)


def test_tensorflow_privacys_engine_is_refused_before_anything_is_trained() -> None:
    from memberscope.config.training import TrainStudyConfig
    from memberscope.studies import setup

    pytest.importorskip("tensorflow_privacy")
    with pytest.raises(UserError, match="engine=tfp: tensorflow_privacy's attacks count records"):
        setup.audit_request(TrainStudyConfig(group="patient", engine="tfp"), classes=2)
