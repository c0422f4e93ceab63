"""What a served model would actually publish: output-side mitigations as pure functions of logits or confidences.

>>> release = parse_release("temperature=2,top=3,digits=2")
>>> release([[2.0, 1.0, 0.0, -1.0]]).probs
array([[0.45, 0.27, 0.16, 0.  ]])
"""

from memberscope.release.apply import apply, release_evidence
from memberscope.release.memguard import Defence, MemGuard, fit_defence
from memberscope.release.pipeline import Published, Release, parse_release
from memberscope.release.steps import Decimals, Digits, LabelOnly, Step, Temperature, Top

__all__ = [
    "Decimals",
    "Defence",
    "Digits",
    "LabelOnly",
    "MemGuard",
    "Published",
    "Release",
    "Step",
    "Temperature",
    "Top",
    "apply",
    "fit_defence",
    "parse_release",
    "release_evidence",
]
