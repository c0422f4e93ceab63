"""A request is resolved once, before anything runs, and an audit takes it as it is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from memberscope import Evidence, Predictions, ShadowPredictions, run_audit
from memberscope.attacks import registry
from memberscope.audit import run
from memberscope.audit.request import AuditRequest, make_request, request_of
from memberscope.config import AttackOptionsConfig, AuditConfig
from memberscope.errors import UserError
from memberscope.studies import setup


def evidence(n: int = 120) -> Evidence:
    rng = np.random.default_rng(3)
    labels, member = rng.integers(0, 3, n), np.arange(n) % 2 == 0
    logits = rng.normal(size=(n, 3))
    logits[np.arange(n), labels] += 1 + member
    shadow = rng.normal(size=(2, n, 3))
    return Evidence(
        target=Predictions(logits=logits, labels=labels, member=member),
        shadows=ShadowPredictions(logits=shadow, labels=labels, member=np.stack([member, ~member])),
    )


@pytest.mark.parametrize(
    "options",
    [
        {"attacks": "threshold,label_only_gap,metric", "slices": "entire,class", "primary": "threshold-entropy"},
        {"attacks": ["trained_lr", "threshold_loss"], "slices": {"threshold": "all", "trained": "entire"}},
        {"attacks": "lira_online,threshold_loss", "slices": ("entire", "correctness"), "primary": "lira_online"},
    ],
)
def test_an_audit_of_a_request_is_the_audit_of_its_options(options: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = run_audit(evidence(), **options, seed=4, workers=1)  # type: ignore[arg-type]
    request = make_request(**options, present=("target", "shadows"))  # type: ignore[arg-type]
    monkeypatch.setattr(registry, "resolve", pytest.fail)  # nothing is resolved a second time
    monkeypatch.setattr(run, "make_request", pytest.fail)
    found = run_audit(evidence(), request=request, seed=4, workers=1)
    pd.testing.assert_frame_equal(found.to_frame(), plain.to_frame())
    assert (found.primary, found.engine) == (plain.primary, plain.engine) == (request.primary, "fast")
    assert found.headlines() == plain.headlines()


def test_what_a_request_holds() -> None:
    request = make_request(attacks="trained_lr,threshold", slices={"threshold": "all, class_1"}, primary="threshold-entropy")
    assert request.attacks == registry_names("trained_lr,threshold")
    assert request.primary == "threshold_entropy"
    assert dict(request.slices) == {"trained": ("entire",), "threshold": ("all", "class_1")}
    assert make_request(attacks="lira_online,gradient_norm").needs == {"target", "shadows", "gradients"}
    with pytest.raises(AttributeError):
        request.engine = "tfp"  # type: ignore[misc]


def registry_names(text: str) -> tuple[str, ...]:
    return tuple(attack.name for attack in registry.resolve(text))


def test_a_request_beside_its_own_options_is_refused() -> None:
    request = make_request(attacks="threshold_loss")
    for option in (
        {"attacks": "metric"},
        {"primary": "threshold_loss"},
        {"slices": "class"},
        {"engine": "tfp"},
        {"group_scores": "max"},
    ):
        with pytest.raises(UserError, match="request: given together with attacks, primary, slices, engine or group_scores"):
            run_audit(evidence(), request=request, **option)  # type: ignore[arg-type]


def test_a_primary_attack_that_the_evidence_cannot_serve_is_refused_when_it_is_known() -> None:
    line = "primary=gradient_norm: needs gradients, which this audit does not have; allowed: auto, threshold_loss"
    with pytest.raises(UserError, match=line):
        make_request(attacks="threshold_loss,gradient_norm", primary="gradient_norm", present=("target", "shadows"))
    late = make_request(attacks="threshold_loss,gradient_norm", primary="gradient_norm")
    with pytest.raises(UserError, match=line):
        run_audit(evidence(), request=late, on_attack=pytest.fail)


def test_every_caller_makes_its_request_in_one_place() -> None:
    from_file = request_of(AttackOptionsConfig(attacks="threshold", slices="class"), present=("target",))
    assert from_file == AuditRequest(
        attacks=registry_names("threshold"), primary="auto", slices={"threshold": ("entire", "class")}, engine="fast"
    )
    trained = setup.audit_request(AuditConfig(attacks="tfp", slices="auto"), classes=3)
    assert trained == make_request(attacks="tfp", slices="all")
    with pytest.raises(UserError, match="all need shadow models"):
        setup.audit_request(AuditConfig(attacks="lira_online"), classes=3)
