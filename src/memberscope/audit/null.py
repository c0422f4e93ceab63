"""The null control with refitting: what does an attack find, fitted from scratch, where membership means nothing?

It detects what `memberscope.metrics.null_control`, which permutes membership on fixed scores, cannot: an attack that scores the records
that it was trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from memberscope import metrics, seeds
from memberscope.attacks.base import Attack, Skip
from memberscope.attacks.features import extract
from memberscope.attacks.folds import canonical_order
from memberscope.attacks.trained import for_refits
from memberscope.audit.blind import check_workers
from memberscope.audit.groups import Groups, make_groups
from memberscope.checks import BoolArray, FloatArray
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.metrics.area import auc_value
from memberscope.metrics.curve import rank
from memberscope.predictions import Predictions
from memberscope.unlogged import unlogged

DRAWS = 20


@unlogged()
def refitted_null(
    evidence: Evidence,
    attack: Attack,
    *,
    seed: int,
    draws: int = DRAWS,
    workers: int | None = None,
    group_scores: str = "mean",
    observed: FloatArray | None = None,
    refitted: Attack | None = None,
    check: Callable[[], None] = lambda: None,
) -> metrics.NullControl | Skip:
    """Refit an attack `draws` times with the target's membership permuted within each class.

    Records that share an id stay together: the permutation moves the membership of whole sets of the same size and classes. Where the
    target has `groups`, whole groups swap membership with others of the same most frequent class, whatever their sizes, and the AUC is that
    of groups. The attack gets a new seed in each draw. The membership of shadows and everything else in the evidence stay as they are.

    Args:
        evidence: the evidence as the attack gets it; it is not changed.
        attack: an attack, of the registry or any other.
        seed: the seed of permutations and refits. The observed AUC is that of `attack.score(evidence, seed=seed)`.
        draws: the number of draws, at least 1; the smallest p-value is 1 / (1 + `draws`).
        workers: the number of threads of each refit; None for all cores that this process may use.
        group_scores: as in `memberscope.run_audit`.
        observed: (n,) the scores of `attack.score(evidence, seed=seed)`, if they are known; it is not checked that they are. None to
            compute them.
        refitted: the attack as it is refitted, one of several that `memberscope.attacks.trained.for_refits` returned together; None for
            the attack alone.
        check: called before each draw; an exception that it raises ends the control.

    Returns:
        The observed AUC, the mean of the draws (0.5 where the attack is sound; a little under it at a few hundred records,
        see `memberscope.attacks.crossfit`), the draws (draws,) and the one-sided p-value (1 + draws at least as high) / (1 + draws). A
        `Skip` if the attack cannot run.

    Raises:
        UserError: `draws` or `workers` below 1.
    """
    if draws < 1:
        raise UserError(f"draws: {draws}; allowed: 1 or more")
    check_workers(workers)
    if observed is None:
        scored = attack.score(evidence, seed=seed, workers=workers)
        if isinstance(scored, Skip):
            return scored
        observed = scored.scores
    refitted = refitted or for_refits([attack])[0]
    target = evidence.target
    groups = None if target.groups is None else make_groups(target.groups, target.member, target.labels, pooling=group_scores)
    blocks = _blocks(target) if groups is None else _group_blocks(groups)
    aucs = np.empty(draws)
    for draw in range(draws):
        check()
        rng = seeds.stream(seed, "controls", "refitted", draw)
        drawn = _permuted(target.member if groups is None else groups.member, blocks, rng)
        member = drawn if groups is None else drawn[groups.of]
        changed = replace(evidence, target=target.with_member(member))
        result = refitted.score(changed, seed=seeds.integer(seed, "controls", "refitted", draw), workers=workers)
        if isinstance(result, Skip):
            return result
        aucs[draw] = _auc(result.scores, member, target, group_scores)
    value = _auc(observed, target.member, target, group_scores)
    p_value = float((1 + np.count_nonzero(aucs >= value - 1e-12)) / (1 + draws))
    return metrics.NullControl(auc=value, mean_auc=float(aucs.mean()), draws=aucs, p_value=p_value)


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
