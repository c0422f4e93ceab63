"""All measures of exposure of every record in one table.

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> member = rng.random((32, 50)) < 0.5
>>> found = measure(scaled_logits=rng.normal(size=(32, 50)) + 6.0 * (member & (np.arange(50) == 7)), member=member)
>>> int(found.ranking()[0])
7
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memberscope.checks import Array, BoolArray, FloatArray
from memberscope.errors import UserError
from memberscope.exposure import memorization as memorized
from memberscope.exposure import privacy_score as scored
from memberscope.exposure.base import Ints, Measure, Texts, absent, check_fleet, complementary_pairs
from memberscope.exposure.detection import Detection, detect_own, detect_pooled
from memberscope.exposure.worst import corrected
from memberscope.file_state import mapping_of
from memberscope.mapped import gathered

if TYPE_CHECKING:
    import pandas as pd

    from memberscope.predictions import ShadowPredictions

RATES = (0.01, 0.001)
SIGNAL = "scaled_logit"  # the attack that compares a record's scaled logit with those of its OUT models
LEVEL = 0.05  # of corrected claims about single records


@dataclass(frozen=True, kw_only=True, eq=False)
class Exposure:
    """The exposure of n records to one recipe: of models like these, not of one model.

    Attributes:
        record_ids: (n,) the records.
        labels: (n,) their classes; None where unknown.
        models_in: (n,) models that were trained on the record.
        models_out: (n,) models that were not.
        memorization: see `memberscope.exposure.memorization`.
        privacy_score: see `memberscope.exposure.privacy_score`.
        detections: how often attacks find the record, see `memberscope.exposure.detection`.
        smallest_memorization: what a single record's memorization must exceed to be claimed at all with these models and records; NaN
            if no claim is possible.
        columns: name -> (n,) further numbers, such as the distance to neighbours.
    """

    record_ids: Array
    labels: Array | None
    models_in: Ints
    models_out: Ints
    memorization: Measure
    privacy_score: Measure
    detections: tuple[Detection, ...] = ()
    smallest_memorization: float = math.nan
    columns: Mapping[str, FloatArray] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of records."""
        return len(self.record_ids)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The measures over all models, which have corrected p-values."""
        return self.memorization, self.privacy_score

    @property
    def shown(self) -> BoolArray:
        """(n,) whether memorization or the privacy score is shown to differ from none, corrected for the number of records and measures."""
        p_values = [measure.p_value for measure in self.measures if measure.p_value is not None]
        found = np.zeros(len(self), dtype=np.bool_)
        for p_value in p_values:
            found |= np.nan_to_num(p_value, nan=1.0) <= LEVEL / len(p_values)
        return found

    @property
    def reason(self) -> Texts:
        """(n,) text why measures are missing; "" where none is."""
        parts = [self.memorization.reason, self.privacy_score.reason]
        for detection in self.detections:
            parts.append(np.array([f"{detection.name}: {text}" if text else "" for text in detection.reason], dtype=object))
        found = np.full(len(self), "", dtype=object)
        for part in parts:
            found = np.array(
                [
                    f"{old}; {new}" if old and new and new not in old else old or new
                    for old, new in zip(found, part, strict=True)
                ],
                dtype=object,
            )
        return found

    def values(self) -> dict[str, FloatArray]:
        """Each measure's values by name, (n,) each, detection and other columns included."""
        found = {measure.name: measure.value for measure in self.measures}
        found |= {detection.name: detection.value for detection in self.detections}
        return found | {name: np.asarray(values, dtype=np.float64) for name, values in self.columns.items()}

    def ranking(self, ties: Array | None = None) -> NDArray[np.intp]:
        """(n,) the records, the most exposed first: by privacy score, then by memorization, missing values last; equal ones by `ties` (n,),
        else by their place.
        """
        first, second = (np.nan_to_num(measure.value, nan=-2.0) for measure in (self.privacy_score, self.memorization))
        order: NDArray[np.intp] = np.lexsort((np.arange(len(self)) if ties is None else ties, -second, -first))
        return order

    def with_columns(self, **columns: FloatArray) -> Exposure:
        """The same with further columns."""
        return replace(self, columns={**self.columns, **columns})

    def to_frame(self) -> pd.DataFrame:
        """A row per record: record, label, models_in, models_out, each measure with ``_low``, ``_high`` and ``_p`` (corrected), each
        detection with ``_low``, ``_high`` and the share of targets without the record under which it passed (``_false``), other columns,
        shown, reason.
        """
        import pandas as pd

        found: dict[str, Array] = {"record": self.record_ids}
        if self.labels is not None:
            found["label"] = self.labels
        found |= {"models_in": self.models_in, "models_out": self.models_out}
        for measure in self.measures:
            found |= {measure.name: measure.value, f"{measure.name}_low": measure.low, f"{measure.name}_high": measure.high}
            if measure.p_value is not None:
                found[f"{measure.name}_p"] = measure.p_value
        for one in self.detections:
            false = np.where(one.reason == "", one.accused / np.maximum(one.targets_out, 1), np.nan)
            found |= {one.name: one.value, f"{one.name}_low": one.low, f"{one.name}_high": one.high, f"{one.name}_false": false}
        found |= {name: np.asarray(values) for name, values in self.columns.items()}
        return pd.DataFrame({**found, "shown": self.shown, "reason": self.reason})


