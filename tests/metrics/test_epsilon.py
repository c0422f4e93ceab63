"""Bounds on epsilon: their arithmetic against brute force, and how often they exceed a known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from memberscope import metrics


def brute_p_value(m: int, r: int, v: int, epsilon: float, delta: float) -> float:
    """Steinke et al. 2023, Theorem 5.2, term by term."""
    q = math.exp(epsilon) / (1 + math.exp(epsilon))
    mass = [math.comb(r, k) * q**k * (1 - q) ** (r - k) for k in range(r + 1)]
    slopes = [sum(mass[v - i : v]) / i for i in range(1, v + 1)]
    return min(1.0, sum(mass[v:]) + 2 * m * delta * max(slopes, default=0.0))


@pytest.mark.parametrize(("m", "r"), [(1, 1), (12, 12), (100, 40), (5000, 60)])
@pytest.mark.parametrize("delta", [0.0, 1e-6, 1e-3, 0.2])
def test_one_run_p_value_against_brute_force(m: int, r: int, delta: float) -> None:
    for v in {0, 1, r // 2, (3 * r) // 4, r}:
        for epsilon in (0.0, 0.3, 1.0, 3.0):
            expected = brute_p_value(m, r, v, epsilon, delta)
            assert metrics.one_run_p_value(m, r, v, epsilon=epsilon, delta=delta) == pytest.approx(expected, rel=1e-9)


def test_one_run_p_value_by_simulation_of_the_worst_case(within) -> None:  # type: ignore[no-untyped-def]
    # Randomized response of epsilon = 1 attains the bound at delta = 0.
    rng = np.random.default_rng(0)
    truth = rng.random((20_000, 50)) < 0.5
    right = (truth == (truth ^ (rng.random(truth.shape) > 1 / (1 + math.exp(-1))))).sum(axis=1)
    p = metrics.one_run_p_value(50, 50, 42, epsilon=1.0, delta=0.0)
    within(int((right >= 42).sum()), 20_000, at_least=p, at_most=p)


@pytest.mark.parametrize(
    ("r", "v", "delta"), [(100, 70, 0.0), (100, 70, 1e-5), (2000, 1500, 1e-5), (2000, 1500, 1e-4), (300, 300, 1e-6)]
)
def test_one_run_epsilon_is_the_first_crossing(r: int, v: int, delta: float) -> None:
    found = metrics.one_run_epsilon(5 * r, r, v, delta=delta, confidence=0.95)
    p_values = [metrics.one_run_p_value(5 * r, r, v, epsilon=e, delta=delta) for e in np.linspace(0, found * (1 - 1e-7), 200)]
    assert found > 0
    assert max(p_values) < 0.05
    assert metrics.one_run_p_value(5 * r, r, v, epsilon=found + 1e-6, delta=delta) >= 0.05
    assert found <= metrics.one_run_epsilon(5 * r, r, v, delta=0.0, confidence=0.95) + 1e-12


def test_one_run_epsilon_in_closed_form() -> None:
    # All of r guesses right at delta = 0: q^r = 0.05.
    q = 0.05 ** (1 / 200)
    assert metrics.one_run_epsilon(200, 200, 200, delta=0.0, confidence=0.95) == pytest.approx(math.log(q / (1 - q)))
    assert metrics.one_run_epsilon(200, 200, 100, delta=0.0, confidence=0.95) == 0.0


@pytest.mark.parametrize(
    ("m", "r", "delta"), [(12, 12, 0.0), (40, 20, 0.0), (300, 60, 1e-6), (800, 100, 400**-1.1), (200, 60, 1e-3)]
)
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_no_outcome_gives_more_than_the_ceiling(m: int, r: int, delta: float, confidence: float) -> None:
    """The ceiling against Theorem 5.2 term by term, and the bound of every number of right guesses below it, in order."""
    ceiling = metrics.plan_one_run(m, n_guesses=r, delta=delta).ceiling(confidence)
    bounds = [metrics.one_run_epsilon(m, r, v, delta=delta, confidence=confidence) for v in range(r + 1)]
    assert bounds == sorted(bounds)
    assert bounds[-1] == ceiling
    at_zero = brute_p_value(m, r, r, 0.0, delta)
    if at_zero >= 1 - confidence:
        assert ceiling == 0
    else:
        assert brute_p_value(m, r, r, ceiling, delta) == pytest.approx(1 - confidence, rel=1e-4)


def test_ceilings_in_closed_form_and_of_a_known_ladder() -> None:
    """At delta 0 all of r right is q^r = 0.05; 800 coins and 100 guesses at delta 400^-1.1 cannot refute an epsilon of 1."""
    q = 0.05 ** (1 / 60)
    assert metrics.plan_one_run(600, delta=0.0, n_guesses=60).ceiling(0.95) == pytest.approx(math.log(q / (1 - q)))
    for coins, guesses, delta, known in ((800, 100, 400**-1.1, 0.649), (800, 100, 1e-5, 3.47), (2000, 200, 1e-5, 4.14)):
        assert metrics.plan_one_run(coins, n_guesses=guesses, delta=delta).ceiling(0.95) == pytest.approx(known, abs=0.005)


@pytest.mark.parametrize("delta", [0.0, 1e-5, 400**-1.1, 0.01])
@pytest.mark.parametrize("n", [50, 801, 2000])
@pytest.mark.parametrize("promise", [0.1, 1.0, 4.0, 8.0])
def test_guesses_are_as_few_as_reach_above_the_promise_or_all(n: int, delta: float, promise: float) -> None:
    plan, usual = metrics.plan_one_run(n, delta=delta, promise=promise), metrics.plan_one_run(n, delta=delta)
    all_of_them = metrics.plan_one_run(n, delta=delta, n_guesses=n)
    assert usual.n_guesses <= plan.n_guesses <= all_of_them.n_guesses == n // 2 * 2
    if all_of_them.ceiling(0.95) <= promise + 1:
        assert plan.n_guesses == all_of_them.n_guesses
        assert plan.cannot_refute(0.95) == (all_of_them.ceiling(0.95) <= promise)
    else:
        assert plan.ceiling(0.95) > promise + 1 - 1e-6
        assert not plan.cannot_refute(0.95)
        if plan.n_guesses > usual.n_guesses:
            fewer = metrics.plan_one_run(n, delta=delta, n_guesses=plan.n_guesses - 2)
            assert fewer.ceiling(0.95) <= promise + 1 + 1e-6


def test_the_guesses_do_not_depend_on_the_outcome_and_an_audit_that_cannot_fail_says_so() -> None:
    rng = np.random.default_rng(0)
    scores, member = randomized_response(1.0, 800, rng)
    reasons = []
    for given in (scores, np.zeros(800), member.astype(float)):
        found = metrics.epsilon_lower_bound(given, member, rng=np.random.default_rng(1), delta=400**-1.1, promise=1.0)
        reasons.append(found.reason)
        assert found.status == "ok"
        assert "at most 2" in found.reason
    used = {reason.split(" of ")[1].split(" guesses right")[0] for reason in reasons}
    assert len(used) == 1, "as many guesses, whatever was scored"
    assert metrics.epsilon_lower_bound(member.astype(float), member, rng=rng, delta=400**-1.1, promise=1.0).value > 1
    blunt = metrics.epsilon_lower_bound(member.astype(float), member, rng=rng, delta=400**-1.1, promise=4.0)
    assert blunt.status == "low_power"
    assert "so that it cannot refute the promised epsilon 4" in blunt.reason
    assert 2.5 < blunt.value < 3.15, "below the promise even with every record told apart"
    nothing = metrics.epsilon_lower_bound(member.astype(float), member, rng=rng, delta=0.05)
    assert (nothing.value, nothing.status) == (0.0, "low_power")
    assert "cannot refute anything" in nothing.reason
    with pytest.raises(ValueError, match="promise=-1"):
        metrics.plan_one_run(800, delta=1e-5, promise=-1.0)


@pytest.mark.parametrize("epsilon", [pytest.param(0.0, marks=pytest.mark.thorough), 1.0])
def test_guesses_chosen_by_the_promise_keep_the_false_alarms(epsilon: float, within) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(7)
    bounds = [
        metrics.epsilon_lower_bound(*randomized_response(epsilon, 800, rng), rng=rng, delta=1e-9, promise=1.0).value
        for _ in range(300)
    ]
    within(int((np.array(bounds) > epsilon).sum()), 300, at_most=0.05)


def test_figures_hold_the_ceiling_beside_either_bound(gaussian) -> None:  # type: ignore[no-untyped-def]
    scores, member = gaussian(1.0, 300, 500, np.random.default_rng(0))
    found = metrics.figures(scores, member, rng=np.random.default_rng(0))
    assert "epsilon_lower_bound_ceiling" not in found, "no bound, no ceiling"
    # 150 of 150 and 0 of 250, or 250 of 250 and 0 of 150, at 97.5% each: low = .025^(1/n), high = 1 - .025^(1/n).
    low, high = 0.025 ** (1 / 150), 1 - 0.025 ** (1 / 250)
    other = math.log(0.025 ** (1 / 250) / (1 - 0.025 ** (1 / 150)))
    assert found["epsilon_heuristic_ceiling"].value == pytest.approx(max(math.log(low / high), other))
    best = metrics.epsilon_heuristic(member.astype(float), member, rng=np.random.default_rng(0))
    assert best.value == pytest.approx(found["epsilon_heuristic_ceiling"].value, rel=0.2)
    assert best.value <= found["epsilon_heuristic_ceiling"].value
    coins = np.arange(800) < 400
    found = metrics.figures(coins * 1.0, coins, rng=np.random.default_rng(0), coin_flips=True, delta=400**-1.1, promise=1.0)
    assert found["epsilon_lower_bound"].value == found["epsilon_lower_bound_ceiling"].value > 1


def randomized_response(epsilon: float, n: int, rng: np.random.Generator, delta: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Each record's membership told truly with probability e^eps / (1 + e^eps), and in the clear (score 2, -1) with `delta`."""
    member = rng.random(n) < 0.5
    told = member ^ (rng.random(n) > 1 / (1 + math.exp(-epsilon)))
    clear = rng.random(n) < delta
    return np.where(clear, np.where(member, 2.0, -1.0), told.astype(float)), member


