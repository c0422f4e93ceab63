"""Kept ranks stand for scores: the same figures, a file that reads back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from memberscope import Predictions, metrics, run_audit
from memberscope.errors import UserError
from memberscope.scores import KeptScores


def test_ranks_give_every_figure_that_scores_give(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    member, labels = np.arange(400) < 200, rng.integers(0, 3, 400)
    logits = rng.normal(size=(400, 3)) + 1e-9
    logits[np.arange(400), labels] += 1.0 + member
    logits[50:80] = logits[50]  # ties
    target = Predictions(logits=logits, labels=labels, member=member, record_ids=np.arange(400))
    report = run_audit(target, attacks="threshold_loss,trained_lr")
    KeptScores.of(target, report.whole_scores, source="digest").save(tmp_path / "s.npz")
    kept = KeptScores.load(tmp_path / "s.npz")
    assert kept.source == "digest"
    np.testing.assert_array_equal(kept.record_ids, np.arange(400))
    for attack, ranks in kept.ranks.items():
        assert ranks.dtype == np.int32
        ours, theirs = metrics.roc_curve(ranks, kept.member), report.roc(attack)
        np.testing.assert_array_equal(ours.fpr, theirs.fpr)
        np.testing.assert_array_equal(ours.tpr, theirs.tpr)
        assert metrics.auc(ranks, kept.member) == report.result(attack).figures["auc"]
    first, second = kept.ranks["threshold_loss"], kept.ranks["trained_lr"]
    assert metrics.compare_auc(first, second, member) == metrics.compare_auc(
        report.scores("threshold_loss"), report.scores("trained_lr"), member
    )


def test_another_file_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros(3))
    with pytest.raises(UserError, match="not the scores of an audit"):
        KeptScores.load(tmp_path / "x.npz")
