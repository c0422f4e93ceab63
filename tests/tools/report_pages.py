"""Runs of small audits as they are read back, with markup in what people gave, and a reader of pages."""

from __future__ import annotations

import functools
import io
import zlib
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd

from memberscope import Predictions, plots, run_audit
from memberscope.audit.run import AuditReport
from memberscope.scores import KeptScores
from memberscope.tracking import DataInput, KeptRun, as_json

EVIL = '<script>alert("1")</script>&\'"'
VOID = {"meta", "img", "br"}


@functools.cache
def report(*, shift: float = 1.0, seed: int = 0, n: int = 1200, ids: int = 0) -> AuditReport:
    """An audit of simulated outputs, whose members are surer by `shift`."""
    rng = np.random.default_rng(seed)
    labels, member = np.arange(n) % 4, np.arange(n) < n // 2
    logits = rng.normal(size=(n, 4))
    logits[np.arange(n), labels] += 1 + shift * member
    target = Predictions(logits=logits, labels=labels, member=member, record_ids=np.arange(n) + ids)
    return run_audit(target, attacks="threshold,metric_confidence", slices="all")


def run_of(found: AuditReport, *, name: str = "one", source: str = "given", **changes: object) -> KeptRun:
    """The run of an audit, as it is read back."""
    curves = {result.attack: result.roc for result in found.whole()}
    tables = {
        "attacks.csv": pd.read_csv(io.StringIO(found.to_frame().to_csv(index=False))),
        "roc.csv": plots.roc_points(curves),
        "most_exposed.csv": pd.DataFrame({"rank": [1], "position": [7], "record_id": [7], "label": [2], "member": [True],
                                          "probability": [0.9], "modified_entropy": [0.01]}),
        "history.csv": pd.DataFrame({"epoch": [0, 1, 2], "train_accuracy": [0.2, 0.6, 0.9], "train_loss": [2.0, 1.0, 0.5],
                                     "val_accuracy": [0.2, 0.5, 0.6], "val_loss": [2.0, 1.5, 1.4], "auc": [0.5, np.nan, 0.6],
                                     "advantage": [0.0, np.nan, 0.2]}),
    }  # fmt: skip
    assert found.headline is not None
    run = KeptRun(
        id=f"{zlib.crc32(name.encode()):032x}", name=name, started="2026-01-02 03:04 UTC", tables=tables,
        tags={"memberscope.command": f"memberscope attack --predictions={EVIL}", "memberscope.versions": '{"python": "3.11.7"}'},
        params={"data.class_names": "cat,dog,eel,fox"},
        texts={"study.json": as_json({"attack.seed": 3, "attack.note": EVIL}), "controls.json": as_json({"null": "null control: fine."}),
               "headline.json": found.headline.to_json()},
        scores=KeptScores.of(
            found.whole_scores, member=found.target.member, record_ids=found.target.record_ids, labels=found.target.labels, source=source
        ),
        inputs=(DataInput(name=EVIL, context="member", digest="abc123", source="s", shape=(600, 8), classes=4),),
    )  # fmt: skip
    return replace(run, **changes)


def weak_and_strong(*, primary: str = "auto") -> AuditReport:
    """The first attack of the table sees whether a label is right, the second how sure the model is of it."""
    rng = np.random.default_rng(0)
    n = 2000
    labels, member = np.arange(n) % 4, np.arange(n) < n // 2
    logits = rng.normal(size=(n, 4))
    logits[np.arange(n), labels] += 3 + member
    target = Predictions(logits=logits, labels=labels, member=member, record_ids=np.arange(n))
    return run_audit(target, attacks="label_only_gap,threshold_loss", primary=primary, slices="entire,class")


class Page(HTMLParser):
    """Checks that tags nest, and collects text and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [name for name, _ in attrs]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def read(page: str) -> Page:
    """A page whose tags nest."""
    parser = Page()
    parser.feed(page)
    parser.close()
    assert not parser.open
    return parser
