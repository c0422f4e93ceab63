"""Compares a whole membership audit of a random forest with what people would use instead: seconds, and how many members each finds.

    python benchmarks/peers.py            Location-30 and scikit-learn's digits, 16 shadow models; about ten minutes
    python benchmarks/peers.py --quick    digits alone, 8 shadow models; under a minute where the peers are installed

Every way starts from the same ``.npz`` in a process of its own and ends with a score for each of the same records: half of them are
members of the target, a forest that every way trains itself, with one seed and the same scikit-learn. All train as many shadow
models with as many members (the study `shadow` one more: the half design also trains the target's twin), and may use the same number of
cores: peers as ``n_jobs`` of the forests and as threads of OpenMP and PyTorch, ours as ``n_jobs`` of the target and as so many shadows at a
time, of one thread each. The ways:

- ours: `memberscope.shadow_evidence` on the fitted forest and `memberscope.run_audit` with ``lira_online``, which does what a peer does:
  one attack on one target;
- the study `shadow`, which does more (a check of the trainer, the exposure of every record, attacks with fewer shadows, figures): as a
  Python call, `memberscope.studies.shadow.study.run` with ``attacks=lira_online,targets=1``, its results in memory; and as a command,
  ``memberscope shadow``, which starts MLflow and writes a run with figures into an existing store;
- SACRO-ML: `LIRAAttack` with its defaults (``mode="offline"``, a report as JSON and PDF), and with ``mode="online-carlini"``, which uses
  the shadows that were trained on a record, as `lira_online` does;
- ART: `ShadowModels` and `MembershipInferenceBlackBox`, with the default of the class (a neural network), and with
  ``attack_model_type="rf"`` as in ART's notebook on shadow models; the records on which shadows are trained are those of all other ways;
- tensorflow_privacy: `advanced_mia.compute_score_lira` with its defaults, on the outputs of forests that a plain loop trains;
- a loop: one forest after another on random halves, and LiRA in ten lines of numpy (means, a variance per record).

Seconds are those of the whole process, which is what a user waits for. "work" leaves out the imports, which for some are most of the
time. The ratio is the other's seconds over those of ours, `shadow_evidence` and `run_audit`; a second one is of the work alone.
"difference" is ours less the other's on the same records with its paired interval, for AUC and for TPR at FPR 0.01.

SACRO-ML and ART are installed by uv, or by pip where there is no uv, into an environment of their own in ``--cache``, with the numpy
and scikit-learn of the calling interpreter; that takes minutes once (PyTorch comes with them) and is not counted. A peer that cannot be
installed, or that fails, is a row with the reason.

The targets are 2 for SACRO-ML by default and 10 for ART by default. The last line has the lowest of the ratios, each divided by its
own target and multiplied by 2: it is 2 where SACRO-ML takes twice, or ART ten times, as long as ours. The exit code is 1 where an
interval says that ours is weaker than SACRO-ML's default.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import json
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shared.targets import TARGETS, last_line

SRC = str(Path(__file__).resolve().parents[1] / "src")
sys.path.insert(0, SRC)

SEED, FPR, NOISE = 0, 0.01, 0.2
INSTALLED = {
    "sacroml": ("sacroml==2.0.1",),
    "adversarial-robustness-toolbox": ("adversarial-robustness-toolbox==1.20.1", "packaging", "torch"),  # it declares neither
}
LIMIT = 1_800  # seconds after which an installation or a way is given up


# ------------------------------------------------------------------------------------ the ways: each runs in a process of its own


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
    import sklearn.ensemble  # noqa: F401 - so that imports are apart

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
    from memberscope.config import ShadowStudyConfig
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

    import sklearn.ensemble  # noqa: F401 - so that imports are apart
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
    import sklearn.ensemble  # noqa: F401 - so that imports are apart
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
    import sklearn.ensemble  # noqa: F401 - so that imports are apart
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
    import sklearn.ensemble  # noqa: F401 - so that imports are apart
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
        installed: what must be installed for it, of `INSTALLED`; empty where the calling interpreter has all.
        target: the ratio that is wanted, if any.
        quick: is it part of a quick run?
    """

    title: str
    run: Callable[[Task, Path], Made]
    installed: str = ""
    target: float | None = None
    quick: bool = True


