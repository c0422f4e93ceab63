"""Attacks on the loss trace: each record's losses over the epochs of the target's own training (Pollock et al. 2024).

Only the person who trained the model has them, so these are measurements by the owner. Signals take losses (n, epochs) in nats, the last
epoch last, and are computed in pieces of records, so that a memory-mapped trace need not fit into memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from memberscope.attacks.base import Attack, AttackScores, Skip
from memberscope.checks import Array, FloatArray, row_chunks
from memberscope.evidence import Evidence

HOW = "losses by epoch, which memberscope.LossTrace collects"
LEAST_EPOCHS = 2  # of a spread over epochs


def final_loss(losses: Array) -> FloatArray:
    """(n,) each record's loss after the last epoch, in nats."""
    return np.asarray(losses[:, -1], dtype=np.float64)


def mean_loss(losses: Array) -> FloatArray:
    """(n,) each record's mean loss over the epochs, in nats."""
    return _by_record(losses, lambda part: part.mean(axis=1))


def lt_iqr(losses: Array) -> FloatArray:
    """(n,) the interquartile range of each record's loss trace, in nats: LT-IQR = Q3 - Q1 over the epochs (Pollock et al. 2024).

    Quartiles are interpolated linearly between the sorted losses, as `numpy.quantile` does by default.
    """

    def spread(part: FloatArray) -> FloatArray:
        low, high = np.quantile(part, [0.25, 0.75], axis=1)
        difference: FloatArray = high - low
        return difference

    return _by_record(losses, spread)


def _by_record(losses: Array, measure: Callable[[FloatArray], FloatArray]) -> FloatArray:
    found = np.empty(len(losses))
    for rows in row_chunks(len(losses), losses.shape[1]):
        found[rows] = measure(np.asarray(losses[rows], dtype=np.float64))
    return found


@dataclass(frozen=True, kw_only=True)
class _TraceAttack(Attack):
    """An attack whose score is one number of the record's loss trace."""

    family: str = "trace"
    needs: frozenset[str] = frozenset({"target", "loss_trace"})
    least: int = 1

    def missing(self, evidence: Evidence) -> str | None:
        """A trace of enough epochs."""
        if evidence.loss_trace is None and "loss_trace" not in evidence.absent:
            return f"needs loss_trace ({HOW})"
        absent = super().missing(evidence)
        if absent or evidence.loss_trace is None:
            return absent
        epochs = evidence.loss_trace.shape[1]
        return None if epochs >= self.least else f"needs a loss trace of {self.least} epochs or more; it has {epochs}"

    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        del seed, workers, folds
        losses = evidence.loss_trace
        assert losses is not None
        return self._scores(self._of(losses), notes=(f"{losses.shape[1]} epochs of the loss trace",))

    def _of(self, losses: Array) -> FloatArray:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class TraceFinal(_TraceAttack):
    """Minus the last loss of the trace: members fit better."""

    name: str = "trace_final"

    def _of(self, losses: Array) -> FloatArray:
        return 0.0 - final_loss(losses)


@dataclass(frozen=True, kw_only=True)
class TraceMean(_TraceAttack):
    """Minus the mean loss over the epochs: members fit better throughout."""

    name: str = "trace_mean"

    def _of(self, losses: Array) -> FloatArray:
        return 0.0 - mean_loss(losses)


@dataclass(frozen=True, kw_only=True)
class TraceLtIqr(_TraceAttack):
    """LT-IQR: among members, those that are learned late are the ones that shadow models find (Pollock et al. 2024).

    It ranks members by how exposed they are. It is a weak attack: a non-member whose loss grows during training has a large one as well.
    """

    name: str = "trace_lt_iqr"
    least: int = LEAST_EPOCHS

    def _of(self, losses: Array) -> FloatArray:
        return lt_iqr(losses)


LOSS_TRACE: tuple[Attack, ...] = (TraceFinal(), TraceMean(), TraceLtIqr())
