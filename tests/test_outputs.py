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
SIGMOIDS = 1 / (1 + np.exp(-3 * LOGITS))
WHOLE = np.where(np.arange(60) < 10, 1, np.round(100 * PROBS[:, 0])).astype(int)
WITH_LABEL = np.column_stack([PROBS.argmax(axis=1), PROBS])


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
    "several sigmoids": (
        SIGMOIDS,
        LABELS,
        "auto",
        r"neither labels.*normalize the rows, or give the sigmoids' logits, log[p/() 1-]*$",
    ),
    "sigmoids for probabilities": (
        SIGMOIDS,
        LABELS,
        "probs",
        r"output=probs: .*normalize the rows, or give the sigmoids' logits",
    ),
    "sigmoids for logits": (SIGMOIDS, LABELS, "logits", r"output=logits: .*one sigmoid per class.*normalize the rows"),
    "counts": (np.abs(10 * LOGITS), LABELS, "auto", "none below 0"),
    "percentage of one class": (100 * PROBS[:, 0], LABELS % 2, "auto", "none below 0: a percentage.*output=logits"),
    "logarithm of one class": (np.log(PROBS[:, 0]), LABELS % 2, "auto", "none above 0.*output=logits"),
    "whole percentages": (WHOLE, LABELS % 2, "auto", "a label that no record has"),
    "a class beside logits": (
        np.column_stack([LABELS, LOGITS]),
        LABELS,
        "auto",
        "column 0 holds whole numbers.*output=logits if all",
    ),
    "a class and its confidence": (np.column_stack([LABELS + 1, PROBS.max(axis=1)]), LABELS, "auto", "column 0|none below 0"),
    "two heads": (
        np.column_stack([PROBS, LABELS, PROBS[::-1]]),
        LABELS,
        "auto",
        "2 blocks of columns each sum to one.*columns 0 to 2 and",
    ),
    "something empty": (np.column_stack([LABELS, 0 * LABELS, PROBS]), LABELS, "auto", "column 1 next to.*zeros only"),
    "words beside logits": (
        np.column_stack([np.array(list("abc"), object)[LABELS], LOGITS]),
        LABELS,
        "auto",
        "column 0 does not hold numbers",
    ),
    "a block for logits": (
        np.column_stack([LABELS, PROBS]),
        LABELS,
        "logits",
        "output=logits: 3 non-negative columns.*auto, probs",
    ),
    "no answer": (np.array(["a", None, "b"] * 20, object), np.array(list("abc"))[LABELS], "auto", "no label for 20 of 60"),
    "nan": (NAN, LABELS, "auto", "1 NaN"),
    "rows": (LOGITS[:50], LABELS, "auto", "50 rows for 60 records"),
    "a map of features": (np.zeros((60, 3, 4, 5)), LABELS, "auto", r"\(60, 3, 4, 5\)"),
    "a class too many": (PROBS, LABELS + 1, "auto", "label: 3, but the model has 3 columns"),
    "words without classes": (PROBS, np.array(["a", "b", "c"])[LABELS], "auto", "does not name its classes"),
    "no label in common": (np.array(["x"] * 60), np.array(["a", "b", "c"])[LABELS], "auto", "none in common"),
    "labels for scores": (LABELS, LABELS, "probs", "output=probs: the model returns labels"),
    "probabilities for logits": (
        PROBS,
        LABELS,
        "logits",
        "output=logits: the rows are non-negative and sum to one.*output=auto",
    ),
    "unnamed": ({"a": LOGITS, "b": LOGITS}, LABELS, "auto", "returns a, b"),
    "ragged": ([[1.0], [1.0, 2.0]] * 30, LABELS, "auto", "unequal lengths"),
    "nothing": (np.empty((0,)), LABELS[:0], "auto", "allowed"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_what_cannot_be_told_is_refused(case: str) -> None:
    raw, labels, requested, part = BAD[case]
    with pytest.raises(UserError, match=part):
        read_output(raw, labels, requested=requested)


def test_asking_overrules() -> None:
    small = 0.5 + LOGITS / 20  # a model that learned almost nothing
    assert (small.min() > 0, small.max() < 1) == (True, True)
    assert read_output(small, LABELS, requested="logits").form == "logits"
    assert read_output(np.column_stack([LABELS, LOGITS]), LABELS, requested="logits").values.shape == (60, 4)
    assert read_output(PROBS, LABELS, requested="labels").form == "predicted"
    np.testing.assert_array_equal(read_output(PROBS, LABELS, requested="labels").values, PROBS.argmax(axis=1))


@pytest.mark.parametrize("scale", [100.0, 50.0, 0.5, 255.0])
@pytest.mark.parametrize("requested", ["auto", "probs"])
def test_rows_that_all_sum_to_one_number_are_divided_by_it(scale: float, requested: str) -> None:
    found = read_output(scale * PROBS, LABELS, requested=requested)
    assert found.form == "probs"
    np.testing.assert_allclose(found.values, PROBS, rtol=1e-5)
    assert f"all sum to {scale:g}" in found.why
    assert ("percentages" in found.why) == (scale == 100)


def test_votes_of_trees_are_shares() -> None:
    votes = RNG.multinomial(40, [0.2, 0.3, 0.5], size=60)
    found = read_output(votes, LABELS)
    np.testing.assert_allclose(found.values, votes / 40)


def test_logarithms_of_probabilities_are_logits_whatever_their_sign() -> None:
    sharp = PROBS / PROBS.sum(axis=1, keepdims=True)
    for raw in (np.log(sharp), -np.log(sharp)):
        found = read_output(raw, LABELS)
        assert found.form == "logits"
        assert "log-probabilities" in found.why
        np.testing.assert_allclose(np.exp(found.values), sharp, rtol=1e-5)
    hard = np.where(LABELS[:, None] == np.arange(3), 0.0, PROBS)
    hard /= hard.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        found = read_output(np.log(hard), LABELS)
    assert found.form == "probs"
    np.testing.assert_allclose(found.values, hard, atol=1e-6)


@pytest.mark.parametrize("requested", ["auto", "probs"])
@pytest.mark.parametrize(
    ("raw", "left_out"),
    [
        (WITH_LABEL, "column 0"),
        (np.column_stack([PROBS, 7 + np.arange(60)]), "column 3"),
        (np.column_stack([PROBS.argmax(axis=1), PROBS.max(axis=1), PROBS]), "columns 0 to 1"),
        (np.column_stack([PROBS.argmax(axis=1), 100 * PROBS]), "column 0"),
        (np.column_stack([PROBS[:, :1], -np.arange(60), PROBS[:, 1:]]), "column 1"),
        (np.column_stack([np.array(["x"] * 60, object), PROBS]), "column 0"),
        (pd.DataFrame(WITH_LABEL, columns=["said", "a", "b", "c"]), "column said"),
        ({"predictions": pd.DataFrame(WITH_LABEL, columns=["said", "a", "b", "c"])}, "column said"),
    ],
)
def test_one_probability_a_class_is_taken_from_among_other_columns(raw: object, left_out: str, requested: str) -> None:
    found = read_output(raw, LABELS, requested=requested)
    assert found.form == "probs"
    np.testing.assert_allclose(found.values, PROBS, rtol=1e-5)
    assert f"left out: {left_out}" in found.why


def test_labels_are_those_of_the_block() -> None:
    found = read_output(np.column_stack([5 + LABELS, PROBS]), LABELS, requested="labels")
    np.testing.assert_array_equal(found.values, PROBS.argmax(axis=1))
    table = np.column_stack([np.array(list("abc"), object)[LABELS], PROBS.max(axis=1), LOGITS[:, 0]])
    assert (
        read_output(table, np.array(list("abc"))[LABELS], requested="labels").values.tolist()
        == np.array(list("abc"))[LABELS].tolist()
    )


def test_the_models_number_of_classes_tells_a_class_of_zeros_from_another_column() -> None:
    never = np.column_stack([LABELS + 5, 0 * LABELS, PROBS])
    found = read_output(never, LABELS + 1, classes=[0, 1, 2, 3])
    assert found.values.shape == (60, 4)
    assert read_output(never, LABELS, classes=[0, 1, 2]).values.shape == (60, 3)


def test_logits_of_many_kinds_stay_logits() -> None:
    masked = np.column_stack([LOGITS, np.full(60, -1e9)])
    reference = np.column_stack([np.zeros(60), LOGITS])
    whole = np.round(10 * LOGITS)
    for raw in (masked, reference, whole, LOGITS[:, :2]):
        assert read_output(raw, LABELS % 2).form == "logits"
        np.testing.assert_array_equal(read_output(raw, LABELS % 2).values, raw)


@pytest.mark.parametrize("wrap", ["{}", "p_{}", "{} %", "prob({})"])
def test_columns_are_put_by_their_names(wrap: str) -> None:
    words, order = np.array(["cat", "dog", "eel"]), [2, 0, 1]
    frame = pd.DataFrame(PROBS[:, order], columns=[wrap.format(words[k]) for k in order])
    found = read_output(frame, words[LABELS])
    at_label = found.values[np.arange(60), found.labels]
    np.testing.assert_allclose(at_label, PROBS[np.arange(60), LABELS])
    assert [found.classes[k] for k in found.labels] == words[LABELS].tolist()  # type: ignore[index]


def test_columns_sorted_as_text_are_not_counted_off() -> None:
    wide = RNG.dirichlet(np.ones(12), size=60)
    frame = pd.DataFrame(wide, columns=[f"score_{k}" for k in range(12)])
    labels = np.arange(60) % 12
    found = read_output(frame[sorted(frame.columns)], labels)
    np.testing.assert_allclose(found.values[np.arange(60), found.labels], wide[np.arange(60), labels])


CODES = {
    "snomed": np.array([254837009, 22298006, 900000000000207008]),
    "negative": np.array([-9, -1, 4]),
    "unsigned": np.array([2**64 - 1, 2**63, 5], dtype=np.uint64),
    "zip": np.array(["00501", "501", "99950"]),
    "words": np.array(["no", "yes", "per haps"]),
}


@pytest.mark.parametrize("kind", sorted(CODES))
@pytest.mark.parametrize("as_objects", [False, True])
def test_any_integers_and_words_are_classes(kind: str, as_objects: bool) -> None:
    codes = CODES[kind]
    said = codes[LOGITS.argmax(axis=1)]
    found = read_output(said.astype(object) if as_objects else said, codes[LABELS])
    assert found.labels.tolist() == codes[LABELS].tolist()
    assert found.values.tolist() == said.tolist()
    target = found.predictions(member=np.arange(60) < 30, record_ids=None, inputs=None)
    assert target.n_classes == 3


def test_arrays_of_tensors_and_frames() -> None:
    assert as_array({"only": LOGITS}).shape == (60, 3)
    assert as_array(pd.DataFrame(PROBS)).shape == (60, 3)
