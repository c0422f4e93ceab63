"""Bertran et al., NeurIPS 2023 ("Scalable Membership Inference Attacks via Quantile Regression"): no shadow model at all.

A record is suspicious if the target is more confident of its label than of nearly all *similar* records that were not used for training.
This expected confidence is predicted by a regression of the target's score on the inputs of a population. The paper fits one regression for
each false positive rate, or a network that predicts the mean and deviation of a Gaussian for all rates at once. This module does the
latter, so that one score, the standardized residual, serves every rate. The regression's features are a record's class, the target's mean
confidence in that class, and the inputs or their principal components.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from memberscope import seeds, signals
from memberscope.attacks import gaussian_head
from memberscope.attacks.base import Attack, AttackScores, Skip
from memberscope.checks import Array, FloatArray, row_chunks
from memberscope.cores import one_thread
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions

WIDE, COMPONENTS = 64, 32
"""Inputs with more numbers than `WIDE` are reduced to `COMPONENTS` principal components of the population."""
MOST_POPULATION, MOST_FOR_COMPONENTS = 20_000, 5_000
MOST_CLASSES = 100
"""With more classes, a record's class enters by its mean score alone, without a column for each class."""
LEAST_FOR_NETWORK = 40
"""From a smaller population, only the mean of each class and one deviation for all are estimated."""
FARTHEST = 6.0
"""The population's scores are clipped at this number of robust deviations from the median: a forest may give a probability of 0."""
_PRIOR_RECORDS = 2.0
_DIGITS = 9  # of a score, so that equal records tie wherever they stand in a matrix product

Encoder = Callable[[Array], FloatArray]
"""Inputs (r, ...) -> features (r, d)."""


def scores_of(predictions: Predictions) -> tuple[FloatArray, ...]:
    """The scores that are regressed, each (n,), higher for members: margin and scaled logit, or from losses the scaled logit alone.

    The paper's score is the margin of the true logit over the largest other one. Neither score is better for all models: on Location-30 the
    margin has the higher AUC for perceptrons and logistic regressions, the scaled logit for random forests and boosted trees.
    """
    if predictions.form == "summary":
        loss = np.clip(signals.loss_nats(predictions), signals.PROB_FLOOR, None)
        return (-loss - np.log(-np.expm1(-loss)),)
    return signals.margin(predictions), signals.scaled_logit(predictions)


def _lacking(predictions: Predictions) -> str | None:
    if predictions.form == "summary" and predictions.loss_nats is not None:
        return None
    return signals.missing("margin", predictions)


def fit_encoder(inputs: Array, *, rng: np.random.Generator, seed: int) -> tuple[Encoder, str]:
    """Learn, on the population alone, how to encode a record's inputs: as standardized numbers or, where these are many, as principal
    components.

    The encoded rows have a length of about one, and are longer for a larger population: the larger its inputs, the more a network makes of
    them, and from few records it could only memorize them.

    Returns:
        The encoder, and a note on it for the report.
    """
    flat = inputs.reshape(len(inputs), -1)
    kept = np.flatnonzero((flat != flat[:1]).any(axis=0))
    length = float(np.clip(2.0 * np.sqrt(len(inputs) / 1000), 0.5, 2.0))
    if not len(kept):
        return lambda rows: np.empty((len(rows), 0)), "no inputs"
    wide = len(kept) > WIDE
    raw = _components(flat, kept, image=inputs.ndim > 2, rng=rng, seed=seed) if wide else _columns(flat, kept)
    own = _by_chunks(raw, flat)
    scale = length / max(float(np.sqrt((own**2).sum(axis=1).mean())), 1e-12)
    note = f"{len(kept)} inputs as {own.shape[1]} principal components" if wide else f"{len(kept)} inputs"
    return lambda rows: scale * _by_chunks(raw, rows.reshape(len(rows), -1)), note


def _by_chunks(project: Encoder, flat: Array) -> FloatArray:
    return np.concatenate([project(flat[part]) for part in row_chunks(len(flat), flat.shape[1])])


def _columns(flat: Array, kept: Array) -> Encoder:
    """The inputs themselves, standardized, without those that are constant over the population."""
    own = flat[:, kept].astype(np.float64)
    centre, scale = own.mean(axis=0), np.maximum(own.std(axis=0), 1e-300)
    return lambda rows: (rows[:, kept] - centre) / scale


