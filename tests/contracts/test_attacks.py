"""One suite that every attack of the registry passes, whatever it needs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memberscope.attacks import registry
from memberscope.attacks.base import Attack, AttackScores, Skip
from memberscope.errors import UserError
from memberscope.evidence import Evidence, Trajectories
from memberscope.predictions import Predictions, ShadowPredictions

MOST_WRONG = {
    "salem_threshold": 0.2
}  # its threshold calls a tenth of the population members by design; others are at most 0.05 wrong
LEAST_SEPARATION = {
    "lira_offline_two_sided_per_record": 0.95,  # deviations of the two OUT values of a record, some of which nearly coincide
    "rmia_online_gamma_1": 0.98,  # a non-member above the whole population, one in 91 here, ties with every member
    "rmia_offline_gamma_1": 0.98,
}  # variants as their authors have them; 0.999 for the others
DROPPED_WITH = {"population": {"population_inputs": None}}
EVERY = pytest.mark.parametrize("attack", registry.ATTACKS, ids=lambda attack: attack.name)
TRAIN_WITHOUT_FOLDS = ("quantile", "shadow_shokri")


def _trains(attack: Attack) -> bool:
    """Whether it trains models each time that it is asked."""
    return attack.cross_fitted or attack.name in TRAIN_WITHOUT_FOLDS


def _marks(attack: Attack, *, thorough: bool = False) -> tuple[pytest.MarkDecorator, ...]:
    """Of a test that asks an attack often. ``trained_lowfpr`` fits perceptrons and a forest; `make test` has attacks with either."""
    if not _trains(attack):
        return ()
    return (pytest.mark.slow, pytest.mark.thorough) if thorough or attack.name == "trained_lowfpr" else (pytest.mark.slow,)


EVERY_OFTEN = pytest.mark.parametrize(
    "attack", [pytest.param(each, marks=_marks(each), id=each.name) for each in registry.ATTACKS]
)
DESIGNS = [
    ("coin flips", 10, 0.5), ("stratified", 10, 0.5), ("coin flips", 60, 0.75), ("stratified", 60, 0.75), ("balanced", 10, 0.75),
]  # fmt: skip
EVERY_DESIGN = pytest.mark.parametrize(
    ("design", "classes", "share", "attack"),
    [
        pytest.param(
            design, classes, share, attack, id=f"{design}-{classes}-{share}-{attack.name}",
            marks=_marks(attack, thorough=number != 1),
        )
        for number, (design, classes, share) in enumerate(DESIGNS)
        for attack in registry.ATTACKS
    ],
)  # fmt: skip


def _auc(scores: np.ndarray, member: np.ndarray) -> float:
    """Mann-Whitney with ties at one half, by counting."""
    ins, outs = np.sort(scores[member]), np.sort(scores[~member])
    below = np.searchsorted(outs, ins, side="left").sum()
    ties = np.searchsorted(outs, ins, side="right").sum() - below
    return float((below + 0.5 * ties) / (len(ins) * len(outs)))


def _logits(member: np.ndarray, labels: np.ndarray, classes: int, gap: float, rng: np.random.Generator) -> np.ndarray:
    """Members sure and right by `gap`, non-members by a quarter of it wrong; no difference at a gap of 0."""
    logits = rng.normal(size=(*member.shape, classes)) * 0.3
    height = np.where(member, gap, -gap / 4)
    at = np.broadcast_to(labels, member.shape)
    np.put_along_axis(logits, at[..., None], np.take_along_axis(logits, at[..., None], -1) + height[..., None], axis=-1)
    return logits


def _drawn(design: str, labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """(n,) who is a member: by coin flips; stratified by class, as good as any share allows; or `share` of each class, whole numbers."""
    n = len(labels)
    if design == "coin flips":
        return rng.random(n) < share
    order, place = rng.permutation(n), np.empty(n)
    for label in np.unique(labels):
        here = order[labels[order] == label]
        place[here] = (np.arange(len(here)) + (rng.random() if design == "stratified" else 0.5)) / len(here)
    if design == "balanced":
        return place < share
    return np.isin(np.arange(n), np.argsort(place, kind="stable")[: round(share * n)])


def _paired(n: int, pairs: int, rng: np.random.Generator) -> np.ndarray:
    """(2 * pairs, n) membership: complementary pairs, so that each record is in exactly half of the models."""
    first = rng.random((pairs, n)) < 0.5
    return np.stack([first, ~first], axis=1).reshape(2 * pairs, n)


@functools.lru_cache(8)
def _evidence(
    n_in: int = 120, n_out: int = 80, *, classes: int = 3, gap: float = 0.5, seed: int = 0, ids: bool = True
) -> Evidence:
    """Everything that any attack may ask for, on shuffled records: the shadows know the target's records and a pool of their own."""
    rng = np.random.default_rng(seed)
    n = n_in + n_out
    member = rng.permutation(np.arange(n) < n_in)
    labels = rng.integers(0, classes, n)
    names = rng.permutation(n)
    target = Predictions(
        logits=_logits(member, labels, classes, gap, rng),
        labels=labels,
        member=member,
        record_ids=names if ids else None,
        inputs=rng.normal(size=(n, 5)),
    )
    pool = np.arange(40 * classes) % classes
    place = rng.permutation(n)  # the shadows hold the target's records in another order
    trained = np.concatenate([_paired(n, 2, rng), _paired(len(pool), 2, rng)], axis=1)
    known = np.concatenate([labels[place], pool])
    shadows = ShadowPredictions(
        logits=_logits(trained, known, classes, gap, rng),
        labels=known,
        member=trained,
        record_ids=np.concatenate([names[place], n + np.arange(len(pool))]) if ids else None,
    )
    outside = rng.integers(0, classes, 90)
    nobody = np.zeros((5, 90), dtype=bool)
    population = ShadowPredictions(logits=_logits(nobody, outside, classes, gap, rng), labels=outside, member=nobody)
    every = np.concatenate([member[None], trained[:, np.argsort(place)]])
    copies = np.repeat(every[:, :, None], 2, axis=2)
    right = rng.random((n, 24)) < np.where(member, 0.5 + 0.5 * np.tanh(gap / 4), 0.5 - 0.5 * np.tanh(gap / 8))[:, None]
    return Evidence(
        target=target,
        shadows=shadows,
        population=population,
        population_inputs=rng.normal(size=(90, 5)),
        augmented=_logits(copies, labels[:, None], classes, gap, rng),
        trajectories=Trajectories(
            target=rng.normal(size=(n, 4)) * 0.6 - gap * member[:, None],
            shadow=rng.normal(size=(150, 4)) * 0.6 - gap * (np.arange(150) % 2)[:, None],
            shadow_labels=rng.integers(0, classes, 150),
            shadow_member=np.arange(150) % 2 == 1,
        ),
        gradients=np.exp(rng.normal(size=(n, 3)) * 0.6 - gap * member[:, None]),
        perturbed_labels=np.where(right, labels[:, None], (labels[:, None] + 1) % classes),
        loss_trace=_trace(member, gap, rng),
    )


