"""The controls against data of known difference, and against attacks that are unsound on purpose.

Bands hold in all but one of a thousand runs with fresh seeds; as the seeds are fixed they hold always or never.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from scipy import stats

from memberscope.attacks import crossfit, perceptron, registry, trained
from memberscope.attacks.base import Attack, AttackScores, Skip
from memberscope.audit import controls, null
from memberscope.audit.blind import BlindControl, blind_control
from memberscope.audit.controls import run_controls
from memberscope.audit.null import refitted_null, refitted_nulls
from memberscope.audit.run import run_audit
from memberscope.errors import Interrupted, UserError
from memberscope.evidence import Evidence
from memberscope.metrics import Estimate, NullControl
from memberscope.metrics.estimate import spanning
from memberscope.predictions import Predictions


def _predictions(member: np.ndarray, **parts: np.ndarray | None) -> Predictions:
    return Predictions(loss_nats=np.zeros(len(member)), member=member, **parts)  # type: ignore[arg-type]


def _sides(n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(np.arange(n) < n // 2)


def _standard_error(n: int) -> float:
    """Of a null AUC of n/2 against n/2 records, scores given (Mann & Whitney 1947)."""
    return float(np.sqrt((n + 1) / (3 * n**2)))


@pytest.mark.parametrize("seed", range(4))
def test_blind_control_is_at_one_half_where_only_membership_differs(seed: int) -> None:
    rng, n = np.random.default_rng(seed), 1000
    found = blind_control(_predictions(_sides(n, rng), inputs=rng.normal(size=(n, 8)), labels=rng.integers(0, 3, n)), seed=seed)
    assert found.on == "inputs"
    assert abs(found.auc.value - 0.5) < stats.norm.ppf(0.9995) * np.sqrt(2) * _standard_error(n)
    assert not found.differs
    assert found.sentence.startswith("no sign that members and non-members differ")


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_blind_control_raises_few_false_alarms(classes: int) -> None:
    """Labels alone: they count where a test at 1% finds other shares, and only then can there be an alarm."""
    trials, n, alarms, z = 150, 400, 0, []
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        found = blind_control(_predictions(_sides(n, rng), labels=rng.integers(0, classes, n)), seed=trial, workers=1)
        alarms += found.differs
        z.append((found.auc.value - 0.5) / _standard_error(n))
    assert alarms <= stats.binom.ppf(0.999, trials, 0.01)
    assert np.mean(np.array(z) == 0.0) > 0.9
    assert abs(np.mean(z)) < 0.15


def _shifted(rng: np.random.Generator, x: np.ndarray, member: np.ndarray) -> None:
    x[member, 3] += 0.3


def _spread(rng: np.random.Generator, x: np.ndarray, member: np.ndarray) -> None:
    x[member, 3] *= 1.4


def _spiked(rng: np.random.Generator, x: np.ndarray, member: np.ndarray) -> None:
    x[member & (rng.random(len(x)) < 0.2), 3] = 0.1


@pytest.mark.parametrize(("change", "low", "high"), [(_shifted, 0.545, 0.605), (_spread, 0.55, 0.62), (_spiked, 0.55, 0.62)])
def test_blind_control_sees_one_changed_input_in_ten(change, low: float, high: float) -> None:  # type: ignore[no-untyped-def]
    """The best possible AUC of the shift is Phi(0.3 / sqrt 2) = 0.584."""
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        member, x = _sides(2000, rng), rng.normal(size=(2000, 10))
        change(rng, x, member)
        found = blind_control(_predictions(member, inputs=x), seed=seed)
        assert found.differs
        assert low < found.auc.value < high
        assert found.sentence.startswith("members and non-members differ by more than membership")
        assert found.scores is not None
        assert found.scores[member].mean() > found.scores[~member].mean()


def test_blind_control_sees_other_shares_of_classes_in_labels_alone() -> None:
    """Shares 0.4 and three times 0.2 against four times 0.25: the best AUC is 0.5 + 0.15 / 2 = 0.575."""
    rng, n = np.random.default_rng(0), 4000
    member = _sides(n, rng)
    labels = np.where(member, rng.choice(4, n, p=[0.4, 0.2, 0.2, 0.2]), rng.integers(0, 4, n))
    found = blind_control(_predictions(member, labels=labels), seed=0)
    assert (found.on, found.differs) == ("labels", True)
    assert 0.54 < found.auc.value < 0.61
    assert found.notes[0] == "there are no inputs: labels only"
    assert "from labels alone" in found.sentence


@pytest.mark.parametrize("copies", [1, 5])
def test_labels_say_nothing_after_a_stratified_split(copies: int) -> None:
    """Whatever a class has too many of in the training part it has too few of in the scored fold; copies of a record are one record."""
    member, labels, ids = np.tile(np.arange(60) < 50, 10), np.repeat(np.arange(10), 60), np.arange(600)
    every = np.repeat(np.arange(600), copies)
    found = blind_control(_predictions(member[every], labels=labels[every], record_ids=ids[every]), seed=0)
    assert found.auc.value == 0.5
    assert not found.differs


def test_copies_of_a_record_do_not_make_classes_differ() -> None:
    """Ten copies of each of 300 records, whose classes were drawn at random, would reject like shares nearly always."""
    differ = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        member, labels, ids = _sides(300, rng), rng.integers(0, 6, 300), np.arange(300)
        every = np.repeat(np.arange(300), 10)
        found = blind_control(_predictions(member[every], labels=labels[every], record_ids=ids[every]), seed=seed)
        differ += found.auc.value != 0.5
    assert differ <= 3  # four or more in one of a thousand runs even at a level of 0.03


def test_a_stratified_split_hides_no_difference_of_the_inputs() -> None:
    """Inputs that tell the class, and one column of ten shifted by 0.4 among the members: at best Phi(0.4 / sqrt 2) = 0.611.

    A classifier that learns the shares of classes along with it has 0.55 on average and finds one of the three.
    """
    found = []
    for seed in range(3):
        rng, classes, n = np.random.default_rng(seed), 60, 1200
        labels, member = np.arange(n) % classes, (np.arange(n) // classes) % 2 == 0
        x = rng.normal(size=(n, 10))
        x[:, 0] = labels + 0.1 * rng.normal(size=n)
        x[member, 3] += 0.4
        found.append(blind_control(_predictions(member, inputs=x, labels=labels), seed=seed))
    assert all(control.differs for control in found)
    assert 0.57 < np.mean([control.auc.value for control in found]) < 0.65


def test_more_alike_than_chance_is_said() -> None:
    below = BlindControl(on="labels", auc=Estimate(value=0.45, ci_low=0.41, ci_high=0.49))
    assert below.sentence.startswith("members and non-members are more alike than random draws")
    assert not below.differs


def _images(n: int, rng: np.random.Generator) -> np.ndarray:
    """8 x 8 x 3 images of 40 smooth directions and a little noise."""
    return rng.normal(size=(n, 40)) @ rng.normal(size=(40, 192)) + 0.5 * rng.normal(size=(n, 192))


@pytest.mark.parametrize("kind", ["brightness", "noise"])
def test_blind_control_sees_images_of_another_source(kind: str) -> None:
    """Brighter ones by their components; noisier ones by what the components leave out."""
    rng, n = np.random.default_rng(3), 1200
    member, x = _sides(n, rng), _images(n, rng)
    if kind == "brightness":
        x[member] += 2.0
    else:
        x[member] += 2.0 * rng.normal(size=(int(member.sum()), 192))
    pixels = np.clip(128 + 8 * x, 0, 255).astype(np.uint8).reshape(n, 8, 8, 3)
    found = blind_control(_predictions(member, inputs=pixels), seed=0)
    assert found.differs
    assert found.auc.value > 0.6
    assert "inputs of 192 numbers reduced to 32 principal components" in found.notes[0]


def test_blind_control_of_images_is_at_one_half_on_one_source() -> None:
    rng, n = np.random.default_rng(4), 1200
    pixels = np.clip(128 + 8 * _images(n, rng), 0, 255).astype(np.uint8).reshape(n, 8, 8, 3)
    found = blind_control(_predictions(_sides(n, rng), inputs=pixels), seed=0)
    assert abs(found.auc.value - 0.5) < stats.norm.ppf(0.9995) * np.sqrt(2) * _standard_error(n)


def test_blind_scores_depend_neither_on_workers_nor_on_the_order_of_records() -> None:
    rng, n = np.random.default_rng(5), 300
    member, x, labels = _sides(n, rng), _images(n, rng).reshape(n, 8, 8, 3), rng.integers(0, 3, n)
    one = blind_control(_predictions(member, inputs=x, labels=labels), seed=1, workers=1)
    two = blind_control(_predictions(member, inputs=x, labels=labels), seed=1, workers=2)
    order = rng.permutation(n)
    moved = blind_control(_predictions(member[order], inputs=x[order], labels=labels[order]), seed=1)
    assert one.scores is not None
    assert two.scores is not None
    assert moved.scores is not None
    np.testing.assert_array_equal(one.scores, two.scores)
    np.testing.assert_allclose(moved.scores, one.scores[order], rtol=1e-4, atol=1e-4)
    assert np.std(one.scores) > 0


def test_what_a_record_lacks_is_seen_and_does_no_harm() -> None:
    rng, n = np.random.default_rng(6), 1000
    member, x = _sides(n, rng), rng.normal(size=(n, 5)) * 1e3 + 1e6
    x[rng.random((n, 5)) < 0.1] = np.nan
    even = blind_control(_predictions(member, inputs=x), seed=0)
    assert abs(even.auc.value - 0.5) < stats.norm.ppf(0.9995) * np.sqrt(2) * _standard_error(n)
    assert even.notes[0] == f"{np.isnan(x).sum()} NaN or infinite numbers in inputs count as their column's mean"
    x[member & (rng.random(n) < 0.4), 2] = np.inf
    assert blind_control(_predictions(member, inputs=x), seed=0).differs


def test_blind_control_says_what_it_cannot_read() -> None:
    rng, n = np.random.default_rng(7), 200
    member, labels = _sides(n, rng), rng.integers(0, 3, n)
    text = blind_control(_predictions(member, inputs=np.full(n, "a record"), labels=labels), seed=0)
    assert (text.on, text.status, text.notes[0]) == ("labels", "ok", "inputs are of type <U8, not numbers: labels only")
    nothing = blind_control(_predictions(member), seed=0)
    assert (nothing.on, nothing.status, nothing.scores) == ("nothing", "skipped", None)
    assert nothing.sentence == "the blind control was skipped: neither inputs nor labels are known"
    few = blind_control(_predictions(member[:10], labels=labels[:10]), seed=0)
    assert few.status == "skipped"
    assert "needs 8 members and 8 non-members" in few.auc.reason
    assert not few.differs
    constant = blind_control(_predictions(member, inputs=np.ones((n, 40))), seed=0)
    assert constant.auc.value == 0.5
    with pytest.raises(UserError, match="workers: 0"):
        blind_control(_predictions(member, labels=labels), seed=0, workers=0)
    with pytest.raises(ValueError, match="confidence=1"):
        blind_control(_predictions(member, labels=labels), seed=0, confidence=1.0)


def test_rare_classes_are_put_together() -> None:
    rng, n = np.random.default_rng(8), 1000
    found = blind_control(_predictions(_sides(n, rng), inputs=rng.normal(size=(n, 2)), labels=np.arange(n) % 200), seed=0)
    assert found.notes[0] == "labels: the 128 most frequent classes; 72 rarer ones count as one"


def _logits(rng: np.random.Generator, member: np.ndarray, labels: np.ndarray, gap: float) -> np.ndarray:
    logits: np.ndarray = rng.normal(size=(len(member), 3))
    logits[np.arange(len(member)), labels] += gap * member
    return logits


def test_refitted_attack_is_at_one_half_where_membership_means_nothing() -> None:
    rng, n, draws = np.random.default_rng(9), 600, 20
    member, labels = _sides(n, rng), rng.integers(0, 3, n)
    target = Predictions(logits=_logits(rng, member, labels, 0.0), labels=labels, member=member)
    found = refitted_null(Evidence(target=target), registry.get("trained_lr"), seed=0, draws=draws)
    assert isinstance(found, NullControl)
    assert found.draws.shape == (draws,)
    assert abs(found.mean_auc - 0.5) < stats.norm.ppf(0.9995) * np.sqrt(2) * _standard_error(n) / np.sqrt(draws)
    assert 0.5 < found.draws.std() / _standard_error(n) < 2.5
    assert found.p_value == (1 + (found.draws >= found.auc).sum()) / (1 + draws)
    assert 0.05 < found.p_value < 1


def test_refitted_null_finds_a_signal_and_leaves_the_evidence_alone() -> None:
    rng, n = np.random.default_rng(10), 600
    member, labels = _sides(n, rng), rng.integers(0, 3, n)
    evidence = Evidence(target=Predictions(logits=_logits(rng, member, labels, 1.0), labels=labels, member=member))
    attack = registry.get("trained_lr")
    found = refitted_null(evidence, attack, seed=3, draws=9)
    again = refitted_null(evidence, attack, seed=3, draws=9, workers=1)
    assert isinstance(found, NullControl)
    assert isinstance(again, NullControl)
    assert found.p_value == 0.1
    assert found.auc > 0.65 > 0.6 > found.draws.max()
    np.testing.assert_array_equal(found.draws, again.draws)
    np.testing.assert_array_equal(evidence.target.member, member)
    assert len(np.unique(found.draws)) == 9


@dataclass(frozen=True, kw_only=True)
class _Memorizer(Attack):
    """Scores the records that it was trained on; keeps the memberships that it was shown."""

    name: str = "memorizer"
    family: str = "trained"
    seen: list[np.ndarray] = field(default_factory=list)

    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        self.seen.append(evidence.target.member)
        return self._scores(evidence.target.member.astype(np.float64))


def test_refitted_null_exposes_an_attack_that_scores_what_it_was_trained_on() -> None:
    rng, n = np.random.default_rng(11), 200
    target = _predictions(_sides(n, rng), labels=rng.integers(0, 3, n))
    found = refitted_null(Evidence(target=target), _Memorizer(), seed=0, draws=5)
    assert isinstance(found, NullControl)
    assert (found.mean_auc, found.p_value) == (1.0, 1.0)


def test_refits_are_counted_and_end_between_two_draws(capsys: pytest.CaptureFixture[str]) -> None:
    rng, n = np.random.default_rng(13), 80
    member, labels = _sides(n, rng), rng.integers(0, 2, n)
    target = Predictions(logits=_logits(rng, member, labels, 1.0), labels=labels, member=member)
    evidence = Evidence(target=target)
    report = run_audit(evidence, attacks="trained_lr,trained_knn,threshold_loss", seed=0)
    whole = run_controls(report, evidence, attacks=["trained_lr", "trained_knn", "threshold_loss"], seed=0, refit=True)
    assert list(whole.refits) == ["trained_lr", "trained_knn"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("audit: refits: 100% 40/40 refits ["), "the threshold attack is not refitted"
    checks = list[int]()

    def stop() -> None:
        checks.append(len(checks))
        if len(checks) == 2 + 20 + 4:  # around the blind control, and before the last refit of draw 12
            raise Interrupted("stopped by SIGINT")

    with pytest.raises(Interrupted):
        run_controls(report, evidence, attacks=["trained_lr", "trained_knn"], seed=0, refit=True, check=stop)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("audit: refits:  57% 23/40 refits [")
    assert line.endswith("trained_knn")
    run_controls(report, evidence, attacks=["trained_lr"], seed=0)
    assert capsys.readouterr().err == ""


def _signal(n: int, seed: int) -> Evidence:
    rng = np.random.default_rng(seed)
    member, labels = _sides(n, rng), rng.integers(0, 2, n)
    return Evidence(target=Predictions(logits=_logits(rng, member, labels, 1.0), labels=labels, member=member))


def test_draws_side_by_side_find_what_one_after_another_do(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence, attacks = _signal(160, 17), [registry.get(f"trained_{kind}") for kind in ("lr", "mlp", "rf", "knn", "lowfpr")]
    monkeypatch.setattr(null, "LEAST_FOR_THREADS", 160)
    one = refitted_nulls(evidence, attacks, seed=5, draws=3, workers=1)
    threads = set[int]()
    three = refitted_nulls(
        evidence, attacks, seed=5, draws=3, workers=3, before=lambda name: threads.add(threading.get_ident())
    )
    assert list(one) == list(three) == [attack.name for attack in attacks]
    assert len(threads) == 3
    for name, expected in one.items():
        found = three[name]
        assert isinstance(expected, NullControl)
        assert isinstance(found, NullControl)
        np.testing.assert_array_equal(found.draws, expected.draws)
        assert found.auc == expected.auc


def test_a_draw_that_fails_ends_those_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(null, "LEAST_FOR_THREADS", 2)
    begun = list[str]()

    def stop(name: str) -> None:
        begun.append(name)
        if len(begun) == 4:
            raise Interrupted("stopped by SIGINT")

    with pytest.raises(Interrupted, match="SIGINT"):
        refitted_nulls(_signal(80, 18), [registry.get("trained_lr")], seed=0, draws=50, workers=2, before=stop)
    assert len(begun) == 4


def test_refits_share_what_they_have_in_common_and_each_is_as_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, n, draws = np.random.default_rng(14), 160, 3
    member, labels = _sides(n, rng), rng.integers(0, 2, n)
    evidence = Evidence(target=Predictions(logits=_logits(rng, member, labels, 1.0), labels=labels, member=member))
    names = ["trained_lr", "trained_mlp", "trained_lowfpr"]
    report = run_audit(evidence, attacks=",".join(names), seed=5)
    assert report.distinct is not None
    audited = report.distinct.evidence
    monkeypatch.setattr(controls, "DRAWS", draws)
    fits, fit = list[int](), perceptron.fit

    def counted(x: np.ndarray, truth: np.ndarray, drawn: np.random.Generator) -> perceptron.Perceptrons:
        fits.append(len(x))
        return fit(x, truth, drawn)

    with monkeypatch.context() as patch:
        patch.setattr(perceptron, "fit", counted)
        together = run_controls(report, audited, attacks=names, seed=5, refit=True).refits
    assert len(fits) == draws * crossfit.FOLDS, "once for both attacks, and none for what the audit has found"
    for name in names:
        alone = refitted_null(audited, registry.get(name), seed=5, draws=draws)
        assert isinstance(alone, NullControl)
        np.testing.assert_array_equal(together[name].draws, alone.draws)
        assert (together[name].auc, together[name].p_value) == (alone.auc, alone.p_value)
    assert not np.isin(together["trained_lowfpr"].draws, together["trained_mlp"].draws).any()


def test_a_refit_is_the_attack_itself_but_for_its_random_numbers() -> None:
    rng, n = np.random.default_rng(15), 160
    member, labels = _sides(n, rng), rng.integers(0, 2, n)
    evidence = Evidence(target=Predictions(logits=_logits(rng, member, labels, 1.0), labels=labels, member=member))
    attacks = [registry.get(f"trained_{kind}") for kind in ("lr", "mlp", "rf", "knn", "lowfpr")]
    *same, low_fpr = trained.for_refits(attacks)
    for attack, refitted in zip(attacks, (*same, replace(low_fpr, seed_name="")), strict=False):
        scored = [one.score(evidence, seed=4) for one in (attack, refitted)]
        np.testing.assert_array_equal(*(one.scores for one in scored if isinstance(one, AttackScores)), err_msg=attack.name)


@pytest.mark.parametrize("other", ["seed", "evidence"])
def test_what_the_audit_found_is_used_for_its_own_seed_and_evidence_alone(other: str) -> None:
    rng, n = np.random.default_rng(16), 120
    member, labels = _sides(n, rng), rng.integers(0, 2, n)

    def outputs() -> Evidence:
        return Evidence(target=Predictions(logits=_logits(rng, member, labels, 1.0), labels=labels, member=member))

    evidence = outputs()
    report = run_audit(evidence, attacks="trained_lr", seed=5)
    given, seed = (outputs(), 5) if other == "evidence" else (evidence, 6)
    found = run_controls(report, given, attacks=["trained_lr"], seed=seed, refit=True).refits["trained_lr"]
    expected = refitted_null(given, registry.get("trained_lr"), seed=seed)
    assert isinstance(expected, NullControl)
    assert found.auc == expected.auc != report.result("trained_lr").figures["auc"].value


def test_membership_is_permuted_within_classes_and_by_groups_of_one_id() -> None:
    rng, n, copies = np.random.default_rng(12), 90, 3
    member, labels = np.repeat(_sides(n, rng), copies), np.repeat(rng.integers(0, 4, n), copies)
    ids, single = np.repeat(np.arange(n), copies), np.arange(n * copies) < n  # a third in groups of three, the rest alone
    ids = np.where(single, ids, 1000 + np.arange(n * copies))
    order = rng.permutation(n * copies)
    target = _predictions(member[order], labels=labels[order], record_ids=ids[order])
    attack = _Memorizer()
    refitted_null(Evidence(target=target), attack, seed=0, draws=20)
    first, *drawn = attack.seen
    np.testing.assert_array_equal(first, member[order])
    for permuted in drawn:
        for c in range(4):
            assert permuted[labels[order] == c].sum() == member[labels == c].sum()
        for one in np.unique(ids[single]):
            assert np.ptp(permuted[ids[order] == one].astype(int)) == 0
    moved = np.mean(drawn, axis=0)
    assert 0.4 < moved.mean() < 0.6
    assert ((moved > 0) & (moved < 1)).mean() > 0.95


def test_refitted_null_hands_on_a_skip_and_refuses_no_draws() -> None:
    few = Evidence(target=_predictions(np.arange(6) < 3))
    found = refitted_null(few, registry.get("trained_lr"), seed=0)
    assert isinstance(found, Skip)
    assert found.attack == "trained_lr"
    with pytest.raises(UserError, match="draws: 0"):
        refitted_null(few, registry.get("trained_lr"), seed=0, draws=0)


@pytest.mark.parametrize(("low", "high", "differs"), [(0.508, 0.641, True), (0.49, 0.62, False), (0.3, 0.45, False)])
def test_the_sentence_that_a_report_looks_for_is_said_exactly_where_the_sides_differ(
    low: float, high: float, differs: bool
) -> None:
    control = BlindControl(on="inputs", auc=spanning((low + high) / 2, low, high))
    assert control.differs is differs
    assert control.sentence.startswith("members and non-members differ by more than membership") is differs
