"""Audits canaries apart from a model's ordinary records, and says what it costs to plant them.

The coins that decided which canaries a model was trained on must decide nothing else, so that epsilon can be bounded from the canaries'
scores: only attacks that use no membership labels of the canaries are run on them. With a *reference*, the same model trained without
canaries, one more attack is possible: the reference has seen none of the canaries, so it tells how likely each label would be anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memberscope import signals
from memberscope.attacks import registry
from memberscope.audit import artifacts
from memberscope.audit.groups import make_groups
from memberscope.audit.report import AuditReport
from memberscope.audit.request import make_request
from memberscope.audit.run import run_audit
from memberscope.evidence import Evidence
from memberscope.metrics import Comparison, compare_accuracy, compare_auc
from memberscope.predictions import Predictions
from memberscope.tracking import Tracker

ALONE = ("threshold_loss", "threshold_entropy")
"""The attacks on canaries that need the model alone; the first is the primary one."""
WITH_REFERENCE = ("rmia_offline", *ALONE)
"""Those with a reference, the primary one first: it is named beforehand, so that its bound needs no correction for a choice."""
DELTA = 1e-5
LEAST_SIDE = 8  # canaries on each side; the coins of 40 leave fewer on one in less than one of 10,000 draws


def audit_canaries(
    evidence: Evidence,
    *,
    attacks: tuple[str, ...] = ALONE,
    seed: int = 0,
    delta: float = DELTA,
    promise: float | None = None,
) -> AuditReport:
    """Audit canaries.

    Args:
        evidence: the model's outputs for the canaries, each of which is there once, with `member` as its coin fell; and, for attacks that
            need them, shadows with outputs for the canaries in the same order, and a population.
        attacks: names of attacks, the primary one first; none may be fitted on the membership of the records that it scores.
        seed: of every random draw.
        delta: the delta of the bounds of epsilon.
        promise: the epsilon that the training promised for one record, if any; None also where a canary is planted several times.

    Raises:
        ValueError: an attack that is fitted on the canaries' own membership.
        UserError: fewer than eight canaries on one side.
    """
    fitted = [name for name in attacks if registry.get(name).cross_fitted]
    if fitted:
        raise ValueError(f"attacks={fitted}: fitted on the membership of the canaries, which their coins alone may decide")
    request = make_request(attacks=attacks, primary=attacks[0], slices=("entire",))
    return run_audit(
        evidence, request=request, seed=seed, min_records=LEAST_SIDE, coin_flips=True, delta=delta, promise=promise, duplicates="keep"
    )


@dataclass(frozen=True, kw_only=True)
class CanaryCost:
    """What planting canaries cost: a model with canaries, a, beside the same model without them, b, on the same ordinary records.

    Attributes:
        accuracy: their accuracies on records that neither was trained on; the difference is a - b.
        auc: their AUCs of the loss threshold on ordinary members and non-members.
    """

    accuracy: Comparison
    auc: Comparison

    def rows(self) -> list[dict[str, object]]:
        """A row for each metric: with canaries, without them, the cost (without - with for accuracy, with - without for AUC)."""
        found = []
        for name, one, sign in (("accuracy", self.accuracy, -1.0), ("auc/threshold_loss", self.auc, 1.0)):
            low, high = sorted((sign * one.ci_low, sign * one.ci_high))
            found.append(
                {"metric": name, "with": one.value_a, "without": one.value_b, "cost": sign * one.difference, "ci_low": low, "ci_high": high}
            )  # fmt: skip
        return found

    def metrics(self) -> dict[str, float]:
        """The metrics that a run logs."""
        accuracy, auc = self.rows()
        return {
            "canary/accuracy_without": _number(accuracy["without"]), "canary/accuracy_cost": _number(accuracy["cost"]),
            "canary/accuracy_cost_ci_low": _number(accuracy["ci_low"]), "canary/accuracy_cost_ci_high": _number(accuracy["ci_high"]),
            "canary/auc_of_others_without": _number(auc["without"]), "canary/auc_of_others_cost": _number(auc["cost"]),
        }  # fmt: skip


def cost_of(
    planted: Mapping[str, Predictions], without: Mapping[str, Predictions]
) -> CanaryCost:
    """What planting canaries cost.

    Args:
        planted: the outputs of the model with canaries: ``unseen`` for records that neither model was trained on, ``audited`` for ordinary
            members and non-members.
        without: the same of the model without canaries, for the same records in the same order.
    """
    unseen, audited = planted["unseen"], planted["audited"]
    answers = [signals.correctness(one["unseen"]) for one in (planted, without)]
    accuracy = compare_accuracy(answers[0] > 0.5, answers[1] > 0.5, groups=unseen.groups)
    scores: list[NDArray[np.float64]] = [-signals.loss_nats(one["audited"]) for one in (planted, without)]
    member = audited.member
    if audited.groups is not None:
        groups = make_groups(audited.groups, member, audited.labels, pooling="mean")
        scores, member = [groups.pool(one) for one in scores], groups.member
    return CanaryCost(accuracy=accuracy, auc=compare_auc(scores[0], scores[1], member))


def log_canaries(report: AuditReport, tracker: Tracker, *, step: int = 0, cost: CanaryCost | None = None) -> None:
    """Log the audit of canaries: metrics under ``canary/`` and `artifacts.CANARIES`; and what they cost, as `artifacts.CANARY_COST`.

    Nothing is logged of a single canary: neither its scores, nor whether it was planted.
    """
    import pandas as pd

    tracker.metrics(canary_metrics(report), step=step)
    tracker.table(report.to_frame(), artifacts.CANARIES)
    if cost is not None:
        tracker.metrics(cost.metrics(), step=step)
        tracker.table(pd.DataFrame(cost.rows()), artifacts.CANARY_COST)


def canary_metrics(report: AuditReport) -> dict[str, float]:
    """The metrics of the canaries as they are tracked: ``canary/auc/threshold_loss``, ``canary/auc_ci_low/threshold_loss``, ..."""
    return {f"canary/{name}": value for name, value in report.headlines().items()}


def canary_words(report: AuditReport, *, kind: str, cost: CanaryCost | None = None) -> str:
    """A sentence or two on what the canaries showed and cost."""
    primary = report.result(report.primary)
    if primary.status != "ok":
        return f"Canaries ({kind}): not audited, {primary.reason}."
    found, bound = primary.figures["auc"], primary.figures.get("epsilon_lower_bound")
    text = (
        f"Canaries: {primary.n_member} of {primary.n_member + primary.n_nonmember} {kind} canaries were planted; {primary.attack} has an AUC "
        f"of {found.value:.3f} on them"
    )
    if found.ci_low is not None and found.ci_high is not None:
        text += f" (95% interval {found.ci_low:.3f} to {found.ci_high:.3f})"
    if bound is not None and bound.status != "skipped":
        text += f", which bounds epsilon from below by {bound.value:.2f}"
    if cost is not None:
        accuracy = cost.rows()[0]
        text += (
            f". They cost {accuracy['cost']:.3f} of accuracy ({accuracy['ci_low']:.3f} to {accuracy['ci_high']:.3f}): "
            f"{accuracy['with']:.3f} with them, {accuracy['without']:.3f} without"
        )
    return f"{text}."


def _number(value: object) -> float:
    assert isinstance(value, float)
    return value
