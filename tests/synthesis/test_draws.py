"""Random numbers of many climbs: uniform, independent of the company, every subset alike."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import chi2, kstest

from memberscope.synthesis.draws import Draws, start


def draws(m: int, seed: int = 0) -> Draws:
    return Draws(start(seed, np.arange(m), np.zeros(m, np.int64)))


def test_splitmix64_as_published() -> None:
    """The first outputs for the state 1234567, as the reference implementation gives them."""
    one = Draws(np.array([1234567], np.uint64))
    row = np.array([0])
    assert one.words(row, 2)[0].tolist() == [6457827717110365317, 3203168211198807973]
    assert one.words(row, 3)[0].tolist() == [9817491932198370423, 4593380528125082431, 16408922859458223821]


def test_numbers_are_uniform_and_normal() -> None:
    rows = np.arange(400)
    assert kstest(draws(400).uniform(rows, 50).ravel(), "uniform").pvalue > 1e-3
    assert kstest(draws(400, 1).chance(rows), "uniform").pvalue > 1e-3
    assert kstest(draws(400, 2).normal(rows, 50).ravel(), "norm").pvalue > 1e-3


def test_a_climb_draws_the_same_in_any_company() -> None:
    alone, crowd = draws(10), draws(10)
    crowd.words(np.array([0, 1, 2, 4]), 3)
    assert np.array_equal(alone.words(np.array([3]), 5)[0], crowd.words(np.arange(10), 5)[3])


@pytest.mark.parametrize("k", [1, 2, 3])
def test_every_subset_is_as_likely(k: int) -> None:
    of, m = 5, 20_000
    subset = np.sort(draws(m).subset(np.arange(m), k, of), axis=1)
    _, counts = np.unique(subset, axis=0, return_counts=True)
    assert len(counts) == math.comb(of, k)
    expected = m / len(counts)
    assert ((counts - expected) ** 2 / expected).sum() < chi2.ppf(0.9999, len(counts) - 1)


@pytest.mark.parametrize("k", [31, 32, 33, 60, 100])
def test_features_are_different_and_as_likely(k: int) -> None:
    of, m = 100, 2_000
    subset = draws(m).subset(np.arange(m), k, of)
    assert all(len(set(row)) == min(k, of) for row in subset.tolist())
    counts = np.bincount(subset.ravel(), minlength=of)
    if k < of:
        z = (counts - m * k / of) / math.sqrt(m * k / of * (1 - k / of))
        assert np.abs(z).max() < 5
