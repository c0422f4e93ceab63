"""Wraps an attack of another package and checks the contract of attacks: if it violates the contract, it becomes a skipped row."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from memberscope.attacks.base import Attack, AttackScores, Skip, fault_of
from memberscope.errors import GateError, Interrupted
from memberscope.evidence import Evidence


@dataclass(frozen=True, kw_only=True)
class Plugged(Attack):
    """An attack of another package.

    Attributes:
        inner: the attack as the package offers it.
        package: the package's name.
    """

    inner: Attack
    package: str

    @classmethod
    def of(cls, inner: Attack, package: str) -> Plugged:
        """Wrap the attack under its own name and family; it mirrors none of tensorflow_privacy's attacks."""
        return cls(
            name=inner.name, family=inner.family, needs=frozenset(inner.needs), cross_fitted=inner.cross_fitted,
            reads_copies=inner.reads_copies, named_only=inner.named_only, inner=inner, package=package,
        )  # fmt: skip

    def missing(self, evidence: Evidence) -> str | None:
        """Why it cannot run, in the package's words."""
        return super().missing(evidence) or self.inner.missing(evidence)

    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        try:
            found = self.inner.score(evidence, seed=seed, workers=workers, folds=folds)
        except (Interrupted, GateError):
            raise
        except (Exception, SystemExit) as error:  # another package's code may raise anything
            return self._failed(f"{type(error).__name__}: {error}")
        if isinstance(found, Skip):
            return self._skip(str(found.reason))
        fault = fault_of(found, len(evidence.target))
        if fault:
            return self._failed(fault)
        return self._scores(
            np.array(found.scores), decisions=found.decisions, folds=found.folds, notes=(*found.notes, f"from {self.package}")
        )

    def _failed(self, why: str) -> Skip:
        reason = " ".join(f"{self.name} of {self.package} failed: {why}".split())
        print(f"memberscope: {reason}", file=sys.stderr, flush=True)
        return self._skip(reason)
