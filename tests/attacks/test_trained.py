"""Trained attacks: honest on noise, strong on a signal, the same whatever cannot matter."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from memberscope.attacks import perceptron, registry
from memberscope.attacks.base import AttackScores
from memberscope.attacks.features import extract, fit_scaling
from memberscope.attacks.trained import fit_low_fpr, fit_neighbours, fit_perceptron, top_weights
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions

pytestmark = pytest.mark.slow  # attacks are trained, many times over


def _auc(name: str, predictions: Predictions, seed: int = 0) -> float:
    result = registry.get(name).score(Evidence(target=predictions), seed=seed)
    assert isinstance(result, AttackScores)
    return float(roc_auc_score(predictions.member, result.scores))


def _noise(n_in: int, n_out: int, seed: int, classes: int = 10) -> Predictions:
    rng = np.random.default_rng(seed)
    n = n_in + n_out
    member = rng.permutation(np.arange(n) < n_in)
    return Predictions(logits=rng.normal(size=(n, classes)) * 2, labels=rng.integers(0, classes, n), member=member)


def _deviation(n_in: int, n_out: int) -> float:
    """Of the Mann-Whitney AUC on noise."""
    return float(np.sqrt((n_in + n_out + 1) / (12 * n_in * n_out)))


@pytest.mark.parametrize(("n_in", "n_out", "draws"), [(100, 100, 8), (300, 60, 6), (5000, 1000, 2)])
def test_a_cross_fitted_forest_finds_nothing_in_noise(n_in: int, n_out: int, draws: int) -> None:
    """The mean AUC stays in a 99.9% band, both ends.

    Records train each other's models, which widens the AUC's own distribution: up to 1.5 Mann-Whitney deviations were seen
    over 60 draws of 100 against 100, 1.2 of 500 against 100; the band allows 1.6.
    """
    values = [_auc("trained_rf", _noise(n_in, n_out, seed), seed) for seed in range(draws)]
    assert abs(np.mean(values) - 0.5) < 3.29 * 1.6 * _deviation(n_in, n_out) / np.sqrt(draws)


def test_an_in_sample_forest_finds_everything_in_noise() -> None:
    """What cross-fitting prevents; tensorflow_privacy's grid offers such leaves."""
    from sklearn.ensemble import RandomForestClassifier

    predictions = _noise(300, 300, 0)
    assert predictions.logits is not None
    forest = RandomForestClassifier(100, random_state=0).fit(predictions.logits, predictions.member)
    assert roc_auc_score(predictions.member, forest.predict_proba(predictions.logits)[:, 1]) == 1.0


@pytest.mark.parametrize("name", ["trained_lr", pytest.param("trained_rf", marks=pytest.mark.thorough), "trained_knn"])
def test_a_chance_imbalance_of_classes_is_not_found(name: str) -> None:
    """All that tells records apart is their class, and that tells nothing of membership: 99.9% band, both ends.

    Folds stratified by class, with training parts that are not, hand both the same imbalance: 0.56 to 0.59 here.
    """
    values = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 12, 200)
        logits = np.eye(12)[labels] * labels[:, None] + rng.normal(size=(200, 12)) * 0.02
        member = rng.permutation(np.arange(200) < 100)
        values.append(_auc(name, Predictions(logits=logits, labels=labels, member=member), seed))
    assert abs(np.mean(values) - 0.5) < 3.29 * 1.4 * _deviation(100, 100) / np.sqrt(12)


