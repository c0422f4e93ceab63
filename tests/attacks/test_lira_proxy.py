"""The IN distribution by proxy: power in closed form, what it is blind to, null, and the reasons for skips."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import norm

from memberscope.attacks import registry
from memberscope.attacks.base import AttackScores, Skip
from memberscope.attacks.lira import lira_scores
from memberscope.attacks.lira_proxy import LEAST_PROXIES, proxy_scores
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.metrics.area import auc_value
from memberscope.metrics.curve import rank
from memberscope.predictions import Predictions, ShadowPredictions


def _auc(scores: np.ndarray, member: np.ndarray) -> float:
    return auc_value(rank(np.ascontiguousarray(scores), member))


class _World:
    """Scaled logits under a disjoint design: a record's IN mean is a function of its level and its class, and so is the IN deviation."""

    def __init__(self, n: int, models: int, seed: int, *, classes: int = 5, by_class: float = 0.0, lift: float = 1.0) -> None:
        rng = np.random.default_rng(seed)
        m = 2 * n
        self.labels = rng.integers(0, classes, n + m)
        self.level = rng.normal(0.0, 2.0, n + m)
        self.own, self.member = rng.random(n) < 0.5, rng.random((models, n + m)) < 0.5
        self.member[:, :n] = False
        self.rise = lift * (np.where(self.level < 0, 2.0 - 0.5 * self.level, 2.0) + by_class * (self.labels - 2))
        self.sd = np.where(self.level < 0, 1.0, 0.6) if lift else np.ones(n + m)
        trained = np.concatenate([self.own, np.zeros(m, bool)])
        noise = rng.normal(size=(models, n + m))
        self.shadows = self.level + np.where(self.member, self.rise + self.sd * noise, noise)
        noise = rng.normal(size=n + m)
        self.target = (self.level + np.where(trained, self.rise + self.sd * noise, noise))[:n]
        self.n = n

    def scores(self, **changes: np.ndarray) -> np.ndarray:
        n = self.n
        given = {
            "target": self.target, "shadows": self.shadows[:, :n], "trained": self.member[:, :n], "labels": self.labels[:n],
            "pool": self.shadows[:, n:], "pool_member": self.member[:, n:], "pool_labels": self.labels[n:],
        } | changes  # fmt: skip
        return proxy_scores(**given)

    def best(self) -> float:
        """AUC of the test that knows each record's level, rise and deviation."""
        n, away = self.n, self.target - self.level[: self.n]
        ratio = norm.logpdf(away, self.rise[:n], self.sd[:n]) - norm.logpdf(away)
        return _auc(ratio, self.own)

    def offline(self) -> float:
        given = self.target[:, None], self.shadows[:, : self.n, None], self.member[:, : self.n]
        return _auc(lira_scores(*given, online=False, variance="global"), self.own)

    def evidence(self) -> Evidence:
        def logits(phi: np.ndarray) -> np.ndarray:
            at = np.zeros((*phi.shape, 5))
            np.put_along_axis(at, np.broadcast_to(self.labels[: phi.shape[-1]], phi.shape)[..., None], phi[..., None], axis=-1)
            return at

        ids = np.arange(len(self.labels))
        return Evidence(
            target=Predictions(
                logits=logits(self.target), labels=self.labels[: self.n], member=self.own, record_ids=ids[: self.n]
            ),
            shadows=ShadowPredictions(logits=logits(self.shadows), labels=self.labels, member=self.member, record_ids=ids),
        )


@pytest.mark.parametrize("models", [4, 16, 64])
def test_it_nears_the_test_that_knows_each_record_and_beats_the_offline_one(models: int) -> None:
    """Levels are known to a variance of 1 / models: AUC within that cost of the best, which only 64 models nearly reach."""
    world = _World(8000, models, seed=models)
    found, best = _auc(world.scores(), world.own), world.best()
    assert best - {4: 0.06, 16: 0.02, 64: 0.01}[models] < found < best + 0.002
    assert found > world.offline() + 0.002


def test_what_a_class_adds_is_learned() -> None:
    """The rise differs by class: with the classes hidden, the attack is weaker by more than chance."""
    world = _World(8000, 16, seed=1, by_class=1.0)
    hidden = {"labels": np.zeros(8000, np.int64), "pool_labels": np.zeros(16_000, np.int64)}
    assert _auc(world.scores(), world.own) > _auc(world.scores(**hidden), world.own) + 0.005


