"""Runs of one setting with several seeds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report_pages import read, report, run_of

from memberscope import metrics
from memberscope.report import facts, figures
from memberscope.report.page import render_page
from memberscope.report.settings import compare_settings, settings_of
from memberscope.tracking import KeptRun, as_json


def seeded(setting: str, seed: int, *, shift: float = 1.0, **params: str) -> KeptRun:
    run = run_of(report(shift=shift, seed=seed, ids=2000 * seed), name=f"{setting}-s{seed}")
    tags = {"memberscope.setting": setting, "memberscope.seed": str(seed)}
    return replace(run, tags=tags, params={"study.seed": str(seed), "plan.digest": f"d{seed}", **params})


def test_runs_of_one_setting_are_those_that_differ_in_the_seed_alone() -> None:
    runs = [seeded("a", 0), seeded("b", 0), seeded("a", 1), seeded("a", 0, epochs="9"), run_of(report(seed=9), name="alone")]
    found = settings_of(runs)
    assert [(one.name[:1], one.seeds, len(one.runs)) for one in found] == [
        ("a", (0, 1), 2), ("b", (0,), 1), ("a", (0,), 1), ("a", (), 1),
    ]  # fmt: skip
    twice = settings_of([seeded("a", 0), replace(seeded("a", 0), id="f" * 32), seeded("a", 1)])
    assert [len(one.runs) for one in twice] == [2, 1], "one run per seed"


def test_a_settings_figure_is_the_mean_of_its_headlines_with_a_t_interval() -> None:
    runs = [seeded("a", seed) for seed in range(3)]
    (one,) = settings_of(runs)
    values = [facts.headline(run).auc.value for run in runs]
    expected = metrics.paired_seeds(values)
    found = one.mean("auc")
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx((expected.mean, expected.ci_low, expected.ci_high))
    assert one.judged == "leaks"
    low = one.mean("tpr_at_fpr_0_01")
    assert 0.0 <= low.ci_low <= low.value <= low.ci_high <= 1.0, "an interval ends where the figure does"
    doubted = as_json({"blind": {"text": "they differ.", "differs": True}})
    assert settings_of([replace(run, texts={**run.texts, "controls.json": doubted}) for run in runs])[0].judged == "doubt"


def test_a_setting_is_drawn_with_a_line_for_each_seed() -> None:
    runs = [seeded("a", seed) for seed in range(2)]
    histories = [facts.history(run) for run in runs]
    drawings = [(figures.over_seeds(runs[:n], "01"[:n]), figures.by_epoch(histories[:n])) for n in (1, 2)]
    for one, two in zip(*drawings, strict=True):
        assert two.count(b'<g id="line2d') > one.count(b'<g id="line2d') > 0


@pytest.mark.usefixtures("undrawn")
def test_settings_are_compared_by_seed_and_adjusted_together() -> None:
    shifts = {"a": 1.0, "b": 0.3, "c": 1.0}
    runs = [seeded(name, seed, shift=shift) for seed in range(5) for name, shift in shifts.items()]
    first, *others = settings_of(runs)
    found = compare_settings(first, others)
    by_hand = [
        [facts.figure(o, "threshold_loss", "auc").value - facts.figure(r, "threshold_loss", "auc").value for r, o in pairs]
        for pairs in ([(runs[3 * seed], runs[3 * seed + k]) for seed in range(5)] for k in (1, 2))
    ]
    assert {one.attack for one in found} <= {"threshold_loss", "threshold_entropy"}
    judged = metrics.verdicts(dict(zip("bc", by_hand, strict=True)), margin=0.02)
    if all(one.attack == "threshold_loss" for one in found):
        assert [one.verdict for one in found] == list(judged.values())
    assert found[0].verdict.verdict == "decreases"
    assert found[1].verdict.difference.mean == pytest.approx(0.0, abs=1e-12), "a and c are drawn alike"
    text = " ".join(read(render_page(runs)).text)
    assert "paired by seed" in text
    assert "not paired" not in text
    lone = settings_of([*runs, seeded("d", 7)])
    assert "they share fewer than two seeds with it" in " ".join(read(render_page([*runs[::3], seeded("d", 7)])).text)
    assert len(compare_settings(lone[0], lone[1:])) == 2


@pytest.mark.usefixtures("undrawn")
def test_every_run_of_a_setting_is_on_the_page_once() -> None:
    runs = [seeded(name, seed) for seed in range(2) for name in ("a", "b")]
    html = render_page(runs)
    page = read(html)
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    for run in runs:
        assert html.count(f"<summary>{run.name}: everything about this run</summary>") == 1
