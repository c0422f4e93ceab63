"""Reads the risk statement that a run has stored."""

from __future__ import annotations

import json
from typing import Any

from memberscope.audit import artifacts
from memberscope.audit.declared import Declared
from memberscope.audit.statement import VERSION, CombinedRate, MeasuredAttack, MeasuredRate, RiskStatement
from memberscope.errors import UserError
from memberscope.metrics import Estimate, skipped

MOST_RECORDS = 2**53


def read(text: str) -> RiskStatement:
    """The statement that `RiskStatement.to_json` wrote; ValueError for anything else, which names the field."""
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError(f"{artifacts.RISK_STATEMENT}: nested too deep") from None
    if not isinstance(values, dict) or values.get("version") != VERSION:
        raise ValueError(f"{artifacts.RISK_STATEMENT}: not a risk statement of version {VERSION}")
    try:
        given = values["declared"]
        declared = Declared(
            prior=_number(given["prior"], "declared.prior"), subjects=_count(given["subjects"], "declared.subjects"),
            sensitivity=_text(given["sensitivity"], "declared.sensitivity"),
        )  # fmt: skip
        measured = tuple(_attack(one, f"measured[{k}]") for k, one in enumerate(_list(values["measured"], "measured")))
        combined = tuple(_combined(one, f"combined[{k}]") for k, one in enumerate(_list(values["combined"], "combined")))
        counted = values["counted"]
    except (KeyError, TypeError, AttributeError, UserError) as error:
        raise ValueError(f"{artifacts.RISK_STATEMENT}: {type(error).__name__}: {error}") from None
    if counted not in ("records", "groups"):
        raise ValueError(f"{artifacts.RISK_STATEMENT}: counted is {str(counted)[:50]!r}; allowed: records, groups")
    if combined and (not measured or len(combined) != len(measured[0].rates)):
        raise ValueError(f"{artifacts.RISK_STATEMENT}: combined is not of the rates of the primary attack")
    return RiskStatement(counted=counted, measured=measured, declared=declared, combined=combined)


def _attack(one: Any, where: str) -> MeasuredAttack:
    n_member, n_nonmember = (_count(one[name], f"{where}.{name}") for name in ("n_member", "n_nonmember"))
    if not n_member or not n_nonmember:
        raise TypeError(f"{where}: no numbers of records")
    rates = []
    for k, rate in enumerate(_list(one["rates"], f"{where}.rates")):
        at = f"{where}.rates[{k}]"
        members, nonmembers = (_count(rate[f"{side}_accused"], f"{at}.{side}_accused") for side in ("members", "nonmembers"))
        if (members or 0) > n_member or (nonmembers or 0) > n_nonmember or (members is None) != (nonmembers is None):
            raise TypeError(f"{at}: more records are accused than there are, or those of one side alone")
        rates.append(
            MeasuredRate(
                fpr=_rate(rate["fpr"], at),
                tpr=_estimate(rate["tpr"], f"{at}.tpr", most=1.0),
                lift=_estimate(rate["lift"], f"{at}.lift"),
                members_accused=members,
                nonmembers_accused=nonmembers,
            )
        )
    if not isinstance(one["primary"], bool):
        raise TypeError(f"{where}.primary is not true or false")
    return MeasuredAttack(
        attack=_text(one["attack"], f"{where}.attack"), primary=one["primary"], n_member=n_member, n_nonmember=n_nonmember,
        rates=tuple(rates),
    )  # fmt: skip


def _combined(one: Any, where: str) -> CombinedRate:
    def known(name: str, most: float | None = None) -> Estimate | None:
        return None if one[name] is None else _estimate(one[name], f"{where}.{name}", most=most)

    return CombinedRate(
        fpr=_rate(one["fpr"], where),
        precision=known("precision", 1.0),
        found=known("found"),
        wrongly_accused=known("wrongly_accused"),
    )


def _estimate(one: Any, where: str, *, most: float | None = None) -> Estimate:
    reason = _text(one["reason"], f"{where}.reason")
    if one["status"] == "skipped":
        return skipped(reason or "not known")
    value, low, high = (_number(one[name], f"{where}.{name}") for name in ("value", "ci_low", "ci_high"))
    ends = [end for end in (value, low, high) if end is not None]
    if value is None or any(end < 0 or (most is not None and end > most) for end in ends):
        raise TypeError(f"{where} is out of range")
    return Estimate(value=value, ci_low=low, ci_high=high, status=_text(one["status"], f"{where}.status"), reason=reason)


def _rate(value: Any, where: str) -> float:
    found = _number(value, f"{where}.fpr")
    if found is None or not 0 < found <= 1:
        raise TypeError(f"{where}.fpr is not a rate")
    return found


def _number(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise TypeError(f"{where} is not a number")
    return float(value)


def _count(value: Any, where: str) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < MOST_RECORDS:
        raise TypeError(f"{where} is not a number of records")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{where} is not text")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > 10_000:
        raise TypeError(f"{where} is not a list")
    return value