def measure(
    *,
    member: BoolArray,
    scaled_logits: Array | None = None,
    correct: BoolArray | None = None,
    labels: Array | None = None,
    record_ids: Array | None = None,
    scores: Mapping[str, FloatArray] | None = None,
    targets: BoolArray | None = None,
    rates: Sequence[float] = RATES,
    seed: int = 0,
) -> Exposure:
    """Measure the exposure of every record from the outputs of a fleet.

    Args:
        member: (models, n) bool, whether the model was trained on the record.
        scaled_logits: (models, n) log(p / (1 - p)) of the true label's probability, in nats; without it there is no privacy score.
        correct: (models, n) bool, whether the model classifies the record correctly; without it there is no memorization.
        labels: (n,) classes, for the table.
        record_ids: (n,) ids, for the table; None: 0, 1, and so on.
        scores: attack -> (targets, n) its scores under targets that were attacked in turn.
        targets: (targets, n) bool, whether the target was trained on the record; needed with `scores`.
        rates: the false positive rates of detection.
        seed: of the draws that correct for the number of records.

    Raises:
        UserError: arrays that do not fit each other, numbers that are not finite, or neither scaled logits nor correctness.
    """
    given = {name: array for name, array in (("scaled_logits", scaled_logits), ("correct", correct)) if array is not None}
    check_fleet(member, **given)
    n = member.shape[1]
    if not given:
        raise UserError("scaled_logits, correct: neither is given; allowed: at least one of them")
    if scores and targets is None:
        raise UserError("targets: not given; allowed: with scores, the membership of the records in the targets")
    pairs = complementary_pairs(member)
    memorization = absent(memorized.NAME, n, f"{memorized.NAME} needs predicted classes; only losses are known")
    smallest = math.nan
    if correct is not None:
        tested = corrected(correct, member, seed=seed, two_sided=False, pairs=pairs, name="correct")
        memorization = replace(memorized.memorization(correct, member, pairs=pairs), p_value=tested.p_value)
        smallest = tested.smallest_memorization
    privacy_score = absent(scored.NAME, n, f"{scored.NAME} needs probabilities; only classes are known")
    detections: list[Detection] = []
    if scaled_logits is not None:
        p_value = corrected(scaled_logits, member, seed=seed, two_sided=True, pairs=pairs, name="scaled_logits").p_value
        privacy_score = replace(scored.privacy_score(scaled_logits, member, pairs=pairs), p_value=p_value)
        for fpr in rates:
            detections.append(detect_own(scaled_logits, member, attack=SIGNAL, fpr=fpr, pairs=pairs))
    for attack, of_targets in (scores or {}).items():
        assert targets is not None
        for fpr in rates:
            detections.append(detect_pooled(of_targets, targets, attack=attack, fpr=fpr))
            detections.append(detect_own(of_targets, targets, attack=attack, fpr=fpr))
    models_in = member.sum(axis=0, dtype=np.int64)
    return Exposure(
        record_ids=np.arange(n) if record_ids is None else record_ids, labels=labels, models_in=models_in,
        models_out=len(member) - models_in, memorization=memorization, privacy_score=privacy_score, detections=tuple(detections),
        smallest_memorization=smallest,
    )  # fmt: skip


def answers(models: ShadowPredictions) -> tuple[FloatArray | None, BoolArray | None]:
    """Scaled logits (models, n) and correctness (models, n) of all models; None for what their outputs do not contain.

    Where the outputs are in mapped files, large scaled logits are in a temporary file that is mapped in turn.
    """
    from memberscope import signals
    from memberscope.attacks import calibration

    first = models.model(0)
    phi = correct = None
    if not signals.missing("loss_nats", first):
        outputs = next(found for found in (models.logits, models.probs, models.loss_nats) if found is not None)
        if mapping_of(outputs) is None:
            phi = calibration.of_each(models, calibration.scaled_logit)
        else:
            each = (calibration.scaled_logit(one) for one in calibration.each(models, None))
            phi = gathered(each, dtype=np.dtype(np.float64), shape=models.member.shape)
    if not signals.missing("correctness", first):
        correct = np.empty(models.member.shape, dtype=np.bool_)
        for row, one in zip(correct, calibration.each(models, None), strict=True):
            row[:] = signals.correctness(one) > 0
    return phi, correct


def measure_models(models: ShadowPredictions, *, seed: int = 0, rates: Sequence[float] = RATES) -> Exposure:
    """`measure` for any models whose memberships are known.

    Raises:
        UserError: outputs that give neither losses nor classes, or have no labels.
    """
    phi, correct = answers(models)
    if phi is None and correct is None:
        raise UserError(
            "shadows: hold neither losses nor classes with their labels; allowed: logits, probs, predicted or loss_nats"
        )
    return measure(
        member=models.member, scaled_logits=phi, correct=correct, labels=models.labels, record_ids=models.record_ids, rates=rates, seed=seed
    )  # fmt: skip
