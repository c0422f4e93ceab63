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
# A mitigation is measured by what an attacker *who knows about it* can still find, and by what it costs the users of the model.
# There are two kinds:
#
# - at **release**, one publishes less than the model computes;
# - in **training**, one makes the model memorize less.
#
# The sizes here are small, so that the notebook runs in about a minute. [The results](../docs/results/mitigations.md) have five
# seeds, all mitigations and verdicts.

# %%
# %matplotlib inline
import tempfile

import numpy as np

from memberscope import Predictions, run_audit
from memberscope.config.mitigation import MitigateConfig
from memberscope.interrupt import StopFlag
from memberscope.release import parse_release
from memberscope.release.apply import apply
from memberscope.studies.mitigate import study as mitigate
from memberscope.tracking import MemoryTracker

# %% [markdown]
# ## Publishing less
#
# A release determines which part of the model's outputs is published. Here are the outputs of a confident model for two records,
# published in five ways. The last publishes only the class.

# %%
two = Predictions(
    logits=np.array([[6.0, 2.5, 1.0, -1.0], [0.5, 1.5, 1.0, 0.0]]), labels=np.array([0, 1]), member=np.array([True, False])
)
for release in ("none", "digits=1", "top=2", "temperature=5", "label_only"):
    published = apply(two, parse_release(release))
    print(release, published.predicted if published.probs is None else published.probs.round(4), sep="\n")

# %% [markdown]
# What does an attacker lose? The next cell takes a thousand members and a thousand non-members, with slightly more confident
# outputs for the members, and runs two attacks before and after each release. An attack that cannot run on the published outputs
# has a row with the reason; it is not left out.

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
# A ladder is a series of mitigations on the same data. For each of them, the target and its shadow models are trained or released
# with this mitigation, which is judged by an attack that was chosen before anything ran. One seed illustrates this, but decides
# nothing.

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
# The figure shows accuracy against leakage. No other mitigation is better in both than those on the line. Up and to the left is
# better.

# %%
ladder.artifacts["utility_privacy.png"]

# %%
print(result.answer)

# %% [markdown]
# The full results on this data set show the following. Early stopping was the best choice, since the late epochs learn the noise
# in the labels. Publishing less protected little against an attacker whose shadows publish equally little. DP-SGD protected most, and
# cost a quarter of the accuracy. Label smoothing leaked *more*. The results may differ on another data set, which is why there is
# a command: `memberscope mitigate --dataset cifar10`.
