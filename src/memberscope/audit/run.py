"""Runs an audit: attacks on slices, with the results in one tidy table.

Scores are computed once on all records and then sliced, unless `refit` (or tensorflow_privacy's engine, for its trained attacks) refits an
attack on each slice; each result's notes say which. Metrics come from `memberscope.metrics` with their intervals, whichever engine
computed the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memberscope import metrics, seeds
from memberscope import slices as slicing
from memberscope.attacks import registry
from memberscope.attacks.base import Attack, AttackScores, Skip
from memberscope.audit.declared import Declared
from memberscope.audit.distinct import distinct_records
from memberscope.audit.groups import ROWS, Groups, make_groups, of_rows
from memberscope.audit.headline import AUTO
from memberscope.audit.report import AuditReport, SliceResult
from memberscope.audit.request import AuditRequest, Slices, check_grouped, fields_present, make_request
from memberscope.audit.results import Selected
from memberscope.clock import Clock, Stage
from memberscope.cores import one_blas_thread
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.metrics import Estimate
from memberscope.predictions import Predictions, ShadowPredictions
from memberscope.unlogged import unlogged

if TYPE_CHECKING:
    from memberscope.tfprivacy import Metadata

__all__ = ["AuditReport", "SliceResult", "run_audit"]

MIN_RECORDS = 20  # on each side of a slice; a slice with fewer is skipped, and its row says so
NULL_DRAWS = 200


def check_counts(n_member: int, n_nonmember: int, *, min_records: int, copies: int = 0, grouped: bool = False) -> None:
    """Raise UserError if too few records, or groups, are left to audit after `copies` were left out."""
    if min(n_member, n_nonmember) < min_records:
        without = f" after {copies} copies were left out" if copies else ""
        raise UserError(
            f"predictions: {n_member} {'member groups' if grouped else 'members'} and {n_nonmember} "
            f"{'other groups' if grouped else 'non-members'}{without}; allowed: at least {min_records} on each side"
            f"{' (a group with any member among its records is one of members)' if grouped else ''}"
        )


@unlogged()
@one_blas_thread()
def run_audit(
    target: Predictions | Evidence,
    shadow: ShadowPredictions | Predictions | None = None,
    *,
    attacks: str | Iterable[str] = "all",
    primary: str = AUTO,
    slices: Slices = ("entire",),
    engine: str = "fast",
    request: AuditRequest | None = None,
    seed: int = 0,
    refit: bool = False,
    min_records: int = MIN_RECORDS,
    prior: float | None = None,
    subjects: int | None = None,
    sensitivity: str = "",
    declared: Declared | None = None,
    coin_flips: bool = False,
    delta: float = 1e-5,
    promise: float | None = None,
    workers: int | None = None,
    metadata: Metadata | None = None,
    duplicates: str = "drop",
    group_scores: str = "mean",
    on_attack: Callable[[str], None] = lambda attack: None,
    clock: Clock | None = None,
) -> AuditReport:
    """Run attacks on a model's outputs for members and non-members.

    Args:
        target: predictions, or evidence that holds more than the target's predictions.
        shadow: predictions of shadow models, for the attacks that need them; the predictions of a single model count as one shadow.
        attacks: ``all``, a family, ``tfp``, or names; see `memberscope.attacks.registry.resolve`.
        primary: the primary attack, named beforehand; ``auto`` for the strongest one on one half of the records, reported on the other
            half. See `AuditReport.headline`.
        slices: ``all``, or requests as `memberscope.slices.parse` takes them; a mapping gives families slices of their own.
        engine: ``fast``, or ``tfp`` for tensorflow_privacy's own `run_attacks`.
        request: the four options above and `group_scores`, already resolved by `memberscope.audit.request.make_request`; they are then
            left at their defaults.
        seed: the seed of every random draw; the same seed and inputs give the same report, bit for bit, on one machine.
        refit: whether to refit cross-fitted attacks on each slice, instead of slicing scores that were fitted on all records.
        min_records: the number of records that a slice needs on each side.
        prior: share of members among the candidates that an attacker considers, in (0, 1), if it is declared; without it, `ppv`
            assumes as many members as non-members.
        subjects: the number of people in the training set, if it is declared.
        sensitivity: what membership reveals about a person, if it is declared.
        declared: the three options above in one value; they are then left at their defaults.
        coin_flips: whether membership of every audited record was decided by its own fair coin flip. Only then is `epsilon_lower_bound`
            given, and only for scores that do not depend on the audited records' membership: not for cross-fitted attacks, nor for
            slices by outcome.
        delta: the delta of `epsilon_lower_bound`; where training promised an epsilon, the delta of that promise.
        promise: the epsilon that training promised, if any. `epsilon_lower_bound` then makes enough guesses to be able to exceed it, or
            reports that it cannot with so few records.
        workers: threads; None for all cores that this process may use.
        metadata: the model's true accuracies and losses, for tensorflow_privacy's reports.
        duplicates: the treatment of exact copies of a record on the same side, where ids or inputs reveal them: ``drop`` counts each record
            once, ``keep`` counts every copy, ``refuse`` raises. See `memberscope.audit.distinct`.
        group_scores: where the target has `groups`, how the scores of a group's records become the group's score: ``mean``, ``max`` or
            ``logsumexp``. See `memberscope.audit.groups`.
        on_attack: called with each attack's name before it runs; an exception that it raises ends the audit there.
        clock: collects how long attacks and metrics take, if it is given.

    Returns:
        The report, on distinct records, or on their groups if they have any; its `distinct` says which copies were found. An attack that
        cannot run, or a slice with too few records, is a row with a reason.

    Raises:
        UserError: an unknown attack, slice or engine; a primary attack that is not among those that run, or that needs something that the
            evidence lacks; a request together with options that it holds; fewer than `min_records` distinct members or non-members in all;
            copies under ``duplicates=refuse``; a shadow that was trained on exactly the target's members, or on exactly its other
            records; a prior outside (0, 1), or fewer subjects than members.
    """
    seeds.check(seed)
    evidence = _evidence(target, shadow)
    evidence.check_membership()
    check_grouped(engine if request is None else request.engine, grouped=evidence.target.groups is not None)
    if request is None:
        request = make_request(
            attacks=attacks, primary=primary, slices=slices, engine=engine, group_scores=group_scores, present=fields_present(evidence)
        )  # fmt: skip
    elif (attacks, primary, slices, engine, group_scores) != ("all", AUTO, ("entire",), "fast", "mean"):
        raise UserError(
            "request: given together with attacks, primary, slices, engine or group_scores, which it holds; allowed: one or "
            "the other"
        )
    else:
        request.check_primary(fields_present(evidence))
    if declared is None:
        declared = Declared(prior=prior, subjects=subjects, sensitivity=sensitivity)
    elif (prior, subjects, sensitivity) != (None, None, ""):
        raise UserError(
            "declared: given together with prior, subjects or sensitivity, which it holds; allowed: one or the other"
        )
    clock = Clock() if clock is None else clock
    distinct = distinct_records(evidence, duplicates=duplicates)
    evidence = distinct.evidence
    target = evidence.target
    groups = None
    if target.groups is not None:
        groups = make_groups(target.groups, target.member, target.labels, pooling=request.group_scores)
    members = target.member if groups is None else groups.member
    check_counts(
        int(members.sum()), int((~members).sum()), min_records=min_records, copies=distinct.copies if distinct.dropped else 0,
        grouped=groups is not None,
    )  # fmt: skip
    declared.check_members(int(members.sum()), grouped=groups is not None)
    chosen = [registry.get(name) for name in request.attacks]
    if request.engine == "tfp":
        with clock.stage(Stage.ATTACKS):
            found = _tfp(
                evidence.target, chosen, request.slices, seed=seed, declared=declared, metadata=metadata, on_attack=on_attack,
                clock=clock,
            )  # fmt: skip
        return replace(found, primary=request.primary, distinct=distinct)
    results: list[SliceResult] = []
    scores: dict[str, NDArray[np.float64]] = {}
    sliced: dict[tuple[str, ...], list[slicing.Slice]] = {}
    for attack in chosen:
        on_attack(attack.name)
        wanted = tuple(request.slices[attack.family])
        parts = sliced.setdefault(wanted, sliced.get(wanted) or slicing.parse(wanted, evidence.target))
        with clock.stage(Stage.ATTACKS):
            scored = attack.score(evidence, seed=seed, workers=workers)
        if not isinstance(scored, Skip):
            scores[attack.name] = scored.scores
        with clock.stage(Stage.INTERVALS):
            for part in parts:
                results.append(
                    _fast_result(
                        attack,
                        scored,
                        part,
                        evidence,
                        groups,
                        seed=seed,
                        min_records=min_records,
                        declared=declared,
                        workers=workers,
                        coin_flips=coin_flips,
                        delta=delta,
                        promise=promise,
                        refit=refit and attack.cross_fitted,
                        clock=clock,
                    )
                )
                if groups is not None and part.kind == "entire" and results[-1].status == "ok":
                    results.append(_of_rows(results[-1], scored, evidence, seed=seed, prior=declared.prior))
            results += _worst(attack.name, parts, results, min_records=min_records)
    return AuditReport(
        results=tuple(results), engine=request.engine, seed=seed, target=evidence.target, whole_scores=scores, metadata=metadata,
        primary=request.primary, declared=declared, distinct=distinct, groups=groups,
    )  # fmt: skip


def _evidence(target: Predictions | Evidence, shadow: ShadowPredictions | Predictions | None) -> Evidence:
    if not isinstance(target, Predictions | Evidence):
        raise UserError(
            f"target: {type(target).__name__}; allowed: Predictions(probs=..., labels=..., member=...), or Evidence that holds them"
        )
    if isinstance(shadow, Predictions):
        arrays = {
            name: getattr(shadow, name) for name in ("logits", "probs", "predicted", "loss_nats", "entropy_nats", "member")
        }
        stacked = {name: array[None] for name, array in arrays.items() if array is not None}
        shadow = ShadowPredictions(labels=shadow.labels, record_ids=shadow.record_ids, released=shadow.released, **stacked)
    if isinstance(target, Evidence):
        if shadow is not None:
            raise UserError(
                "shadow: given together with an Evidence; allowed: shadows inside the Evidence, or Predictions with a shadow"
            )
        return target
    return Evidence(target=target, shadows=shadow)


def _fast_result(
    attack: Attack,
    scored: AttackScores | Skip,
    part: slicing.Slice,
    evidence: Evidence,
    groups: Groups | None,
    *,
    seed: int,
    min_records: int,
    declared: Declared,
    workers: int | None,
    coin_flips: bool,
    delta: float,
    promise: float | None,
    refit: bool,
    clock: Clock,
) -> SliceResult:
    """One attack on one slice, in groups if there are any."""
    inside = None if groups is None else groups.part(part.index)
    member = evidence.target.member[part.index] if inside is None else inside.member
    n_member, n_nonmember = int(member.sum()), int((~member).sum())
    blank = SliceResult(
        attack=attack.name, family=attack.family, slice=part.name, ranked=part.ranked, n_member=n_member, n_nonmember=n_nonmember
    )  # fmt: skip
    if isinstance(scored, Skip):
        return replace(blank, status="skipped", reason=scored.reason)
    if min(n_member, n_nonmember) < min_records:
        what = "members and {} non-members" if inside is None else "groups of members and {} other groups"
        few = f"{n_member} {what.format(n_nonmember)}; at least {min_records} of each are needed"
        return replace(blank, status="skipped", reason=few)
    target, notes = evidence.target, list(scored.notes)
    index = None if part.kind == "entire" else part.index
    selected = Selected(scores=scored.scores, member=target.member, labels=target.labels, index=index)
    if refit and part.kind != "entire":
        with clock.stage(Stage.ATTACKS):
            fitted = attack.score(evidence.select(part.index), seed=seed, workers=workers)
        if isinstance(fitted, Skip):
            return replace(blank, status="skipped", reason=fitted.reason)
        here = evidence.target.select(part.index)
        selected, notes = Selected(scores=fitted.scores, member=here.member, labels=here.labels), list(fitted.notes)
    threshold = _threshold(scored)
    if inside is not None:
        selected = Selected(scores=inside.pool(selected.of(selected.scores)), member=inside.member, labels=inside.labels)
        threshold = None if inside.pooling == "logsumexp" else threshold  # not on the scale of records
        notes.append(f"scores of groups: {inside.pooling} over the records of each")
    subjects = declared.subjects if part.kind == "entire" else None
    coins = coin_flips and not attack.cross_fitted and part.kind not in ("correctness", "percentile")
    scores, member = selected.of(selected.scores), selected.of(selected.member)
    figures = metrics.figures(
        scores,
        member,
        labels=None if selected.labels is None else selected.of(selected.labels),
        rng=seeds.stream(seed, "figures", attack.name, part.name),
        prior=declared.prior,
        subjects=subjects,
        threshold=threshold,
        coin_flips=coins,
        delta=delta,
        promise=promise,
        null_draws=NULL_DRAWS if part.kind == "entire" else 0,
    )
    if coin_flips and not coins:
        why = (
            "the attack was fitted on the audited records' membership"
            if attack.cross_fitted
            else "the slice was selected by the model's outcomes"
        )
        for spec in metrics.registry.specs():
            if "coin_flips" in spec.needs:
                figures[spec.name] = metrics.skipped(f"{why}, and so depends on the coin flips")
    if attack.cross_fitted:
        notes.append("attack fitted on this slice" if refit else "attack fitted on all records, scores sliced")
    return replace(
        blank,
        figures=figures,
        selected=selected,
        threshold=threshold,
        prior=declared.prior,
        subjects=subjects,
        one_run=metrics.plan_one_run(len(scores), delta=delta, promise=promise) if coins else None,
        notes=tuple(notes),
    )


def _of_rows(
    of_groups: SliceResult, scored: AttackScores | Skip, evidence: Evidence, *, seed: int, prior: float | None
) -> SliceResult:
    """The figures of single records beside those of their groups."""
    assert not isinstance(scored, Skip), "the groups have figures"
    target = evidence.target
    assert target.groups is not None
    figures = metrics.figures(
        scored.scores, target.member, labels=target.labels, rng=seeds.stream(seed, "figures", of_groups.attack, ROWS), prior=prior,
        threshold=_threshold(scored),
    )  # fmt: skip
    return SliceResult(
        attack=of_groups.attack, family=of_groups.family, slice=ROWS, n_member=target.n_member, n_nonmember=target.n_nonmember,
        figures=of_rows(figures, scored.scores, target.member, target.groups), notes=("single records, whose groups are "
        "correlated",),
    )  # fmt: skip


def _threshold(scored: AttackScores) -> float | None:
    """The lowest score that the attack itself calls a member, so that this threshold reproduces its decisions; None if there is none."""
    if scored.decisions is None:
        return None
    return float(scored.scores[scored.decisions].min(initial=np.inf))


def _worst(
    attack: str, parts: Sequence[slicing.Slice], results: Sequence[SliceResult], *, min_records: int
) -> list[SliceResult]:
    """The ranked slice with the highest AUC, its interval widened for the number of slices that competed (Bonferroni)."""
    ranked = {part.name for part in parts if part.ranked}
    ready = [result for result in results if result.attack == attack and result.slice in ranked and result.selected is not None]
    if len(ready) < 2:
        return []
    worst = max(ready, key=lambda result: result.figures["auc"].value)
    confidence = 1 - 0.05 / len(ready)
    assert worst.scores is not None
    assert worst.member is not None
    figure = metrics.auc(worst.scores, worst.member, confidence=confidence)
    reason = f"{worst.slice}: the highest of {len(ready)} slices; interval widened for their number (Bonferroni)"
    shown = Estimate(value=figure.value, ci_low=figure.ci_low, ci_high=figure.ci_high, status=figure.status, reason=reason)
    return [
        SliceResult(
            attack=attack,
            family=worst.family,
            slice="worst_slice",
            n_member=worst.n_member,
            n_nonmember=worst.n_nonmember,
            figures={"auc": shown},
            notes=(reason,),
        )
    ]


def _tfp(
    target: Predictions,
    chosen: Sequence[Attack],
    slicings: Mapping[str, tuple[str, ...]],
    *,
    seed: int,
    declared: Declared,
    metadata: Metadata | None,
    on_attack: Callable[[str], None],
    clock: Clock,
) -> AuditReport:
    """Run tensorflow_privacy's own attacks: the scores are its, the metrics are ours."""
    from memberscope import tfprivacy

    groups: dict[tuple[str, ...], list[str]] = {}
    results: list[SliceResult] = []
    available = {part.kind for part in slicing.parse("all", target)}
    for attack in chosen:
        if reason := attack.missing(Evidence(target=target)):
            results.append(
                SliceResult(
                    attack=attack.name,
                    family=attack.family,
                    slice="entire",
                    n_member=target.n_member,
                    n_nonmember=target.n_nonmember,
                    status="skipped",
                    reason=reason,
                )
            )
            continue
        groups.setdefault(slicings[attack.family], []).append(attack.name)
    for asked, names in groups.items():
        possible = tuple(name for name in asked if name in available)
        for theirs in tfprivacy.run_attacks(target, names, possible, seed=seed, metadata=metadata, on_attack=on_attack):
            n_member, n_nonmember = len(theirs.scores_member), len(theirs.scores_nonmember)
            scores = np.concatenate([theirs.scores_member, theirs.scores_nonmember])
            member = np.repeat([True, False], [n_member, n_nonmember])
            rng = seeds.stream(seed, "figures", theirs.attack, theirs.slice)
            subjects = declared.subjects if theirs.slice == "entire" else None
            with clock.stage(Stage.INTERVALS):
                figures = metrics.figures(scores, member, rng=rng, prior=declared.prior, subjects=subjects)
            results.append(
                SliceResult(
                    attack=theirs.attack,
                    family=registry.get(theirs.attack).family,
                    slice=theirs.slice,
                    n_member=n_member,
                    n_nonmember=n_nonmember,
                    figures=figures,
                    selected=Selected(scores=scores, member=member),
                    prior=declared.prior,
                    subjects=subjects,
                    notes=("tensorflow_privacy's run_attacks, refitted on each slice",),
                )
            )
    whole: dict[str, NDArray[np.float64]] = {}
    for result in results:
        if result.slice == "entire" and result.scores is not None:
            placed = np.empty(len(target))
            placed[target.member], placed[~target.member] = result.scores[: result.n_member], result.scores[result.n_member :]
            whole[result.attack] = placed
    return AuditReport(
        results=tuple(results), engine="tfp", seed=seed, target=target, whole_scores=whole, metadata=metadata, declared=declared
    )
