"""Shokri et al., S&P 2017: shadow models imitate the target, and one attack classifier per class learns membership from them.

This is an attack of an outsider (their section V): the records on which the shadow models were trained are known, since the attacker
trained them; the classifiers learn to tell posteriors of shadow members from those of shadow non-members and are applied to the
target's. Where we differ: the posteriors enter as logarithms, sorted, the true class's apart as its scaled logit (theirs
enter as they are, unsorted, so that a hundred classes need a hundred inputs); the classifier has one hidden layer
like theirs, with 32 units instead of 64, and is the mean of four; training parts are balanced in each class, so that the log-odds of
different classes are on one scale and decide at 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope import seeds, signals
from memberscope.attacks import transfer
from memberscope.attacks.base import Attack, AttackScores, Skip
from memberscope.attacks.crossfit import MOST_TRAINING, Model, kept_filters
from memberscope.attacks.folds import Index
from memberscope.checks import BoolArray, FloatArray
from memberscope.cores import in_threads, one_thread
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions, ShadowPredictions

POSTERIORS = 10
"""The number of largest posteriors that an attack classifier uses."""
MOST_A_CLASS, MOST_IN_ALL = 2_000, 50_000
"""The number of shadow records on each side that train the classifier of one class, and that of all classes together."""


def posteriors(predictions: Predictions) -> FloatArray:
    """The scaled logit of the true class, then the logarithms of the largest posteriors, descending; (n, 1 + at most 10)."""
    return np.column_stack([signals.scaled_logit(predictions), signals.top_log_probs(predictions, POSTERIORS)])


@dataclass(frozen=True, kw_only=True)
class Shokri(Attack):
    """One classifier per class, fitted on all shadows' records of that class; its log-odds are the score, above 0 a member.

    A class for which the shadows hold fewer than 10 members or non-members takes the classifier of all classes; the notes say so.
    A record counts once for each shadow model.
    """

    name: str = "shadow_shokri"
    family: str = "shadow"
    needs: frozenset[str] = frozenset({"target", "shadows"})

    def missing(self, evidence: Evidence) -> str | None:
        """Posteriors of target and shadows over the same classes, and both sides among the shadows' records."""
        absent = super().missing(evidence) or signals.missing("scaled_logit", evidence.target)
        pool = evidence.shadow_pool
        if absent or pool is None:
            return absent
        if lacking := signals.missing("scaled_logit", pool.model(0)):
            return f"{lacking} of the shadows"
        if lacking := transfer.classes_lack(evidence) or transfer.pool_lacks(evidence):
            return lacking
        ins = int(pool.member.sum())
        sides = (ins, pool.member.size - ins)
        if min(sides) >= transfer.LEAST:
            return None
        return f"needs shadows with {transfer.LEAST} members and as many non-members; there are {sides[0]} and {sides[1]}"

    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        del folds
        target, pool = evidence.target, evidence.shadow_pool
        assert pool is not None
        assert target.labels is not None
        values = posteriors(target)
        classes = np.unique(target.labels)
        most = max(transfer.LEAST, min(MOST_A_CLASS, MOST_IN_ALL // len(classes)))

        def one(c: int) -> FloatArray | None:
            model = self._fit(pool, c, seed=seed, most=most)
            return None if model is None else model(values[target.labels == c])

        with kept_filters, one_thread():
            done = in_threads(one, classes.tolist(), workers=workers)
            scores = np.empty(len(target))
            borrowed = [int(c) for c, part in zip(classes, done, strict=True) if part is None]
            for c, part in zip(classes, done, strict=True):
                if part is not None:
                    scores[target.labels == c] = part
            if borrowed:
                here = np.isin(target.labels, borrowed)
                model = self._fit(pool, None, seed=seed, most=MOST_TRAINING)
                assert model is not None
                scores[here] = model(values[here])
        notes = [f"one attack model per class from {pool.n_models} shadow models, on up to {most} records per side"]
        if borrowed:
            few = f"classes with fewer than {transfer.LEAST} shadow members or non-members"
            notes.append(f"{few} use the attack model of all classes: {borrowed}")
        return self._scores(scores, decisions=scores >= 0.0, notes=tuple(notes))

    def _fit(self, pool: ShadowPredictions, c: int | None, *, seed: int, most: int) -> Model | None:
        """The attack model of class `c`, or of all; None where a side has too few records.

        That of all is balanced within each class, as far as there are both sides in any: a class that contains only members would
        teach it to tell classes apart.
        """
        assert pool.labels is not None
        rng = seeds.stream(seed, "attacks", self.name, "all" if c is None else c)
        classes = np.unique(pool.labels) if c is None else np.array([c])
        parts = [_rows(pool, pool.labels == each, rng, most=max(1, most // len(classes))) for each in classes]
        drawn = np.concatenate(parts, axis=1)
        if c is None and drawn.shape[1] < 2 * transfer.LEAST:
            drawn = _rows(pool, np.ones(len(pool), dtype=np.bool_), rng, most=most)
        if drawn.shape[1] < 2 * transfer.LEAST:
            return None
        rows = transfer.rows_of(pool, drawn[0], drawn[1])
        return transfer.fit(posteriors(rows), rows.member, rng)


def _rows(pool: ShadowPredictions, wanted: BoolArray, rng: np.random.Generator, *, most: int) -> Index:
    """(2, m) shadow models and records of the pool, among the records `wanted` (n,): as many members as non-members."""
    here = np.flatnonzero(wanted)
    model, record = np.divmod(transfer.balanced(pool.member[:, here].ravel(), rng, most=most), max(1, len(here)))
    return np.stack([model, here[record]])
