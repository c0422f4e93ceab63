"""Evidence files that are damaged, foreign or made to do harm, read as `report --from` reads them and made into every form."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hostile import Case

DEEP = 10_000


@functools.cache
def good() -> bytes:
    """A small evidence file with all kinds of fields, made once a process."""
    import io

    import pandas as pd

    from hostile import runs
    from memberscope.audit import kept_tables
    from memberscope.report import evidence
    from memberscope.tracking import DataInput, KeptRun

    content = runs.good()
    tables = {
        name: kept_tables.read(name, content[name].decode(), where=name, allowed="")
        for name in ("attacks.csv", "roc.csv", "roc_band.csv", "history.csv", "gate.csv", "experiments.csv")
    }
    attacks, roc = tables["attacks.csv"], tables["roc.csv"]
    tables["attacks.csv"] = attacks[attacks["metric"].isin(["auc", "tpr_at_fpr_0_1"])].reset_index(
        drop=True
    )  # a small file: it is
    tables["roc.csv"] = roc.groupby("attack").nth([0, 9, 19, 39, -1]).reset_index()[["attack", "fpr", "tpr"]]  # read very often
    tables["exposure_summary.csv"] = pd.read_csv(io.StringIO("at,attack,fpr,found,expected\npooled,threshold_loss,0.1,20,10\n"))
    texts = {name: content[name].decode() for name in ("headline.json", "study.json", "controls.json", "risk_statement.json")}
    audited = KeptRun(
        id="1" * 32, name="one", started="2026-01-02", texts=texts, tables={k: v for k, v in tables.items() if k != "experiments.csv"},
        params={"study.seed": "7", "data.classes": "4"}, metrics={"exposure/shown": [(0, 3.0)], "exposure/records": [(0, 200.0)]},
        tags={"memberscope.gate": "trip", "memberscope.gate_reason": "above", "memberscope.setting": "s", "memberscope.versions": "{}"},
        inputs=(DataInput(name="d", context="member", digest="x", source="s", shape=(100, 8), classes=4),),
    )  # fmt: skip
    other = KeptRun(id="2" * 32, name="two", texts=texts, tables={"attacks.csv": tables["attacks.csv"]})
    study = KeptRun(id="3" * 32, name="all", children=(audited,), tables={"experiments.csv": tables["experiments.csv"]})
    from memberscope.report.page import pairs_of

    document = evidence.written([study, other], study="report", pairs=pairs_of([study, other], seed=0))
    return evidence.to_json(document).encode()


def report(path: Path) -> None:
    """Read a file and make of it all that `report` does, without drawings, CycloneDX's own validator and the disk."""
    from memberscope.report import evidence, figures, formats
    from memberscope.report.page import render_page

    found = evidence.read(str(path))
    svg = figures.svg
    figures.svg = lambda drawing: b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    try:
        made = render_page(found.runs, title=found.title, pairs=found.pairs)
    finally:
        figures.svg = svg
    made.encode("utf-8")
    document = evidence.written(found.runs, study="report", pairs=found.pairs or ())
    for name in ("json", "junit", "markdown"):
        text = formats.FORMATS[name].text
        assert text is not None
        text(document).encode("utf-8")
    evidence.parse(evidence.to_json(document), where="written again")


def _read(folder: Path, *, content: bytes) -> None:
    (folder / "evidence.json").write_bytes(content)
    report(folder / "evidence.json")


def _with(folder: Path, *, change: Callable[[Any], Any]) -> None:
    document = copy.deepcopy(json.loads(good()))
    change(document)
    _read(folder, content=json.dumps(document).encode())


def _put(*path: Any, value: Any) -> Callable[[Any], Any]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


