"""All inputs of attacks: the target's predictions, and whatever else an attacker has obtained.

Every query to a model is made before an attack runs; an attack is a pure function of this evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from memberscope.aligned import check_in_place
from memberscope.checks import Array, BoolArray, check_finite, check_labels, frozen_view, is_number
from memberscope.errors import UserError
from memberscope.predictions import Predictions, ShadowPredictions

Index = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trajectories:
    """Losses of each record over the course of a training: for the target's records, and for those of a shadow model, whose membership is
    known.

    Attributes:
        target: (n, steps) losses in nats of the target's n records, one per step of a (distilled) training; the model itself comes last.
        shadow: (m, steps) the same for a shadow model, over its own records.
        shadow_labels: (m,) ints, the classes of these records.
        shadow_member: (m,) bool, whether the shadow model was trained on them.

    Raises:
        UserError: shapes that do not match, values that are not finite, a shadow without members or without non-members.
    """

    target: Array
    shadow: Array
    shadow_labels: Array
    shadow_member: BoolArray

    def __post_init__(self) -> None:
        """Check the fields against each other."""
        for item in fields(self):
            check_in_place(f"trajectories: {item.name}", getattr(self, item.name))
            object.__setattr__(self, item.name, frozen_view(item.name, getattr(self, item.name)))
        for name in ("target", "shadow"):
            array = getattr(self, name)
            if array.ndim != 2 or not is_number(array):
                raise UserError(f"trajectories: {name} of shape {array.shape}; allowed: real numbers (records, steps)")
            check_finite(f"trajectories: {name}", array)
        steps, rows = self.target.shape[1], len(self.shadow)
        if self.shadow.shape[1] != steps or self.shadow_labels.shape != (rows,) or self.shadow_member.shape != (rows,):
            shapes = f"{self.shadow.shape}, labels {self.shadow_labels.shape} and members {self.shadow_member.shape}"
            raise UserError(f"trajectories: shadow {shapes}; allowed: (m, {steps}), (m,) and (m,)")
        if self.shadow_member.dtype != np.bool_ or self.shadow_member.all() or not self.shadow_member.any():
            raise UserError("trajectories: shadow_member must be bool, with at least one member and one non-member")

    def __len__(self) -> int:
        """Number of the target's records."""
        return len(self.target)

    def select(self, index: Array) -> Trajectories:
        """Select some of the target's records; the shadow's records all stay."""
        return replace(self, target=self.target[index])