@pytest.mark.parametrize(
    "name",
    ["trained_lr", "trained_mlp", "trained_rf", "trained_knn", pytest.param("trained_lowfpr", marks=pytest.mark.thorough)],
)
def test_a_stratified_split_of_whole_groups_gives_one_half(name: str) -> None:
    """Persons with four records of one class each, drawn stratified by class; outputs that tell the class, half of them with noise.

    Mean of 8 draws in a 99.9% band of both ends, a person as the unit. Attacks that learn the shares of classes have 0.29 to 0.38.
    """
    values = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        classes, persons = 8, 96
        label = np.arange(persons) % classes
        member = np.concatenate([rng.permutation(12) for _ in range(classes)]).reshape(classes, 12).T.ravel() < 6
        every = np.repeat(np.arange(persons), 4)
        table, noise = rng.normal(size=(classes, classes)) * 2, rng.normal(size=(len(every), classes)) * 0.1
        logits = table[label[every]] + (noise if seed % 2 else 0.0)
        values.append(_auc(name, Predictions(logits=logits, labels=label[every], member=member[every], record_ids=every), seed))
    assert abs(np.mean(values) - 0.5) < 3.29 * 1.3 * _deviation(48, 48) / np.sqrt(8)


@pytest.mark.parametrize("name", ["trained_lr", "trained_mlp", "trained_rf", "trained_knn", "trained_lowfpr"])
def test_a_gaussian_shift_is_found_up_to_its_limit(name: str) -> None:
    """Scaled logits d apart allow Phi(d / sqrt 2), and no attack more; the band's ends are 3.29 deviations."""
    rng = np.random.default_rng(0)
    member = rng.permutation(np.arange(4000) < 3000)
    gap = rng.normal(size=4000) + member
    predictions = Predictions(logits=np.column_stack([gap, np.zeros(4000)]), labels=np.zeros(4000, int), member=member)
    limit = norm.cdf(1 / np.sqrt(2))
    assert limit - 0.025 < _auc(name, predictions) < limit + 3.29 * _deviation(3000, 1000)


def test_a_record_is_judged_against_its_class() -> None:
    """Members of a hard class look like non-members of an easy one; a loss threshold is nearly blind to them."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 4000)
    member = rng.random(4000) < 0.5
    logits = rng.normal(size=(4000, 10)) * 0.3
    logits[np.arange(4000), labels] += labels * 1.0 + member * 0.5
    predictions = Predictions(logits=logits, labels=labels, member=member)
    threshold = _auc("threshold_loss", predictions)
    assert threshold < 0.60
    for name in ("trained_lr", "trained_mlp", "trained_rf"):
        assert _auc(name, predictions) > threshold + 0.05


@pytest.mark.parametrize("name", ["trained_lr", "trained_mlp", "trained_rf", "trained_knn", "trained_lowfpr"])
@pytest.mark.parametrize("form", ["loss", "entropy", "both", "released", "predicted"])
def test_attacks_run_on_whatever_is_known(name: str, form: str) -> None:
    rng = np.random.default_rng(1)
    n = 600
    member = rng.permutation(np.arange(n) < 300)
    loss = rng.gamma(2.0, size=n) * np.where(member, 0.4, 1.0)
    right = np.exp(-loss)
    probs = np.column_stack([right, (1 - right) * 0.7, (1 - right) * 0.3])
    known = {
        "loss": {"loss_nats": loss},
        "entropy": {"entropy_nats": loss},
        "both": {"loss_nats": loss, "entropy_nats": loss, "labels": rng.integers(0, 3, n)},
        "released": {"probs": np.where(probs > 0.5, probs, 0.0), "labels": np.zeros(n, int), "released": True},
        "predicted": {"predicted": (right < 0.5).astype(int), "labels": np.zeros(n, int)},
    }[form]
    assert _auc(name, Predictions(member=member, **known)) > 0.6


def test_neighbours_count_equal_records_together() -> None:
    """A naive reference: points by distance, all records of a point at once, until 2.5 sqrt(m) are reached."""
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=(200, 2)), 1) + rng.integers(0, 2, (200, 1)) * 1e-3
    member = rng.random(200) < 0.5
    queries = rng.normal(size=(50, 2))
    got = fit_neighbours(x, member, 0)(np.concatenate([queries, queries[:5]]))
    np.testing.assert_array_equal(got[:5], got[50:])
    points = np.unique(x, axis=0)
    for query, score in zip(queries, got, strict=False):
        inside = total = 0
        for point in points[np.argsort(((points - query) ** 2).sum(axis=1))]:
            if total >= round(2.5 * np.sqrt(200)):
                break
            here = (x == point).all(axis=1)
            total += here.sum()
            inside += member[here].sum()
        assert score == pytest.approx(np.log((inside + 0.5) / (total - inside + 0.5)), abs=1e-12)


def test_thousands_of_equal_records_neither_stall_nor_mislead_the_neighbours() -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    member = rng.permutation(np.arange(n) < n // 2)
    saturated = rng.random(n) < np.where(member, 0.9, 0.7)
    logits = np.where(saturated[:, None], [30.0, 0.0], rng.normal(size=(n, 2)))
    auc = _auc("trained_knn", Predictions(logits=logits, labels=np.zeros(n, int), member=member))
    assert auc == pytest.approx(0.6, abs=0.02)  # 0.5 + (0.9 - 0.7) / 2


def _trap(n: int, seed: int) -> Predictions:
    """A trace of non-members is surer than any member, and a narrow cluster of members lies below them."""
    rng = np.random.default_rng(seed)
    member, labels = np.arange(n) < n // 2, rng.integers(0, 5, n)
    gap = rng.normal(1.5 + 0.7 * member, 1.5)
    sure = ~member & (rng.random(n) < 0.04)
    gap[sure] = rng.normal(9, 1, sure.sum())
    rare = member & (rng.random(n) < 0.05)
    gap[rare] = rng.normal(6, 0.3, rare.sum())
    logits = rng.normal(size=(n, 5)) * 0.5
    logits[np.arange(n), labels] += gap
    return Predictions(logits=logits, labels=labels, member=member)


def test_the_low_fpr_attack_buys_the_top_of_the_ranking() -> None:
    """Trained on 10,000 records, judged on 60,000 others, so that the figure's own noise is 0.001."""
    found = {fit_perceptron: 0.0, fit_low_fpr: 0.0}
    train, test = extract(_trap(10_000, 0)), _trap(60_000, 10)
    scaling = fit_scaling(train, np.arange(10_000))
    x, rows = scaling(train, np.arange(10_000)), scaling(extract(test), np.arange(60_000))
    for fit in found:
        scores = fit(x, np.arange(10_000) < 5_000, 0)(rows)
        found[fit] = (scores[test.member] > np.quantile(scores[~test.member], 0.99)).mean()
    assert found[fit_low_fpr] > found[fit_perceptron] + 0.004
    assert 0.045 < found[fit_low_fpr] < 0.075


