"""Compares the default settings of LiRA and RMIA with those of published codes, on the same outputs.

    python benchmarks/settings.py            digits, forests, Location-30 (16 and 64 shadows), CIFAR-10 (16); half an hour
    python benchmarks/settings.py --quick    forests on scikit-learn's tables; under a minute

Every fleet has the half design, and eight of its models are the target in turn. A row for each attack and number of shadows
gives the mean AUC / TPR at FPR 0.01 over the targets for

- the fixed settings that were the default before (RMIA: temperature 1, a 0.3; LiRA: no smoothing, variance by the number of shadows);
- the default, which chooses its settings on the shadows;
- the public setting with the largest AUC, with its name. It is *picked by looking at the targets*, as no attacker could.

Public settings: RMIA at temperatures 1, 2, 3, 4, with a from 0.1 to 1, with the softmax or with the published code's sm-taylor-softmax
(order 4, margin 0.6, temperature 2); LiRA with medians or means, with a variance per record or a fixed one, pooled as in the authors' code
(all values of a side) or as in tensorflow_privacy's (deviations from each record's mean), and one-sided or two-sided offline.

The last line is the smallest ratio of a default's AUC to the best public one's. Where MEMBERSCOPE_ARCHIVE_DIR or TFDS_DATA_DIR is not set,
a line says that Location-30 or CIFAR-10 is left out.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared.targets import last_line

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

TARGETS = 8
SLOPES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)


def figures(scores, member) -> np.ndarray:
    """AUC and TPR at FPR 0.01."""
    from memberscope.metrics.area import auc_value
    from memberscope.metrics.curve import rank
    from memberscope.metrics.low_fpr import tpr_value

    ranking = rank(np.ascontiguousarray(scores), member)
    return np.array([auc_value(ranking), tpr_value(ranking, 0.01)])


# ------------------------------------------------------------------------------------------------------------ public settings


def true_probs(scores, labels, *, logits: bool, temperature: float, taylor: bool = False):
    """(models, n) probability of the true class: softmax at a temperature, or the published code's sm-taylor-softmax."""
    logs = scores.astype(np.float64) if logits else np.log(np.maximum(scores.astype(np.float64), 1e-45))
    logs = logs / temperature
    at = np.broadcast_to(labels, logs.shape[:2])[..., None]
    if not taylor:
        logs = logs - logs.max(axis=-1, keepdims=True)
        raised = np.exp(logs)
        return np.take_along_axis(raised, at, -1)[..., 0] / raised.sum(axis=-1)
    order, margin = 4, 0.6

    def series(values):
        return sum(values**k / math.factorial(k) for k in range(order + 1))

    true = np.take_along_axis(logs, at, -1)[..., 0]
    hard = series(true - margin)
    return hard / (series(logs).sum(axis=-1) - series(true) + hard)


