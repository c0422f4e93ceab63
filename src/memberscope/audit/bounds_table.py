"""The table of lower bounds on epsilon of one set of scores, and whether they contradict the epsilon that training promised.

All choices are made before any outcome is known: a way of choosing the threshold for each method, and the primary method, by which a
promise is judged. The best of several methods would not be a bound at its stated confidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import UserError
from memberscope.metrics import AllThresholds, BoundMethod, GuessShares, ThresholdChoice, epsilon_bound
from memberscope.metrics.bounds import ASSUMPTIONS
from memberscope.metrics.epsilon import HEADROOM
from memberscope.metrics.thresholds import Sides

if TYPE_CHECKING:
    import pandas as pd

Records = Literal["ordinary", "canaries"]

# "kept": not contradicted by bounds that could have done so. "contradicted": a bound is above the promise, so the training is not as
# private as promised. "cannot be judged": no bound, or none that could have exceeded the promise.
PromiseVerdict = Literal["kept", "contradicted", "cannot be judged", "no promise"]

# Shares of guesses that are fewer records than this are left out: their bounds could hardly be large.
LEAST_GUESSED = 30


@dataclass(frozen=True, kw_only=True)
class BoundRow:
    """One bound of the table.

    Attributes:
        attack: the attack whose scores are judged.
        records: whether these are the scores of ordinary records or of canaries.
        method: how the bound is derived; see `memberscope.metrics.epsilon_bound`.
        primary: whether the promise is judged by this row.
        assumes: what the bound takes for granted beyond coin-flip membership.
        threshold: how the threshold was chosen.
        sides: whether members alone are guessed, or non-members, too.
        bound: the lower bound on epsilon; None where there is none, for the `reason`.
        ceiling: the largest value that the bound could have with these coins, which perfect scores would give.
        promise: the epsilon that training promised; None if it promised none.
        ratio: `bound` / `promise`.
        verdict: what this row alone says about the promise.
        delta: the delta of (epsilon, delta)-privacy.
        confidence: the bound is at most the true epsilon with this probability.
        n: the number of coin flips.
        reason: details, or why there is no bound.
    """

    attack: str
    records: Records
    method: BoundMethod
    primary: bool
    assumes: str
    threshold: str
    sides: Sides
    bound: float | None
    ceiling: float | None
    promise: float | None
    ratio: float | None
    verdict: PromiseVerdict
    delta: float
    confidence: float
    n: int
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """Scores by which a promise is judged.

    Attributes:
        attack: whose scores they are; it did not see the coins.
        records: whether these are ordinary records or canaries.
        scores: (n,), higher = more likely a member.
        member: (n,) bool, decided by fair coins.
        one_record: whether each coin decided on one record. Where it decided on a group of records, or on several copies of a canary, the
            bound is about that many records together, and says nothing about a promise for one record.
    """

    attack: str
    records: Records
    scores: NDArray[np.float64]
    member: NDArray[np.bool_]
    one_record: bool = True


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Whether a promise is kept, from one or several looks, each with its part of the error (Bonferroni).

    Attributes:
        verdict: the answer.
        bound: the largest of the looks' primary bounds, at most the true epsilon with probability `confidence`; None where there is none.
        ceiling: the largest value that `bound` could have.
        promise, ratio: the promised epsilon and ``bound / promise``; None without a promise.
        method, attack, records: of the look with the largest bound.
        assumes: what that bound takes for granted beyond coin-flip membership.
        delta, confidence: of `bound`.
        looks: the number of looks among which the error was divided.
        reason: why it cannot be judged; empty if it can.
    """

    verdict: PromiseVerdict
    bound: float | None
    ceiling: float | None
    promise: float | None
    ratio: float | None
    method: BoundMethod
    attack: str
    records: Records
    assumes: str
    delta: float
    confidence: float
    looks: int
    reason: str = ""


def bounds_table(
    scores: NDArray[np.float64],
    member: NDArray[np.bool_],
    *,
    attack: str,
    coin_flips: bool,
    delta: float | None,
    promise: float | None,
    records: Records = "ordinary",
    one_record: bool = True,
    confidence: float = 0.95,
    primary: BoundMethod | None = None,
) -> tuple[BoundRow, ...]:
    """One row for each method, for `scores` (n,), higher = more likely a member, and `member` (n,) bool.

    Each row holds by itself at `confidence`, under what it assumes. The rows do not hold jointly, so the best of them is not a bound.

    Args:
        scores: of an `attack` that did not see the coins.
        member: who was a member, each by a fair coin.
        attack: the attack's name.
        coin_flips: states that membership was drawn by coins and that the scores are blind to them.
        delta: the delta of every bound: that of the promise, if there is one.
        promise: the epsilon that training promised; None for none.
        records: whether these are ordinary records or canaries.
        one_record: whether each coin decided on one record; see `Look`.
        confidence: of every row.
        primary: the primary method, fixed beforehand; None for `primary_method`.

    Raises:
        UserError: no coin flips, no delta, or one that is not between 0 and 1; a promise below 0.
    """
    delta = check_bound(coin_flips=coin_flips, delta=delta, promise=promise)
    chosen = primary or primary_method(len(scores), delta=delta, promise=promise, confidence=confidence)
    look = Look(attack=attack, records=records, scores=scores, member=member, one_record=one_record)
    return tuple(
        _row(look, method, primary=method == chosen, delta=delta, promise=promise, confidence=confidence)
        for method in get_args(BoundMethod)
    )


