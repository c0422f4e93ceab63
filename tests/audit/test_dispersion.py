"""Class dispersion against closed forms, and the permutation test against its own false-alarm rate.

Bands hold in all but one of a thousand runs with fresh seeds; as the seeds are fixed they hold always or never.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from memberscope.audit.dispersion import class_dispersion, dispersion_against, fit_components, rows_by_digest
from memberscope.errors import UserError


def _gaussians(scales: list[float], counts: list[int], width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Isotropic classes with means of their own, as images of one column, shuffled: (n, width, 1)."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(scales)), counts))
    means = rng.normal(size=(len(scales), width))
    return (means[labels] + np.array(scales)[labels, None] * rng.normal(size=(len(labels), width)))[..., None], labels


def test_log_determinant_of_isotropic_gaussians_is_that_of_the_closed_form() -> None:
    """ln det(s^2 I) = 2 d ln s; a Gaussian sample of m records has a standard error of sqrt(2 d / m)."""
    scales, width, m = [0.5, 1.0, 2.0, 4.0], 12, 1000
    found = class_dispersion(*_gaussians(scales, [m] * 4, width, 0), seed=0)
    assert (found.kind, found.records, found.components) == ("log_determinant", m, width)
    for c, scale in enumerate(scales):
        expected = 2 * width * math.log(scale) - width * (width + 1) / (2 * m)
        assert found.by_class[c] == pytest.approx(expected, abs=3.3 * math.sqrt(2 * width / m) + 0.05)


def test_wide_inputs_are_ordered_by_their_first_twenty_components() -> None:
    """Of 60 directions that all classes share, the components keep the 20 widest; the classes differ in scale."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(5), 400)
    spectrum = np.r_[np.full(20, 5.0), np.full(40, 0.1)]
    scales = np.array([1.0, 0.4, 2.0, 0.7, 1.4])
    x = rng.normal(size=(2000, 60)) * spectrum * scales[labels, None]
    found = class_dispersion(x.reshape(2000, 4, 5, 3), labels, seed=0)
    assert found.components == 20
    assert sorted(found.by_class, key=found.by_class.__getitem__) == np.argsort(scales).tolist()
    assert found.by_class[2] - found.by_class[0] == pytest.approx(40 * math.log(2), abs=1.5)


def test_columns_of_a_table_are_standardized_so_that_units_do_not_matter() -> None:
    x, labels = _gaussians([0.5, 1.0, 2.0], [300] * 3, 6, 2)
    table = x[..., 0]
    one = class_dispersion(table, labels, seed=0)
    other = class_dispersion(table * 10.0 ** np.arange(-3, 3) + 1e6, labels, seed=0)
    for c in range(3):
        assert one.by_class[c] == pytest.approx(other.by_class[c], abs=0.05)
    assert one.by_class[1] - one.by_class[0] == pytest.approx(12 * math.log(2), abs=0.8)


def test_bit_entropy_is_that_of_known_shares() -> None:
    shares = [0.02, 0.1, 0.3, 0.5]
    rng, m, width = np.random.default_rng(3), 500, 200
    labels = np.repeat(np.arange(4), m)
    bits = rng.random((4 * m, width)) < np.array(shares)[labels, None]
    for x in (bits, bits.astype(np.uint8), bits.astype(np.float32)):
        found = class_dispersion(x, labels, seed=0)
        assert (found.kind, found.records, found.components) == ("bit_entropy", m, 0)
        for c, p in enumerate(shares):
            entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
            assert found.by_class[c] == pytest.approx(entropy - 1 / (2 * m), abs=0.003)
    constant = class_dispersion(np.zeros((40, 5), dtype=bool), np.arange(40) % 2, seed=0)
    assert dict(constant.by_class) == {0: 0.0, 1: 0.0}
    assert class_dispersion(bits, labels, kind="log_determinant", seed=0).kind == "log_determinant"
    assert class_dispersion(bits.reshape(4 * m, 10, 20), labels, seed=0).kind == "log_determinant"  # images, though binary


