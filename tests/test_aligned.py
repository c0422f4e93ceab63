"""Values that carry an index are lined up by it, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from memberscope import Evidence, Predictions, ShadowPredictions
from memberscope.aligned import in_order_of, line_up
from memberscope.errors import UserError

NAMES = [f"p{number}" for number in range(6)]
ORDER = [3, 1, 5, 0, 4, 2]


def series(values: Any, order: list[int] | None = None) -> pd.Series:
    found = pd.Series(values, index=NAMES)
    return found if order is None else found.iloc[order]


def fields(order: list[int] | None = None) -> dict[str, Any]:
    """Predictions of six records in pandas' types, all but the scores in `order`."""
    probs = pd.DataFrame({"1": np.linspace(0.1, 0.9, 6), "0": np.linspace(0.9, 0.1, 6)}, index=NAMES)
    return {
        "probs": probs,
        "labels": series(np.array([0, 1, 0, 1, 1, 1], np.uint64), order),
        "member": series(pd.array([True, False, True, False, False, True], dtype="boolean"), order),
        "record_ids": series(NAMES, order),
        "columns": {"region": series(list("aabbcc"), order)},
    }


def test_fields_in_another_order_are_put_in_that_of_the_scores() -> None:
    straight, shuffled = Predictions(**fields()), Predictions(**fields(ORDER))
    for said in (straight, shuffled):
        assert said.record_ids is not None
        assert said.labels is not None
        assert said.record_ids.tolist() == NAMES
        assert said.labels.tolist() == [0, 1, 0, 1, 1, 1]
        assert said.labels.dtype == np.int64
        assert said.member.tolist() == [True, False, True, False, False, True]
        assert said.columns["region"].tolist() == list("aabbcc")
        np.testing.assert_allclose(said.probs[:, 1], np.linspace(0.1, 0.9, 6), err_msg="columns 1, 0 are classes 1, 0")


def test_nothing_changes_where_there_is_no_index_or_it_is_the_same() -> None:
    plain = {name: value.to_numpy() for name, value in fields().items() if name not in ("columns", "probs")}
    said = Predictions(logits=[[0.0, 1.0]] * 6, **plain)
    assert said.labels is not None
    assert said.labels.tolist() == [0, 1, 0, 1, 1, 1]
    words = pd.DataFrame([[0.0, 1.0]] * 6, columns=["no", "yes"])
    assert Predictions(logits=words, **plain).logits.tolist() == [[0.0, 1.0]] * 6


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (
            {"member": pd.Series([True, False] * 3)},
            "member has the index 0, 1, 2, 3, ... and probs p0, p1, .*their labels differ",
        ),
        ({"member": pd.Series([True, False] * 3, index=[*NAMES[:5], "p0"])}, "labels occur twice"),
        (
            {"probs": np.full((6, 2), 0.5), "member": series([True, False] * 3, ORDER)},
            "different orders, and probs has no index",
        ),
    ],
)
def test_what_cannot_be_lined_up_is_refused_in_one_line(change: dict[str, Any], part: str) -> None:
    with pytest.raises(UserError, match=part) as caught:
        Predictions(**{**fields(), **change})
    assert "allowed: the same index, or member.to_numpy()" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_index_that_may_only_count_rows_is_not_taken_for_an_order() -> None:
    counted = pd.Series([True, False] * 3)
    with pytest.raises(UserError, match="one of them may merely count rows"):
        line_up({"member": counted.iloc[ORDER]}, source="here", like=counted)
    other = pd.Series(range(6), index=[10, 11, 12, 13, 14, 15])
    found = line_up({"member": other.iloc[ORDER]}, source="here", like=other)
    assert found["member"].tolist() == list(range(6))


