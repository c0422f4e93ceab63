"""Shadow models of a classifier that has already been fitted: copies of it, fitted in this process on random halves of the records.

For example, for a scikit-learn model and the records that it was or was not fitted on::

    from memberscope import run_audit, shadow_evidence

    evidence = shadow_evidence(model, X, y, member, shadows=16)
    print(run_audit(evidence, attacks="lira_online"))

Nothing is stored or logged. The study `shadow` (`memberscope.studies.shadow`) trains the target as well, attacks several targets in turn,
measures the exposure of records, and takes models of any kind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope import seeds
from memberscope.aligned import line_up
from memberscope.checks import Array, BoolArray, check_finite, label_name, plain_array
from memberscope.cores import cores, one_blas_thread
from memberscope.errors import UserError
from memberscope.estimators import count_of, predictions_of, record_keys, take
from memberscope.evidence import Evidence
from memberscope.plans.shadow import LEAST_HALF, paired_halves
from memberscope.plans.whole_groups import numbered
from memberscope.predictions import Predictions, ShadowPredictions
from memberscope.progress import Progress
from memberscope.unlogged import unlogged

METHODS = ("predict_proba", "decision_function")
SEED, THREADS = "random_state", "n_jobs"


@unlogged()
@one_blas_thread()
def shadow_evidence(
    model: Any,
    X: Any,  # as scikit-learn names it
    y: Any,
    member: Any,
    *,
    shadows: int = 16,
    groups: Any = None,
    workers: int | None = None,
    seed: int = 0,
) -> Evidence:
    """Train shadow models of a fitted classifier, and compute the outputs of the classifier and its shadows for all records.

    A shadow is an unfitted copy of the model (``sklearn.base.clone``) with a seed of its own for each ``random_state``, fitted on half of
    each class. Shadows come in pairs with opposite halves, so that every record is in the training set of exactly half of them, whether it
    is a member or not. Exact copies of a record, or the records of a group, are in the same half.

    Several shadows are fitted at a time, in threads of this process and with ``n_jobs=1`` each: forests, boosted trees and linear models
    benefit, since their libraries release Python's lock. If half of the records are far fewer than the model was fitted on,
    shadows memorize more than the model does; each record is then still compared with itself, but less precisely.

    Args:
        model: a fitted classifier with ``get_params`` and ``predict_proba`` or ``decision_function``: from scikit-learn, XGBoost,
            LightGBM and the like, or a pipeline. It is not modified.
        X: (n, ...) the records, members and others, in the form that the model takes: an array, a frame, a sparse matrix or a list of
            texts.
        y: (n,) their labels, in the form on which the model was fitted.
        member: (n,) bool, whether the model was fitted on the record.
        shadows: the number of shadow models, which must be even.
        groups: (n,) the group of each record, such as its person, if several belong to one: integers or text. Groups are then what an
            audit counts.
        workers: how many shadows are fitted at a time; None: one per core that this process may use.
        seed: draws the halves and the seeds of the models, an integer from 0. The same seed gives the same shadows for any number of
            workers.

    Series and frames are put in the order of `X` by their index, and refused if that order is uncertain; see `memberscope.aligned`.

    Returns:
        What `memberscope.run_audit` takes: the outputs of the model, and those of its shadows, (shadows, n, classes) float64.

    Raises:
        UserError: a model that is not fitted, cannot be copied or cannot be asked for scores of these records; arrays of different
            lengths, or whose indexes do not fit; missing labels or groups; only members, or none; fewer than 20 records; an odd number of
            shadows; or a shadow that cannot be fitted.
    """
    _check_model(model)
    _check_numbers(shadows, workers)
    seeds.check(seed)
    if X is None or isinstance(X, str | bytes) or not (hasattr(X, "shape") or hasattr(X, "__len__")):
        raise UserError(f"X: {type(X).__name__}; allowed: an array, a frame, a sparse matrix or a list of texts")
    given: dict[str, Any] = {"y": y, "member": member} | ({} if groups is None else {"groups": groups})
    given = line_up(given, source="shadow_evidence", like=X, like_name="X")
    labels, inside = plain_array("y", given["y"]), np.asarray(given["member"])
    n = count_of(X)
    _check_records(n, labels, inside)
    of_group = None if groups is None else plain_array("groups", given["groups"])
    if of_group is not None and of_group.shape != (n,):
        raise UserError(f"groups: shape {of_group.shape} for {n} records; allowed: one group per record")
    classes = np.unique(labels)
    ids = np.arange(n)
    numbers = isinstance(X, np.ndarray) and X.dtype.kind in "biuf"
    target = replace(_ask(model, X, labels, classes, inside), record_ids=ids, inputs=X if numbers else None, groups=of_group)
    assert target.labels is not None
    halves = paired_halves(
        target.labels,
        pairs=shadows // 2,
        groups=_together(X, labels, of_group),
        rng=seeds.stream(seed, "shadow_evidence", "halves"),
    )
    threads = min(shadows, cores() if workers is None else workers)

    form = "logits" if target.probs is None else "probs"
    outputs: Array = np.empty((shadows, *getattr(target, form).shape))

    def fit(shadow: int) -> None:
        rows = np.flatnonzero(halves[shadow])
        copy = _copy(model, seed, shadow)
        try:
            copy.fit(take(X, rows), labels[rows])
        except Exception as error:  # whatever a library raises on half of the records
            text = " ".join(str(error).split())[:300]
            raise UserError(
                f"model: a copy of {type(model).__name__} cannot be fitted on {len(rows)} of the {n} records "
                f"({type(error).__name__}: {text}); allowed: a classifier that can be fitted on any half of each class"
            ) from error
        outputs[shadow] = getattr(predictions_of(copy, X, labels, classes, halves[shadow]), form)

    _in_threads(fit, shadows, threads)
    scores: dict[str, Any] = {form: outputs}
    return Evidence(
        target=target,
        shadows=ShadowPredictions(**scores, labels=target.labels, member=halves, record_ids=ids),
        absent={"population": "shadow_evidence asks no model about records that none was trained on"},
    )


def _check_model(model: Any) -> None:
    if isinstance(model, type) or not callable(getattr(model, "get_params", None)) or not callable(getattr(model, "fit", None)):
        kind = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise UserError(
            f"model: {kind}, which cannot be copied and fitted; allowed: a fitted classifier with get_params and fit, or for any other "
            "model the command memberscope shadow with a trainer"
        )
    if not any(callable(getattr(model, name, None)) for name in METHODS):
        raise UserError(
            f"model: {type(model).__name__} has neither {' nor '.join(METHODS)}; allowed: a classifier with one of them"
        )


def _check_numbers(shadows: Any, workers: Any) -> None:
    if not isinstance(shadows, int | np.integer) or shadows < 2 or shadows % 2:
        raise UserError(f"shadows={shadows!r}: shadows come in pairs with opposite halves; allowed: an even number, at least 2")
    if workers is not None and (not isinstance(workers, int | np.integer) or workers < 1):
        raise UserError(f"workers={workers!r}; allowed: 1 or more, or None for all cores")


def _check_records(n: int, labels: Array, member: Array) -> None:
    if labels.shape != (n,):
        raise UserError(f"y: shape {labels.shape} for {n} records; allowed: one label per record")
    if labels.dtype.kind == "f":
        check_finite("y", labels)
    if member.shape != (n,) or member.dtype != np.bool_:
        raise UserError(
            f"member: {member.dtype} of shape {member.shape} for {n} records; allowed: True or False for each record"
        )
    if member.all() or not member.any():
        raise UserError(
            f"member: {int(member.sum())} of {n} records are members; allowed: at least one member and one other record"
        )
    if n < 2 * LEAST_HALF:
        raise UserError(f"X: {n} records; allowed: at least {2 * LEAST_HALF}")


def _ask(model: Any, x: Any, labels: Array, classes: Array, member: BoolArray) -> Predictions:
    """The outputs of the user's own model."""
    from sklearn.exceptions import NotFittedError

    try:
        known = {label_name(value) for value in np.asarray(getattr(model, "classes_", ())).tolist()}
        if strange := known - {label_name(value) for value in classes.tolist()}:
            raise UserError(
                f"y: lacks {len(strange)} of the model's {len(known)} classes (such as {min(strange)}), which no shadow could learn; "
                "allowed: records with the labels on which the model was fitted"
            )
        return predictions_of(model, x, labels, classes, member)
    except NotFittedError:
        raise UserError(
            f"model: {type(model).__name__} is not fitted; allowed: the classifier to audit, fitted on the members"
        ) from None


