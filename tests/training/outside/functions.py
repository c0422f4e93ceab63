"""Training functions as users write them, for tests: NumPy alone, no import of ours."""

import gc
import os
import signal
import time
import weakref

import numpy as np


class Neighbours:
    """One nearest neighbour, whose logits are negative distances."""

    def __init__(self, x, y, classes, sharpness):
        self.x, self.y, self.classes, self.sharpness = x, y, classes, sharpness

    def __call__(self, x):
        x = np.asarray(x, np.float64).reshape(len(x), -1)
        distance = ((x[:, None] - self.x[None]) ** 2).sum(axis=2)
        nearest = [distance[:, self.y == label].min(axis=1, initial=100.0) for label in range(self.classes)]
        return (-self.sharpness * np.stack(nearest, axis=1)).astype(np.float32)


def neighbour(job, *, sharpness=1.0):
    x = np.asarray(job.x, np.float64).reshape(len(job.y), -1)
    return Neighbours(x, job.y, job.classes, sharpness)


def reporting(job):
    """A softmax regression that reports its epochs."""
    rng = np.random.default_rng(job.seed)
    x, y = np.asarray(job.x, np.float64), job.y
    weights = rng.normal(0, 0.01, (x.shape[1], job.classes))
    hot = np.eye(job.classes)[y]
    for epoch in range(int(job.params.get("epochs", 3))):
        scores = x @ weights
        probs = np.exp(scores - scores.max(axis=1, keepdims=True))
        probs /= probs.sum(axis=1, keepdims=True)
        weights -= x.T @ (probs - hot) / len(y)
        job.report(epoch=epoch + 1, loss=-np.log(probs[np.arange(len(y)), y]).mean(), accuracy=(probs.argmax(1) == y).mean())
    return lambda rows: np.asarray(rows, np.float64) @ weights


class Offering(Neighbours):
    """Neighbours that offer everything."""

    def gradient_norms(self, x, y):
        return np.abs(self(x)).astype(np.float64)

    def losses_by_epoch(self, x, y):
        return np.abs(self(x))[:, :2].astype(np.float64)

    def save(self, path):
        np.savez(path + ".npz", x=self.x, y=self.y, about=[self.classes, self.sharpness])

    @classmethod
    def load(cls, path):
        kept = np.load(path + ".npz")
        return cls(kept["x"], kept["y"], int(kept["about"][0]), float(kept["about"][1]))


def offering(job):
    x = np.asarray(job.x, np.float64).reshape(len(job.y), -1)
    return Offering(x, job.y, job.classes, 1.0)


def global_draws(job):
    """Draws from NumPy's global generator, as careless code does."""
    weights = np.random.normal(size=(job.x.shape[1], job.classes))  # noqa: NPY002
    return lambda rows: np.asarray(rows, np.float64) @ weights


def clock(job):
    """A result that the seed does not determine."""
    weights = np.random.default_rng(time.time_ns()).normal(size=(job.x.shape[1], job.classes))
    return lambda rows: np.asarray(rows, np.float64) @ weights


def fails_for_one(job, *, victim=-1):
    if job.seed == victim:
        return {}["width"]
    return neighbour(job)


def gives_nan(job):
    return lambda rows: np.full((len(rows), job.classes), np.nan)


def gives_nothing(job):
    return None


def exits(job):
    raise SystemExit(5)


def kills_its_process(job, *, victim=-1):
    if victim in (-1, job.seed):
        os.kill(os.getpid(), signal.SIGKILL)
    return neighbour(job)


def slow(job, *, seconds=0.1):
    time.sleep(seconds)
    return neighbour(job)


def says_its_environment(job):
    """Outputs that tell the number of threads and the device of the process, and the process."""
    told = [int(os.environ.get("OMP_NUM_THREADS", -1)), int(os.environ.get("CUDA_VISIBLE_DEVICES", -1)), os.getpid()]
    time.sleep(0.5)
    return lambda rows: np.tile(np.array(told, np.float64), (len(rows), 1))


class Cycle:
    """A model that only a search for garbage frees; the number of frozen objects, and how many models before it are alive."""

    before = ()

    def __init__(self, job):
        gc.disable()  # none but the search after each model
        self.itself = self
        self.alive = sum(one() is not None for one in Cycle.before)
        Cycle.before = (*Cycle.before, weakref.ref(self))

    def decision_function(self, x):
        return np.tile([float(gc.get_freeze_count()), float(self.alive), 0.0], (len(x), 1))


def makes_garbage(job):
    return Cycle(job)


def two_arguments(job, other):
    return neighbour(job)


def no_argument():
    return None


NOT_CALLABLE = 3


class NoFit:
    pass


def stops_itself(job):
    raise KeyboardInterrupt


def starts_processes(job):
    """Computes in processes of its own, which start afresh, as a loader of data does."""
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map_async(abs, [-1, 2]).get(timeout=60) == [1, 2]
    return neighbour(job)


def softmax_of(scores):
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def one_gives_probabilities(job, *, victim=-1):
    model = neighbour(job)
    return (lambda rows: softmax_of(model(rows))) if job.seed == victim else model


def gives_percentages(job):
    model = neighbour(job)
    return lambda rows: 100 * softmax_of(model(rows))


def gives_sigmoids(job):
    model = neighbour(job)
    return lambda rows: 1 / (1 + np.exp(-model(rows) - 1))


class Unnormalized:
    """A classifier whose predict_proba gives no probabilities."""

    def fit(self, x, y):
        return self

    def predict_proba(self, x):
        return np.tile([0.5, 0.6, 0.7], (len(x), 1))


class _Uniform:
    def fit(self, x, y):
        self.count = len(np.unique(y))
        return self

    def predict_proba(self, x):
        return np.full((len(x), self.count), 1 / self.count)


class OnlyWhatWasSet(_Uniform):
    """Its get_params has only what was set, as CatBoost's."""

    def __init__(self, iterations=None, random_state=None):
        self.given = {"iterations": iterations, "random_state": random_state}

    def get_params(self, deep=True):
        return {name: value for name, value in self.given.items() if value is not None}


class FurtherParams(_Uniform):
    """Takes parameters that it does not declare, as LightGBM's classifier."""

    def __init__(self, depth=3, random_state=None, **further):
        self.depth, self.random_state, self.further = depth, random_state, further

    def get_params(self, deep=True):
        return {"depth": self.depth, "random_state": self.random_state, **self.further}


def trains_in_workers_alone(job, *, parent=-1):
    if os.getpid() == parent:
        raise RuntimeError("not in this process")
    return neighbour(job)


def narrow_for_five(job):
    model = neighbour(job)
    return lambda rows: model(rows)[:, :1] if len(rows) == 5 else model(rows)


def draws_slowly(job):
    """Draws from NumPy's global generator with pauses, in which another training may draw."""
    columns = []
    for _ in range(job.classes):
        time.sleep(0.05)
        columns.append(np.random.normal(size=job.x.shape[1]))  # noqa: NPY002
    weights = np.stack(columns, axis=1)
    return lambda rows: np.asarray(rows, np.float64) @ weights