@pytest.mark.parametrize("kind", ["log_determinant", "bit_entropy"])
def test_unequal_class_sizes_do_not_change_the_order(kind: str) -> None:
    """The widest class is the smallest by far, and gives as many records as the others."""
    levels, counts = [0.9, 0.7, 0.5, 0.3, 0.1], [60, 3000, 200, 1000, 500]
    if kind == "bit_entropy":
        rng = np.random.default_rng(4)
        labels = np.repeat(np.arange(5), counts)
        x = (rng.random((len(labels), 100)) < 0.5 * np.array(levels)[labels, None]).astype(int)
    else:
        x, labels = _gaussians(levels, counts, 30, 4)
    found = class_dispersion(x, labels, seed=0)
    assert found.kind == kind
    assert found.records == 60
    assert sorted(found.by_class, key=found.by_class.__getitem__) == [4, 3, 2, 1, 0]


def test_equal_classes_of_unequal_sizes_get_equal_figures() -> None:
    """With as many records a class: were all used, the larger class would look 3 wider in 20 dimensions."""
    differences = []
    for seed in range(12):
        x, labels = _gaussians([1.0, 1.0], [60, 2000], 30, seed)
        found = class_dispersion(x, labels, seed=seed)
        differences.append(found.by_class[1] - found.by_class[0])
    assert abs(np.mean(differences)) < 3.3 * np.std(differences, ddof=1) / math.sqrt(12) + 0.05
    assert np.std(differences) < 2.0


def test_the_order_of_records_does_not_matter() -> None:
    x, labels = _gaussians([1.0, 2.0, 3.0], [50, 400, 90], 40, 5)
    order = np.random.default_rng(0).permutation(len(x))
    one, other = class_dispersion(x, labels, seed=7), class_dispersion(x[order], labels[order], seed=7)
    for c in range(3):
        assert one.by_class[c] == pytest.approx(other.by_class[c], abs=1e-3)
    assert class_dispersion(x, labels, seed=8).by_class[1] != one.by_class[1]
    np.testing.assert_array_equal(x[rows_by_digest(x, 0)], x[order][rows_by_digest(x[order], 0)])


def test_classes_with_too_few_records_are_left_out_with_a_reason() -> None:
    x, labels = _gaussians([1.0, 1.0, 1.0], [9, 40, 100], 3, 6)
    found = class_dispersion(x, labels, seed=0)
    assert found.records == 40
    assert dict(found.left_out) == {0: "9 records; needs 10"}
    assert set(class_dispersion(x, labels, seed=0, records=60).by_class) == {2}
    assert class_dispersion(x, labels, seed=0, records=5).records == 5
    none = class_dispersion(x, labels, seed=0, records=500)
    assert (dict(none.by_class), none.records, len(none.left_out)) == ({}, 0, 3)


def test_copies_and_constants_have_finite_figures_or_none() -> None:
    x, labels = _gaussians([1.0, 1.0, 1.0], [50] * 3, 5, 7)
    x[labels == 1] = x[0]
    found = class_dispersion(x, labels, seed=0)
    assert all(math.isfinite(v) for v in found.by_class.values())
    assert min(found.by_class, key=found.by_class.__getitem__) == 1
    constant = class_dispersion(np.full((60, 4, 4), 7.0), np.arange(60) % 3, seed=0)
    assert (dict(constant.by_class), constant.records) == ({}, 0)
    assert constant.left_out[2] == "no input varies in any class"


def test_components_are_those_of_a_plain_decomposition() -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(size=(500, 50)) @ np.diag(np.r_[10.0, 7.0, 5.0, np.full(47, 0.3)]) + 3.0
    components = fit_components(x[:, :, None], most=3, seed=0)
    _, _, plain = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(np.sum(components.axes.T * plain[:3], axis=1)), 1.0, atol=1e-3)
    values, rest = components(x[:, :, None])
    energy = ((x - x.mean(axis=0)) ** 2).sum(axis=1)
    np.testing.assert_allclose((values**2).sum(axis=1) + rest, energy, rtol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros(3, dtype=int)}, r"x: shape \(20, 4\) with labels of shape \(3,\)"),
        ({"labels": np.zeros(20)}, "labels: dtype float64"),
        ({"x": np.full((20, 4), "a")}, "x: dtype <U1"),
        ({"x": np.full((20, 4), np.nan)}, "x: 80 NaN or infinite values"),
        ({"kind": "bit_entropi"}, "kind: 'bit_entropi'; nearest: bit_entropy"),
        ({"kind": "bit_entropy"}, "not all 0 or 1"),
        ({"records": 1}, "records: 1; allowed: 2 or more"),
    ],
)
def test_a_users_mistake_gets_one_line(change: dict, message: str) -> None:  # type: ignore[type-arg]
    good = {"x": np.random.default_rng(0).normal(size=(20, 4)), "labels": np.zeros(20, dtype=int), "seed": 0}
    with pytest.raises(UserError, match=message):
        class_dispersion(**(good | change))


