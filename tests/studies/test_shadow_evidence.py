"""The evidence against each target holds what each model said, in the order that attacks read it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from memberscope.audit.request import make_request
from memberscope.datasets import LabeledData
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.plans.shadow import make_shadow_plan
from memberscope.studies.shadow.evidence import FleetOutputs, evidence_fields, query_fleet

N, CLASSES, SHADOWS = 400, 3, 4


class Telltale:
    """Model k says (k, the record's number, its first pixel) of every record."""

    form = "logits"

    def __init__(self, models: int) -> None:
        self.models = models

    def outputs(self, x: np.ndarray) -> np.ndarray:
        said = np.zeros((self.models, len(x), CLASSES), dtype=np.float32)
        said[:, :, 0] = np.arange(self.models)[:, None]
        said[:, :, 1] = x[:, 4, 4, 0]
        said[:, :, 2] = x[:, 0, 0, 0]
        return said


def _outputs(design: str) -> FleetOutputs:
    rng = np.random.default_rng(0)
    x = np.zeros((N, 8, 8, 1), dtype=np.float32)
    x[:, 4, 4, 0] = np.arange(N)
    data = LabeledData(name="x", x=x, y=rng.integers(0, CLASSES, N), class_names=("a", "b", "c"), source="a test")
    plan = make_shadow_plan(
        data.y, design=design, members=40, population=60, shadows=SHADOWS, targets=2, coin_flips=True, seed=0
    )
    fleet: Any = Telltale(plan.n_models)
    with StopFlag() as stop:
        return query_fleet(data, plan, fleet, copies=3, stop=stop)


@pytest.mark.parametrize("design", ["half", "disjoint"])
@pytest.mark.parametrize("some", [False, True])
def test_models_records_and_membership_stand_where_they_belong(design: str, some: bool) -> None:
    outputs = _outputs(design)
    plan = outputs.plan
    for target in plan.targets.tolist():
        shadows = plan.shadows_of(target)[: 2 if some else None]
        found = outputs.evidence(target, shadows if some else None)
        assert found.shadows is not None
        assert found.population is not None
        assert found.augmented is not None
        audited = plan.records[plan.block]
        assert found.target.logits is not None
        assert (found.target.logits[:, 0] == target).all()
        np.testing.assert_array_equal(found.target.logits[:, 1], audited)
        np.testing.assert_array_equal(found.target.member, np.isin(audited, plan.members(target)))
        np.testing.assert_array_equal(found.target.labels, outputs.data.y[audited])
        assert found.shadows.logits is not None
        np.testing.assert_array_equal(found.shadows.logits[:, 0, 0], shadows)
        for row, model in enumerate(shadows.tolist()):
            np.testing.assert_array_equal(found.shadows.member[row], np.isin(plan.records, plan.members(model)))
        assert found.population.logits is not None
        np.testing.assert_array_equal(found.population.logits[:, 0, 0], [target, *shadows])
        np.testing.assert_array_equal(found.population.logits[0, :, 1], plan.population)
        assert found.augmented.shape == (1 + len(shadows), len(audited), 3, CLASSES)
        np.testing.assert_array_equal(found.augmented[:, 0, 0, 0], [target, *shadows])
        np.testing.assert_array_equal(
            found.augmented[0, :, 0, 1], audited
        )  # the record itself, then copies whose pixel moved on
        assert (found.augmented[0, audited > 0][:, 1:, 1] == 0).all()
        assert found.places is not None
        np.testing.assert_array_equal(plan.records[found.places], audited)


def test_what_can_be_known_before_training_decides_which_primary_attack_is_possible() -> None:
    outputs = _outputs("half")

    def fields(*offered: str, copies: int = 3, perturbed: int = 4, distill_epochs: int = 2) -> set[str]:
        known = evidence_fields(
            outputs.data, outputs.plan, offered, copies=copies, perturbed=perturbed, distill_epochs=distill_epochs
        )
        return set(known) - {"target", "shadows", "population", "population_inputs"}

    assert fields() == {"augmented", "perturbed_labels"}
    assert fields("gradients", "distill", copies=1, perturbed=0) == {"gradients", "trajectories"}
    assert fields("distill", distill_epochs=0) == {"augmented", "perturbed_labels"}
    assert fields("losses", distill_epochs=0, copies=1, perturbed=0) == {"trajectories"}
    make_request(attacks="gradient_norm", primary="gradient_norm").check_primary({"target", *fields("gradients")})
    with pytest.raises(UserError, match="primary=gradient_norm: needs gradients"):
        make_request(attacks="gradient_norm", primary="gradient_norm").check_primary({"target", *fields("distill")})
