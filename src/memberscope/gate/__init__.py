"""The gate: may this model ship? It judges rules by the confidence intervals of an audit report.

>>> rules = parse_rules("trained_mlp.entire.auc > 0.55; any.entire.tpr_at_fpr_0_001 > 0.01")
>>> [str(rule) for rule in rules]
['trained_mlp.entire.auc > 0.55', 'any.entire.tpr_at_fpr_0_001 > 0.01']
"""

from memberscope.gate.judge import ALPHA, UNDECIDED, GateResult, JudgedRow, judge
from memberscope.gate.rules import ANY, Rule, parse_rules

__all__ = ["ALPHA", "ANY", "UNDECIDED", "GateResult", "JudgedRow", "Rule", "judge", "parse_rules"]
