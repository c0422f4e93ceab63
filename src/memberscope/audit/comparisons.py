"""Compares two attacks of one audit on the same records: claims from the literature, tested on this one model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memberscope import metrics
from memberscope.audit.report import AuditReport

NEURAL, METRIC = "trained_mlp", "metric_modified_entropy"


def neural_against_metric(report: AuditReport) -> str:
    """Test on this one model whether a neural attack understates the risk, as Song & Mittal claim, with a paired test on the same records.

    With shadow models, the test compares the metric that they used, the balanced accuracy: the metric attack's decisions against the
    perceptron's, whose log-odds come from balanced training parts and decide at 0. Without shadow models there is no metric attack with a
    threshold of its own, and the test compares the AUCs of the loss threshold and the perceptron.
    """
    scores, member = report.counted_scores, report.counted.member
    if NEURAL not in scores:
        return ""
    if METRIC in scores:
        figure, other = "balanced accuracy", METRIC
        difference, low, high, p = compare_decisions(scores[METRIC] >= 0, scores[NEURAL] >= 0, member)
    elif "threshold_loss" in scores:
        figure, other = "AUC", "threshold_loss"
        test = metrics.compare_auc(scores[other], scores[NEURAL], member)
        difference, low, high, p = test.difference, test.ci_low, test.ci_high, test.p_value
    else:
        return ""
    if p > 0.05:
        found = "for this model neither is shown to be stronger"
    elif difference > 0:
        found = "for this model the neural attack understates the risk, as they claim"
    else:
        found = "for this model the neural attack is the stronger one, contrary to their claim"
    note = "" if other == METRIC else " (without shadows, the loss threshold stands for the metric attacks)"
    return (
        f"Song & Mittal: {found}{note}: {figure} `{other}` minus `{NEURAL}` {difference:+.4f} "
        f"(95% {low:+.4f} to {high:+.4f}, p {p:.2g}; paired, of this one model)."
    )


def compare_decisions(
    first: NDArray[np.bool_], second: NDArray[np.bool_], member: NDArray[np.bool_]
) -> tuple[float, float, float, float]:
    """The paired difference of two rules' balanced accuracies on the same records: value, 95% interval, two-sided p.

    Each record's difference in correctness is averaged over members and over non-members; the two means are independent, so the
    variance of their half sum is a quarter of the sum of theirs (normal approximation: needs hundreds of records on each side).

    Args:
        first, second: (n,) whether the rule calls each record a member.
        member: (n,) the truth; both sides must occur.
    """
    from statistics import NormalDist

    gain = (first == member).astype(np.float64) - (second == member)
    sides = [gain[member], gain[~member]]
    difference = sum(float(side.mean()) for side in sides) / 2
    error = float(np.sqrt(sum(side.var(ddof=1) / len(side) for side in sides))) / 2
    normal = NormalDist()
    if error == 0.0:
        return difference, difference, difference, 1.0 if difference == 0 else 0.0
    z = normal.inv_cdf(0.975)
    return difference, difference - z * error, difference + z * error, 2 * (1 - normal.cdf(abs(difference) / error))


def low_fpr_against_symmetric(report: AuditReport) -> str:
    """Compare the attack that is trained for a low false positive rate with the one that weighs both errors equally."""
    results = {result.attack: result for result in report.whole()}
    if not {"trained_lowfpr", NEURAL} <= set(results):
        return ""
    parts = []
    for name in ("trained_lowfpr", NEURAL):
        figure = results[name].figures["partial_auc_fpr_0_01"]
        if figure.status == "skipped" or figure.ci_low is None:
            return ""
        parts.append(f"`{name}` {figure.value:.4f} (95% {figure.ci_low:.4f} to {figure.ci_high:.4f})")
    return f"Partial AUC below FPR 0.01, standardized: {parts[0]} against the symmetric {parts[1]}."
