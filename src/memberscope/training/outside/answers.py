"""A trained model from outside, in any form: a function, an object with scikit-learn's methods, or one that offers more."""

from __future__ import annotations

import contextlib
import io
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.datasets.table import Table
from memberscope.errors import UserError
from memberscope.scales import check_logits, check_probs
from memberscope.training.trainer import Form

BLOCK = 8_192  # records in one call of a model
SUM = 1e-3  # probabilities sum to 1 up to this
METHODS = ("predict_proba", "decision_function")
ALLOWED = "a function of records, or an object with predict_proba or decision_function"


class BadModel(Exception):
    """What a training function returned, or its outputs, cannot be used; the message is for the user."""


@dataclass(frozen=True, kw_only=True, eq=False)
class UserModel:
    """A trained model that answers queries.

    Attributes:
        native: what the training function returned.
        classes: number of classes.
        table: the columns of the data set's table, if it is one.
        frames: whether the model takes pandas frames.
    """

    native: Any
    classes: int
    table: Table | None
    frames: bool

    @property
    def method(self) -> str:
        """The method that answers queries; empty if the model is a function."""
        return next((name for name in METHODS if callable(getattr(self.native, name, None))), "")

    def check(self) -> None:
        """Raise BadModel for what cannot answer queries."""
        if not self.method and not callable(self.native):
            raise BadModel(f"returned {type(self.native).__name__}; allowed: {ALLOWED}")

    def shown(self, x: NDArray[Any]) -> Any:
        """Records as the model takes them: an array, or a frame."""
        return self.table.frame(x) if self.frames and self.table is not None else x

    def outputs(self, x: NDArray[Any], between: Callable[[], None] = lambda: None) -> NDArray[Any]:
        """(m, classes) float32 or float64 outputs; `between` is called between blocks of records.

        Raises:
            BadModel: outputs of another shape or type, or numbers that are not finite.
        """
        if not len(x):
            return np.empty((0, self.classes), np.float32)
        found = []
        for start in range(0, len(x), BLOCK):
            between()
            found.append(self._block(x[start : start + BLOCK]))
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _block(self, x: NDArray[Any]) -> NDArray[Any]:
        method = self.method
        raw = (getattr(self.native, method) if method else self.native)(self.shown(x))
        found = as_array(raw, method)
        if method == "decision_function" and found.ndim == 1:
            found = np.stack([np.zeros_like(found), found], axis=1)  # one score, of the second class against the first
        found = self._every_class(found)
        if found.shape != (len(x), self.classes):
            raise BadModel(
                f"gave outputs of shape {found.shape} for {len(x)} records of {self.classes} classes; allowed: ({len(x)}, {self.classes})"
            )
        if not np.isfinite(found).all():
            bad = int((~np.isfinite(found).all(axis=1)).sum())
            raise BadModel(f"gave outputs that are not finite for {bad} of {len(x)} records; allowed: finite numbers")
        return found

    def _every_class(self, found: NDArray[Any]) -> NDArray[Any]:
        """A column for every class, where an estimator has columns for the classes that it was trained on alone."""
        known = getattr(self.native, "classes_", None)
        if known is None or found.ndim != 2 or found.shape[1] == self.classes or len(known) != found.shape[1]:
            return found
        places = np.asarray(known)
        if places.dtype.kind not in "iu" or places.min() < 0 or places.max() >= self.classes:
            return found
        whole = np.zeros((len(found), self.classes), dtype=found.dtype)
        if self.method != "predict_proba":
            whole += (
                found.min(axis=1, keepdims=True) - 1
            )  # of each record, so that its outputs do not depend on what else is asked
        whole[:, places] = found
        return whole

    def gradient_norms(self, x: NDArray[Any], y: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """(m, layers) norms of each record's gradient, or None if the model does not offer them."""
        return self._by_record("gradient_norms", x, y)

    def losses_by_epoch(self, x: NDArray[Any], y: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """(m, epochs) losses in nats after each epoch, or None if the model does not offer them."""
        return self._by_record("losses_by_epoch", x, y)

    def _by_record(self, name: str, x: NDArray[Any], y: NDArray[np.int64]) -> NDArray[np.float64] | None:
        offered = getattr(self.native, name, None)
        if not callable(offered):
            return None
        found = as_array(offered(self.shown(x), y), name).astype(np.float64)
        found = found[:, None] if found.ndim == 1 else found
        if found.ndim != 2 or len(found) != len(x) or not np.isfinite(found).all():
            raise BadModel(f"gave {name} of shape {found.shape} for {len(x)} records; allowed: ({len(x)}, k) finite numbers")
        return found

    def saved(self) -> NDArray[np.uint8] | None:
        """The model as bytes, by its own ``save(path)``; None unless its class has ``save``, a class method ``load(path)``, and a
        name by which another process finds it."""
        kind = type(self.native)
        if (
            not callable(getattr(self.native, "save", None))
            or not callable(getattr(kind, "load", None))
            or "<locals>" in kind.__qualname__
        ):
            return None
        with tempfile.TemporaryDirectory(prefix="memberscope-") as folder:
            self.native.save(str(Path(folder) / "model"))
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w") as archive:
                for path in sorted(Path(folder).iterdir()):
                    archive.add(path, arcname=path.name)
        return np.frombuffer(packed.getvalue(), np.uint8)


def as_array(raw: Any, method: str) -> NDArray[Any]:
    """Outputs as float32 or float64; tensors of other frameworks are converted.

    Args:
        raw: what the model gave.
        method: its method that was called; empty if the model is a function.

    Raises:
        BadModel: they are not numbers.
    """
    by = f" by {method}" if method else ""
    for name in ("detach", "cpu", "numpy"):  # a tensor of PyTorch, or one of TensorFlow, which has the last alone
        if callable(getattr(raw, name, None)) and not isinstance(raw, np.ndarray):
            with contextlib.suppress(TypeError):
                raw = getattr(raw, name)()
    try:
        found = np.asarray(raw)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadModel(
            f"gave {type(raw).__name__}{by}, which is not an array ({error}); allowed: numbers (records, classes)"
        ) from None
    if found.dtype.kind not in "fiub":
        raise BadModel(f"gave {found.dtype}{by}; allowed: numbers (records, classes)")
    return (
        found
        if found.dtype in (np.float32, np.float64)
        else found.astype(np.float32 if found.dtype.itemsize <= 2 else np.float64)
    )


def form_of(method: str, outputs: NDArray[Any]) -> Form:
    """Whether outputs are probabilities or logits: by the method that gave them, or because they all are shares that sum to 1."""
    if method:
        return "probs" if method == "predict_proba" else "logits"
    inside = bool(((outputs >= 0) & (outputs <= 1)).all())
    return "probs" if inside and bool((np.abs(outputs.sum(axis=1) - 1) <= SUM).all()) else "logits"


def check_scale(form: Form, method: str, outputs: Sequence[NDArray[Any]]) -> None:
    """Raise BadModel for outputs of one model that are neither logits nor probabilities, such as percentages or one sigmoid per class."""
    whole = np.concatenate(outputs) if outputs else np.empty((0, 1))
    try:
        if form == "probs":
            check_probs(f"gave outputs by {method}" if method else "gave outputs", whole, released=False)
        else:
            check_logits("gave outputs", whole)
    except UserError as error:
        raise BadModel(str(error)) from None


def unpacked(packed: NDArray[np.uint8], folder: Path) -> Path:
    """Write a saved model into a folder; returns the path to give to ``load``."""
    with tarfile.open(fileobj=io.BytesIO(packed.tobytes())) as archive:
        archive.extractall(folder, filter="data")
    return folder / "model"
