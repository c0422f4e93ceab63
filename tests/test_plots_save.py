"""Pictures are written without being drawn twice, to the same pixels as Matplotlib's own way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from memberscope import Predictions, metrics, plots, run_audit
from memberscope.audit import artifacts
from memberscope.audit.controls import Controls
from memberscope.audit.log import log_whole_audit
from memberscope.tracking import MemoryTracker

if TYPE_CHECKING:
    from matplotlib.figure import Figure

pytestmark = pytest.mark.usefixtures("laid_out")


def figure():  # type: ignore[no-untyped-def]
    """Histograms of 200 scores."""
    pytest.importorskip("matplotlib")
    scores = np.random.default_rng(0).normal(size=200)
    return plots.score_figure(scores, scores > 0.3, title="an attack", least=5)


def pixels(figure: Figure) -> np.ndarray:
    """The pixels (height, width, 4) of a figure that was drawn."""
    return np.asarray(figure.canvas.buffer_rgba()).copy()  # type: ignore[attr-defined]  # an Agg canvas has them


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that grows with each drawing of a figure."""
    from matplotlib.figure import Figure

    done: list[str] = []
    draw = Figure.draw

    def counting(self: Figure, renderer: object) -> None:
        done.append("drawn")
        draw(self, renderer)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "draw", counting)
    return done


def test_a_picture_is_that_of_savefig_to_the_last_pixel(tmp_path: Path) -> None:
    figure().savefig(tmp_path / "theirs.png")
    from matplotlib.image import imread
    from PIL import Image

    plots.save(plots.drawn(figure()), tmp_path / "ours.png")
    plots.save(figure(), tmp_path / "undrawn.png")
    assert (tmp_path / "ours.png").read_bytes() == (tmp_path / "undrawn.png").read_bytes()
    np.testing.assert_array_equal(imread(tmp_path / "ours.png"), imread(tmp_path / "theirs.png"))
    with Image.open(tmp_path / "ours.png") as ours, Image.open(tmp_path / "theirs.png") as theirs:
        assert ours.info["dpi"] == theirs.info["dpi"]
    assert (tmp_path / "ours.png").stat().st_size < 2 * (tmp_path / "theirs.png").stat().st_size


def test_a_figure_is_drawn_once_unless_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = figure()
    times = counted(monkeypatch)
    plots.save(plots.drawn(made), tmp_path / "once.png")
    assert len(times) == 1
    made.axes[0].set_title("another title")
    plots.save(made, tmp_path / "changed.png")
    assert len(times) == 2
    assert (tmp_path / "once.png").read_bytes() != (tmp_path / "changed.png").read_bytes()


@pytest.mark.parametrize("seed", range(3))
def test_a_figure_that_is_redrawn_is_as_a_new_one_to_the_last_pixel(seed: int) -> None:
    """Also after others of another range, number of bins and number of records, with ties, and of one score alone."""
    pytest.importorskip("matplotlib")
    rng, on = np.random.default_rng(seed), None
    for number, n in enumerate((50, 1000, 20, 300, 40)):
        scores = rng.normal(size=n) * 10.0 ** rng.integers(-6, 6) + rng.normal()
        scores = {1: np.round(scores / scores.std()), 3: np.zeros(n)}.get(number, scores)
        member = np.arange(n) < rng.integers(5, n - 5)
        new = plots.drawn(plots.score_figure(scores, member, title=f"attack {number}", least=5))
        again = plots.drawn(plots.score_figure(scores, member, title=f"attack {number}", least=5, reuse=on))
        assert on is None or again is on
        np.testing.assert_array_equal(pixels(new), pixels(again))
        on = again


def test_histograms_are_those_that_matplotlib_draws_from_the_scores() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    rng = np.random.default_rng(1)
    scores, member = rng.normal(size=400), rng.random(400) < 0.4
    made = plots.score_figure(scores, member, title="an attack", least=20)
    figure, axes = plots.new_figure(1, 1, width=5.5, margins=plots.Margins())
    edges = plots.histogram_edges(scores, bins=59, least=20)
    highest = 0.0
    for side, name, colour in ((member, "members", plots.COLOURS[1]), (~member, "non-members", plots.COLOURS[0])):
        density = np.histogram(scores[side].clip(edges[0], edges[-1]), edges, density=True)[0]
        axes[0, 0].stairs(density, edges, color=colour, label=name, linewidth=1.5)
        highest = max(highest, density.max())
    axes[0, 0].set(xlabel="score (higher = more likely a member)", ylabel="density", ylim=(0, 1.15 * highest))
    axes[0, 0].set_title("an attack", y=1.0, pad=6, fontsize=plots.TITLE)
    axes[0, 0].locator_params(nbins=5)
    axes[0, 0].legend(fontsize=8, frameon=False, loc="upper center", ncols=2)
    assert isinstance(figure, matplotlib.figure.Figure)
    np.testing.assert_array_equal(*(pixels(plots.drawn(one)) for one in (made, figure)))


def test_another_format_is_left_to_matplotlib(tmp_path: Path) -> None:
    plots.save(figure(), tmp_path / "figure.svg")
    assert "<svg" in (tmp_path / "figure.svg").read_text()