def test_classes_that_differ_by_chance_alone_change_little() -> None:
    world = _World(3000, 16, seed=2)
    many = np.random.default_rng(0).integers(0, 500, 9000)
    given = {"labels": many[:3000], "pool_labels": many[3000:]}
    assert abs(_auc(world.scores(**given), world.own) - _auc(world.scores(), world.own)) < 0.003


def test_no_signal_is_one_half() -> None:
    """No rise, by the mean of 20 draws in its 99.9% interval."""
    found = [_auc((world := _World(400, 4, seed=seed, lift=0.0)).scores(), world.own) for seed in range(20)]
    band = 3.29 * np.sqrt(401 / (12 * 200 * 200) / 20)
    assert 0.5 - band < np.mean(found) < 0.5 + band


def test_values_of_models_that_were_trained_on_the_record_are_left_out() -> None:
    world = _World(300, 8, seed=3)
    member = np.random.default_rng(0).random((8, 300)) < 0.3
    wild = np.where(member, 1e3, world.shadows[:, :300])
    np.testing.assert_array_equal(
        world.scores(trained=member, shadows=wild), world.scores(trained=member, shadows=world.shadows[:, :300])
    )


def test_a_record_is_scored_alike_in_any_company_and_unit() -> None:
    world = _World(300, 8, seed=4)
    whole = world.scores()
    few = np.random.default_rng(0).permutation(300)[:7]
    part = world.scores(
        target=world.target[few], shadows=world.shadows[:, few], trained=world.member[:, few], labels=world.labels[few]
    )
    np.testing.assert_array_equal(part, whole[few])
    scaled = world.scores(target=1e3 * world.target, shadows=1e3 * world.shadows[:, :300], pool=1e3 * world.shadows[:, 300:])
    np.testing.assert_allclose(scaled, whole, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("models", [2, 3, 9])
def test_ties_and_constant_outputs_are_scored(models: int) -> None:
    world = _World(200, models, seed=5)
    for shadows in (
        np.zeros_like(world.shadows),
        np.where(world.member, 34.0, np.round(world.shadows)),
        np.round(world.shadows),
    ):
        found = world.scores(target=np.round(world.target), shadows=shadows[:, :200], pool=shadows[:, 200:])
        assert np.isfinite(found).all()


def test_as_an_attack_it_uses_the_shadows_own_records_and_says_how_many() -> None:
    attack, world = registry.get("lira_proxy"), _World(500, 6, seed=6)
    result = attack.score(world.evidence(), seed=0)
    assert isinstance(result, AttackScores)
    assert _auc(result.scores, world.own) > world.offline()
    varied = int((world.member.any(axis=0) & ~world.member.all(axis=0)).sum())
    assert f"from {varied} records of the shadows' own" in result.notes[0]
    assert "6 OUT" in result.notes[0]


def test_why_it_is_skipped() -> None:
    attack, world = registry.get("lira_proxy"), _World(100, 4, seed=7)
    evidence = world.evidence()
    shadows = evidence.shadows
    assert shadows is not None

    def reason(**changes: object) -> str:
        result = attack.score(dataclasses.replace(evidence, **changes), seed=0)
        assert isinstance(result, Skip)
        return result.reason

    assert reason(shadows=None) == "needs shadows"
    half = shadows.select(np.arange(100))
    expected = f"needs {LEAST_PROXIES} or more records of the shadows' own that some shadows were trained on and others were not (there are"
    assert reason(shadows=half) == f"{expected} 0)"
    nobody = dataclasses.replace(shadows, member=np.zeros_like(shadows.member))
    assert reason(shadows=nobody) == f"{expected} 0)"
    few = shadows.select(np.arange(130))
    assert reason(shadows=few).startswith(expected)
    assert reason(shadows=shadows.models([0])) == f"{expected} 0)"
    trained = np.concatenate([np.ones((4, 100), bool), shadows.member[:, 100:]], axis=1)
    every = dataclasses.replace(shadows, member=trained)
    assert reason(shadows=every) == "needs shadows that were not trained on some of the target's records"
    with pytest.raises(UserError, match="pool_member: needs 50 or more records"):
        world.scores(pool_member=np.zeros((4, 200), bool))