@pytest.mark.parametrize("adjacency", ["add_remove", "replace"])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0, 3.0])
def test_lower_bound_of_randomized_response(epsilon: float, adjacency, within) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(int(epsilon * 10) + 1)
    bounds = np.array(
        [
            metrics.epsilon_lower_bound(
                *randomized_response(epsilon, 4000, rng), rng=rng, n_guesses=2000, delta=0.0, adjacency=adjacency
            ).value
            for _ in range(400)
        ]
    )
    # Half of the records are guessed: those told to be members (or not) are about as many, and none is guessed against what
    # was told. Randomized response attains the theorem's bound, so this is 5%, less what a discrete count leaves.
    within(int((bounds > epsilon).sum()), 400, at_least=0.0 if epsilon == 0 else 0.035, at_most=0.05)
    if epsilon:
        # The log odds of 2,000 guesses have error 1 / sqrt(2000 q (1 - q)); the mean bound is 1.64 of it below, +- 4 / 20.
        q = 1 / (1 + math.exp(-epsilon))
        error = 1 / math.sqrt(2000 * q * (1 - q))
        assert (epsilon - bounds.mean()) / error == pytest.approx(1.645, abs=0.3)
    else:
        assert bounds.mean() < 0.02


def test_lower_bound_with_delta_and_the_default_guesses(within) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(3)
    found = [
        metrics.epsilon_lower_bound(*randomized_response(2.0, 5000, rng, delta=1e-5), rng=rng, delta=1e-5) for _ in range(200)
    ]
    assert "of 500 guesses right, of 5000 coin flips" in found[0].reason
    assert "95% lower bound at delta 1e-05, add/remove adjacency" in found[0].reason
    bounds = np.array([one.value for one in found])
    within(int((bounds > 2.0).sum()), 200, at_most=0.05)
    assert 1.4 < bounds.mean() < 1.85  # 1.77 at delta 0: 2 less 1.64 standard errors of 0.138
    assert all(one.ci_low == one.value and one.ci_high is None for one in found)


