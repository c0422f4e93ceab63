"""The sides of one target model: members, non-members and validation. Index arithmetic on labels, without images or training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memberscope import seeds
from memberscope.datasets.labeled import Sizes
from memberscope.errors import UserError
from memberscope.plans.whole_groups import blocks, by_group, check_enough, most_frequent, numbered

Index = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The sides of one target model: index arrays into one data set.

    Attributes:
        members: (n_member,) records that the model is trained on.
        nonmembers: (n_nonmember,) records that it never sees, with which the audit compares the members.
        validation: (n_validation,) records on which training is monitored. Disjoint from both, unless it *is* `nonmembers`.
        validation_is_nonmembers: whether training is monitored on the audited non-members, as in the case study.

    Raises:
        ValueError: sides overlap, or repeat a record.
    """

    members: Index
    nonmembers: Index
    validation: Index
    validation_is_nonmembers: bool = False

    def __post_init__(self) -> None:
        """Check that the sides are as documented."""
        sides = [self.members, self.nonmembers]
        if self.validation_is_nonmembers:
            if not np.array_equal(self.validation, self.nonmembers):
                raise ValueError("validation_is_nonmembers is true, but validation differs from nonmembers")
        else:
            sides.append(self.validation)
        every = np.concatenate(sides)
        if len(np.unique(every)) != len(every):
            raise ValueError("the sides of a plan share records")

    @property
    def audited(self) -> Index:
        """Members, then non-members: the records that the audit scores."""
        return np.concatenate([self.members, self.nonmembers])

    @property
    def member(self) -> NDArray[np.bool_]:
        """(n_member + n_nonmember,) ground truth for `audited`."""
        return np.repeat([True, False], [len(self.members), len(self.nonmembers)])

    @property
    def sides(self) -> dict[str, Index]:
        """The sides by name; validation only if it has records of its own."""
        sides = {"members": self.members, "nonmembers": self.nonmembers}
        return sides if self.validation_is_nonmembers else {**sides, "validation": self.validation}

    @property
    def digest(self) -> str:
        """SHA-256 over the three index arrays."""
        sha = hashlib.sha256()
        for side in (self.members, self.nonmembers, self.validation):
            sha.update(len(side).to_bytes(8, "little"))
            sha.update(np.ascontiguousarray(side, dtype="<i8").tobytes())
        return sha.hexdigest()


