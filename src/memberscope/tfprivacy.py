"""The one adapter to tensorflow_privacy's membership inference attacks.

It takes `Predictions` and returns one `TfpResult` per attack and slice, with scores in our polarity (higher = more likely a
member). The attacks are its own, unchanged, faults included: its trained attacks can learn how many members a class has in their training
part. After a split stratified by class, on a model that reveals little but the class, they therefore rank members below non-members; ours
do not (`memberscope.attacks.folds`).

Names are ours: its THRESHOLD_ATTACK is `threshold_loss`, its LOGISTIC_REGRESSION `trained_lr`, and so on.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope import seeds
from memberscope.predictions import Predictions
from memberscope.slices import class_names
from memberscope.unlogged import unlogged

TYPES = {
    "threshold_loss": "THRESHOLD_ATTACK",
    "threshold_entropy": "THRESHOLD_ENTROPY_ATTACK",
    "trained_lr": "LOGISTIC_REGRESSION",
    "trained_mlp": "MULTI_LAYERED_PERCEPTRON",
    "trained_rf": "RANDOM_FOREST",
    "trained_knn": "K_NEAREST_NEIGHBORS",
}
SLICINGS = ("entire", "class", "correctness", "percentile")


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """The model's accuracies and losses (nats) on members (train) and non-members (test), for tensorflow_privacy's reports."""

    accuracy_train: float
    accuracy_test: float
    loss_train: float
    loss_test: float
    name: str = "model"
    epoch: int | None = None


@dataclass(frozen=True, kw_only=True)
class TfpResult:
    """One attack on one slice.

    Attributes:
        attack: our name.
        slice: our name of the slice.
        scores_member: (n_member,) membership scores of the slice's members, in the order of the predictions.
        scores_nonmember: (n_nonmember,) of its non-members.
        raw: tensorflow_privacy's own `SingleAttackResult`.
    """

    attack: str
    slice: str
    scores_member: NDArray[np.float64]
    scores_nonmember: NDArray[np.float64]
    raw: Any


@unlogged()
def run_attacks(
    predictions: Predictions,
    attacks: Sequence[str],
    slicings: Sequence[str],
    *,
    seed: int,
    metadata: Metadata | None = None,
    on_attack: Callable[[str], None] = lambda attack: None,
) -> list[TfpResult]:
    """Run tensorflow_privacy's `run_attacks`, one attack type after the other.

    Its percentile slices include both ends, so a loss tied at a border is counted in two; its trained attacks drop records of the larger
    side before folding and score those with the last model. Its random draws come from numpy's global state, which is seeded from the
    stream ``("tfprivacy", attack)`` and restored.

    Args:
        predictions: with labels, and logits (with probabilities alone its entropy attack fails); or losses or entropies alone.
        attacks: names among `TYPES`.
        slicings: names among `SLICINGS`.
        seed: the seed of the global draws.
        metadata: the model's true accuracies and losses.
        on_attack: called with each attack's name before it runs; an exception that it raises ends the audit there.
    """
    structures, mia = _library()
    data = attack_input(predictions, structures)
    spec = structures.SlicingSpec(
        entire_dataset="entire" in slicings,
        by_class="class" in slicings,
        by_percentiles="percentile" in slicings,
        by_classification_correctness="correctness" in slicings,
    )
    report = _report_metadata(metadata, structures)
    names = class_names(predictions)
    found = []
    for attack in attacks:
        on_attack(attack)
        with _seeded(seeds.integer(seed, "tfprivacy", attack)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn's, about parameters that tensorflow_privacy's own grids hold
            results = mia.run_attacks(data, spec, [structures.AttackType[TYPES[attack]]], report)
        for result in results.single_attack_results:
            found.append(
                TfpResult(
                    attack=attack,
                    slice=_slice_name(result.slice_spec, structures, names),
                    scores_member=np.asarray(result.membership_scores_train, dtype=np.float64),
                    scores_nonmember=np.asarray(result.membership_scores_test, dtype=np.float64),
                    raw=result,
                )
            )
    return found


def attack_results(results: Iterable[Any], metadata: Metadata | None = None) -> Any:
    """tensorflow_privacy's `AttackResults` from the results of a report: those of its own six types, on slices that it can name.

    This takes about 0.2 s per result: its epsilon bounds are computed for each.
    """
    structures, _ = _library()
    found = []
    for result in results:
        spec = _slice_spec(result.slice, structures)
        if result.attack not in TYPES or result.scores is None or spec is None:
            continue
        roc = result.roc
        found.append(
            structures.SingleAttackResult(
                slice_spec=spec,
                data_size=structures.DataSize(ntrain=result.n_member, ntest=result.n_nonmember),
                attack_type=structures.AttackType[TYPES[result.attack]],
                roc_curve=structures.RocCurve(
                    tpr=roc.tpr, fpr=roc.fpr, thresholds=roc.thresholds, test_train_ratio=result.n_nonmember / result.n_member
                ),
                membership_scores_train=result.scores[result.member],
                membership_scores_test=result.scores[~result.member],
                epsilon_lower_bound_value=_epsilon_bounds(result, structures),
            )
        )
    return structures.AttackResults(single_attack_results=found, privacy_report_metadata=_report_metadata(metadata, structures))


def _report_metadata(metadata: Metadata | None, structures: Any) -> Any:
    return metadata and structures.PrivacyReportMetadata(
        accuracy_train=metadata.accuracy_train,
        accuracy_test=metadata.accuracy_test,
        loss_train=metadata.loss_train,
        loss_test=metadata.loss_test,
        model_variant_label=metadata.name,
        epoch_num=metadata.epoch,
    )


def _epsilon_bounds(result: Any, structures: Any) -> Any:
    """tensorflow_privacy's own best-of-many bounds, which its summaries require. They are above 0 even on noise."""
    from tensorflow_privacy.privacy.privacy_tests import epsilon_lower_bound

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # its ratios divide by zero where a side is empty
        bounds = epsilon_lower_bound.EpsilonLowerBound(
            pos_scores=result.scores[result.member],
            neg_scores=result.scores[~result.member],
            alpha=structures.EPSILON_ALPHA,
            two_sided_threshold=True,
        ).compute_epsilon_lower_bounds(methods=structures.EPSILON_METHODS, k=structures.EPSILON_K)
    return structures.EpsilonLowerBoundValue(bounds=bounds)


