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
# # Vary one thing, and analyse the runs
#
# How does memorization depend on the number of classes, with everything else held constant? The case study's third experiment
# changed two things at once: the model with four classes also had only two fifths of the data. A grid with **controls** separates
# the two:
#
# - `natural` has fewer classes and therefore fewer records, as in the case study;
# - `merged` has all records, with classes merged, so that only the number of classes changes.
#
# The sweep below is tiny (two seeds, some seconds for each model). [The results](../docs/results/sweeps.md) and [the
# how-to](../docs/howto/sweep.md) have real ones.

# %%
# %matplotlib inline
import os
import tempfile

import mlflow
import pandas as pd
from matplotlib import pyplot as plt

from memberscope.cli import main

folder = tempfile.mkdtemp()
os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")  # without this line: your own store
mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])

# %% [markdown]
# The arguments are the same as on a terminal (`memberscope sweep --grid classes ...`), and the exit code 0 means success. A sweep
# that is started again continues where it stopped; if it is already complete, it prints its answer.

# %%
exit_code = main(
    [
        "sweep", "--grid", "classes", "--controls", "natural,merged", "--levels", "4,10", "--seeds", "2", "--epochs", "12",
        "--members", "200", "--nonmembers", "200", "--validation", "60", "--depth", "2", "--audit_every", "4",
        "--workers", "1", "--log_models", "no", "--folder", f"{folder}/sweeps",
    ]
)  # fmt: skip
print("exit code", exit_code)

# %% [markdown]
# With two seeds, the result is *inconclusive*. With five, a verdict is possible.
#
# ## Into pandas
#
# Every run is in MLflow: one for the sweep, with a child run for each trained model. `search_runs` returns a data frame with a
# column for each parameter (`params.model.depth`), metric (`metrics.auc/threshold_loss`: the metric first, the attack last) and
# tag.

# %%
runs = mlflow.search_runs(search_all_experiments=True)
models = runs[runs["tags.memberscope.kind"] == "model"].rename(columns=lambda name: name.removeprefix("metrics."))
columns = ["tags.mlflow.runName", "train/accuracy", "val/accuracy", "auc/threshold_loss", "auc_ci_low/threshold_loss"]
models[columns].sort_values("auc/threshold_loss", ascending=False).round(3)

# %% [markdown]
# Settings are compared over seeds, never by one run each. Here are the mean of each setting, and the minimum and maximum over its
# seeds:

# %%
models["setting"] = models["tags.mlflow.runName"].str.replace(r"-s\d+$", "", regex=True)
models.groupby("setting")["auc/threshold_loss"].agg(["mean", "min", "max", "count"]).round(3)

# %% [markdown]
# Curves by epoch are metrics with steps:

# %%
client = mlflow.MlflowClient()
for run_id, name in models[["run_id", "tags.mlflow.runName"]].itertuples(index=False):
    points = client.get_metric_history(run_id, "auc/threshold_loss")
    plt.plot([point.step for point in points], [point.value for point in points], marker="o", label=name)
plt.xlabel("epoch")
plt.ylabel("AUC of the loss threshold")
plt.axhline(0.5, color="0.6", linewidth=0.8)
plt.legend(fontsize=7)
plt.show()

# %% [markdown]
# The conclusions of the sweep are in the parent run: a table of verdicts, each with its difference, interval and adjusted
# p-value.

# %%
parent = runs[runs["tags.memberscope.study"] == "sweep"].iloc[0]
path = mlflow.artifacts.download_artifacts(run_id=parent["run_id"], artifact_path="verdicts.csv", dst_path=folder)
pd.read_csv(path).round(3)

# %% [markdown]
# A figure shows each difference with its interval, and the margin within which *no difference* can be the verdict. The figures of
# real sweeps, with five to twenty seeds, are in [the results](../docs/results/sweeps.md).

# %%
picture = mlflow.artifacts.download_artifacts(run_id=parent["run_id"], artifact_path="effects.png", dst_path=folder)
plt.figure(figsize=(9, 6))
plt.imshow(plt.imread(picture))
plt.axis("off")
plt.show()

# %% [markdown]
# The tables that are logged as `attacks.json` can be compared across runs in the UI, and can be loaded for many runs at once:

# %%
client.load_table(parent["experiment_id"], "attacks.json", run_ids=list(models["run_id"]), extra_columns=["run_id"]).head()
