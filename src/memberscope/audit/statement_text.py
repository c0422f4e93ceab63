"""A risk statement in words and tables, for people; no decision is read from them."""

from __future__ import annotations

from collections.abc import Callable

from memberscope.audit.declared import Declared
from memberscope.audit.statement import RiskStatement
from memberscope.metrics import Estimate
from memberscope.metrics.rounding import shown

HEADING = "## Risk statement"
NOT_DECLARED = (
    "Nothing was declared, so nothing follows for people outside of this sample. Declare `prior` (the share of members among the "
    "candidates that an attacker considers), `subjects` (the number of people in the training set) and `sensitivity` (what membership "
    "reveals)."
)


def statement_text(statement: RiskStatement) -> str:
    """The statement as markdown: its three parts, each with a heading; empty where no attack ran."""
    if not statement.measured:
        return ""
    parts = [HEADING, "### Measured", measured_text(statement), "### Declared", declared_text(statement)]
    if statement.combined:
        parts += ["### Combined", *combined_lines(statement)]
    return "\n\n".join(parts) + "\n"


def measured_text(statement: RiskStatement) -> str:
    """What was counted, and a table with one row per attack and rate."""
    first = statement.measured[0]
    people = (
        "Each record counts as a person." if statement.counted == "records" else "Groups of records were counted, as persons."
    )
    head = (
        f"On this sample. {people} The metrics of the primary attack, `{first.attack}`, are from {first.n_member:,} members and "
        f"{first.n_nonmember:,} non-members. A TPR is the share of members that are accused where at most the given share of non-members "
        "(FPR) is; lift is how many times more likely a member is to be accused than a non-member."
    )
    lines = [
        "| attack | FPR | TPR (95%) | lift (95%) | members accused | non-members accused |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in statement.measured:
        name = f"`{one.attack}`" + (" (primary)" if one.primary else "")
        for rate in one.rates:
            counts = [
                f"{of_side:,} of {side:,}" if of_side is not None else ""
                for of_side, side in ((rate.members_accused, one.n_member), (rate.nonmembers_accused, one.n_nonmember))
            ]
            cells = [name, f"{rate.fpr:g}", with_ends(rate.tpr), with_ends(rate.lift), *counts]
            lines.append("| " + " | ".join(cells) + " |")
    return head + "\n\n" + "\n".join(lines)


def declared_text(statement: RiskStatement) -> str:
    """What the user declared, one item per line."""
    return "\n".join(f"- {line}" for line in declared_sentences(statement.declared, _escaped)) or NOT_DECLARED


def declared_sentences(declared: Declared, escaped: Callable[[str], str] = str) -> list[str]:
    """What the user declared, in sentences; `escaped` makes the user's own words safe for where they are shown."""
    sentences = []
    if declared.prior is not None:
        sentences.append(f"Among the candidates that an attacker considers, a share of {declared.prior:g} are members.")
    if declared.subjects is not None:
        sentences.append(f"The training set holds {declared.subjects:,} people.")
    if declared.sensitivity:
        sentences.append(f"Membership reveals: {escaped(' '.join(declared.sensitivity.split()).rstrip('.'))}.")
    return sentences


def combined_lines(statement: RiskStatement) -> list[str]:
    """One sentence per rate on what follows for an attacker who uses the primary attack."""
    first, declared = statement.measured[0], statement.declared
    lines = [
        f"If an attacker uses `{first.attack}` and accuses everyone at or above the threshold that this audit sets on its non-members for "
        "a false positive rate (95% intervals in brackets):"
    ]
    for rate in statement.combined:
        parts = []
        if rate.precision is not None:
            parts.append(f"{with_ends(rate.precision)} of the accusations are right")
        if rate.found is not None:
            parts.append(f"{with_ends(rate.found)} of the {declared.subjects:,} people are expected to be found")
        if rate.wrongly_accused is not None:
            parts.append(f"{with_ends(rate.wrongly_accused)} others are expected to be wrongly accused")
        known = [one for one in (rate.precision, rate.found, rate.wrongly_accused) if one is not None]
        if all(one.status == "skipped" for one in known):
            lines.append(f"- FPR {rate.fpr:g}: nothing can be stated: {known[0].reason}.")
            continue
        weak = next((one.reason for one in known if one.status == "low_power"), "")
        lines.append(f"- FPR {rate.fpr:g}: {', '.join(parts)}.{f' Weak evidence: {weak}.' if weak else ''}")
    return [lines[0], "\n".join(lines[1:])]


def with_ends(one: Estimate) -> str:
    """``0.12 (0.10 to 0.15)``, rounded to what the interval supports; ``at least 20.1`` for a lower bound.

    A skipped metric is ``not known``.
    """
    if one.status == "skipped":
        return "not known"
    value, low, high = shown(one)
    if low is not None and high is None:
        return f"at least {low}"
    return value if low is None or high is None else f"{value} ({low} to {high})"


def _escaped(text: str) -> str:
    """Text that people gave, without what Markdown and HTML would read as markup."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>#|&" else letter for letter in text)