def _library() -> tuple[Any, Any]:
    """tensorflow_privacy's two modules, without a warning of Google's client library about Python 3.11."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module="google.api_core")
        from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack import (
            data_structures as structures,
        )
        from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack import (
            membership_inference_attack as mia,
        )
    return structures, mia


def attack_input(predictions: Predictions, structures: Any) -> Any:
    """tensorflow_privacy's `AttackInputData`: members are its train side, non-members its test side, order kept."""
    sides = {"train": predictions.member, "test": ~predictions.member}
    logits = predictions.logits
    if logits is None and predictions.probs is not None:  # its entropy attack fails on probabilities alone
        logits = np.log(np.clip(np.asarray(predictions.probs, dtype=np.float64), 1e-30, None))
    labels = predictions.labels
    if labels is not None and logits is None:  # it makes a slice for every number up to the largest label
        labels = np.unique(labels, return_inverse=True)[1]
    sources = {
        "logits": logits,
        "loss": predictions.loss_nats,
        "entropy": predictions.entropy_nats,
        "labels": labels,
    }
    values = {
        f"{name}_{side}": np.asarray(array)[mask]
        for name, array in sources.items()
        if array is not None
        for side, mask in sides.items()
    }
    return structures.AttackInputData(**values)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """numpy's global state seeded, and put back afterwards; scikit-learn inside tensorflow_privacy draws from it."""
    state = np.random.get_state()  # noqa: NPY002 - the library offers no other way
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _slice_name(spec: Any, structures: Any, names: Sequence[str]) -> str:
    if spec.entire_dataset:
        return "entire"
    if spec.feature == structures.SlicingFeature.CLASS:
        return names[int(spec.value)]
    if spec.feature == structures.SlicingFeature.CORRECTLY_CLASSIFIED:
        return "correct" if spec.value else "incorrect"
    low, high = spec.value
    return f"loss_p{int(low):02d}_p{int(high):02d}"


def _slice_spec(name: str, structures: Any) -> Any:
    """tensorflow_privacy's spec of a slice of ours, or None if it has no such slice."""
    if name == "entire":
        return structures.SingleSliceSpec()
    feature = structures.SlicingFeature
    if name in ("correct", "incorrect"):
        return structures.SingleSliceSpec(feature.CORRECTLY_CLASSIFIED, name == "correct")
    if match := re.fullmatch(r"class_(-?\d+)", name):
        return structures.SingleSliceSpec(feature.CLASS, int(match[1]))
    if name.startswith("class_"):
        return structures.SingleSliceSpec(feature.CLASS, name.removeprefix("class_"))
    if match := re.fullmatch(r"loss_p(\d+)_p(\d+)", name):
        return structures.SingleSliceSpec(feature.PERCENTILE, (int(match[1]), int(match[2])))
    return None
