"""The ways that `benchmarks/peers.py` compares, each of which runs in a process of its own, and what they get.

Each imports its libraries itself: those of the peers are installed elsewhere, see `shared.peer_environment`.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared.peer_environment import ART, SACRO

SEED = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What every way gets.

    Attributes:
        path: the .npz with all records `x` (n, features) and labels `y` (n,).
        audited: (m,) positions of the audited records; `member` (m,) whether the target was trained on each.
        classes: number of classes.
        shadows, trees, cores: numbers of shadow models, of trees of each, and of cores.
        seed: of the target's forest.
        members: numbers of members of each model.
    """

    path: Path
    audited: np.ndarray
    member: np.ndarray
    classes: int
    shadows: int
    trees: int
    cores: int
    seed: int

    @property
    def members(self) -> int:
        """How many records each model is trained on."""
        return int(self.member.sum())

    def records(self) -> tuple[np.ndarray, np.ndarray]:
        """The audited records and their labels."""
        with np.load(self.path, allow_pickle=False) as arrays:
            return arrays["x"][self.audited], arrays["y"][self.audited]

    def forest(self, seed: int) -> Any:
        """A forest that is yet to be fitted."""
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(n_estimators=self.trees, random_state=seed, n_jobs=self.cores)

    def save(self, path: Path) -> None:
        """Write the task for the processes of the ways."""
        plain = {name: getattr(self, name) for name in ("classes", "shadows", "trees", "cores", "seed")}
        np.savez(path, path=str(self.path), audited=self.audited, member=self.member, plain=json.dumps(plain))

    @classmethod
    def load(cls, path: Path) -> Task:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            plain = json.loads(str(arrays["plain"]))
            return cls(path=Path(str(arrays["path"])), audited=arrays["audited"], member=arrays["member"], **plain)


Made = Iterator[dict[str, Any]]
"""A way yields facts about itself once its libraries are imported, and ``scores`` (m,) at the end."""


def study_options(task: Task) -> dict[str, Any]:
    """The options of `memberscope shadow`."""
    return {
        "trainer": "sklearn.ensemble:RandomForestClassifier", "params": f"n_estimators={task.trees}", "dataset": str(task.path),
        "split": "seed", "members": task.members, "shadows": task.shadows, "targets": 1, "attacks": "lira_online",
        "workers": task.cores, "store": "none", "seed": SEED,
    }  # fmt: skip


def kept_scores(path: Path, task: Task) -> np.ndarray:
    """The scores that a run kept, as ranks, in the order of the task's records."""
    from memberscope.scores import KeptScores
    from memberscope.secret import key

    found = KeptScores.load(path, key=key())
    place = {one: k for k, one in enumerate(found.record_ids.tolist())}
    own = key().identities(task.audited, source=found.source).tolist()
    order = np.array([place[one] for one in own])
    assert np.array_equal(found.member[order], task.member), "another target"
    return found.ranks["lira_online"][order].astype(float)


def call(task: Task, folder: Path) -> Made:
    """Ours: shadows of the fitted forest, and an audit with one attack."""
    import sklearn.ensemble  # noqa: F401 - imported before the work is timed

    from memberscope.audit.run import run_audit
    from memberscope.shadows import shadow_evidence

    yield {"settings": "shadow_evidence, run_audit with attacks=lira_online"}
    x, y = task.records()
    model = task.forest(task.seed).fit(x[task.member], y[task.member])
    evidence = shadow_evidence(model, x, y, task.member, shadows=task.shadows, workers=task.cores, seed=SEED)
    report = run_audit(evidence, attacks="lira_online", workers=task.cores)
    scores = report.scores("lira_online")
    assert len(scores) == len(y), "records that are audited once"
    yield {"scores": scores}


def study_call(task: Task, folder: Path) -> Made:
    """The study `shadow` as a Python call."""
    from memberscope.config.outside import ShadowStudyConfig
    from memberscope.interrupt import StopFlag
    from memberscope.studies.shadow import study
    from memberscope.tracking import MemoryTracker

    yield {"settings": "attacks=lira_online, targets=1"}
    tracker = MemoryTracker()
    study.run(ShadowStudyConfig.from_mapping(study_options(task)), tracker, StopFlag())
    path = folder / "scores.npz"
    path.write_bytes(next(run for run in tracker.children if "scores.npz" in run.artifacts).artifacts["scores.npz"])
    yield {"scores": kept_scores(path, task)}


