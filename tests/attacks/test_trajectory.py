"""Loss trajectories: what the last loss does not tell."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from memberscope.attacks import registry
from memberscope.attacks.base import AttackScores, Skip
from memberscope.attacks.trajectory import steps
from memberscope.evidence import Evidence, Trajectories
from memberscope.predictions import Predictions


def _losses(member: np.ndarray, gap: float, rng: np.random.Generator) -> np.ndarray:
    """(n, 5) log-normal losses; at the second step alone a member's are lower by the factor exp(gap)."""
    log_loss = rng.normal(size=(len(member), 5))
    log_loss[:, 1] -= gap * member
    return np.exp(log_loss)


def _evidence(n: int, m: int, *, gap: float, seed: int = 0, share: float = 0.5) -> Evidence:
    rng = np.random.default_rng(seed)
    member = rng.random(n) < 0.5
    trained = rng.permutation(np.arange(m) < share * m)
    losses = _losses(member, gap, rng)
    return Evidence(
        target=Predictions(loss_nats=losses[:, -1], member=member),
        trajectories=Trajectories(
            target=losses, shadow=_losses(trained, gap, rng), shadow_labels=np.zeros(m, int), shadow_member=trained
        ),
    )


def _score(evidence: Evidence, seed: int = 0) -> AttackScores:
    result = registry.get("trajectory").score(evidence, seed=seed, workers=1)
    assert isinstance(result, AttackScores), result
    return result


def test_a_factor_at_one_step_is_found_up_to_its_limit_where_the_last_loss_is_blind() -> None:
    evidence = _evidence(3000, 3000, gap=1.0)
    member, result = evidence.target.member, _score(evidence)
    limit = norm.cdf(1 / np.sqrt(2))
    deviation = np.sqrt(3001 / (12 * 1500 * 1500))
    assert limit - 0.03 < roc_auc_score(member, result.scores) < limit + 3.29 * deviation
    last = registry.get("threshold_loss").score(evidence, seed=0)
    assert isinstance(last, AttackScores)
    assert abs(roc_auc_score(member, last.scores) - 0.5) < 3.29 * deviation


def test_decisions_know_no_prior_of_the_shadows() -> None:
    """Nine in ten of the shadow's records are members; the error stays even on both sides: Phi(d / 2) within 0.05."""
    evidence = _evidence(3000, 3000, gap=1.0, share=0.9)
    result, member = _score(evidence), evidence.target.member
    assert result.decisions is not None
    for right in (result.decisions[member].mean(), 1 - result.decisions[~member].mean()):
        assert abs(right - norm.cdf(0.5)) < 0.06
    assert "5 steps of a shadow model, 300 records per side" in result.notes[0]


def test_no_signal_gives_one_half() -> None:
    """The target's membership is independent of all that the attack sees: the mean of 12 AUCs in its exact 99.9% band."""
    values, variance = [], 0.0
    for seed in range(12):
        evidence = _evidence(400, 200, gap=0.0, seed=seed)
        values.append(roc_auc_score(evidence.target.member, _score(evidence, seed).scores))
        variance += 401 / (12 * evidence.target.n_member * evidence.target.n_nonmember)
    assert abs(np.mean(values) - 0.5) < 3.29 * np.sqrt(variance) / 12


def test_losses_of_zero_and_labels_that_the_shadow_never_saw() -> None:
    losses = np.array([[0.0, 1.0], [2.0, 1e-9]])
    np.testing.assert_allclose(steps(losses), [[0, 1, np.log(1e-12), 0], [2, 1e-9, np.log(2), np.log(1e-9)]])
    evidence = _evidence(50, 100, gap=1.0)
    paths = evidence.trajectories
    assert paths is not None
    zero = Trajectories(
        target=paths.target * 0, shadow=paths.shadow, shadow_labels=paths.shadow_labels, shadow_member=paths.shadow_member
    )
    assert len(np.unique(_score(Evidence(target=evidence.target, trajectories=zero)).scores)) == 1


def test_a_shadow_with_few_records_teaches_nothing() -> None:
    result = registry.get("trajectory").score(_evidence(30, 30, gap=1.0, share=0.9), seed=0)
    reason = "needs trajectories of 10 shadow members and as many non-members; there are 27 and 3"
    assert result == Skip(attack="trajectory", family="shadow", reason=reason)
