"""Defines an attack: a frozen object that maps evidence to one score per record, or to a skip with its reason.

Polarity, for every attack: higher = more likely a member.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memberscope.checks import BoolArray, FloatArray
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.unlogged import unlogged


@dataclass(frozen=True, kw_only=True)
class Skip:
    """An attack that could not run, and why. It is a result like any other: reports show it as a row."""

    attack: str
    family: str
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class AttackScores:
    """An attack's score for each record of the target, in input order.

    Attributes:
        attack: the attack's name.
        family: the attack's family.
        scores: (n,) float64, finite; higher = more likely a member.
        decisions: (n,) bool, member or not, for attacks with a threshold of their own; else None.
        folds: (n,) int, for cross-fitted attacks the fold whose attack model, trained on the other folds, scored the record.
        notes: what was subsampled, clipped or approximated, for the report.
    """

    attack: str
    family: str
    scores: FloatArray
    decisions: BoolArray | None = None
    folds: NDArray[np.intp] | None = None
    notes: tuple[str, ...] = ()


def fault_of(result: object, n: int) -> str:
    """How a result on `n` records violates the contract of attacks; ``""`` if it does not."""
    if not isinstance(result, AttackScores):
        return f"returned {type(result).__name__}; expected AttackScores or a Skip"
    scores: object = result.scores
    if not isinstance(scores, np.ndarray):
        return f"returned scores of type {type(scores).__name__}; expected an array of float64"
    if scores.dtype != np.float64:
        return f"returned scores of type {scores.dtype}; expected float64"
    if scores.shape != (n,):
        return f"returned scores of shape {scores.shape}; expected ({n},), one per record"
    if not np.isfinite(scores).all():
        return f"returned {int((~np.isfinite(scores)).sum())} scores that are not finite"
    for name, values, kind in (("decisions", result.decisions, np.bool_), ("folds", result.folds, np.integer)):
        if values is not None and not (
            isinstance(values, np.ndarray) and values.shape == (n,) and np.issubdtype(values.dtype, kind)
        ):
            return f"returned {name} that are not {kind.__name__} of shape ({n},)"
    return ""


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """One attack of the registry.

    Attributes:
        name: as in reports, ``family_type``.
        family: ``threshold``, ``trained``, ``white_box`` and ``trace`` know the target's own members, its weights or its training (a
            measurement); ``metric``, ``shadow``, ``population`` and ``label_only`` use only what an outside attacker has.
        needs: fields of `Evidence` without which it is skipped.
        cross_fitted: whether it is fitted on the target's own records, and therefore skipped where a side has too few for its folds.
        reads_copies: whether it uses ``augmented`` copies of the records where there are any.
        named_only: whether it runs only where it is requested by its own name: a variant of an attack that is at least as strong, for
            comparison with published tables. ``all`` and its family leave it out, so that it is neither a cost nor one more candidate for
            the primary attack.
        tfp_name: the tensorflow_privacy attack type that it mirrors (``lr``, ``threshold-entropy``), if any.
    """

    name: str
    family: str
    needs: frozenset[str] = frozenset({"target"})
    tfp_name: str | None = None
    cross_fitted: bool = False
    reads_copies: bool = False
    named_only: bool = False

    def missing(self, evidence: Evidence) -> str | None:
        """Why the attack cannot run on this evidence, as a phrase; None if it can."""
        absent = [need for need in sorted(self.needs) if getattr(evidence, need) is None]
        why = "; ".join(evidence.absent[need] for need in absent if need in evidence.absent)
        return f"needs {' and '.join(absent)}{f' ({why})' if why else ''}" if absent else None

    @unlogged()
    def score(
        self, evidence: Evidence, *, seed: int, workers: int | None = None, folds: int | None = None
    ) -> AttackScores | Skip:
        """Score every record of the target.

        Args:
            evidence: what the attacker has; it is not changed.
            seed: the seed of every random draw; the same seed gives the same scores, bit for bit, for any number of workers.
            workers: the number of threads; None for all cores that this process may use.
            folds: the number of folds of a cross-fitted attack; None for its own choice. Other attacks ignore it.

        Returns:
            One finite score per record, or a `Skip` that states what is missing.

        Raises:
            UserError: `workers` or `folds` out of range.
        """
        if workers is not None and workers < 1:
            raise UserError(f"workers: {workers}; allowed: 1 or more, or none for all cores")
        if folds is not None and folds < 2:
            raise UserError(f"folds: {folds}; allowed: 2 or more")
        reason = self.missing(evidence)
        if reason is not None:
            return self._skip(reason)
        result = self._score(evidence, seed=seed, workers=workers, folds=folds)
        if isinstance(result, AttackScores):
            if fault := fault_of(result, len(evidence.target)):
                raise RuntimeError(f"{self.name}: {fault}")
            result.scores.flags.writeable = False
        return result

    def _skip(self, reason: str) -> Skip:
        return Skip(attack=self.name, family=self.family, reason=reason)

    def _scores(
        self,
        scores: FloatArray,
        *,
        decisions: BoolArray | None = None,
        folds: NDArray[np.intp] | None = None,
        notes: tuple[str, ...] = (),
    ) -> AttackScores:
        return AttackScores(attack=self.name, family=self.family, scores=scores, decisions=decisions, folds=folds, notes=notes)

    @abstractmethod
    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        """The attack itself, on evidence that holds all that it needs."""
