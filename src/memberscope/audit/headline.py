"""The headline of an audit: its primary attack, and that attack's metrics.

The strongest of several attacks looks good on the records that it was picked on, even where there is nothing to find: of ten attacks with
independent scores on noise, the best has a 95% interval above 0.5 in more than a fifth of all data sets. The primary attack is therefore
either named before anything runs, or chosen by its AUC on one half of the records and reported on the other half, which played no part in
the choice.

Attacks that are cross-fitted on the audited records are fitted once, on all of them, so that the two halves are not quite independent.
This does no visible harm where all attacks read the same outputs: on 250 data sets of 600 records without signal, with two threshold and
four cross-fitted attacks, the headline's interval missed 0.5 in 5% (the best of six on all records: 13%), and just as often when the
choosing half had fits of its own. It would do harm with many attacks that are fitted on different features: with ten such attacks of
thirty noise features each, 10% of the intervals lay above 0.5 where 2.5% are expected.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from memberscope import metrics, seeds
from memberscope.audit import artifacts
from memberscope.audit.declared import Declared
from memberscope.checks import Array, BoolArray
from memberscope.metrics import Estimate
from memberscope.metrics.area import auc_value
from memberscope.metrics.curve import rank

AUTO = "auto"
LEAST = 20  # members, and non-members, that each half needs
NULL_DRAWS = 200
SLACK = 1e-9  # beyond a metric's range, for what rounding may have moved
CHOICES = ("named", "only", "strongest", "first")


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The primary attack of an audit, how it was chosen, and its metrics.

    Attributes:
        attack, family: the attack's name and family.
        chosen: ``named`` beforehand; the ``only`` one that ran; the ``strongest`` on one half of the records, reported on the other; or the
            ``first`` one in the requested order, if there are too few records for two halves.
        reason: why it was not chosen in the requested way; empty if it was.
        candidates: the attacks that ran, in the requested order.
        n_member, n_nonmember: numbers of records behind `figures`: those of the reporting half for the ``strongest``, else all.
        figures: name -> `Estimate`, as in a `memberscope.audit.report.SliceResult`; for the ``strongest`` without metrics such as
            ``epsilon_lower_bound``, since that bound counts the coin flips of all records.
    """

    attack: str
    family: str
    chosen: str
    reason: str = ""
    candidates: tuple[str, ...]
    n_member: int
    n_nonmember: int
    figures: Mapping[str, Estimate]

    def __post_init__(self) -> None:
        """Raise ValueError where the parts contradict each other."""
        if self.chosen not in CHOICES:
            raise ValueError(f"chosen={self.chosen!r}; allowed: {', '.join(CHOICES)}")
        if self.attack not in self.candidates:
            raise ValueError(f"{self.attack} is not among the candidates {', '.join(self.candidates)}")

    @property
    def auc(self) -> Estimate:
        """The AUC, on which the verdict is based."""
        return self.figures["auc"]

    @property
    def verdict(self) -> str:
        """See `verdict_on`."""
        return verdict_on(self.auc)

    @property
    def halved(self) -> bool:
        """Whether the metrics are those of half of the records."""
        return self.chosen == "strongest"

    @property
    def how(self) -> str:
        """How the primary attack was chosen, as a phrase."""
        number = len(self.candidates)
        words = {
            "named": "named before the audit",
            "only": "the only attack that ran",
            "strongest": f"the strongest of {number} attacks on one half of the records, reported on the other half",
            "first": f"the first of {number} attacks",
        }[self.chosen]
        return f"{words} ({self.reason})" if self.reason else words

    def to_json(self) -> str:
        """A JSON object that `from_json` reads back to an equal headline."""
        values = asdict(self)
        values["figures"] = {name: _plain(figure) for name, figure in self.figures.items()}
        return json.dumps(values, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Headline:
        """Read the JSON that `to_json` wrote; ValueError for anything else."""
        try:
            values = json.loads(text)
            figures = {str(name): _estimate(str(name), figure) for name, figure in values.pop("figures").items()}
            found = cls(**{**values, "candidates": tuple(values["candidates"])}, figures=figures)
        except (TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"{artifacts.HEADLINE}: not the headline of an audit ({error})") from None
        texts = (found.attack, found.family, found.chosen, found.reason, *found.candidates)
        if not all(isinstance(text, str) for text in texts) or "auc" not in figures:
            raise ValueError(f"{artifacts.HEADLINE}: not the headline of an audit (its names are not text, or it has no auc)")
        if not all(type(count) is int and 0 <= count < 2**53 for count in (found.n_member, found.n_nonmember)):
            raise ValueError(f"{artifacts.HEADLINE}: not the headline of an audit (its numbers of records are invalid)")
        return found


def _estimate(name: str, values: Any) -> Estimate:
    """A metric of a stored headline; ValueError, TypeError, KeyError or AttributeError if it is none, or out of the metric's range."""
    numbers = [values["value"], values.get("ci_low"), values.get("ci_high")]
    if any(isinstance(number, bool) or not isinstance(number, int | float | None) for number in numbers):
        raise TypeError(f"{name} is not a number")
    if any(isinstance(number, int) and abs(number) > 2**53 for number in numbers) or not isinstance(
        values.get("reason", ""), str
    ):
        raise TypeError(f"{name} has no value, or no reason")
    found = Estimate(**{**values, "value": float("nan") if values["value"] is None else values["value"]})
    spec = metrics.registry.find(name)
    if spec is not None and found.status != "skipped" and not spec.range[0] - SLACK <= found.value <= spec.range[1] + SLACK:
        raise ValueError(f"{artifacts.HEADLINE}: {name} is {found.value:g}; allowed: {spec.range[0]:g} to {spec.range[1]:g}")
    return found


class Interval(Protocol):
    """Anything that has an interval."""

    @property
    def ci_low(self) -> float | None:
        """Its lower end; None where there is none."""

    @property
    def ci_high(self) -> float | None:
        """Its upper end; None where there is none."""


def verdict_on(auc: Interval) -> str:
    """``leaks``, ``odd`` or ``quiet``: the interval of an AUC lies above 0.5, below it, or contains it; ``none`` without an interval."""
    low, high = auc.ci_low, auc.ci_high
    if low is None or high is None:
        return "none"
    return "leaks" if low > 0.5 else "odd" if high < 0.5 else "quiet"


def _plain(figure: Estimate) -> dict[str, Any]:
    """An Estimate as values for JSON: a skipped metric's NaN becomes null, since JSON has no NaN."""
    values = asdict(figure)
    return {**values, "value": None} if figure.status == "skipped" else values


def find_headline(
    scores: Mapping[str, ArrayLike],
    member: BoolArray,
    *,
    families: Mapping[str, str],
    whole: Mapping[str, Mapping[str, Estimate]],
    seed: int,
    primary: str = AUTO,
    units: Array | None = None,
    labels: Array | None = None,
    thresholds: Mapping[str, float | None] | None = None,
    declared: Declared | None = None,
) -> Headline | None:
    """Choose the primary attack and compute its metrics.

    Args:
        scores: attack -> (n,) scores of all records, higher = more likely a member; their ranks give the same metrics.
        member: (n,) bool, the truth.
        families: attack -> family.
        whole: attack -> its metrics on all records.
        seed: the seed of the split into halves (stream ``headline``) and of the reporting half's bootstraps.
        primary: the attack named beforehand, or ``auto`` for the strongest.
        units: (n,) the units that are divided between the halves, such as record ids: records with the same unit stay together, and a unit
            counts as a member if its first record is one. None: each record by itself.
        labels: (n,) classes, for the null control.
        thresholds: attack -> the score from which it calls a record a member, for attacks that have a threshold of their own.
        declared: what the user declared.

    Returns:
        The headline; None where no attack ran.
    """
    names = tuple(scores)
    if not names:
        return None

    def on_all(attack: str, chosen: str, reason: str = "") -> Headline:
        n_member = int(np.count_nonzero(member))
        return Headline(
            attack=attack, family=families[attack], chosen=chosen, reason=reason, candidates=names, n_member=n_member,
            n_nonmember=len(member) - n_member, figures=whole[attack],
        )  # fmt: skip

    if primary in names:
        return on_all(primary, "named")
    reason = "" if primary == AUTO else f"{primary}, which was named beforehand, could not run"
    if len(names) == 1:
        return on_all(names[0], "only", reason)
    tried = split_in_half(scores, member, units=units, labels=labels, rng=seeds.stream(seed, "headline", "halves"))
    if (few := _shortage(member, tried)) is not None:
        return on_all(names[0], "first", "; ".join(filter(None, [reason, few])))
    attack = strongest({name: np.asarray(values)[tried] for name, values in scores.items()}, member[tried])
    rest, known = ~tried, declared or Declared()
    figures = metrics.figures(
        np.asarray(scores[attack])[rest], member[rest], labels=None if labels is None else labels[rest],
        prior=known.prior, subjects=known.subjects,
        threshold=(thresholds or {}).get(attack), null_draws=NULL_DRAWS, rng=seeds.stream(seed, "headline", attack),
    )  # fmt: skip
    return Headline(
        attack=attack, family=families[attack], chosen="strongest", reason=reason, candidates=names,
        n_member=int(np.count_nonzero(member[rest])), n_nonmember=int(np.count_nonzero(~member[rest])),
        figures={name: figure for name, figure in figures.items() if "coin_flips" not in metrics.registry.get(name).needs},
    )  # fmt: skip


def split_in_half(
    scores: Mapping[str, ArrayLike],
    member: BoolArray,
    *,
    rng: np.random.Generator,
    units: Array | None = None,
    labels: Array | None = None,
) -> BoolArray:
    """(n,) bool: the half on which the attack is chosen, with half of the member and half of the non-member units (rounded down).

    The records are sorted before the draw (by unit, scores, label and membership), so that the same records in another order are split in
    the same way; records that are equal in all of these are interchangeable.
    """
    keys: list[Array] = [member, *([] if labels is None else [labels]), *(np.asarray(values) for values in scores.values())]
    order = np.lexsort(keys if units is None else [*keys, units])
    n = len(member)
    if units is None:
        heads, unit_of = order, np.argsort(order)
    else:
        _, first, unit_of_ordered = np.unique(units[order], return_index=True, return_inverse=True)
        heads, unit_of = order[first], np.empty(n, dtype=np.intp)
        unit_of[order] = unit_of_ordered
    tried = np.zeros(len(heads), dtype=np.bool_)
    for side in (member[heads], ~member[heads]):
        place = rng.permutation(np.flatnonzero(side))
        tried[place[: len(place) // 2]] = True
    half: BoolArray = tried[unit_of]
    return half


def strongest(scores: Mapping[str, ArrayLike], member: BoolArray) -> str:
    """The attack with the highest AUC on these records; the first of several equal ones."""
    return max(scores, key=lambda name: auc_value(rank(scores[name], member)))


def _shortage(member: BoolArray, tried: BoolArray) -> str | None:
    """Why there are too few records to be halved, as a phrase; None if there are enough."""
    fewest = min(int(np.count_nonzero(side & half)) for side in (member, ~member) for half in (tried, ~tried))
    if fewest >= LEAST:
        return None
    return f"half of the records would leave {fewest} on a side; choosing the strongest needs at least {LEAST}"


def summarized(headlines: Sequence[Headline]) -> str:
    """The primary attacks of several audits, the most frequent first: ``lira_online (4 of 5), trained_mlp (1 of 5)``."""
    names = [found.attack for found in headlines]
    counts = sorted(dict.fromkeys(names), key=lambda name: -names.count(name))
    if len(counts) == 1:
        return counts[0]
    return ", ".join(f"{name} ({names.count(name)} of {len(names)})" for name in counts)
