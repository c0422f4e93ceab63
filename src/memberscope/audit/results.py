"""The result of one attack on one slice, and what the metrics of an audit count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope import metrics
from memberscope.metrics import Estimate, OneRun, Roc

LEAST_STEP = 50
"""Records between two points of a stored ROC curve, and in a bin of a histogram: fewer would tell who is a member, given the model and all
records."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Selected:
    """Some entries of arrays of all records. They are copied when they are read, so that the results of many slices take little memory.

    Attributes:
        scores: (n,) of all records.
        member: (n,) bool of all records.
        labels: (n,) classes of all records; None where unknown.
        index: positions of the slice's records; None for all records.
    """

    scores: NDArray[np.float64]
    member: NDArray[np.bool_]
    labels: NDArray[Any] | None = None
    index: NDArray[np.signedinteger[Any]] | None = None

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        """The slice's part of (n,) values of all records."""
        return values if self.index is None else values[self.index]


@dataclass(frozen=True, kw_only=True, eq=False)
class SliceResult:
    """One attack on one slice.

    Attributes:
        attack, family, slice: names.
        n_member, n_nonmember: the number of records on each side, or of groups if the predictions have any.
        figures: name -> `Estimate`; empty where the attack was skipped.
        selected: the scores, membership and classes of the slice's records, or of their groups; None where skipped.
        threshold: the score at and above which the attack itself calls a record a member; None where it has no threshold of its own.
        prior, subjects: what was declared, see `memberscope.audit.declared`; None where it was not, and `subjects` on parts of the records.
        one_run: the settings that the test behind `epsilon_lower_bound` fixed beforehand; None where that bound was not requested.
        ranked: whether the slice may compete for the worst one.
        notes: what was subsampled, sliced or approximated.
        status, reason: ``ok``, or ``skipped`` and why.
    """

    attack: str
    family: str
    slice: str
    n_member: int
    n_nonmember: int
    figures: Mapping[str, Estimate] = field(default_factory=dict)
    selected: Selected | None = None
    threshold: float | None = None
    prior: float | None = None
    subjects: int | None = None
    one_run: OneRun | None = None
    ranked: bool = False
    notes: tuple[str, ...] = ()
    status: str = "ok"
    reason: str = ""

    @property
    def scores(self) -> NDArray[np.float64] | None:
        """(n,) membership scores of the slice's records, or of their groups; None where skipped."""
        return None if self.selected is None else self.selected.of(self.selected.scores)

    @property
    def member(self) -> NDArray[np.bool_] | None:
        """(n,) bool, the truth for `scores`."""
        return None if self.selected is None else self.selected.of(self.selected.member)

    @property
    def labels(self) -> NDArray[Any] | None:
        """(n,) classes of the slice's records or groups, where they are known."""
        if self.selected is None or self.selected.labels is None:
            return None
        return self.selected.of(self.selected.labels)

    @property
    def roc(self) -> Roc:
        """The result's ROC curve; ValueError where it has no scores."""
        if self.selected is None:
            raise ValueError(
                f"{self.attack} on {self.slice} has no scores: {self.reason or 'its metrics are those of another slice'}"
            )
        return metrics.roc_curve(self.selected.of(self.selected.scores), self.selected.of(self.selected.member))


@dataclass(frozen=True, kw_only=True, eq=False)
class Counted:
    """What the metrics of an audit count: n groups, or n records where there are no groups.

    Attributes:
        member: (n,) bool.
        labels: (n,) classes; None where unknown.
        ids: (n,) names of the groups, or ids of the records; None where records have none.
    """

    member: NDArray[np.bool_]
    labels: NDArray[Any] | None
    ids: NDArray[Any] | None
