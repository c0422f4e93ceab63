"""Choosing an attack's settings without the target: some of the shadow models take its place in turn, and the others attack them.

A shadow that takes the target's place is a *stand-in*. The attacker trained it, so its members are known, and the attack on it has the same
kind of references as the attack on the target. Neither the target nor its twin nor their labels are read: a choice made here is independent
of the target's membership, so an attack's AUC stays at one half where there is no signal.

Two rules keep the test on stand-ins fair. The references' memberships must not reveal the stand-in's: a model whose training set (nearly)
complements or repeats that of the stand-in, such as its twin in the half design, is left out. And the number of references that were
trained on a record must not reveal it either: see `stand_ins`. With a single pair of shadows no references are left; there an attack that
needs only OUT models can compare the stand-in's members with the population.
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
"""The largest number of shadows that take the target's place; more would change the choice little, at a cost in proportion."""
RECORDS = 4000
"""The largest number of records on which a stand-in is judged."""
LEAST = 50  # members, and non-members, of a stand-in that is worth judging by
_CORRELATED = 0.5  # from this correlation on, one model's membership gives the other's away
_FPR = 0.01


@dataclass(frozen=True, kw_only=True, eq=False)
class StandIn:
    """A shadow in the target's place.

    Attributes:
        model: its row among the shadows.
        references: (n_models,) bool, the shadows that attack it.
        records: (m,) positions of the records on which it is judged.
        member: (m,) bool, whether it was trained on them.
    """

    model: int
    references: BoolArray
    records: Index
    member: BoolArray


def sample(levels: FloatArray, most: int = RECORDS) -> Index:
    """At most `most` of n records, spread over the range of `levels` (n_models, n); the same ones whatever the order of the records."""
    return sample_by(levels.mean(axis=0), most)


def sample_by(means: FloatArray, most: int = RECORDS) -> Index:
    """`sample` for the means (n,) of the levels over the models."""
    n = len(means)
    if n <= most:
        return np.arange(n)
    order = np.argsort(means, kind="stable")
    chosen: Index = np.sort(order[np.linspace(0, n - 1, most).round().astype(np.intp)])
    return chosen


def correlations(member: BoolArray) -> FloatArray:
    """(n_models, n_models) correlation of the memberships (n_models, n), over records that some models, not all, were trained on."""
    used = member[:, member.any(axis=0) & ~member.all(axis=0)].astype(np.float32)
    if not used.size:
        return np.eye(len(member))
    centered = used - used.mean(axis=1, keepdims=True)
    norm = np.sqrt((centered**2).sum(axis=1))
    found: FloatArray = (centered @ centered.T / np.maximum(np.outer(norm, norm), 1e-12)).astype(np.float64)
    return found


def _chosen(levels: FloatArray) -> list[int]:
    """Up to `STAND_INS` models, spread over the models' mean levels: which ones does not depend on the order of the models."""
    order = np.argsort(levels.mean(axis=1), kind="stable")
    if len(order) > STAND_INS:
        order = order[np.linspace(0, len(order) - 1, STAND_INS).round().astype(np.intp)]
    return [int(model) for model in order]


def _enough(member: BoolArray) -> bool:
    return min(int(member.sum()), int((~member).sum())) >= LEAST


def _revealed(ins: Index, own: BoolArray, n_models: int) -> bool:
    """Whether the counts of IN references reveal the stand-in's members (m,): their means differ by more than chance."""
    if not _enough(own):
        return True
    chance = min(0.5, 0.1 + 3.0 * float(np.sqrt(n_models / len(own))))
    return abs(float(ins[own].mean() - ins[~own].mean())) > chance


def stand_ins(member: BoolArray, levels: FloatArray) -> list[StandIn]:
    """The shadows that can take the target's place, each with references and records that do not reveal its membership.

    Where memberships are independent (the half design without the twin, or fair coins), all records are used. Where no model was trained
    on some of the records, only those that have references on both sides are used. Where each record is in a fixed number
    of models, its count of IN references reveals the membership; then the reference that is most nearly the stand-in's complement is
    left out, and the records are those on which the two differ.

    Args:
        member: (n_models, n) bool, whether that shadow was trained on that record.
        levels: (n_models, n) a signal of the records, by which the models are ordered.
    """
    related = correlations(member)
    found = []
    for model in _chosen(levels):
        references = (np.abs(related[model]) < _CORRELATED) & (np.arange(len(member)) != model)
        if not references.any():
            continue
        own, ins = member[model], member[references].sum(axis=0)
        both = np.flatnonzero((ins > 0) & (ins < references.sum()))
        if not _revealed(ins, own, len(member)):
            records = np.arange(len(own))
        elif not _revealed(ins[both], own[both], len(member)):
            records = both
        else:
            partner = int(np.argmin(np.where(references, related[model], np.inf)))
            references = references & (np.arange(len(member)) != partner)
            records = np.flatnonzero(own != member[partner])
            if not references.any() or _revealed(member[references][:, records].sum(axis=0), own[records], len(member)):
                continue
        if _enough(own[records]):
            found.append(StandIn(model=model, references=references, records=records, member=own[records]))
    return found


def stand_ins_by_population(member: BoolArray, levels: FloatArray, outside: int) -> list[StandIn]:
    """Stand-ins for a single reference: the members of each on which the others were not trained, against the population.

    Here models whose memberships complement each other may attack each other, since no reference was trained on any record that is judged.

    Args:
        member: (n_models, n) as in `stand_ins`.
        levels: (n_models, n) as in `stand_ins`.
        outside: records of the population; their positions follow those of the pool.
    """
    n = member.shape[1]
    found = []
    for model in _chosen(levels):
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
        settings: the settings to choose from, in order of preference.
        stands: the stand-ins, at least one.
        attack: returns the scores (m,) of a stand-in's records under a setting.
    """
    found = [float(np.mean([strength(attack(setting, stand), stand.member) for stand in stands])) for setting in settings]
    place = int(np.argmax(found))
    return settings[place], found[place]
