"""The headline: what speaks for an audit was not picked on the records that it speaks of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from memberscope import Evidence, Predictions, ShadowPredictions, metrics, run_audit, seeds
from memberscope.audit.headline import LEAST, Headline, find_headline, split_in_half, strongest
from memberscope.audit.log import headline_metrics, log_headline
from memberscope.audit.request import resolve_primary
from memberscope.errors import UserError
from memberscope.metrics import Estimate


def headline(
    scores: dict[str, np.ndarray], member: np.ndarray, *, seed: int = 0, primary: str = "auto", units: np.ndarray | None = None
) -> Headline:
    """Of bare scores; on all records the AUC alone is known."""
    found = find_headline(
        scores, member, families=dict.fromkeys(scores, "threshold"), seed=seed, primary=primary, units=units,
        whole={name: {"auc": metrics.auc(values, member)} for name, values in scores.items()},
    )  # fmt: skip
    assert found is not None
    return found


def noise(seed: int, *, attacks: int = 10, side: int = 60) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    member = np.arange(2 * side) < side
    return {f"a{k}": rng.normal(size=2 * side) for k in range(attacks)}, member


def test_on_noise_the_headline_covers_one_half_and_the_best_of_ten_does_not() -> None:
    """400 data sets without signal, ten attacks with independent scores: the headline's 95% interval misses 0.5 as often as it may."""
    missed = naive = above = 0
    for seed in range(400):
        scores, member = noise(seed)
        tried = split_in_half(scores, member, rng=seeds.stream(seed, "headline", "halves"))
        rest = ~tried
        attack = strongest({name: values[tried] for name, values in scores.items()}, member[tried])
        found = metrics.auc(scores[attack][rest], member[rest])
        missed += not found.ci_low <= 0.5 <= found.ci_high
        above += found.value > 0.5
        best = metrics.auc(scores[strongest(scores, member)], member)
        naive += not best.ci_low <= 0.5 <= best.ci_high
    # 5% of 400 is 20, sd 4.4: outside 7 to 35 in less than one of 1,000 runs; 200 of 400 are above one half, sd 10
    assert 7 <= missed <= 35
    assert 166 <= above <= 234
    # the best of ten: 1 - 0.975^10 = 22% lie above, 90 of 400, sd 8.3
    assert 62 <= naive <= 118


def test_the_reported_figures_are_those_of_the_other_half() -> None:
    scores, member = noise(3, side=200)
    scores["strong"] = scores["a0"] + 2.0 * member
    found = headline(scores, member, seed=5)
    tried = split_in_half(scores, member, rng=seeds.stream(5, "headline", "halves"))
    assert (found.attack, found.chosen, found.n_member, found.n_nonmember) == ("strong", "strongest", 100, 100)
    assert found.auc == metrics.auc(scores["strong"][~tried], member[~tried])
    assert found.verdict == "leaks"
    assert headline({name: -values for name, values in scores.items()}, member).attack != "strong", "backwards is not strong"
    odd = headline(dict.fromkeys(("x", "y"), scores["a1"] - 2.0 * member), member)
    assert odd.verdict == "odd"


def test_halves_are_even_on_each_side_and_go_by_record_not_by_place() -> None:
    scores, member = noise(0, side=51)
    ids = np.arange(102)
    for units in (None, ids):
        tried = split_in_half(scores, member, units=units, rng=seeds.stream(0, "h"))
        assert (tried[member].sum(), tried[~member].sum()) == (25, 25)
        order = np.random.default_rng(1).permutation(102)
        moved = {name: values[order] for name, values in scores.items()}
        again = split_in_half(moved, member[order], units=None if units is None else units[order], rng=seeds.stream(0, "h"))
        np.testing.assert_array_equal(again, tried[order])


def test_copies_of_a_record_stay_in_one_half() -> None:
    scores, member = noise(0, side=50)
    units = np.concatenate([np.repeat(np.arange(25), 2), np.repeat(np.arange(100, 125), 2)])
    tried = split_in_half(scores, member, units=units, rng=seeds.stream(2, "h"))
    for unit in np.unique(units):
        assert len(set(tried[units == unit].tolist())) == 1
    assert tried.sum() == 48
    labelled = np.array([f"id-{unit:03d}" for unit in units])
    np.testing.assert_array_equal(split_in_half(scores, member, units=labelled, rng=seeds.stream(2, "h")), tried)


def test_ranks_give_the_headline_of_the_scores() -> None:
    """So that runs that kept ranks alone can be given theirs."""
    scores, member = noise(4, side=100)
    scores["a3"] = np.round(scores["a3"] + member, 1)
    ranks = {name: np.unique(values, return_inverse=True)[1].astype(np.int32) for name, values in scores.items()}
    first, second = headline(scores, member), headline(ranks, member)
    assert second.attack == first.attack == "a3"
    for name, figure in first.figures.items():
        same = replace(second.figures[name], reason=figure.reason)  # which names thresholds, and ranks have others
        assert repr(same) == repr(figure), name