RUN: tuple[Any, ...] = ("runs", 0, "children", 0)
FILES: dict[str, bytes] = {
    "empty": b"", "a list": b"[]", "null": b"null", "binary": bytes(range(256)), "an open brace": b'{"schema_version": "1.0"', "a page": b"<html>",
    "nested ten thousand deep": b'{"schema_version": "1.0", "runs": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "nested a hundred deep": b'{"schema_version": "1.0", "runs": ' + b"[" * 100 + b"]" * 100 + b"}",
    "another major version": b'{"schema_version": "2.0", "runs": []}', "no version": b'{"runs": []}', "version 10": b'{"schema_version": "10.0", "runs": []}',
    "a version of digits": b'{"schema_version": "1.' + b"9" * 5000 + b'", "runs": []}', "a number as version": b'{"schema_version": 1.0, "runs": []}',
    "no runs": b'{"schema_version": "1.0"}', "an empty list of runs": b'{"schema_version": "1.0", "runs": []}',
    "a number of 5,000 digits": b'{"schema_version": "1.0", "x": ' + b"9" * 5000 + b', "runs": []}', "an unpaired surrogate": b'{"schema_version": "1.0", "x": "\\ud800", "runs": []}',
}  # fmt: skip
NUMBERS = {"1e999": "1e999", "NaN": "NaN", "-Infinity": "-Infinity", "10^30": "1" + "0" * 30}
FIELDS: dict[str, Callable[[Any], Any]] = {
    "an AUC of seven": _put(*RUN, "results", 0, "value", value=7.0), "another verdict": _put(*RUN, "finding", "verdict", value="quiet"),
    "an unknown verdict": _put(*RUN, "finding", "verdict", value="fine"), "an attack that did not run": _put(*RUN, "finding", "primary", "candidates", value=["x"]),
    "a negative number of members": _put(*RUN, "results", 0, "n_member", value=-1), "half a member": _put(*RUN, "results", 0, "n_member", value=0.5),
    "curves of unequal length": _put(*RUN, "curves", 0, "fpr", value=[0.0, 1.0]), "a rate of two": _put(*RUN, "curves", 0, "tpr", 1, value=2.0),
    "no entire data set": _put(*RUN, "results", value=[{**json.loads('{"attack":"a","family":"f","slice":"class_0","metric":"auc","value":0.5,"n_member":1,"n_nonmember":1,"status":"ok"}')}]),
    "a comparison with nobody": _put("comparisons", 0, "second", value="nobody"), "an unknown outcome": _put(*RUN, "gate", "outcome", value="maybe"),
    "more accused than there are": _put(*RUN, "risk_statement", "measured", 0, "rates", 0, "members_accused", value=10**9), "a prior of two": _put(*RUN, "risk_statement", "declared", "prior", value=2.0),
    "a statement of another form": _put(*RUN, "risk_statement", "version", value=9), "results that are no list": _put(*RUN, "results", value={}),
    "a name that is a number": _put(*RUN, "name", value=7), "an id without letters": _put(*RUN, "id", value=""), "settings within settings": _put(*RUN, "settings", value={"a": {}}),
    "a run as its children": _put(*RUN, "children", value=[7]), "a reason of null": _put(*RUN, "results", 0, "reason", value=None), "two rates alike": _put(*RUN, "exposure", "found", value=[{"at": "pooled", "attack": "a", "fpr": 0.1}] * 2),
}  # fmt: skip
KEPT: dict[str, Callable[[Any], Any]] = {
    "an unknown field": _put("later", value={"deep": [1, 2]}), "an unknown field of a run": _put(*RUN, "later", value=[1]),
    "an unknown field of a result": _put(*RUN, "results", 0, "later", value={"a": 1}), "a later minor version": _put("schema_version", value="1.99"),
    "markup": _put(*RUN, "name", value="<script>alert(1)</script>|`*\u0000\u0007"), "mathematics": _put(*RUN, "facts", value={"data.class_names": "$x,$_{,\\frac,d"}),
    "an unknown table": _put("runs", 0, "tables", value={"later": [{"a": 1}]}), "the same run twice": lambda document: document["runs"].append(document["runs"][1]),
    "a replicate of digits": _put(*RUN, "setting", value={"name": "s", "replicate": 2**40}),
}  # fmt: skip


def cases() -> list[Case]:
    """Evidence files."""
    found = [
        Case(name=f"evidence file: {name}", act=partial(_read, content=content), refused=True)
        for name, content in FILES.items()
    ]
    found += [
        Case(
            name=f"evidence number: {name}",
            act=partial(_read, content=good().replace(b'"difference": ', f'"later": {number}, "difference": '.encode(), 1)),
            refused=True,
        )
        for name, number in NUMBERS.items()
    ]
    found += [
        Case(name=f"evidence field: {name}", act=partial(_with, change=change), refused=True) for name, change in FIELDS.items()
    ]
    found += [Case(name=f"evidence kept: {name}", act=partial(_with, change=change)) for name, change in KEPT.items()]
    return found
