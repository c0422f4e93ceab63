# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What helps, and what it costs
#
# A mitigation is measured by what is left to an attacker *who knows of it*, and by what it costs the users of the model. Two kinds:
#
# - at **release**: publish less than the model computes;
# - in **training**: have less to publish.
#
# Small sizes, about a minute. [The results](../docs/results/mitigations.md) have five seeds, all rungs and verdicts.

# %%
# %matplotlib inline
import tempfile

import numpy as np

from memberscope import Predictions, run_audit
from memberscope.config import MitigateConfig
from memberscope.interrupt import StopFlag
from memberscope.release import parse_release
from memberscope.release.apply import apply
from memberscope.studies.mitigate import study as mitigate
from memberscope.tracking import MemoryTracker

# %% [markdown]
# ## Publishing less
#
# A release stands between a model and the world. Here are two records of a sure model, published in five ways. The last publishes
# the class alone.

# %%
two = Predictions(
    logits=np.array([[6.0, 2.5, 1.0, -1.0], [0.5, 1.5, 1.0, 0.0]]), labels=np.array([0, 1]), member=np.array([True, False])
)
for release in ("none", "digits=1", "top=2", "temperature=5", "label_only"):
    published = apply(two, parse_release(release))
    print(release, published.predicted if published.probs is None else published.probs.round(4), sep="\n")

# %% [markdown]
# What does an attacker lose? Take a thousand members and a thousand others, the members a little surer, and look at two attacks
# before and after. An attack that cannot run on what is published is a row with its reason, not a missing row.

# %%
rng = np.random.default_rng(0)
labels, member = rng.integers(0, 4, 2000), np.arange(2000) < 1000
logits = rng.normal(size=(2000, 4))
logits[np.arange(2000), labels] += np.where(member, 3.5, 2.0)
served = Predictions(logits=logits, labels=labels, member=member)
for release in ("none", "digits=1", "label_only"):
    report = run_audit(apply(served, parse_release(release)), attacks="threshold_loss,trained_lr", slices="entire")
    frame = report.to_frame()
    print(f"\n{release}")
    print(
        frame[frame["metric"] == "auc"][["attack", "value", "ci_low", "ci_high", "status", "reason"]]
        .round(3)
        .to_string(index=False)
    )

# %% [markdown]
# ## A ladder
#
# Each rung is trained or released in its way, its shadow models too, and each is judged by an attack that was named before anything
# ran. One seed shows the picture and decides nothing.

# %%
ladder = MemoryTracker()
result = mitigate.run(
    MitigateConfig(
        store=tempfile.mkdtemp(), workers=1, members=200, shadows=4, seeds=1, epochs=30, width=64, depth=1, perturbed=4,
        mitigations="digits,label_only,early_stopping,label_smoothing,dp", private_batch_size=50, private_epochs=3, target_epsilon=4,
    ),
    ladder,
    StopFlag(),
)  # fmt: skip
ladder.artifacts["ladder.csv"][["rung", "primary", "train/accuracy", "val/accuracy", "auc", "tpr_at_fpr_0_01"]]

# %% [markdown]
# Accuracy against leakage; rungs on the line are those that none beats in both. Up and to the left is better.

# %%
ladder.artifacts["utility_privacy.png"]

# %%
print(result.answer)

# %% [markdown]
# What to take from the full results on this data set: stopping early was the best bargain, since what the late epochs learn is the
# noise in the labels; publishing less protected little against an attacker with shadows that publish as little; DP-SGD protected
# most, and took a quarter of the accuracy; label smoothing leaked *more*. Another data set may differ, which is why this is a
# command: `memberscope mitigate --dataset cifar10`.
