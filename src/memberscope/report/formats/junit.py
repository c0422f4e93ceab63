"""The gate as JUnit XML, which build servers read: a suite for each run, a test case for each metric that a rule matches.

A rule that is met has passed, one that is tripped is a failure, and one that is undecided is an error with the number of records that would
decide it. What the gate ignored, and a run without a gate, is skipped: neither must look like a pass.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree as XML

from memberscope.report.evidence import Document
from memberscope.report.formats import flat

SHOWN = ("value", "ci_low", "ci_high", "limit", "ceiling", "p_above", "p_within", "records")
_ILLEGAL = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0, even when escaped


def text_of(document: Document) -> str:
    """The XML of a document's gates."""
    suites = XML.Element("testsuites", name="memberscope gate")
    for run in flat.audited(document):
        suites.append(_suite(run))
    for name in ("tests", "failures", "errors", "skipped"):
        suites.set(name, str(sum(int(suite.get(name, "0")) for suite in suites)))
    suites.set("time", "0")
    XML.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + XML.tostring(suites, encoding="unicode") + "\n"


def _suite(run: Document) -> XML.Element:
    name, gate = legal(run["name"]), run.get("gate")
    cases = [] if gate is None else [_case(name, rule, gate) for rule in gate["rules"]]
    cases = cases or [_whole(name, gate)]
    suite = XML.Element("testsuite", name=name, tests=str(len(cases)))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(sum(case.find(tag) is not None for case in cases)))
    suite.set("time", "0")
    suite.extend(cases)
    return suite


def _whole(name: str, gate: Document | None) -> XML.Element:
    """The case of a run without a gate, or of a gate whose rules were not stored."""
    case = XML.Element("testcase", classname=name, name="gate", time="0")
    if gate is None:
        XML.SubElement(case, "skipped", message="no gate was set; --fail_if sets one")
    elif gate["outcome"] != "pass":
        tag = {"trip": "failure", "undecided": "error"}[gate["outcome"]]
        XML.SubElement(case, tag, type=gate["outcome"], message=legal(gate.get("reason", "")))
    return case


def _case(name: str, rule: Document, gate: Document) -> XML.Element:
    case = XML.Element("testcase", classname=name, name=legal(f"{rule['rule']} [{rule['attack']}.{rule['slice']}]"), time="0")
    outcome = flat.outcome_of(rule, gate)
    if outcome == "failed":
        word = "undecided, which counts as tripped" if rule["verdict"] == "undecided" else "tripped"
        XML.SubElement(case, "failure", type="trip", message=legal(f"{word}: {_figures(rule)}"))
    elif outcome == "undecided":
        XML.SubElement(case, "error", type="undecided", message=legal(f"undecided: {_figures(rule)}; {_needed(rule)}"))
    elif outcome == "let through":
        message = f"undecided, which counts as a pass: {_figures(rule)}; {_needed(rule)}"
        XML.SubElement(case, "skipped", type="undecided", message=legal(message))
    elif outcome == "ignored":
        XML.SubElement(case, "skipped", type="ignored", message=legal(f"ignored: {rule.get('reason', '')}"))
    lines = [f"{field}: {rule[field]!r}" for field in SHOWN if rule.get(field) is not None]
    XML.SubElement(case, "system-out").text = "\n".join(lines)
    return case


def _figures(rule: Document) -> str:
    """The metric with its interval, or why there is none."""
    if rule["value"] is None:
        return rule.get("reason") or "no value"
    low, high = rule.get("ci_low"), rule.get("ci_high")
    ends = "" if low is None and high is None else f" (95% {_end(low)} to {_end(high)})"
    limit = "" if rule.get("limit") is None else f", limit {rule['limit']:g}"
    return f"{rule['value']:.3g}{ends}{limit}"


def _end(value: float | None) -> str:
    return "no end" if value is None else f"{value:.3g}"


def _needed(rule: Document) -> str:
    records = rule.get("records")
    return "more records alone may not decide it" if records is None else f"about {records:,} records would decide it"


def legal(text: str) -> str:
    """The text with U+FFFD in the place of characters that no XML can hold, such as control characters of a class's name."""
    return _ILLEGAL.sub("�", text)
