"""The guarantee of DP-SGD: epsilon for the sampling that is actually used, and the noise that a target epsilon needs. No TensorFlow.

One step is the Poisson-sampled Gaussian mechanism: each member is in the batch independently with probability q, each member's
gradient is clipped to norm C, and noise of standard deviation `noise_multiplier` * C is added once to their sum. Epsilon is for data sets
that differ by one record added or removed. It is composed over the steps by dp_accounting's privacy loss distributions (Koskela et al.
2020; Doroshenko et al. 2022, "connect the dots": an upper bound), or by its Renyi accountant (Mironov et al. 2019), which is faster and
looser, and which older papers report.

No value here accounts for the fact that the noise comes from a pseudorandom stream in float32, not from a secure sampler of reals.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from memberscope.errors import UserError
from memberscope.installed import require

Accountant = Literal["pld", "rdp"]

# Privacy losses are rounded up to a grid of a tenth of one step's q / noise, within these limits. dp_accounting's fixed 1e-4 takes ten
# times as long if each step loses much, for an epsilon that is lower by less than 0.5%, and is far too coarse if each loses little.
GRID_SHARE, COARSEST_NATS, FINEST_NATS = 0.1, 1e-3, 1e-7
LEAST_NOISE, MOST_NOISE = 0.1, 1e3  # range of the search for the noise of a target epsilon
NOISE_TOLERANCE = 2e-3  # relative; the noise that is returned meets the target
SECANTS = 10  # most steps of the search along a secant; should it not end by then, it halves
RENYI_EXCESS = 0.8  # lower end of the first search for the tighter accountant's noise, in units of the Renyi accountant's


@dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """The privacy that a DP-SGD training will have spent, known before its first step because it depends on no record.

    Attributes:
        members: records that may be sampled.
        batch_size: expected size of a batch.
        steps_per_epoch: ``ceil(members / batch_size)``.
        noise_multiplier: standard deviation of the noise in units of the clip norm.
        delta: of (epsilon, delta)-privacy.
        epsilons: (epochs,) spent after each epoch, under adding or removing one record; inf without noise.
    """

    members: int
    batch_size: int
    steps_per_epoch: int
    noise_multiplier: float
    delta: float
    epsilons: tuple[float, ...]

    @property
    def sampling_probability(self) -> float:
        """The probability with which each member is in a batch."""
        return self.batch_size / self.members

    @property
    def steps(self) -> int:
        """The total number of steps."""
        return self.steps_per_epoch * len(self.epsilons)

    @property
    def epsilon(self) -> float:
        """Epsilon at the end of the training."""
        return self.epsilons[-1]


def default_delta(members: int) -> float:
    """members^-1.1, a little less than one record's share 1 / members; 1/2 for a single member."""
    return min(0.5, math.pow(members, -1.1))


