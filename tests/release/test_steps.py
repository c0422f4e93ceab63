"""Releases: the property table of docs/release.md cell by cell, ties, order of steps, bad input, what attacks see."""

from __future__ import annotations

import math
import re
from decimal import ROUND_DOWN, Context, Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from memberscope import Evidence, Predictions, ShadowPredictions, run_audit
from memberscope.errors import UserError
from memberscope.release import Decimals, Digits, Release, Temperature, Top, apply, parse_release, release_evidence

DOCS = Path(__file__).resolve().parents[2] / "docs" / "release.md"
CUTS = (
    "digits=1",
    "digits=2",
    "digits=12",
    "decimals=1",
    "decimals=2",
    "decimals=12",
    "top=1",
    "top=2",
    "top_spread=1",
    "top_spread=2",
)


def logits(n: int = 200, classes: int = 5, seed: int = 0) -> np.ndarray:
    """Sure and unsure rows, and exact and near ties."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, classes)) * rng.choice([0.01, 1.0, 10.0, 200.0], size=(n, 1))
    z[: n // 4] = np.round(z[: n // 4])
    z[n // 4 : n // 2, 1] = np.nextafter(z[n // 4 : n // 2, 0], np.inf)
    return z


def predictions(n: int = 200, classes: int = 5, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed + 1)
    labels, member = rng.integers(0, classes, n), np.arange(n) % 2 == 0
    z = logits(n, classes, seed)
    z[np.arange(n), labels] += 2 * member + 1
    return Predictions(logits=z, labels=labels, member=member, record_ids=np.arange(n), columns={"site": labels % 2})


def published(text: str, z: np.ndarray) -> np.ndarray:
    """Published confidences, MemGuard fitted on other records."""
    release = parse_release(text)
    if release.unfitted:
        release = release.fit(predictions(seed=7), seed=0)
    probs = release(z).probs
    assert probs is not None
    return probs


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


# --- the property table


def table() -> list[list[str]]:
    rows = [line for line in DOCS.read_text().splitlines() if re.match(r"\| `\w+(=\w)?` \| .* \| .* \| .* \| .* \|", line)]
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in rows]


def overtaken(z: np.ndarray, probs: np.ndarray) -> bool:
    """Does a class that the model put lower, by more than rounding, stand higher in what is published?"""
    before = z[:, :, None] < z[:, None, :] - 1e-6
    return bool((before & (probs[:, :, None] > probs[:, None, :])).any())


def test_the_table_names_every_step() -> None:
    names = {row[0].partition("=")[0] for row in table()}
    assert names == {"temperature", "memguard", "digits", "decimals", "top", "top_spread", "label_only"}


@pytest.mark.parametrize("row", table(), ids=lambda row: row[0])
def test_each_row_of_the_table(row: list[str]) -> None:
    name, _, keeps_label, total, order, idempotent = row
    z = logits()
    if name == "label_only":
        said = parse_release(name)(z)
        assert said.probs is None
        np.testing.assert_array_equal(said.predicted, z.argmax(axis=1))
        again = apply(apply(predictions(), parse_release(name)), parse_release(name))
        np.testing.assert_array_equal(again.predicted, predictions().logits.argmax(axis=1))
        assert (keeps_label, total, order, idempotent) == ("kept", "none", "none", "yes")
        return
    text = name.replace("=T", "=3").replace("=E", "=0.5").replace("=D", "=2").replace("=N", "=2")
    probs = published(text, z)
    np.testing.assert_array_equal(probs.argmax(axis=1), z.argmax(axis=1))
    assert keeps_label == "kept"
    sums = probs.sum(axis=1)
    assert sums.max() <= 1 + 1e-12
    assert total == ("1" if np.allclose(sums, 1, atol=1e-12) else "at most 1")
    assert order == ("changed" if overtaken(z, probs) else "kept")
    release = parse_release(text)
    if release.unfitted:
        release = release.fit(predictions(seed=7), seed=0)
    as_probs = Predictions(probs=probs, labels=z.argmax(axis=1), member=np.arange(len(z)) % 2 == 0, released=total != "1")
    again = apply(as_probs, release)
    assert idempotent == ("yes" if np.allclose(again.probs, probs, rtol=1e-9, atol=1e-12) else "no")
    if release.needs_scores:
        with pytest.raises(UserError, match="released already"):
            apply(again, release)


rows_of_logits = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(2, 9)),
    elements=st.one_of(st.floats(-30, 30), st.sampled_from([0.0, 1.0, 1e-17, 500.0, -800.0])),
)


@settings(deadline=None, max_examples=150)
@given(rows_of_logits, st.lists(st.sampled_from(CUTS), max_size=3), st.sampled_from([0.2, 1.0, 40.0]))
def test_any_composition_keeps_the_label_strictly_the_order_and_a_sum_of_at_most_one(
    z: np.ndarray, cuts: list[str], heat: float
) -> None:
    probs = published(",".join([f"temperature={heat}", *cuts]), z)
    rows, label = np.arange(len(z)), z.argmax(axis=1)
    others = probs.copy()
    others[rows, label] = -1
    assert (others.max(axis=1) < probs[rows, label]).all()
    assert (probs >= 0).all()
    assert (probs.sum(axis=1) <= 1 + 1e-9).all()
    names = [cut.partition("=")[0] for cut in cuts]
    ties_cut = {"top", "top_spread"} <= set(names)  # top keeps the lower class of those that top_spread made equal
    if names == sorted(names, reverse=True) and not ties_cut:  # nor top after a rounding
        assert not overtaken(z, probs)


@settings(deadline=None, max_examples=150)
@given(rows_of_logits, st.integers(1, 12), st.booleans())
def test_rounding_is_decimal_rounding_down(z: np.ndarray, places: int, significant: bool) -> None:
    step = Digits(places) if significant else Decimals(places)
    given_probs, got = published("none", z), published(step.text, z)
    for row, (p, q) in enumerate(zip(given_probs, got, strict=True)):
        label = int(z[row].argmax())
        unit = 10.0**-places
        naive = [
            float(f"{Decimal(repr(float(x))):.40f}"[: places + 2])  # cut after so many decimals
            if not significant
            else 0.0
            if x < 1e-30
            else float(Context(prec=places, rounding=ROUND_DOWN).create_decimal(Decimal(repr(float(x)))))
            for x in p
        ]
        top = naive[label] or unit
        assert math.isclose(q[label], top, rel_tol=1e-15)
        for k in set(range(len(p))) - {label}:
            if naive[k] < top:
                assert math.isclose(q[k], naive[k], rel_tol=1e-15)
            else:  # tied with the label: the next lower number with as many places
                grid = unit if not significant else 10.0 ** (math.floor(math.log10(top * (1 + 1e-15))) + 1 - places)
                lower = top - grid / (10 if significant and math.isclose(top / grid, 10.0 ** (places - 1)) else 1)
                assert math.isclose(q[k], lower, rel_tol=1e-9, abs_tol=1e-18)


def test_the_next_lower_number_crosses_decades() -> None:
    half = published("digits=2", np.array([[0.0, 0.0]]))
    np.testing.assert_array_equal(half, [[0.50, 0.49]])
    tenth = published("digits=2", np.zeros((1, 10)))
    np.testing.assert_array_equal(tenth, [[0.1] + [0.099] * 9])
    np.testing.assert_array_equal(published("decimals=1", np.zeros((1, 100)))[0, :3], [0.1, 0.0, 0.0])


def test_top_keeps_the_largest_and_the_lower_class_of_equal_ones() -> None:
    z = np.log([[0.1, 0.4, 0.2, 0.2, 0.1]])
    np.testing.assert_allclose(published("top=2", z), [[0, 0.4, 0.2, 0, 0]])
    np.testing.assert_allclose(published("top_spread=2", z), [[0.4 / 3, 0.4, 0.2, 0.4 / 3, 0.4 / 3]])
    np.testing.assert_array_equal(published("top=5", z), published("none", z))


def test_temperature_reads_logits_where_confidences_have_none_left() -> None:
    z = np.array([[2000.0, 1000.0, 0.0]])
    np.testing.assert_allclose(published("temperature=500", z), softmax(z / 500), rtol=1e-12)
    as_probs = Predictions(
        probs=softmax(np.array([[2.0, 1, 0], [0, 1, 3]])), labels=np.array([0, 1]), member=np.array([True, False])
    )
    np.testing.assert_allclose(
        apply(as_probs, parse_release("temperature=4")).probs, softmax(np.array([[2.0, 1, 0], [0, 1, 3]]) / 4), rtol=1e-12
    )


# --- composition and bad input


@pytest.mark.parametrize("text", ["none", "temperature=2.5,memguard=0.1,top=3,digits=2,label_only", "decimals=1,top_spread=4"])
def test_a_release_reads_back_its_own_text(text: str) -> None:
    assert str(parse_release(text)) == text
    assert parse_release(str(parse_release(text))) == parse_release(text)


def test_steps_apply_in_the_order_given() -> None:
    z = np.log([[0.56, 0.24, 0.16, 0.04]])
    np.testing.assert_allclose(published("decimals=1,top_spread=2", z), [[0.5, 0.2, 0.05, 0.05]])
    np.testing.assert_allclose(published("top_spread=2,decimals=1", z), [[0.5, 0.2, 0.1, 0.1]])
    assert Release((Temperature(2), Top(3), Digits(2))) == parse_release("temperature=2, top=3 ,digits=2")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("digits=0", r"release: digits=0: out of range; allowed: a whole number, 1 to 12"),
        ("digits=1.5", r"release: digits=1\.5: not a whole number"),
        ("decimals=two", r"release: decimals=two: not a whole number"),
        ("top=0", r"release: top=0: out of range"),
        ("top_spread=-1", r"release: top_spread=-1: out of range"),
        ("temperature=0", r"release: temperature=0: out of range; allowed: a number, above 0"),
        ("temperature=nan", r"release: temperature=nan"),
        ("memguard=2.5", r"release: memguard=2\.5: out of range; allowed: a number, above 0, at most 2"),
        ("digts=2", r"release: 'digts'; nearest: digits; allowed: temperature"),
        ("digits", r"release: digits without a value; allowed: digits=NUMBER"),
        ("label_only=1", r"release: label_only=1; label_only takes no value"),
        ("top=3,temperature=2", r"release: temperature=2 after top=3; allowed: temperature, then memguard"),
        ("label_only,label_only", r"release: label_only twice; allowed: once"),
        ("none,top=1", r"release: none together with other steps"),
        (" ,", r"release: ' ,' names no step"),
    ],
)
def test_bad_text_gets_one_line(text: str, line: str) -> None:
    with pytest.raises(UserError, match=f"^{line}") as caught:
        parse_release(text)
    assert "\n" not in str(caught.value)


def test_bad_input_gets_one_line() -> None:
    target = predictions()
    with pytest.raises(UserError, match=r"^release: top=6: the model has 5 classes; allowed: 1 to 5$"):
        apply(target, parse_release("top=6"))
    with pytest.raises(UserError, match=r"^release: memguard=0\.5: not fitted; allowed: Release\.fit"):
        apply(target, parse_release("memguard=0.5"))
    with pytest.raises(UserError, match=r"logits of shape \(3,\)"):
        parse_release("top=1")([1.0, 2.0, 3.0])
    with pytest.raises(UserError, match="1 NaN or infinite"):
        parse_release("top=1")([[1.0, np.inf]])
    with pytest.raises(UserError, match=r"digits=2 of predicted; allowed: predictions that hold logits or probs$"):
        apply(apply(target, parse_release("label_only")), parse_release("digits=2"))
    summary = Predictions(loss_nats=np.arange(4.0), member=np.arange(4) < 2)
    with pytest.raises(
        UserError, match=r"label_only of summary; allowed: predictions that hold logits or probs, or predicted$"
    ):
        apply(summary, parse_release("label_only"))
    with pytest.raises(UserError, match=r"^release: top: spread=1"):
        Top(2, spread=1)  # type: ignore[arg-type]  # the wrong type is the test


# --- what attacks see


def shadows(n: int = 200, models: int = 2) -> ShadowPredictions:
    parts = [predictions(n, seed=20 + k) for k in range(models)]
    member = np.stack([np.roll(parts[0].member, k) for k in range(models)])
    return ShadowPredictions(
        logits=np.stack([part.logits for part in parts]), labels=parts[0].labels, member=member, record_ids=np.arange(n)
    )


@pytest.mark.parametrize("text", ["temperature=3", "digits=1", "decimals=1", "top=1", "top_spread=2", "label_only", "none"])
def test_label_keeping_releases_leave_label_figures_exactly_where_they_were(text: str) -> None:
    target = predictions(400)
    before = run_audit(target, attacks="metric_correctness", slices="entire,correctness", min_records=10)
    after = run_audit(
        apply(target, parse_release(text)), attacks="metric_correctness", slices="entire,correctness", min_records=10
    )
    for result, other in zip(before.results, after.results, strict=True):
        assert result.figures.keys() == other.figures.keys()
        for name in result.figures:
            assert repr(result.figures[name]) == repr(other.figures[name]), name


def test_only_what_is_published_is_left() -> None:
    target = predictions()
    out = apply(target, parse_release("digits=2"))
    assert out.form == "probs"
    assert out.released
    assert out.logits is None
    for name in ("labels", "member", "record_ids"):
        np.testing.assert_array_equal(getattr(out, name), getattr(target, name))
    np.testing.assert_array_equal(out.columns["site"], target.columns["site"])
    assert apply(target, parse_release("label_only")).form == "predicted"


def test_families_that_labels_leave_run_and_the_rest_say_why_not() -> None:
    release = parse_release("label_only")
    report = run_audit(apply(predictions(400), release), apply(shadows(), release), attacks="threshold,trained,metric")
    ran = {result.attack for result in report.results if result.status == "ok"}
    assert ran == {"metric_correctness", "trained_lr", "trained_mlp", "trained_rf", "trained_knn", "trained_lowfpr"}
    assert all(result.reason for result in report.results if result.status != "ok")
    rounded = parse_release("top=3,digits=1")
    report = run_audit(apply(predictions(400), rounded), apply(shadows(), rounded), attacks="threshold,trained,metric")
    assert {result.status for result in report.results} == {"ok"}


def test_shadows_are_released_model_by_model_the_same_way() -> None:
    pool, release = shadows(), parse_release("temperature=2,top=2,digits=2")
    out = apply(pool, release)
    assert out.released
    for k in range(pool.n_models):
        np.testing.assert_array_equal(out.probs[k], release(pool.logits[k]).probs)


def test_evidence_holds_what_is_published_and_nothing_else() -> None:
    target, pool = predictions(), shadows()
    rng = np.random.default_rng(0)
    population = ShadowPredictions(
        logits=rng.normal(size=(3, 30, 5)), labels=rng.integers(0, 5, 30), member=np.zeros((3, 30), bool)
    )
    evidence = Evidence(
        target=target,
        shadows=pool,
        population=population,
        augmented=rng.normal(size=(3, 200, 2, 5)),
        gradients=rng.normal(size=(200, 3)),
        perturbed_labels=rng.integers(0, 5, size=(200, 4)),
    )
    release = parse_release("digits=2")
    out = release_evidence(evidence, release)
    assert out.gradients is None
    np.testing.assert_array_equal(out.target.probs, apply(target, release).probs)
    np.testing.assert_array_equal(out.shadows.probs, apply(pool, release).probs)
    np.testing.assert_array_equal(out.population.probs[0], release(population.logits[0]).probs)
    np.testing.assert_allclose(np.exp(out.augmented[1, :, 1]), release(evidence.augmented[1, :, 1]).probs, rtol=1e-5)
    np.testing.assert_array_equal(out.perturbed_labels, evidence.perturbed_labels)
    labels = release_evidence(evidence, parse_release("label_only"))
    assert labels.augmented is None
    assert labels.population.form == "predicted"
