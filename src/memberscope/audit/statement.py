"""The risk statement of an audit, for those who decide: what was measured, what the user declared, and what follows from both.

It rates nothing: whether a figure is acceptable depends on what membership reveals and to whom, which no audit measures. What was not
declared is left out, not guessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from memberscope.audit.declared import Declared
from memberscope.audit.headline import Headline
from memberscope.audit.results import SliceResult
from memberscope.checks import Array, BoolArray
from memberscope.metrics import Estimate, accusations, registry, skipped
from memberscope.metrics.curve import rank
from memberscope.metrics.spec import rate_name

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class MeasuredRate:
    """What one attack achieves at one false positive rate on the audited records.

    Attributes:
        fpr: the largest share of non-members that may be accused.
        tpr: the share of members that is accused, see `memberscope.metrics.tpr_at_fpr`.
        lift: how many times more likely a member is to be accused than a non-member, see `memberscope.metrics.lift_at_fpr`.
        members_accused, nonmembers_accused: the numbers of records, or groups, of this sample; None where `fpr` allows fewer than one
            non-member.
    """

    fpr: float
    tpr: Estimate
    lift: Estimate
    members_accused: int | None
    nonmembers_accused: int | None


@dataclass(frozen=True, kw_only=True)
class MeasuredAttack:
    """What one attack achieves on the audited records.

    Attributes:
        attack: its name.
        primary: whether it is the audit's primary attack, which was chosen without the records behind its figures.
        n_member, n_nonmember: the records, or groups, behind the figures.
        rates: one entry per false positive rate, the highest rate first.
    """

    attack: str
    primary: bool
    n_member: int
    n_nonmember: int
    rates: tuple[MeasuredRate, ...]


@dataclass(frozen=True, kw_only=True)
class CombinedRate:
    """What follows for an attacker who uses the primary attack, at the threshold that the audit sets for a false positive rate.

    Attributes:
        fpr: that rate.
        precision: the share of members among the accused, at the declared prior; None where no prior was declared.
        found: the expected number of people found among the declared number in the training set; None where none was declared.
        wrongly_accused: the expected number of wrong accusations among the other candidates; None unless both were declared.
    """

    fpr: float
    precision: Estimate | None
    found: Estimate | None
    wrongly_accused: Estimate | None


@dataclass(frozen=True, kw_only=True)
class RiskStatement:
    """The risk statement of one audit.

    Attributes:
        counted: ``records``, or ``groups`` where records have groups.
        measured: the attacks that ran, the primary one first.
        declared: what the user declared.
        combined: one entry per rate; empty where neither prior nor subjects were declared, or where no attack ran.
    """

    counted: str
    measured: tuple[MeasuredAttack, ...]
    declared: Declared
    combined: tuple[CombinedRate, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, in the three parts; a skipped metric has a null value and its reason."""
        return {
            "version": VERSION,
            "counted": self.counted,
            "measured": [
                {
                    "attack": one.attack, "primary": one.primary, "n_member": one.n_member, "n_nonmember": one.n_nonmember,
                    "rates": [_plain(rate) for rate in one.rates],
                }
                for one in self.measured
            ],
            "declared": asdict(self.declared),
            "combined": [_plain(rate) for rate in self.combined],
        }  # fmt: skip

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def with_declared(self, declared: Declared) -> RiskStatement:
        """The statement of the same audit under other declarations; UserError if fewer subjects are declared than members were audited."""
        first = self.measured[0] if self.measured else None
        if first is not None:
            declared.check_members(max(one.n_member for one in self.measured), grouped=self.counted == "groups")
        return RiskStatement(
            counted=self.counted,
            measured=self.measured,
            declared=declared,
            combined=() if first is None else _combine(first, declared),
        )


def make_statement(
    headline: Headline | None, results: Sequence[SliceResult], scores: Mapping[str, Array], member: BoolArray,
    *, reported: BoolArray, grouped: bool, declared: Declared,
) -> RiskStatement:  # fmt: skip
    """The risk statement of an audit.

    Args:
        headline: the primary attack, whose figures are those of the `reported` records; None if no attack ran.
        results: the results of the entire data set that ran.
        scores: attack -> (n,) scores of all records, or groups.
        member: (n,) bool, the truth.
        reported: (n,) bool, the records behind the headline's figures.
        grouped: whether groups are counted.
        declared: what the user declared.
    """
    measured = []
    if headline is not None:
        of_primary = scores[headline.attack][reported]
        measured.append(_measure(headline.attack, of_primary, member[reported], headline.figures, primary=True))
    for result in results:
        if headline is None or result.attack == headline.attack or result.scores is None or result.member is None:
            continue
        measured.append(_measure(result.attack, result.scores, result.member, result.figures, primary=False))
    return RiskStatement(
        counted="groups" if grouped else "records", measured=tuple(measured), declared=declared,
        combined=_combine(measured[0], declared) if measured else (),
    )  # fmt: skip


def _measure(
    attack: str, scores: Array, member: BoolArray, figures: Mapping[str, Estimate], *, primary: bool
) -> MeasuredAttack:
    ranking = rank(scores, member)
    rates = []
    for fpr in registry.RATES:
        made = accusations.accuse(ranking, fpr)
        few = skipped(accusations.too_few(ranking.n_nonmember, fpr))
        rates.append(
            MeasuredRate(
                fpr=fpr,
                tpr=figures.get(f"tpr_at_fpr_{rate_name(fpr)}", skipped("not computed")),
                lift=few if made is None else accusations.lift(made, fpr=fpr),
                members_accused=None if made is None else made.true_pos,
                nonmembers_accused=None if made is None else made.false_pos,
            )
        )
    return MeasuredAttack(
        attack=attack, primary=primary, n_member=ranking.n_member, n_nonmember=ranking.n_nonmember, rates=tuple(rates)
    )


def _combine(first: MeasuredAttack, declared: Declared) -> tuple[CombinedRate, ...]:
    """What follows from the primary attack's counts and the declarations; nothing where neither prior nor subjects were declared."""
    return tuple(_combined_rate(first, rate, declared) for rate in first.rates) if declared.given else ()


def _combined_rate(first: MeasuredAttack, rate: MeasuredRate, declared: Declared) -> CombinedRate:
    prior, subjects, fpr = declared.prior, declared.subjects, rate.fpr
    if rate.members_accused is None or rate.nonmembers_accused is None:
        few = skipped(accusations.too_few(first.n_nonmember, fpr))
        return CombinedRate(
            fpr=fpr, precision=None if prior is None else few, found=None if subjects is None else few,
            wrongly_accused=None if prior is None or subjects is None else few,
        )  # fmt: skip
    made = accusations.Accusations(
        true_pos=rate.members_accused, false_pos=rate.nonmembers_accused, n_member=first.n_member, n_nonmember=first.n_nonmember
    )
    wrong = None
    if prior is not None and subjects is not None:
        wrong = accusations.wrongly_accused(made, fpr=fpr, subjects=subjects, prior=prior)
    return CombinedRate(
        fpr=fpr,
        precision=None if prior is None else accusations.precision(made, fpr=fpr, prior=prior),
        found=None if subjects is None else accusations.found(made, fpr=fpr, subjects=subjects),
        wrongly_accused=wrong,
    )


def _plain(rate: MeasuredRate | CombinedRate) -> dict[str, Any]:
    values = {name: getattr(rate, name) for name in rate.__dataclass_fields__}
    return {name: _estimate(value) if isinstance(value, Estimate) else value for name, value in values.items()}


def _estimate(one: Estimate) -> dict[str, Any]:
    return {**asdict(one), "value": None if one.status == "skipped" else one.value}
