"""Shadow models of a fitted classifier: what they are trained on, what they are asked, and what bad input gets."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import make_classification
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from memberscope import Evidence, run_audit, shadow_evidence
from memberscope.errors import UserError
from memberscope.plans.shadow import make_shadow_plan, paired_halves
from memberscope.seeds import stream
from memberscope.shadows import _copy

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def records() -> Arrays:
    """(240, 6) records in three classes, a fifth of whose labels are random, and the members."""
    x, y = make_classification(240, 6, n_informative=4, n_classes=3, flip_y=0.2, random_state=0)
    return x, y, np.arange(240) % 2 == 0


def forest(records: Arrays, **options: Any) -> RandomForestClassifier:
    x, y, member = records
    return RandomForestClassifier(10, random_state=3, **options).fit(x[member], y[member])


def kept(evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """The shadows' outputs and membership."""
    assert evidence.shadows is not None
    outputs = evidence.shadows.probs if evidence.shadows.probs is not None else evidence.shadows.logits
    assert outputs is not None
    return np.asarray(outputs), np.asarray(evidence.shadows.member)


def test_each_shadow_is_a_copy_that_is_fitted_on_its_own_half(records: Arrays) -> None:
    x, y, member = records
    model = forest(records, max_depth=4, n_jobs=2)
    before = model.get_params()
    found = shadow_evidence(model, x, y, member, shadows=4, seed=7)
    outputs, halves = kept(found)
    assert model.get_params() == before
    np.testing.assert_allclose(found.target.probs, model.predict_proba(x), rtol=1e-12)  # the order of its trees varies
    assert np.array_equal(found.target.member, member)
    assert np.array_equal(halves[0::2], ~halves[1::2])
    assert len({half.tobytes() for half in halves}) == 4
    for half in halves:
        assert (np.abs(np.bincount(y[half]) - np.bincount(y[~half])) <= 1).all()
    # with any seed of its own, a forest knows the labels of its members: a row that belonged to another shadow would not fit
    right = outputs[:, np.arange(240), y]
    deep, deep_halves = kept(shadow_evidence(forest(records), x, y, member, shadows=4, seed=7))
    assert np.array_equal(deep_halves, halves)
    sure = deep[:, np.arange(240), y]
    for one, half in zip(sure, halves, strict=True):
        assert one[half].mean() > 0.8 > 0.75 > one[~half].mean()
    assert right.mean() < sure.mean(), "the depth of the model is that of its copies"


def test_a_model_without_chance_gives_what_it_gives_by_hand(records: Arrays) -> None:
    x, y, member = records
    words = np.array(["ant", "bee", "cat"])[y]
    model = make_pipeline(StandardScaler(), LinearDiscriminantAnalysis()).fit(x[member], words[member])
    outputs, halves = kept(shadow_evidence(model, x, words, member, shadows=4))
    for one, half in zip(outputs, halves, strict=True):
        np.testing.assert_allclose(one, clone(model).fit(x[half], words[half]).predict_proba(x), rtol=1e-9)
    scores = RidgeClassifier().fit(x[member], y[member])
    outputs, halves = kept(shadow_evidence(scores, x, y, member, shadows=2))
    np.testing.assert_allclose(outputs[1], clone(scores).fit(x[halves[1]], y[halves[1]]).decision_function(x), rtol=1e-9)


def test_the_same_seed_gives_the_same_bits_for_any_number_of_workers(records: Arrays) -> None:
    x, y, member = records
    model = forest(records)
    first, halves = kept(shadow_evidence(model, x, y, member, shadows=4, workers=1))
    for workers in (3, None):
        again, members = kept(shadow_evidence(model, x, y, member, shadows=4, workers=workers))
        assert first.tobytes() == again.tobytes()
        assert np.array_equal(halves, members)
    _, members = kept(shadow_evidence(model, x, y, member, shadows=4, seed=1))
    assert not np.array_equal(halves, members)