def test_a_larger_delta_or_more_coins_never_raises_the_bound() -> None:
    scores, member = randomized_response(2.0, 2000, np.random.default_rng(0))

    def bound(**options: float) -> float:
        return metrics.epsilon_lower_bound(scores, member, rng=np.random.default_rng(1), **options).value  # type: ignore[arg-type]

    assert bound(delta=0.0) >= bound(delta=1e-6) > bound(delta=1e-4) >= bound(delta=0.5) == 0.0
    assert bound(delta=1e-5, n_flips=2000) > bound(delta=1e-5, n_flips=20_000)


def test_guesses_are_blind_to_the_truth_when_tied(within) -> None:  # type: ignore[no-untyped-def]
    # Constant scores with the members first: breaking ties by position would guess right every time.
    rng = np.random.default_rng(0)
    member = np.arange(400) < 200
    above = sum(metrics.epsilon_lower_bound(np.zeros(400), member, rng=rng, delta=0.0).value > 0 for _ in range(500))
    within(above, 500, at_most=0.05)


def test_unfair_coins_are_refused() -> None:
    member = np.arange(1000) < 600
    found = metrics.epsilon_lower_bound(np.arange(1000.0), member, rng=np.random.default_rng(0))
    assert found.status == "skipped"
    assert "600 members of 1000" in found.reason
    given = metrics.epsilon_lower_bound(np.arange(1000.0), member, rng=np.random.default_rng(0), n_flips=5000)
    assert given.status == "ok"
    for options in ({"n_flips": 999}, {"n_guesses": 1001}, {"n_guesses": 1}, {"adjacency": "swap"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            metrics.epsilon_lower_bound(np.arange(1000.0), member, rng=np.random.default_rng(0), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("n_member", "n_nonmember"), [(100, 100), (1000, 1000), (2000, 200)])
def test_heuristic_is_rarely_above_zero_on_no_signal(n_member, n_nonmember, gaussian, within) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(n_member + n_nonmember)
    above = sum(metrics.epsilon_heuristic(*gaussian(0.0, n_member, n_nonmember, rng), rng=rng).value > 0 for _ in range(400))
    assert above <= 20  # at most 5% of these 400; about 0.3% in the long run, as two one-sided ends must both miss
    within(above, 400, at_most=0.02)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_heuristic_of_a_strong_signal_at_either_end(sign: float, within) -> None:  # type: ignore[no-untyped-def]
    # Scores in {0, 1}: half of one side stands out and 1% of the other; the true log ratio is log 50, by TPR/FPR or TNR/FNR.
    rng = np.random.default_rng(int(sign) + 5)
    bounds = []
    for _ in range(300):
        member = np.arange(4000) < 2000
        stands_out = rng.random(4000) < np.where(member if sign > 0 else ~member, 0.5, 0.01)
        found = metrics.epsilon_heuristic(sign * stands_out, member, rng=rng)
        bounds.append(found.value)
        assert ("TPR over FPR" if sign > 0 else "TNR over FNR") in found.reason
    within(int((np.array(bounds) > math.log(50)).sum()), 300, at_most=0.05)
    assert 2.7 < np.mean(bounds) < 3.4  # log 50 = 3.91; with 10 of 1,000 the upper end of 1% is 1.8%


def test_delta_lowers_the_heuristic(gaussian) -> None:  # type: ignore[no-untyped-def]
    scores, member = gaussian(2.0, 1000, 1000, np.random.default_rng(0))
    zero, some = (metrics.epsilon_heuristic(scores, member, rng=np.random.default_rng(1), delta=d).value for d in (0.0, 0.2))
    assert zero > some > 0
    with pytest.raises(ValueError, match="delta=1"):
        metrics.epsilon_heuristic(scores, member, rng=np.random.default_rng(1), delta=1.0)


def test_the_split_is_a_random_one(gaussian) -> None:  # type: ignore[no-untyped-def]
    # On sorted input a split by position would choose the threshold on the low scores alone.
    scores, member = gaussian(3.0, 400, 400, np.random.default_rng(0))
    order = np.argsort(scores)
    assert metrics.epsilon_heuristic(scores[order], member[order], rng=np.random.default_rng(0)).value > 1.5
    assert stats.norm.sf(1.5) < 0.07