def command(task: Task, folder: Path) -> Made:
    """Ours as a command, with an MLflow run."""
    options = [text for name, value in study_options(task).items() for text in (f"--{name}", str(value))]
    yield {"settings": "the same, as a command with an MLflow run"}
    subprocess.run(
        [sys.executable, "-m", "memberscope.cli", "shadow", *options], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )
    store = Path(os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///")).parent  # where the experiment's artifacts are
    path = max(store.rglob("scores.npz"), key=lambda one: one.stat().st_mtime)
    yield {"scores": kept_scores(path, task)}


def sacro(task: Task, folder: Path, *, mode: str = "") -> Made:
    """SACRO-ML's likelihood-ratio attack."""
    import logging

    import sklearn.ensemble  # noqa: F401 - imported before the work is timed
    from sacroml.attacks.likelihood_attack import LIRAAttack
    from sacroml.attacks.target import Target

    logging.disable()

    class Kept(LIRAAttack):
        """The attack, which otherwise keeps scores only with a further computation for each record."""

        def _save_attack_metrics(self, mia_scores: Any, *rest: Any) -> None:
            self.kept = np.array(mia_scores)[:, 1]  # the column that it takes for the probability of a member
            super()._save_attack_metrics(mia_scores, *rest)

    yield {"settings": f"LIRAAttack, mode={mode or 'offline'}" + ("" if mode else " (the default)"), "of": "sacroml"}
    x, y = task.records()
    inside, outside = np.flatnonzero(task.member), np.flatnonzero(~task.member)
    model = task.forest(task.seed).fit(x[inside], y[inside])
    target = Target(
        model=model, dataset_name="records", X_train=x[inside], y_train=y[inside], X_test=x[outside], y_test=y[outside]
    )
    chosen = {"mode": mode} if mode else {}
    attack = Kept(output_dir=str(folder / "sacro"), n_shadow_models=task.shadows, **chosen)
    attack.attack(target)
    scores = np.empty(len(y))
    scores[np.concatenate([inside, outside])] = attack.kept
    yield {"scores": scores}


def art(task: Task, folder: Path, *, kind: str = "") -> Made:
    """ART's shadow models and its learned attack."""
    import sklearn.ensemble  # noqa: F401 - imported before the work is timed
    from art.attacks.inference.membership_inference import MembershipInferenceBlackBox, ShadowModels
    from art.estimators.classification.scikitlearn import ScikitlearnRandomForestClassifier
    from art.utils import to_categorical

    if not kind:
        import torch

        torch.set_num_threads(task.cores)
    yield {
        "settings": f"MembershipInferenceBlackBox, attack_model_type={kind or 'nn'}" + ("" if kind else " (the default)"),
        "of": "adversarial-robustness-toolbox",
    }
    x, y = task.records()
    model = task.forest(task.seed).fit(x[task.member], y[task.member])
    classifier = ScikitlearnRandomForestClassifier(model)
    shadows = ShadowModels(classifier, num_shadow_models=task.shadows, random_state=SEED)
    (ins, y_in, p_in), (outs, y_out, p_out) = shadows.generate_shadow_dataset(x, to_categorical(y, task.classes))
    chosen = {"attack_model_type": kind} if kind else {}
    attack = MembershipInferenceBlackBox(classifier, **chosen)
    attack.fit(ins, y_in, outs, y_out, p_in, p_out)
    yield {"scores": np.asarray(attack.infer(x, y, probabilities=True), dtype=float).reshape(-1)}


def looped(task: Task) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities (m, classes) of the target, (shadows, m, classes) of the shadows, (shadows, m) bool members, and (m,) labels."""
    x, y = task.records()

    def outputs(seed: int, chosen: np.ndarray) -> np.ndarray:
        model = task.forest(seed).fit(x[chosen], y[chosen])
        found = np.zeros((len(x), task.classes))
        found[:, model.classes_] = model.predict_proba(x)
        return found

    rng = np.random.default_rng(SEED)
    member = np.zeros((task.shadows, len(x)), dtype=bool)
    for row in member:
        row[rng.permutation(len(x))[: task.members]] = True
    shadows = np.stack([outputs(k, row) for k, row in enumerate(member)])
    return outputs(task.seed, task.member), shadows, member, y


def tfp(task: Task, folder: Path) -> Made:
    """tensorflow_privacy's LiRA on the outputs of the loop's forests."""
    import sklearn.ensemble  # noqa: F401 - imported before the work is timed
    from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack import advanced_mia

    yield {"settings": "compute_score_lira (medians, a variance per record)", "of": "tensorflow-privacy"}
    target, shadows, member, y = looped(task)

    def statistic(probs: np.ndarray) -> np.ndarray:
        return advanced_mia.calculate_statistic(probs.copy(), y, is_logits=False)[:, None]

    values = np.stack([statistic(probs) for probs in shadows])
    ins, outs = ([values[side[:, i], i] for i in range(len(y))] for side in (member, ~member))
    yield {"scores": -advanced_mia.compute_score_lira(statistic(target), ins, outs)}


def loop(task: Task, folder: Path) -> Made:
    """LiRA by hand on the outputs of the loop's forests."""
    import sklearn.ensemble  # noqa: F401 - imported before the work is timed
    from scipy.stats import norm

    yield {"settings": "means, a variance per record"}
    target, shadows, member, y = looped(task)

    def phi(probs: np.ndarray) -> np.ndarray:
        p = np.clip(probs[..., np.arange(len(y)), y], 1e-6, 1 - 1e-6)
        return np.log(p / (1 - p))

    values, scores = phi(shadows), 0.0
    for side, sign in ((member, 1), (~member, -1)):
        kept = np.where(side, values, np.nan)
        scores = scores + sign * norm.logpdf(phi(target), np.nanmean(kept, axis=0), np.nanstd(kept, axis=0) + 1e-6)
    yield {"scores": np.nan_to_num(scores)}  # records that all shadows saw, or none


@dataclass(frozen=True, kw_only=True)
class Way:
    """A row of the table.

    Attributes:
        title: what the table calls it.
        run: the function that does it.
        installed: what must be installed for it, of `shared.peer_environment.INSTALLED`; empty where the calling interpreter has all.
        target: the ratio that is wanted, if any.
        quick: is it part of a quick run?
    """

    title: str
    run: Callable[[Task, Path], Made]
    installed: str = ""
    target: float | None = None
    quick: bool = True


OURS = ("call", "study", "command")
WAYS = {
    "call": Way(title="memberscope, shadow_evidence", run=call),
    "study": Way(title="memberscope, study shadow in Python", run=study_call),
    "command": Way(title="memberscope shadow, as a command", run=command),
    "sacro": Way(title="SACRO-ML", run=sacro, installed=SACRO, target=2.0),
    "sacro_online": Way(
        title="SACRO-ML, online", run=lambda *given: sacro(*given, mode="online-carlini"), installed=SACRO, quick=False
    ),
    "art": Way(title="ART", run=art, installed=ART, target=10.0),
    "art_rf": Way(title="ART, as its notebook", run=lambda *given: art(*given, kind="rf"), installed=ART, quick=False),
    "tfp": Way(title="tensorflow_privacy", run=tfp),
    "loop": Way(title="a plain loop", run=loop),
}


def child(name: str, task: Path, folder: Path) -> None:
    """Run a way; print its facts as JSON and leave its scores in the folder."""
    steps = WAYS[name].run(Task.load(task), folder)
    facts = next(steps)
    start = time.perf_counter()
    scores = next(steps)["scores"]
    if not np.isfinite(scores).all():
        raise SystemExit(f"{int((~np.isfinite(scores)).sum())} scores are not finite")
    facts["work"] = time.perf_counter() - start
    facts["version"] = importlib.metadata.version(facts["of"]) if "of" in facts else ""
    np.save(folder / "result.npy", scores)
    print(json.dumps(facts))
