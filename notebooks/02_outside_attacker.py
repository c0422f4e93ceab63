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
# # The attacker outside
#
# Threshold and trained attacks use the target's own members: a measurement from the inside. An attacker outside knows no member.
# What he has is the target's answers, and models that he trains himself to behave like it, on data whose membership he knows
# because he chose it: **shadow models**.
#
# Everything here is small, so that it runs in about a minute. [The results on Location-30](../docs/results/shadow.md) have 64
# shadows.

# %%
# %matplotlib inline
import tempfile

from memberscope.config import ShadowStudyConfig, SynthesizeConfig
from memberscope.interrupt import StopFlag
from memberscope.studies.shadow import study as shadow
from memberscope.studies.synthesize import study as synthesize
from memberscope.tracking import MemoryTracker

models = tempfile.mkdtemp()  # finished models are kept here, so that a cell that runs again trains nothing
SIZE = {"store": models, "workers": 1, "members": 300, "epochs": 30, "width": 64, "depth": 1}

# %% [markdown]
# ## Shadows
#
# All models are trained on half of one pool, in complementary pairs: a record that one model of a pair saw, its twin did not. Any
# model may then play the target. Its twin steps aside, and of the rest, half saw any given record and half did not. Five models
# take their turn as target, so that the intervals below are over targets and not only over the records of one.

# %%
study = MemoryTracker()
result = shadow.run(
    ShadowStudyConfig(
        **SIZE, population=200, shadows=8, targets=5, queries=2, perturbed=4, distill_epochs=2, slices="entire",
        attacks="threshold_loss,metric_modified_entropy,shadow_shokri,lira_online,lira_offline,rmia_online,rmia_offline",
    ),
    study,
    StopFlag(),
)  # fmt: skip
shadows, target = study.children
shadows.artifacts["training.png"]

# %% [markdown]
# One target, every attack that was asked for. `threshold_loss` is the measurement from the inside, for scale. The others are what
# an outsider can do.
#
# - `metric_modified_entropy`: one threshold a class, set on the shadows.
# - `shadow_shokri`: an attack model a class, trained on what the shadows say of their members and of others.
# - `lira_*`, `rmia_*`: compare the target's answer *for this record* with those of models that saw it and of models that did not.
#   An easy record has a low loss everywhere, and only a comparison record by record knows that. *Offline* attacks make do with
#   models that did not.

# %%
target.artifacts["attacks.json"]

# %%
target.artifacts["roc.png"]

# %% [markdown]
# How many shadows does it take? Means over the targets, with their intervals:

# %%
study.artifacts["auc_by_shadows.png"]

# %%
study.artifacts["tpr_at_fpr_0_01_by_shadows.png"]

# %% [markdown]
# And the orderings that the literature reports, tested on these targets. *Undecided* is an answer too: five targets of 300 members,
# and eight shadows, decide only what is large.

# %%
study.artifacts["orderings.csv"][["claim", "figure", "first", "second", "difference", "verdict"]].round(3)

# %% [markdown]
# ## Without any data
#
# Shadows need records like the target's. Who has none can ask the target for some: start from noise, keep what raises its
# confidence in a class, and stop when it is sure (Shokri et al. 2017). Here against a model of four clean digits, beside features
# drawn each for itself from the real records (*marginal*) and records drawn at random (*junk*).

# %%
made = MemoryTracker()
synthesize.run(
    SynthesizeConfig(
        store=models, workers=1, members=180, epochs=60, width=64, depth=1, classes="4", label_noise=0.0,
        method="marginal,junk,hill_climb", records=24, fleets=0,
    ),
    made,
    StopFlag(),
)  # fmt: skip
made.artifacts["hill_climb/records.png"]

# %% [markdown]
# The card says what is known of each set. The target is sure of climbed records (*confidence*) and agrees with their labels, at
# thousands of queries a record; and a classifier tells them from real ones without fail (*c2st* of 1): what makes a model sure need
# not look like anything.

# %%
made.artifacts["cards.csv"]

# %% [markdown]
# What made data are worth shows in the decisions of an attack whose threshold was set on the shadows, not in its AUC. With
# `fleets=5` the study trains shadows on each set and measures that ([results](../docs/results/synthesis.md)): on tables of yes and no
# (Location-30) shadows on climbed records go a third of the way to real data; on these digits they do not get past junk.
# `memberscope shadow --shadow_data hill_climb --design disjoint` runs every attack with shadows on such data.
