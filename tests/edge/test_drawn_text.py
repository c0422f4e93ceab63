"""Text that people gave is drawn letter for letter: Matplotlib reads what stands between two dollar signs as mathematics."""

from __future__ import annotations

import pytest

from memberscope.plots import as_text, new_figure


@pytest.mark.parametrize(
    "name", ["$x^2$", "$", "$$", r"\$", r"a\$b$c", r"$\frac{", "50% & $1", "a_b^c", "plain", "_hidden", ""]
)
def test_names_are_drawn_as_they_are(name: str) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    _, axes = new_figure()
    drawn, mathematics = axes[0, 0].set_title(as_text(name))._preprocess_math(as_text(name))
    assert not mathematics
    assert str(drawn).lstrip(" ") == name


def test_a_name_with_an_underscore_in_front_is_in_the_legend() -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    _, axes = new_figure()
    axes[0, 0].plot([0, 1], label=as_text("_hidden"))
    assert [text.strip() for text in axes[0, 0].get_legend_handles_labels()[1]] == ["_hidden"]
