"""Bertran et al., NeurIPS 2023 ("Scalable Membership Inference Attacks via Quantile Regression"): no shadow model at all.

A record is suspect if the target is surer of its label than of nearly all records *like it* that nobody trained on. Quantile
regressions of the target's score on a population's inputs say how sure the target would be. The paper fits one regression for each false
positive rate, or the mean and deviation of a Gaussian, by a network on the inputs. Here several quantiles are fitted by
gradient-boosted trees, and a record's score is where it stands among them, so that one score serves every rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from memberscope import seeds, signals
from memberscope.attacks.base import Attack, AttackScores, Skip
from memberscope.checks import Array, FloatArray, row_chunks
from memberscope.cores import cores
from memberscope.evidence import Evidence

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
_QUARTILES = (0.25, 0.5, 0.75)
_BEYOND = 10
"""A level is fitted where the population has so many records beyond it; the quartiles always."""
_IN_LEAF = 5
"""Records beyond the level that a leaf holds on average, at least."""
WIDE, COMPONENTS = 64, 32
"""Inputs with more numbers than `WIDE` are reduced to `COMPONENTS` principal components of the population."""
MOST_POPULATION, MOST_FOR_COMPONENTS = 20_000, 5_000
_PRIOR_RECORDS = 10.0

Encoder = Callable[[Array, Array], FloatArray]
"""(inputs (r, ...), labels (r,)) -> features (r, d)."""


def levels_for(records: int) -> tuple[float, ...]:
    """Those of `LEVELS` that a population of so many records can tell."""
    return tuple(level for level in LEVELS if level in _QUARTILES or round(min(level, 1 - level) * records, 6) >= _BEYOND)


def fit_encoder(
    inputs: Array, labels: Array, values: FloatArray, *, rng: np.random.Generator, seed: int
) -> tuple[Encoder, str]:
    """Learn, on the population alone, what stands for a record: its inputs, or their principal components, and its class.

    Inputs are not rescaled. The class enters as the mean of `values` (p,) over the class, shrunk toward that of all by 10 records'
    weight.

    Returns:
        The encoder, and what the report should say of it.
    """
    flat = inputs.reshape(len(inputs), -1)
    kept = np.flatnonzero((flat != flat[:1]).any(axis=0))
    wide = len(kept) > WIDE
    project = _components(flat, kept, rng=rng, seed=seed) if wide else _columns(kept)
    note = f"{len(kept)} inputs as {min(COMPONENTS, len(inputs))} principal components" if wide else f"{len(kept)} inputs"
    classes = int(labels.max()) + 1
    count = np.bincount(labels, minlength=classes) + _PRIOR_RECORDS
    means = (np.bincount(labels, weights=values, minlength=classes) + _PRIOR_RECORDS * values.mean()) / count

    def encode(rows: Array, classes_of: Array) -> FloatArray:
        flat_rows = rows.reshape(len(rows), -1)
        known = np.where(classes_of < classes, classes_of, 0)
        level = np.where(classes_of < classes, means[known], values.mean())
        parts = [project(flat_rows[part]) for part in row_chunks(len(rows), flat_rows.shape[1])]
        return np.column_stack([np.concatenate(parts), level])

    return encode, note


def _columns(kept: Array) -> Callable[[Array], FloatArray]:
    """The inputs themselves, without those that are constant over the population."""
    return lambda rows: rows[:, kept].astype(np.float64)


def _components(flat: Array, kept: Array, *, rng: np.random.Generator, seed: int) -> Callable[[Array], FloatArray]:
    """Projection on the first principal components of (p, d) inputs, from at most `MOST_FOR_COMPONENTS` of them."""
    from sklearn.decomposition import PCA

    drawn = flat if len(flat) <= MOST_FOR_COMPONENTS else flat[rng.choice(len(flat), MOST_FOR_COMPONENTS, replace=False)]
    fitted = PCA(min(COMPONENTS, len(drawn)), svd_solver="randomized", random_state=seed).fit(drawn[:, kept].astype(np.float32))
    axes, centre = fitted.components_.T.astype(np.float64), fitted.mean_.astype(np.float64)
    return lambda rows: (rows[:, kept] - centre) @ axes


def position(values: FloatArray, quantiles: FloatArray, levels: tuple[float, ...], *, least_scale: float) -> FloatArray:
    """Where each of (n,) values stands among its (n, levels) quantiles, in standard normal units; increasing in the value.

    Linear between quantiles, from the normal deviate of one level to that of the next. Beyond the outer ones it goes on by the
    record's own scale: the distance from its median to the outer quantile over that level's deviate, at least `least_scale`. Where the
    population's scores are normal given the inputs this is the standardized residual, the paper's Gaussian variant.
    Crossed quantiles are sorted (Chernozhukov et al. 2010).
    """
    from scipy.stats import norm

    q = np.sort(quantiles, axis=1)
    z = norm.ppf(levels)
    middle = q[:, levels.index(0.5)]
    below = np.maximum((middle - q[:, 0]) / -z[0], least_scale)
    above = np.maximum((q[:, -1] - middle) / z[-1], least_scale)
    width = np.diff(q, axis=1)
    flat = width <= 0
    part = np.clip((values[:, None] - q[:, :-1]) / np.where(flat, 1.0, width), 0.0, 1.0)
    part = np.where(flat, values[:, None] > q[:, :-1], part)
    score: FloatArray = z[0] + (part * np.diff(z)).sum(axis=1)
    score += np.minimum(values - q[:, 0], 0.0) / below + np.maximum(values - q[:, -1], 0.0) / above
    return score


@dataclass(frozen=True, kw_only=True)
class Quantile(Attack):
    """The scaled logit of the true label, against its quantiles given inputs and label on the population.

    The score z says: of records like this one that nobody trained on, a share of about Phi(-z) would score higher.
    """

    name: str = "quantile"
    family: str = "population"
    needs: frozenset[str] = frozenset({"target", "population", "population_inputs"})

    def missing(self, evidence: Evidence) -> str | None:
        """Posteriors and inputs, numbers of one shape, of the target's records and of the population's."""
        absent = super().missing(evidence) or signals.missing("scaled_logit", evidence.target)
        if absent or evidence.population is None or evidence.population_inputs is None:
            return absent
        if lacking := signals.missing("scaled_logit", evidence.population.model(0)):
            return f"{lacking} of the population"
        ours, theirs = evidence.target.inputs, evidence.population_inputs
        if ours is None:
            return "needs target.inputs, what the model was shown of the target's records"
        if ours.shape[1:] != theirs.shape[1:]:
            return f"needs population_inputs of the shape of target.inputs, {ours.shape[1:]}; theirs is {theirs.shape[1:]}"
        if not all(array.dtype.kind in "biuf" and _finite(array) for array in (ours, theirs)):
            return "needs population_inputs and target.inputs that are finite real numbers"
        return None

    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        from threadpoolctl import threadpool_limits

        del folds
        target, population, inputs = evidence.target, evidence.population, evidence.population_inputs
        assert population is not None
        assert inputs is not None
        assert target.inputs is not None
        assert target.labels is not None
        assert population.labels is not None
        rng, number = seeds.stream(seed, "attacks", self.name), seeds.integer(seed, "attacks", self.name, "trees")
        outside, labels = signals.scaled_logit(population.model(0)), population.labels
        if len(outside) > MOST_POPULATION:
            drawn = rng.choice(len(outside), MOST_POPULATION, replace=False)
            outside, labels, inputs = outside[drawn], labels[drawn], inputs[drawn]
        levels = levels_for(len(outside))
        with threadpool_limits(limits=1):
            encode, shown = fit_encoder(inputs, labels, outside, rng=rng, seed=number)
            quantiles = _fit_predict(
                encode(inputs, labels), outside, encode(target.inputs, target.labels), levels, seed=number, workers=workers
            )
        spread = float(outside.std())
        scores = position(signals.scaled_logit(target), quantiles, levels, least_scale=0.05 * spread if spread > 0 else 1.0)
        listed = ", ".join(f"{level:g}" for level in levels)
        note = f"quantiles {listed} of {len(outside)} records of the population given {shown} and the class"
        return self._scores(scores, notes=(note,))


def _fit_predict(
    x: FloatArray, values: FloatArray, rows: FloatArray, levels: tuple[float, ...], *, seed: int, workers: int | None
) -> FloatArray:
    """Quantiles of `values` (p,) given `x` (p, d), at `rows` (n, d): (n, levels).

    Half or twice the trees, or half the leaves, moved the AUC on simulated populations of 500 and 2,000 by less than its own spread.
    """
    from joblib import Parallel, delayed
    from sklearn.ensemble import HistGradientBoostingRegressor

    def one(level: float) -> FloatArray:
        leaf = max(20, int(np.ceil(_IN_LEAF / min(level, 1 - level))))
        trees = HistGradientBoostingRegressor(
            loss="quantile", quantile=level, max_iter=100, learning_rate=0.1, max_leaf_nodes=8, min_samples_leaf=leaf,
            early_stopping=False, random_state=seed,
        )  # fmt: skip
        return np.asarray(trees.fit(x, values).predict(rows), dtype=np.float64)

    done = Parallel(n_jobs=min(workers or cores(), len(levels)), backend="threading")(delayed(one)(level) for level in levels)
    return np.column_stack(done)


def _finite(array: Array) -> bool:
    if array.dtype.kind != "f":
        return True
    width = int(np.prod(array.shape[1:], dtype=np.int64))
    return all(bool(np.isfinite(array[part]).all()) for part in row_chunks(len(array), width))
