"""Whether each mitigation keeps the epsilon that it promises, from ordinary records and canaries at all seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memberscope.attacks import registry
from memberscope.audit.bounds_table import (
    BoundRow,
    Judgement,
    Look,
    Records,
    bounds_frame,
    bounds_table,
    judge_promise,
    not_judged,
    primary_method,
)
from memberscope.audit.promise import look_of
from memberscope.audit.promise import words_of as sentence_of
from memberscope.metrics import BoundMethod

if TYPE_CHECKING:
    import pandas as pd

    from memberscope.audit.report import AuditReport
    from memberscope.studies.mitigate.audited import MitigationAudit

CONFIDENCE = 0.95
FALLBACK = "threshold_loss"  # where the primary attack learns from the coins


@dataclass(frozen=True, kw_only=True)
class Promise:
    """The guarantee with which the bounds of epsilon of all mitigations are compared.

    Attributes:
        delta: the delta of every bound: that of DP-SGD's guarantee if DP-SGD is among the mitigations.
        epsilon: the epsilon that DP-SGD promises; None if no mitigation promises a finite epsilon.
    """

    delta: float = 1e-5
    epsilon: float | None = None

    def method(self, n: int) -> BoundMethod:
        """The primary method on `n` coins, which is the same for all mitigations, so that their bounds can be compared."""
        return primary_method(n, delta=self.delta, promise=self.epsilon, confidence=CONFIDENCE)


def promised_by(audits: Sequence[MitigationAudit]) -> float | None:
    """The largest epsilon that a mitigation's trainings at all seeds promise; None if they promise none, or no finite one."""
    epsilons = [audit.mitigated.epsilon for audit in audits]
    return max(epsilons) if epsilons and all(map(math.isfinite, epsilons)) else None


def attack_of(audit: MitigationAudit) -> str:
    """The attack whose scores bound epsilon: the primary one, or `FALLBACK` if that is fitted on the membership of what it scores."""
    primary = audit.mitigation.primary
    return FALLBACK if registry.get(primary).cross_fitted else primary


def looks_of(audit: MitigationAudit) -> list[Look]:
    """The scores of ordinary records and of canaries by which a mitigation is judged at a seed; without those of skipped attacks."""
    found, attack = list[Look](), attack_of(audit)
    reports: dict[Records, AuditReport | None] = {"ordinary": audit.report, "canaries": audit.canaries}
    for records, report in reports.items():
        result = None if report is None else next((one for one in report.whole() if one.attack == attack), None)
        look = None if result is None else look_of(result, records=records, one_record=audit.one_record[records])
        if look is not None:
            found.append(look)
    return found


def judge(audits: Sequence[MitigationAudit], promise: Promise) -> Judgement:
    """Judge a mitigation by its looks at all of the given seeds together."""
    looks, promised = [look for audit in audits for look in looks_of(audit)], promised_by(audits)
    if not looks:
        reason = (
            "no attack whose scores do not depend on membership was run on records whose membership was decided by coin flips"
        )
        return not_judged(delta=promise.delta, promise=promised, reason=reason, confidence=CONFIDENCE)
    return judge_promise(
        looks, coin_flips=True, delta=promise.delta, promise=promised, confidence=CONFIDENCE,
        methods=[promise.method(len(look.scores)) for look in looks],
    )  # fmt: skip


def rows_of(audit: MitigationAudit, promise: Promise) -> tuple[BoundRow, ...]:
    """The table of bounds of a mitigation at a seed."""
    promised = promised_by([audit])
    rows: list[BoundRow] = []
    for look in looks_of(audit):
        rows += bounds_table(
            look.scores, look.member, attack=look.attack, records=look.records, one_record=look.one_record, coin_flips=True,
            delta=promise.delta, promise=promised, confidence=CONFIDENCE, primary=promise.method(len(look.scores)),
        )  # fmt: skip
    return tuple(rows)


def table_of_bounds(audits: Mapping[str, Sequence[MitigationAudit]], promise: Promise) -> pd.DataFrame:
    """The rows of all mitigations at all seeds, with the mitigation (rung) and the seed in front."""
    import pandas as pd

    parts = []
    for name, of_seeds in audits.items():
        for audit in of_seeds:
            frame = bounds_frame(rows_of(audit, promise))
            frame.insert(0, "rung", name)
            frame.insert(1, "seed", audit.seed)
            if len(frame):
                parts.append(frame)
    return pd.concat(parts, ignore_index=True) if parts else bounds_frame(())


def columns_of(judged: Judgement) -> dict[str, Any]:
    """The columns that a judgement adds to a table of mitigations."""
    return {
        "bound": judged.bound, "bound_ceiling": judged.ceiling, "bound_method": judged.method if judged.looks else None,
        "bound_records": judged.records if judged.looks else None, "looks": judged.looks, "promise": judged.promise,
        "promise_ratio": judged.ratio, "promise_verdict": judged.verdict,
    }  # fmt: skip


def words_of(name: str, judged: Judgement) -> str:
    """A sentence on a mitigation's promise; empty if it makes none."""
    return "" if judged.promise is None else f"{name}: {sentence_of(judged)[0].lower()}{sentence_of(judged)[1:]}"


def describe(judged: Judgement) -> str:
    """How the bounds of all mitigations came about, for the notes of the study."""
    if not judged.looks:
        return ""
    among = (
        f", each of {judged.looks} looks (ordinary records, canaries, seeds) with an equal part of the error"
        if judged.looks > 1
        else ""
    )
    given = "" if judged.assumes == "nothing" else f", on the assumption of {judged.assumes}"
    return (
        f"Bounds of epsilon: {judged.confidence:.0%} lower bounds at delta {judged.delta:.2g} by {judged.method}{given}{among}. The method "
        "was fixed before any outcome was known."
    )