def _components(flat: Array, kept: Array, *, image: bool, rng: np.random.Generator, seed: int) -> Encoder:
    """Projection on the first principal components of (p, d) inputs, from at most `MOST_FOR_COMPONENTS` of them.

    The features of a table are divided by their range; those of an image already share a unit.
    """
    from sklearn.decomposition import PCA

    drawn = flat if len(flat) <= MOST_FOR_COMPONENTS else flat[rng.choice(len(flat), MOST_FOR_COMPONENTS, replace=False)]
    part = drawn[:, kept].astype(np.float64)
    span = np.ones(len(kept)) if image else part.max(axis=0) - part.min(axis=0)
    span = np.where(span > 0, span, 1.0)
    fitted = PCA(min(COMPONENTS, len(drawn)), svd_solver="randomized", random_state=seed).fit((part / span).astype(np.float32))
    axes, centre = fitted.components_.T.astype(np.float64), fitted.mean_.astype(np.float64)
    return lambda rows: (rows[:, kept] / span - centre) @ axes


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassMeans:
    """The mean score of each class of a population, shrunk toward the mean of all with the weight of `_PRIOR_RECORDS` records.

    Attributes:
        classes: (c,) labels, sorted.
        total, count: (c,) sum and number of each class's scores.
        overall: the mean of all scores.
    """

    classes: Array
    total: FloatArray
    count: FloatArray
    overall: float

    @classmethod
    def of(cls, labels: Array, values: FloatArray) -> ClassMeans:
        """The means of scores (p,) of records with these labels (p,)."""
        classes, place = np.unique(labels, return_inverse=True)
        return cls(
            classes=classes, total=np.bincount(place, weights=values).astype(np.float64), count=np.bincount(place).astype(np.float64),
            overall=float(values.mean()),
        )  # fmt: skip

    def expected(self, labels: Array, own: FloatArray | None = None) -> FloatArray:
        """(n,) the class means of records with these labels; each record's `own` score is left out where it is the population's."""
        place, known = self.places(labels)
        count: FloatArray = np.where(known, self.count[place], 0.0) - (own is not None)
        total = np.where(known, self.total[place], 0.0) - (0.0 if own is None else own)
        expected: FloatArray = (total + _PRIOR_RECORDS * self.overall) / (count + _PRIOR_RECORDS)
        return expected

    def places(self, labels: Array) -> tuple[Array, Array]:
        """The position of each label among `classes`, and whether it is among them."""
        place = np.minimum(np.searchsorted(self.classes, labels), len(self.classes) - 1)
        return place, self.classes[place] == labels

    def columns(self, labels: Array) -> FloatArray:
        """(n, classes) one column per class; none where there are more than `MOST_CLASSES`."""
        place, known = self.places(labels)
        if len(self.classes) > MOST_CLASSES:
            return np.empty((len(labels), 0))
        return np.asarray((place[:, None] == np.arange(len(self.classes))) & known[:, None], dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Quantile(Attack):
    """The target's score of the true label, standardized by its distribution over the population given inputs and label.

    A score of z means that a share of about Phi(-z) of similar records outside the training set would score higher. It is the mean of
    the residuals of `scores_of`.
    """

    name: str = "quantile"
    family: str = "population"
    needs: frozenset[str] = frozenset({"target", "population", "population_inputs"})

    def missing(self, evidence: Evidence) -> str | None:
        """Posteriors or losses, and inputs, numbers of one shape, of the target's records and of the population's."""
        absent = super().missing(evidence) or _lacking(evidence.target)
        if absent or evidence.population is None or evidence.population_inputs is None:
            return absent
        outside = evidence.population.model(0)
        if lacking := _lacking(outside):
            return f"{lacking} of the population"
        if (outside.form == "summary") != (evidence.target.form == "summary"):
            return f"needs {evidence.target.form} of the population, the same form as for the target's records"
        ours, theirs = evidence.target.inputs, evidence.population_inputs
        if ours is None:
            return "needs target.inputs, the model's inputs for the target's records"
        if ours.shape[1:] != theirs.shape[1:]:
            shapes = f"{ours.shape[1:]}; theirs is {theirs.shape[1:]}"
            return f"needs population_inputs with records of the same shape as target.inputs, {shapes}"
        if not all(array.dtype.kind in "biuf" and _finite(array) for array in (ours, theirs)):
            return "needs population_inputs and target.inputs that are finite real numbers"
        return None

    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        del workers, folds
        target, population, inputs = evidence.target, evidence.population, evidence.population_inputs
        assert population is not None
        assert inputs is not None
        assert target.inputs is not None
        rng, number = seeds.stream(seed, "attacks", self.name), seeds.integer(seed, "attacks", self.name, "components")
        outside = population.model(0)
        drawn = np.arange(len(outside))
        if len(outside) > MOST_POPULATION:
            drawn = rng.choice(len(outside), MOST_POPULATION, replace=False)
        labeled = target.labels is not None and outside.labels is not None
        ours = target.labels if labeled and target.labels is not None else np.zeros(len(target), dtype=np.int64)
        theirs = outside.labels[drawn] if labeled and outside.labels is not None else np.zeros(len(drawn), dtype=np.int64)
        with one_thread():
            encode, shown = fit_encoder(inputs[drawn], rng=rng, seed=number)
            x, rows = encode(inputs[drawn]), encode(target.inputs)
            residuals = [
                _residual(x, theirs, values[drawn], rows, ours, scores, rng)
                for values, scores in zip(scores_of(outside), scores_of(target), strict=True)
            ]
        scores = np.round(np.mean(residuals, axis=0), _DIGITS)
        network = "mean and deviation" if len(drawn) >= LEAST_FOR_NETWORK else "mean by class"
        given = f"{shown} and the class" if labeled else shown
        return self._scores(scores, notes=(f"{network} from {len(drawn)} records of the population given {given}",))


def _residual(
    x: FloatArray, labels: Array, values: FloatArray, rows: FloatArray, classes: Array, scores: FloatArray, rng: np.random.Generator
) -> FloatArray:  # fmt: skip
    """Standardized residuals of scores (n,) at features `rows` (n, d), given a population's `values` (p,) at `x` (p, d)."""
    centre = float(np.median(values))
    quarter, three = np.quantile(values, (0.25, 0.75))
    scale = float(three - quarter) / 1.349 or float(values.std()) or 1.0
    known = np.clip((values - centre) / scale, -FARTHEST, FARTHEST)
    asked = (scores - centre) / scale
    means = ClassMeans.of(labels, known)
    left, expected = means.expected(labels, own=known), means.expected(classes)
    if len(values) < LEAST_FOR_NETWORK:
        return np.asarray((asked - expected) / max(float((known - left).std()), 0.05))
    net = gaussian_head.fit(np.column_stack([x, means.columns(labels), left]), known, rng)
    return net.residual(np.column_stack([rows, means.columns(classes), expected]), asked)


def _finite(array: Array) -> bool:
    if array.dtype.kind != "f":
        return True
    width = int(np.prod(array.shape[1:], dtype=np.int64))
    return all(bool(np.isfinite(array[part]).all()) for part in row_chunks(len(array), width))