OURS = ("call", "study", "command")
SACRO, ART = "sacroml", "adversarial-robustness-toolbox"
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


# --------------------------------------------------------------------------------------------------------------- environments


def why(text: str) -> str:
    """The last line of what a program wrote, shortened."""
    return next((line.strip()[:200] for line in reversed(text.splitlines()) if line.strip()), "no output")


class Peers:
    """The peers' environment, which is made when the first of them is needed."""

    def __init__(self, cache: Path) -> None:
        """Name the folder."""
        versions = {name: importlib.metadata.version(name) for name in ("numpy", "scikit-learn")}
        self.pins = [f"{name}=={version}" for name, version in versions.items()]
        self.folder = cache / f"python{sys.version_info[0]}.{sys.version_info[1]}-scikit-learn-{versions['scikit-learn']}"
        self.uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
        self.missing: dict[str, str] = {}

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def _run(self, *words: object) -> None:
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=LIMIT, check=False)
        if done.returncode:
            raise OSError(why(done.stderr or done.stdout))

    def why_not(self, name: str) -> str:
        """Install a peer unless it is there; returns why it cannot be, or nothing."""
        mark = self.folder / f"{name}.installed"
        if mark.exists() or name in self.missing:
            return self.missing.get(name, "")
        print(f"installing {name} into {self.folder}", file=sys.stderr, flush=True)
        try:
            if not self.python.exists():
                self.folder.parent.mkdir(parents=True, exist_ok=True)
                if self.uv:
                    self._run(self.uv, "venv", "--quiet", "--python", sys.executable, self.folder)
                else:
                    self._run(sys.executable, "-m", "venv", self.folder)
            pip = (self.uv, "pip", "install", "--python", self.python) if self.uv else (self.python, "-m", "pip", "install")
            self._run(*pip, "--quiet", *self.pins, *INSTALLED[name])
            mark.touch()
        except (OSError, subprocess.TimeoutExpired) as error:
            self.missing[name] = f"cannot be installed: {why(str(error))}"
        return self.missing.get(name, "")


# ------------------------------------------------------------------------------------------------------------------- the data


def location(archive: Path) -> tuple[np.ndarray, np.ndarray]:
    """5,010 records of 446 bits in 30 classes."""
    with tarfile.open(archive / "dataset_location.tgz") as tar:
        inside = next(member for member in tar.getmembers() if member.isfile() and member.name.endswith("bangkok"))
        table = np.loadtxt(io.StringIO(tar.extractfile(inside).read().decode().replace('"', "")), delimiter=",", dtype=np.int64)
    return table[:, 1:].astype(np.float32), table[:, 0] - 1


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 records of 64 pixels in 10 classes, of which a fifth have a random label."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(SEED)
    return x.astype(np.float32), np.where(rng.random(len(y)) < NOISE, rng.integers(0, 10, len(y)), y)


def tasks(folder: Path, *, shadows: int, trees: int, cores: int, quick: bool) -> Iterator[tuple[str, Task]]:
    """The data sets, each with the target of the plan that `memberscope shadow` draws."""
    from memberscope.config import ShadowStudyConfig
    from memberscope.studies import setup
    from memberscope.studies.shadow import draw

    archive = os.environ.get("MEMBERSCOPE_ARCHIVE_DIR", "")
    wanted: list[tuple[str, int, Callable[[], Any]]] = [("digits", 600, digits)]
    if archive and not quick:
        wanted.insert(0, ("location30", 1_000, lambda: location(Path(archive))))
    elif not quick:
        print("location30 left out: MEMBERSCOPE_ARCHIVE_DIR names no folder", flush=True)
    for name, members, load in wanted:
        path = folder / f"{name}.npz"
        x, y = load()
        np.savez(path, x=x, y=y)
        empty = Task(
            path=path, audited=np.arange(0), member=np.ones(members, bool), classes=int(y.max()) + 1, shadows=shadows,
            trees=trees, cores=cores, seed=0,
        )  # fmt: skip
        config = ShadowStudyConfig.from_mapping(study_options(empty))
        data = setup.load_data(config, each_once=True)
        kept = folder / f"{name}-kept.npz"  # without exact copies, which `memberscope shadow` drops
        np.savez(kept, x=data.x, y=data.y)
        plan = draw.plan_for(data, config)
        target = int(plan.targets[0])
        yield name, Task(
            path=kept, audited=plan.records, member=plan.member[target], classes=empty.classes, shadows=shadows, trees=trees, cores=cores,
            seed=draw.model_seeds(plan, SEED)[target] % 2**32,
        )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------------ the table


