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
# Threshold and trained attacks use the target's own members: they are a measurement by the model's owner. An outside attacker
# does not know any member. Such an attacker has the target's outputs, and can train models that behave like the target on data
# whose membership is known, because the attacker chose it. These are **shadow models**.
#
# Everything here is small, so that it runs in about a minute. [The results on Location-30](../docs/results/shadow.md) have 64
# shadows.

# %%
# %matplotlib inline
import tempfile

from memberscope.config.outside import ShadowStudyConfig, SynthesizeConfig
from memberscope.interrupt import StopFlag
from memberscope.studies.shadow import study as shadow
from memberscope.studies.synthesize import study as synthesize
from memberscope.tracking import MemoryTracker

models = tempfile.mkdtemp()  # finished models are kept here, so that a cell that runs again trains nothing
SIZE = {"store": models, "workers": 1, "members": 300, "epochs": 30, "width": 64, "depth": 1}

# %% [markdown]
# ## Shadows
#
# All models are trained on half of one pool, in complementary pairs: each record is in the training set of exactly one model of a
# pair. Any model can then be the target. Its twin is left out, and of the remaining models half were trained on any given record
# and half were not. Five models are the target in turn, so that the intervals below are over targets and not only over the
# records of one target.

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
# The table shows all requested attacks on one target. `threshold_loss` is the owner's measurement, for comparison. The others can
# be carried out by an outsider.
#
# - `metric_modified_entropy` has one threshold for each class, which is set on the shadows.
# - `shadow_shokri` has an attack model for each class, which is trained on the shadows' outputs for their members and for other
#   records.
# - `lira_*` and `rmia_*` compare the target's output *for a record* with the outputs of models that were trained on this record
#   and of models that were not. An easy record has a low loss under every model, and only a comparison record by record can take
#   this into account. *Offline* attacks use only models that were not trained on the record.

# %%
target.artifacts["attacks.json"]

# %%
target.artifacts["roc.png"]

# %% [markdown]
# How many shadows does an attack need? The figures show means over the targets, with their intervals:

# %%
study.artifacts["auc_by_shadows.png"]

# %%
study.artifacts["tpr_at_fpr_0_01_by_shadows.png"]

# %% [markdown]
# The literature reports which attacks are stronger than others. The table tests these claims on the five targets. *Undecided* is
# a valid answer: with five targets of 300 members and eight shadows, only large differences can be shown.

# %%
study.artifacts["orderings.csv"][["claim", "figure", "first", "second", "difference", "verdict"]].round(3)

# %% [markdown]
# ## Without any data
#
# Shadow models need records like the target's. An attacker who has none can generate some by querying the target: start from
# noise, keep each change that raises the target's confidence in a class, and stop when it is high (Shokri et al. 2017). Here the
# target is a model of four digits with clean labels. For comparison, there are records whose features are drawn independently
# from the real records (*marginal*) and records drawn at random (*junk*).

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
# The card describes each set. The target has a high *confidence* on climbed records and agrees with their labels, after thousands
# of queries for each record. But a classifier distinguishes them from real records without error (a *c2st* of 1): a record on
# which a model is confident need not look like a real one.

# %%
made.artifacts["cards.csv"]

# %% [markdown]
# The value of generated data shows in the decisions of an attack whose threshold was set on the shadows, not in its AUC. With
# `fleets=5` the study trains shadows on each set and measures this ([results](../docs/results/synthesis.md)). On a table of
# binary features (Location-30), shadows trained on climbed records cover a third of the distance from junk to real data; on these
# digits they are no better than junk. `memberscope shadow --shadow_data hill_climb --design disjoint` runs every attack with
# shadows that are trained on such data.
