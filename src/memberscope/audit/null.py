"""The null control with refitting: what does an attack find, fitted from scratch, where membership means nothing?

It detects what `memberscope.metrics.null_control`, which permutes membership on fixed scores, cannot: an attack that scores the records
that it was trained on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from memberscope import metrics, seeds
from memberscope.attacks.base import Attack, Skip
from memberscope.attacks.crossfit import LEAST_FOR_THREADS
from memberscope.attacks.features import extract
from memberscope.attacks.folds import canonical_order
from memberscope.attacks.trained import for_refits
from memberscope.audit.blind import check_workers
from memberscope.audit.groups import Groups, make_groups
from memberscope.checks import BoolArray, FloatArray
from memberscope.cores import cores, in_threads, one_blas_thread
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.metrics.area import auc_value
from memberscope.metrics.curve import rank
from memberscope.predictions import Predictions
from memberscope.unlogged import unlogged

DRAWS = 20
_MOST_SIDE_BY_SIDE = 8  # each needs memory for features and models of its own; further threads fit its folds


def refitted_null(
    evidence: Evidence,
    attack: Attack,
    *,
    seed: int,
    draws: int = DRAWS,
    workers: int | None = None,
    group_scores: str = "mean",
) -> metrics.NullControl | Skip:
    """The null control of one attack: see `refitted_nulls`."""
    (found,) = refitted_nulls(evidence, [attack], seed=seed, draws=draws, workers=workers, group_scores=group_scores).values()
    return found


@unlogged()
def refitted_nulls(
    evidence: Evidence,
    attacks: Sequence[Attack],
    *,
    seed: int,
    draws: int = DRAWS,
    workers: int | None = None,
    group_scores: str = "mean",
    observed: Mapping[str, FloatArray] = MappingProxyType({}),
    before: Callable[[str], None] = lambda name: None,
    after: Callable[[str], None] = lambda name: None,
) -> dict[str, metrics.NullControl | Skip]:
    """Refit attacks `draws` times with the target's membership permuted within each class; all attacks see the same permutations.

    Records that share an id stay together: the permutation moves the membership of whole sets of the same size and classes. Where the
    target has `groups`, whole groups swap membership with others of the same most frequent class, whatever their sizes, and the AUC is that
    of groups. The attacks get a new seed in each draw. The membership of shadows and everything else in the evidence stay as they are.

    Args:
        evidence: the evidence as the attacks get it; it is not changed.
        attacks: attacks of different names, of the registry or any others.
        seed: the seed of permutations and refits. The observed AUC is that of `attack.score(evidence, seed=seed)`.
        draws: the number of draws, at least 1; the smallest p-value is 1 / (1 + `draws`).
        workers: the number of threads; None for all cores that this process may use. The figures do not depend on it.
        group_scores: as in `memberscope.run_audit`.
        observed: attack -> (n,) the scores of `attack.score(evidence, seed=seed)`, where they are known; it is not checked that they are.
        before: called with an attack's name before each refit, by one thread at a time, not always the caller's; an exception that it
            raises ends the control.
        after: called with an attack's name after each refit, possibly by several threads at once.

    Returns:
        attack -> the observed AUC, the mean of the draws (0.5 where the attack is sound; a little under it at a few hundred records,
        see `memberscope.attacks.crossfit`), the draws (draws,) and the one-sided p-value (1 + draws at least as high) / (1 + draws). A
        `Skip` where an attack cannot run.

    Raises:
        UserError: `draws` or `workers` below 1.
    """
    if draws < 1:
        raise UserError(f"draws: {draws}; allowed: 1 or more")
    check_workers(workers)
    target = evidence.target
    found: dict[str, metrics.NullControl | Skip] = {}
    values: dict[str, float] = {}
    for attack in attacks:
        scores = observed.get(attack.name)
        if scores is None:
            scored = attack.score(evidence, seed=seed, workers=workers)
            if isinstance(scored, Skip):
                found[attack.name] = scored
                continue
            scores = scored.scores
        values[attack.name] = _auc(scores, target.member, target, group_scores)
    able = [attack for attack in attacks if attack.name in values]
    drawn = _draw(
        evidence, able, seed=seed, draws=draws, threads=workers or cores(), group_scores=group_scores, before=before, after=after
    )  # fmt: skip
    for name, value in values.items():
        aucs = drawn[name]
        if isinstance(aucs, Skip):
            found[name] = aucs
            continue
        p_value = float((1 + np.count_nonzero(aucs >= value - 1e-12)) / (1 + draws))
        found[name] = metrics.NullControl(auc=value, mean_auc=float(aucs.mean()), draws=aucs, p_value=p_value)
    return {attack.name: found[attack.name] for attack in attacks}


def _draw(
    evidence: Evidence, attacks: Sequence[Attack], *, seed: int, draws: int, threads: int, group_scores: str,
    before: Callable[[str], None], after: Callable[[str], None],
) -> dict[str, FloatArray | Skip]:  # fmt: skip
    """The AUCs (draws,) of each attack under permuted membership; with many records, several draws are made side by side.

    A draw refits all attacks, one after another. Draws side by side begin at different attacks, so that those that hold the interpreter's
    lock run beside others: with 60,000 and with 12,000 records, the wall time on two cores was 0.8 times that of two folds side by side.
    """
    target = evidence.target
    groups = None if target.groups is None else make_groups(target.groups, target.member, target.labels, pooling=group_scores)
    blocks = _blocks(target) if groups is None else _group_blocks(groups)
    side_by_side = min(threads, draws, _MOST_SIDE_BY_SIDE) if len(target) >= LEAST_FOR_THREADS else 1
    turn, failed = threading.Lock(), threading.Event()

    def one(draw: int) -> dict[str, float | Skip]:
        rng = seeds.stream(seed, "controls", "refitted", draw)
        drawn = _permuted(target.member if groups is None else groups.member, blocks, rng)
        member = drawn if groups is None else drawn[groups.of]
        changed = replace(evidence, target=target.with_member(member))
        refit_seed = seeds.integer(seed, "controls", "refitted", draw)
        refitted = for_refits(attacks)
        first = draw % side_by_side * len(refitted) // side_by_side
        aucs: dict[str, float | Skip] = {}
        for attack in (*refitted[first:], *refitted[:first]):
            with turn, _set_on_failure(failed):  # before the next thread's turn, so that it begins no refit
                if failed.is_set():
                    break
                before(attack.name)
            result = attack.score(changed, seed=refit_seed, workers=threads // side_by_side)
            aucs[attack.name] = result if isinstance(result, Skip) else _auc(result.scores, member, target, group_scores)
            if not failed.is_set():
                after(attack.name)
        return aucs

    # one limit around all threads: each by itself would end it for the others; Ctrl-C is raised in this thread alone
    with one_blas_thread(), _set_on_failure(failed):
        done = in_threads(_set_on_failure(failed)(one), range(draws if attacks else 0), workers=side_by_side)
    found: dict[str, FloatArray | Skip] = {}
    for attack in attacks:
        each = [aucs[attack.name] for aucs in done]
        skipped = [auc for auc in each if isinstance(auc, Skip)]
        found[attack.name] = skipped[0] if skipped else np.array(each, dtype=np.float64)
    return found


@contextmanager
def _set_on_failure(failed: threading.Event) -> Iterator[None]:
    """Set the event where the block, or the function that it decorates, fails or is interrupted: other threads then end soon."""
    try:
        yield
    except BaseException:
        failed.set()
        raise


def _auc(scores: FloatArray, member: BoolArray, target: Predictions, group_scores: str) -> float:
    if target.groups is None:
        return auc_value(rank(scores, member))
    groups = make_groups(target.groups, member, target.labels, pooling=group_scores)
    return auc_value(rank(groups.pool(scores), groups.member))


def _group_blocks(groups: Groups) -> list[NDArray[np.intp]]:
    """Positions (groups, 1) of the groups of each class, in the order of their names."""
    if groups.labels is None:
        return [np.arange(len(groups))[:, None]]
    return [np.flatnonzero(groups.labels == label)[:, None] for label in np.unique(groups.labels)]


def _blocks(target: Predictions) -> list[NDArray[np.intp]]:
    """Positions (groups, records in a group), one array for each set of classes: rows of one array may swap membership.

    Within a class, the order of the records does not depend on the order in which they came.
    """
    n = len(target)
    order = canonical_order(extract(target).values, target.member, target.labels, target.record_ids)
    labels = np.zeros(n, dtype=np.int64) if target.labels is None else np.unique(target.labels, return_inverse=True)[1]
    group = np.empty(n, dtype=np.intp)
    if target.record_ids is None:
        group[order] = np.arange(n)
    else:
        group = np.unique(target.record_ids, return_inverse=True)[1]
    place = np.empty(n, dtype=np.intp)
    place[order] = np.arange(n)
    ordered = np.lexsort((place, labels, group))
    sizes = np.bincount(group)
    blocks = []
    for size in np.unique(sizes):
        table = ordered[(sizes == size)[group[ordered]]].reshape(-1, size)
        _, kind = np.unique(labels[table], axis=0, return_inverse=True)
        by_kind = np.argsort(kind, kind="stable")
        blocks += np.split(table[by_kind], np.flatnonzero(np.diff(kind[by_kind])) + 1)
    return blocks


def _permuted(member: BoolArray, blocks: list[NDArray[np.intp]], rng: np.random.Generator) -> BoolArray:
    out = member.copy()
    for block in blocks:
        out[block] = member[block[rng.permutation(len(block))]]
    return out
