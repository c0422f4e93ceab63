"""What a training function may return, and how outputs are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memberscope.training.outside.answers import BLOCK, BadModel, UserModel, form_of, unpacked

X = np.linspace(-1, 1, 24).reshape(8, 3)


def _model(native: Any, classes: int = 3) -> UserModel:
    return UserModel(native=native, classes=classes, table=None, frames=False)


class _Of:
    """An object with whatever methods a test gives it."""

    def __init__(self, **methods: Callable[..., Any] | Any) -> None:
        self.__dict__.update(methods)


def _softmax(x: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    return found


def test_a_function_gives_logits_or_probabilities_in_its_own_precision() -> None:
    for kind in (np.float32, np.float64):
        assert _model(lambda x, kind=kind: x.astype(kind)).outputs(X).dtype == kind
    np.testing.assert_array_equal(_model(lambda x: x).outputs(X), X)
    assert _model(lambda x: x.astype(np.float16)).outputs(X).dtype == np.float32
    assert _model(lambda x: x.tolist()).outputs(X).dtype == np.float64
    assert form_of("", X) == "logits"
    assert form_of("", _softmax(X)) == "probs"
    assert form_of("", _softmax(X) * 1.01) == "logits"
    assert form_of("decision_function", _softmax(X)) == "logits"
    assert form_of("predict_proba", X) == "probs"


def test_methods_are_preferred_to_calling_the_object() -> None:
    both = _Of(predict_proba=_softmax, decision_function=lambda x: x)
    assert _model(both).method == "predict_proba"
    assert _model(_Of(decision_function=lambda x: x)).method == "decision_function"
    assert _model(len).method == ""


def test_one_score_of_a_binary_model_is_two_logits() -> None:
    found = _model(_Of(decision_function=lambda x: x[:, 0]), classes=2).outputs(X)
    np.testing.assert_array_equal(found[:, 1] - found[:, 0], X[:, 0])


def test_classes_that_a_model_never_saw_get_no_probability_and_the_lowest_score() -> None:
    fitted = _Of(predict_proba=lambda x: _softmax(x[:, :2]), classes_=np.array([2, 0]))
    found = _model(fitted).outputs(X)
    np.testing.assert_array_equal(found[:, [2, 0]], _softmax(X[:, :2]))
    np.testing.assert_array_equal(found[:, 1], 0.0)
    scores = _model(_Of(decision_function=lambda x: x[:, :2], classes_=np.array([0, 2]))).outputs(X)
    assert (scores[:, 1] < scores[:, [0, 2]].min(axis=1)).all()
    alone = [
        _model(_Of(decision_function=lambda x: x[:, :2], classes_=np.array([0, 2]))).outputs(X[k : k + 1])[0] for k in range(8)
    ]
    np.testing.assert_array_equal(scores, alone, "the outputs for a record depend on it alone")


def test_records_are_asked_in_blocks_whose_order_is_kept() -> None:
    x, sizes = np.arange(2 * BLOCK + 5, dtype=np.float64)[:, None] + np.arange(2.0), list[int]()

    def predict(rows: np.ndarray) -> np.ndarray:
        sizes.append(len(rows))
        return rows

    np.testing.assert_array_equal(_model(predict, classes=2).outputs(x), x)
    assert sizes == [BLOCK, BLOCK, 5]
    assert _model(predict, classes=2).outputs(x[:0]).shape == (0, 2)


@pytest.mark.parametrize(
    ("native", "line"),
    [
        (lambda x: x[:, :2], r"shape \(8, 2\) for 8 records of 3 classes; allowed: \(8, 3\)"),
        (lambda x: x[:4], r"shape \(4, 3\) for 8 records"),
        (lambda x: x[:, 0], r"shape \(8,\)"),
        (lambda x: np.where(x > 0.9, np.nan, x), r"not finite for 1 of 8 records"),
        (lambda x: np.where(x > 0, np.inf, x), r"not finite for 4 of 8 records"),
        (lambda x: [["a"] * 3] * 8, "gave <U1"),
        (lambda x: [[1], [1, 2]], "not an array"),
        (lambda x: None, "^gave object; allowed: numbers"),
        (_Of(predict_proba=lambda x: None), "^gave object by predict_proba; allowed: numbers"),
    ],
)
def test_outputs_that_cannot_be_used(native: Any, line: str) -> None:
    with pytest.raises(BadModel, match=line):
        _model(native).outputs(X)


@pytest.mark.parametrize("native", [None, 3, "model", [1]])
def test_what_is_no_model(native: Any) -> None:
    with pytest.raises(BadModel, match=r"returned \w+; allowed: a function of records, or an object with predict_proba"):
        _model(native).check()


def test_what_a_model_offers_more_is_one_row_per_record() -> None:
    y = np.zeros(8, np.int64)
    offering = _Of(predict_proba=_softmax, gradient_norms=lambda x, y: x[:, 0], losses_by_epoch=lambda x, y: np.abs(x))
    norms = _model(offering).gradient_norms(X, y)
    assert norms is not None
    assert norms.shape == (8, 1)
    losses = _model(offering).losses_by_epoch(X, y)
    assert losses is not None
    assert losses.shape == (8, 3)
    assert _model(_softmax).gradient_norms(X, y) is None
    with pytest.raises(BadModel, match="gradient_norms of shape"):
        _model(_Of(predict_proba=_softmax, gradient_norms=lambda x, y: x[:2])).gradient_norms(X, y)


class Kept:
    """A model that can be saved."""

    def __init__(self, shift: float) -> None:
        self.shift = shift

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x + self.shift

    def save(self, path: str) -> None:
        Path(path).write_text(str(self.shift))

    @classmethod
    def load(cls, path: str) -> Kept:
        return cls(float(Path(path).read_text()))


def test_a_model_that_can_be_saved_is_loaded_again(tmp_path: Path) -> None:
    packed = _model(Kept(0.5)).saved()
    assert packed is not None
    assert Kept.load(str(unpacked(packed, tmp_path))).shift == 0.5
    assert _model(_softmax).saved() is None
    assert _model(_Of(predict_proba=_softmax, save=lambda path: None)).saved() is None  # nothing could load it
