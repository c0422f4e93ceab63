"""Kept ranks stand for scores: the same figures, a file that reads back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from memberscope import Predictions, metrics, run_audit
from memberscope.errors import UserError
from memberscope.scores import KeptScores
from memberscope.sealed import OtherKey
from memberscope.secret import Key

KEY = Key(value=b"the key of these tests, 32 bytes")


def test_ranks_give_every_figure_that_scores_give(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    member, labels = np.arange(400) < 200, rng.integers(0, 3, 400)
    logits = rng.normal(size=(400, 3)) + 1e-9
    logits[np.arange(400), labels] += 1.0 + member
    logits[50:80] = logits[50]  # ties
    target = Predictions(logits=logits, labels=labels, member=member, record_ids=np.arange(400))
    report = run_audit(target, attacks="threshold_loss,trained_lr")
    KeptScores.of(
        report.whole_scores, member=target.member, record_ids=target.record_ids, labels=target.labels, source="digest"
    ).save(tmp_path / "s.npz", key=KEY)
    kept = KeptScores.load(tmp_path / "s.npz", key=KEY)
    assert kept.source == "digest"
    place = {one: row for row, one in enumerate(kept.record_ids.tolist())}  # type: ignore[union-attr]
    order = [place[one] for one in KEY.identities(np.arange(400), source="digest").tolist()]
    np.testing.assert_array_equal(kept.member[order], member)
    np.testing.assert_array_equal(kept.labels[order], labels)  # type: ignore[index]
    for attack, ranks in kept.ranks.items():
        assert ranks.dtype == np.int32
        ours, theirs = metrics.roc_curve(ranks, kept.member), report.roc(attack)
        np.testing.assert_array_equal(ours.fpr, theirs.fpr)
        np.testing.assert_array_equal(ours.tpr, theirs.tpr)
        assert metrics.auc(ranks, kept.member) == report.result(attack).figures["auc"]
    first, second = (kept.ranks[name][order] for name in ("threshold_loss", "trained_lr"))
    assert metrics.compare_auc(first, second, member) == metrics.compare_auc(
        report.scores("threshold_loss"), report.scores("trained_lr"), member
    )


def test_another_file_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros(3))
    with pytest.raises(UserError, match="not the scores of an audit"):
        KeptScores.load(tmp_path / "x.npz", key=KEY)


def _kept(**changes: object) -> KeptScores:
    n = 300
    values = {
        "member": np.arange(n) < n // 2, "ranks": {"threshold_loss": np.arange(n, dtype=np.int32)}, "record_ids": np.arange(n),
        "labels": np.arange(n) % 3, "source": "content",
    }  # fmt: skip
    return KeptScores(**{**values, **changes})  # type: ignore[arg-type]


def test_another_key_opens_nothing_and_says_so(tmp_path: Path) -> None:
    _kept().save(tmp_path / "s.npz", key=KEY)
    with pytest.raises(
        OtherKey, match="written with another key; allowed: the key of the person who ran the audit, in MEMBERSCOPE_KEY"
    ):
        KeptScores.load(tmp_path / "s.npz", key=Key(value=b"other" * 7))


def test_files_of_earlier_versions_are_read(tmp_path: Path) -> None:
    old = _kept()
    np.savez(
        tmp_path / "s.npz",
        member=old.member,
        record_ids=old.record_ids,
        labels=old.labels,
        rank_threshold_loss=old.ranks["threshold_loss"],
    )
    kept = KeptScores.load(tmp_path / "s.npz", key=KEY)
    np.testing.assert_array_equal(kept.member, old.member)
    np.testing.assert_array_equal(kept.record_ids, old.record_ids)


@pytest.mark.parametrize("ids", [np.arange(300), np.arange(300) // 2, np.array([f"user {k}" for k in range(300)]), None])
def test_two_runs_on_the_same_records_can_be_paired(tmp_path: Path, ids: np.ndarray | None) -> None:
    for name in ("a", "b"):
        _kept(record_ids=ids, ranks={"x": np.random.default_rng(len(name)).permutation(300)}).save(tmp_path / name, key=KEY)
    first, second = (KeptScores.load(tmp_path / name, key=KEY) for name in ("a", "b"))
    if ids is not None:
        assert set(first.record_ids.tolist()) == set(second.record_ids.tolist())  # type: ignore[union-attr]
        assert not set(map(str, first.record_ids.tolist())) & set(map(str, ids.tolist()))  # type: ignore[union-attr]
    assert first.member.sum() == second.member.sum() == 150
