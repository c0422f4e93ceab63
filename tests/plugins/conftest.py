"""Packages of other people: a module and the metadata that pip would leave, in a folder that goes on the path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

Install = Callable[..., Path]

ATTACK = '''
from dataclasses import dataclass
import numpy as np
from memberscope.attacks.base import Attack


@dataclass(frozen=True, kw_only=True)
class Toy(Attack):
    """Member if the true label is likely; needs no more than the target."""

    name: str = "toy_attack"
    family: str = "toy"

    def _score(self, evidence, *, seed, workers, folds):
        target = evidence.target
        return self._scores(np.asarray(target.logits, dtype=np.float64)[np.arange(len(target)), target.labels])


TOY = Toy()
'''

METRIC = '''
import numpy as np
from scipy.special import ndtri
from memberscope.metrics import Estimate, MetricSpec


def compute(given, confidence):
    """The difference of the mean scores in units of their pooled deviation, with a normal interval."""
    scores, member = given.arrays
    inside, outside = scores[member], scores[~member]
    scale = np.sqrt((inside.var() + outside.var()) / 2)
    error = np.sqrt(inside.var() / len(inside) + outside.var() / len(outside)) / scale
    value, z = (inside.mean() - outside.mean()) / scale, ndtri(0.5 + confidence / 2)
    return Estimate(value=float(value), ci_low=float(value - z * error), ci_high=float(value + z * error))


GAP = MetricSpec(
    name="toy_gap", about="difference of mean scores, in deviations", range=(-100.0, 100.0), chance=0.0, compute=compute,
    label="toy gap", digits=2, summary=True, headline=True,
)
'''


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Put a package into a folder as pip would: its modules, and a dist-info with its entry points; returns the folder."""

    def put(
        package: str, modules: Mapping[str, str], entry_points: Mapping[str, Mapping[str, str]], *, folder: str = "site"
    ) -> Path:
        site = tmp_path / folder
        site.mkdir(exist_ok=True)
        for module, text in modules.items():
            (site / f"{module}.py").write_text(text)
        info = site / f"{package.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
            for group, points in entry_points.items()
        ]
        (info / "entry_points.txt").write_text("\n".join(lines))
        return site

    return put


@pytest.fixture
def toys(install: Install) -> Path:
    """A package with an attack and a metric."""
    return install(
        "toy-package",
        {"toy_attack_module": ATTACK, "toy_metric_module": METRIC},
        {"memberscope.attacks": {"toy_attack": "toy_attack_module:TOY"}, "memberscope.metrics": {"toy_gap": "toy_metric_module:GAP"}},
    )  # fmt: skip
