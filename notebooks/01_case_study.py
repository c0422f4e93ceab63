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
# # The case study, step by step
#
# A companion to D. Moreno, *Membership Inference Attack: Primer & Case Study* (2023): from what a model has seen, over overfitting,
# to attacks and the three experiments. It runs in about a minute on handwritten digits that come with scikit-learn. For findings,
# use real data: [the results on CIFAR-10](../docs/results/case_study.md).

# %%
# %matplotlib inline
import numpy as np
import pandas as pd

from memberscope import Predictions, plots, run_audit
from memberscope.config import CaseStudyConfig, TrainStudyConfig
from memberscope.datasets import load_dataset
from memberscope.interrupt import StopFlag
from memberscope.models import build_model
from memberscope.studies import case_study, train
from memberscope.tracking import MemoryTracker
from memberscope.training.keras.fit import fit, predictor, to_tensor

digits = load_dataset("digits")
plots.sample_figure(digits.x[:25], [digits.class_names[label] for label in digits.y[:25]], title="digits")

# %% [markdown]
# ## A model knows what it has seen
#
# The primer's first example is a model that tells cats from dogs and was only ever shown large dogs. Ours tells two groups of
# digits apart. "Cats" are the digits 0 and 2, all of them. "Dogs" are 1 and 4, but training has only the 1s: they are the large
# breeds, the 4s the small ones.

# %%
CAT, LARGE, SMALL = (0, 2), 1, 4
pets = np.flatnonzero(np.isin(digits.y, (*CAT, LARGE, SMALL)))
is_dog = np.isin(digits.y, (LARGE, SMALL)).astype(np.int64)
seen = pets[(digits.y[pets] != SMALL) & (np.arange(len(pets)) % 2 == 0)]  # every other cat and large dog
x = to_tensor(digits.x)
model = build_model("dense", depth=2, input_shape=digits.shape, classes=2, seed=0)
fit(
    model, x, is_dog, seen, scale=digits.scale, epochs=10, batch_size=50, learning_rate=0.001, seed=0,
    after_epoch=lambda epoch: None, between_steps=lambda steps: None,
)  # fmt: skip
ask = predictor(model, x, scale=digits.scale)  # logits by index

kinds = {
    "cats and large dogs it was shown": seen,
    "cats it was not shown": np.setdiff1d(pets[is_dog[pets] == 0], seen),
    "large dogs it was not shown": np.setdiff1d(pets[digits.y[pets] == LARGE], seen),
    "small dogs, a kind it was never shown": pets[digits.y[pets] == SMALL],
}
right = {kind: ask(index).argmax(axis=1) == is_dog[index] for kind, index in kinds.items()}
pd.DataFrame(
    {
        "records": {kind: len(hits) for kind, hits in right.items()},
        "accuracy": {kind: hits.mean() for kind, hits in right.items()},
    }
).round(3)

# %% [markdown]
# New cats and new large dogs are no trouble. Of the small dogs many are called cats: the mapping from image to class was learned on
# what was there. Whatever else a model is, it is a trace of its training data. The question of this project is whether the trace
# goes down to single records.
#
# ## Overfitting
#
# Go on showing a model the same records, and it gets better at *those records*. The embedded data set makes this visible with
# little data: a fifth of its labels, on every side, are replaced at random. A replaced label cannot be predicted from the image. A
# model that gets it right has memorized the record.

# %%
run = MemoryTracker()
result = train.run(
    TrainStudyConfig(
        model="dense", depth=3, epochs=40, members=500, nonmembers=500, validation=200, attacks="tfp", slices="entire,class"
    ),
    run,
    StopFlag(),
)
history = run.artifacts["history.csv"].assign(model="dense, depth 3", seed=0)
plots.training_figure(history, title="Train and validation: they part where memorization begins")

# %% [markdown]
# Training accuracy rises past what the honest labels allow; validation accuracy stops, and validation loss turns up. The membership
# attack below sees the same thing. It is the simplest there is: *a low loss means a member*.

# %%
plots.leakage_figure(history, title="The loss threshold, epoch by epoch")

# %% [markdown]
# ## Attacks
#
# A membership inference attack gives each record a score: higher, more likely a member. Six attacks of TensorFlow Privacy are what
# the case study ran.
#
# - Two **threshold** attacks rank records by loss, or by the entropy of the prediction.
# - Four **trained** attacks (logistic regression, perceptron, random forest, nearest neighbours) learn to tell members from
#   non-members by the model's outputs. The case study calls these four shadow models; they are not: they learn from the target's
#   *own* members, which only the owner of the model knows. They measure; they are not what an outsider could do. [The second
#   notebook](02_outside_attacker.py) is about outsiders.
#
# Figures of different attacks answer different questions and are not compared with each other: see [reading the
# figures](../docs/reading_the_figures.md).

# %%
run.artifacts["attacks.json"]

# %%
run.artifacts["roc.png"]

# %% [markdown]
# The left picture is what an AUC averages over. The right one, on logarithmic axes, is what an accused person would ask about: how
# many members are found while almost no one is accused wrongly? In one sentence:

# %%
print(result.answer)

# %% [markdown]
# Nothing above needs to train a model here. What any model said of members and non-members is enough, from any framework:

# %%
rng = np.random.default_rng(0)
labels, member = rng.integers(0, 10, 2000), np.arange(2000) < 1000
logits = rng.normal(size=(2000, 10))
logits[np.arange(2000), labels] += np.where(member, 3.0, 2.0)  # members get one nat more for their label
report = run_audit(Predictions(logits=logits, labels=labels, member=member), attacks="threshold", slices="entire")
frame = report.to_frame()
frame[frame["metric"].isin(["auc", "advantage_heldout", "tpr_at_fpr_0_01"])]

# %% [markdown]
# ## The three experiments
#
# 1. **Architecture**: a conv model against a dense one of the same depth. Expected: conv memorizes more. Seen in the case study: as
#    expected.
# 2. **Depth**: dense of depth 6 against 3. Expected: the deeper memorizes more. Seen: inconclusive.
# 3. **Classes**: ten classes against the first four. Expected: more classes leak more. Seen: the contrary; but the four-class data
#    were also fewer, 2/5 of all.
#
# One line runs all three. With two seeds nothing can be decided, and the verdicts say so; five decide.

# %%
study = MemoryTracker()
conclusion = case_study.run(
    CaseStudyConfig(epochs=8, seeds=2, members=400, nonmembers=400, validation=150, attacks="threshold", slices="entire"),
    study,
    StopFlag(),
)
study.artifacts["experiments.csv"][["experiment", "first", "second", "difference", "ci_low", "ci_high", "verdict"]].round(3)

# %%
study.artifacts["classes/leakage.png"]

# %% [markdown]
# ## Change one thing
#
# Every field of `CaseStudyConfig` and `TrainStudyConfig` is also an option of `memberscope main` and `memberscope train`, and a
# parameter of `mlflow run . -e train -P ...`. Some that are worth a try: `epochs`, `members`, `label_noise=0`, `depth`,
# `activation="tanh"`. To vary one thing with everything else held constant, and to be told whether the difference is real, there is
# [the sweep](04_sweep_and_compare.py).