def plan_privacy(
    *,
    members: int,
    epochs: int,
    batch_size: int,
    noise_multiplier: float | None = None,
    target_epsilon: float | None = None,
    delta: float | None = None,
    accountant: Accountant = "pld",
) -> PrivacyPlan:
    """Check the settings of a DP-SGD training, and compute epsilon after every epoch.

    Args:
        members: records to train on.
        epochs: expected visits of each member, at least 1.
        batch_size: expected records per step.
        noise_multiplier: at least 0; with 0 there is no noise, and epsilon is inf. Give either this or `target_epsilon`.
        target_epsilon: the largest epsilon allowed at the end of the last epoch.
        delta: delta of the guarantee; None: `default_delta`.
        accountant: ``"pld"`` or ``"rdp"``.

    Raises:
        UserError: both or neither of noise and target, a batch larger than the data, a delta outside (0, 1), or a target that no noise
            between `LEAST_NOISE` and `MOST_NOISE` reaches.
    """
    if batch_size < 1 or batch_size > members:
        raise UserError(f"batch_size={batch_size}: there are {members} members; allowed: 1 to {members}")
    if epochs < 1:
        raise UserError(f"epochs={epochs}: out of range; allowed: 1 or more")
    delta = default_delta(members) if delta is None else delta
    if not 0 < delta < 1:
        raise UserError(f"delta={delta:g}: out of range; allowed: above 0 and below 1, and preferably well below 1/{members}")
    if (noise_multiplier is None) == (target_epsilon is None):
        given = "both given" if target_epsilon is not None else "neither given"
        raise UserError(f"noise_multiplier, target_epsilon: {given}; allowed: exactly one of them")
    steps_per_epoch = -(-members // batch_size)
    q = batch_size / members
    if noise_multiplier is None:
        noise_multiplier = noise_for_members(
            target_epsilon or 0.0, members=members, epochs=epochs, batch_size=batch_size, delta=delta, accountant=accountant
        )
    if not (0 <= noise_multiplier < math.inf):
        raise UserError(f"noise_multiplier={noise_multiplier:g}: out of range; allowed: 0 or more")
    epsilons = epsilon_by_epoch(
        noise_multiplier,
        sampling_probability=q,
        steps_per_epoch=steps_per_epoch,
        epochs=epochs,
        delta=delta,
        accountant=accountant,
    )
    return PrivacyPlan(
        members=members,
        batch_size=batch_size,
        steps_per_epoch=steps_per_epoch,
        noise_multiplier=float(noise_multiplier),
        delta=delta,
        epsilons=epsilons,
    )


def noise_for_members(
    target_epsilon: float,
    *,
    members: int,
    epochs: int,
    batch_size: int,
    delta: float | None = None,
    accountant: Accountant = "pld",
) -> float:
    """The noise multiplier that `plan_privacy` finds for a target epsilon, without epsilon after every epoch, which takes longer."""
    return noise_for_epsilon(
        target_epsilon, sampling_probability=batch_size / members, steps=-(-members // batch_size) * epochs,
        delta=default_delta(members) if delta is None else delta, accountant=accountant,
    )  # fmt: skip


@lru_cache(maxsize=256)  # every model of a fleet with as many members asks for it
def epsilon_by_epoch(
    noise_multiplier: float,
    *,
    sampling_probability: float,
    steps_per_epoch: int,
    epochs: int,
    delta: float,
    accountant: Accountant = "pld",
) -> tuple[float, ...]:
    """Epsilon at `delta` after each epoch, (epochs,)."""
    if noise_multiplier == 0:
        return (math.inf,) * epochs
    grid = max(FINEST_NATS, min(COARSEST_NATS, GRID_SHARE * sampling_probability / noise_multiplier))
    account, spent = _accountant(accountant, grid), []
    event = _steps(noise_multiplier, sampling_probability, steps_per_epoch)
    for _ in range(epochs):
        account.compose(event)
        spent.append(float(account.get_epsilon(delta)))
    return tuple(spent)


def epsilon(
    noise_multiplier: float, *, sampling_probability: float, steps: int, delta: float, accountant: Accountant = "pld"
) -> float:
    """Epsilon at `delta` after `steps` steps."""
    return epsilon_by_epoch(
        noise_multiplier,
        sampling_probability=sampling_probability,
        steps_per_epoch=steps,
        epochs=1,
        delta=delta,
        accountant=accountant,
    )[0]


@lru_cache(maxsize=256)  # a fifth of a second or more each, and the same for all models of a fleet with as many members
def noise_for_epsilon(
    target_epsilon: float, *, sampling_probability: float, steps: int, delta: float, accountant: Accountant = "pld"
) -> float:
    """The smallest noise multiplier whose epsilon is at most `target_epsilon`, rounded up by at most `NOISE_TOLERANCE`.

    It is what bisection on its logarithm finds. If the Renyi accountant, whose epsilon is larger, reaches the target, it first narrows the
    range.

    Raises:
        UserError: not even `MOST_NOISE` reaches the target, or less than `LEAST_NOISE` is enough.
    """

    known: dict[Accountant, dict[float, float]] = {"pld": {}, "rdp": {}}

    def spent(noise: float, by: Accountant) -> float:
        if noise not in known[by]:
            known[by][noise] = epsilon(
                noise, sampling_probability=sampling_probability, steps=steps, delta=delta, accountant=by
            )
        return known[by][noise]

    def least(low: float, high: float, by: Accountant) -> float:
        return _bisected(lambda noise: spent(noise, by), target_epsilon, low, high, known=known[by])

    reached = spent(MOST_NOISE, accountant)
    if not (target_epsilon > 0 and target_epsilon >= reached):
        raise UserError(
            f"target_epsilon={target_epsilon:g}: no noise reaches it in {steps} steps at delta {delta:.2g}; "
            f"allowed: above 0, and at least {reached:.2g} (noise_multiplier {MOST_NOISE:g})"
        )
    if spent(LEAST_NOISE, "rdp") <= target_epsilon:
        raise UserError(
            f"target_epsilon={target_epsilon:g}: met by less noise than noise_multiplier {LEAST_NOISE:g}, which gives no real protection; "
            f"allowed: less than {spent(LEAST_NOISE, 'rdp'):.3g}"
        )
    low, high = LEAST_NOISE, MOST_NOISE
    if spent(high, "rdp") <= target_epsilon:
        high = least(low, high, "rdp")
        if accountant == "rdp":
            return high
        low = max(low, RENYI_EXCESS * high)
        if spent(low, accountant) <= target_epsilon:
            low = LEAST_NOISE
    return least(low, high, accountant)


def _bisected(
    spent: Callable[[float], float], target: float, low: float, high: float, *, known: Mapping[float, float]
) -> float:
    """What bisection on the logarithm finds: the upper end of an interval that is narrower than `NOISE_TOLERANCE`, in which epsilon passes
    the target.

    An epsilon takes tens of milliseconds, and most of those that bisection asks for are far from the target. So the search follows a
    secant, and then asks for the ends of the interval that bisection would reach; since epsilon falls with the noise, these decide all
    halves on the way to it.

    Args:
        spent: epsilon at a noise multiplier.
        target: the largest epsilon allowed.
        low, high: noise multipliers at which epsilon is above the target, and at most the target.
        known: the epsilons that `spent` has returned, by noise multiplier.
    """
    too_little, enough = low, high
    for turn in itertools.count():
        guess = _secant(known, target) if turn < SECANTS else None
        inside = guess is not None and math.log(too_little) < guess < math.log(enough)
        guess = math.exp(guess) if guess is not None and inside else math.sqrt(too_little * enough)
        below, above = low, high
        while above / below > 1 + NOISE_TOLERANCE:
            middle = math.sqrt(below * above)
            meets = middle >= enough or (middle > too_little and middle >= guess)
            below, above = (below, middle) if meets else (middle, above)
        if below <= too_little and above >= enough:
            return above
        asked = above if above < enough else below
        if spent(asked) <= target:
            enough = asked
        else:
            too_little = asked
    raise AssertionError("halving ends")


def _secant(known: Mapping[float, float], target: float) -> float | None:
    """The logarithm of the noise at which the line through the two known points nearest to the target, both logarithmic, meets it; None if
    it does not.
    """
    points = [(math.log(noise), math.log(spent / target)) for noise, spent in known.items() if 0 < spent < math.inf]
    if len(points) < 2:
        return None
    (x, y), (other_x, other_y) = sorted(points, key=lambda point: (abs(point[1]), point))[:2]
    return x - y * (other_x - x) / (other_y - y) if other_y != y else None


def _steps(noise_multiplier: float, sampling_probability: float, steps: int) -> Any:
    require("dp_accounting", by="epsilon")
    import dp_accounting

    step = dp_accounting.PoissonSampledDpEvent(sampling_probability, dp_accounting.GaussianDpEvent(noise_multiplier))
    return dp_accounting.SelfComposedDpEvent(step, steps)


def _accountant(name: Accountant, grid: float) -> Any:
    if name == "pld":
        from dp_accounting.pld import PLDAccountant

        return PLDAccountant(value_discretization_interval=grid)
    if name == "rdp":
        from dp_accounting.rdp import RdpAccountant

        return RdpAccountant()
    raise UserError(f"accountant={name}: unknown; allowed: pld, rdp")
