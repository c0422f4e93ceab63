from __future__ import annotations

import numpy as np
import pytest

from memberscope import metrics, signals, tfprivacy
from memberscope.predictions import Predictions


def _predictions(n: int = 240, classes: int = 3, shift: float = 1.0, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    member = np.arange(n) < n // 2
    logits = rng.normal(size=(n, classes)).astype(np.float32)
    logits[np.arange(n), labels] += 1 + shift * member
    return Predictions(logits=logits, labels=labels, member=member)


def test_threshold_scores_are_ours_in_order_and_polarity() -> None:
    target = _predictions()
    results = {r.attack: r for r in tfprivacy.run_attacks(target, ["threshold_loss", "threshold_entropy"], ["entire"], seed=0)}
    loss = signals.loss_nats(target)
    np.testing.assert_allclose(results["threshold_loss"].scores_member, -loss[target.member], atol=1e-5)
    np.testing.assert_allclose(results["threshold_loss"].scores_nonmember, -loss[~target.member], atol=1e-5)
    for result in results.values():
        scores = np.concatenate([result.scores_member, result.scores_nonmember])
        assert metrics.auc(scores, target.member).value == pytest.approx(result.raw.get_auc(), abs=1e-12)
        assert metrics.advantage_tfp(scores, target.member).value == pytest.approx(
            result.raw.get_attacker_advantage(), abs=1e-12
        )


def test_swapping_sides_gives_one_minus_auc() -> None:
    target = _predictions()
    swapped = Predictions(logits=target.logits, labels=target.labels, member=~target.member)
    for attack in ("threshold_loss", "threshold_entropy"):
        one, other = (tfprivacy.run_attacks(side, [attack], ["entire"], seed=0)[0].raw.get_auc() for side in (target, swapped))
        assert one > 0.6
        assert one + other == pytest.approx(1, abs=1e-12)


def test_slices_have_our_names_and_their_records() -> None:
    target = _predictions(600)
    results = tfprivacy.run_attacks(target, ["threshold_loss"], tfprivacy.SLICINGS, seed=0)
    by_name = {result.slice: result for result in results}
    assert {"entire", "class_0", "class_1", "class_2", "correct", "incorrect", "loss_p00_p10", "loss_p90_p100"} <= set(by_name)
    assert len(by_name["class_1"].scores_member) == np.sum(target.member & (target.labels == 1))
    right = target.logits.argmax(axis=1) == target.labels
    assert len(by_name["correct"].scores_nonmember) == np.sum(~target.member & right)


def test_trained_attacks_separate_what_is_separable_and_repeat_with_the_seed() -> None:
    target = _predictions(shift=4.0)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    runs = [tfprivacy.run_attacks(target, ["trained_lr", "trained_knn"], ["entire"], seed=seed) for seed in (1, 1, 2)]
    assert np.array_equal(state, np.random.get_state()[1]), "the global state is put back"  # noqa: NPY002
    for first, again in zip(runs[0], runs[1], strict=True):
        assert np.array_equal(first.scores_member, again.scores_member)
        assert 0.75 < first.raw.get_auc() <= 1
    assert any(not np.array_equal(a.scores_member, b.scores_member) for a, b in zip(runs[0], runs[2], strict=True))


def test_losses_alone_are_enough_for_the_loss_threshold() -> None:
    target = _predictions()
    alone = Predictions(loss_nats=signals.loss_nats(target), member=target.member)
    whole, part = (tfprivacy.run_attacks(p, ["threshold_loss"], ["entire"], seed=0)[0].raw.get_auc() for p in (target, alone))
    assert part == pytest.approx(whole, abs=1e-6)


def test_metadata_reaches_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack import membership_inference_attack as mia

    seen = []
    original = mia.run_attacks
    monkeypatch.setattr(mia, "run_attacks", lambda *args: seen.append(args[3]) or original(*args))
    metadata = tfprivacy.Metadata(accuracy_train=0.9, accuracy_test=0.6, loss_train=0.3, loss_test=1.4, name="m", epoch=7)
    tfprivacy.run_attacks(_predictions(), ["threshold_loss"], ["entire"], seed=0, metadata=metadata)
    assert (seen[0].accuracy_train, seen[0].accuracy_test, seen[0].loss_test, seen[0].epoch_num) == (0.9, 0.6, 1.4, 7)