def test_what_was_named_speaks_on_all_records() -> None:
    scores, member = noise(0)
    found = headline(scores, member, primary="a4")
    assert (found.attack, found.chosen, found.n_member) == ("a4", "named", 60)
    assert found.auc == metrics.auc(scores["a4"], member)
    one = headline({"a4": scores["a4"]}, member)
    assert (one.chosen, one.auc) == ("only", found.auc), "nothing was chosen, so no record is spent on it"


def test_too_few_records_are_not_halved_and_it_says_so() -> None:
    for side, chosen in ((2 * LEAST - 1, "first"), (2 * LEAST, "strongest")):
        scores, member = noise(1, side=side)
        found = headline(scores, member)
        assert found.chosen == chosen
        if chosen == "first":
            assert (found.attack, found.n_member) == ("a0", side)
            assert f"would leave {LEAST - 1} on a side" in found.how
    scores, member = noise(1, side=100)
    units = np.concatenate([np.repeat(np.arange(5), 20), 100 + np.arange(100)])
    assert headline(scores, member, units=units).chosen == "strongest", "records are counted, units are moved"


def test_a_headline_is_kept_and_read_back() -> None:
    scores, member = noise(2, side=30)
    found = headline(scores, member)
    assert any(figure.status == "skipped" for figure in replace_skipped(found).figures.values())
    for one in (found, replace_skipped(found)):
        again = Headline.from_json(one.to_json())
        assert again.to_json() == one.to_json()
        assert (again.attack, again.candidates, again.auc) == (one.attack, one.candidates, one.auc)
    for text in ("[]", "{}", '{"attack": "a"}', "no json"):
        with pytest.raises(ValueError):  # noqa: PT011  # json's own error is one
            Headline.from_json(text)


def replace_skipped(found: Headline) -> Headline:
    return replace(found, figures={**found.figures, "ppv": Estimate(value=float("nan"), status="skipped", reason="no call")})


# --- through an audit -------------------------------------------------------------------------------------------------


def audited(**options: object) -> Headline:
    rng = np.random.default_rng(0)
    n = 600
    labels, member = rng.integers(0, 4, n), np.arange(n) % 2 == 0
    logits = rng.normal(size=(n, 4))
    logits[np.arange(n), labels] += 1 + member
    target = Predictions(logits=logits, labels=labels, member=member)
    found = run_audit(target, slices="entire", **options).headline
    assert found is not None
    return found


@pytest.mark.slow  # imports tensorflow_privacy
def test_an_audit_is_headed_by_its_strongest_attack_or_the_one_that_was_named() -> None:
    attacks = "threshold_entropy,threshold_loss,metric_confidence"
    found = audited(attacks=attacks)
    assert (found.attack, found.chosen, found.n_member) == ("threshold_loss", "strongest", 150)
    assert found.candidates == ("threshold_entropy", "threshold_loss"), "what was skipped is no candidate"
    named = audited(attacks=attacks, primary="threshold-entropy")
    assert (named.attack, named.chosen, named.n_member) == ("threshold_entropy", "named", 300)
    assert audited(attacks="threshold", engine="tfp").attack == "threshold_loss"


def test_a_named_attack_that_cannot_run_is_refused_before_any_other_runs() -> None:
    with pytest.raises(UserError, match=r"primary=lira_online: needs shadows.*allowed: auto, threshold_loss"):
        audited(attacks="threshold_loss,lira_online", primary="lira_online", on_attack=pytest.fail)
    with pytest.raises(UserError, match=r"primary=trained_lr: not among the attacks.*nearest"):
        audited(attacks="threshold_loss,trained_rf", primary="trained_lr", on_attack=pytest.fail)
    assert resolve_primary("auto", ("threshold_loss",)) == "auto"


def test_a_named_attack_that_turns_out_not_to_run_gives_way_and_it_says_so() -> None:
    rng = np.random.default_rng(0)
    labels, member = rng.integers(0, 3, 200), np.arange(200) % 2 == 0
    target = Predictions(predicted=labels, labels=labels, member=member)
    shadow = ShadowPredictions(predicted=labels[None], labels=labels, member=member[None])
    found = run_audit(
        Evidence(target=target, shadows=shadow),
        attacks="label_only_gap,metric_entropy",
        primary="metric_entropy",
        slices="entire",
    ).headline
    assert found is not None
    assert (found.attack, found.chosen) == ("label_only_gap", "only")
    assert "metric_entropy, which was named beforehand, could not run" in found.how


def test_the_metrics_of_an_audit_are_sent_to_a_run_together() -> None:
    sent: list[dict[str, float]] = []

    class Run:
        """A tracker of metrics alone."""

        def metrics(self, values: dict[str, float], *, step: int = 0) -> None:
            assert step == 3
            sent.append(dict(values))

        def tags(self, values: dict[str, str]) -> None: ...

        def text(self, text: str, path: str) -> None: ...

    rng = np.random.default_rng(0)
    member = np.arange(400) < 200
    target = Predictions(loss_nats=rng.exponential(size=400) + 0.3 * ~member, member=member)
    report = run_audit(target, attacks="threshold_loss", min_records=10)
    log_headline(report, Run(), step=3, beside=report.headlines(rounded=True))  # type: ignore[arg-type]
    assert sent == [report.headlines(rounded=True) | headline_metrics(report, rounded=True)]
    assert len(sent[0]) > len(report.headlines(rounded=True)) > 0
