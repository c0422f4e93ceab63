"""Who trains and who is scored: stratified folds, and balanced training parts.

Every record belongs to one fold and is scored by the one attack model that was trained on the other folds; the larger side
is subsampled inside each training part. (tensorflow_privacy drops the surplus before folding and scores it with the last
model; that gives the two sides of the ROC curve different models. Averaging several models for one side alone would be
worse: it shrinks that side's variance and fakes a signal.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memberscope.checks import Array, BoolArray

Index = NDArray[np.intp]


def canonical_order(content: Array, member: BoolArray, labels: Array | None, record_ids: Array | None) -> Index:
    """Positions of the records in an order that does not depend on the order they came in, (n,).

    By record id if there is one, then by content (n, width), label and membership; records equal in all of them are
    interchangeable. Folds are drawn in this order, so permuting the records permutes the scores and nothing else.
    """
    keys = [member, *content.T[::-1]]
    keys += [labels] if labels is not None else []
    keys += [record_ids] if record_ids is not None else []
    order: Index = np.lexsort(keys)
    return order


def assign(order: Index, member: BoolArray, record_ids: Array | None, folds: int, rng: np.random.Generator) -> Index:
    """The fold of each record, (n,) in [0, `folds`).

    Each fold gets the same number of members and of non-members, give or take one; records with one id go to one fold (by the
    first of them), which may upset the balance by their number. Folds are not stratified by class within the sides: that would
    hand every chance imbalance of a class between members and non-members to training part and scored fold alike, and the
    attack would find it. With 100 records a side of pure noise it gave logistic regression an AUC of 0.53.
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
    dealt = np.empty(n, dtype=np.intp)
    ins, outs = heads[member[heads]], heads[~member[heads]]
    # Deal from opposite ends, so that the remainders of the two sides do not pile up in the first folds.
    dealt[ins] = np.arange(len(ins)) % folds
    dealt[outs] = folds - 1 - np.arange(len(outs)) % folds
    fold_of: Index = dealt[group]
    return fold_of


def training_part(order: Index, fold_of: Index, fold: int, member: BoolArray, rng: np.random.Generator, *, most: int) -> Index:
    """Positions that train the model of `fold`: all others of the smaller side, at most `most`, and as many of the larger."""
    others = order[fold_of[order] != fold]
    ins, outs = others[member[others]], others[~member[others]]
    size = min(len(ins), len(outs), most)
    ins = ins if len(ins) == size else rng.choice(ins, size, replace=False)
    outs = outs if len(outs) == size else rng.choice(outs, size, replace=False)
    return rng.permutation(np.concatenate([ins, outs]))
