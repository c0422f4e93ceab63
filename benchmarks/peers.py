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
import io
import json
import math
import os
import resource
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

from shared.peer_environment import LIMIT, Peers, why
from shared.peer_ways import OURS, SEED, WAYS, Task, child, study_options
from shared.targets import TARGETS, last_line

SRC = str(Path(__file__).resolve().parents[1] / "src")
sys.path.insert(0, SRC)

FPR, NOISE = 0.01, 0.2


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
    from memberscope.config.outside import ShadowStudyConfig
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
