"""Several queries for `memberscope.attacks.rmia`: the majority vote over augmented copies of a record, and whether it is taken.

**Whether to vote** is decided on stand-ins (`memberscope.attacks.tuning`), with the temperature and the slope that were chosen for one
query: shadows in the target's place are attacked by the others, once with the vote over all copies and once with the record alone, and
the vote is taken if its mean strength is larger. Neither the target nor its twin nor their labels are read. Where no shadow can stand in
for the target, as with a single pair, the record alone is queried: for models that were trained without such copies the vote costs
strength, and nothing shows which models these are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from memberscope.attacks import calibration, tuning
from memberscope.attacks.calibration import Copies
from memberscope.attacks.rmia_settings import RmiaSettings, log_reference
from memberscope.checks import Array, BoolArray, FloatArray
from memberscope.predictions import Predictions, ShadowPredictions


def vote(ratios: FloatArray) -> FloatArray:
    """The log-ratio that decides a majority vote: the largest value that more than half of a record's copies reach.

    Args:
        ratios: (n, queries) log-ratios of the copies.

    Returns:
        (n,) the (q // 2 + 1)-th largest of each row's q values: the median, or the lower one of the two middle values.
    """
    lower: FloatArray = np.sort(ratios, axis=1)[:, (ratios.shape[1] - 1) // 2]
    return lower


def ratios_of_copies(
    log_target: FloatArray, log_p: FloatArray, member: BoolArray, made: RmiaSettings, *, online: bool
) -> FloatArray:
    """(n, queries) log-ratios of the target's (n, queries) log-probabilities to those of the references.

    Args:
        log_target: the target's, at the temperature of `made`.
        log_p: (n_models, n, queries) those of the reference models.
        member: (n_models, n) bool, whether that model was trained on that record.
        made: the settings.
        online: as in `log_reference`.
    """
    n, queries = log_target.shape
    reference = log_reference(
        log_p.reshape(len(log_p), n * queries),
        np.repeat(member, queries, axis=1),
        online=online,
        a=made.a,
        inverse_a=made.inverse_a,
    )
    ratios: FloatArray = log_target - reference.reshape(n, queries)
    return ratios


def choose_queries(
    made: RmiaSettings, shadows: ShadowPredictions, copies: Copies, places: Array, *, online: bool
) -> RmiaSettings:
    """The settings with the kind of queries that is stronger on stand-ins.

    Args:
        made: the settings that were chosen for one query.
        shadows: the reference models over their pool; never the target.
        copies: outputs of the same models for copies of the target's records.
        places: (n,) positions of the target's records in the pool.
        online: the variant that is tuned.
    """

    def read(predictions: Predictions) -> FloatArray:
        return calibration.log_prob(predictions, made.temperature)

    levels = calibration.of_each(shadows, calibration.scaled_logit, places)
    chosen = tuning.sample(levels)
    member, levels = shadows.member[:, places[chosen]], levels[:, chosen]
    stands = tuning.stand_ins(member, levels)
    if not stands:
        return replace(made, queries=f"the record alone of {copies.queries} queries: no shadow can stand in for the target")
    alone = calibration.of_each(shadows, read, places[chosen])[:, :, None]
    several = copies.select(chosen).of_each(read)

    def attack(log_p: FloatArray, stand: tuning.StandIn) -> FloatArray:
        ours, theirs = log_p[stand.model][stand.records], log_p[stand.references][:, stand.records]
        return vote(ratios_of_copies(ours, theirs, member[stand.references][:, stand.records], made, online=online))

    best, _ = tuning.best((alone, several), stands, attack)
    voted = best is several
    kind = "a majority vote over" if voted else "the record alone of"
    return replace(made, vote=voted, queries=f"{kind} {copies.queries} queries (chosen on {len(stands)} shadows)")
