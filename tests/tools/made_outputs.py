"""Outputs of one model, losses of several, and what happens to their files, for tests of mapped arrays and of Arrow files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RECORDS, CLASSES, MODELS = 600, 5, 8


def outputs() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    labels, member = rng.integers(0, CLASSES, RECORDS), rng.random(RECORDS) < 0.5
    logits = rng.normal(size=(RECORDS, CLASSES)).astype(np.float32)
    logits[np.arange(RECORDS), labels] += np.where(member, 3, 2)
    return {"logits": logits, "labels": labels, "member": member}


def losses_of_models() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(1)
    half = np.argsort(rng.random((MODELS // 2, RECORDS)), axis=1) < RECORDS // 2
    member = np.concatenate([half, ~half])
    losses = rng.exponential(size=(MODELS, RECORDS)) * np.where(member, 0.5, 1.0)
    return {"loss_nats": losses.astype(np.float32), "member": member}


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)
