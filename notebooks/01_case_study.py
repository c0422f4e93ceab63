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
# This notebook is a companion to D. Moreno, *Membership Inference Attack: Primer & Case Study* (2023). It goes from training data
# and overfitting to attacks and the three experiments. It runs in about a minute on handwritten digits that come with
# scikit-learn. For findings, use real data: see [the results on CIFAR-10](../docs/results/case_study.md).

# %%
# %matplotlib inline
import numpy as np
import pandas as pd

from memberscope import Predictions, plots, run_audit
from memberscope.config.training import CaseStudyConfig, TrainStudyConfig
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
# The primer's first example is a model that distinguishes cats from dogs, but was trained only on large dogs. Ours distinguishes
# two groups of digits. The digits 0 and 2 are the "cats", and 1 and 4 the "dogs". The 1s are the large breeds and the 4s the
# small ones, and the training data has only the 1s.

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
# New cats and new large dogs are classified well. Many of the small dogs are classified as cats, since the model could learn only
# from the images that it was trained on. A model therefore carries traces of its training data. The question of this project is
# whether these traces reveal single records.
#
# ## Overfitting
#
# If training continues on the same records, the model gets better at *those records*. The embedded data set makes this visible
# with little data: a fifth of its labels, of members and non-members alike, are replaced at random. A replaced label cannot be
# predicted from the image. A model that predicts it correctly has memorized the record.

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
# Training accuracy rises above the share of correct labels, while validation accuracy stops rising and validation loss begins to
# increase. The membership attack below measures the same effect. It is the simplest attack there is: *a low loss means a member*.

# %%
plots.leakage_figure(history, title="The loss threshold, epoch by epoch")

# %% [markdown]
# ## Attacks
#
# A membership inference attack gives each record a score. The higher the score, the more likely the record is a member. The case
# study ran six attacks of TensorFlow Privacy.
#
# - Two **threshold** attacks rank records by loss, or by the entropy of the prediction.
# - Four **trained** attacks (logistic regression, perceptron, random forest, nearest neighbours) learn to tell members from
#   non-members by the model's outputs. The case study calls these four shadow model based, but they use no shadow models: they
#   learn from the target's *own* members, which only the owner of the model knows. They are a measurement, not an attack that an
#   outsider could carry out. [The second notebook](02_outside_attacker.py) is about outsiders.
#
# The results of different attacks answer different questions and should not be compared with each other: see [how to read the
# results](../docs/reading_the_results.md).

# %%
run.artifacts["attacks.json"]

# %%
run.artifacts["roc.png"]

# %% [markdown]
# The AUC is the area under the curve on the left. The right side shows the same curves on logarithmic axes, where one can see
# what matters for single persons: how many members are found while almost no non-member is mistaken for one? In one sentence, the
# result is:

# %%
print(result.answer)

# %% [markdown]
# An audit does not have to train the model. The outputs of any model for members and non-members are enough, from any framework:

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
# 1. **Architecture**: a conv model is compared with a dense one of the same depth. The case study expected conv to memorize more,
#    and observed this.
# 2. **Depth**: a dense model of depth 6 is compared with one of depth 3. The case study expected the deeper model to memorize
#    more, and called its result inconclusive.
# 3. **Classes**: ten classes are compared with the first four. The case study expected more classes to leak more, and observed
#    the contrary; but with four classes there was also less data, 2/5 of all.
#
# One call runs all three. Two seeds are too few for a decision, and the verdicts say so; with five a decision is possible.

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
# parameter of `mlflow run . -e train -P ...`. Some that are worth trying are `epochs`, `members`, `label_noise=0`, `depth`,
# `activation="tanh"`. To vary one thing with everything else held constant, and to find out whether the difference is real, use
# [a sweep](04_sweep_and_compare.py).