def _trace(member: np.ndarray, gap: float, rng: np.random.Generator) -> np.ndarray:
    """(n, 8) losses by epoch: those of members fall by `gap`, and are the lower for it."""
    return 5.0 + 0.6 * rng.normal(size=(len(member), 8)) - gap * member[:, None] * np.linspace(0.0, 2.0, 8)


def _score(attack: Attack, evidence: Evidence, **options: Any) -> AttackScores:
    result = attack.score(evidence, **({"seed": 0, "workers": 1} | options))
    assert isinstance(result, AttackScores), result
    return result


def _replace(evidence: Evidence, **changes: Any) -> Evidence:
    target = evidence.target
    fields = {name: getattr(target, name) for name in ("logits", "labels", "member", "record_ids", "inputs")}
    return dataclasses.replace(evidence, target=Predictions(**(fields | changes)))


def _alike(evidence: Evidence) -> Evidence:
    """The same evidence with every record of it like every other."""
    target, shadows, population, paths = evidence.target, evidence.shadows, evidence.population, evidence.trajectories
    assert shadows is not None
    assert population is not None
    assert paths is not None
    row = np.array([1.0, 0.5, -1.0])
    n, m, p = len(target), len(shadows), len(population)
    whole = _replace(evidence, logits=np.tile(row, (n, 1)), labels=np.zeros(n, int), inputs=np.zeros((n, 5)))
    models = shadows.n_models
    chequered = (
        np.arange(models)[:, None] + np.arange(m)
    ) % 2 == 0  # each record in half of the models, each model on half of them
    return dataclasses.replace(
        whole,
        shadows=ShadowPredictions(
            logits=np.tile(row, (models, m, 1)),
            labels=np.zeros(m, int),
            member=chequered,
            record_ids=shadows.record_ids,
        ),
        population=ShadowPredictions(
            logits=np.tile(row, (1 + models, p, 1)), labels=np.zeros(p, int), member=np.zeros((1 + models, p), bool)
        ),
        population_inputs=np.zeros((p, 5)),
        augmented=np.tile(row, (1 + models, n, 2, 1)),
        trajectories=dataclasses.replace(
            paths, target=np.ones((n, 4)), shadow=np.ones((150, 4)), shadow_labels=np.zeros(150, int)
        ),
        gradients=np.ones((n, 3)),
        perturbed_labels=np.zeros((n, 24), int),
        loss_trace=np.ones((n, 8)),
    )


