"""The MLflow UI over a real store, in a real browser: what a reader opens is there, under the names that DESIGN promises.

``MEMBERSCOPE_SCREENSHOTS=docs/images/ui python -m pytest tests/browser`` keeps what was seen, for the documentation.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import mlflow
import numpy as np
import pytest

from memberscope import Predictions, cli
from memberscope.mlflow_adapter import view

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
# MLflow 3.17.2's own: it asks for a user where no accounts are kept, and its layout says this of itself
ITS_OWN = ("users/current", "Failed to load resource: the server responded with a status of 404", "ResizeObserver loop")
SECONDS = 60_000  # of patience for a page, in ms: the machine may be shared
EXPERIMENT = "1"

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.e2e,
    pytest.mark.skipif(not CHROMIUM, reason="needs the program chromium (Debian: apt-get install chromium)"),
]


@dataclass(kw_only=True)
class Site:
    """A server over a store, and the runs in it."""

    base: str
    parent: Any
    models: list[Any]


@dataclass(kw_only=True)
class Screen:
    """A page of the browser, and the complaints that were heard."""

    page: Any
    site: Site
    width: int
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        self.page.goto(f"{self.site.base}/#/{path}", timeout=SECONDS)

    def keep(self, name: str) -> None:
        folder = os.environ.get("MEMBERSCOPE_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            name = name if self.width == 1440 else f"{name}_{self.width}"
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"))


def _environment(store: Path) -> dict[str, str]:
    return {
        **os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{store}/mlflow.db", "PYTHONPATH": str(ROOT / "src"),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }  # fmt: skip


def _enter(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Work in a folder, on the store in it."""
    patch.chdir(folder)
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def site(store: Path) -> Iterator[Site]:
    tiny = {"experiments": "depth", "seeds": "2", "epochs": "10", "members": "200", "nonmembers": "200", "validation": "60"}
    study = ["main", "--attacks=threshold", "--slices=entire", *(f"--{name}={value}" for name, value in tiny.items())]
    with pytest.MonkeyPatch.context() as patch:
        _enter(store, patch)
        assert cli.main(study) == 0
    client = mlflow.MlflowClient(f"sqlite:///{store}/mlflow.db")
    runs = client.search_runs([EXPERIMENT])
    models = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    (parent,) = (run for run in runs if run not in models)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        "ui",
        "--backend-store-uri",
        f"sqlite:///{store}/mlflow.db",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    with (store / "server.log").open("w") as log:
        server = subprocess.Popen(
            [str(BIN / "mlflow"), *words], cwd=store, env=_environment(store), stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait(f"http://127.0.0.1:{port}/health", server, store / "server.log")
        yield Site(base=f"http://127.0.0.1:{port}", parent=parent, models=models)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def _wait(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"no answer: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def browser(site: Site) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield started
        started.close()


@pytest.fixture(params=[1440, 1920])
def width(request: pytest.FixtureRequest) -> int:
    """A laptop's screen, and a large one."""
    return int(request.param)


@pytest.fixture
def screen(browser: Any, site: Site, width: int) -> Iterator[Screen]:
    page = browser.new_page(viewport={"width": width, "height": width * 9 // 16})
    page.set_default_timeout(SECONDS)
    found = Screen(page=page, site=site, width=width)

    def heard(text: str) -> None:
        if not any(known in text for known in ITS_OWN):
            found.complaints.append(text)

    page.on("console", lambda message: heard(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: heard(str(error)))
    page.on("response", lambda answer: heard(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
    yield found
    page.close()
    assert found.complaints == [], "errors in the browser's console"


def _without_assistant(page: Any) -> None:
    close = page.get_by_role("button", name="Close", exact=True)
    close.wait_for()
    close.click()
    close.wait_for(state="hidden")


def test_the_runs_table_shows_the_study_and_its_models_by_leakage(screen: Screen, site: Site) -> None:
    page = screen.page
    order = quote("metrics.`auc/threshold_loss`")
    screen.open(f"experiments/{EXPERIMENT}/runs?workflowType=machine_learning&orderByKey={order}&orderByAsc=false")
    page.get_by_role("link", name=site.parent.info.run_name).wait_for()
    _without_assistant(page)
    assert "how much a classifier memorizes" in page.inner_text("body"), "the experiment says what it is about"
    page.get_by_text("Expand rows").click()
    for run in site.models:
        page.get_by_role("link", name=run.info.run_name).wait_for()
    names = [run.info.run_name for run in site.models]
    by_place = sorted(names, key=lambda name: page.get_by_role("link", name=name).bounding_box()["y"])
    by_leakage = sorted(site.models, key=lambda run: -run.data.metrics["auc/threshold_loss"])
    assert by_place == [run.info.run_name for run in by_leakage], "sorted by the metric's name, the leakiest first"
    page.get_by_role("button", name="Columns", exact=True).click()
    page.keyboard.type("auc/threshold_loss")
    page.get_by_text("auc/threshold_loss", exact=True).last.click()
    page.keyboard.press("Escape")
    page.get_by_text(f"{by_leakage[0].data.metrics['auc/threshold_loss']:g}", exact=True).first.wait_for()
    screen.keep("runs")


def test_the_shared_view_reads_low_value_high_the_leakiest_first(screen: Screen, site: Site) -> None:
    """An undocumented tag of the experiment: a new MLflow that reads it otherwise fails here."""
    page = screen.page
    page.goto(view.link(site.base, EXPERIMENT), timeout=SECONDS)
    page.get_by_role("link", name=site.parent.info.run_name).wait_for()
    _without_assistant(page)
    kind, *interval = ("memberscope.kind", "auc_ci_low/threshold_loss", "auc/threshold_loss", "auc_ci_high/threshold_loss")
    columns = {name: page.get_by_role("columnheader").filter(has_text=name).first for name in (kind, *interval)}
    for column in columns.values():
        column.wait_for()
    boxes = {name: column.bounding_box() for name, column in columns.items()}
    assert sorted(boxes, key=lambda name: boxes[name]["x"]) == [kind, *interval]
    assert max(box["x"] + box["width"] for box in boxes.values()) <= screen.width, "all of them without scrolling"
    rows = page.get_by_role("row")
    for run in (site.parent, *site.models):
        kind = run.data.tags["memberscope.kind"]
        assert kind == ("study" if run is site.parent else "model")
        row = page.locator("[row-id]").filter(has=page.get_by_text(kind, exact=True))
        assert row.count() == (1 if run is site.parent else len(site.models)), "a study's row says so"
    by_leakage = sorted(site.models, key=lambda run: -run.data.metrics[view.LEAKAGE])
    names = [run.info.run_name for run in by_leakage]
    assert sorted(names, key=lambda name: page.get_by_role("link", name=name).bounding_box()["y"]) == names
    for run in site.models:
        shown = [run.data.metrics[name] for name in interval]
        assert shown == sorted(shown)
        for number in shown:
            assert len(f"{number:g}") <= len("0.123")
            rows.get_by_text(f"{number:g}", exact=True).first.wait_for()
    screen.keep("view")


def test_the_charts_compare_leakage_by_epoch_by_setting(screen: Screen, site: Site) -> None:
    """The link opens the charts: a line for each setting, the mean over its seeds, in a band; the legend names them."""
    page = screen.page
    page.goto(view.charts_link(site.base, EXPERIMENT), timeout=SECONDS)
    _without_assistant(page)
    page.get_by_text("Leakage by epoch", exact=False).first.wait_for()
    settings = sorted({run.data.tags["memberscope.setting"] for run in site.models})
    assert settings == ["dense-d3-c10", "dense-d6-c10"]
    for metric in ("auc/threshold_loss", "advantage/threshold_loss"):
        for setting in settings:
            page.get_by_text(f"memberscope.setting: {setting}, data.name: digits ({metric})").first.wait_for()
    plots = page.locator(".js-plotly-plot")
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .scatterlayer .trace').length >= 8")
    assert plots.nth(0).locator(".js-fill").count() == 2, "from the lowest to the highest of its seeds"
    first, second = plots.nth(0).bounding_box(), plots.nth(1).bounding_box()
    assert first["y"] == second["y"]
    assert first["width"] > 0.35 * screen.width, "wide enough to read"
    legend = page.get_by_text(
        f"memberscope.setting: {settings[0]}, data.name: digits (auc/threshold_loss)"
    ).first.bounding_box()
    assert legend["y"] + legend["height"] <= page.viewport_size["height"], "the legend is read without scrolling"
    screen.keep("charts")


def test_a_study_page_says_what_was_found_without_a_click(screen: Screen, site: Site) -> None:
    page = screen.page
    screen.open(f"experiments/{EXPERIMENT}/runs/{site.parent.info.run_id}?workflowType=machine_learning")
    _without_assistant(page)
    finding = page.get_by_text("depth: inconclusive (AUC dense-d6-c10 minus dense-d3-c10")
    _is_read_without_a_click(page, finding)
    assert "digits" in page.inner_text("body").partition("Datasets")[2], "the parent lists its data set"
    screen.keep("study")
    page.get_by_text("Show more").first.click()
    text = page.inner_text("body")
    assert "the case study expected" in text
    assert "A verdict needs at least 5 seeds" in text


def test_a_model_page_says_what_was_found_without_a_click(screen: Screen, site: Site) -> None:
    page, run = screen.page, site.models[0]
    screen.open(f"experiments/{EXPERIMENT}/runs/{run.info.run_id}?workflowType=machine_learning")
    _without_assistant(page)
    _is_read_without_a_click(page, page.get_by_text("95% interval", exact=False).first)
    screen.keep("model")


def _is_read_without_a_click(page: Any, finding: Any) -> None:
    """Whether the text lies whole within the part of the description that the page shows before "Show more"."""
    finding.wait_for()
    more = page.get_by_text("Show more").first
    more.wait_for()
    box, fold = finding.bounding_box(), more.bounding_box()
    gradient = page.get_by_test_id("truncation-gradient").first.bounding_box()
    assert box["y"] + box["height"] <= gradient["y"] + gradient["height"] / 2 < fold["y"], (box, gradient, fold)


def test_metrics_of_a_model_group_by_figure(screen: Screen, site: Site) -> None:
    page, run = screen.page, site.models[0]
    screen.open(f"experiments/{EXPERIMENT}/runs/{run.info.run_id}/model-metrics?workflowType=machine_learning")
    page.get_by_text("auc_ci_low", exact=True).wait_for()
    _without_assistant(page)
    text = page.inner_text("body")
    sections: dict[str, int] = {}
    for name in run.data.metrics:
        if "/" in name:
            section = name.rsplit("/", 1)[0]
            sections[section] = sections.get(section, 0) + 1
    assert {"auc", "advantage", "tpr_at_fpr_0_001", "train", "val"} <= set(sections)
    missing = [section for section, count in sections.items() if f"\n{section}\n({count})\n" not in text]
    assert missing == [], "a section per figure, with a chart per attack"
    screen.keep("metrics")


def test_runs_compare_by_parallel_coordinates_on_the_logged_names(screen: Screen, site: Site) -> None:
    page = screen.page
    runs = ",".join(f'"{run.info.run_id}"' for run in site.models)
    screen.open(f'compare-runs?runs=[{runs}]&experiments=["{EXPERIMENT}"]&workflowType=machine_learning')
    page.get_by_text("Clear All").click()
    _without_assistant(page)
    wanted = {0: ["model.depth", "study.seed"], 1: ["gap", "auc/threshold_loss"]}
    for box, names in wanted.items():
        for name in names:
            page.get_by_role("combobox").nth(box).click()
            page.keyboard.type(name)
            page.keyboard.press("Enter")
        page.keyboard.press("Escape")
    page.wait_for_function("document.querySelectorAll('.axis-title').length === 4")
    titles = page.evaluate("[...document.querySelectorAll('.axis-title')].map(title => title.textContent)")
    assert sorted(titles) == sorted(name for names in wanted.values() for name in names)
    ticks = page.evaluate("[...document.querySelectorAll('.axis .tick')].map(tick => Number(tick.textContent))")
    assert {3.0, 6.0} <= set(ticks), "depth is a number on an axis of its own, not a word"
    screen.keep("compare")


def test_the_report_of_sixty_thousand_records_is_small_and_opens_without_errors(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every slice, curves, and pictures of the most exposed records; from a file, as it is handed on."""
    _enter(tmp_path, monkeypatch)
    rng, n = np.random.default_rng(0), 60_000
    labels, member = rng.integers(0, 10, n), np.arange(n) < n // 2
    logits = rng.normal(size=(n, 10)).astype(np.float32)
    logits[np.arange(n), labels] += 1 + member
    images = np.repeat(rng.integers(0, 256, (n, 4, 4, 3), dtype=np.uint8), 8, axis=1).repeat(8, axis=2)
    Predictions(logits=logits, labels=labels, member=member, inputs=images).save(tmp_path / "said.npz")
    for words in (
        ["attack", "--predictions", "said.npz", "--attacks", "threshold,trained_lr", "--slices", "all", "--controls", "none"],
        ["report", "--runs", "attack-said", "--page", "page.html"],
    ):
        assert cli.main(words) == 0
    assert 50_000 < (tmp_path / "page.html").stat().st_size < 5_000_000
    page, complaints = browser.new_page(), []
    page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(("file:", "data:")) else complaints.append(request.url))
    page.goto(f"file://{tmp_path}/page.html", timeout=SECONDS)
    text = page.inner_text("body")
    assert "30,000 members" in text
    assert page.locator("img").count() >= 2
    page.close()
    assert complaints == []


def test_a_report_is_read_inside_the_ui(screen: Screen, site: Site, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The artifact's frame shows the whole page, its pictures drawn, and the frame's sandbox finds nothing to complain about. The report's
    run does not stand among the models.
    """
    names = [run.info.run_name for run in site.models[:2]]
    _enter(store, monkeypatch)
    assert cli.main(["report", "--runs", ",".join(names), "--page", "none"]) == 0
    client = mlflow.MlflowClient(f"sqlite:///{store}/mlflow.db")
    report = client.search_runs([EXPERIMENT], filter_string="tags.`memberscope.kind` = 'report'")[0]
    screen.open(f"experiments/{EXPERIMENT}/runs/{report.info.run_id}/artifacts/report.html?workflowType=machine_learning")
    frame = screen.page.frame_locator("iframe").first
    for name in names:
        frame.get_by_text(name).first.wait_for()
    _without_assistant(screen.page)
    assert "ROC" in frame.locator("body").inner_text()
    pictures = frame.locator("img")
    assert pictures.count() >= 2
    drawn = "image => image.complete && image.naturalWidth > 0"
    assert all(pictures.nth(i).evaluate(drawn) for i in range(pictures.count()))
    screen.keep("report")
    screen.page.goto(view.link(site.base, EXPERIMENT), timeout=SECONDS)
    screen.page.get_by_role("link", name=names[0]).wait_for()
    screen.page.get_by_text(f"{1 + len(site.models)} matching runs").wait_for()
    assert screen.page.get_by_role("link", name=report.info.run_name, exact=True).count() == 0