def public_rmia(scores, labels, member, t: int, rows, *, logits: bool, online: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Scores by setting. These are the log-ratios themselves, since the population only breaks ties."""
    known = member[rows]
    for temperature, taylor in ((1.0, False), (2.0, False), (3.0, False), (4.0, False), (2.0, True)):
        probs = np.maximum(true_probs(scores, labels, logits=logits, temperature=temperature, taylor=taylor), 1e-300)
        name = f"temperature {temperature:g}{', sm-taylor' if taylor else ''}"
        shadows = probs[rows]
        outs = np.where(known, 0.0, shadows).sum(axis=0) / np.maximum((~known).sum(axis=0), 1)
        if online:
            ins = np.where(known, shadows, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
            yield name, np.log(probs[t]) - np.log(np.maximum((ins + outs) / 2, 1e-300))
            continue
        for a in SLOPES:
            yield f"{name}, a {a:g}", np.log(probs[t]) - np.log((1 + a) / 2 * outs + (1 - a) / 2)


def scaled(scores, labels, *, logits: bool):
    """(models, n) scaled logits, from probabilities with the authors' 1e-45."""
    at = np.broadcast_to(labels, scores.shape[:2])[..., None]
    if logits:
        logs = scores.astype(np.float64)
        logs = logs - logs.max(axis=-1, keepdims=True)
        raised = np.exp(logs)
        true = np.take_along_axis(raised, at, -1)[..., 0]
        return np.log(true + 1e-45) - np.log(raised.sum(axis=-1) - true + 1e-45)
    probs = scores.astype(np.float64)
    true = np.take_along_axis(probs, at, -1)[..., 0]
    rest = np.where(np.arange(probs.shape[-1]) == at, 0.0, probs).sum(axis=-1)
    return np.log(true + 1e-45) - np.log(rest + 1e-45)


def public_lira(phi, member, t: int, rows, *, online: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Scores by setting."""
    known, values, x = member[rows], phi[rows], phi[t]
    ins, outs = np.where(known, values, np.nan), np.where(known, np.nan, values)
    fixed = {"all values": (np.nanstd(ins), np.nanstd(outs))}
    several = len(rows) > 2
    if several:
        fixed["own means"] = tuple(np.sqrt(np.nanmean((s - np.nanmean(s, axis=0)) ** 2)) for s in (ins, outs))
    for center, name in ((np.nanmedian, "median"), (np.nanmean, "mean")):
        mu_in, mu_out = center(ins, axis=0), center(outs, axis=0)
        spreads: dict[str, tuple] = {f"{name}, fixed ({how})": pair for how, pair in fixed.items()}
        spreads[f"{name}, fixed (all values, IN for both)"] = (fixed["all values"][0],) * 2
        if several:
            spreads[f"{name}, per record"] = (np.nanstd(ins, axis=0) + 1e-30, np.nanstd(outs, axis=0) + 1e-30)
        for how, (sd_in, sd_out) in spreads.items():
            z_out = (x - mu_out) / sd_out
            if online:
                yield how, 0.5 * (z_out**2 - ((x - mu_in) / sd_in) ** 2) + np.log(sd_out / sd_in) * np.ones(len(x))
            elif "IN for both" not in how:
                yield f"{how}, one-sided", z_out
                yield f"{how}, two-sided", 0.5 * z_out**2 + np.log(sd_out) * np.ones(len(x))


# --------------------------------------------------------------------------------------------------------------------- fleets


@dataclass(frozen=True, kw_only=True, eq=False)
class Fleet:
    """Outputs of a half design's models.

    Attributes:
        name: what the table calls the fleet.
        scores: (models, n, classes) logits or probabilities of the records, `outside` (models, z, classes) of the population.
        labels: (n,) classes of the records, `theirs` (z,) of the population.
        member: (models, n) bool, was that model trained on that record?
        logits: are `scores` logits?
    """

    name: str
    scores: Any
    outside: Any
    labels: Any
    theirs: Any
    member: Any
    logits: bool

    def evidence(self, t: int, rows):
        """The evidence against model `t`, with the models `rows` as its shadows."""
        from memberscope import Evidence, Predictions, ShadowPredictions

        form, models, ids = "logits" if self.logits else "probs", [t, *rows], np.arange(len(self.labels))
        return Evidence(
            target=Predictions(**{form: self.scores[t]}, labels=self.labels, member=self.member[t], record_ids=ids),
            shadows=ShadowPredictions(
                **{form: self.scores[rows]}, labels=self.labels, member=self.member[rows], record_ids=ids
            ),
            population=ShadowPredictions(
                **{form: self.outside[models]}, labels=self.theirs, member=np.zeros((len(models), len(self.theirs)), bool)
            ),
        )


def estimators(name: str, x, y, make: Callable, *, members: int, outside: int, shadows: int, seed: int) -> Fleet:
    """Scikit-learn models, each trained on half of 2 `members` records."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    records, others = order[: 2 * members], order[2 * members : 2 * members + outside]
    first = rng.random((shadows // 2 + 1, 2 * members)) < 0.5
    member = np.stack([first, ~first], axis=1).reshape(shadows + 2, -1)
    on_records, on_population = [], []
    for k, chosen in enumerate(member):
        model = make(k).fit(x[records[chosen]], y[records[chosen]])
        for part, into in ((records, on_records), (others, on_population)):
            full = np.zeros((len(part), int(y.max()) + 1))
            full[:, model.classes_] = model.predict_proba(x[part])
            into.append(full)
    return Fleet(
        name=name,
        scores=np.array(on_records),
        outside=np.array(on_population),
        labels=y[records],
        theirs=y[others],
        member=member,
        logits=False,
    )


def tables(seed: int, only: str) -> Iterator[Fleet]:
    """Forests and boosted trees."""
    from sklearn.datasets import load_breast_cancer, load_digits
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

    if only and not only.startswith(("digits, forest", "breast")):
        return
    rng = np.random.default_rng(seed)
    x, y = load_digits(return_X_y=True)
    y = np.where(rng.random(len(y)) < 0.2, rng.integers(0, 10, len(y)), y)
    size = {"members": 600, "outside": 500, "shadows": 16}
    yield estimators("digits, forest", x, y, lambda k: RandomForestClassifier(100, random_state=k), **size, seed=seed)
    yield estimators(
        "digits, forest of large leaves", x, y, lambda k: RandomForestClassifier(100, min_samples_leaf=5, random_state=k), **size,
        seed=seed,
    )  # fmt: skip
    x, y = load_breast_cancer(return_X_y=True)
    y = np.where(rng.random(len(y)) < 0.1, 1 - y, y)
    size = {"members": 200, "outside": 160, "shadows": 16}
    yield estimators("breast cancer, forest", x, y, lambda k: RandomForestClassifier(100, random_state=k), **size, seed=seed)
    yield estimators(
        "breast cancer, boosted trees",
        x,
        y,
        lambda k: HistGradientBoostingClassifier(max_iter=40, random_state=k),
        **size,
        seed=seed,
    )


def networks(seed: int, only: str) -> Iterator[Fleet]:
    """The built-in models of the `shadow` study."""
    archive, tfds = os.environ.get("MEMBERSCOPE_ARCHIVE_DIR", ""), os.environ.get("TFDS_DATA_DIR", "")
    wanted = [("digits, perceptrons", {"dataset": "digits", "shadows": 16})]
    if archive:
        wanted += [
            (f"location30, perceptrons, {k} shadows", {"dataset": "location30", "shadows": k, "archive_dir": archive})
            for k in (16, 64)
        ]
    else:
        print("location30 left out: MEMBERSCOPE_ARCHIVE_DIR names no folder", flush=True)
    if tfds:
        cifar = {"dataset": "cifar10", "model": "dense", "depth": 3, "width": 64, "members": 25_000, "shadows": 16}
        wanted.append(("cifar10, dense", cifar))
    else:
        print("cifar10 left out: TFDS_DATA_DIR names no folder", flush=True)
    for name, settings in wanted:
        if name.startswith(only):
            yield network(name, seed, **settings)


def network(name: str, seed: int, **settings: object) -> Fleet:
    from memberscope.config.outside import ShadowStudyConfig
    from memberscope.interrupt import StopFlag
    from memberscope.studies import setup
    from memberscope.studies.shadow import draw

    config = ShadowStudyConfig(store="none", seed=seed, **settings)
    data = setup.load_data(config)
    plan, trainer = draw.plan_for(data, config), setup.trainer_for(config, config)
    data = setup.with_noise(data, config, {"records": plan.records, "population": plan.population}, seed=seed)
    members = [plan.members(k) for k in range(plan.n_models)]
    fleet = setup.train_fleet(trainer, data, members, draw.model_seeds(plan, seed), config, StopFlag())
    on_records, on_population = fleet.outputs(data.x[plan.records]), fleet.outputs(data.x[plan.population])
    return Fleet(
        name=name,
        scores=on_records,
        outside=on_population,
        labels=data.y[plan.records],
        theirs=data.y[plan.population],
        member=plan.member,
        logits=True,
    )


# ------------------------------------------------------------------------------------------------------------------- the table


def rows_of(fleet: Fleet) -> Iterator[tuple[str, int, np.ndarray, np.ndarray, np.ndarray, str]]:
    """Attack, shadows, before, default, best public, its name."""
    import dataclasses

    from memberscope.attacks import lira_settings, registry

    phi = scaled(fleet.scores, fleet.labels, logits=fleet.logits)
    every = len(fleet.member) - 2
    for count in [k for k in (2, 4, 8, 16, 32, 64) if k <= every]:
        for name in ("lira_online", "lira_offline", "rmia_online", "rmia_offline"):
            online, before, default, public = name.endswith("online"), [], [], {}
            for t in range(0, 2 * min(TARGETS, len(fleet.member) // 2), 2):
                rows = np.array([k for k in range(len(fleet.member)) if k // 2 != t // 2])[:count]
                evidence, member, attack = fleet.evidence(t, rows), fleet.member[t], registry.get(name)
                if name.startswith("rmia"):
                    old = dataclasses.replace(attack, temperature=1.0, a=0.3)
                    tried = public_rmia(fleet.scores, fleet.labels, fleet.member, t, rows, logits=fleet.logits, online=online)
                else:
                    many = count // 2 >= lira_settings.PER_RECORD_FROM
                    old = dataclasses.replace(attack, variance="per_record" if many else "global")
                    tried = public_lira(phi, fleet.member, t, rows, online=online)
                before.append(figures(old.score(evidence, seed=0).scores, member))
                default.append(figures(attack.score(evidence, seed=0).scores, member))
                for setting, scores in tried:
                    public.setdefault(setting, []).append(figures(scores, member))
            means = {setting: np.mean(found, axis=0) for setting, found in public.items()}
            best = max(means, key=lambda setting: means[setting][0])
            yield name, count, np.mean(before, axis=0), np.mean(default, axis=0), means[best], best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="use only the forests")
    parser.add_argument("--seed", type=int, default=0, help="seed of the fleets")
    parser.add_argument("--only", default="", help="use only fleets whose names start with this, such as location30")
    arguments = parser.parse_args()
    print(
        "| fleet | attack | shadows | before | default | best public setting | which |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    lowest, start = math.inf, time.time()
    for source in (tables,) if arguments.quick else (tables, networks):
        for fleet in source(arguments.seed, arguments.only):
            for attack, count, before, default, public, which in rows_of(fleet):
                lowest = min(lowest, default[0] / public[0])
                cells = " | ".join(f"{auc:.3f} / {tpr:.3f}" for auc, tpr in (before, default, public))
                print(f"| {fleet.name} | `{attack}` | {count} | {cells} | {which} |", flush=True)
    print(f"{time.time() - start:.0f} s")
    print(last_line("settings", lowest, quick=arguments.quick, digits=3))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