@pytest.mark.parametrize(
    "own",
    [{}, {"figure.constrained_layout.use": True}, {"figure.autolayout": True}, {"font.size": 14, "axes.labelsize": "large"}],
    ids=["", "constrained", "tight", "large texts"],
)
def test_texts_of_an_audits_figures_keep_to_the_figure_and_do_not_overlap(own: dict[str, bool]) -> None:
    """Their places are given, not searched for: with long tick labels, with many attacks below the curves, and whatever layout or
    text sizes the reader's own settings ask for.
    """
    matplotlib = pytest.importorskip("matplotlib")
    import pandas as pd

    rng = np.random.default_rng(0)
    scores = rng.normal(size=200)
    rates = np.linspace(0, 1, 20)
    points = pd.concat(
        [pd.DataFrame({"attack": f"attack_number_{k}", "fpr": rates, "tpr": rates**0.5, "threshold": 0.0}) for k in range(19)]
    )
    frame = pd.DataFrame(
        {"class": ["a", "b"], "dispersion": [1e-5, 2e5], "auc": [0.5, 0.6], "ci_low": [0.4, 0.5], "ci_high": [0.6, 0.7]}
    )
    band = pd.DataFrame({"fpr": rates, "low": rates, "high": rates**0.3})
    labels = {name: f"{name} (AUC 0.612)" for name in points["attack"].unique()}
    with matplotlib.rc_context(own):
        made = [
            *(
                plots.score_figure(scores * scale, scores > 0.3, title="an attack: AUC 0.612", least=5)
                for scale in (1e-5, 1, 1e3, 1e6)
            ),
            plots.dispersion_figure(frame, title="an attack by class"),
            plots.roc_figure(points, title="membership inference", labels=labels, band=band),
        ]
    for one in made:
        plots.drawn(one)
        whole = one.bbox
        for ax in one.axes:
            labels_of = {"x": ax.xaxis.label, "y": ax.yaxis.label}
            for side, axis in (("x", ax.xaxis), ("y", ax.yaxis)):
                label = labels_of[side].get_window_extent()
                assert whole.x0 <= label.x0
                assert whole.y0 <= label.y0
                for tick in axis.get_majorticklabels():
                    if tick.get_text():
                        assert not label.overlaps(tick.get_window_extent()), (side, tick.get_text())
            for legend in one.legends:
                assert not legend.get_window_extent().overlaps(ax.xaxis.label.get_window_extent())
                assert legend.get_window_extent().y0 >= whole.y0
            title = ax.title.get_window_extent()
            assert title.y1 <= whole.y1
            assert title.y0 >= ax.get_window_extent().y1 - 1


def test_a_page_of_figures_is_laid_out_and_drawn(tmp_path: Path) -> None:
    """Most tests draw without the layout: here curves on logarithmic axes, with a legend below them, have room for all of it."""
    rng = np.random.default_rng(0)
    member = np.arange(300) < 150
    curves = {f"attack {number}": metrics.roc_curve(rng.normal(size=300) + member, member) for number in range(9)}
    made = plots.drawn(plots.roc_figure(plots.roc_points(curves), title="nine attacks"))
    (legend,) = made.legends
    within = made.bbox.padded(1)
    boxes = [ax.get_tightbbox() for ax in made.axes]
    for box in (*boxes, legend.get_window_extent()):
        assert within.x0 <= box.x0 < box.x1 <= within.x1
        assert within.y0 <= box.y0 < box.y1 <= within.y1
    assert boxes[0].x1 <= boxes[1].x0, "side by side"
    assert legend.get_window_extent().y1 <= min(box.y0 for box in boxes), "below both"


class _Files(MemoryTracker):
    """Keeps pixels in place of figures, which may then be redrawn, as a store of files does."""

    def figure(self, figure: Figure, path: str) -> bool:
        self.artifacts[path] = figure, pixels(figure)
        return True


def test_an_audits_histograms_share_their_axes_where_only_pixels_are_saved() -> None:
    pytest.importorskip("matplotlib")
    rng, member = np.random.default_rng(2), np.arange(300) < 150
    target = Predictions(logits=rng.normal(size=(300, 3)) + member[:, None], labels=rng.integers(0, 3, 300), member=member)
    report = run_audit(target, attacks="threshold,trained_lr")
    files, memory = _Files(), MemoryTracker()
    for tracker in (files, memory):
        log_whole_audit(report, tracker, controls=Controls(), notes={}, seed=0, top=3)
    paths = [artifacts.score_figure(result.attack) for result in report.whole()]
    assert len(paths) == 3
    assert len({id(files.artifacts[path][0]) for path in paths}) == 1
    assert len({id(memory.artifacts[path]) for path in paths}) == len(paths), "each stays as it is"
    for path in paths:
        np.testing.assert_array_equal(files.artifacts[path][1], pixels(plots.drawn(memory.artifacts[path])), err_msg=path)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_figure_may_change_before_it_is_written(suffix: str, tmp_path: Path) -> None:
    made = figure()
    plots.save(made, tmp_path / f"now.{suffix}")
    write = plots.writer(made, tmp_path / f"later.{suffix}")
    made.axes[0].set_title("another title")
    plots.drawn(made)
    write()
    now, later = ((tmp_path / f"{name}.{suffix}").read_text("latin-1") for name in ("now", "later"))
    if suffix == "svg":  # with the time and random names
        assert later.count("<path") == now.count("<path")
        assert len(later) == len(now)
    else:
        assert later == now