@dataclass(kw_only=True)
class Runs:
    """What was measured of a way: seconds of the whole processes, of the work without imports, and of the processor; and its scores."""

    whole: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    scores: Any = None
    facts: dict[str, Any] = field(default_factory=dict)


def run(name: str, python: Path | str, task: Path, environment: dict[str, str], into: Runs) -> None:
    """Run a way in a process of its own; OSError with the reason if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        words = [str(python), __file__, "--child", name, str(task), folder]
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=LIMIT, check=False, env={**os.environ, **environment}, cwd=folder
        )
        into.whole.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise OSError(why(done.stderr))
        into.processor.append(sum(getattr(after, kind) - getattr(before, kind) for kind in ("ru_utime", "ru_stime")))
        into.facts = json.loads(done.stdout.splitlines()[-1])
        into.work.append(into.facts["work"])
        into.scores = np.load(Path(folder) / "result.npy", allow_pickle=False)


def strength(scores: np.ndarray, member: np.ndarray) -> str:
    from memberscope import metrics

    found = (metrics.auc(scores, member), metrics.tpr_at_fpr(scores, member, fpr=FPR, rng=np.random.default_rng(SEED)))
    return " | ".join(f"{one.value:.3f} ({one.ci_low:.3f} to {one.ci_high:.3f})" for one in found)


def compared(ours: np.ndarray, theirs: np.ndarray, member: np.ndarray) -> list[Any]:
    """Ours less theirs, for AUC and for TPR at FPR 0.01."""
    from memberscope import metrics

    rng = np.random.default_rng(SEED)
    return [metrics.compare_auc(ours, theirs, member), metrics.compare_tpr(ours, theirs, member, fpr=FPR, rng=rng)]


def measure(task: Task, peers: Peers, *, repeat: int, quick: bool, only: list[str]) -> tuple[dict[str, Runs], dict[str, str]]:
    """Run all ways in turn, `repeat` times; returns what was measured of each, and why the others have no figures."""
    found: dict[str, Runs] = {}
    skipped: dict[str, str] = {}
    one = str(task.cores)
    environment = {
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), one), "TF_CPP_MIN_LOG_LEVEL": "3",
        "MEMBERSCOPE_KEY": os.environ["MEMBERSCOPE_KEY"], "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.npz"
        task.save(path)
        environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        environment["PYTHONPATH"] = os.pathsep.join([SRC, *filter(None, [os.environ.get("PYTHONPATH", "")])])
        for _ in range(repeat):
            for name, way in WAYS.items():
                if name in skipped or (quick and not way.quick) or (only and name not in only):
                    continue
                reason = peers.why_not(way.installed) if way.installed else ""
                if name == "command" and not reason and not (Path(folder) / "mlflow.db").exists():
                    store = [sys.executable, "-m", "memberscope.mlflow_adapter.store", "memberscope"]
                    subprocess.run(store, env={**os.environ, **environment}, cwd=folder, check=False)
                try:
                    if reason:
                        raise OSError(reason)
                    run(
                        name,
                        peers.python if way.installed else sys.executable,
                        path,
                        environment,
                        found.setdefault(name, Runs()),
                    )
                except (OSError, subprocess.TimeoutExpired) as error:
                    skipped[name] = why(str(error))
                    found.pop(name, None)
    return found, skipped


def table(name: str, task: Task, found: dict[str, Runs], skipped: dict[str, str], repeat: int) -> tuple[float, bool]:
    """Print the rows; returns the lowest of the ratios as in the last line, and whether ours is weaker than SACRO-ML's default."""
    print(
        f"\n{name}: {task.members} members and {len(task.member) - task.members} others, {task.shadows} shadow models, forests of "
        f"{task.trees} trees, {task.cores} cores; medians of {repeat}"
    )
    print(
        "| way | seconds | work | processor | ratio | of work | AUC | TPR at FPR .01 | difference in AUC | in TPR | settings |"
    )
    print(f"|{' --- |' * 11}")
    ours, lowest, weaker = found.get("call"), math.inf, False
    for key, way in WAYS.items():
        if key in skipped:
            print(f"| {way.title} | skipped: {skipped[key]} |{' |' * 9}")
        if key not in found:
            continue
        runs = found[key]
        whole, work, processor = (statistics.median(values) for values in (runs.whole, runs.work, runs.processor))
        cells = ["", "", "", ""]
        if ours is not None and key not in OURS:
            ratio, of_work = whole / statistics.median(ours.whole), work / statistics.median(ours.work)
            apart = compared(ours.scores, runs.scores, task.member)
            cells = [f"{ratio:.2f}", f"{of_work:.2f}"]
            cells += [f"{one.difference:+.3f} ({one.ci_low:+.3f} to {one.ci_high:+.3f})" for one in apart]
            lowest = min(lowest, ratio / way.target * TARGETS["peers"].full) if way.target else lowest
            weaker = weaker or (key == "sacro" and any(one.ci_high < 0 for one in apart))
        version = f"{runs.facts['of']} {runs.facts['version']}: " if runs.facts.get("of") else ""
        print(
            f"| {way.title} | {whole:.1f} | {work:.1f} | {processor:.1f} | {cells[0]} | {cells[1]} | "
            f"{strength(runs.scores, task.member)} | {cells[2]} | {cells[3]} | {version}{runs.facts['settings']} |",
            flush=True,
        )
    return lowest, weaker


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "memberscope" / "peers"
    parser.add_argument(
        "--quick", action="store_true", help="use only digits, with 8 shadow models; the target is then smaller"
    )
    parser.add_argument("--shadows", type=int, default=16, help="number of shadow models, an even number")
    parser.add_argument("--trees", type=int, default=100, help="number of trees of each forest")
    parser.add_argument("--cores", type=int, default=2, help="number of cores for each way")
    parser.add_argument("--repeat", type=int, default=1, help="number of runs of each way, whose medians are shown")
    parser.add_argument("--only", default="", help=f"ways to run, separated by commas, of {', '.join(WAYS)}; empty: all")
    parser.add_argument("--data", default="", help="use only this data set, location30 or digits")
    parser.add_argument("--cache", type=Path, default=cache, help="folder of the peers' environment")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, task, folder = arguments.child
        child(name, Path(task), Path(folder))
        return 0
    os.environ.setdefault("MEMBERSCOPE_KEY", "the key of the benchmark of peers")
    if hasattr(os, "sched_setaffinity"):  # what a library starts of its own accord gets no more cores either
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    peers, lowest, weaker = Peers(arguments.cache), math.inf, False
    shadows = 8 if arguments.quick else arguments.shadows
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"shadows": shadows, "trees": arguments.trees, "cores": arguments.cores, "quick": arguments.quick}
        for name, task in tasks(Path(folder), **sizes):
            if arguments.data not in ("", name):
                continue
            only = [word for word in arguments.only.split(",") if word]
            found, skipped = measure(task, peers, repeat=arguments.repeat, quick=arguments.quick, only=only)
            least, worse = table(name, task, found, skipped, arguments.repeat)
            lowest, weaker = min(lowest, least), weaker or worse
    if weaker:
        print("ours is weaker than SACRO-ML")
    print(last_line("peers", lowest, quick=arguments.quick))
    return int(weaker)


if __name__ == "__main__":
    raise SystemExit(main())
