"""The scorer for scikit-learn's cross-validation: it finds the training part by itself, and searches with it prefer what leaks less."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
    cross_val_score,
    cross_validate,
)
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from memberscope.errors import UserError
from memberscope.sklearn import membership_auc_scorer


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_digits(return_X_y=True)
    return x[:400], y[:400]


def by_hand(model: Any, x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    """The AUC of the loss: minus the loss orders as the probability of the label does."""
    model.fit(x[train], y[train])
    rows = np.concatenate([train, test])
    probs = model.predict_proba(x[rows])
    own = (probs * (y[rows, None] == model.classes_)).sum(axis=1)
    return float(roc_auc_score(np.arange(len(rows)) < len(train), own))


def tree(**options: Any) -> DecisionTreeClassifier:
    return DecisionTreeClassifier(random_state=0, **options)


def test_it_is_the_auc_of_each_fold(digits: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = digits
    folds = StratifiedKFold(3, shuffle=True, random_state=1)
    scoring = {
        "accuracy": "accuracy",
        "auc": membership_auc_scorer(x, y, greater_is_better=True),
        "leak": membership_auc_scorer(x, y),
    }
    found = cross_validate(tree(max_depth=6), x, y, cv=folds, scoring=scoring, error_score="raise")
    expected = [by_hand(tree(max_depth=6), x, y, train, test) for train, test in folds.split(x, y)]
    np.testing.assert_allclose(found["test_auc"], expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found["test_leak"], -found["test_auc"])
    assert 0.55 < found["test_auc"].min() < found["test_auc"].max() < 0.75
    assert 0.5 < found["test_accuracy"].mean() < 1


def test_a_search_prefers_what_leaks_less_or_is_more_accurate(digits: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = digits
    depths = [1, 4, None]
    scoring = {"accuracy": "accuracy", "leakage": membership_auc_scorer(x, y)}
    search = GridSearchCV(tree(), {"max_depth": depths}, cv=3, scoring=scoring, refit="accuracy", error_score="raise").fit(x, y)
    assert search.best_params_["max_depth"] != 1
    assert search.predict(x[:3]).shape == (3,)
    leakage = search.cv_results_["mean_test_leakage"]
    assert leakage[0] > leakage[1] > leakage[2]
    assert -0.8 < leakage[2] < -0.6 < leakage[0] < -0.5
    least = GridSearchCV(tree(), {"max_depth": depths}, cv=3, scoring=membership_auc_scorer(x, y), error_score="raise").fit(
        x, y
    )
    assert least.best_params_["max_depth"] == 1
    parallel = GridSearchCV(tree(), {"max_depth": depths}, cv=3, scoring=scoring, refit="leakage", n_jobs=2).fit(x, y)
    np.testing.assert_array_equal(parallel.cv_results_["mean_test_leakage"], leakage)
    assert parallel.best_params_["max_depth"] == 1


def test_noise_leaks_nothing_and_a_lookup_everything(digits: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = digits
    auc = membership_auc_scorer(x, y, greater_is_better=True)
    assert cross_val_score(DummyClassifier(strategy="uniform", random_state=0), x, y, cv=4, scoring=auc) == pytest.approx(
        0.5, abs=0
    )
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 10, len(y))
    found = cross_val_score(tree(), x, noise, cv=4, scoring=membership_auc_scorer(x, noise, greater_is_better=True))
    assert (found > 0.9).all()


def kinds(x: np.ndarray) -> dict[str, Any]:
    return {
        "array": x, "whole numbers": x.astype(np.int32), "frame": pd.DataFrame(x, index=np.arange(len(x))[::-1]), "rows": x.tolist(),
        "sparse": sparse.csr_matrix(x), "sparse columns": sparse.csc_matrix(x),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["array", "whole numbers", "frame", "rows", "sparse", "sparse columns"])
def test_records_of_every_kind_are_found(kind: str, digits: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = digits[0][:150], digits[1][:150]
    data, folds = kinds(x)[kind], KFold(3, shuffle=True, random_state=0)
    expected = [by_hand(tree(max_depth=4), x, y, train, test) for train, test in folds.split(x)]
    found = cross_val_score(
        tree(max_depth=4),
        data,
        y,
        cv=folds,
        scoring=membership_auc_scorer(data, y, greater_is_better=True),
        error_score="raise",
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_texts_and_words_are_found_too() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcdefghij"), 6)) for _ in range(120)]
    y = rng.choice(["spam", "ham"], 120)
    model = make_pipeline(CountVectorizer(token_pattern=r"\w"), MultinomialNB())
    found = cross_val_score(
        model, texts, y, cv=3, scoring=membership_auc_scorer(texts, y, greater_is_better=True), error_score="raise"
    )
    assert ((found > 0.5) & (found < 0.9)).all()
    frame = pd.DataFrame({"a": pd.Categorical(rng.choice(["x", "y"], 120)), "b": rng.normal(size=120), "c": [None, 1.5] * 60})
    scorer = membership_auc_scorer(frame, y)
    train, test = scorer.sides([scorer.keys[place] for place in range(30)])
    assert set(test) == set(range(30))
    assert set(train) == set(range(30, 120))


def test_models_without_probabilities_are_scored_by_what_they_have(digits: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = digits
    auc = membership_auc_scorer(x, y, greater_is_better=True)
    found = cross_val_score(RidgeClassifier(), x, y, cv=3, scoring=auc, error_score="raise")  # decision_function alone
    assert ((found > 0.5) & (found < 0.8)).all()
    binary = membership_auc_scorer(x, y > 4, greater_is_better=True)
    assert (cross_val_score(RidgeClassifier(), x, y > 4, cv=3, scoring=binary, error_score="raise") > 0.5).all()

    class Labels:
        def predict(self, rows: np.ndarray) -> np.ndarray:
            return np.where(rows.sum(axis=1) > 300, 3, 12)

    with pytest.raises(UserError, match="attack=threshold_loss: "):
        auc(Labels(), x[:50], y[:50])
    gap = membership_auc_scorer(x, y, attack="label_only_gap", greater_is_better=True)
    assert 0.3 < gap(Labels(), x[:50], y[:50]) < 0.7
    with pytest.raises(UserError, match="estimator: object has none of predict_proba, decision_function, predict"):
        auc(object(), x[:50], y[:50])


def test_a_class_that_the_training_part_lacks_has_no_probability(digits: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = digits
    order = np.argsort(y, kind="stable")
    x, y = x[order], y[order]
    scorer = membership_auc_scorer(x, y, greater_is_better=True)
    found = cross_val_score(tree(max_depth=4), x, y, cv=KFold(5), scoring=scorer, error_score="raise")
    expected = [by_hand(tree(max_depth=4), x, y, train, test) for train, test in KFold(5).split(x)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert (found > 0.85).all()  # no model knows most classes of its test part


def test_copies_on_both_sides_belong_to_neither(digits: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = digits[0][:100], digits[1][:100]
    x, y = np.concatenate([x, x[:10]]), np.concatenate([y, y[:10]])
    scorer = membership_auc_scorer(x, y)
    train, test = scorer.sides(scorer.keys[:20])  # ten of these have a copy in the training part
    assert set(test) == set(range(10, 20))
    assert set(train) == set(range(20, 100))
    train, test = scorer.sides((*scorer.keys[:20], *scorer.keys[100:]))
    assert set(test) == {*range(20), *range(100, 110)}
    assert set(train) == set(range(20, 100))


def test_splits_that_leave_records_out_are_given(digits: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = digits
    for folds in (ShuffleSplit(3, train_size=0.3, test_size=0.2, random_state=0), TimeSeriesSplit(3)):
        scorer = membership_auc_scorer(x, y, cv=folds, greater_is_better=True)
        found = cross_validate(tree(), x, y, cv=folds, scoring=scorer, return_train_score=True, error_score="raise")
        expected = [by_hand(tree(), x, y, train, test) for train, test in folds.split(x)]
        np.testing.assert_allclose(found["test_score"], expected, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(found["train_score"], found["test_score"])
    listed = list(KFold(3).split(x))
    assert membership_auc_scorer(x, y, cv=listed)(tree().fit(x, y), x[listed[1][1]], y[listed[1][1]]) < 0


def test_what_a_wrong_use_gets(digits: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = digits
    for options, said in (
        ({"attack": "lira_online"}, "attack=lira_online: needs shadows; allowed: one that needs the model's outputs alone: threshold_loss"),
        ({"attack": "threshold"}, "attack=threshold: 2 attacks; allowed: one that needs"),
        ({"attack": "threshold_los"}, "threshold_loss"),
        ({"cv": 5}, "cv: 5; allowed: a splitter such as"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said.replace("(", r"\(")):
            membership_auc_scorer(x, y, **options)
    with pytest.raises(UserError, match=r"y: shape \(399,\) for 400 records; allowed: one label per record"):
        membership_auc_scorer(x, y[1:])
    scorer, model = membership_auc_scorer(x, y), tree().fit(x, y)
    for part, labels, said in (
        (x[:9] + 1, y[:9], "X: 9 of 9 records of the test part are not among the 400 that the scorer was made with"),
        (x[:9], (y[:9] + 1) % 10, "X: 9 of 9 records of the test part are not among"),
        (x.astype(np.float32)[:9], y[:9], "allowed: the X and y that cross-validation gets"),
        (x, y, "X: 0 members and 400 non-members"),
        (x[:9], None, "y: missing; allowed: the labels of the test part"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said) as error:
            scorer(model, part, labels)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="cv: none of its 3 splits has this part of 9 records"):
        membership_auc_scorer(x, y, cv=KFold(3))(model, x[:9], y[:9])
    assert repr(scorer) == "membership_auc_scorer(X, y, attack='threshold_loss', greater_is_better=False)"
