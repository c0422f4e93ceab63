"""The table of all measures, and models of any form."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from memberscope import ShadowPredictions
from memberscope.errors import UserError
from memberscope.exposure.detection import detect_own
from memberscope.exposure.memorization import memorization
from memberscope.exposure.privacy_score import privacy_score
from memberscope.exposure.table import measure, measure_models


def _fleet(models: int = 16, records: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    first = rng.random((models // 2, records)) < 0.5
    member = np.stack([first, ~first], axis=1).reshape(models, records)
    phi = rng.normal(size=member.shape)
    phi[:, 3] += 9.0 * member[:, 3]
    return phi, member


def test_the_frame_holds_every_measure_with_its_interval() -> None:
    phi, member = _fleet()
    scores = {"lira": phi[:4]}
    found = measure(
        scaled_logits=phi, correct=phi > 0, member=member, labels=np.arange(40) % 3, record_ids=np.arange(40) + 100, scores=scores,
        targets=member[:4], rates=(0.1,),
    )  # fmt: skip
    frame = found.to_frame()
    own, pooled = "detection_own_fpr_0_1/scaled_logit", "detection_pooled_fpr_0_1/lira"
    assert list(frame.columns) == [
        "record", "label", "models_in", "models_out", "memorization", "memorization_low", "memorization_high", "memorization_p",
        "privacy_score", "privacy_score_low", "privacy_score_high", "privacy_score_p",
        *(f"{name}{end}" for name in (own, pooled, "detection_own_fpr_0_1/lira") for end in ("", "_low", "_high", "_false")),
        "shown", "reason",
    ]  # fmt: skip
    np.testing.assert_array_equal(frame["record"], np.arange(40) + 100)
    np.testing.assert_allclose(frame["memorization"], memorization(phi > 0, member).value)
    np.testing.assert_allclose(frame["privacy_score_high"], privacy_score(phi, member).high)
    np.testing.assert_allclose(frame[own], detect_own(phi, member, attack="x", fpr=0.1).value)
    assert frame["shown"].to_numpy().nonzero()[0].tolist() == [3]
    assert found.ranking()[0] == 3
    few = frame["detection_own_fpr_0_1/lira"].isna()
    assert few.any()
    assert frame["reason"][few].str.contains("detection_own_fpr_0_1/lira: a threshold of its own needs").all()


def test_measures_that_the_outputs_do_not_allow_have_a_reason() -> None:
    phi, member = _fleet()
    losses = measure(scaled_logits=phi, member=member)
    assert set(losses.memorization.reason) == {"memorization needs predicted classes; only losses are known"}
    assert np.isnan(losses.memorization.value).all()
    assert np.isfinite(losses.privacy_score.value).all()
    classes = measure(correct=phi > 0, member=member)
    assert set(classes.privacy_score.reason) == {"privacy_score needs probabilities; only classes are known"}
    assert classes.detections == ()
    assert classes.ranking()[0] == np.nanargmax(classes.memorization.value)


@pytest.mark.parametrize("form", ["logits", "probs", "loss_nats", "predicted"])
def test_models_of_every_form_are_measured(form: str) -> None:
    phi, member = _fleet()
    labels = np.arange(40) % 2
    p = 1 / (1 + np.exp(-phi))
    probs = np.stack([np.where(labels == 0, p, 1 - p), np.where(labels == 1, p, 1 - p)], axis=2)
    outputs = {
        "logits": np.log(probs), "probs": probs, "loss_nats": -np.log(p), "predicted": probs.argmax(axis=2),
    }[form]  # fmt: skip
    found = measure_models(ShadowPredictions(**{form: outputs}, labels=labels, member=member, record_ids=np.arange(40) + 7))
    if form != "predicted":
        np.testing.assert_allclose(found.privacy_score.value, privacy_score(phi, member).value, rtol=1e-6)
    if form != "loss_nats":
        np.testing.assert_allclose(found.memorization.value, memorization(phi > 0, member).value)
    assert found.record_ids[0] == 7


def test_permuting_records_permutes_the_table() -> None:
    phi, member = _fleet()
    order = np.random.default_rng(1).permutation(40)
    one = measure(scaled_logits=phi, correct=phi > 0, member=member)
    other = measure(scaled_logits=phi[:, order], correct=phi[:, order] > 0, member=member[:, order])
    for name, values in one.values().items():
        np.testing.assert_allclose(values[order], other.values()[name], err_msg=name)
    np.testing.assert_allclose(one.privacy_score.p_value[order], other.privacy_score.p_value)


def test_chunks_of_records_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    from memberscope.exposure import base

    phi, member = _fleet(24, 50)
    whole = measure(scaled_logits=phi, correct=phi > 0, member=member).to_frame()
    monkeypatch.setattr(base, "CHUNK", 24 * 7)
    pieces = measure(scaled_logits=phi, correct=phi > 0, member=member).to_frame()
    pd.testing.assert_frame_equal(whole, pieces, rtol=1e-9)


def test_nothing_to_measure_is_refused() -> None:
    phi, member = _fleet()
    with pytest.raises(UserError, match="scaled_logits, correct: neither is given"):
        measure(member=member)
    with pytest.raises(UserError, match="targets: not given"):
        measure(member=member, scaled_logits=phi, scores={"lira": phi})
    with pytest.raises(UserError, match="shadows: hold neither losses nor classes"):
        measure_models(ShadowPredictions(entropy_nats=np.abs(phi), member=member))
