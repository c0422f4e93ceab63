"""The records and labels of one cell for one seed, by index arithmetic on labels only."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memberscope import seeds
from memberscope.datasets.labeled import LabeledData
from memberscope.errors import UserError
from memberscope.plans.canaries import CanaryRequest, TargetCanaries, flip_coins
from memberscope.plans.keyed import split_seed
from memberscope.plans.split import Index, Plan, replace_labels, spread, spread_groups
from memberscope.plans.target import PlannedData
from memberscope.plans.whole_groups import blocks
from memberscope.sweeps.cells import Part


@dataclass(frozen=True, kw_only=True)
class Selection(PlannedData):
    """A cell's records for one seed.

    Attributes:
        data: the data set with the cell's labels, after noise. Records outside the plan have label 0 and are not used.
        plan, canaries: see `PlannedData`.
        audited: positions of the audited records: members, then non-members.
        member: (n,) membership of `audited`.
        outside: positions of the records of the cell's classes that are on no side.
    """

    audited: Index
    member: NDArray[np.bool_]
    outside: Index

    def with_canaries(self, request: CanaryRequest, *, seed: int) -> Selection:
        """The same records with canaries among those outside; UserError if they cannot be drawn.

        The labels of canaries are drawn from the classes that the members have: others would stand out in a model with more classes.
        """
        used = np.setdiff1d(np.arange(len(self.data)), self.outside)
        drawn_from = request.seed(self.data, seed)
        planted = request.plant(
            self.data, used, seed=drawn_from, noise=self.data.label_noise, classes=np.unique(self.data.y[self.plan.members])
        )
        canaries = TargetCanaries(planted=planted, member=flip_coins(request.count, seed=drawn_from))
        return dataclasses.replace(self, canaries=canaries)

    def unplanted(self) -> Selection:
        """The same, of which no canary is in the training set."""
        if self.canaries is None:
            return self
        nothing = np.zeros_like(self.canaries.member)
        return dataclasses.replace(self, canaries=dataclasses.replace(self.canaries, member=nothing))


def class_order(classes: int, *, choice: str, seed: int) -> Index:
    """The order of classes: their own, or the stream ``("class_order",)`` of `seed`. Fewer classes are its first, hence nested."""
    if choice == "first":
        return np.arange(classes, dtype=np.int64)
    return seeds.stream(seed, "class_order").permutation(classes).astype(np.int64)


def superclasses(order: Index, count: int) -> Index:
    """The superclass of each class, (classes,): `order` is cut into `count` runs whose sizes differ by at most one."""
    merged = np.empty(len(order), dtype=np.int64)
    merged[order] = np.arange(len(order)) * count // len(order)
    return merged


def fewest_records(labels: NDArray[np.int64], *, classes: int, keep: int, choice: str) -> int:
    """The fewest records that `keep` classes can have: those of the smallest classes if the choice is random, else of the first."""
    counts = np.bincount(labels, minlength=classes)
    return int((counts[:keep] if choice == "first" else np.sort(counts)[:keep]).sum())


def select(data: LabeledData, part: Part, *, seed: int) -> Selection:
    """The records of a cell for one seed.

    Classes are spread evenly over one random order of the records (the stream ``("split",)``). Non-members are its first block, validation
    its second, and members follow: cells with the same classes have the same non-members and validation records, and their sets of members
    are nested. The first records of each side are audited, so that such cells are audited on the same records.

    Where records have groups, whole groups are spread and cut, and sides have at most as many records as they should.

    Label noise is drawn after classes were dropped or merged: it replaces the same share of labels whatever the number of classes and, for
    the same seed and sides, those of the same records.

    Raises:
        UserError: the classes have fewer records than the sides need.
    """
    order_of_classes = class_order(data.classes, choice=part.choice, seed=seed)
    kept = np.sort(order_of_classes[: part.classes]) if part.treatment != "merged" else np.arange(data.classes)
    rows = np.flatnonzero(np.isin(data.y, kept))
    if part.per_class:
        rng = seeds.stream(split_seed(data, seed), "per_class")
        rows = np.sort(np.concatenate([_cut(rows[data.y[rows] == label], part.per_class, rng) for label in kept]))
    needed = part.members + part.nonmembers + part.validation
    if needed > len(rows):
        raise UserError(
            f"members={part.members}: {len(kept)} classes of {data.name} have {len(rows)} records; allowed: "
            f"at most {max(0, len(rows) - part.nonmembers - part.validation)} besides "
            f"{part.nonmembers} non-members and {part.validation} validation records"
        )
    rng = seeds.stream(split_seed(data, seed), "split")
    sizes = {"nonmembers": part.nonmembers, "validation": part.validation, "members": part.members}
    if data.groups is None:
        order = rows[spread(data.y[rows], rng)]
        ends = np.cumsum(list(sizes.values()))
        sides = dict(zip(sizes, np.split(order[: ends[-1]], ends[:-1]), strict=True))
    else:
        order = rows[spread_groups(data.y[rows], data.groups[rows], rng)]
        sides = blocks(order, data.groups, sizes)
    plan = Plan(**sides)
    renumber = np.zeros(data.classes, dtype=np.int64)
    if part.treatment == "merged":
        renumber = superclasses(order_of_classes, part.classes)
        names = tuple("+".join(data.class_names[k] for k in np.flatnonzero(renumber == group)) for group in range(part.classes))
    else:
        renumber[kept] = np.arange(len(kept))
        names = tuple(data.class_names[k] for k in kept)
    labels = replace_labels(renumber[data.y], plan.sides, share=part.label_noise, classes=part.classes, seed=seed)
    if part.treatment == "head":
        labels, names = kept[labels], data.class_names
    firsts = [_first(side, most, data.groups) for side, most in (
        (plan.members, part.audited_members), (plan.nonmembers, part.audited_nonmembers)
    )]  # fmt: skip
    audited, member = np.concatenate(firsts), np.repeat([True, False], [len(side) for side in firsts])
    view = dataclasses.replace(data, y=labels, class_names=names, label_noise=part.label_noise, sizes=None)
    outside = np.setdiff1d(rows, np.concatenate(list(plan.sides.values())))
    return Selection(data=view, plan=plan, audited=audited, member=member, outside=outside)


def _first(side: Index, most: int, groups: NDArray[np.int64] | None) -> Index:
    """The first records of a side that are audited, or its first whole groups."""
    return side[:most] if groups is None else blocks(side, groups, {"audited": most})["audited"]


def _cut(rows: Index, most: int, rng: np.random.Generator) -> Index:
    return rows if len(rows) <= most else rng.choice(rows, size=most, replace=False)
