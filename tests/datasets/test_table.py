from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from memberscope.audit.blind import blind_control
from memberscope.datasets import LabeledData, Table, TableColumn, load_dataset
from memberscope.installed import is_installed
from memberscope.predictions import Predictions

TEXT = """age,income,city,vip,seen,person,target
30,1.5,Rome,True,True,ann,no
41,,Oslo,False,,ann,yes
52,3,,True,False,bob,no
30,4,Oslo,True,True,cat,yes
17,5,NA,False,False,cat,no
"""


@pytest.fixture
def data(tmp_path: Path) -> LabeledData:
    (tmp_path / "people.csv").write_text(TEXT)
    return load_dataset(str(tmp_path / "people.csv"), as_is=True, label="target", group="person")


def _table(data: LabeledData) -> Table:
    assert data.table is not None
    return data.table


def test_words_are_codes_in_sorted_order_and_gaps_are_nan(data: LabeledData) -> None:
    nan = np.nan
    wanted = [[30, 1.5, 2, 1, 1], [41, nan, 1, 0, nan], [52, 3, nan, 1, 0], [30, 4, 1, 1, 1], [17, 5, 0, 0, 0]]
    assert data.x.dtype == np.float64
    np.testing.assert_array_equal(data.x, wanted)
    assert (data.y.tolist(), data.class_names) == ([0, 1, 0, 1, 0], ("no", "yes"))
    assert data.groups is not None
    assert (data.groups.dtype, data.groups.tolist()) == (np.int64, [0, 0, 1, 2, 2])
    assert _table(data).names == ("age", "income", "city", "vip", "seen")
    assert [column.kind for column in _table(data).columns] == ["number", "number", "word", "boolean", "boolean"]
    assert _table(data).words
    assert data.notes == ("column city: 'NA' was read as a word (na_values=NA makes it a missing value)",)


def test_a_frame_has_the_files_values_in_types_that_models_take(data: LabeledData) -> None:
    frame = _table(data).frame(data.x)
    assert [str(dtype) for dtype in frame.dtypes] == ["int64", "float64", "category", "bool", "float64"]
    assert frame["age"].tolist() == [30, 41, 52, 30, 17]
    assert frame["city"].astype(object).where(frame["city"].notna(), None).tolist() == ["Rome", "Oslo", None, "Oslo", "NA"]
    assert frame["city"].cat.categories.tolist() == ["NA", "Oslo", "Rome"]
    assert frame["vip"].tolist() == [True, False, True, True, False]
    np.testing.assert_array_equal(frame["seen"], [1, np.nan, 0, 1, 0])
    part = _table(data).frame(data.x[:1])  # types are the table's, whatever the rows hold
    assert part.dtypes.tolist() == frame.dtypes.tolist()
    assert _table(data).frame(data.x[:0]).dtypes.tolist() == frame.dtypes.tolist()


def test_scikit_learn_takes_the_frame(data: LabeledData) -> None:
    frame = _table(data).frame(data.x)
    hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(frame[["city"]])
    assert [str(name) for name in hot.categories_[0]] == ["NA", "Oslo", "Rome", "nan"]
    np.testing.assert_array_equal(hot.transform(frame[["city"]]).argmax(axis=1), [2, 1, 3, 1, 0])
    np.testing.assert_array_equal(OrdinalEncoder().fit_transform(frame[["city"]])[:, 0], [2, 1, np.nan, 1, 0])
    both = ColumnTransformer([("words", OneHotEncoder(), ["city"])], remainder="passthrough").fit_transform(frame)
    assert both.shape == (5, 8)
    model = HistGradientBoostingClassifier(categorical_features=["city"], min_samples_leaf=1).fit(frame, data.y)
    assert model.predict_proba(frame).shape == (5, 2)


