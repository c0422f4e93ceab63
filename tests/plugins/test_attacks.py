"""An attack of someone else's: a row like any other, and a skipped row with a reason where it breaks what attacks promise."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from memberscope import Evidence, Predictions, run_audit, signals
from memberscope.attacks import registry
from memberscope.attacks.base import Attack, AttackScores, Skip
from memberscope.errors import Interrupted, UserError
from memberscope.gate import judge, parse_rules


@dataclass(frozen=True, kw_only=True)
class Given(Attack):
    """Scores by a function."""

    name: str = "given_attack"
    family: str = "given"
    how: Callable[[Evidence], Any] = lambda evidence: None

    def score(self, evidence: Evidence, *, seed: int, workers: int | None = None, folds: int | None = None) -> Any:
        """Past the checks of the base class."""
        return self.how(evidence)

    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        raise AssertionError


def target(n: int = 200) -> Predictions:
    rng = np.random.default_rng(0)
    labels, member = rng.integers(0, 3, n), np.arange(n) % 2 == 0
    logits = rng.normal(size=(n, 3))
    logits[np.arange(n), labels] += 1 + member
    return Predictions(logits=logits, labels=labels, member=member)


@pytest.fixture
def plugged() -> Iterator[Callable[..., Attack]]:
    """Registers an attack for one test."""
    names: list[str] = []

    def add(how: Callable[[Evidence], Any], **changes: Any) -> Attack:
        attack = registry.register(Given(how=how, **changes), package="given-package")
        names.append(attack.name)
        return attack

    yield add
    for name in names:
        registry.unregister(name)


def scored(scores: Any, **more: Any) -> AttackScores:
    return AttackScores(attack="given_attack", family="given", scores=scores, **more)


def test_it_stands_beside_the_others(plugged: Callable[..., Attack]) -> None:
    plugged(lambda evidence: scored(-signals.get("loss_nats")(evidence.target), notes=("a note",)))
    assert registry.names()[-1] == "given_attack"
    assert registry.families()[-1] == "given"
    assert [attack.name for attack in registry.resolve("given")] == ["given_attack"]
    assert registry.resolve("all")[-1].name == "given_attack"
    assert "given_attack" not in [attack.name for attack in registry.resolve("tfp")]
    report = run_audit(target(), attacks="threshold_loss,given")
    theirs, ours = report.result("given_attack"), report.result("threshold_loss")
    assert theirs.figures["auc"] == ours.figures["auc"], "the same scores"
    assert theirs.notes == ("a note", "from given-package")
    rows = report.to_frame().query("attack == 'given_attack' and metric == 'auc'")
    assert rows["value"].tolist() == [theirs.figures["auc"].value]
    assert judge(report, parse_rules("given_attack.entire.auc > 0.5")).outcome == "trip"


BREACHES = {
    "too few": (lambda e: scored(np.zeros(3)), r"returned scores of shape \(3,\); expected \(200,\), one per record"),
    "a column": (lambda e: scored(np.zeros((200, 1))), r"returned scores of shape \(200, 1\)"),
    "not finite": (lambda e: scored(np.where(np.arange(200) < 2, np.nan, 0.0)), "returned 2 scores that are not finite"),
    "single precision": (
        lambda e: scored(np.zeros(200, dtype=np.float32)),
        "returned scores of type float32; expected float64",
    ),
    "a list": (lambda e: scored([0.0] * 200), "returned scores of type list; expected an array of float64"),
    "decisions as numbers": (lambda e: scored(np.zeros(200), decisions=np.zeros(200)), "returned decisions that are not bool"),
    "nothing": (lambda e: None, "returned NoneType; expected AttackScores or a Skip"),
    "an error": (lambda e: 1 / 0, "ZeroDivisionError: division by zero"),
    "an exit": (lambda e: sys.exit(7), "SystemExit: 7"),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_is_a_row_with_the_reason_and_the_rest_goes_on(
    breach: str, plugged: Callable[..., Attack], capsys: pytest.CaptureFixture[str]
) -> None:
    how, reason = BREACHES[breach]
    plugged(how)
    report = run_audit(target(), attacks="given_attack,threshold_loss")
    result = report.result("given_attack")
    assert result.status == "skipped"
    assert result.figures == {}
    with pytest.raises(AssertionError, match=f"^given_attack of given-package failed: {reason}"):
        raise AssertionError(result.reason)
    assert report.result("threshold_loss").status == "ok"
    assert capsys.readouterr().err.splitlines() == [f"memberscope: {result.reason}"]


def test_a_skip_of_its_own_is_kept(plugged: Callable[..., Attack]) -> None:
    plugged(lambda evidence: Skip(attack="given_attack", family="given", reason="no moon tonight"))
    assert run_audit(target(), attacks="given_attack").result("given_attack").reason == "no moon tonight"


def test_a_wish_to_stop_is_no_fault(plugged: Callable[..., Attack]) -> None:
    def stop(evidence: Evidence) -> None:
        raise Interrupted("asked to stop")

    plugged(stop)
    with pytest.raises(Interrupted):
        run_audit(target(), attacks="given_attack")


def test_its_scores_cannot_change_afterwards(plugged: Callable[..., Attack]) -> None:
    kept = np.arange(200.0)
    plugged(lambda evidence: scored(kept))
    result = registry.get("given_attack").score(Evidence(target=target()), seed=0)
    assert isinstance(result, AttackScores)
    kept[:] = 0
    assert np.array_equal(result.scores, np.arange(200.0))
    with pytest.raises(ValueError, match="read-only"):
        result.scores[0] = 1.0


@pytest.mark.parametrize("name", ["threshold_loss", "all", "tfp", "lr", "metric", "any", "auto"])
def test_words_that_mean_something_already_are_taken(name: str) -> None:
    with pytest.raises(UserError, match=f"^attack '{name}' of mine: the name is taken by"):
        registry.register(Given(name=name), package="mine")


def test_a_family_may_not_be_an_attack(plugged: Callable[..., Attack]) -> None:
    with pytest.raises(
        UserError, match=r"^attack 'given_attack' of given-package: its family is 'threshold_loss'; allowed: one of"
    ):
        plugged(lambda evidence: None, family="threshold_loss")
