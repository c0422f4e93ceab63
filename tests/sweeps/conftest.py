"""A small data set of known labels, and the configuration of a sweep on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from memberscope.config.training import SweepStudyConfig
from memberscope.datasets import LabeledData, Sizes

CLASSES, PER_CLASS = 6, 60


@pytest.fixture
def data() -> LabeledData:
    """360 grey 32x32 images of noise in six classes, each its own number at the first pixel."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, size=(CLASSES * PER_CLASS, 32, 32, 1)).astype(np.uint8)
    y = np.tile(np.arange(CLASSES), PER_CLASS).astype(np.int64)
    names = tuple("abcdef")
    return LabeledData(
        name="toy", x=x, y=y, class_names=names, source="noise", sizes=Sizes(members=120, nonmembers=120, validation=60)
    )


@pytest.fixture
def config() -> Callable[..., SweepStudyConfig]:
    """A configuration with a batch that small cells can fill."""

    def make(**values: Any) -> SweepStudyConfig:
        return SweepStudyConfig.from_mapping({"batch_size": 10, "epochs": 6, "audit_every": 2, **values})

    return make
