"""A small training function of a user's own, and a data set that its models memorize."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memberscope.report import evidence
from memberscope.tracking import MemoryTracker

FUNCTION = '''
import numpy as np

def train(job, k=1, soft=False):
    """The share of each class among the k nearest members; a model of one neighbour remembers every label."""
    with open({log!r}, "a") as log:
        log.write(f"{{k}} {{job.seed}}\\n")
    x, y = job.x.astype(np.float64), job.y
    for epoch in range(2):
        job.report(epoch=epoch, loss=1.0 - epoch / 2)

    def predict(records):
        apart = ((records[:, None].astype(np.float64) - x) ** 2).sum(axis=2)
        near = y[np.argsort(apart, axis=1)[:, :k]]
        return (near[:, :, None] == np.arange(job.classes)).mean(axis=1)

    return predict
'''


@dataclass(frozen=True)
class Own:
    """The files of a user's own trainer: its spec for the option, a data set of 400 noisy records, and what it has trained."""

    spec: str
    data: str
    log: Path

    def trained(self) -> list[tuple[int, int]]:
        """(k, seed) of each training."""
        return [(int(k), int(seed)) for k, seed in (line.split() for line in self.log.read_text().splitlines())]


def make_own(folder: Path) -> Own:
    log = folder / "log.txt"
    log.touch()
    (folder / "near.py").write_text(FUNCTION.format(log=str(log)))
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    np.savez(folder / "noisy.npz", x=rng.normal(size=(400, 4)) + 2.0 * y[:, None] * (np.arange(4) == 0), y=y)
    return Own(spec=f"{folder}/near.py:train", data=str(folder / "noisy.npz"), log=log)


def evidence_of(tracker: MemoryTracker, *, study: str) -> dict[str, Any]:
    """The run in a study's evidence file, which fits its schema, can be read back and names no seed."""
    text = tracker.artifacts["evidence.json"]
    document = json.loads(text)
    evidence.parse(text, where="the evidence of a study")
    assert (document["study"], document["runs"][0]["study"]) == (study, study)
    assert not re.search(r'"[\w.]*\bseed":|--seed|-s\d+"', text), "seeds are numbered, in columns, options and names"
    assert "plan.digest" not in text
    run: dict[str, Any] = document["runs"][0]
    return run


@pytest.fixture
def own(tmp_path: Path) -> Own:
    return make_own(tmp_path)