def resolve_sizes(
    *,
    available: int,
    members: int | str,
    nonmembers: int | str,
    validation: int | str,
    defaults: Sizes | None = None,
    reserved: int = 0,
) -> Sizes:
    """Turn ``auto`` into numbers.

    Args:
        available: records in the data set.
        members, nonmembers: a number or ``"auto"``.
        validation: a number, ``"auto"`` or ``"nonmembers"``.
        defaults: the data set's own sizes for ``auto``; without them, a sixth of the records are non-members, half as many are for
            validation, and all the rest are members.
        reserved: number of records that are left for canaries.

    Raises:
        UserError: the sides need more records than there are; the message gives the largest number of members that fits.
    """
    shared = validation == "nonmembers"
    n_non = int(nonmembers) if nonmembers != "auto" else (defaults.nonmembers if defaults else available // 6)
    if shared:
        n_val = 0
    elif validation == "auto":
        n_val = (defaults.validation or 0) if defaults else n_non // 2
    else:
        n_val = int(validation)
    room = available - n_non - n_val - reserved
    if members != "auto":
        n_mem = int(members)
    elif defaults and defaults.members:
        n_mem = min(defaults.members, room) if reserved else defaults.members
    else:
        n_mem = room
    if n_mem > room or n_mem < 1:
        parts = [f"{n_non} non-members", *([] if shared else [f"{n_val} for validation"])]
        parts += [f"{reserved} canaries"] if reserved else []
        held = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
        if room < 1 <= room + reserved:
            raise UserError(
                f"canaries={reserved}: too many; {n_non + n_val} of the {available} records of the data set are non-members or for "
                f"validation, and one at least is a member; allowed: at most {room + reserved - 1}"
            )
        if room < 1:
            raise UserError(f"nonmembers={n_non}: too many; the {available} records of the data set leave none for members")
        raise UserError(f"members={n_mem}: the data set has {available} records, {held}; allowed: at most {room}")
    return Sizes(members=n_mem, nonmembers=n_non, validation=None if shared else n_val)


def spread(labels: NDArray[np.int64], rng: np.random.Generator) -> Index:
    """All records in a random order over which every class is spread evenly, so that any block has each class in proportion."""
    order = rng.permutation(len(labels))
    key = np.empty(len(labels))
    for label in np.unique(labels):
        mine = order[labels[order] == label]
        key[mine] = (np.arange(len(mine)) + rng.random()) / len(mine)
    spread: Index = order[np.argsort(key[order], kind="stable")].astype(np.int64)
    return spread


def spread_groups(labels: NDArray[np.int64], groups: NDArray[np.int64], rng: np.random.Generator) -> Index:
    """All records in a random order of whole groups, over which the groups of every class (by their most frequent) are spread evenly."""
    names, of = numbered(groups)
    return by_group(of, spread(most_frequent(of, labels, len(names)), rng))


def make_plan(labels: NDArray[np.int64], sizes: Sizes, *, seed: int, groups: NDArray[np.int64] | None = None) -> Plan:
    """Draw the sides at random, balanced by class.

    Every class is spread evenly over a random order of the records, and members, non-members and validation are consecutive blocks of it:
    each side has each class in proportion, to within two records, and within a class membership is drawn uniformly.

    Args:
        labels: (n,) class of each record.
        sizes: numbers of records on the sides.
        seed: the stream ``("split",)`` of this seed determines the order.
        groups: (n,) the records' groups, each of which is kept on one side; a side then has at most as many records as its size says.

    Raises:
        UserError: a group that is larger than a side, or fewer than 20 groups among members or non-members.
    """
    if groups is not None:
        return _grouped(labels, sizes, groups, seeds.stream(seed, "split"))
    order = spread(labels, seeds.stream(seed, "split"))
    end_members = sizes.members
    end_nonmembers = end_members + sizes.nonmembers
    nonmembers = order[end_members:end_nonmembers]
    shared = sizes.validation is None
    validation = nonmembers if shared else order[end_nonmembers : end_nonmembers + (sizes.validation or 0)]
    return Plan(members=order[:end_members], nonmembers=nonmembers, validation=validation, validation_is_nonmembers=shared)


def _grouped(labels: NDArray[np.int64], sizes: Sizes, groups: NDArray[np.int64], rng: np.random.Generator) -> Plan:
    shared = sizes.validation is None
    wanted = {"members": sizes.members, "nonmembers": sizes.nonmembers, "validation": sizes.validation or 0}
    sides = blocks(spread_groups(labels, groups, rng), groups, wanted)
    check_enough({name: sides[name] for name in ("members", "nonmembers")}, groups)
    return Plan(
        members=sides["members"], nonmembers=sides["nonmembers"], validation=sides["nonmembers" if shared else "validation"],
        validation_is_nonmembers=shared,
    )  # fmt: skip


def replace_labels(
    labels: NDArray[np.int64], sides: Mapping[str, Index], *, share: float, classes: int, seed: int
) -> NDArray[np.int64]:
    """Label noise: on every side of a plan, exactly ``round(share * n)`` labels become another class, each equally likely.

    The share is the same for members and non-members, so noise adds something to memorize without distinguishing the sides.

    Returns:
        (n,) labels; records outside the plan keep their labels.
    """
    noisy = labels.copy()
    for name, side in sides.items():
        rng = seeds.stream(seed, "label_noise", name)
        hit = rng.choice(side, size=round(share * len(side)), replace=False)
        noisy[hit] = (noisy[hit] + rng.integers(1, classes, size=len(hit))) % classes
    return noisy
