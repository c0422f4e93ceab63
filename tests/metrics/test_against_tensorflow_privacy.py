"""AUC, advantage_tfp and ppv_max_tfp agree with tensorflow_privacy 0.8.12 to the last digit. Slow: the import costs seconds."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from memberscope import metrics


@pytest.fixture(scope="module")
def peer():  # type: ignore[no-untyped-def]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the peer's imports emit is not under test
        return pytest.importorskip(
            "tensorflow_privacy.privacy.privacy_tests.membership_inference_attack.membership_inference_attack"
        )


def cases() -> list[tuple[np.ndarray, np.ndarray]]:
    """Losses of members and of non-members: plain, tied, few, separated, reversed, constant, of unequal numbers."""
    rng = np.random.default_rng(0)
    out = [(rng.exponential(0.8, 500), rng.exponential(1.0, 300))]
    out += [
        (rng.exponential(0.5, a).round(d), rng.exponential(1.0, b).round(d))
        for a, b, d in ((700, 90, 1), (40, 4000, 2), (9, 7, 0))
    ]
    out += [(np.zeros(5), np.ones(8)), (np.ones(5), np.zeros(8)), (np.ones(6), np.ones(6)), (np.zeros(1), np.ones(1))]
    out += [(rng.normal(size=3001), rng.normal(size=2999))]
    return out


def test_auc_advantage_and_ppv_are_the_same_numbers(peer) -> None:  # type: ignore[no-untyped-def]
    from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack.data_structures import AttackInputData

    for loss_member, loss_nonmember in cases():
        data = AttackInputData(loss_train=loss_member, loss_test=loss_nonmember)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = peer._run_threshold_attack(data).roc_curve
        scores = -np.r_[loss_member, loss_nonmember]
        member = np.arange(scores.size) < loss_member.size
        ours = metrics.figures(scores, member, rng=np.random.default_rng(0))
        assert ours["auc"].value == theirs.get_auc()
        assert ours["advantage_tfp"].value == theirs.get_attacker_advantage()
        assert ours["ppv_max_tfp"].value == theirs.get_ppv()
