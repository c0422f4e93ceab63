"""Canaries: records that are planted in training sets to see how much a model reveals about records like them.

A fair coin decides for each canary whether it is a member of a model, so that epsilon can be bounded from their scores. Canaries
are audited separately: they are never among the members and non-members of a plan, whose metrics are still about ordinary records.

Where canaries come from depends on their kind:

========================  ================================================  =======================================================
kind                      records                                           labels
========================  ================================================  =======================================================
``natural``               of the data set, on no side of the plan           their own, with the share of label noise of the sides
``mislabelled``           the same                                          another class, each equally likely
``duplicated``            the same as natural, each planted several times   as natural
``out_of_distribution``   of another data set                               any class, each equally likely
``noise``                 artificial: each feature is drawn by itself from  any class, each equally likely
                          the values that it has in the data set
========================  ================================================  =======================================================

Noise is drawn from the features' own values and not uniformly over their range, so that one rule serves pixels, sparse bits and tables:
a bit set keeps its share of ones, a column of words its words and gaps, and numbers stay in their range, while nothing that holds
between features is left. All draws follow from one seed, which must be the split's (`memberscope.plans.keyed.split_seed`): anyone who
cannot reproduce the split cannot reproduce the canaries or their coin flips either.

Index arithmetic and arrays, without training.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope import seeds
from memberscope.checks import Array
from memberscope.config.shared import CANARIES_OF_THE_DATA, CANARY_KINDS
from memberscope.datasets.labeled import LabeledData, joined
from memberscope.datasets.table import WORD
from memberscope.errors import UserError, nearest
from memberscope.plans.keyed import split_seed
from memberscope.plans.split import Index

NATURAL, MISLABELLED, OUT_OF_DISTRIBUTION, NOISE, DUPLICATED = CANARY_KINDS
KINDS, OF_THE_DATA = CANARY_KINDS, CANARIES_OF_THE_DATA


@dataclass(frozen=True, kw_only=True, eq=False)
class Canaries:
    """Records to plant. Which of them a model is trained on is not stored here: see `flip_coins` and `canary_membership`.

    Attributes:
        kind: one of `KINDS`.
        x: (m, ...) the records, in the type in which the data set stores its own.
        y: (m,) int64 the labels with which they are planted.
        records: (m,) the positions in the data set from which they were taken; None if they are not of the data set.
        copies: how many times a canary is planted if its coin flip says so. The copies share one coin, and the canary is one unit of the
        audit.
        source: their origin, for people.

    Raises:
        ValueError: the arrays do not fit each other.
    """

    kind: str
    x: NDArray[Any]
    y: NDArray[np.int64]
    records: Index | None
    copies: int
    source: str

    def __post_init__(self) -> None:
        """Check that the arrays fit each other."""
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind}: unknown; allowed: {', '.join(KINDS)}")
        if self.y.shape != (len(self.x),) or (self.records is not None and self.records.shape != self.y.shape):
            raise ValueError(f"{len(self.x)} canaries with labels of shape {self.y.shape}")
        if self.copies < 1 or (self.kind == DUPLICATED and self.copies < 2):
            raise ValueError(f"copies={self.copies} of {self.kind} canaries")

    def __len__(self) -> int:
        """The number of canaries, each counted once."""
        return len(self.y)

    @property
    def facts(self) -> dict[str, int | str]:
        """What a run's parameters say about them: what was requested, and nothing about any single canary."""
        return {"data.canaries": len(self), "data.canary_kind": self.kind, "data.canary_copies": self.copies}

    @property
    def about(self) -> dict[str, int | str]:
        """What a plan's folder records about them in addition to their arrays."""
        return {"kind": self.kind, "count": len(self), "copies": self.copies, "source": self.source}

    @property
    def digest(self) -> str:
        """SHA-256 over kind, copies, records and labels."""
        sha = hashlib.sha256(f"{self.kind} {self.copies} {self.x.dtype.str} {self.x.shape}".encode())
        sha.update(np.ascontiguousarray(self.x).tobytes())
        sha.update(np.ascontiguousarray(self.y, dtype="<i8").tobytes())
        return sha.hexdigest()

    @property
    def tests_one_record(self) -> bool:
        """Whether a canary is one record of the training set, which is what differential privacy of records promises something about.

        With c copies, a promise of (epsilon, delta) for one record is one of (c epsilon, ...) for the c records of a canary together, so a
        bound of epsilon from such canaries refutes nothing that was promised.
        """
        return self.copies == 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Planted:
    """A data set with canaries after its own records, whose positions stay the same.

    Attributes:
        data: the n records of the data set, then the canaries, c times over if each has c copies.
        canaries: the canaries.
        first: n, the position of the first canary.
    """

    data: LabeledData
    canaries: Canaries
    first: int

    @property
    def rows(self) -> Index:
        """(m,) the position in `data` of each canary (of its first copy), with which models are queried."""
        return np.arange(self.first, self.first + len(self.canaries), dtype=np.int64)

    def members(self, planted: NDArray[np.bool_]) -> Index:
        """Positions in `data` of the canaries that a model is trained on, all copies of each: to be appended to its index set.

        Args:
            planted: (m,) bool, the canaries' coins for this model.
        """
        copies = np.arange(self.canaries.copies)[:, None] * len(self.canaries)
        return (self.rows[planted][None, :] + copies).reshape(-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class CanaryRequest:
    """The canaries that a study is to plant, as its options name them.

    Attributes:
        kind, count, copies: see `draw_canaries`.
        other: the data set whose records ``out_of_distribution`` takes.
    """

    kind: str
    count: int
    copies: int = 1
    other: LabeledData | None = None

    @property
    def reserved(self) -> int:
        """The number of records of the data set that they take."""
        return self.count if self.kind in OF_THE_DATA else 0

    def seed(self, data: LabeledData, seed: int) -> int:
        """The seed from which the canaries of a study's `seed` and their coins are drawn: that of the split; see `memberscope.plans.keyed`.

        Records of another, private data set are drawn with the key even where the data set itself is public.
        """
        return split_seed(self.other if self.other is not None and self.other.keyed else data, seed)

    def plant(
        self, data: LabeledData, used: Index | Sequence[Index], *, seed: int, noise: float = 0.0,
        classes: NDArray[np.int64] | None = None,
    ) -> Planted:  # fmt: skip
        """Draw the canaries and plant them; the arguments are those of `draw_canaries`, the data set with its final labels."""
        drawn = draw_canaries(
            data, used, kind=self.kind, count=self.count, seed=seed, noise=noise, other=self.other, copies=self.copies,
            classes=classes,
        )  # fmt: skip
        return plant(data, drawn)


@dataclass(frozen=True, kw_only=True, eq=False)
class TargetCanaries:
    """The canaries of one model.

    Attributes:
        planted: the data set with the canaries.
        member: (m,) bool, the canaries that the model is trained on.
    """

    planted: Planted
    member: NDArray[np.bool_]

    @property
    def members(self) -> Index:
        """Positions in the data set with canaries of all copies of those that the model is trained on."""
        return self.planted.members(self.member)

    @property
    def facts(self) -> dict[str, int | str]:
        """What a run's parameters say about them."""
        return self.planted.canaries.facts


def draw_canaries(
    data: LabeledData,
    used: Index | Sequence[Index],
    *,
    kind: str,
    count: int,
    seed: int,
    noise: float = 0.0,
    other: LabeledData | None = None,
    copies: int = 1,
    classes: NDArray[np.int64] | None = None,
) -> Canaries:
    """Draw canaries of a kind.

    Args:
        data: the data set, with labels before label noise for the records outside `used`.
        used: positions of the records on any side of the plan, of which none becomes a canary; one array or several.
        kind: one of `KINDS`.
        count: m, the number of canaries.
        seed: the streams ``("canaries", ...)`` of this seed draw records, values and labels.
        noise: the share of labels that was replaced on the sides of the plan, which natural canaries get too: they are to be like the
            records that the model is trained on.
        other: the data set whose records ``out_of_distribution`` takes.
        copies: how often each is planted.
        classes: those from which labels are drawn, in any order; None for all.

    Returns:
        The canaries, in random order. If the records have groups, no two canaries are of one group, so that each is a unit of its own.

    Raises:
        UserError: an unknown kind; fewer than two copies with ``duplicated``; fewer records outside the plan than canaries; no other data
            set, or one whose records have another shape or other columns, or are too few.
    """
    check_kind(kind, copies=copies)
    labels = seeds.stream(seed, "canaries", "labels")
    chosen = np.arange(data.classes) if classes is None else np.unique(classes)
    if kind in OF_THE_DATA:
        records = _outside(data, used, count, seeds.stream(seed, "canaries", "records"))
        x, y, source = data.x[records], data.y[records], f"records of {data.name} on no side of the plan"
        if kind == MISLABELLED:
            y = _another(y, chosen, labels)
        elif noise:
            hit = labels.choice(count, size=round(noise * count), replace=False)
            y = y.copy()
            y[hit] = _another(y[hit], chosen, labels)
        return Canaries(kind=kind, x=np.asarray(x), y=y.astype(np.int64), records=records, copies=copies, source=source)
    y = chosen[labels.integers(0, len(chosen), size=count)].astype(np.int64)
    values = seeds.stream(seed, "canaries", "values")
    if kind == NOISE:
        x, source = _noise(data, count, values), f"noise with the values of each feature of {data.name}"
    else:
        if other is None:
            raise UserError(
                f"canary_kind={kind}: needs another data set; allowed: canary_data=NAME_OR_PATH with it, or another kind"
            )
        x, source = _of_other(data, other, count, values), f"records of {other.name}"
    return Canaries(kind=kind, x=x, y=y, records=None, copies=copies, source=source)


def check_kind(kind: str, *, copies: int) -> None:
    """Raise UserError for an unknown kind, or for fewer than two copies of duplicated canaries."""
    if kind not in KINDS:
        raise UserError(f"canary_kind={kind}: unknown; allowed: {', '.join(KINDS)}{nearest(kind, KINDS)}")
    if copies < 1 or (kind == DUPLICATED and copies < 2):
        least = 2 if kind == DUPLICATED else 1
        raise UserError(f"canary_copies={copies}: too few for canary_kind={kind}; allowed: {least} or more")


def plant(data: LabeledData, canaries: Canaries) -> Planted:
    """The data set with the canaries after its own records. A trainer needs no changes: its index sets just hold more positions.

    Args:
        data: the data set, with its final labels.
        canaries: the canaries; each is a group of its own if the records have groups.
    """
    m, c = len(canaries), canaries.copies
    more = np.tile(np.arange(m, dtype=np.int64), c)
    x = joined(data.x, np.tile(canaries.x, (c, *[1] * (canaries.x.ndim - 1))))
    return Planted(
        data=dataclasses.replace(
            data, x=x, y=np.concatenate([data.y, np.tile(canaries.y, c)]),
            same=None if data.same is None else np.concatenate([data.same, len(data) + more]),
            groups=None if data.groups is None else np.concatenate([data.groups, data.groups.max(initial=-1) + 1 + more]),
        ),
        canaries=canaries, first=len(data),
    )  # fmt: skip


def flip_coins(count: int, *, seed: int) -> NDArray[np.bool_]:
    """(count,) bool: for each canary, whether the one model that is audited is trained on it, by an independent fair coin flip.

    Args:
        count: number of canaries.
        seed: the stream ``("canaries", "coins")`` of this seed flips the coins; the split's seed, see `memberscope.plans.keyed`.
    """
    coins: NDArray[np.bool_] = seeds.stream(seed, "canaries", "coins").random(count) < 0.5
    return coins


def canary_membership(
    count: int, *, design: str, models: int, seed: int, targets: Sequence[int] | Array | None = None
) -> NDArray[np.bool_]:
    """(models, count) bool: the canaries that each model of a fleet is trained on.

    In a fleet of design ``half``, exactly one of the models 2i and 2i + 1 is trained on a canary, as on every other record. Each model's
    own membership is then a fair coin per canary, and so is a target's given all of its shadows, since its twin is none of them
    (`memberscope.plans.shadow`). In ``disjoint``, the targets flip coins of their own, and no shadow sees a canary: an outside attacker
    does not have the target's records.

    Args:
        count: number of canaries.
        design: ``half`` or ``disjoint``.
        models: number of models; even in ``half``.
        seed: the stream ``("canaries", "coins")`` of this seed flips the coins; the split's seed, see `memberscope.plans.keyed`.
        targets: the models of ``disjoint`` that are audited.

    Raises:
        ValueError: an odd number of models in ``half``, no targets in ``disjoint``, or another design.
    """
    rng = seeds.stream(seed, "canaries", "coins")
    if design == "half":
        if models % 2:
            raise ValueError(f"{models} models of a half plan are not pairs")
        first: NDArray[np.bool_] = rng.random((models // 2, count)) < 0.5
        paired: NDArray[np.bool_] = np.stack([first, ~first], axis=1).reshape(models, count)
        return paired
    if design != "disjoint" or targets is None:
        raise ValueError(f"design={design}, targets={targets}: allowed: half, or disjoint with targets")
    member = np.zeros((models, count), dtype=np.bool_)
    chosen = np.asarray(targets, dtype=np.intp)
    member[chosen] = rng.random((len(chosen), count)) < 0.5
    return member


def _outside(data: LabeledData, used: Index | Sequence[Index], count: int, rng: np.random.Generator) -> Index:
    """`count` records on no side of the plan, drawn at random: one of each group, and none of which a copy is on a side or drawn too."""
    taken = np.zeros(len(data), dtype=np.bool_)
    for part in [used] if isinstance(used, np.ndarray) else used:
        taken[part] = True
    if data.same is not None:  # a copy of a record that is on a side says nothing of its own
        taken |= np.isin(data.same, data.same[taken])
    left = rng.permutation(np.flatnonzero(~taken)).astype(np.int64)
    what = "records"
    for numbers in (data.same, data.groups):
        if numbers is not None:
            _, first = np.unique(numbers[left], return_index=True)
            left = left[np.sort(first)]
    if data.groups is not None:
        what = "groups of records"
    if len(left) < count:
        raise UserError(
            f"canaries={count}: {len(left)} {what} of {data.name} are on no side of the plan; allowed: at most {len(left)}, or lower "
            "members, nonmembers, validation or population, or canary_kind=noise"
        )
    return left[:count]


def _another(y: NDArray[np.int64], chosen: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """(m,) for each label another one of the chosen classes, each equally likely."""
    place = np.searchsorted(chosen, y)
    other: NDArray[np.int64] = chosen[(place + rng.integers(1, len(chosen), size=len(y))) % len(chosen)]
    return other


def _noise(data: LabeledData, count: int, rng: np.random.Generator) -> NDArray[Any]:
    """(count, ...) records, each feature of which is taken from a record that is drawn independently for this feature."""
    flat = data.x.reshape(len(data), -1)
    features = np.arange(flat.shape[1])
    rows = [flat[rng.integers(0, len(data), size=len(features)), features] for _ in range(count)]
    return np.asarray(rows, dtype=data.x.dtype).reshape(count, *data.shape)


def _of_other(data: LabeledData, other: LabeledData, count: int, rng: np.random.Generator) -> NDArray[Any]:
    """(count, ...) records of another data set, as `data` stores its own."""
    where = f"canary_data={other.name}"
    order = rng.permutation(len(other)).astype(np.int64)
    if data.table is not None or other.table is not None:
        rows, known = _as_rows_of(where, data, other)
        order = order[known[order]]
        _check_count(count, len(order), where)
        picked: NDArray[Any] = rows[order[:count]]
        return picked
    if other.shape != data.shape:
        raise UserError(
            f"{where}: records of shape {other.shape}; allowed: {data.shape}, the shape of the records of {data.name}"
        )
    _check_count(count, len(order), where)
    if data.x.dtype == other.x.dtype:
        return np.asarray(other.x[order[:count]])
    if not all(_in_unit_range(one) for one in (data, other)):
        raise UserError(
            f"{where}: numbers stored as {other.x.dtype}; allowed: {data.x.dtype}, in which {data.name} stores its own, or numbers in "
            "[0, 1] in both"
        )
    return data.stored(other.scaled(order[:count]))


def _in_unit_range(data: LabeledData) -> bool:
    """Whether the records' scaled numbers are in [0, 1], judged by the first thousand."""
    some = data.scaled(np.arange(min(len(data), 1000), dtype=np.int64))
    return data.x.dtype.kind in "fub" and bool(((some >= 0) & (some <= 1)).all())


def _check_count(count: int, available: int, where: str) -> None:
    if available < count:
        raise UserError(f"canaries={count}: {where} has {available} records to plant; allowed: at most {available}")


def _as_rows_of(where: str, data: LabeledData, other: LabeledData) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The other table's records under the columns and codes of `data` (n, columns), and whether each can be held (n,): a record with a
    word that `data` does not have cannot.
    """
    if data.table is None or other.table is None:
        mine, theirs = ("a table" if one.table is not None else "an array" for one in (data, other))
        raise UserError(f"{where}: {theirs}; allowed: {mine}, as {data.name} is")
    place = {column.name: k for k, column in enumerate(other.table.columns)}
    rows, known = np.empty((len(other), len(data.table.columns))), np.ones(len(other), dtype=np.bool_)
    for k, column in enumerate(data.table.columns):
        if column.name not in place:
            raise UserError(f"{where}: has no column {column.name}; allowed: a table with the columns of {data.name}")
        found = other.table.columns[place[column.name]]
        if (found.kind == WORD) != (column.kind == WORD):
            raise UserError(f"{where}: column {column.name} is of kind {found.kind}; allowed: {column.kind}, as in {data.name}")
        values = np.asarray(other.x[:, place[column.name]], dtype=np.float64)
        if column.kind == WORD:
            code = {word: number for number, word in enumerate(column.categories)}
            codes = np.array([code.get(word, -1) for word in found.categories], dtype=np.float64)
            missing = np.isnan(values)
            values = np.where(missing, np.nan, codes[np.where(missing, 0, values).astype(np.int64)] if len(codes) else np.nan)
            known &= values != -1
        elif column.whole:
            known &= np.isfinite(values) & (values == np.floor(values))
        rows[:, k] = values
    return rows, known
