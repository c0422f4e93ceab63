"""Salem et al.'s second adversary (2019, section IV): one shadow model, of another data set than the target's.

The attacker has no records like the target's, so the shadow learns another task, with other inputs and another number of classes; what is
learned from it, from the three largest posteriors, is used on the target.
"""

from __future__ import annotations

import numpy as np

from memberscope import seeds
from memberscope.audit.run import AuditReport, run_audit
from memberscope.config import ShadowStudyConfig
from memberscope.datasets import LabeledData
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.interrupt import StopFlag
from memberscope.plans.split import Index
from memberscope.predictions import Predictions, ShadowPredictions
from memberscope.studies import setup
from memberscope.training.trainer import Trainer

LEAST = 40  # records: half of them for the shadow to learn, a batch of them at least
ATTACK = "shadow_salem"


def load(config: ShadowStudyConfig, trainer: Trainer) -> LabeledData | None:
    """The other data set, or None where none is asked for.

    Raises:
        UserError: one that there is not, the target's own, one too small, or one whose records the architecture cannot carry.
    """
    if not config.transfer_dataset:
        return None
    if config.transfer_dataset == config.dataset:
        raise UserError(
            f"transfer_dataset={config.transfer_dataset}: the target's own data set; allowed: another one, or nothing"
        )
    data = setup.load_data(config, name=config.transfer_dataset)
    trainer.check(setup.facts_of(data))
    least = max(LEAST, 2 * int(trainer.params.get("batch_size", 1)))
    if len(data) < least:
        raise UserError(
            f"transfer_dataset={config.transfer_dataset}: {len(data)} records; allowed: at least {least} (a batch, and as many again)"
        )
    return data


def audit(target: Predictions, data: LabeledData, trainer: Trainer, config: ShadowStudyConfig, stop: StopFlag) -> AuditReport:
    """Attack the target with one shadow of `trainer` trained on as many records of `data` as the target's members, or on half of them."""
    members = min(int(target.member.sum()), len(data) // 2)
    drawn: Index = seeds.stream(config.seed, "other_data").permutation(len(data))[: 2 * members]
    inside, seen = drawn[:members], np.sort(drawn)
    own = [seeds.integer(config.seed, "other_data", "model")]
    fleet = setup.train_fleet(trainer, data, [inside], own, config, stop, label="other data")
    shadow = ShadowPredictions(logits=fleet.outputs(data.x[seen]), labels=data.y[seen], member=np.isin(seen, inside)[None])
    stop.check()
    return run_audit(Evidence(target=target, shadows=shadow), attacks=(ATTACK,), slices="entire", seed=config.seed)