def test_five_classes_in_perfect_order_have_a_p_value_of_two_in_120() -> None:
    falling = dispersion_against({c: 0.5 - 0.1 * c for c in range(5)}, {c: c**3 for c in range(5)})
    assert falling.correlation == pytest.approx(-1.0)
    assert falling.p_value == pytest.approx(2 / 120)
    assert falling.exact
    assert falling.sentence.startswith("tighter classes leak more (Spearman -1.00 over 5 classes")
    rising = dispersion_against({c: c for c in range(5)}, {c: c**3 for c in range(5)})
    assert (rising.correlation, rising.p_value) == (pytest.approx(1.0), pytest.approx(2 / 120))
    assert rising.sentence.startswith("more widely spread classes leak more")


@pytest.mark.parametrize("classes", [7, 8, 12])
def test_correlation_and_p_value_agree_with_scipy(classes: int) -> None:
    """With ties, against scipy's correlation and its permutation test of 4,000 draws."""
    rng = np.random.default_rng(classes)
    x, y = rng.integers(0, 5, classes).astype(float), rng.integers(0, 5, classes).astype(float)
    found = dispersion_against(dict(enumerate(y)), dict(enumerate(x)))
    assert found.correlation == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.exact == (classes <= 8)
    draws = 4000
    reference = stats.permutation_test(
        (x,), lambda a: abs(stats.rankdata(a) @ (stats.rankdata(y) - (classes + 1) / 2)), permutation_type="pairings",
        n_resamples=draws, alternative="greater", random_state=0,
    ).pvalue  # fmt: skip
    assert found.p_value == pytest.approx(reference, abs=3.3 * math.sqrt(0.25 / draws) * 1.2)


@pytest.mark.parametrize(("classes", "trials"), [(5, 600), (7, 300), (10, 300)])
def test_false_alarms_are_as_rare_as_stated(classes: int, trials: int) -> None:
    rng = np.random.default_rng(classes)
    p = np.array(
        [
            dispersion_against(
                dict(enumerate(rng.normal(size=classes))), dict(enumerate(rng.normal(size=classes))), seed=t, draws=500
            ).p_value
            for t in range(trials)
        ]
    )
    assert (p <= 0.05).sum() <= stats.binom.ppf(0.999, trials, 0.05)
    assert stats.binom.ppf(0.0005, trials, 0.42) <= (p <= 0.5).sum() <= stats.binom.ppf(0.9995, trials, 0.5)
    assert stats.binom.ppf(0.0005, trials, 0.01) <= (p <= 0.05).sum()


def test_what_cannot_be_tested_is_skipped_with_a_reason() -> None:
    few = dispersion_against({0: 1.0, 1: 2.0, 2: 3.0, 3: math.nan}, {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0, 9: 1.0})
    assert (few.status, few.n_classes) == ("skipped", 3)
    assert few.reason == "3 classes with both a metric and a dispersion; needs 4"
    assert few.notes == ("classes without a metric or a dispersion: 3, 9",)
    assert math.isnan(few.p_value)
    assert "not assessed" in few.sentence
    flat = dispersion_against(dict.fromkeys(range(5), 1.0), dict(enumerate(range(5))))
    assert flat.reason == "the metric is the same in all 5 classes"
    with pytest.raises(UserError, match="draws: 0"):
        dispersion_against({}, {}, draws=0)


def test_from_inputs_to_the_finding() -> None:
    """Advantages that fall with the spread of the class: found, with the pairs that a scatter plot draws."""
    scales = [1.5, 0.5, 1.0, 2.0, 0.75, 1.25]
    x, labels = _gaussians(scales, [200] * 6, 10, 9)
    advantage = {c: 0.3 / scale for c, scale in enumerate(scales)}
    found = dispersion_against(advantage, class_dispersion(x, labels, seed=0))
    assert (found.correlation, found.p_value) == (pytest.approx(-1.0), pytest.approx(2 / 720))
    np.testing.assert_array_equal(found.classes, np.arange(6))
    np.testing.assert_allclose(found.figure, list(advantage.values()))
