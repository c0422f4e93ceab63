"""Ctrl-C amid the pieces of a large mapped file: exit code 130, one line, no run left RUNNING, and the file is not read to its end."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memberscope import interrupt, npz, signals
from memberscope.attacks import calibration, crossfit, neighbours
from memberscope.audit import null
from memberscope.cli import main

RECORDS, CLASSES, PIECES, MODELS = 600, 5, 120, 4


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mapped file of logits that is read in `PIECES` pieces and attacked in threads, as a large one is, and shadows."""
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(interrupt, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(npz, "MAPPED_FROM", 0)
    monkeypatch.setattr(signals, "CHUNK", CLASSES * RECORDS // PIECES)
    monkeypatch.setattr(crossfit, "LEAST_FOR_THREADS", 0)
    monkeypatch.setattr(null, "LEAST_FOR_THREADS", 0)
    rng = np.random.default_rng(0)
    labels, member = rng.integers(0, CLASSES, RECORDS), rng.random(RECORDS) < 0.5
    logits = rng.normal(size=(RECORDS, CLASSES)).astype(np.float32)
    np.save(tmp_path / "t.npy", logits)
    for name, array in (("labels", labels), ("member", member), ("record_ids", np.arange(RECORDS))):
        np.save(tmp_path / f"t.{name}.npy", array)
    members = np.argsort(rng.random((MODELS, RECORDS)), axis=1) < RECORDS // 2
    shadows = {
        "logits": rng.normal(size=(MODELS, RECORDS, CLASSES)),
        "member": members,
        "labels": labels,
        "record_ids": np.arange(RECORDS),
    }
    np.savez(tmp_path / "shadows.npz", **shadows)
    np.savez(tmp_path / "population.npz", logits=rng.normal(size=(1 + MODELS, 90, CLASSES)), labels=np.arange(90) % CLASSES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _stopped(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, at: int) -> list[float]:
    """Ctrl-C in the `at`-th call of a function; each later call takes a while, as it would for more records. Returns the calls' times."""
    inner: Callable[..., Any] = getattr(owner, name)
    calls = list[float]()

    def slow(*given: Any, **options: Any) -> Any:
        calls.append(time.monotonic())
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGINT)
        if len(calls) >= at:
            time.sleep(0.05)
        return inner(*given, **options)

    monkeypatch.setattr(owner, name, slow)
    return calls


@pytest.mark.parametrize(
    ("options", "owner", "name", "at"),
    [
        ("--attacks threshold_loss", signals._Rows, "loss_nats", 30),
        ("--attacks trained_knn", neighbours.NeighbourVotes, "_votes", 10),
        ("--attacks rmia_offline --shadows shadows.npz --population population.npz", calibration, "log_prob", 3),
    ],
)
def test_ctrl_c_inside_a_piece(
    outputs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    options: str,
    owner: Any,
    name: str,
    at: int,
) -> None:
    words = ["attack", "--predictions", "t.npy", "--slices", "entire", "--controls", "none", *options.split()]
    calls = _stopped(monkeypatch, owner, name, at=at)
    assert main(words) == 130
    ended = time.monotonic()
    assert at <= len(calls) <= at + 20, "the first tenth of a second at most, and what threads did in the meantime"
    assert ended - calls[at - 1] < 5
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("memberscope")] == [
        "memberscope: stopped by SIGINT; what was finished is saved"
    ]
    assert all(line.startswith("audit") for line in lines[:-1]), "beside it, nothing but progress"
    with sqlite3.connect(outputs / "mlflow.db") as store:
        assert {status for (status,) in store.execute("SELECT status FROM runs")} <= {"KILLED"}
    store.close()
