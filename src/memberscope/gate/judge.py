"""Judges rules by the confidence intervals of an audit report.

Every metric that a rule matches is a row. Two questions are tested for all rows together: is the metric above its limit, and is it at or
below it? Each row's p-value for either question is the one at which its two-sided interval just clears the limit, so that the truth is on
the wrong side with half that probability. Holm (1979) adjusts the p-values over all rows, separately for each question. A row trips, or
passes, where the adjusted p-value is at most `ALPHA`; otherwise it is undecided. Over many reports, at most a share of `ALPHA` / 2 has a
row that trips falsely, and at most `ALPHA` / 2 has a row that passes falsely.

The gate trips if a row does, and passes if all do. A trip needs the adjustment, since one of many metrics suffices. A pass of the whole
gate does not: it is an intersection-union test (Berger 1982), wrong only if the very row that is above its limit passes, so that
unadjusted ends would do. It is adjusted all the same, because the table shows each row's verdict, and those must hold together.
This costs little: of k rows the clearest needs confidence 1 - `ALPHA` / k, the least clear no more than 1 - `ALPHA`.

The intervals are those of `memberscope.metrics`, which take the scores as given. Scores of cross-fitted attacks change with membership,
too, and where there is little signal their true spread is up to 1.5 times wider (`memberscope.attacks.crossfit`): without any signal, a
limit of 0.5 on the AUC of `trained_lr` tripped in 7 of 200 simulated audits of 200 records and in 14 of 200 audits of 1,000 records, where
5 were nominal; a limit of 0.55 tripped in none. A limit should therefore lie above chance.

A bootstrapped metric has no p-value below two draws' worth (1e-4; 4e-4 for the partial AUC), so that none can be decided where more than
500 (125) of them are judged together; their rows say so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from memberscope import metrics
from memberscope.audit.report import AuditReport, SliceResult
from memberscope.errors import UserError, nearest
from memberscope.gate.intervals import JudgedMetric, figure
from memberscope.gate.rules import ANY, Rule
from memberscope.metrics import registry

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.05
UNDECIDED = ("report", "pass", "fail")
"""How an undecided gate may be treated."""
_EXIT_CODES = {"pass": 0, "trip": 3, "undecided": 4}
_MOST_RECORDS = 1e9
_CAVEAT = "if the metrics keep their values and members and non-members grow in proportion"


@dataclass(frozen=True, kw_only=True)
class JudgedRow:
    """One metric that a rule matches.

    Attributes:
        rule: the rule.
        attack, slice: those of the result that was judged.
        value: the metric's value; None where it could not be judged.
        ci_low, ci_high: its own, unadjusted 95% interval; the verdict depends on the adjusted p-value. None where there is no such end.
        ceiling: the largest value that a bound of epsilon can have at that confidence with this number of records; None for other metrics.
        can_trip: whether any outcome could trip the rule; False where the ceiling of a bound is at or below the limit.
        p_above, p_within: Holm-adjusted p-values for being above the limit, and at or below it.
        verdict: ``trip``, ``pass``, ``undecided``, or ``ignored`` for a skipped attack where ``any`` matches others on the same slice.
        records: about how many records, in all, would decide it; None where it is decided or no number would decide it.
        reason: why it could not be judged, or the remark that comes with its metric.
    """

    rule: Rule
    attack: str
    slice: str
    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    ceiling: float | None = None
    can_trip: bool = True
    p_above: float = 1.0
    p_within: float = 1.0
    verdict: str = "undecided"
    records: int | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """``trained_mlp.entire.auc``."""
        return f"{self.attack}.{self.slice}.{self.rule.metric}"


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """The verdicts of the rules on a report.

    Attributes:
        rows: one row per rule and matching metric.
        judged: ``pass``, ``trip`` or ``undecided``, by the intervals.
        undecided: how an undecided gate is treated: one of `UNDECIDED`.
        records: about how many records would decide an undecided gate; None where it is decided or no number would decide it.
    """

    rows: tuple[JudgedRow, ...]
    judged: str
    undecided: str = "report"
    records: int | None = None

    @property
    def outcome(self) -> str:
        """``pass``, ``trip`` or ``undecided``, after `undecided` has been applied."""
        if self.judged != "undecided":
            return self.judged
        return {"pass": "pass", "fail": "trip"}.get(self.undecided, "undecided")

    @property
    def exit_code(self) -> int:
        """0, 3 or 4."""
        return _EXIT_CODES[self.outcome]

    @property
    def reason(self) -> str:
        """The outcome in a sentence."""
        counted = [row for row in self.rows if row.verdict != "ignored"]
        if self.judged == "trip":
            tripped = [row for row in counted if row.verdict == "trip"]
            return f"{len(tripped)} of {len(counted)} metrics above the limit: {'; '.join(map(_described, tripped[:3]))}{_more(tripped)}"
        if self.judged == "pass":
            closest = max(counted, key=lambda row: row.p_within)
            return f"all {len(counted)} metrics at or below their limits; the least clear: {_described(closest)}"
        open_rows = [row for row in counted if row.verdict == "undecided"]
        decided = (
            f"about {self.records:,} records would decide it {_CAVEAT}"
            if self.records
            else "more records alone may not decide it"
        )
        taken = "" if self.undecided == "report" else f"; treated as {self.undecided}, as configured"
        return (
            f"{len(open_rows)} of {len(counted)} metrics cannot be told from their limits: {'; '.join(map(_described, open_rows[:3]))}"
            f"{_more(open_rows)}; {decided}{taken}"
        )

    def to_frame(self) -> pd.DataFrame:
        """One line per row, for a table artifact."""
        import pandas as pd

        columns = ("ci_low", "ci_high", "ceiling", "can_trip", "p_above", "p_within", "verdict", "records", "reason")
        lines = [
            {
                "rule": str(row.rule),
                "attack": row.attack,
                "slice": row.slice,
                "metric": row.rule.metric,
                "limit": row.rule.limit,
            }
            | {"value": row.value}
            | {name: getattr(row, name) for name in columns}
            for row in self.rows
        ]
        numbers = ("value", "ci_low", "ci_high", "ceiling", "records")
        return pd.DataFrame(lines).astype(dict.fromkeys(numbers, float))


def judge(report: AuditReport, rules: Sequence[Rule], *, undecided: str = "report") -> GateResult:
    """Judge a report by the rules.

    Args:
        report: the report; its results hold the scores from which intervals are computed at the adjusted confidence.
        rules: the rules, as parsed by `memberscope.gate.parse_rules`.
        undecided: ``report`` an undecided gate as such, or treat it as ``pass`` or as ``fail``.

    A named attack that was skipped leaves its rule undecided. ``any`` ignores skipped attacks where another ran on the same slice, and
    is undecided on a slice where none did: a class with too few records does not pass by being small.

    Raises:
        UserError: a rule that matches nothing in the report, or that needs what was not declared; no rule; an unknown `undecided`.
    """
    if undecided not in UNDECIDED:
        raise UserError(f"undecided={undecided}: unknown; allowed: {', '.join(UNDECIDED)}{nearest(undecided, UNDECIDED)}")
    if not rules:
        raise UserError("fail_if: no rule; expected at least one")
    for rule in rules:
        lacking = [name for name in registry.get(rule.metric).declared if name not in report.declared.given]
        if lacking:
            raise UserError(
                f"fail_if: {rule}: {rule.metric} needs {lacking[0]}, which was not declared; allowed: a report with one"
            )
    rows: list[JudgedRow] = []
    to_judge: list[tuple[int, SliceResult, JudgedMetric]] = []
    for rule in dict.fromkeys(rules):
        for result, reason, ignored in _matching(report, rule):
            verdict = "ignored" if ignored else "undecided"
            if not reason:
                to_judge.append((len(rows), result, figure(result, rule.metric, seed=report.seed)))
            rows.append(JudgedRow(rule=rule, attack=result.attack, slice=result.slice, reason=reason, verdict=verdict))
    above = metrics.holm([known.p_above(rows[k].rule.limit) for k, _, known in to_judge])
    within = metrics.holm([known.p_within(rows[k].rule.limit) for k, _, known in to_judge])
    for (k, result, known), p_above, p_within in zip(to_judge, above, within, strict=True):
        rows[k] = _judged(rows[k], result, known, float(p_above), float(p_within), miss=ALPHA / len(to_judge))
    counted = [row for row in rows if row.verdict != "ignored"]
    verdicts = {row.verdict for row in counted}
    judged = "trip" if "trip" in verdicts else "pass" if verdicts == {"pass"} else "undecided"
    needed = _needed(counted) if judged == "undecided" else None
    return GateResult(rows=tuple(rows), judged=judged, undecided=undecided, records=needed)


def _matching(report: AuditReport, rule: Rule) -> list[tuple[SliceResult, str, bool]]:
    """The results that a rule matches; for each, why it cannot be judged, or ``""``, and whether it is ignored for that reason."""
    results = [result for result in report.results if rule.attack in (ANY, result.attack) and _in_slice(rule.slice, result)]
    if not results:
        slices = dict.fromkeys(result.slice for result in report.results if result.slice != "worst_slice")
        attack = (
            f"attacks {', '.join(report.attacks)}"
            if rule.attack not in (ANY, *report.attacks)
            else f"slices {', '.join(slices)}"
        )
        raise UserError(f"fail_if: {rule} matches nothing in the report; it has the {attack}")
    reasons = [_unjudged(result, rule.metric) for result in results]
    ran = {result.slice for result, reason in zip(results, reasons, strict=True) if not reason}
    ignored = [
        bool(reason) and rule.attack == ANY and result.slice in ran for result, reason in zip(results, reasons, strict=True)
    ]
    return list(zip(results, reasons, ignored, strict=True))


def _in_slice(name: str, result: SliceResult) -> bool:
    return result.slice != "worst_slice" and (
        result.slice == name or (name == ANY and (result.ranked or result.slice == "entire"))
    )


def _unjudged(result: SliceResult, metric: str) -> str:
    if result.status != "ok":
        return result.reason
    known = result.figures.get(metric)
    if known is None:
        return f"the report has no {metric}"
    return known.reason if known.status == "skipped" else ""


def _judged(
    row: JudgedRow, result: SliceResult, known: JudgedMetric, p_above: float, p_within: float, *, miss: float
) -> JudgedRow:
    """The row with the metric as in the report, the adjusted p-values and the verdict."""
    shown = result.figures[row.rule.metric]
    verdict = "trip" if p_above <= ALPHA else "pass" if p_within <= ALPHA else "undecided"
    crowded = known.least_miss > miss and verdict == "undecided"
    reason = "too many metrics to adjust its bootstrap for; match fewer" if crowded else shown.reason
    ceiling = None if known.ceiling is None else known.ceiling(0.95)
    can_trip = known.ceiling is None or known.ceiling(1 - ALPHA / 2) > row.rule.limit
    if not can_trip:
        reason = f"no outcome could trip it, since with so few records the bound cannot exceed the limit; {reason}"
    return replace(
        row,
        value=shown.value,
        ci_low=shown.ci_low,
        ci_high=shown.ci_high,
        ceiling=ceiling,
        p_above=p_above,
        p_within=p_within,
        verdict=verdict,
        records=_records(row.rule.limit, result, known, miss) if verdict == "undecided" and not crowded else None,
        can_trip=can_trip,
        reason=reason,
    )


def _records(limit: float, result: SliceResult, known: JudgedMetric, miss: float) -> int | None:
    """About how many records decide a row. The distance between the value and the end of its interval that faces the limit shrinks as
    1 / sqrt(records), on the metric's scale.

    That scale is logarithmic for a ratio of rates, and that of log odds for a PPV, whose odds are such a ratio. (On their own scale, the
    number was a third too low above a limit and more than twice too high below it.)

    The confidence is the one that Holm's adjustment demands of the clearest row, so the number is too high rather than too low. Where the
    metric has low power, it is at least the number that yields ten false positives, since with fewer the interval shrinks in steps. None
    where the metric is at its limit, is itself a bound, or would need more than a billion records.
    """
    shown = known.at(1 - max(miss, known.least_miss))
    end = shown.ci_low if shown.value > limit else shown.ci_high
    if known.one_sided or shown.ci_high is None or end is None or shown.value == limit:
        return None
    n = result.n_member + result.n_nonmember
    value, at, end = _on_scale(known.scale, shown.value, limit, end)
    records = n * (abs(value - end) / abs(value - at)) ** 2
    if known.rate is not None:
        records = max(records, n * metrics.LOW_BUDGET / metrics.fp_budget(result.n_nonmember, known.rate))
    if records > _MOST_RECORDS:
        return None
    return max(n + 1, int(float(f"{records:.1e}")))  # two digits: it is an estimate


def _on_scale(scale: str, *numbers: float) -> tuple[float, ...]:
    """The numbers on a metric's scale; as they are where one of them is infinite on it."""
    if scale == "log" and min(numbers) > 0:
        return tuple(math.log(number) for number in numbers)
    if scale == "log_odds" and min(numbers) > 0 and max(numbers) < 1:
        return tuple(math.log(number / (1 - number)) for number in numbers)
    return numbers


def _needed(rows: Sequence[JudgedRow]) -> int | None:
    """For the whole gate: the fewest records that trip a row, if a row lies above its limit; else the most that a row needs to pass."""
    left = [row for row in rows if row.verdict == "undecided"]
    above = [row.records for row in left if row.value is not None and row.value > row.rule.limit and row.records is not None]
    if above:
        return min(above)
    records = [row.records for row in left]
    return None if None in records else max((number for number in records if number is not None), default=None)


def _described(row: JudgedRow) -> str:
    """Describe a row."""
    if row.value is None:
        return f"{row.name}: {row.reason}"
    low, high = (math.nan if end is None else end for end in (row.ci_low, row.ci_high))
    ends = f" ({low:.3g} to {high:.3g})"
    if row.ci_high is None:
        most = "" if row.ceiling is None else f" of at most {row.ceiling:.3g}"
        ends = f" (a lower bound, which never passes{'' if row.can_trip else ' and here cannot trip'}){most}"
    return f"{row.name} is {row.value:.3g}{ends}, limit {row.rule.limit:g}"


def _more(rows: Sequence[JudgedRow]) -> str:
    return f"; and {len(rows) - 3} more" if len(rows) > 3 else ""
