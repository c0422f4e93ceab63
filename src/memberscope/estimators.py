"""Fitted classifiers with scikit-learn's interface, and the records that they take: arrays, frames, sparse matrices or lists of texts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from memberscope.checks import Array, label_name
from memberscope.errors import UserError
from memberscope.predictions import Predictions

METHODS = ("predict_proba", "decision_function", "predict")

# ------------------------------------------------------------------------------------------------------------------- records


def count_of(x: Any) -> int:
    """The number of records."""
    return int(x.shape[0]) if hasattr(x, "shape") else len(x)


def take(x: Any, rows: Array) -> Any:
    """Some records, in the type in which all of them are."""
    if hasattr(x, "iloc"):
        return x.iloc[rows]
    if hasattr(x, "tocsr"):
        return x.tocsr()[rows]
    return x[rows] if isinstance(x, np.ndarray) else [x[row] for row in rows.tolist()]


def record_keys(x: Any, y: Array) -> tuple[bytes, ...]:
    """A digest of each record's content and label; records are comparable within one type of `x`."""
    if len(y) != count_of(x):
        raise UserError(f"y: {len(y)} labels for {count_of(x)} records; allowed: one label per record")
    labels = [hashlib.blake2b(label_name(value).encode()).digest() for value in y.tolist()]
    pairs = zip(_rows(x), labels, strict=True)
    return tuple(hashlib.blake2b(row, digest_size=16, key=label).digest() for row, label in pairs)


def _rows(x: Any) -> list[bytes]:
    if hasattr(x, "tocsr"):
        sparse = x.tocsr().copy()
        sparse.sum_duplicates()
        ends = list(zip(sparse.indptr[:-1].tolist(), sparse.indptr[1:].tolist(), strict=True))
        places = sparse.indices.astype(np.int64)
        return [places[start:stop].tobytes() + sparse.data[start:stop].tobytes() for start, stop in ends]
    if hasattr(x, "iloc"):
        from pandas.util import hash_pandas_object

        return [value.to_bytes(8, "little") for value in hash_pandas_object(x, index=False).to_numpy().tolist()]
    array = x if isinstance(x, np.ndarray) else np.array(x, dtype=None if _rectangular(x) else object)
    if array.dtype.kind in "biufcSU":
        return [np.ascontiguousarray(row).tobytes() for row in array]
    return [repr(row.tolist() if isinstance(row, np.ndarray) else row).encode("utf-8", "surrogatepass") for row in array]


def _rectangular(x: Any) -> bool:
    """Whether a list holds rows of numbers of one length, rather than texts or anything else."""
    return all(isinstance(row, Sequence) and not isinstance(row, str | bytes) and len(row) == len(x[0]) for row in x)


# ------------------------------------------------------------------------------------------------------------------- the model


def predictions_of(estimator: Any, x: Any, y: Array, classes: Array, member: Array) -> Predictions:
    """A model's outputs, with a column for each class of all records: a class that the training part lacks gets the probability 0."""
    method = next((name for name in METHODS if callable(getattr(estimator, name, None))), None)
    if method is None:
        raise UserError(f"estimator: {type(estimator).__name__} has none of {', '.join(METHODS)}; allowed: a fitted classifier")
    outputs = _asked(estimator, method, x)
    names = [label_name(value) for value in classes.tolist()]
    place = {name: number for number, name in enumerate(names)}
    labels = np.array([place[label_name(value)] for value in y.tolist()], dtype=np.int64)
    if method == "predict":
        own = [label_name(value) for value in outputs.tolist()]
        extra = {name: len(names) + number for number, name in enumerate(sorted(set(own) - set(names)))}
        return Predictions(predicted=np.array([(place | extra)[name] for name in own]), labels=labels, member=member)
    known = [label_name(value) for value in np.asarray(getattr(estimator, "classes_", classes)).tolist()]
    if outputs.ndim == 1:  # the score of the second of two classes
        outputs = np.stack([np.zeros_like(outputs), outputs], axis=1)
    if outputs.shape != (len(y), len(known)) or not set(known) <= set(names):
        raise UserError(
            f"estimator: {type(estimator).__name__}.{method} gives shape {outputs.shape} for {len(y)} records of {len(known)} classes; "
            "allowed: a score for each class of y"
        )
    lowest = 0.0 if method == "predict_proba" else outputs.min(axis=1, keepdims=True) - 1
    whole = np.zeros((len(y), len(names)), dtype=np.float64) + lowest
    whole[:, [place[name] for name in known]] = outputs
    return (
        Predictions(probs=whole, labels=labels, member=member)
        if method == "predict_proba"
        else Predictions(logits=whole, labels=labels, member=member)
    )


def _asked(estimator: Any, method: str, x: Any) -> Array:
    from sklearn.exceptions import NotFittedError

    try:
        return np.asarray(getattr(estimator, method)(x))
    except (NotFittedError, UserError):
        raise
    except Exception as error:  # whatever a library raises for records of another width, with other columns or missing values
        text = " ".join(str(error).split())[:300]
        raise UserError(
            f"X: {type(estimator).__name__}.{method} fails on these {count_of(x)} records ({type(error).__name__}: {text}); "
            "allowed: records in the form in which the model was fitted"
        ) from error
