"""All metrics of attack scores, each with its interval. Higher score = more likely a member. Needs numpy and scipy only."""

from memberscope.metrics import registry
from memberscope.metrics.accusations import lift_at_fpr, ppv_at_fpr
from memberscope.metrics.across_seeds import (
    LEAST_SEEDS,
    SeedDifference,
    Verdict,
    equivalence,
    holm,
    paired_seeds,
    seeds_to_decide,
    verdict,
    verdicts,
)
from memberscope.metrics.area import auc, partial_auc
from memberscope.metrics.bounds import ASSUMPTIONS, BoundMethod, EpsilonBound, clopper_pearson_epsilon, epsilon_bound
from memberscope.metrics.calibration import expected_calibration_error
from memberscope.metrics.curve import Roc, roc_curve
from memberscope.metrics.decision import advantage, advantage_heldout, advantage_tfp, balanced_accuracy, ppv, ppv_max_tfp
from memberscope.metrics.epsilon import (
    Adjacency,
    OneRun,
    epsilon_heuristic,
    epsilon_heuristic_ceiling,
    epsilon_lower_bound,
    one_run_epsilon,
    one_run_p_value,
    plan_one_run,
)
from memberscope.metrics.estimate import Estimate, skipped
from memberscope.metrics.fdp import fdp_one_run_epsilon, fdp_one_run_mu
from memberscope.metrics.figures import figures
from memberscope.metrics.gaussian_dp import gaussian_delta, gaussian_dp_epsilon, gaussian_epsilon, gaussian_mu
from memberscope.metrics.low_fpr import LOW_BUDGET, fp_budget, roc_band, tpr_at_fpr
from memberscope.metrics.null import NullControl, null_control
from memberscope.metrics.paired import Comparison, compare_accuracy, compare_advantage, compare_auc, compare_tpr
from memberscope.metrics.spec import MetricInput, MetricSpec, rate_name
from memberscope.metrics.thresholds import AllThresholds, FixedThreshold, GuessShares, SplitThreshold, ThresholdChoice

__all__ = [
    "ASSUMPTIONS",
    "LEAST_SEEDS",
    "LOW_BUDGET",
    "Adjacency",
    "AllThresholds",
    "BoundMethod",
    "Comparison",
    "EpsilonBound",
    "Estimate",
    "FixedThreshold",
    "GuessShares",
    "MetricInput",
    "MetricSpec",
    "NullControl",
    "OneRun",
    "Roc",
    "SeedDifference",
    "SplitThreshold",
    "ThresholdChoice",
    "Verdict",
    "advantage",
    "advantage_heldout",
    "advantage_tfp",
    "auc",
    "balanced_accuracy",
    "clopper_pearson_epsilon",
    "compare_accuracy",
    "compare_advantage",
    "compare_auc",
    "compare_tpr",
    "epsilon_bound",
    "epsilon_heuristic",
    "epsilon_heuristic_ceiling",
    "epsilon_lower_bound",
    "equivalence",
    "expected_calibration_error",
    "fdp_one_run_epsilon",
    "fdp_one_run_mu",
    "figures",
    "fp_budget",
    "gaussian_delta",
    "gaussian_dp_epsilon",
    "gaussian_epsilon",
    "gaussian_mu",
    "holm",
    "lift_at_fpr",
    "null_control",
    "one_run_epsilon",
    "one_run_p_value",
    "paired_seeds",
    "partial_auc",
    "plan_one_run",
    "ppv",
    "ppv_at_fpr",
    "ppv_max_tfp",
    "rate_name",
    "registry",
    "roc_band",
    "roc_curve",
    "seeds_to_decide",
    "skipped",
    "tpr_at_fpr",
    "verdict",
    "verdicts",
]
