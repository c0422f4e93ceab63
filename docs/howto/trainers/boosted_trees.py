"""Gradient-boosted trees on a table with categorical columns, as XGBoost takes them from a frame."""

from xgboost import XGBClassifier


def train(job, *, trees=100, depth=6, learning_rate=0.3):
    model = XGBClassifier(
        n_estimators=trees, max_depth=depth, learning_rate=learning_rate, enable_categorical=True, tree_method="hist",
        random_state=job.seed % 2**31, n_jobs=1,
    )  # fmt: skip
    return model.fit(job.x, job.y)


train.frames = True  # a frame also for tables without words, so that columns keep their names
