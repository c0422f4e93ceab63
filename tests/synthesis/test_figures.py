"""What the figures of synthetic sets draw."""

from __future__ import annotations

import numpy as np

from memberscope.synthesis.figures import contact_sheet, feature_frequency, synthetic_figure


def test_a_contact_sheet_has_each_class_in_its_row() -> None:
    y = np.array([2, 0, 2, 2])
    x = np.stack([np.full((4, 6, 1), 0.1 * (i + 1), np.float32) for i in range(4)])
    sheet = contact_sheet(x, y, classes=3, columns=2)
    assert sheet.shape == (14, 13, 1)
    assert np.allclose(sheet[0:4, 0:6], 0.2)
    assert np.allclose(sheet[10:14, 0:6], 0.1)
    assert np.allclose(sheet[10:14, 7:13], 0.3)
    assert np.allclose(sheet[5:9], 0.5)  # class 1 has none
    figure = synthetic_figure(x, y, method="test", class_names=("a", "b", "c"), real=None)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b", "c"]


def test_feature_frequencies_are_means_on_both_sides() -> None:
    real, synthetic = np.eye(4), np.ones((3, 4))
    frame = feature_frequency(synthetic, real)
    assert frame["real"].tolist() == [0.25] * 4
    assert frame["synthetic"].tolist() == [1.0] * 4
    figure = synthetic_figure(synthetic, np.zeros(3, np.int64), method="test", class_names=("a", "b"), real=real)
    assert figure.axes[0].get_xlabel() == "mean in real records"
    assert synthetic_figure(synthetic, np.zeros(3, np.int64), method="test", class_names=("a", "b"), real=None) is None