def test_an_order_of_its_own_beside_an_array_is_refused() -> None:
    turned = pd.Series([True, False] * 3).iloc[ORDER]
    for like in (None, np.zeros((6, 2))):
        beside = {"labels": np.zeros(6, int)} if like is None else {}
        with pytest.raises(UserError, match=r"member has the index 3, 1, 5, 0, .*out of order, and (labels|data) has none"):
            line_up({"member": turned, **beside}, source="here", like=like)
    split = pd.Series(
        [True, False] * 3, index=[17, 3, 99, 4, 5, 60]
    )  # rows of a larger table, in the order of the arrays beside them
    said = Predictions(predicted=[0] * 6, labels=[0] * 6, member=split)
    assert said.member.tolist() == [True, False] * 3


def test_shadow_models_have_records_in_columns() -> None:
    member = pd.DataFrame([[True, False] * 3, [False, True] * 3], columns=NAMES)
    losses = pd.DataFrame(np.arange(12.0).reshape(2, 6), columns=NAMES)
    said = ShadowPredictions(
        loss_nats=losses, member=member[[NAMES[k] for k in ORDER]], labels=series([0, 1, 2, 3, 4, 5], ORDER)
    )
    assert said.member.tolist() == member.to_numpy().tolist()
    assert said.labels is not None
    assert said.labels.tolist() == [0, 1, 2, 3, 4, 5]


def test_evidence_is_in_the_order_of_the_predictions() -> None:
    said = Predictions(**fields())
    norms = pd.DataFrame({"layer": np.arange(6.0)})
    np.testing.assert_array_equal(Evidence(target=said, gradients=norms).gradients, norms.to_numpy())
    with pytest.raises(UserError, match=r"gradients: has the index 3, 1, 5, 0, \.\.\., but is read by position"):
        Evidence(target=said, gradients=norms.iloc[ORDER])


def test_an_output_in_another_order_than_the_records() -> None:
    records = pd.DataFrame({"a": range(3)}, index=[7, 8, 9])
    sorted_by_score = pd.DataFrame({"score": [0.3, 0.1, 0.2]}, index=[9, 7, 8])
    assert in_order_of(records, sorted_by_score)["score"].tolist() == [0.1, 0.2, 0.3]
    anew = pd.Series([1, 2, 3])
    assert in_order_of(records, anew) is anew
    with pytest.raises(UserError, match="output: the model returns the index 1, 2, 5 for records 7, 8, 9"):
        in_order_of(records, pd.Series([1, 2, 3], index=[1, 2, 5]))


@pytest.mark.parametrize(
    ("values", "part"),
    [
        (pd.array([True, None] * 3, dtype="boolean"), "member: 3 missing values"),
        ([[1], [2, 3]] * 3, "member: rows of unequal lengths"),
    ],
)
def test_missing_values_and_objects_are_named(values: Any, part: str) -> None:
    with pytest.raises(UserError, match=part):
        Predictions(predicted=[0] * 6, labels=[0] * 6, member=values)


def test_columns_of_pandas_types_are_plain() -> None:
    said = Predictions(
        loss_nats=pd.Series([0.5] * 6, dtype="Float64"), labels=pd.Series([1] * 6, dtype="UInt64"), member=[True, False] * 3,
        record_ids=np.array(NAMES, dtype=object), columns={"c": pd.Series(["x"] * 6, dtype="category")},
    )  # fmt: skip
    assert [array.dtype.kind for array in (said.loss_nats, said.labels, said.record_ids, said.columns["c"])] == list("fiUU")
    holes = pd.DataFrame({"a": pd.array([1, None] * 3, dtype="Int64")})
    kept = Predictions(predicted=[0] * 6, labels=[0] * 6, member=[True, False] * 3, inputs=holes).inputs
    np.testing.assert_array_equal(kept, [[1.0], [np.nan]] * 3, err_msg="what a model was shown may lack values")
    with pytest.raises(UserError, match="labels: 3 missing values"):
        Predictions(predicted=[0] * 6, labels=pd.Series([1, None] * 3, dtype="Int64"), member=[True, False] * 3)