def check_bound(*, coin_flips: bool, delta: float | None, promise: float | None) -> float:
    """The delta of a requested bound; UserError where there can be no bound."""
    if not coin_flips:
        raise UserError(
            "coin_flips=no: a lower bound on epsilon needs memberships that were drawn by fair coins; allowed: coin_flips=yes, "
            "but only for such memberships"
        )
    if delta is None or not 0 <= delta < 1:
        shown = "none" if delta is None else f"{delta:g}"
        raise UserError(
            f"delta={shown}: a lower bound on epsilon holds at a stated delta; allowed: from 0 to below 1, such as 1e-5"
        )
    if promise is not None and not 0 <= promise < math.inf:
        raise UserError(f"promised_epsilon={promise:g}: not a bound; allowed: none, or a finite number of at least 0")
    return float(delta)


def primary_method(n: int, *, delta: float, promise: float | None, confidence: float = 0.95) -> BoundMethod:
    """The method by which a promise is judged on `n` coin flips; it depends on no outcome.

    "one_run", which assumes nothing, if perfect scores would put it well above the promise (by `HEADROOM`), or if there is no promise.
    Otherwise "fdp_one_run": with so few coin flips, the promise can be judged only on the assumption of a Gaussian trade-off curve.
    """
    if promise is None or delta == 0:
        return "one_run"
    ceiling = ceiling_of("one_run", n // 2, n - n // 2, delta=delta, confidence=confidence)
    return "one_run" if ceiling is not None and ceiling >= promise + HEADROOM else "fdp_one_run"


def settings_of(method: BoundMethod, n: int) -> tuple[ThresholdChoice, Sides]:
    """How a method chooses its threshold among `n` records, and which sides it guesses, as fixed beforehand.

    The one-run bounds take the best of a few shares of guesses; with all thresholds, they would pay for thousands. Error rates are
    taken at the best of all thresholds; a share would make them depend on the memberships of other records.
    """
    if method in ("one_run", "fdp_one_run"):
        shares = tuple(share for share in GuessShares().shares if share * n >= LEAST_GUESSED)
        return GuessShares(shares=shares or (1.0,)), "both"
    return AllThresholds(), "both" if method == "clopper_pearson" else "members"


@lru_cache(maxsize=1024)
def ceiling_of(method: BoundMethod, n_member: int, n_nonmember: int, *, delta: float, confidence: float) -> float | None:
    """The bound that scores would give which put all members above all non-members: the largest that these coins can give.

    None where there is no bound, whatever the scores.
    """
    member = np.arange(n_member + n_nonmember) >= n_nonmember
    threshold, sides = settings_of(method, len(member))
    found = _bound(np.arange(len(member), dtype=np.float64), member, method, threshold, sides, delta, confidence)
    return found[0]


def judge_promise(
    looks: Sequence[Look],
    *,
    coin_flips: bool,
    delta: float | None,
    promise: float | None,
    confidence: float = 0.95,
    methods: Sequence[BoundMethod] | None = None,
) -> Judgement:
    """Judge a promise by several looks at the same promise, such as ordinary records and canaries at several seeds.

    Each look gets an equal part of the error, so the largest of their bounds is above the epsilon of every training in at most 1 -
    `confidence` of studies. Looks in which each coin decides on several records do not count if there are others.

    Args:
        looks: at least one; which attacks are looked at must not depend on how well they did.
        coin_flips, delta, promise: as for `bounds_table`.
        confidence: of the judgement.
        methods: the primary method of each look; None for `primary_method`.

    Raises:
        UserError: as `bounds_table`. ValueError without looks.
    """
    delta = check_bound(coin_flips=coin_flips, delta=delta, promise=promise)
    if not looks:
        raise ValueError("looks=(); a promise is judged by at least one attack's scores")
    if methods is None:
        methods = [primary_method(len(look.scores), delta=delta, promise=promise, confidence=confidence) for look in looks]
    pairs = list(zip(looks, methods, strict=True))
    pairs = [pair for pair in pairs if pair[0].one_record] or pairs
    each = 1 - (1 - confidence) / len(pairs)
    rows = [_row(look, method, primary=True, delta=delta, promise=promise, confidence=each) for look, method in pairs]
    best = max(rows, key=lambda row: -1.0 if row.bound is None else row.bound)
    ceilings = [row.ceiling for row in rows if row.bound is not None and row.ceiling is not None]
    ceiling = max(ceilings, default=None)
    verdict, why = _verdict(best.bound, ceiling, promise, one_record=pairs[0][0].one_record)
    return Judgement(
        verdict=verdict,
        bound=best.bound,
        ceiling=ceiling,
        promise=promise,
        ratio=_ratio(best.bound, promise),
        method=best.method,
        attack=best.attack,
        records=best.records,
        assumes=best.assumes,
        delta=delta,
        confidence=confidence,
        looks=len(pairs),
        reason=best.reason if best.bound is None else why,
    )


def not_judged(*, delta: float, promise: float | None, reason: str, confidence: float = 0.95) -> Judgement:
    """The judgement where nothing can be looked at, for a `reason` such as memberships that were not drawn by coins."""
    return Judgement(
        verdict="no promise" if promise is None else "cannot be judged", bound=None, ceiling=None, promise=promise, ratio=None,
        method="one_run", attack="", records="ordinary", assumes="", delta=delta, confidence=confidence, looks=0, reason=reason,
    )  # fmt: skip


def bounds_frame(rows: Sequence[BoundRow]) -> pd.DataFrame:
    """The rows as a table, a column for each attribute of `BoundRow`."""
    import pandas as pd

    return pd.DataFrame([asdict(row) for row in rows], columns=[item.name for item in fields(BoundRow)])


def _row(
    look: Look, method: BoundMethod, *, primary: bool, delta: float, promise: float | None, confidence: float
) -> BoundRow:  # fmt: skip
    n, n_member = len(look.scores), int(np.count_nonzero(look.member))
    threshold, sides = settings_of(method, n)
    bound, reason = _bound(look.scores, look.member, method, threshold, sides, delta, confidence)
    ceiling = ceiling_of(method, n_member, n - n_member, delta=delta, confidence=confidence)
    verdict, why = _verdict(bound, ceiling, promise, one_record=look.one_record)
    return BoundRow(
        attack=look.attack,
        records=look.records,
        method=method,
        primary=primary,
        assumes=ASSUMPTIONS[method],
        threshold=_how(threshold, n),
        sides=sides,
        bound=bound,
        ceiling=ceiling,
        promise=promise,
        ratio=_ratio(bound, promise),
        verdict=verdict,
        delta=delta,
        confidence=confidence,
        n=n,
        reason=f"{reason}; {why}" if why and bound is not None else reason,
    )


def _bound(
    scores: NDArray[np.float64], member: NDArray[np.bool_], method: BoundMethod, threshold: ThresholdChoice, sides: Sides,
    delta: float, confidence: float,
) -> tuple[float | None, str]:  # fmt: skip
    """The bound, and details or why there is none."""
    if delta == 0 and method in ("fdp_one_run", "gaussian_dp"):
        return None, "at delta 0, a Gaussian trade-off curve implies no epsilon"
    n_member = int(np.count_nonzero(member))
    if n_member in (0, len(member)):
        return None, f"{n_member} members of {len(member)} records; both sides are needed"
    found: Any = epsilon_bound(
        scores, member, method=method, threshold=threshold, delta=delta, coin_flips=True, confidence=confidence, sides=sides
    ).estimate
    return (None if found.status == "skipped" else float(found.value)), found.reason


def _verdict(
    bound: float | None, ceiling: float | None, promise: float | None, *, one_record: bool
) -> tuple[PromiseVerdict, str]:  # fmt: skip
    """The verdict, and why there is none."""
    if promise is None:
        return "no promise", ""
    if bound is None or ceiling is None:
        return "cannot be judged", "there is no bound"
    if not one_record:
        return "cannot be judged", "each coin flip decided on several records, and the promise is about one"
    if bound > promise:
        return "contradicted", ""
    if ceiling <= promise:
        why = f"perfect scores would give no more than {ceiling:.3g}, so it cannot refute the promised epsilon {promise:.3g}"
        return "cannot be judged", why
    return "kept", ""


def _ratio(bound: float | None, promise: float | None) -> float | None:
    return None if bound is None or not promise else bound / promise


def _how(threshold: ThresholdChoice, n: int) -> str:
    if isinstance(threshold, GuessShares):
        k = len(threshold.shares)
        return "all records guessed" if k == 1 else f"best of {k} fixed shares of guesses, corrected for all"
    return f"best of {n} thresholds, corrected for all"
