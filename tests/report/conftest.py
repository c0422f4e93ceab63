"""A kept run of a small audit, as it is read back, and pages without their drawings."""

from __future__ import annotations

import functools
import io
import zlib
from typing import Any

import numpy as np
import pandas as pd
import pytest
import report_pages

from memberscope import Predictions, plots, run_audit
from memberscope.audit import artifacts
from memberscope.audit.declared import Declared
from memberscope.audit.run import AuditReport
from memberscope.gate import judge, parse_rules
from memberscope.report import figures
from memberscope.scores import KeptScores
from memberscope.tracking import DataInput, KeptRun, as_json


@functools.cache
def audited(*, shift: float = 1.0, seed: int = 0, n: int = 800) -> AuditReport:
    rng = np.random.default_rng(seed)
    labels, member = np.arange(n) % 3, np.arange(n) < n // 2
    logits = rng.normal(size=(n, 3))
    logits[np.arange(n), labels] += 1 + shift * member
    target = Predictions(logits=logits, labels=labels, member=member, record_ids=np.arange(n) + 5_000_000)
    declared = Declared(prior=0.01, subjects=100_000, sensitivity="has the disease")
    return run_audit(target, attacks="threshold,metric_confidence", slices="entire,class", declared=declared)


def kept(found: AuditReport, *, name: str = "one", seed: int | None = None, private: bool = True, rules: str = "") -> KeptRun:
    """A run as it is read back; a private one holds nothing of single records, and no seed unless one is given."""
    curves = {result.attack: result.roc for result in found.whole()}
    tables = {
        artifacts.ATTACKS: pd.read_csv(io.StringIO(found.to_frame().to_csv(index=False))),
        artifacts.ROC: plots.roc_points(curves).drop(columns="threshold"),
        artifacts.HISTORY: pd.DataFrame({"epoch": [0, 1], "train_accuracy": [0.2, 0.9], "val_accuracy": [0.2, 0.6]}),
        artifacts.EXPOSURE_SUMMARY: pd.DataFrame(
            {"at": ["pooled"], "attack": ["threshold_loss"], "fpr": [0.1], "found": [20.5], "expected": [10.0]}
        ),
    }
    settings: dict[str, Any] = {"attack.attacks": "threshold"}
    tags = {"memberscope.versions": '{"python": "3.11.7"}', "memberscope.command": "memberscope attack --predictions=p.npz"}
    params = {"data.class_names": "cat,dog,eel"}
    assert found.headline is not None
    scores = None
    if not private:
        tables[artifacts.MOST_EXPOSED] = pd.DataFrame(
            {"rank": [1], "record": ["c0ffee00c0ffee00"], "label": [2], "probability": [0.9]}
        )
        tables[artifacts.EXPOSURE] = pd.DataFrame(
            {"rank": [1], "record": ["beef0000beef0000"], "memorization": [0.7], "privacy_score": [2.0]}
        )
        scores = KeptScores.of(
            found.whole_scores, member=found.target.member, record_ids=found.target.record_ids, labels=found.target.labels, source="given"
        )  # fmt: skip
    if seed is not None:
        settings["study.seed"], params["study.seed"], params["plan.digest"] = seed, str(seed), "0123abcd" * 8
        tags |= {
            "memberscope.setting": name.rpartition("-s")[0],
            "memberscope.command": f"memberscope train --seed {seed} --depth=3",
        }
    if rules:
        result = judge(found, parse_rules(rules))
        tables[artifacts.GATE] = result.to_frame()
        tags |= {"memberscope.gate": result.outcome, "memberscope.gate_reason": result.reason}
    texts = {
        artifacts.STUDY: as_json(settings), artifacts.HEADLINE: found.headline.to_json(),
        artifacts.CONTROLS: as_json({"null": "null control: fine.", "blind": {"text": "Blind.", "differs": False, "auc": 0.51}}),
        artifacts.RISK_STATEMENT: found.risk_statement.to_json(),
    }  # fmt: skip
    return KeptRun(
        id=f"{zlib.crc32(name.encode()):032x}", name=name, started="2026-01-02 03:04 UTC", tables=tables, tags=tags, params=params,
        texts=texts,
        metrics={"exposure/records": ((0, 800.0),), "exposure/shown": ((0, 7.0),)}, scores=scores,
        inputs=(DataInput(name="d", context="member", digest="abc123", source="s", shape=(400, 8), classes=3),),
    )  # fmt: skip


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without their drawings, most of the seconds that a page takes: for tests of what its text says."""
    for name in ("roc", "over_seeds", "by_epoch", "intervals"):
        monkeypatch.setattr(figures, name, lambda *_, **__: b'<svg xmlns="http://www.w3.org/2000/svg"/>')


@pytest.fixture(scope="session")
def leaky() -> AuditReport:
    """The report of an audit that finds a leak."""
    return report_pages.report()
