"""A scorer for scikit-learn's cross-validation: how well an attack tells the records that a model was fitted on from the others.

For example, a search that reports leakage next to accuracy::

    from memberscope.sklearn import membership_auc_scorer

    leakage = membership_auc_scorer(X, y)
    GridSearchCV(model, grid, scoring={"accuracy": "accuracy", "leakage": leakage}, refit="accuracy").fit(X, y)

scikit-learn passes a scorer only the fitted model and the test part. The scorer therefore holds all records, and assumes that those which
are not in the test part are members; it finds the test part among them by the content of its rows. Nothing is kept between calls, so a
scorer works in any number of processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memberscope import seeds
from memberscope.attacks import registry
from memberscope.attacks.base import Attack, Skip
from memberscope.checks import Array
from memberscope.errors import UserError
from memberscope.estimators import count_of, predictions_of, record_keys, take
from memberscope.evidence import Evidence
from memberscope.metrics.area import auc_value
from memberscope.metrics.curve import rank

NEEDED = frozenset({"target"})
Split = tuple[Array, Array]


def membership_auc_scorer(
    X: Any,  # as scikit-learn names it
    y: Any,
    *,
    attack: str = "threshold_loss",
    greater_is_better: bool = False,
    cv: Any = None,
    groups: Any = None,
    seed: int = 0,
) -> MembershipAucScorer:
    """A scorer for ``cross_validate``, ``GridSearchCV`` and the like: the AUC of a membership inference attack on the fitted model.

    The model is queried with ``predict_proba``, else ``decision_function``, else ``predict``. Where records with the same content and label
    are in both parts, they belong to neither side and are left out.

    Args:
        X: (n, ...) all records that cross-validation gets: an array, a frame, a sparse matrix or a list of texts.
        y: (n,) their labels.
        attack: an attack that needs only the model's outputs, such as ``threshold_loss``, ``threshold_entropy`` or ``trained_lr``.
        greater_is_better: False: the score is minus the AUC, as scikit-learn's ``neg_log_loss`` is minus the loss, so that a search
            prefers models that leak less. True: the AUC itself, 0.5 for a model that leaks nothing, 1 for one whose members are all found.
        cv: the splits, as cross-validation gets them: a splitter with a fixed ``random_state``, or a list of (train, test). It is needed
            if the training part is not exactly the complement of the test part, as with ``TimeSeriesSplit`` or a ``train_size``, and with
            ``return_train_score=True``, whose scores are then those of the split.
        groups: (n,) the groups that `cv` splits by, if it does.
        seed: the seed of attacks that draw at random.

    Returns:
        A callable of (estimator, X_test, y_test) that returns a float.

    Raises:
        UserError: an attack that is unknown or needs more than outputs, or labels that are not one for each record. When it is called:
            a test part that is not among the records, one that is not a part of `cv`, or a model whose outputs the attack cannot use.
            By default cross-validation turns these into warnings and NaN; ``error_score="raise"`` shows them.
    """
    chosen = _attack(attack)
    seeds.check(seed)
    labels = np.asarray(y)
    n = count_of(X)
    if labels.shape != (n,):
        raise UserError(f"y: shape {labels.shape} for {n} records; allowed: one label per record")
    splits = None if cv is None else _splits(cv, X, labels, groups)
    return MembershipAucScorer(
        x=X,
        y=labels,
        attack=chosen,
        sign=1.0 if greater_is_better else -1.0,
        splits=splits,
        keys=record_keys(X, labels),
        seed=int(seed),
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class MembershipAucScorer:
    """What `membership_auc_scorer` makes; it can be called and pickled.

    Attributes:
        x: all records.
        y: (n,) their labels.
        attack: the attack.
        sign: 1, or -1 for minus the AUC.
        splits: (train, test) positions of each split; None if the training part is the complement of the test part.
        keys: a digest of each record's content and label.
        seed: the seed of the attack.
    """

    x: Any
    y: Array
    attack: Attack
    sign: float
    splits: tuple[Split, ...] | None
    keys: tuple[bytes, ...]
    seed: int

    def __repr__(self) -> str:
        """How the scorer was made."""
        return f"membership_auc_scorer(X, y, attack={self.attack.name!r}, greater_is_better={self.sign > 0})"

    def __call__(self, estimator: Any, X: Any, y: Any = None, **kwargs: Any) -> float:
        """Score a fitted model.

        Args:
            estimator: the model.
            X: (m, ...) the test part, m of the records that the scorer was made with.
            y: (m,) their labels.
            **kwargs: what cross-validation passes to all scorers, such as weights; not used.

        Raises:
            UserError: see `membership_auc_scorer`.
        """
        if y is None:
            raise UserError("y: missing; allowed: the labels of the test part")
        train, test = self.sides(record_keys(X, np.asarray(y)))
        rows = np.concatenate([train, test])
        target = predictions_of(
            estimator, take(self.x, rows), self.y[rows], np.unique(self.y), np.arange(len(rows)) < len(train)
        )
        found = self.attack.score(Evidence(target=target), seed=self.seed)
        if isinstance(found, Skip):
            raise UserError(
                f"attack={self.attack.name}: {found.reason}; allowed: a model or an attack for which this is not so"
            )
        return self.sign * float(auc_value(rank(found.scores, target.member)))

    def sides(self, test: Sequence[bytes]) -> Split:
        """Positions of the members and of the non-members, given the digests of the test part, without records that are on both sides."""
        count, every = Counter(test), Counter(self.keys)
        if strange := sum((count - every).values()):
            raise UserError(
                f"X: {strange} of {len(test)} records of the test part are not among the {len(self.keys)} that the scorer was made with; "
                "allowed: the X and y that cross-validation gets"
            )
        if self.splits is None:
            inside = [place for place, key in enumerate(self.keys) if not count[key]]
            outside = [place for place, key in enumerate(self.keys) if count[key] and count[key] == every[key]]
        else:
            inside, outside = _apart(self.keys, self._split(count))
        if not inside or not outside:
            raise UserError(
                f"X: {len(inside)} members and {len(outside)} non-members, apart from records that are both; allowed: at least one of each"
            )
        return np.array(inside, dtype=np.intp), np.array(outside, dtype=np.intp)

    def _split(self, part: Counter[bytes]) -> Split:
        for train, test in self.splits or ():
            if any(part == Counter(self.keys[place] for place in side.tolist()) for side in (test, train)):
                return train, test
        raise UserError(
            f"cv: none of its {len(self.splits or ())} splits has this part of {sum(part.values())} records; allowed: the splits that "
            "cross-validation makes (a splitter that shuffles needs a fixed random_state)"
        )


def _apart(keys: Sequence[bytes], split: Split) -> tuple[list[int], list[int]]:
    inside, outside = ([int(place) for place in side.tolist()] for side in split)
    trained, tested = {keys[place] for place in inside}, {keys[place] for place in outside}
    return [place for place in inside if keys[place] not in tested], [place for place in outside if keys[place] not in trained]


def _attack(name: str) -> Attack:
    """The attack with this name; UserError if it needs more than a model's outputs."""
    able = [found.name for found in registry.resolve("all") if found.needs <= NEEDED]
    found = registry.resolve(name)
    if len(found) != 1 or not found[0].needs <= NEEDED:
        needs = f"needs {' and '.join(sorted(found[0].needs - NEEDED))}" if len(found) == 1 else f"{len(found)} attacks"
        raise UserError(f"attack={name}: {needs}; allowed: one that needs the model's outputs alone: {', '.join(able)}")
    return found[0]


def _splits(cv: Any, x: Any, y: Array, groups: Any) -> tuple[Split, ...]:
    pairs: Iterable[Any] = cv.split(x, y, groups) if hasattr(cv, "split") else cv
    if isinstance(pairs, int | str) or not isinstance(pairs, Iterable):
        raise UserError(f"cv: {cv!r}; allowed: a splitter such as KFold(5), or a list of (train, test) positions")
    return tuple((_positions(train, len(y)), _positions(test, len(y))) for train, test in pairs)


def _positions(index: Any, n: int) -> Array:
    found = np.asarray(index)
    return np.flatnonzero(found) if found.dtype == np.bool_ and found.shape == (n,) else found.astype(np.intp)
