"""The audited runs of an evidence document, one after another, and their gates' rules as a pipeline sees them."""

from __future__ import annotations

from collections.abc import Iterable

from memberscope.report.evidence import Document


def audited(document: Document) -> list[Document]:
    """The runs that have results. A run without any stands for its descendants that have some, as on the page."""
    return list({run["id"]: run for run in _audited(document["runs"])}.values())


def _audited(runs: Iterable[Document]) -> Iterable[Document]:
    for run in runs:
        if "results" in run:
            yield run
        else:
            yield from _audited(run.get("children", ()))


def outcome_of(rule: Document, gate: Document) -> str:
    """What becomes of a rule in a pipeline: ``passed``, ``failed``, ``undecided``, ``let through`` (undecided, with ``--undecided pass``)
    or ``ignored``.

    With ``--undecided fail``, an undecided rule of a gate that no other rule trips has failed.
    """
    verdict, outcome = rule["verdict"], gate["outcome"]
    if verdict == "undecided":
        if outcome == "pass":
            return "let through"
        tripped = any(other["verdict"] == "trip" for other in gate["rules"])
        return "failed" if outcome == "trip" and not tripped else "undecided"
    return {"pass": "passed", "trip": "failed"}.get(verdict, "ignored")
