"""The controls of an audit as values: do they confirm that the primary attack found membership, and nothing else?

`memberscope.metrics.null_control` permutes membership on fixed scores, `memberscope.audit.null` refits the attack, and
`memberscope.audit.blind` tells members from non-members without the model. Other steps base their decisions on these values; the sentences
are for people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from memberscope import metrics
from memberscope.attacks import registry
from memberscope.attacks.base import Attack, Skip
from memberscope.audit.blind import BlindControl, blind_control
from memberscope.audit.null import DRAWS, refitted_nulls
from memberscope.audit.report import AuditReport
from memberscope.evidence import Evidence
from memberscope.metrics import Estimate
from memberscope.metrics.rounding import logged
from memberscope.progress import Progress, Waiting


@dataclass(frozen=True, kw_only=True)
class Null:
    """The null control of the primary attack on fixed scores.

    Attributes:
        attack: the attack whose scores were used.
        auc: the mean AUC under permuted membership; its interval holds 95% of the draws.
        p_value: the p-value of the attack's own AUC.
    """

    attack: str
    auc: Estimate
    p_value: Estimate

    @property
    def sentence(self) -> str:
        """The finding in plain words."""
        auc = self.auc
        return (
            f"null control of {self.attack} ({auc.reason}): AUC {auc.value:.3f}, 95% between {auc.ci_low:.3f} and "
            f"{auc.ci_high:.3f}; p {self.p_value.value:.3g}."
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Controls:
    """The controls that were run.

    Attributes:
        null: the null control on fixed scores; None where no attack ran or the audit has none.
        blind: the control without the model; None where it was not requested.
        refits: attack -> its null control with refitting, for the attacks that were refitted.
    """

    null: Null | None = None
    blind: BlindControl | None = None
    refits: Mapping[str, metrics.NullControl] = field(default_factory=dict)

    def sentences(self) -> dict[str, str]:
        """A sentence on each control that was run, by name."""
        found: dict[str, str] = {}
        if self.null is not None:
            found["null"] = self.null.sentence
        if self.blind is not None:
            found["blind"] = f"Blind control: {self.blind.sentence}."
        for attack, refit in self.refits.items():
            chance = f"mean AUC {refit.mean_auc:.3f}; p {refit.p_value:.3g}"
            found[f"refit_{attack}"] = f"{attack} refitted on {len(refit.draws)} permutations: {chance}."
        return found

    def metrics(self) -> dict[str, float]:
        """Metric names as a run shows them -> values: ``control/null_auc``, ``control/blind_auc`` and their intervals, and p-values,
        rounded to what the intervals support.
        """
        found: dict[str, float] = {}
        if self.null is not None:
            found |= _logged("control/null_auc", self.null.auc) | logged("control/null_p_value", "", self.null.p_value.value)
        if self.blind is not None:
            found |= _logged("control/blind_auc", self.blind.auc)
        for attack, refit in self.refits.items():
            found |= logged("control/refit_auc", attack, refit.mean_auc) | logged(
                "control/refit_p_value", attack, refit.p_value
            )
        return found

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """By name: the ``text`` of each control and the values that decisions read, for `memberscope.audit.artifacts.CONTROLS`."""
        kept: dict[str, dict[str, Any]] = {name: {"text": text} for name, text in self.sentences().items()}
        if self.null is not None:
            kept["null"] |= {"attack": self.null.attack, **_plain(self.null.auc), "p_value": self.null.p_value.value}
        if self.blind is not None:
            kept["blind"] |= {
                "status": self.blind.status, "on": self.blind.on, "differs": self.blind.differs, **_plain(self.blind.auc),
            }  # fmt: skip
        for attack, refit in self.refits.items():
            kept[f"refit_{attack}"] |= {"auc": refit.mean_auc, "p_value": refit.p_value, "draws": len(refit.draws)}
        return kept


def null_of(report: AuditReport) -> Null | None:
    """The null control of a report's primary attack, which the audit made with its metrics; None without one."""
    first = report.headline
    if first is None or "null_auc" not in first.figures:
        return None
    return Null(attack=first.attack, auc=first.figures["null_auc"], p_value=first.figures["null_p_value"])


def run_controls(
    report: AuditReport,
    evidence: Evidence,
    *,
    attacks: Iterable[str],
    seed: int,
    refit: bool = False,
    check: Callable[[], None] = lambda: None,
) -> Controls:
    """Run the controls of an audit.

    Args:
        report: the audit's report.
        evidence: the distinct records that were audited.
        attacks: names of the attacks that ran; the trained ones among them are refitted with `refit`.
        seed: the seed of the controls' draws.
        refit: whether to refit trained attacks with membership permuted, 20 times each.
        check: called between controls and before each refit, then possibly in another thread; an exception that it raises ends the
            controls.
    """
    if report.headline is None:
        return Controls()
    check()
    with Waiting("audit: blind control"):
        blind = blind_control(evidence.target, seed=seed)
    check()
    trained = [attack for attack in registry.resolve(attacks) if attack.family == "trained"] if refit else []
    return Controls(null=null_of(report), blind=blind, refits=_refits(report, evidence, trained, seed=seed, check=check))


def _refits(
    report: AuditReport, evidence: Evidence, attacks: Sequence[Attack], *, seed: int, check: Callable[[], None]
) -> dict[str, metrics.NullControl]:
    """The null controls with refitting of the attacks that can run, with their progress."""
    if not attacks:
        return {}
    same = evidence.target is report.target and (report.engine, report.seed) == ("fast", seed)
    pooling = "mean" if report.groups is None else report.groups.pooling
    made = list[str]()
    with Progress(len(attacks) * DRAWS, "audit: refits", unit="refit", alive=True) as progress:

        def before(name: str) -> None:
            progress.advance(0, note=name)
            check()

        def after(name: str) -> None:
            made.append(name)
            progress.advance()

        found = refitted_nulls(
            evidence, attacks, seed=seed, draws=DRAWS, group_scores=pooling, observed=report.whole_scores if same else {},
            before=before, after=after,
        )  # fmt: skip
        progress.advance(len(attacks) * DRAWS - len(made))  # of attacks that could not run
    return {name: control for name, control in found.items() if not isinstance(control, Skip)}


def _plain(auc: Estimate) -> dict[str, float | None]:
    return {} if auc.status == "skipped" else {"auc": auc.value, "ci_low": auc.ci_low, "ci_high": auc.ci_high}


def _logged(name: str, auc: Estimate) -> dict[str, float]:
    return {} if auc.status == "skipped" else logged(name, "", auc.value, auc.ci_low, auc.ci_high)
