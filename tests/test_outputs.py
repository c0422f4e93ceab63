"""What a raw output means: every form recognized from its values, and what cannot be told refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memberscope.errors import UserError
from memberscope.outputs import as_array, read_output

LABELS = np.arange(60) % 3
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(60, 3)).astype(np.float32)
PROBS = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("raw", "form"),
    [
        (LOGITS, "logits"),
        (PROBS, "probs"),
        (np.log(PROBS), "logits"),
        (LABELS, "predicted"),
        (LABELS.astype(float), "predicted"),
        (LABELS[:, None], "predicted"),
        (np.eye(3)[LABELS], "predicted"),
        (pd.DataFrame(PROBS, columns=list("abc")), "probs"),
        ({"logits": LOGITS, "hidden": LOGITS}, "logits"),
        (pd.Series(list(PROBS)), "probs"),
        (PROBS.tolist(), "probs"),
    ],
)
def test_auto_recognizes_each_form(raw: object, form: str) -> None:
    found = read_output(raw, LABELS)
    assert found.form == form
    assert found.why
    np.testing.assert_array_equal(found.labels, LABELS)
    target = found.predictions(member=np.arange(60) < 30, record_ids=None, inputs=None)
    assert target.form == form


def test_one_column_of_two_classes_becomes_two() -> None:
    truth, p = LABELS % 2, PROBS[:, 0].astype(float)
    found = read_output(p[:, None], truth)
    assert found.form == "probs"
    np.testing.assert_allclose(found.values, np.stack([1 - p, p], axis=1))
    z = 5 * LOGITS[:, 0]
    found = read_output(z, truth)
    assert found.form == "logits"
    np.testing.assert_allclose(found.values[:, 1] - found.values[:, 0], z)


@given(st.permutations(["cat", "dog", "eel"]))
def test_labels_follow_the_models_own_order_of_classes(classes: list[str]) -> None:
    words = np.array(["cat", "dog", "eel"])[LABELS]
    found = read_output(PROBS, words, classes=classes)
    assert [classes[number] for number in found.labels] == words.tolist()


@pytest.mark.parametrize("kind", [int, float, str])
def test_numbers_are_the_same_label_whatever_their_type(kind: type) -> None:
    truth = np.array([kind(label + 1) for label in LABELS])
    found = read_output(PROBS, truth, classes=[np.int64(1), np.int64(2), np.int64(3)])
    np.testing.assert_array_equal(found.labels, LABELS)


def test_words_as_labels_are_numbered_alike_on_both_sides() -> None:
    truth = np.array(["no", "yes"] * 30)
    said = np.array(["no", "no"] * 30, dtype=object)
    found = read_output(said, truth)
    assert found.form == "predicted"
    assert float((found.values == found.labels).mean()) == 0.5


NAN = LOGITS.copy()
NAN[3, 1] = np.nan
BAD = {
    "regression": (LOGITS[:, 0] * 100, LABELS, "auto", "neither labels nor scores"),
    "several sigmoids": (PROBS / 2, LABELS, "auto", "neither labels nor"),
    "nan": (NAN, LABELS, "auto", "1 NaN"),
    "rows": (LOGITS[:50], LABELS, "auto", "50 rows for 60 records"),
    "a map of features": (np.zeros((60, 3, 4, 5)), LABELS, "auto", r"\(60, 3, 4, 5\)"),
    "a class too many": (PROBS, LABELS + 1, "auto", "label: 3, but the model has 3 columns"),
    "words without classes": (PROBS, np.array(["a", "b", "c"])[LABELS], "auto", "does not name its classes"),
    "no label in common": (np.array(["x"] * 60), np.array(["a", "b", "c"])[LABELS], "auto", "none in common"),
    "labels for scores": (LABELS, LABELS, "probs", "output=probs: the model returns labels"),
    "probabilities for logits": (PROBS, LABELS, "logits", "output=logits: the rows are non-negative and sum to one"),
    "unnamed": ({"a": LOGITS, "b": LOGITS}, LABELS, "auto", "returns a, b"),
    "ragged": ([[1.0], [1.0, 2.0]] * 30, LABELS, "auto", "unequal lengths"),
    "nothing": (np.empty((0,)), LABELS[:0], "auto", "allowed"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_what_cannot_be_told_is_refused(case: str) -> None:
    raw, labels, asked, part = BAD[case]
    with pytest.raises(UserError, match=part):
        read_output(raw, labels, asked=asked)


def test_asking_overrules() -> None:
    assert read_output(PROBS / 2, LABELS, asked="logits").form == "logits"
    assert read_output(PROBS, LABELS, asked="labels").form == "predicted"
    np.testing.assert_array_equal(read_output(PROBS, LABELS, asked="labels").values, PROBS.argmax(axis=1))


def test_arrays_of_tensors_and_frames() -> None:
    assert as_array({"only": LOGITS}).shape == (60, 3)
    assert as_array(pd.DataFrame(PROBS)).shape == (60, 3)