@EVERY
def test_perfect_separation_gives_one(attack: Attack) -> None:
    for n_in, n_out in ((120, 80), (60, 300)):
        evidence = _evidence(n_in, n_out, gap=8.0)
        result = _score(attack, evidence)
        assert _auc(result.scores, evidence.target.member) >= LEAST_SEPARATION.get(attack.name, 0.999)
        if result.decisions is not None:
            wrong = (result.decisions != evidence.target.member).mean()
            assert wrong < MOST_WRONG.get(attack.name, 0.05)  # a threshold is an observed shadow value


@EVERY
def test_identical_predictions_give_one_half(attack: Attack) -> None:
    same = _alike(_evidence(gap=0.0))
    assert _auc(_score(attack, same).scores, same.target.member) == 0.5


@EVERY
def test_no_record_is_missing_and_every_score_is_a_finite_float64(attack: Attack) -> None:
    result = _score(attack, _evidence(37, 91, classes=5))
    assert result.scores.shape == (128,)
    assert result.scores.dtype == np.float64
    assert np.isfinite(result.scores).all()
    assert (result.attack, result.family) == (attack.name, attack.family)
    assert result.decisions is None or result.decisions.shape == (128,)


@EVERY
def test_no_input_is_changed(attack: Attack) -> None:
    evidence = _evidence()
    parts = (evidence.target, evidence.shadows, evidence.population, evidence.trajectories, evidence)
    names = (
        "logits", "labels", "member", "record_ids", "inputs", "target", "shadow", "shadow_labels", "shadow_member", "augmented",
        "gradients", "perturbed_labels", "population_inputs", "loss_trace",
    )  # fmt: skip
    before = [
        array.copy() if isinstance(array := getattr(part, name, None), np.ndarray) else None for part in parts for name in names
    ]
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - to see that nothing draws from it
    _score(attack, evidence)
    after = [getattr(part, name, None) for part in parts for name in names]
    assert sum(old is not None for old in before) >= 15
    for old, new in zip(before, after, strict=True):
        if old is not None:
            np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


@EVERY_OFTEN
def test_same_seed_same_scores_for_any_number_of_workers(attack: Attack) -> None:
    evidence = _evidence()
    once = _score(attack, evidence, seed=3).scores
    np.testing.assert_array_equal(once, _score(attack, evidence, seed=3).scores)
    for workers in (2, 5):
        np.testing.assert_array_equal(once, _score(attack, evidence, seed=3, workers=workers).scores)


