"""Verdicts on simulated studies whose effects are known, at the error rates that are stated; and the readings that they stand on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from memberscope.sweeps.answer import (
    Effect,
    Result,
    effects,
    effects_frame,
    level_values,
    low_name,
    results_frame,
    sentence,
    word,
)
from memberscope.sweeps.cells import Cell, Grid, Level, LevelComparison, Part
from memberscope.training.recipe import Recipe

PART = Part(classes=2, members=50, nonmembers=50, validation=10, audited_members=50, audited_nonmembers=50)
CONTROLS, LEVELS = ("one", "two", "three"), (1, 2, 4)


def _grid(matched: str = "", values: Sequence[int | str] = LEVELS) -> Grid:
    cells = {f"{c}-{v}": Cell(recipe=Recipe(depth=1 + n), part=PART) for c in CONTROLS for n, v in enumerate(values)}
    comparisons = tuple(
        LevelComparison(
            factor="depth", control=c, levels=tuple(Level(value=v, cells=(f"{c}-{v}",)) for v in values), matched=matched
        )
        for c in CONTROLS
    )
    return Grid(name="toy", cells=cells, comparisons=comparisons)


def _study(rng: np.random.Generator, *, seeds: int, effect: float, spread: float = 0.02) -> list[Result]:
    """A figure with a level of its own for each seed, which pairs away, and `effect` between the first and the last level."""
    found = []
    for seed in range(seeds):
        own = rng.normal(0.2, 0.1)
        for control in CONTROLS:
            for number, value in enumerate(LEVELS):
                figure = own + effect * number / (len(LEVELS) - 1) + rng.normal(0, spread)
                found.append(Result(cell=f"{control}-{value}", seed=seed, figures={"f": figure}))
    return found


def _heads(results: Sequence[Result]) -> list[Effect]:
    return [effect for effect in effects(_grid(), results, ("f",), margin=0.02) if effect.headline]


def _rates(effect: float, *, seeds: int = 8, studies: int = 400, spread: float = 0.02) -> dict[str, float]:
    """The share of studies with at least one headline of each verdict."""
    rng = np.random.default_rng(11)
    found: dict[str, int] = {}
    for _ in range(studies):
        words = {item.verdict.verdict for item in _heads(_study(rng, seeds=seeds, effect=effect, spread=spread))}
        for one in words:
            found[one] = found.get(one, 0) + 1
    return {name: count / studies for name, count in found.items()}


@pytest.mark.slow
def test_no_effect_is_called_one_in_at_most_five_percent_of_studies() -> None:
    # the comparisons share nothing but the seeds' own levels, which pair away: Holm holds the rate at 0.05 over all three
    rates = _rates(0.0)
    wrong = rates.get("increases", 0.0) + rates.get("decreases", 0.0)
    assert wrong <= 0.05 + 3.3 * np.sqrt(0.05 * 0.95 / 400)
    assert rates["inconclusive"] > 0.5


@pytest.mark.slow
def test_no_effect_with_little_noise_is_no_difference() -> None:
    rates = _rates(0.0, spread=0.004)
    assert rates["no difference"] > 0.97
    assert rates.get("inconclusive", 0.0) < 0.05


@pytest.mark.slow
def test_an_effect_of_the_margin_is_called_no_difference_in_at_most_five_percent() -> None:
    assert _rates(0.02, spread=0.004).get("no difference", 0.0) <= 0.05 + 3.3 * np.sqrt(0.05 * 0.95 / 400)


@pytest.mark.parametrize(("effect", "verdict", "other"), [(0.1, "increases", "decreases"), (-0.1, "decreases", "increases")])
def test_a_large_effect_is_found_with_its_sign(effect: float, verdict: str, other: str) -> None:
    rates = _rates(effect, studies=100)
    assert rates[verdict] > 0.97
    assert other not in rates


def test_four_seeds_are_inconclusive_and_one_is_not_assessed() -> None:
    rng = np.random.default_rng(0)
    assert {item.verdict.verdict for item in _heads(_study(rng, seeds=4, effect=0.5))} == {"inconclusive"}
    assert {item.verdict.verdict for item in _heads(_study(rng, seeds=1, effect=0.5))} == {"not assessed"}


def test_the_seeds_that_would_be_needed_are_those_that_decide_about_four_in_five_times() -> None:
    rng = np.random.default_rng(3)
    asked = []
    for _ in range(60):
        for item in _heads(_study(rng, seeds=6, effect=0.03, spread=0.03)):
            if item.verdict.verdict == "inconclusive" and item.verdict.seeds_to_decide.status != "skipped":
                asked.append(item.verdict.seeds_to_decide.value)
                assert "would need about" in word(item.verdict)
    # one comparison at the true mean and spread: t with sd 0.03 * sqrt 2 on 0.03 needs about 18 seeds
    assert 9 <= np.median(asked) <= 36


def test_only_the_last_level_of_an_ordered_factor_and_every_word_is_a_headline() -> None:
    results = _study(np.random.default_rng(0), seeds=5, effect=0.1)
    found = effects(_grid(), results, ("f",), margin=0.02)
    assert [(item.control, item.level) for item in found if item.headline] == [(control, 4) for control in CONTROLS]
    assert len(found) == 6
    assert "depth 1 -> 4 (one): f" in sentence(found[1])
    frame = effects_frame(found)
    assert list(frame["level"]) == [2, 4] * 3
    assert frame["difference"].to_numpy() == pytest.approx([item.means[0] - item.means[1] for item in found])
    words = _grid(values=("dense", "mlp", "conv"))
    named = [
        Result(cell=f"{c}-{v}", seed=s, figures={"f": 0.1 * s})
        for c in CONTROLS
        for v in ("dense", "mlp", "conv")
        for s in range(5)
    ]
    assert all(item.headline for item in effects(words, named, ("f",), margin=0.02))


def test_a_seed_that_lacks_a_level_is_left_out_of_all_levels() -> None:
    results = _study(np.random.default_rng(0), seeds=6, effect=0.0)
    short = [result for result in results if not (result.cell == "one-4" and result.seed == 2)]
    values = level_values(_grid().comparisons[0], short, "f")
    assert {tuple(mine) for mine in values.values()} == {(0, 1, 3, 4, 5)}
    assert effects(_grid(), [], ("f",), margin=0.02) == []


def test_matched_levels_are_read_at_the_loss_that_all_reach() -> None:
    def result(cell: str, losses: Sequence[float], figures: Sequence[float]) -> Result:
        history = [
            {"epoch": k, "train_loss": loss, "f": figure} for k, (loss, figure) in enumerate(zip(losses, figures, strict=True))
        ]
        return Result(cell=cell, seed=0, figures={"f": figures[-1]}, history=history)

    results = [
        result("one-1", [1.0, 0.5, 0.1], [0.0, 0.2, 0.6]),
        result("one-2", [1.0, 0.8, 0.5], [0.0, 0.1, 0.3]),
        result("one-4", [1.0, 0.7, 0.3], [0.0, 0.2, 0.4]),
    ]
    matched = level_values(_grid("train_loss").comparisons[0], results, "f")
    assert [matched[level][0] for level in LEVELS] == pytest.approx([0.2, 0.3, 0.3])
    assert level_values(_grid().comparisons[0], results, "f")[1][0] == 0.6


def test_levels_by_epoch_and_levels_of_many_cells() -> None:
    history = [{"epoch": 2, "f": 0.1}, {"epoch": 4, "f": 0.3}]
    results = [Result(cell=name, seed=0, figures={"f": value}, history=history) for name, value in (("a", 1.0), ("b", 3.0))]
    by_epoch = LevelComparison(
        factor="epochs", control="x", levels=(Level(value=2, cells=("a",), epoch=2), Level(value=4, cells=("a",), epoch=4))
    )
    assert level_values(by_epoch, results, "f") == {2: {0: 0.1}, 4: {0: 0.3}}
    averaged = LevelComparison(
        factor="width", control="y", levels=(Level(value=8, cells=("a", "b")), Level(value=9, cells=("b", "b")))
    )
    assert level_values(averaged, results, "f") == {8: {0: 2.0}, 9: {0: 3.0}}
    grid = Grid(name="g", cells={name: Cell(recipe=Recipe(), part=PART) for name in "ab"}, comparisons=(by_epoch, averaged))
    assert list(results_frame(grid, results)["f"]) == [0.1, 0.3, 1.0, 3.0, 3.0, 3.0]


@pytest.mark.parametrize(
    ("records", "name"),
    [(60, "tpr_at_fpr_0_1"), (120, "tpr_at_fpr_0_1"), (1000, "tpr_at_fpr_0_01"), (10_000, "tpr_at_fpr_0_001")],
)
def test_the_low_rate_allows_ten_false_positives(records: int, name: str) -> None:
    assert low_name(records) == name
