"""Choosing an attack's settings without the target: some of the shadow models take its place in turn, and the others attack them.

A shadow that takes the target's place is a *stand-in*. The attacker trained it, so its members are known, and the attack on it has the same
kind of references as the attack on the target. Neither the target nor its twin nor their labels are read: a choice made here is independent
of the target's membership, so an attack's AUC stays at one half where there is no signal.

Two rules keep a stand-in honest. Its references must not give its membership away by their own: a model whose training set (nearly)
complements or repeats that of the stand-in, such as its twin in the half design, is left out. And it is judged on records that its
references know from both sides (some were trained on the record, some were not), so that the choice of records does not depend on the
stand-in's own membership. With a single pair of shadows no such records exist; there an attack that needs OUT models alone can compare the
stand-in's members with the population.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from memberscope.checks import BoolArray, FloatArray

Index = NDArray[np.intp]
Setting = TypeVar("Setting")

STAND_INS = 8
"""At most so many shadows take the target's place; more would change the choice little, at a cost in proportion."""
RECORDS = 4000
"""Stand-ins are judged on at most so many records."""
LEAST = 50  # members, and non-members, of a stand-in that is worth judging by
_CORRELATED = 0.5  # from this correlation on, one model's membership gives the other's away
_FPR = 0.01


@dataclass(frozen=True, kw_only=True, eq=False)
class StandIn:
    """A shadow in the target's place.

    Attributes:
        model: its row among the shadows.
        references: (n_models,) bool, the shadows that attack it.
        records: (m,) positions of the records that it is judged on.
        member: (m,) bool, was it trained on them?
    """

    model: int
    references: BoolArray
    records: Index
    member: BoolArray


def sample(levels: FloatArray, most: int = RECORDS) -> Index:
    """At most `most` of n records, spread over the range of `levels` (n_models, n); the same ones whatever the order of the records."""
    n = levels.shape[1]
    if n <= most:
        return np.arange(n)
    order = np.argsort(levels.mean(axis=0), kind="stable")
    chosen: Index = np.sort(order[np.linspace(0, n - 1, most).round().astype(np.intp)])
    return chosen


def correlations(member: BoolArray) -> FloatArray:
    """(n_models, n_models) correlations between the models' memberships (n_models, n), over records that some model was trained on."""
    used = member[:, member.any(axis=0)].astype(np.float32)
    if not used.size:
        return np.eye(len(member))
    centered = used - used.mean(axis=1, keepdims=True)
    norm = np.sqrt((centered**2).sum(axis=1))
    found: FloatArray = (centered @ centered.T / np.maximum(np.outer(norm, norm), 1e-12)).astype(np.float64)
    return found


def _candidates(member: BoolArray, levels: FloatArray) -> list[tuple[int, BoolArray]]:
    """Up to `STAND_INS` models with those that may attack them; the choice does not depend on the order of the models."""
    apart = np.abs(correlations(member)) < _CORRELATED
    order = np.argsort(levels.mean(axis=1), kind="stable")
    chosen = order if len(order) <= STAND_INS else order[np.linspace(0, len(order) - 1, STAND_INS).round().astype(np.intp)]
    return [(int(model), apart[model] & (np.arange(len(member)) != model)) for model in chosen]


def _enough(member: BoolArray) -> bool:
    return min(int(member.sum()), int((~member).sum())) >= LEAST


def stand_ins(member: BoolArray, levels: FloatArray) -> list[StandIn]:
    """The shadows that can take the target's place, judged on records that their references know from both sides.

    Args:
        member: (n_models, n) bool, was that shadow trained on that record?
        levels: (n_models, n) a signal of the records, by which the models are ordered.
    """
    found = []
    for model, references in _candidates(member, levels):
        ins = member[references].sum(axis=0)
        records = np.flatnonzero((ins > 0) & (ins < references.sum()))
        own = member[model, records]
        if _enough(own):
            found.append(StandIn(model=model, references=references, records=records, member=own))
    return found


def stand_ins_by_population(member: BoolArray, levels: FloatArray, outside: int) -> list[StandIn]:
    """Stand-ins for a single reference: their members that the others were not trained on, against the population.

    Here models whose memberships complement each other may attack each other, since no reference was trained on any record that is judged.

    Args:
        member: (n_models, n) as in `stand_ins`.
        levels: (n_models, n) as in `stand_ins`.
        outside: records of the population; their positions follow those of the pool.
    """
    n = member.shape[1]
    found = []
    for model, _ in _candidates(member, levels):
        references = np.arange(len(member)) != model
        inside = np.flatnonzero(member[model] & ~member[references].any(axis=0))
        records = np.concatenate([inside, n + np.arange(outside)])
        own = np.arange(len(records)) < len(inside)
        if references.any() and _enough(own):
            found.append(StandIn(model=model, references=references, records=records, member=own))
    return found


def strength(scores: FloatArray, member: BoolArray) -> float:
    """AUC plus TPR at FPR 0.01, by which a setting is chosen. Both matter to a verdict, and both lie between 0 and 1."""
    ins, outs = np.sort(scores[member]), np.sort(scores[~member])
    below, upto = (np.searchsorted(outs, ins, side=side).sum() for side in ("left", "right"))
    area = (below + upto) / (2 * len(ins) * len(outs))
    threshold = outs[len(outs) - 1 - int(_FPR * len(outs))]
    return float(area + (len(ins) - np.searchsorted(ins, threshold, side="right")) / len(ins))


def best(
    settings: Sequence[Setting], stands: Sequence[StandIn], attack: Callable[[Setting, StandIn], FloatArray]
) -> tuple[Setting, float]:
    """The setting with the largest mean `strength` over the stand-ins (the first of several equal ones), and that mean.

    Args:
        settings: those to choose from, in order of preference.
        stands: at least one.
        attack: gives the scores (m,) of a stand-in's records under a setting.
    """
    found = [float(np.mean([strength(attack(setting, stand), stand.member) for stand in stands])) for setting in settings]
    place = int(np.argmax(found))
    return settings[place], found[place]