@EVERY
@pytest.mark.parametrize("ids", [False, True])
def test_permuting_the_records_permutes_the_scores(attack: Attack, ids: bool) -> None:
    evidence = _evidence(ids=ids)
    if attack.missing(evidence):
        assert not ids
        return  # what calibrates record by record must know which record is which
    order = np.random.default_rng(9).permutation(len(evidence.target))
    whole, moved = _score(attack, evidence).scores, _score(attack, evidence.select(order)).scores
    np.testing.assert_array_equal(whole[order], moved)


@EVERY
def test_a_signal_is_found_and_points_the_right_way(attack: Attack) -> None:
    evidence = _evidence(400, 300, gap=1.0, seed=5)
    assert 0.65 < _auc(_score(attack, evidence).scores, evidence.target.member) < 0.9999


@EVERY_OFTEN
def test_no_signal_gives_one_half(attack: Attack) -> None:
    """Mean over 6 draws in a 99.9% band; cross-fitting widens the null by up to 1.5 (see the trained attacks)."""
    values = []
    for seed in range(6):
        evidence = _evidence(150, 100, gap=0.0, seed=seed)
        values.append(_auc(_score(attack, evidence, seed=seed).scores, evidence.target.member))
    band = 3.29 * 1.6 * np.sqrt((150 + 100 + 1) / (12 * 150 * 100)) / np.sqrt(6)
    assert 0.5 - band < np.mean(values) < 0.5 + band


UNINFORMATIVE = ("class frequencies", "majority class", "collapsed", "class alone", "class and noise")