def test_top_weights_are_inverse_false_positive_rates() -> None:
    scores, member = np.array([3.0, 2.0, 1.0, 0.0, 2.5, 0.5]), np.array([True, True, False, False, False, False])
    weights = top_weights(scores, member)
    raw = 1 / (np.array([0.0, 0.25, 0.25, 0.75, 0.0, 0.5]) + 0.05)
    np.testing.assert_allclose(weights[:2], raw[:2] / raw[:2].mean())
    np.testing.assert_allclose(weights[2:], raw[2:] / raw[2:].mean())


def test_features_are_scaled_on_the_training_part_alone() -> None:
    rng = np.random.default_rng(0)
    predictions = _noise(100, 100, 0, classes=3)
    features = extract(predictions)
    assert len(features.names) == 7
    part, rest = np.arange(120), np.arange(120, 200)
    scaling = fit_scaling(features, part)
    inside = scaling(features, part)
    assert inside.shape == (120, 9)
    np.testing.assert_allclose(inside.mean(axis=0), 0.0, atol=0.05)  # clipping at 6 may shift a long tail
    assert np.abs(inside).max() <= 6.0
    changed = Predictions(
        logits=np.concatenate([predictions.logits[:120], rng.normal(size=(80, 3)) * 50]),  # type: ignore[index]
        labels=predictions.labels,
        member=predictions.member,
    )
    np.testing.assert_array_equal(fit_scaling(extract(changed), part)(features, rest), scaling(features, rest))