def _together(x: Any, labels: Array, groups: Array | None) -> NDArray[np.int64]:
    """(n,) numbers that records share which must be in the same half: exact copies, or the records of a group."""
    if groups is not None:
        return numbered(groups)[1].astype(np.int64)
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in record_keys(x, labels)], dtype=np.int64)


def _copy(model: Any, seed: int, shadow: int) -> Any:
    """An unfitted copy with seeds of its own and one thread: a forest of several adds up its trees in any order, so that its last digits
    vary. scikit-learn's None is one thread already, and some of its models warn of any other value; elsewhere None may be all cores."""
    from sklearn.base import clone

    changes: dict[str, int] = {}
    params = model.get_params(deep=True)
    for name in sorted(params):
        owner, _, last = name.rpartition("__")
        if last == SEED:
            changes[name] = seeds.integer(seed, "shadow_evidence", shadow, name)
        elif last == THREADS and (
            params[name] is not None or type(params.get(owner, model)).__module__.partition(".")[0] != "sklearn"
        ):
            changes[name] = 1
    return clone(model).set_params(**changes)


def _in_threads(fit: Callable[[int], None], count: int, threads: int) -> None:
    """Fit each shadow; an error or Ctrl-C ends all after those that are being fitted."""
    import sklearn

    settings, ended = sklearn.get_config(), threading.Event()

    def one(shadow: int) -> None:
        if not ended.is_set():
            with sklearn.config_context(**settings):  # a thread does not inherit them
                fit(shadow)

    with Progress(count, "shadow models", unit="model") as progress, ThreadPoolExecutor(max_workers=threads) as pool:
        try:
            for done in as_completed([pool.submit(one, shadow) for shadow in range(count)]):
                done.result()
                progress.advance()
        finally:
            ended.set()