def _check_table(name: str, array: Array) -> None:
    """Raise unless the shape is (n, columns), with classes in `perturbed_labels` and finite numbers in the others."""
    if array.ndim != 2 or array.shape[1] == 0:
        raise UserError(f"{name}: shape {array.shape}; allowed: (records, columns) with at least one column")
    if name == "perturbed_labels":
        check_labels(name, array)
    elif not is_number(array):
        raise UserError(f"{name}: dtype {array.dtype}; allowed: real numbers")
    else:
        check_finite(name, array)


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """All inputs of attacks. Everything except the target is optional; an attack is skipped if something that it needs is absent.

    Attributes:
        target: the audited model's predictions, n records.
        shadows: models that imitate the target, over a pool of records. Where `record_ids` show that the pool contains the target's own
            records, `places` gives their positions, and attacks that calibrate record by record can run. Shadows of another data set may
            have a different number of classes; they must not share record_ids with the target.
        population: (1 + n_models) models, the target first, over p records that none of them was trained on.
        population_inputs: (p, ...) the inputs of the population's records; those of the target's records are in `target.inputs`.
        augmented: (1 + n_models, n, queries, classes) logits of augmented copies of the target's records, the target first.
        trajectories: losses along (distilled) trainings of the target and of a shadow model.
        gradients: (n, layers) norms of the gradient of the target's loss, by layer.
        perturbed_labels: (n, queries), the classes that the target predicts for perturbed copies of its records.
        loss_trace: (n, epochs), losses in nats of the target's records after each epoch of its own training, the last epoch last; see
            `memberscope.exposure.trace.LossTrace`.
        absent: why a field is None, as a phrase, for the reports of the attacks that need it; a field whose reason is obvious has none.
    """

    target: Predictions
    shadows: ShadowPredictions | None = None
    population: ShadowPredictions | None = None
    population_inputs: Array | None = None
    augmented: Array | None = None
    trajectories: Trajectories | None = None
    gradients: Array | None = None
    perturbed_labels: Array | None = None
    loss_trace: Array | None = None
    absent: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the fields against each other."""
        for name, kind in (("target", Predictions), ("shadows", ShadowPredictions), ("population", ShadowPredictions)):
            part = getattr(self, name)
            if not isinstance(part, kind) and (part is not None or name == "target"):
                raise UserError(f"{name}: {type(part).__name__}; allowed: {kind.__name__}")
        n = len(self.target)
        for name, axis in (("augmented", 1), ("gradients", 0), ("perturbed_labels", 0), ("loss_trace", 0)):
            array = getattr(self, name)
            if array is None:
                continue
            check_in_place(name, array)
            array = frozen_view(name, array)
            if array.ndim <= axis or array.shape[axis] != n:
                raise UserError(
                    f"{name}: shape {array.shape}; axis {axis} must have length {n}, the number of the target's records"
                )
            if name != "augmented":
                _check_table(name, array)
            object.__setattr__(self, name, array)
        self._check_kinds()
        if self.trajectories is not None and len(self.trajectories) != n:
            raise UserError(f"trajectories: {len(self.trajectories)} records; allowed: one row for each of the target's {n}")
        if self.population is not None and not self._same_classes(self.population):
            raise UserError(f"population: {self.population.n_classes} classes; the target has {self.target.n_classes}")
        if self.shadows is not None and not self.same_classes and self._share_records:
            raise UserError(
                f"shadows: {self.shadows.n_classes} classes; the target has {self.target.n_classes}, and some record_ids are in both; "
                "allowed: the same number of classes, or shadows of another data set, with their own record_ids or none"
            )
        if self.population is not None and self.population.member.any():
            raise UserError("population: some records are members; allowed: records that no model was trained on")
        self._check_apart()
        if self.population_inputs is not None:
            records = len(self.population) if self.population is not None else 0
            if len(self.population_inputs) != records:
                raise UserError(f"population_inputs: {len(self.population_inputs)} records; the population has {records}")
            check_in_place("population_inputs", self.population_inputs)
            object.__setattr__(self, "population_inputs", frozen_view("population_inputs", self.population_inputs))
        for name in ("population", "augmented"):
            part = getattr(self, name)
            if (
                part is not None
                and self.shadows is not None
                and len(getattr(part, "member", part)) != 1 + self.shadows.n_models
            ):
                count = len(getattr(part, "member", part))
                raise UserError(f"{name}: {count} models; allowed: the target and the {self.shadows.n_models} shadows")

    def _check_kinds(self) -> None:
        """Raise UserError for words beside numbers: a class that a copy gets would never be the record's label."""
        labels, copies = self.target.labels, self.perturbed_labels
        if labels is not None and copies is not None and (labels.dtype.kind in "iu") != (copies.dtype.kind in "iu"):
            raise UserError(
                f"perturbed_labels: dtype {copies.dtype}, and the target's labels are {labels.dtype}; allowed: both numbers, or both words"
            )

    def _check_apart(self) -> None:
        """Raise UserError where the population contains records on which the target or a shadow was trained, as far as ids show."""
        if self.population is None or self.population.record_ids is None:
            return
        ids = self.population.record_ids
        for name, models in (("the target", self.target), ("the shadows", self.shadows)):
            if models is None or models.record_ids is None:
                continue
            trained = models.record_ids[models.member if models.member.ndim == 1 else models.member.any(axis=0)]
            shared = np.isin(ids, trained)
            if shared.any():
                few = ", ".join(str(one) for one in ids[shared][:3].tolist())
                raise UserError(
                    f"population: {int(shared.sum())} of its {len(ids)} records are members of {name} (such as record {few}); allowed: "
                    "records that no model was trained on"
                )

    def _same_classes(self, part: ShadowPredictions) -> bool:
        """False only where both have scores by class, with different numbers of classes."""
        known = {each.n_classes for each in (self.target, part) if each.form in ("logits", "probs")}
        return len(known) < 2

    @property
    def same_classes(self) -> bool:
        """Whether the shadows have the target's number of classes; those of another data set may not (Salem et al. 2019)."""
        return self.shadows is None or self._same_classes(self.shadows)

    @property
    def _share_records(self) -> bool:
        if self.shadows is None or self.shadows.record_ids is None or self.target.record_ids is None:
            return False
        return bool(np.isin(self.target.record_ids, self.shadows.record_ids).any())

    @cached_property
    def places(self) -> Index | None:
        """(n,) the position of each of the target's records among the shadows' records; None unless all are there."""
        if self.shadows is None or self.shadows.record_ids is None or self.target.record_ids is None:
            return None
        ours, theirs = self.target.record_ids, self.shadows.record_ids
        if np.array_equal(ours, theirs):
            return np.arange(len(ours), dtype=np.intp)
        order = np.argsort(theirs, kind="stable")
        at = np.searchsorted(theirs[order], ours)
        at = order[np.minimum(at, len(order) - 1)]
        return at if np.array_equal(theirs[at], ours) else None

    def check_membership(self) -> None:
        """Raise UserError where a shadow was trained on exactly the target's members, or on exactly its other records.

        Its outputs would depend on the very membership that attacks are to find: a copy of the target's own file among the shadows, or the
        same column of members in all files, makes LiRA look perfect. Only records that ids show to be the target's own can tell; a part of
        them (`select`) cannot, so that this is no check of each object.
        """
        if self.shadows is None or self.places is None:
            return
        for number, theirs in enumerate(self.shadows.member[:, self.places]):
            same, other = bool((theirs == self.target.member).all()), bool((theirs != self.target.member).all())
            if same or other:
                which = "the target's members" if same else "the records that are not the target's members"
                raise UserError(
                    f"shadows: of the target's records, model {number} (of {self.shadows.n_models}, counted from 0) was trained on exactly "
                    f"{which}, so that its outputs depend on what the attacks are to find; allowed: shadows whose members were drawn anew"
                )

    @property
    def aligned(self) -> bool:
        """Whether the shadows' pool contains all of the target's own records, possibly among others."""
        return self.places is not None

    @cached_property
    def shadow_pool(self) -> ShadowPredictions | None:
        """The shadows on the records from which attacks learn membership: those that are not the target's, or all where there are no
        others."""
        if self.shadows is None or self.places is None:
            return self.shadows
        own = np.ones(len(self.shadows), dtype=np.bool_)
        own[self.places] = False
        return self.shadows.select(own) if own.any() else self.shadows

    def select(self, index: Array) -> Evidence:
        """The evidence on some of the target's records (mask or positions); the shadows' own pool is not reduced."""
        shadows, places = self.shadows, self.places
        if shadows is not None and places is not None:
            own = np.setdiff1d(np.arange(len(shadows)), places)
            shadows = shadows.select(np.concatenate([places[index], own]))
        parts = {name: getattr(self, name) for name in ("gradients", "perturbed_labels", "loss_trace")}
        return Evidence(
            target=self.target.select(index),
            absent=self.absent,
            shadows=shadows,
            population=self.population,
            population_inputs=self.population_inputs,
            augmented=None if self.augmented is None else self.augmented[:, index],
            trajectories=None if self.trajectories is None else self.trajectories.select(index),
            **{name: None if array is None else array[index] for name, array in parts.items()},
        )