def test_constant_features_are_dropped_and_leave_one_score() -> None:
    member = np.arange(100) < 50
    constant = Predictions(loss_nats=np.ones(100), member=member)
    result = registry.get("lr").score(Evidence(target=constant), seed=0)
    assert isinstance(result, AttackScores)
    assert np.unique(result.scores).tolist() == [0.0]


def test_notes_tell_how_many_records_trained_each_model() -> None:
    result = registry.get("lr").score(Evidence(target=_noise(200, 40, 0)), seed=0, folds=5)
    assert isinstance(result, AttackScores)
    assert result.notes == (
        "cross-fitted in 5 folds; each model trained on at least 32 members and as many non-members of the same classes",
    )
    assert result.folds is not None
    np.testing.assert_array_equal(np.bincount(result.folds), [48] * 5)


def _small_nets(inputs: int, rng: np.random.Generator) -> perceptron.Perceptrons:
    return perceptron.Perceptrons(
        weights=rng.normal(size=(perceptron.NETWORKS, (inputs + 2) * perceptron.HIDDEN + 1)), inputs=inputs
    )


def _naive_loss(weights: np.ndarray, inputs: int, x: np.ndarray, member: np.ndarray) -> float:
    """The penalized log-loss of one network, one record after another."""
    hidden = perceptron.HIDDEN
    w1, b1 = weights[: inputs * hidden].reshape(inputs, hidden), weights[inputs * hidden : (inputs + 1) * hidden]
    w2, b2 = weights[-hidden - 1 : -1], weights[-1]
    odds = [float(np.maximum(row @ w1 + b1, 0.0) @ w2 + b2) for row in x]
    losses = [np.logaddexp(0.0, -each if inside else each) for each, inside in zip(odds, member, strict=True)]
    return float(np.mean(losses) + perceptron.DECAY / 2 * ((w1**2).sum() + (w2**2).sum()))


def test_a_step_copies_its_own_rows_alone_however_the_features_lie_in_memory() -> None:
    """`take` copies an array that lies by column as a whole: cross-fitting passes such features."""
    rng = np.random.default_rng(0)
    x, member = rng.normal(size=(90, 3)), rng.random(90) < 0.5
    fitted = []
    for features in (np.ascontiguousarray(x), np.asfortranarray(x)):
        assert perceptron._Steps.of(_small_nets(3, rng), features, member, most=30).x.flags.c_contiguous
        fitted.append(perceptron.fit(features, member, np.random.default_rng(1)).weights)
    np.testing.assert_array_equal(*fitted)


def test_gradients_and_losses_of_the_perceptrons_are_those_written_out_and_of_finite_differences() -> None:
    rng = np.random.default_rng(3)
    inputs = 3
    net, x, member = _small_nets(inputs, rng), rng.normal(size=(40, inputs)), rng.random(40) < 0.5
    rows = np.stack([rng.permutation(40)[:30] for _ in range(perceptron.NETWORKS)])
    steps = perceptron._Steps.of(net, x, member, most=30)
    given, x_given = net.weights.copy(), x.copy()
    (found,) = steps.gradients(rows)
    np.testing.assert_array_equal(net.weights, given)
    np.testing.assert_array_equal(x, x_given)  # works in place, but not on what it was given
    np.testing.assert_array_equal(steps.x, np.column_stack([x, np.ones(40)]))
    for k in range(perceptron.NETWORKS):
        w1, b1, w2, b2 = (part[k] for part in (net.w1, net.b1, net.w2, net.b2))
        drawn = x[rows[k]]
        hidden = np.maximum(drawn @ w1 + b1, 0.0)
        slope = (1 / (1 + np.exp(-(hidden @ w2 + b2))) - member[rows[k], None]) / 30
        back = (slope @ w2.T) * (hidden > 0)
        written = [
            drawn.T @ back + perceptron.DECAY * w1,
            back.sum(axis=0)[None],
            hidden.T @ slope + perceptron.DECAY * w2,
        ]
        np.testing.assert_allclose(found[k], np.concatenate([*map(np.ravel, written), slope.sum(axis=0)]), rtol=0, atol=1e-14)
        squares = (w1**2).sum() + (w2**2).sum()
        naive = _naive_loss(net.weights[k], inputs, drawn, member[rows[k]]) - perceptron.DECAY / 2 * squares
        assert steps.loss(rows)[k] == pytest.approx(naive, abs=1e-12)
        for at in (0, inputs * perceptron.HIDDEN + 1, (inputs + 1) * perceptron.HIDDEN + 2, found.shape[1] - 1):
            moved = np.zeros(found.shape[1])
            moved[at] = 1e-6
            above, below = (_naive_loss(net.weights[k] + sign * moved, inputs, drawn, member[rows[k]]) for sign in (1, -1))
            assert (above - below) / 2e-6 == pytest.approx(found[k, at], abs=1e-7)


