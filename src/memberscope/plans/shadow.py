"""The membership of records in many models: the two designs of shadow models, and what each guarantees.

``half``: every model, target or shadow, is trained on half of one pool. Models come in complementary pairs, so each record is a member of
exactly one model of each pair. Any model may be the target; its twin is then not used as a shadow, and each record is a member of exactly
half of the other models, independently of the target. (If the target itself were one of the "exactly half", LiRA would have an AUC of 0.43
to 0.48 without any signal.)

``disjoint``: no shadow sees a record of the targets. Targets share a block of records, shadows have a pool of their own, and each model is
trained on a random half of its block or pool. This is the situation of an outside attacker who has data like the target's, but not the
target's own.

Plain index arithmetic over labels, like `memberscope.plans.split`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from memberscope import seeds
from memberscope.errors import UserError, nearest
from memberscope.npz import read_npz, write_npz
from memberscope.plans.split import Index, spread, spread_groups
from memberscope.plans.whole_groups import blocks as whole_blocks
from memberscope.plans.whole_groups import check_enough, most_frequent, numbered

Rows = NDArray[np.intp]
DESIGNS = ("half", "disjoint")
LEAST_HALF = 10  # fewest members of a model
USUAL_TARGETS = 8


@dataclass(frozen=True, kw_only=True)
class ShadowPlan:
    """The membership of every model of a study, over one data set.

    Attributes:
        design: ``half`` or ``disjoint``.
        records: (n,) positions in the data set of all records that some model may be trained on.
        block: (n,) bool, whether the record is one of those that the targets are trained and audited on. All true in ``half``.
        member: (n_models, n) bool, whether the record is in the model's training set.
        targets: (n_targets,) the models that are audited in turn.
        population: (p,) positions of records that no model is trained on.
        coin_flips: whether the membership of every record in every model was drawn by an independent fair coin (in ``half``, one coin per
            pair). Otherwise it was balanced: half of the records of each class, one more or less if their number is odd.

    Raises:
        ValueError: the plan breaks a guarantee of its design.
    """

    design: str
    records: Index
    block: NDArray[np.bool_]
    member: NDArray[np.bool_]
    targets: Rows
    population: Index
    coin_flips: bool

    def __post_init__(self) -> None:
        """Check the guarantees of the design."""
        if self.design not in DESIGNS:
            raise ValueError(f"design={self.design}: unknown; allowed: {', '.join(DESIGNS)}")
        if self.member.dtype != np.bool_ or self.block.dtype != np.bool_:
            raise ValueError("member and block of a shadow plan must be bool")
        if (
            not (0 < len(np.unique(self.targets)) == len(self.targets))
            or not np.isin(self.targets, np.arange(len(self.member))).all()
        ):
            raise ValueError("targets of a shadow plan must be different models of it, at least one")
        every = np.concatenate([self.records, self.population])
        if len(np.unique(every)) != len(every):
            raise ValueError("the records and the population of a shadow plan repeat a record")
        if self.member.shape != (len(self.member), len(self.records)) or self.block.shape != self.records.shape:
            raise ValueError("membership does not fit the records")
        if self.design == "half":
            if not self.block.all():
                raise ValueError("the block of a half plan is all of its records")
            if len(self.member) % 2 or not (self.member[0::2] ^ self.member[1::2]).all():
                raise ValueError("models 2i and 2i+1 of a half plan must be complementary")
        else:
            shadow = np.ones(len(self.member), dtype=np.bool_)
            shadow[self.targets] = False
            if self.member[shadow][:, self.block].any() or self.member[~shadow][:, ~self.block].any():
                raise ValueError("a shadow of a disjoint plan is trained on a record of the targets, or the reverse")

    @property
    def n_models(self) -> int:
        """All models: targets and shadows."""
        return len(self.member)

    @property
    def audited(self) -> Rows:
        """(m,) positions in `records` of the records that every target is audited on: its members and as many others."""
        return np.flatnonzero(self.block)

    def shadows_of(self, target: int) -> Rows:
        """The models that serve as shadows when `target` is audited: all but itself and its twin, or those of the shadows' pool."""
        models: Rows = np.arange(self.n_models)
        return models[models // 2 != target // 2] if self.design == "half" else np.setdiff1d(models, self.targets)

    def with_pool(self, pool: Index, labels: NDArray[np.int64], *, seed: int) -> ShadowPlan:
        """The same targets and population, with shadows that are trained on halves of other records.

        Args:
            pool: (m,) positions of the new pool, none of which is in the targets' block or the population.
            labels: (n,) class of each record of the data set.
            seed: the stream ``("shadow_plan", "pool")`` draws the halves.

        Raises:
            UserError: a plan of design ``half``, or a pool of fewer than 20 records.
        """
        if self.design != "disjoint":
            raise UserError(f"design={self.design}: shadows have no pool of their own; allowed here: disjoint")
        if len(pool) < 2 * LEAST_HALF:
            raise UserError(f"shadow_data: {len(pool)} records in the pool; allowed: at least {2 * LEAST_HALF}")
        rng = seeds.stream(seed, "shadow_plan", "pool")
        own = self.audited
        member = np.zeros((self.n_models, len(own) + len(pool)), dtype=np.bool_)
        member[:, : len(own)] = self.member[:, own]
        for shadow in np.setdiff1d(np.arange(self.n_models), self.targets):
            member[shadow, len(own) :] = _half(labels[pool], self.coin_flips, rng)
        return ShadowPlan(
            design=self.design, records=np.concatenate([self.records[own], pool]), block=np.arange(member.shape[1]) < len(own),
            member=member, targets=self.targets, population=self.population, coin_flips=self.coin_flips,
        )  # fmt: skip

    def members(self, model: int) -> Index:
        """Positions in the data set of the members of `model`, in the order of `records`."""
        chosen: Index = self.records[self.member[model]]
        return chosen

    @property
    def digest(self) -> str:
        """SHA-256 over the design, the records, the membership matrix and the population."""
        sha = hashlib.sha256(f"{self.design} {self.coin_flips} {self.member.shape}".encode())
        for array in (self.records, self.population, self.targets):
            sha.update(len(array).to_bytes(8, "little"))
            sha.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        for mask in (self.block, self.member):
            sha.update(np.packbits(mask).tobytes())
        return sha.hexdigest()

    def save(self, path: Path) -> None:
        """Write the plan as an ``.npz``."""
        arrays = {name: getattr(self, name) for name in ("records", "block", "member", "targets", "population")}
        write_npz(path, {**arrays, "design": np.array(self.design), "coin_flips": np.array(self.coin_flips)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a plan that `save` wrote.

        Raises:
            UserError: the file is damaged, lacks an array, or has a plan that breaks a guarantee of its design.
        """
        arrays = read_npz(path)
        try:
            design, coin_flips = arrays.pop("design"), arrays.pop("coin_flips")
            if design.shape or coin_flips.shape or coin_flips.dtype != np.bool_:
                raise ValueError(f"design of shape {design.shape}, coin_flips {coin_flips.dtype} of shape {coin_flips.shape}")
            for name in ("records", "targets", "population"):
                if arrays[name].ndim != 1 or arrays[name].dtype.kind not in "iu":
                    raise ValueError(f"{name} is {arrays[name].dtype} of shape {arrays[name].shape}")
            return cls(design=str(design), coin_flips=bool(coin_flips), **arrays)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(f"{path}: not a shadow plan ({error}); allowed: a file that ShadowPlan.save wrote") from None


def make_shadow_plan(
    labels: NDArray[np.int64],
    *,
    design: str,
    members: int,
    population: int | str,
    shadows: int,
    targets: int | str,
    coin_flips: bool,
    seed: int,
    groups: NDArray[np.int64] | None = None,
) -> ShadowPlan:
    """Draw a plan, balanced by class unless `coin_flips`.

    Args:
        labels: (n,) class of each record of the data set.
        design: ``half`` or ``disjoint``.
        members: number of records that each model is trained on (with coin flips: on average). The targets' block has twice as many
            records, and so has the shadows' pool of ``disjoint``.
        population: number of records that no model sees, or ``"auto"``: as many as `members`, or all that are left if they are fewer.
        shadows: number of shadow models with which each target is attacked. ``half`` trains two more (the target and its twin).
        targets: number of models that are audited in turn, or ``"auto"``: 8, or all models of ``half`` if these are fewer.
        coin_flips: whether to draw each membership by an independent fair coin flip.
        seed: the streams ``("shadow_plan", ...)`` of this seed determine the plan.
        groups: (n,) the records' groups. Whole groups are then members of a model or not: coins are flipped for groups, or half of the
            groups of each class (by their most frequent) are drawn, and numbers of records hold approximately.

    Raises:
        UserError: an unknown design; no shadows, or an odd number of them with ``half``; more targets than models; a data set that is too
            small (the message gives the largest `members` that fits).
    """
    if design not in DESIGNS:
        raise UserError(f"design={design}: unknown; allowed: {', '.join(DESIGNS)}{nearest(design, DESIGNS)}")
    if shadows < 1:
        raise UserError(f"shadows={shadows}: none; allowed: at least {2 if design == 'half' else 1}")
    if design == "half" and shadows % 2:
        raise UserError(
            f"shadows={shadows}: odd; design=half trains complementary pairs; allowed: {shadows - 1 or 2} or {shadows + 1}"
        )
    if targets == "auto":
        targets = min(USUAL_TARGETS, shadows + 2) if design == "half" else USUAL_TARGETS
    targets = int(targets)
    most = shadows + 2 if design == "half" else targets
    if not 1 <= targets <= most:
        raise UserError(f"targets={targets}: allowed: 1 to {most}, the models that design=half with shadows={shadows} trains")
    _check_room(len(labels), design, members, population)
    blocks = 2 if design == "half" else 4
    rng = seeds.stream(seed, "shadow_plan", "order")
    n_records = blocks * members
    n_population = min(members, len(labels) - n_records) if population == "auto" else int(population)
    if groups is None:
        order = spread(labels, rng)
        records, outside = order[:n_records], order[n_records : n_records + n_population]
        in_block = 2 * members
    else:
        sizes = {
            "records of the targets": 2 * members,
            "records of the shadows": n_records - 2 * members,
            "population": n_population,
        }
        own, pool, outside = whole_blocks(spread_groups(labels, groups, rng), groups, sizes).values()
        records, in_block = np.concatenate([own, pool]), len(own)
    block = np.arange(len(records)) < in_block
    rng = seeds.stream(seed, "shadow_plan", "coin" if coin_flips else "balanced")
    of_class, of_group = labels[records], None if groups is None else groups[records]
    if design == "half":
        member = paired_halves(of_class, pairs=shadows // 2 + 1, groups=of_group, coin_flips=coin_flips, rng=rng)
        _check_groups(records, member[:2], groups)
        return ShadowPlan(
            design=design, records=records, block=block, member=member, targets=_spread_targets(targets, shadows + 2),
            population=outside, coin_flips=coin_flips,
        )  # fmt: skip
    member = np.zeros((targets + shadows, len(records)), dtype=np.bool_)
    for model in range(targets + shadows):
        side = block if model < targets else ~block
        member[model, side] = _half_of(of_class[side], None if of_group is None else of_group[side], coin_flips, rng)
    _check_groups(records, np.stack([member[0], block & ~member[0]]), groups)
    return ShadowPlan(
        design=design, records=records, block=block, member=member, targets=np.arange(targets), population=outside, coin_flips=coin_flips
    )  # fmt: skip


def paired_halves(
    labels: NDArray[np.int64],
    *,
    pairs: int,
    rng: np.random.Generator,
    groups: NDArray[np.int64] | None = None,
    coin_flips: bool = False,
) -> NDArray[np.bool_]:
    """(2 * pairs, n) bool: random halves of n records; rows 2i and 2i + 1 are complementary.

    Args:
        labels: (n,) classes, half of each of which is drawn unless `coin_flips`.
        pairs: the number of pairs.
        rng: draws them.
        groups: (n,) the records' groups, each of which is in a half as a whole.
        coin_flips: whether a fair coin decides on each record, or group.
    """
    first = np.stack([_half_of(labels, groups, coin_flips, rng) for _ in range(pairs)])
    member: NDArray[np.bool_] = np.stack([first, ~first], axis=1).reshape(2 * pairs, len(labels))
    return member


def _check_room(available: int, design: str, members: int, population: int | str) -> None:
    blocks = 2 if design == "half" else 4
    outside = 0 if population == "auto" else int(population)
    fits = (available - outside) // blocks
    if members <= fits and members >= LEAST_HALF:
        return
    held = f"{blocks} x members" + (f" and {outside} for the population" if outside else "")
    if fits < LEAST_HALF:
        raise UserError(f"population={population}: design={design} needs {held}; the data set has {available} records")
    raise UserError(
        f"members={members}: design={design} needs {held}, and the data set has {available} records; allowed: {LEAST_HALF} to {fits}"
    )


def _check_groups(records: Index, sides: NDArray[np.bool_], groups: NDArray[np.int64] | None) -> None:
    """Raise UserError if the members or the non-members of the first target (the two `sides`) have too few groups to be audited."""
    if groups is not None:
        check_enough({name: records[side] for name, side in zip(("members", "non-members"), sides, strict=True)}, groups)


def _half_of(
    labels: NDArray[np.int64], groups: NDArray[np.int64] | None, coin_flips: bool, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """(n,) bool: `_half` of the records, or of their groups, with all records of a group on its side."""
    if groups is None:
        return _half(labels, coin_flips, rng)
    names, of = numbered(groups)
    return _half(most_frequent(of, labels, len(names)).astype(np.int64), coin_flips, rng)[of]


def _half(labels: NDArray[np.int64], coin_flips: bool, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(n,) bool: a fair coin for each record, or half of each class, and of the records left over in odd classes half."""
    n = len(labels)
    if coin_flips:
        return rng.random(n) < 0.5
    order = rng.permutation(n)
    order = order[np.argsort(labels[order], kind="stable")]  # class by class, in random order within
    chosen = np.zeros(n, dtype=np.bool_)
    # One of each two neighbours in this order is chosen: half of each class, and one of two neighbours from different (odd) classes.
    pairs = order[: n - n % 2].reshape(-1, 2)
    side = rng.integers(0, 2, size=len(pairs))
    chosen[pairs[np.arange(len(pairs)), side]] = True
    if n % 2:
        chosen[order[-1]] = rng.random() < 0.5
    return chosen


def _spread_targets(targets: int, models: int) -> Rows:
    """The models to audit, from as many different pairs as possible: first one of each pair, then the twins."""
    order: Rows = np.concatenate([np.arange(0, models, 2), np.arange(1, models, 2)])
    return order[:targets]