def _uninformative(kind: str, classes: int, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """labels -> logits of a model that knows nothing of its members: all that it can tell is the class."""
    frequencies = np.log(rng.dirichlet(np.full(classes, 5.0)))
    row = {
        "class frequencies": frequencies,
        "majority class": np.where(frequencies == frequencies.max(), 6.0, 0.0),
        "collapsed": rng.normal(size=classes),
    }.get(kind)
    table = np.tile(row, (classes, 1)) if row is not None else rng.normal(size=(classes, classes)) * 2
    noise = 0.1 if kind == "class and noise" else 0.0
    return lambda labels: table[labels] + noise * rng.normal(size=(*np.shape(labels), classes))


@functools.lru_cache(2 * len(UNINFORMATIVE))  # every attack is asked about the same draws
def _saying_nothing(kind: str, design: str, *, classes: int, n: int, share: float, seed: int) -> Evidence:
    """Everything that any attack may ask for, of models of one kind, with members of the target and of shadows drawn by one design."""
    rng = np.random.default_rng(seed)
    say = _uninformative(kind, classes, rng)
    labels, pool = rng.integers(0, classes, n), rng.integers(0, classes, 120)
    known = np.concatenate([labels, pool])
    shadows = ShadowPredictions(
        logits=np.stack([say(known)] * 4) if kind != "class and noise" else np.stack([say(known) for _ in range(4)]),
        labels=known,
        member=np.stack([half for _ in range(2) for one in [_drawn(design, known, 0.5, rng)] for half in (one, ~one)]),
        record_ids=np.arange(n + 120),
    )
    outside = rng.integers(0, classes, 90)
    of_class = rng.normal(size=(classes, 4))
    paths = rng.integers(0, classes, 150)
    return Evidence(
        target=Predictions(
            logits=say(labels),
            labels=labels,
            member=_drawn(design, labels, share, rng),
            record_ids=np.arange(n),
            inputs=of_class[labels] + rng.normal(size=(n, 4)),
        ),
        shadows=shadows,
        population=ShadowPredictions(
            logits=np.stack([say(outside) for _ in range(5)]), labels=outside, member=np.zeros((5, 90), dtype=bool)
        ),
        population_inputs=of_class[outside] + rng.normal(size=(90, 4)),
        augmented=np.stack([np.stack([say(labels)] * 2, axis=1) for _ in range(5)]),
        trajectories=Trajectories(
            target=of_class[labels],
            shadow=of_class[paths],
            shadow_labels=paths,
            shadow_member=_drawn(design, paths, 0.5, rng),
        ),
        gradients=np.exp(of_class[labels][:, :3]),
        perturbed_labels=np.where(rng.random((n, 24)) < 0.7, labels[:, None], (labels[:, None] + 1) % classes),
        loss_trace=of_class[labels],
    )


@EVERY_DESIGN
def test_models_that_say_nothing_are_at_one_half_however_members_were_drawn(
    attack: Attack, design: str, classes: int, share: float
) -> None:
    """Mean over two draws of each kind of model, in a 99.9% band.

    On outputs that tell the class alone, scores know nothing of chance in the scored fold, so the AUC varies as Mann and Whitney's at
    most; on those with noise up to 1.6 times as much, as in the test above: 1.15 times for the five kinds together. An attack that
    can learn how many members a class has in its training part is at 0.37 to 0.48 after a stratified or balanced split; or, with
    folds that are stratified, above 0.5 after coin flips.
    """
    values, n = [], 300
    for number, kind in enumerate(2 * UNINFORMATIVE):
        evidence = _saying_nothing(kind, design, classes=classes, n=n, share=share, seed=number)
        values.append(_auc(_score(attack, evidence, seed=number).scores, evidence.target.member))
    deviation = np.sqrt((n + 1) / (12 * n * share * n * (1 - share)))
    assert abs(np.mean(values) - 0.5) < 3.29 * 1.15 * deviation / np.sqrt(len(values))


@EVERY
def test_what_is_lacking_is_a_skip_with_its_reason(attack: Attack) -> None:
    evidence = _evidence()
    assert attack.missing(evidence) is None
    bare = Evidence(target=Predictions(entropy_nats=np.arange(9.0), member=np.arange(9) < 4))
    result = attack.score(bare, seed=0)
    if isinstance(result, Skip):
        assert result.reason.startswith("needs ")
        assert (result.attack, result.family) == (attack.name, attack.family)
    without = attack.score(Evidence(target=evidence.target), seed=0, workers=1)
    assert isinstance(without, Skip) == (attack.needs != {"target"})
    for need in attack.needs - {"target"}:
        lacking = attack.score(dataclasses.replace(evidence, **{need: None} | DROPPED_WITH.get(need, {})), seed=0, workers=1)
        assert isinstance(lacking, Skip)
        assert need in lacking.reason
        assert lacking.reason.startswith("needs ")


@EVERY
def test_a_part_without_one_side_is_answered(attack: Attack) -> None:
    evidence = _evidence()
    for index in (evidence.target.member, np.flatnonzero(~evidence.target.member)[:1]):
        result = attack.score(evidence.select(index), seed=0, workers=1)
        if attack.cross_fitted:
            assert isinstance(result, Skip)
            assert "to be cross-fitted in 4 folds; there are" in result.reason
        else:
            assert isinstance(result, AttackScores)


@EVERY
def test_options_out_of_range_are_refused(attack: Attack) -> None:
    with pytest.raises(UserError, match="workers: 0; allowed: 1 or more"):
        attack.score(_evidence(), seed=0, workers=0)
    with pytest.raises(UserError, match="folds: 1; allowed: 2 or more"):
        attack.score(_evidence(), seed=0, folds=1)


@EVERY_OFTEN
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.differing_executors])
@given(
    n_in=st.integers(1, 40),
    n_out=st.integers(1, 40),
    classes=st.integers(2, 12),
    levels=st.sampled_from([0, 1, 3]),
    seed=st.integers(0, 1000),
)
def test_any_shape_and_any_ties_give_all_scores_or_a_reason(
    attack: Attack, n_in: int, n_out: int, classes: int, levels: int, seed: int
) -> None:
    evidence = _evidence(n_in, n_out, classes=classes, seed=seed)
    assert evidence.target.logits is not None
    tied = _replace(evidence, logits=np.round(evidence.target.logits * levels))  # constant at 0 levels, tied at few
    result = attack.score(tied, seed=seed, workers=1)
    if isinstance(result, Skip):
        assert attack.cross_fitted
        assert min(n_in, n_out) < 8
    else:
        assert result.scores.shape == (n_in + n_out,)
        if levels == 0 and result.folds is not None and len(np.unique(tied.target.labels)) == 1:
            assert len(np.unique(result.scores)) == 1