def test_fitted_perceptrons_are_those_of_a_naive_program() -> None:
    """Layer by layer and network by network, with the same draws; the best weights are kept by epoch."""
    rng = np.random.default_rng(0)
    member = np.arange(700) % 2 == 0
    x = rng.normal(size=(700, 3)) + 0.4 * member[:, None]
    rows = rng.normal(size=(50, 3))
    nets, hidden, held = perceptron.NETWORKS, perceptron.HIDDEN, 70
    rng = np.random.default_rng(7)
    drawn = np.stack([rng.permutation(700) for _ in range(nets)])
    w1 = rng.normal(size=(nets, 3, hidden)) * np.sqrt(2 / 3)
    w2 = rng.normal(size=(nets, hidden, 1)) * np.sqrt(1 / hidden)
    weights = [[w1[k], np.zeros(hidden), w2[k], np.zeros(1)] for k in range(nets)]

    def odds(net: list[np.ndarray], given: np.ndarray) -> np.ndarray:
        return (np.maximum(given @ net[0] + net[1], 0.0) @ net[2] + net[3])[:, 0]

    moments = [[[np.zeros_like(w), np.zeros_like(w)] for w in net] for net in weights]
    best, lowest, since, step, used = [list(net) for net in weights], [np.inf] * nets, [0] * nets, 0, drawn[:, held:]
    for _ in range(perceptron.MOST_EPOCHS):
        used = rng.permuted(used, axis=1)
        for start in range(0, 630, perceptron.BATCH):
            step += 1
            for k in range(nets):
                now = used[k, start : start + perceptron.BATCH]
                active = np.maximum(x[now] @ weights[k][0] + weights[k][1], 0.0)
                slope = (1 / (1 + np.exp(-odds(weights[k], x[now]))) - member[now])[:, None] / len(now)
                back = slope * weights[k][2].T * (active > 0)
                gradients = [
                    x[now].T @ back + perceptron.DECAY * weights[k][0], back.sum(axis=0),
                    active.T @ slope + perceptron.DECAY * weights[k][2], slope.sum(axis=0),
                ]  # fmt: skip
                for part, gradient in enumerate(gradients):
                    one, two = moments[k][part]
                    one, two = 0.9 * one + 0.1 * gradient, 0.999 * two + 0.001 * gradient**2
                    moments[k][part] = [one, two]
                    size = perceptron.RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
                    weights[k][part] = weights[k][part] - size * one / (np.sqrt(two) + 1e-8)
        for k in range(nets):
            aside = drawn[k, :held]
            found = odds(weights[k], x[aside])
            loss = (np.logaddexp(0, found) - member[aside] * found).mean()
            since[k] += 1
            if loss < lowest[k] - 1e-5:
                lowest[k], since[k], best[k] = loss, 0, list(weights[k])
        if min(since) >= perceptron.PATIENCE:
            break
    assert step < 2 * perceptron.MOST_EPOCHS  # it ended early
    fitted = perceptron.fit(x, member, np.random.default_rng(7))
    np.testing.assert_allclose(fitted(rows), np.mean([odds(net, rows) for net in best], axis=0), rtol=0, atol=1e-9)
