"""Salem et al.'s second adversary (2019, section IV): one shadow model, trained on another data set than the target.

The attacker has no records like the target's, so the shadow learns another task, with other inputs and another number of classes. The
attack model is fitted on the three largest posteriors of the shadow, and applied to those of the target.
"""

from __future__ import annotations

import numpy as np

from memberscope import seeds
from memberscope.audit.run import AuditReport, run_audit
from memberscope.config.outside import ShadowStudyConfig
from memberscope.datasets import LabeledData
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.interrupt import StopFlag
from memberscope.plans.split import Index
from memberscope.predictions import Predictions, ShadowPredictions
from memberscope.studies import setup
from memberscope.studies.forms import named
from memberscope.training.query import Query
from memberscope.training.trainer import Trainer

LEAST = 40  # fewest records of the other data set, half of which the shadow is trained on
ATTACK = "shadow_salem"


def load(config: ShadowStudyConfig, trainer: Trainer) -> LabeledData | None:
    """The other data set; None if none is requested.

    Raises:
        UserError: a data set that does not exist, is the target's own, is too small, or does not suit the architecture.
    """
    if not config.transfer_dataset:
        return None
    if config.transfer_dataset == config.dataset:
        raise UserError(
            f"transfer_dataset={config.transfer_dataset}: the target's own data set; allowed: another one, or nothing"
        )
    data = setup.load_data(config, name=config.transfer_dataset, option="transfer_dataset")
    trainer.check(setup.facts_of(data))
    batch = trainer.params.get("batch_size") if "epochs" in trainer.capabilities else None
    least = max(LEAST, 2 * batch) if isinstance(batch, int) else LEAST
    if len(data) < least:
        raise UserError(
            f"transfer_dataset={config.transfer_dataset}: {len(data)} records; allowed: at least {least}, so that half of them fill a batch"
        )
    return data


def audit(target: Predictions, data: LabeledData, trainer: Trainer, config: ShadowStudyConfig, stop: StopFlag) -> AuditReport:
    """Attack the target with one shadow, trained on as many records of `data` as the target has members, but at most half of them."""
    members = min(int(target.member.sum()), len(data) // 2)
    drawn: Index = seeds.stream(config.seed, "other_data").permutation(len(data))[: 2 * members]
    inside, seen = drawn[:members], np.sort(drawn)
    own = [seeds.integer(config.seed, "other_data", "model")]
    fleet = setup.train_fleet(trainer, data, [inside], own, config, stop, label="other data", queries=[Query(index=seen)])
    shadow = ShadowPredictions(
        **named(fleet.form, fleet.outputs(data.x[seen])), labels=data.y[seen], member=np.isin(seen, inside)[None]
    )
    stop.check()
    return run_audit(Evidence(target=target, shadows=shadow), attacks=(ATTACK,), slices="entire", seed=config.seed)
