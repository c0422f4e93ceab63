"""The report in a real browser: nothing sticks out of the page on a screen or on paper, and what matters is on the first screen."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memberscope import Evidence, Predictions, ShadowPredictions, plots, run_audit
from memberscope.audit.artifacts import HEADLINE as FILE
from memberscope.report.page import render_page
from memberscope.scores import KeptScores
from memberscope.tracking import KeptRun

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
PAPER = 680  # CSS pixels between the margins of an A4 page, as the page's own style sets them
SETTINGS = ("conv-d3-c10-w128-f64-elu", "dense-d3-c10", "dense-d6-c10", "dense-d3-c4")
MOST_PAGES = 16  # of twelve models in four settings: a title page, and some three pages a setting

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.e2e,
    pytest.mark.skipif(not CHROMIUM, reason="needs the program chromium (Debian: apt-get install chromium)"),
]


def kept(setting: str, seed: int, *, attacks: str = "threshold", ids: int = 0, tags: dict[str, str] | None = None) -> KeptRun:
    """A run as an audit keeps it, on records of its own for every seed."""
    rng = np.random.default_rng([seed, len(setting)])
    n = 800
    labels, member = np.arange(n) % 4, np.arange(n) < n // 2
    logits = rng.normal(size=(4, n, 4))
    logits[:, np.arange(n), labels] += 1
    logits[0, np.arange(n), labels] += member
    others = rng.random((3, n)) < 0.5
    target = Predictions(logits=logits[0], labels=labels, member=member, record_ids=np.arange(n) + ids)
    shadows = ShadowPredictions(logits=logits[1:], labels=labels, member=others, record_ids=np.arange(n) + ids)
    found = run_audit(Evidence(target=target, shadows=shadows), attacks=attacks, slices="entire,class", seed=seed, workers=1)
    assert found.headline is not None
    epochs = np.arange(6)
    history = pd.DataFrame(
        {"epoch": epochs, "train_accuracy": 0.1 + 0.15 * epochs, "val_accuracy": 0.1 + 0.1 * epochs, "auc": 0.5 + 0.02 * epochs}
    )
    return KeptRun(
        id=f"{seed:016x}{SETTINGS.index(setting):016x}", name=f"{setting}-s{seed}", started="2026-01-02 03:04 UTC",
        tags={"memberscope.setting": setting, "memberscope.seed": str(seed), **(tags or {})},
        params={"study.seed": str(seed), "model.setting": setting, "plan.digest": f"{seed:x}"},
        tables={
            "attacks.csv": pd.read_csv(io.StringIO(found.to_frame().to_csv(index=False))),
            "roc.csv": plots.roc_points({cell.attack: cell.roc for cell in found.whole()}), "history.csv": history,
        },
        texts={FILE: found.headline.to_json()}, scores=KeptScores.of(
            found.whole_scores, member=target.member, record_ids=target.record_ids, labels=target.labels, source="given"
        ),
    )  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield started
        started.close()


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One audit with many attacks of long names, whose gate tripped for a long reason."""
    reason = "; ".join(f"metric_modified_entropy.class_{k}.auc is 0.656 (0.639 to 0.673), limit 0.6" for k in range(5))
    tags = {"memberscope.gate": "trip", "memberscope.gate_reason": reason[:500]}
    run = kept(SETTINGS[0], 0, attacks="threshold,trained_lr,metric,shadow_shokri,lira_online,lira_offline", tags=tags)
    path = tmp_path_factory.mktemp("one") / "page.html"
    path.write_text(render_page([run]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four settings with three seeds each, as a case study leaves them."""
    runs = [kept(setting, seed, ids=10_000 * seed) for seed in range(3) for setting in SETTINGS]
    path = tmp_path_factory.mktemp("twelve") / "page.html"
    path.write_text(render_page(runs), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def unpaired(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven runs that cannot be paired with the first."""
    runs = [kept(SETTINGS[seed % 4], seed, ids=10_000 * seed, tags={"memberscope.setting": ""}) for seed in range(12)]
    path = tmp_path_factory.mktemp("unpaired") / "page.html"
    path.write_text(render_page(runs), encoding="utf-8")
    return path


def opened(browser: Any, path: Path, width: int, height: int = 900) -> Any:
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto(f"file://{path}")
    return page


def bottom(page: Any, selector: str) -> float:
    return float(page.evaluate("s => document.querySelector(s).getBoundingClientRect().bottom", selector))


@pytest.mark.parametrize("name", ["one", "twelve", "unpaired"])
@pytest.mark.parametrize("width", [1440, 1920])
def test_no_page_is_wider_than_its_window_and_no_table_is_cut(
    browser: Any, request: pytest.FixtureRequest, name: str, width: int
) -> None:
    page = opened(browser, request.getfixturevalue(name), width)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = "[...document.querySelectorAll('.scroll')].filter(part => part.scrollWidth > part.clientWidth).length"
    assert page.evaluate(cut) == 0
    page.close()


def test_a_narrow_window_scrolls_tables_and_not_the_page(browser: Any, one: Path) -> None:
    page = opened(browser, one, 480)
    assert page.evaluate("document.documentElement.scrollWidth") <= 480
    page.close()


def test_finding_gate_and_what_to_do_are_on_the_first_screen(browser: Any, one: Path, twelve: Path) -> None:
    for path in (one, twelve):
        page = opened(browser, path, 1440, 900)
        places = [bottom(page, selector) for selector in (".finding", ".gate", ".todo")]
        assert places == sorted(places), "in this order"
        assert places[-1] < 900
        page.close()


def test_nothing_sticks_out_of_the_paper(browser: Any, one: Path, twelve: Path, unpaired: Path) -> None:
    for path in (one, twelve, unpaired):
        page = opened(browser, path, PAPER)
        page.emulate_media(media="print")
        assert page.evaluate("document.documentElement.scrollWidth") <= PAPER
        page.close()


def test_twelve_models_take_few_pages_and_name_every_run(browser: Any, twelve: Path) -> None:
    page = opened(browser, twelve, 1440)
    paper = page.pdf(prefer_css_page_size=True)
    pages = len(re.findall(rb"/Type\s*/Page[^s]", paper))
    assert len(SETTINGS) < pages <= MOST_PAGES
    text = page.inner_text("body")
    for setting in SETTINGS:
        for seed in range(3):
            assert f"{setting}-s{seed}: everything about this run" in text
    assert "not paired" not in text
    page.close()


def test_pairs_that_cannot_be_compared_are_one_line_each(browser: Any, unpaired: Path) -> None:
    page = opened(browser, unpaired, 1440)
    rows = page.locator("#compared tbody tr")
    assert rows.count() == 11
    assert all("not paired" in rows.nth(k).inner_text() for k in range(11))
    assert all(rows.nth(k).bounding_box()["height"] < 40 for k in range(11)), "a line each"
    assert page.inner_text("#compared").count("0 of the 800 records of the first run are among the 800 of the second") == 1
    assert page.locator("#compared details").count() == 0
    page.close()