def test_parquet_gives_the_table_of_its_types(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    size = pd.Categorical(["small", "large", "small"], categories=["small", "large", "huge"], ordered=True)
    frame = pd.DataFrame(
        {"n": pd.array([1, None, 3], dtype="Int64"), "size": size, "f": np.float32([0.5, 1, 2]), "ok": [True, False, True]}
    )
    frame["day"] = pd.to_datetime(["2024-01-01", "1970-01-02", None])
    frame["label"] = [True, False, True]
    frame.to_parquet(tmp_path / "t.parquet")
    data = load_dataset(str(tmp_path / "t.parquet"), as_is=True)
    nan = np.nan
    np.testing.assert_array_equal(data.x, [[1, 1, 0.5, 1, 1704067200], [nan, 0, 1, 0, 86400], [3, 1, 2, 1, nan]])
    assert data.class_names == ("False", "True")
    assert data.y.tolist() == [1, 0, 1]
    assert [str(dtype) for dtype in _table(data).frame(data.x).dtypes] == ["float64", "category", "float64", "bool", "float64"]
    assert "column day: dates were read as seconds since 1970" in data.notes


def test_a_table_is_hashable_and_survives_json(data: LabeledData) -> None:
    table = _table(data)
    again = Table.from_dict(json.loads(json.dumps(table.to_dict())))
    assert again == table
    assert hash(again) == hash(table)
    assert Table.from_dict({"columns": []}).words is False


def test_numbers_that_are_no_codes_are_refused() -> None:
    table = Table(
        columns=(TableColumn(name="w", kind="word", categories=("a", "b")), TableColumn(name="k", kind="number", whole=True))
    )
    for odd in (2.0, 0.5, -1.0):
        with pytest.raises(ValueError, match="column w: numbers that are not codes of its 2 words"):
            table.frame(np.array([[odd, 1.0]]))
    with pytest.raises(ValueError, match=r"rows of shape \(1, 3\) for a table of 2 columns"):
        table.frame(np.zeros((1, 3)))
    assert table.frame(np.array([[1.0, 1.5]]))["k"].tolist() == [1.5]  # a perturbed copy keeps its value
    with pytest.raises(ValueError, match="column w: kind 'text'; allowed: number, boolean, word"):
        TableColumn(name="w", kind="text")


def test_whole_numbers_beyond_float64_are_said_to_be_rounded(tmp_path: Path) -> None:
    (tmp_path / "big.csv").write_text(f"n,m,label\n{2**53 + 1},1,a\n2,2,b\n3,3,a\n")
    data = load_dataset(str(tmp_path / "big.csv"), as_is=True)
    assert data.notes[0] == "column n: whole numbers beyond 2^53 were rounded to 53 bits"
    assert data.notes[1].startswith("columns with a different value in every record: n, m; if they only name the records")
    assert [str(dtype) for dtype in _table(data).frame(data.x).dtypes] == ["float64", "int64"]


def test_digest_depends_on_the_words(tmp_path: Path) -> None:
    found = []
    for name, words in (("a", "x,y,x"), ("b", "x,z,x")):
        rows = "".join(f"{word},{number}\n" for number, word in enumerate(words.split(",")))
        (tmp_path / f"{name}.csv").write_text("w,label\n" + rows)
        found.append(load_dataset(str(tmp_path / f"{name}.csv"), as_is=True))
    np.testing.assert_array_equal(found[0].x, found[1].x)
    assert found[0].digest != found[1].digest


def test_plain_numbers_have_indicators_while_there_is_room() -> None:
    many = tuple(f"w{k:02}" for k in range(40))
    table = Table(
        columns=(
            TableColumn(name="many", kind="word", categories=many),
            TableColumn(name="few", kind="word", categories=("a", "b")),
            TableColumn(name="n", kind="number"),
        )
    )
    x = np.array([[39, 0, 1.5], [np.nan, 1, np.nan], [3, np.nan, 2]])
    np.testing.assert_array_equal(
        table.plain(x), [[39, 1, 0, 0, 1.5], [40, 0, 1, 0, np.nan], [3, 0, 0, 1, 2]]
    )  # the missing word of a column of codes has a code of its own
    data = LabeledData(name="t", x=x, y=np.array([0, 1, 0]), class_names=("0", "1"), source="", table=table)
    np.testing.assert_array_equal(data.inputs(np.array([2])), [[3, 0, 0, 1, 2]])


def test_the_blind_control_finds_words_and_gaps() -> None:
    rng = np.random.default_rng(0)
    n, words = 1200, tuple("abcdefgh")
    table = Table(columns=(TableColumn(name="w", kind="word", categories=words), TableColumn(name="n", kind="number")))
    member = np.arange(n) < n // 2
    even = rng.integers(0, len(words), n).astype(np.float64)
    noise = np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n))

    def auc(codes: np.ndarray) -> tuple[bool, float]:
        made = LabeledData(
            name="t", x=np.column_stack([codes, noise]), y=rng.integers(0, 2, n), class_names=("0", "1"), source="", table=table
        )
        given = Predictions(
            logits=np.zeros((n, 2)), labels=made.y, member=member, inputs=made.inputs(np.arange(n)), record_ids=np.arange(n)
        )
        found = blind_control(given, seed=0, workers=1)
        assert found.auc.value is not None
        return found.differs, found.auc.value

    assert auc(even)[0] is False
    middle = np.where(member & (rng.random(n) < 0.25), 3.0, even)  # a word in the middle of the order
    differs, value = auc(middle)
    assert differs
    assert 0.56 < value < 0.70
    gaps = np.where(rng.random(n) < np.where(member, 0.3, 0.05), np.nan, even)
    differs, value = auc(gaps)
    assert differs
    assert 0.56 < value < 0.70


def test_copies_have_equal_gaps_and_take_groups_with_them(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("w,n,who,label\na,,1,x\n,2,2,y\na,,1,x\n,2,3,y\nb,,4,x\n")
    path = str(tmp_path / "t.csv")
    data = load_dataset(path, as_is=True, group="who")
    assert (len(data), data.copies) == (3, 2)
    assert data.groups is not None
    assert data.groups.tolist() == [0, 1, 3]
    kept = load_dataset(path, as_is=True, group="who", duplicates="keep")
    assert kept.same is not None
    assert kept.same.tolist() == [0, 1, 0, 1, 4]


@pytest.mark.skipif(not is_installed("xgboost"), reason="xgboost is not installed")
def test_xgboost_takes_the_frame(data: LabeledData) -> None:
    import xgboost

    model = xgboost.XGBClassifier(enable_categorical=True, n_estimators=2).fit(_table(data).frame(data.x), data.y)
    assert model.predict_proba(_table(data).frame(data.x[:2])).shape == (2, 2)
