from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from memberscope import run_audit, seeds
from memberscope.errors import UserError
from memberscope.predictions import Predictions
from memberscope.sklearn import membership_auc_scorer


def test_streams_do_not_depend_on_the_order_of_asking() -> None:
    first = seeds.stream(3, "split").random(4)
    seeds.stream(3, "order", 1).random(100)
    assert np.array_equal(first, seeds.stream(3, "split").random(4))


def test_names_and_seeds_give_different_streams() -> None:
    draws = [
        seeds.stream(seed, *names).random() for seed in (0, 1) for names in (("a",), ("b",), ("a", 1), ("a", 11), ("a", 1, 1))
    ]
    assert len(set(draws)) == len(draws)


def test_stream_is_the_same_on_every_machine() -> None:
    assert seeds.integer(0, "weights", "logits") == 516023134


@pytest.mark.parametrize("seed", [-1, 1.0, "1", None])
def test_anything_but_an_integer_from_0_is_refused_wherever_a_seed_is_taken(seed: Any) -> None:
    member = np.arange(80) % 2 == 0
    x, y = np.arange(80.0)[:, None], np.arange(80) % 3 % 2
    for call in (
        lambda: seeds.stream(seed, "split"),
        lambda: seeds.integer(seed, "split"),
        lambda: run_audit(
            Predictions(predicted=y, labels=y, member=member), seed=seed, attacks="nosuch"
        ),  # before anything else
        lambda: membership_auc_scorer(x, y, seed=seed),
    ):
        with pytest.raises(UserError, match=r"^seed=.*; allowed: an integer, at least 0$"):
            call()
    assert seeds.integer(np.int64(3), "a") == seeds.integer(3, "a")
