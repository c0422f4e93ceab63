"""One type for every data set: records, labels, class names, and a digest of their content."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import tempfile
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope import seeds
from memberscope.checks import row_chunks
from memberscope.datasets.table import Table
from memberscope.errors import UserError, nearest


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Numbers of records on the sides. `members` 0: all the rest. `validation` None: training is monitored on the audited non-members."""

    members: int
    nonmembers: int
    validation: int | None


@dataclass(frozen=True, kw_only=True)
class LabeledData:
    """Records with labels.

    Attributes:
        name: the user's name for it.
        x: (n, ...) records as they are stored: uint8 images, bool tables, or float32, or numbers of any type that were read as they are,
            perhaps memory-mapped. They keep their type until a batch is made.
        y: (n,) int64 labels in 0..classes-1.
        class_names: one name per class.
        source: its origin, for people.
        sizes: the data set's own default sizes, if it has any.
        label_noise: the share of labels that studies replace by default.
        notes: what was done to the records when they were read, and which were left out, as clauses for people.
        copies: number of exact copies in the data set when it was read (see `memberscope.datasets.duplicates`).
        same: (n,) numbers that exact copies share; None if there are no copies, or none were kept.
        table: the columns of which `x` holds the numbers and codes; None for arrays.
        groups: (n,) numbers that the records of one group share, such as those of one person; None if no groups were named.
        keyed: whether the records are nobody else's business, so that splits and shown digests depend on the user's key (see
            `memberscope.plans.keyed`).
    """

    name: str
    x: NDArray[Any]
    y: NDArray[np.int64]
    class_names: tuple[str, ...]
    source: str
    sizes: Sizes | None = None
    label_noise: float = 0.0
    notes: tuple[str, ...] = ()
    copies: int = 0
    same: NDArray[np.int64] | None = None
    table: Table | None = None
    groups: NDArray[np.int64] | None = None
    keyed: bool = False

    def __post_init__(self) -> None:
        """Check that the arrays fit each other."""
        if len(self.x) != len(self.y) or self.y.ndim != 1:
            raise UserError(
                f"dataset={self.name}: {len(self.x)} records with labels of shape {self.y.shape}; allowed: one label per record"
            )
        if len(self.y) and not (self.y.min() >= 0 and self.y.max() < len(self.class_names)):
            advice = ": leave out records without a label, and count classes from 0" if self.y.min() < 0 else ""
            raise UserError(
                f"dataset={self.name}: labels from {self.y.min()} to {self.y.max()}, for {len(self.class_names)} classes; allowed: "
                f"0 to {len(self.class_names) - 1}{advice}"
            )
        for name, numbers in (("copies", self.same), ("groups", self.groups)):
            if numbers is not None and numbers.shape != self.y.shape:
                raise ValueError(f"{numbers.shape} numbers of {name} for {len(self.y)} records")
        if self.table is not None and self.shape != (len(self.table.columns),):
            raise ValueError(f"records of shape {self.shape} for a table of {len(self.table.columns)} columns")

    def __len__(self) -> int:
        """The number of records."""
        return len(self.y)

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one record."""
        return tuple(self.x.shape[1:])

    @property
    def scale(self) -> float:
        """The divisor that maps records to [0, 1]: 255 for uint8, else 1."""
        return 255.0 if self.x.dtype == np.uint8 else 1.0

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all records and labels, with their types and shapes, and of a table's columns, without which its codes say nothing."""
        sha = hashlib.sha256()
        for array in (self.x, self.y):
            sha.update(f"{array.dtype.str}{array.shape}".encode())
            for rows in row_chunks(len(array), math.prod(array.shape[1:])):  # a memory map may be larger than the memory
                sha.update(np.ascontiguousarray(array[rows]).data)
        if self.table is not None:
            sha.update(json.dumps(self.table.to_dict(), sort_keys=True).encode())
        return sha.hexdigest()

    def inputs(self, index: NDArray[np.int64]) -> NDArray[Any]:
        """(len(index), ...) records for controls and attacks that look at the inputs: numbers, also for a table's words (`Table.plain`)."""
        rows: NDArray[Any] = self.x[index]
        return rows if self.table is None else self.table.plain(rows)

    def part(self, rows: NDArray[np.int64]) -> LabeledData:
        """The records in these rows alone, in this order, with their labels, groups and numbers of copies."""
        return dataclasses.replace(
            self, x=rows_of(self.x, rows), y=self.y[rows],
            same=None if self.same is None else self.same[rows],
            groups=None if self.groups is None else self.groups[rows],
        )  # fmt: skip

    def part_digest(self, name: str, index: NDArray[np.int64]) -> str:
        """SHA-256 of a named part: of the whole data set's digest, the name, and the positions of its records."""
        content = f"{self.digest}{name}".encode() + np.ascontiguousarray(index, dtype="<i8").tobytes()
        return hashlib.sha256(content).hexdigest()

    def extended(self, x: NDArray[Any], y: NDArray[np.int64], *, source: str, as_is: bool = False) -> LabeledData:
        """The data set with other records of the same shape appended: floats in [0, 1], which are converted to the data set's type.

        Args:
            x: (m, ...) records in [0, 1].
            y: (m,) their labels.
            source: their origin, for people.
            as_is: `x` holds numbers as the data set itself stores them instead.

        Raises:
            UserError: another shape, numbers that the data set's type cannot hold, labels of unknown classes, or a table with words.
        """
        if self.table is not None and self.table.words:
            raise UserError(
                f"shadow_data: {self.name} is a table with words, to which made records cannot be added; allowed: real"
            )
        if x.shape[1:] != self.shape:
            raise UserError(
                f"shadow_data: records of shape {x.shape[1:]}; allowed: {self.shape}, the shape of the records of {self.name}"
            )
        if len(y) and not 0 <= int(y.min()) <= int(y.max()) < self.classes:
            raise UserError(
                f"shadow_data: labels from {y.min()} to {y.max()}; allowed: 0 to {self.classes - 1}, the classes of {self.name}"
            )
        more = x.astype(self.x.dtype) if as_is else self.stored(x)
        if as_is and self.x.dtype.kind != "f" and not np.array_equal(more, x):
            raise UserError(
                f"shadow_data: numbers that {self.x.dtype} cannot hold; allowed: such as {self.name} itself stores, in {self.x.dtype}"
            )
        return dataclasses.replace(
            self, x=np.concatenate([self.x, more]), y=np.concatenate([self.y, y.astype(np.int64)]),
            source=f"{self.source}; with {len(x)} records {source}", same=None,
            groups=None if self.groups is None else np.concatenate([self.groups, self.groups.max(initial=-1) + 1 + np.arange(len(x))]),
        )  # fmt: skip

    def stored(self, x: NDArray[Any]) -> NDArray[Any]:
        """Records (m, ...) in [0, 1] in the data set's own type, the reverse of `scaled`."""
        if self.x.dtype == np.uint8:
            x = np.round(x * 255.0)
        elif self.x.dtype == np.bool_:
            x = x >= 0.5
        return x.astype(self.x.dtype)

    def noise_share(self, requested: float | str) -> float:
        """The share of labels to replace: as requested, or the data set's own for ``auto``."""
        return self.label_noise if requested == "auto" else float(requested)

    def with_labels(self, y: NDArray[np.int64]) -> LabeledData:
        """The same records with other labels."""
        return dataclasses.replace(self, y=y)

    def scaled(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """(len(index), ...) float32 records in [0, 1]."""
        return self.x[index].astype(np.float32) / np.float32(self.scale)

    def choose(self, classes: str, *, choice: str, seed: int) -> LabeledData:
        """Keep some classes, renumbered in their old order.

        Args:
            classes: ``"all"``, a number, or names separated by commas.
            choice: ``"first"`` or ``"random"`` (drawn from the stream ``("classes",)`` of `seed`), for a number.
            seed: see `choice`.

        Raises:
            UserError: fewer than two classes, more than there are, or an unknown name (the message suggests the nearest).
        """
        kept = self._kept(classes, choice=choice, seed=seed)
        if len(kept) == self.classes:
            return self
        renumber = np.full(self.classes, -1, dtype=np.int64)
        renumber[kept] = np.arange(len(kept))
        rows = np.flatnonzero(np.isin(self.y, kept))
        share = len(rows) / len(self)
        sizes = self.sizes and Sizes(
            members=round(self.sizes.members * share),
            nonmembers=round(self.sizes.nonmembers * share),
            validation=None if self.sizes.validation is None else round(self.sizes.validation * share),
        )
        part = self.part(rows)
        return dataclasses.replace(part, y=renumber[part.y], class_names=tuple(self.class_names[k] for k in kept), sizes=sizes)

    def groups_of(self, index: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """The groups of some records, by position; None if no groups were named."""
        return None if self.groups is None else self.groups[index]

    def record_ids(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """(len(index),) an id for each record: its position or, if copies were kept, the number that copies share."""
        return index if self.same is None else self.same[index]

    def _kept(self, classes: str, *, choice: str, seed: int) -> list[int]:
        if classes == "all":
            return list(range(self.classes))
        allowed = f"2 to {self.classes}, or names among {', '.join(self.class_names)}"
        if classes.lstrip("+-").isdigit():
            count = int(classes)
            if not 2 <= count <= self.classes:
                raise UserError(f"classes={classes}: {self.name} has {self.classes} classes; allowed: {allowed}")
            if choice == "first":
                return list(range(count))
            return sorted(seeds.stream(seed, "classes").choice(self.classes, size=count, replace=False).tolist())
        names = [part.strip() for part in classes.split(",") if part.strip()]
        for name in names:
            if name not in self.class_names:
                raise UserError(
                    f"classes={classes}: {name!r} is not a class; allowed: {allowed}{nearest(name, self.class_names)}"
                )
        if len(set(names)) < 2:
            raise UserError(f"classes={classes}: at least two different classes are needed; allowed: {allowed}")
        return sorted({self.class_names.index(name) for name in names})


def rows_of(x: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """These rows of an array. Those of a memory map go to a temporary file, which is mapped in turn and vanishes with the array."""
    if not isinstance(x, np.memmap) or not len(rows):
        return x[rows]
    with tempfile.TemporaryFile() as file:
        for chunk in row_chunks(len(rows), math.prod(x.shape[1:])):
            file.write(np.ascontiguousarray(x[rows[chunk]]).data)
        file.flush()
        return np.memmap(file, dtype=x.dtype, mode="r", shape=(len(rows), *x.shape[1:]))


def joined(x: NDArray[Any], more: NDArray[Any]) -> NDArray[Any]:
    """Records with others of the same type behind them. With a memory map, both go to a temporary file, as with `rows_of`."""
    if not isinstance(x, np.memmap):
        return np.concatenate([x, more])
    with tempfile.TemporaryFile() as file:
        for part in (x, more):
            for chunk in row_chunks(len(part), math.prod(x.shape[1:])):
                file.write(np.ascontiguousarray(part[chunk]).data)
        file.flush()
        return np.memmap(file, dtype=x.dtype, mode="r", shape=(len(x) + len(more), *x.shape[1:]))