def test_every_seed_of_a_model_is_set_and_differs_between_shadows(records: Arrays) -> None:
    x, y, member = records
    seen: list[dict[str, Any]] = []

    class Noted(RandomForestClassifier):
        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
            seen.append({name: self.get_params()[name] for name in ("random_state", "n_jobs")})
            return super().fit(X, y, sample_weight)

    model = make_pipeline(StandardScaler(), Noted(2, random_state=5, n_jobs=2)).fit(x[member], y[member])
    seen.clear()
    shadow_evidence(model, x, y, member, shadows=6, workers=2)
    assert len({one["random_state"] for one in seen} - {5}) == 6
    assert {one["n_jobs"] for one in seen} == {1}


def test_copies_and_groups_stay_together(records: Arrays) -> None:
    x, y, member = records
    twice, labels = np.concatenate([x, x[:80]]), np.concatenate([y, y[:80]])
    inside = np.concatenate([member, member[:80]])
    model = DecisionTreeClassifier(random_state=0).fit(twice[inside], labels[inside])
    _, halves = kept(shadow_evidence(model, twice, labels, inside, shadows=8))
    assert np.array_equal(halves[:, :80], halves[:, 240:])
    persons = np.arange(240) // 3
    of_person = persons % 2 == 0
    model = DecisionTreeClassifier(random_state=0).fit(x[of_person], y[of_person])
    found = shadow_evidence(model, x, y, of_person, shadows=8, groups=persons)
    halves = kept(found)[1].reshape(8, 80, 3)
    assert (halves.all(axis=2) | ~halves.any(axis=2)).all()
    assert np.array_equal(found.target.groups, persons)


def test_frames_sparse_matrices_and_texts(records: Arrays) -> None:
    x, y, member = records
    expected, _ = kept(
        shadow_evidence(DecisionTreeClassifier(random_state=0).fit(x[member], y[member]), x, y, member, shadows=2)
    )
    frame = pd.DataFrame(x, columns=list("abcdef"), index=np.arange(240)[::-1])
    labels = pd.Series(y, index=frame.index)
    model = DecisionTreeClassifier(random_state=0).fit(frame[member], labels[member])
    found, _ = kept(shadow_evidence(model, frame, labels, member, shadows=2))
    assert np.array_equal(found, expected)
    matrix = sparse.csr_matrix(x)
    model = DecisionTreeClassifier(random_state=0).fit(matrix[member], y[member])
    found, _ = kept(shadow_evidence(model, matrix, y, member, shadows=2))
    np.testing.assert_allclose(found, expected)
    texts = [f"word{k % 17} word{k % 5} word{label}" for k, label in enumerate(y.tolist())]
    bags = make_pipeline(CountVectorizer(), MultinomialNB())
    bags.fit([text for text, chosen in zip(texts, member, strict=True) if chosen], y[member])
    assert kept(shadow_evidence(bags, texts, y, member, shadows=2))[0].shape == (2, 240, 3)


@pytest.mark.slow
def test_lira_finds_the_members_of_a_forest_and_not_those_of_a_coin(records: Arrays) -> None:
    x, y, member = records
    found = run_audit(shadow_evidence(forest(records), x, y, member, shadows=8), attacks="lira_online,rmia_online")
    rows = found.to_frame().query("slice == 'entire' and metric == 'auc'").set_index("attack")
    assert 0.9 < rows.loc["lira_online", "value"] <= 1
    skipped = found.to_frame().query("attack == 'rmia_online'")
    assert skipped["reason"].str.contains("asks no model about records that none was trained on").all()
    aucs = []
    for seed in range(6):  # membership that the model knows nothing of: the design itself must not tell
        coin = np.random.default_rng(seed).random(240) < 0.5
        evidence = shadow_evidence(forest(records), x, y, coin, shadows=8, seed=seed)
        report = run_audit(evidence, attacks="lira_online")
        aucs.append(report.to_frame().query("slice == 'entire' and metric == 'auc'")["value"].item())
    assert 0.44 < np.mean(aucs) < 0.56


