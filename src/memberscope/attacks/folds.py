"""Decides which records train an attack model and which it scores: folds, and training parts that are balanced within each class.

Every record belongs to one fold and is scored by the one attack model that was trained on the other folds; the larger side
is subsampled inside each training part, class by class. (tensorflow_privacy drops the surplus before folding and scores it with the last
model; that gives the two sides of the ROC curve different models. Averaging several models for one side alone would be
worse: it shrinks that side's variance and fakes a signal.)

An attack model must not learn which classes have more members, since the direction of that effect depends on how the split was drawn. Where
members were drawn stratified by class, a class with more members than its share in the training part has fewer in the scored fold: on
outputs that reveal the class and nothing else, attacks that could learn this had AUCs of 0.37 to 0.43 at 200 against 200 records. Where
members were drawn at random, folds stratified by class would have the opposite effect and give 0.53. With as many members as non-members of
each class in the training part, the AUC is 0.5 under either draw, and nobody needs to know which it was. If the two sides really hold the
classes in different shares, it is for the blind control to find that (`memberscope.audit.controls`), not for an attack.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memberscope.checks import Array, BoolArray

Index = NDArray[np.intp]

_LEADING = 3
LEAST_PAIRS = 10
"""This number of pairs of a member and a non-member of the same class is enough for training."""


def canonical_order(content: Array, member: BoolArray, labels: Array | None, record_ids: Array | None) -> Index:
    """Positions of the records in an order that does not depend on the order of the input, (n,).

    They are sorted by record id if there is one, then by content (n, width), label and membership; records equal in all of them are
    interchangeable. Folds are drawn in this order, so permuting the records permutes the scores and nothing else.

    Few records share the leading keys; only these are sorted by all of them.
    """
    keys = [member, *content.T[::-1]]
    keys += [labels] if labels is not None else []
    keys += [record_ids] if record_ids is not None else []
    leading = keys[-_LEADING:]
    order: Index = np.lexsort(leading)
    same = np.ones(max(0, len(order) - 1), dtype=np.bool_)
    for key in leading:
        before, after = key[order[:-1]], key[order[1:]]
        same &= (before == after) | ((before != before) & (after != after))  # NaN are all alike
    if same.any():
        tied = np.flatnonzero(np.r_[False, same] | np.r_[same, False])
        run = np.cumsum(np.r_[True, ~same])[tied]
        order[tied] = order[tied][np.lexsort([*(key[order[tied]] for key in keys[:-_LEADING]), run])]
    return order


def assign(
    order: Index, member: BoolArray, labels: Array | None, record_ids: Array | None, folds: int, rng: np.random.Generator
) -> Index:
    """The fold of each record, (n,) in [0, `folds`).

    Each fold gets the same number of members and of non-members, give or take one, overall and within each class, so that a class has the
    same share of members in every fold. Records that share an id go to one fold, that of the first of them, which may upset the balance by
    as many records.

    Folds that are alike leave `training_part` the most pairs within each class. They also pass a chance imbalance of a class on to the
    training part and the scored fold alike; an attack cannot use it, because training parts are balanced within each class.
    """
    n = len(order)
    if record_ids is None:
        group = np.arange(n)
    else:
        _, first, inverse = np.unique(record_ids[order], return_index=True, return_inverse=True)
        group = np.empty(n, dtype=np.intp)
        group[order] = order[first][inverse]  # each record's group is the position of the group's first record
    heads = order[group[order] == order]
    heads = rng.permutation(heads)
    if labels is not None:
        heads = heads[np.argsort(labels[heads], kind="stable")]
    dealt = np.empty(n, dtype=np.intp)
    ins, outs = heads[member[heads]], heads[~member[heads]]
    dealt[ins] = np.arange(len(ins)) % folds
    dealt[outs] = np.arange(len(outs)) % folds
    # The non-members' last round begins where the members' ends, so that the first folds do not get both remainders.
    over = len(outs) % folds
    dealt[outs[len(outs) - over :]] = (len(ins) + np.arange(over)) % folds
    fold_of: Index = dealt[group]
    return fold_of


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingPart:
    """The records that train one attack model: positions `index` (2 * pairs,), and whether they are balanced within each class."""

    index: Index
    within_class: bool


def training_part(
    order: Index,
    fold_of: Index,
    fold: int,
    member: BoolArray,
    labels: Array | None,
    rng: np.random.Generator,
    *,
    most: int,
) -> TrainingPart:
    """The records that train the model of `fold`: as many members as non-members of each class, from the other folds.

    In each class the larger side is subsampled to the size of the smaller, and at most `most` of the resulting pairs are kept. An attack
    model therefore cannot learn each class's shares of the two sides, which depend on how the split was drawn. Only the overall numbers of
    members and non-members are balanced where labels are unknown, or where balance within classes would leave fewer than `LEAST_PAIRS`
    pairs and fewer than half of those possible without it: the two sides then hardly share a class. (A split stratified by class leaves
    more than half, however small it is.)
    """
    others = rng.permutation(order[fold_of[order] != fold])
    ins, outs = others[member[others]], others[~member[others]]
    pairs, within_class = min(len(ins), len(outs)), False
    if labels is not None:
        matched = _pair(labels, ins, outs)
        within_class = len(matched[0]) >= max(1, min(LEAST_PAIRS, pairs // 2))
        if within_class:
            ins, outs = matched
            pairs = len(ins)
    kept = rng.permutation(pairs)[:most]
    return TrainingPart(index=rng.permutation(np.concatenate([ins[kept], outs[kept]])), within_class=within_class)


def _pair(labels: Array, ins: Index, outs: Index) -> tuple[Index, Index]:
    """Equal numbers of `ins` and `outs` from each class, taken from the start; the two at the same position are of the same class."""
    _, code = np.unique(labels[np.concatenate([ins, outs])], return_inverse=True)
    codes = code[: len(ins)], code[len(ins) :]
    classes = int(code.max()) + 1 if len(code) else 0
    counts = [np.bincount(each, minlength=classes) for each in codes]
    enough = np.minimum(*counts)
    kept = []
    for rows, each, count in zip((ins, outs), codes, counts, strict=True):
        by_class = np.argsort(each, kind="stable")
        place = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
        kept.append(rows[by_class[place < np.repeat(enough, count)]])
    return kept[0], kept[1]
