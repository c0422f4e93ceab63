"""Why a field of the evidence is absent reaches the reader of a skipped attack."""

from __future__ import annotations

import numpy as np
import pytest

import memberscope
from memberscope import Evidence, Predictions, run_audit
from memberscope.attacks import registry
from memberscope.attacks.base import Skip
from memberscope.audit.request import fields_present
from memberscope.release import parse_release
from memberscope.release.apply import release_evidence
from memberscope.training.trainer import TrainingJob

WHY = "the models of mine offer no gradient_norms"


def _evidence(**absent: str) -> Evidence:
    rng = np.random.default_rng(0)
    target = Predictions(logits=rng.normal(size=(60, 3)), labels=np.arange(60) % 3, member=np.arange(60) < 30)
    return Evidence(target=target, absent=absent)


@pytest.mark.parametrize(
    ("absent", "reason"),
    [({}, "needs gradients"), ({"gradients": WHY}, f"needs gradients ({WHY})"), ({"trajectories": "no"}, "needs gradients")],
)
def test_a_skipped_attack_says_why_its_field_is_absent(absent: dict[str, str], reason: str) -> None:
    found = registry.get("gradient_norm").score(_evidence(**absent), seed=0)
    assert isinstance(found, Skip)
    assert found.reason == reason


def test_the_reason_outlives_selections_releases_and_audits() -> None:
    evidence = _evidence(gradients=WHY)
    assert evidence.select(np.arange(0, 60, 2)).absent == {"gradients": WHY}
    assert release_evidence(evidence, parse_release("top=2"), seed=0).absent == {"gradients": WHY}
    report = run_audit(evidence, attacks="gradient_norm,threshold_loss")
    assert report.result("gradient_norm").reason == f"needs gradients ({WHY})"


def test_a_reason_is_no_evidence() -> None:
    assert fields_present(_evidence(gradients=WHY)) == ("target",)


def test_what_a_training_function_gets_has_a_public_name() -> None:
    assert memberscope.TrainingJob is TrainingJob
    assert "TrainingJob" in dir(memberscope)