def test_threads_have_the_settings_of_the_caller(records: Arrays) -> None:
    x, y, member = records
    seen: list[tuple[str, bool]] = []

    class Watching(ClassifierMixin, BaseEstimator):
        def fit(self, X: Any, y: Any) -> Any:
            seen.append((str(sklearn.get_config()["assume_finite"]), threading.current_thread() is threading.main_thread()))
            self.classes_ = np.unique(y)
            return self

        def predict_proba(self, X: Any) -> np.ndarray:
            return np.full((len(X), 3), 1 / 3)

    model = Watching().fit(x, y)
    with sklearn.config_context(assume_finite=True):
        seen.clear()
        shadow_evidence(model, x, y, member, shadows=4, workers=2)
    assert seen == [("True", False)] * 4


class Fails(DecisionTreeClassifier):
    """Cannot be fitted on fewer than 121 records."""

    fitted = 0

    def fit(self, X: Any, y: Any, **options: Any) -> Any:
        type(self).fitted += 1
        if len(X) < 121:
            raise ValueError(f"{len(X)} are\ntoo few")
        return super().fit(X, y, **options)


def test_a_shadow_that_cannot_be_fitted_ends_the_rest(records: Arrays) -> None:
    x, y, member = records
    model = Fails().fit(x, y)
    Fails.fitted = 0
    with pytest.raises(
        UserError, match=r"^model: a copy of Fails cannot be fitted on 120 of the 240 records \(ValueError: 120 are too few\)"
    ):
        shadow_evidence(model, x, y, member, shadows=40, workers=2)
    assert 1 <= Fails.fitted < 40


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shadows": 3}, "shadows=3: .*allowed: an even number, at least 2"),
        ({"shadows": 0}, "shadows=0: "),
        ({"workers": 0}, "workers=0; allowed: 1 or more"),
        ({"y": np.zeros(239, int)}, r"y: shape \(239,\) for 240 records"),
        ({"member": np.arange(240) % 2}, r"member: int64 of shape \(240,\)"),
        ({"member": np.ones(240, bool)}, "member: 240 of 240 records are members"),
        ({"member": np.zeros(240, bool)}, "member: 0 of 240 records are members"),
        ({"groups": np.zeros(3)}, r"groups: shape \(3,\) for 240 records"),
        ({"model": DecisionTreeClassifier}, "model: the class DecisionTreeClassifier, which cannot be copied"),
        ({"model": DecisionTreeClassifier()}, "model: DecisionTreeClassifier is not fitted"),
        ({"model": np.tanh}, "model: ufunc, which cannot be copied"),
        ({"model": LinearRegression()}, "model: LinearRegression has neither predict_proba nor decision_function"),
        ({"y": np.zeros(240, int)}, r"y: lacks 2 of the model's 3 classes \(such as 1\)"),
        ({"y": np.where(np.arange(240) == 3, np.nan, 1.0)}, "y: 1 NaN or infinite values, the first at 3"),
        ({"y": np.array([None, *"ab" * 119, "c"], dtype=object)}, "y: 1 missing values"),
        ({"shadows": "16"}, "shadows='16': "),
        ({"shadows": 4.0}, r"shadows=4\.0: "),
        ({"workers": "all"}, "workers='all'; allowed: 1 or more"),
        ({"workers": 1.5}, r"workers=1\.5; allowed: 1 or more"),
        ({"seed": -1}, "seed=-1; allowed: an integer, at least 0"),
        ({"seed": "a"}, "seed='a'; allowed: "),
        ({"seed": None}, "seed=None; allowed: "),
        ({"X": None}, "X: NoneType; allowed: an array"),
        ({"X": "table.csv"}, "X: str; allowed: an array"),
        (
            {"X": np.zeros((240, 5))},
            r"X: RandomForestClassifier\.predict_proba fails on these 240 records \(ValueError: X has 5 features",
        ),
        ({"groups": np.zeros(240, int)}, "groups: all records are in one group"),
        ({"groups": np.linspace(0, 1, 240)}, "groups: dtype float64; allowed: integers and text"),
        ({"groups": pd.Series([None, *["p"] * 239])}, "groups: 1 missing values"),
        (
            {"member": pd.Series(np.arange(240) % 2 == 0, index=range(1, 241)), "X": pd.DataFrame(np.zeros((240, 6)))},
            "shadow_evidence: member has the",
        ),
    ],
)
def test_mistakes_are_one_line_before_any_training(
    records: Arrays, changes: dict[str, Any], message: str, monkeypatch: Any
) -> None:
    x, y, member = records
    given = {"model": forest(records), "X": x, "y": y, "member": member, "shadows": 2, **changes}
    monkeypatch.setattr(RandomForestClassifier, "fit", lambda *_: pytest.fail("trained"))
    with pytest.raises(UserError, match=f"^{message}") as error:
        shadow_evidence(**given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("which", ["y", "member", "groups"])
def test_series_are_put_in_the_order_of_the_records(records: Arrays, which: str) -> None:
    x, y, member = records
    frame = pd.DataFrame(x, index=[f"r{k}" for k in range(240)])
    persons = np.arange(240) // 2
    inside = member[persons]  # both records of a person
    model = DecisionTreeClassifier(random_state=0).fit(x[inside], y[inside])
    given = {"y": y, "member": inside, "groups": persons}
    expected = shadow_evidence(model, x, **given, shadows=2)
    shuffled = pd.Series(given[which], index=frame.index).sample(frac=1, random_state=0)
    assert shuffled.to_numpy().tolist() != given[which].tolist()
    model = DecisionTreeClassifier(random_state=0).fit(frame[inside], y[inside])
    found = shadow_evidence(model, frame, **{**given, which: shuffled}, shadows=2)
    for name in ("labels", "member", "groups", "probs"):
        assert np.array_equal(getattr(found.target, name), getattr(expected.target, name)), name
    for one, other in zip(kept(found), kept(expected), strict=True):
        assert np.array_equal(one, other)
    rows = pd.Series(given[which]).sample(frac=1, random_state=0)  # its labels may be row numbers, or may merely count
    with pytest.raises(UserError, match=f"^shadow_evidence: {which} has the index .*may merely count rows"):
        shadow_evidence(model, frame.reset_index(drop=True), **{**given, which: rows}, shadows=2)


def test_threads_are_one_where_none_means_all_and_untouched_where_it_means_one(records: Arrays) -> None:
    x, y, member = records

    class Boosted(DecisionTreeClassifier):  # of another library, which takes all cores for None
        def __init__(self, n_jobs: int | None = None, random_state: int | None = None) -> None:
            super().__init__(random_state=random_state)
            self.n_jobs = n_jobs

    for model, expected in (
        (Boosted(), 1),
        (Boosted(n_jobs=3), 1),
        (RandomForestClassifier(), None),  # some models of scikit-learn warn of anything but None
        (RandomForestClassifier(n_jobs=3), 1),
    ):
        for whole, name in (
            (model, "n_jobs"),
            (make_pipeline(StandardScaler(), model), f"{type(model).__name__.lower()}__n_jobs"),
        ):
            assert _copy(whole, 0, 0).get_params()[name] == expected
    shadow_evidence(LogisticRegression(solver="newton-cg").fit(x[member], y[member]), x, y, member, shadows=2)  # no warning


def test_few_records(records: Arrays) -> None:
    x, y, member = (part[:18] for part in records)
    model = DecisionTreeClassifier().fit(x[member], y[member])
    with pytest.raises(UserError, match=r"^X: 18 records; allowed: at least 20"):
        shadow_evidence(model, x, y, member)


def test_halves_are_those_of_a_plan() -> None:
    labels = np.random.default_rng(0).integers(0, 3, 60)
    plan = make_shadow_plan(labels, design="half", members=30, population=0, shadows=4, targets=1, coin_flips=False, seed=5)
    drawn = paired_halves(labels[plan.records], pairs=3, rng=stream(5, "shadow_plan", "balanced"))
    assert np.array_equal(drawn, plan.member)
