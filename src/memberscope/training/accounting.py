"""What DP-SGD promises: epsilon for the sampling that was really used, and the noise that a target epsilon needs. No TensorFlow.

One step is the Poisson-sampled Gaussian mechanism: each member is in the batch with probability q by its own coin, each one's
gradient has norm at most C, and noise of standard deviation `noise_multiplier` * C is added once to their sum. Epsilon is for
data sets that differ by one record added or removed, and composes over the steps by dp_accounting's privacy loss distributions
(Koskela et al. 2020; Doroshenko et al. 2022, "connect the dots": an upper bound), or by its Renyi accountant (Mironov et al.
2019), which is quicker, looser, and what older papers report.

That numbers come from a pseudorandom stream in float32, not from a secure sampler of reals, is outside of every figure here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from memberscope.errors import UserError
from memberscope.installed import require

Accountant = Literal["pld", "rdp"]

# Privacy losses are rounded (upward) to a grid: a tenth of one step's q / noise, but no coarser and no finer than these.
# dp_accounting's fixed 1e-4 takes ten times as long where steps lose much, for an epsilon lower by under 0.5%, and is far too
# coarse where they lose little.
GRID_SHARE, COARSEST_NATS, FINEST_NATS = 0.1, 1e-3, 1e-7
LEAST_NOISE, MOST_NOISE = 0.1, 1e3  # between which noise for a target is sought
NOISE_TOLERANCE = 2e-3  # relative; what is returned meets the target
RENYI_EXCESS = 0.8  # where the tighter accountant's noise is looked for first, in units of the Renyi accountant's


@dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """What a DP-SGD training will have spent, known before its first step because it depends on no record.

    Attributes:
        members: records that may be sampled.
        batch_size: the expected batch.
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
        """With which each member is in a batch."""
        return self.batch_size / self.members

    @property
    def steps(self) -> int:
        """In all."""
        return self.steps_per_epoch * len(self.epsilons)

    @property
    def epsilon(self) -> float:
        """Spent at the end."""
        return self.epsilons[-1]


def default_delta(members: int) -> float:
    """n^-1.1, a little below one record's share (at most one half, for a data set of one)."""
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
    """Check what was asked for, and account for every epoch of it.

    Args:
        members: records to train on.
        epochs: expected visits of each member, at least 1.
        batch_size: expected records a step.
        noise_multiplier: at least 0 (0: no noise, epsilon inf); or
        target_epsilon: to be met, from below, at the end of the last epoch. Exactly one of the two.
        delta: `default_delta` unless set.
        accountant: ``"pld"`` or ``"rdp"``.

    Raises:
        UserError: both or neither of noise and target, a batch larger than the data, a delta outside (0, 1), or a target that no noise
            between `LEAST_NOISE` and `MOST_NOISE` reaches.
    """
    if batch_size < 1 or batch_size > members:
        raise UserError(f"batch_size={batch_size}: there are {members} members; allowed: 1 to {members}")
    if epochs < 1:
        raise UserError(f"epochs={epochs}: allowed is 1 or more")
    delta = default_delta(members) if delta is None else delta
    if not 0 < delta < 1:
        raise UserError(f"delta={delta:g}: allowed is between 0 and 1, and well below 1/{members}")
    if (noise_multiplier is None) == (target_epsilon is None):
        given = "both given" if target_epsilon is not None else "neither given"
        raise UserError(f"noise_multiplier, target_epsilon: {given}; allowed is exactly one of them")
    steps_per_epoch = -(-members // batch_size)
    q = batch_size / members
    if noise_multiplier is None:
        noise_multiplier = noise_for_epsilon(
            target_epsilon or 0.0, sampling_probability=q, steps=steps_per_epoch * epochs, delta=delta, accountant=accountant
        )
    if not (0 <= noise_multiplier < math.inf):
        raise UserError(f"noise_multiplier={noise_multiplier:g}: allowed is 0 or more")
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
    """Epsilon at `delta` after so many steps."""
    return epsilon_by_epoch(
        noise_multiplier,
        sampling_probability=sampling_probability,
        steps_per_epoch=steps,
        epochs=1,
        delta=delta,
        accountant=accountant,
    )[0]


def noise_for_epsilon(
    target_epsilon: float, *, sampling_probability: float, steps: int, delta: float, accountant: Accountant = "pld"
) -> float:
    """The least noise multiplier, to `NOISE_TOLERANCE` and never too small, whose epsilon is at most `target_epsilon`.

    Bisection on its logarithm. The Renyi accountant, whose epsilon is the larger one, narrows the range first where it reaches the target.

    Raises:
        UserError: not even `MOST_NOISE` reaches the target, or `LEAST_NOISE` is more than it needs.
    """

    def spent(noise: float, by: Accountant) -> float:
        return epsilon(noise, sampling_probability=sampling_probability, steps=steps, delta=delta, accountant=by)

    def least(low: float, high: float, by: Accountant) -> float:
        while high / low > 1 + NOISE_TOLERANCE:
            middle = math.sqrt(low * high)
            low, high = (low, middle) if spent(middle, by) <= target_epsilon else (middle, high)
        return high

    reached = spent(MOST_NOISE, accountant)
    if not (target_epsilon > 0 and target_epsilon >= reached):
        raise UserError(
            f"target_epsilon={target_epsilon:g}: no noise reaches it in {steps} steps at delta {delta:.2g}; "
            f"allowed is above 0, and at least {reached:.2g} (noise_multiplier {MOST_NOISE:g})"
        )
    if spent(LEAST_NOISE, "rdp") <= target_epsilon:
        raise UserError(
            f"target_epsilon={target_epsilon:g}: met by less noise than noise_multiplier {LEAST_NOISE:g}, which protects nobody; "
            f"allowed is less than {spent(LEAST_NOISE, 'rdp'):.3g}"
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
