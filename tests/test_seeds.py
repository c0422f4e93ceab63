from __future__ import annotations

import numpy as np

from memberscope import seeds


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
