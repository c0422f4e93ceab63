"""Audits canaries separately from a model's ordinary records, and says what it costs to plant them.

The coin flips that decided which canaries a model was trained on must decide nothing else, so that epsilon can be bounded from the
canaries' scores: only attacks that use no membership labels of the canaries are run on them. With a *reference*, the same model trained
without canaries, one more attack is possible: the reference has seen none of the canaries, so it shows how likely each label would be
anyway.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from memberscope import signals
from memberscope.attacks import registry
from memberscope.audit import artifacts
from memberscope.audit.bounds_table import Judgement, bounds_frame, judge_promise
from memberscope.audit.groups import make_groups
from memberscope.audit.promise import log_frame, look_of, metrics_of, rows_of, words_of
from memberscope.audit.report import AuditReport
from memberscope.audit.request import make_request
from memberscope.audit.run import run_audit
from memberscope.evidence import Evidence
from memberscope.metrics import compare_accuracy, compare_auc
from memberscope.metrics.rounding import logged
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
        raise ValueError(
            f"attacks={fitted}: fitted on the membership of the canaries, which invalidates their bounds; allowed: attacks that "
            "are not"
        )
    request = make_request(attacks=attacks, primary=attacks[0], slices=("entire",))
    return run_audit(
        evidence,
        request=request,
        seed=seed,
        min_records=LEAST_SIDE,
        coin_flips=True,
        delta=delta,
        promise=promise,
        duplicates="keep",
    )


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """One metric of the model with canaries and of the same model without them.

    Attributes:
        metric: its name.
        planted, without: its values.
        cost: how much worse the model with canaries is: lower accuracy, or a higher AUC of the attack on its ordinary records.
        ci_low, ci_high: the 95% interval of the cost, paired over the records. It holds only for these two models.
    """

    metric: str
    planted: float
    without: float
    cost: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True, kw_only=True)
class CanaryCost:
    """What planting canaries cost the model.

    Attributes:
        accuracy: on records that neither model was trained on.
        auc: of the loss threshold on ordinary members and non-members.
    """

    accuracy: CostRow
    auc: CostRow

    def metrics(self) -> dict[str, float]:
        """The metrics that a run logs."""
        return {
            **logged("canary/accuracy_without", "", self.accuracy.without),
            **logged("canary/accuracy_cost", "", self.accuracy.cost, self.accuracy.ci_low, self.accuracy.ci_high),
            **logged("canary/others_auc_without", "", self.auc.without),
            **logged("canary/others_auc_cost", "", self.auc.cost),
        }


def cost_of(planted: Predictions, without: Predictions, *, audited: NDArray[np.bool_]) -> CanaryCost:
    """What planting canaries cost.

    Args:
        planted: the outputs of the model with canaries for n ordinary records: its members, and records that it was not trained on.
        without: those of the model without canaries, for the same records in the same order.
        audited: (n,) bool, the records of the audit; accuracies are those on all records that neither model was trained on.
    """
    unseen, part = ~planted.member, np.flatnonzero(audited)
    correct = [signals.correctness(one)[unseen] > 0.5 for one in (without, planted)]
    accuracy = compare_accuracy(*correct, groups=None if planted.groups is None else planted.groups[unseen])
    scores = [-signals.loss_nats(one)[part] for one in (planted, without)]
    member = planted.member[part]
    if planted.groups is not None:
        assert planted.labels is not None
        groups = make_groups(planted.groups[part], member, planted.labels[part], pooling="mean")
        scores, member = [groups.pool(one) for one in scores], groups.member
    auc = compare_auc(scores[0], scores[1], member)
    return CanaryCost(
        accuracy=CostRow(
            metric="accuracy", planted=accuracy.value_b, without=accuracy.value_a, cost=accuracy.difference, ci_low=accuracy.ci_low,
            ci_high=accuracy.ci_high,
        ),
        auc=CostRow(
            metric="auc/threshold_loss", planted=auc.value_a, without=auc.value_b, cost=auc.difference, ci_low=auc.ci_low,
            ci_high=auc.ci_high,
        ),
    )  # fmt: skip


def judge_canaries(report: AuditReport, *, one_record: bool = True) -> Judgement | None:
    """The bound of epsilon from the primary attack on canaries, and what it says of a promise; None if the attack was skipped.

    Args:
        report: an audit of canaries.
        one_record: whether a canary is planted once; see `memberscope.plans.canaries.Canaries.tests_one_record`.
    """
    result = report.result(report.primary)
    look = look_of(result, records="canaries", one_record=one_record)
    if look is None or result.one_run is None:
        return None
    return judge_promise([look], coin_flips=True, delta=result.one_run.delta, promise=result.one_run.promise)


def log_canaries(report: AuditReport, tracker: Tracker, *, step: int = 0, cost: CanaryCost | None = None) -> None:
    """Log the audit of canaries: metrics under ``canary/`` and `artifacts.CANARIES`; and what they cost, as `artifacts.CANARY_COST`.

    Nothing is logged of a single canary: neither its scores, nor whether it was planted.
    """
    import pandas as pd

    tracker.metrics(canary_metrics(report), step=step)
    tracker.table(report.to_frame(), artifacts.CANARIES)
    if cost is not None:
        tracker.metrics(cost.metrics(), step=step)
        tracker.table(pd.DataFrame([asdict(row) for row in (cost.accuracy, cost.auc)]), artifacts.CANARY_COST)


def log_bounds_of_canaries(report: AuditReport, tracker: Tracker, *, step: int = 0, one_record: bool = True) -> None:
    """Log the bounds of epsilon from canaries only, as `memberscope.audit.promise.log_bounds` does those from records and canaries."""
    judged = judge_canaries(report, one_record=one_record)
    if judged is None:
        return
    log_frame(bounds_frame(rows_of(report, records="canaries", one_record=one_record)), tracker)
    tracker.metrics(metrics_of(judged, judged.attack), step=step)
    if judged.promise is not None:
        tracker.tags({"memberscope.promise": judged.verdict})


def canary_metrics(report: AuditReport) -> dict[str, float]:
    """The metrics of the canaries as they are tracked: ``canary/auc/threshold_loss``, ``canary/auc_ci_low/threshold_loss``, ..."""
    return {f"canary/{name}": value for name, value in report.headlines(rounded=True).items()}


def canary_words(report: AuditReport, *, kind: str, copies: int = 1, cost: CanaryCost | None = None, bound: bool = True) -> str:
    """A sentence or two on what the canaries showed and cost.

    Args:
        report: their audit.
        kind: their kind.
        copies: how often each was planted.
        cost: what they cost.
        bound: whether to state the bound of epsilon: not if the primary attack was chosen by its scores, since it then is none.
    """
    primary = report.result(report.primary)
    if primary.status != "ok":
        return f"Canaries ({kind}): not audited, {primary.reason}."
    found, judged = primary.figures["auc"], judge_canaries(report, one_record=copies == 1) if bound else None
    number = primary.n_member + primary.n_nonmember
    text = (
        f"Canaries: {primary.n_member} of {number} {kind} canaries were planted; {primary.attack} has an AUC of "
        f"{found.value:.3f} on them"
    )
    if found.ci_low is not None and found.ci_high is not None:
        text += f" (95% interval {found.ci_low:.3f} to {found.ci_high:.3f})"
    if judged is not None and judged.bound is not None:
        of = "epsilon" if copies == 1 else f"the epsilon of {copies} copies of a record together"
        text += f", which bounds {of} from below by {judged.bound:.2f} at delta {judged.delta:.2g}"
    if cost is not None:
        row = cost.accuracy
        text += (
            f". They cost {row.cost:.3f} of accuracy ({row.ci_low:.3f} to {row.ci_high:.3f}): {row.planted:.3f} with them, "
            f"{row.without:.3f} without"
        )
    promised = "" if judged is None or judged.promise is None else f" {words_of(judged)}"
    return f"{text}.{promised}"
