"""Compares RMIA with one query and five, with gamma 2 and gamma 1; and, with one reference, with offline LiRA.

    python benchmarks/rmia.py            digits, Location-30 and CIFAR-10, 16 shadows; a quarter of an hour on two idle cores
    python benchmarks/rmia.py --quick    digits with 4 shadows; under a minute

Every fleet has the half design, and up to eight of its models are the target in turn. A cell gives the means of AUC / TPR at FPR 0.01
over the targets, with half the width of their 95% t intervals; the differences of five queries and one are paired by target.
Temperature and `a` are chosen on the shadows in every cell. Queries are the record and four copies, moved by one pixel; *trained on
copies* means that the models were trained on all nine such copies of each of their records. At gamma 2, ties are ordered by the ratio,
as in the default; at gamma 1 LR > 1 is counted and ties are kept, as in the authors' code.

The second table has paired differences of RMIA offline and LiRA offline, both with one query and one pair of shadows, so that every
record has one reference: RMIA as it is by default against the one-sided test and against the authors' two-sided score; and the best of
the published settings of each (see benchmarks/settings.py), *picked by looking at the targets*, as no attacker could.

The last line is the smallest ratio of the default's AUC to that of the best of the four cells. Where MEMBERSCOPE_ARCHIVE_DIR or
TFDS_DATA_DIR is not set, a line says that Location-30 or CIFAR-10 is left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared.targets import last_line

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.filterwarnings("ignore", category=FutureWarning)

TARGETS = 8
QUERIES = 5
TRAINED_ON = 9


@dataclass(frozen=True, kw_only=True, eq=False)
class Fleet:
    """Outputs of a half design's models.

    Attributes:
        name: what the tables call the fleet.
        scores: (models, n, classes) logits of the records, `outside` (models, z, classes) of the population.
        labels: (n,) classes of the records, `theirs` (z,) of the population.
        member: (models, n) bool, was that model trained on that record?
        copies: (models, n, queries, classes) logits of the records' copies; None where they have none.
    """

    name: str
    scores: Any
    outside: Any
    labels: Any
    theirs: Any
    member: Any
    copies: Any

    def evidence(self, t: int, rows, *, several: bool):
        """The evidence against model `t`, with the models `rows` as its shadows, with copies or without."""
        from memberscope import Evidence, Predictions, ShadowPredictions

        models, ids = [t, *rows], np.arange(len(self.labels))
        return Evidence(
            target=Predictions(logits=self.scores[t], labels=self.labels, member=self.member[t], record_ids=ids),
            shadows=ShadowPredictions(logits=self.scores[rows], labels=self.labels, member=self.member[rows], record_ids=ids),
            population=ShadowPredictions(
                logits=self.outside[models], labels=self.theirs, member=np.zeros((len(models), len(self.theirs)), bool)
            ),
            augmented=self.copies[models] if several else None,
        )


def network(name: str, *, seed: int, on_copies: bool = False, **settings: object) -> Fleet:
    """The built-in models of the `shadow` study, trained on their records or on all copies of them."""
    from memberscope import queries
    from memberscope.config.outside import ShadowStudyConfig
    from memberscope.interrupt import StopFlag
    from memberscope.studies import setup
    from memberscope.studies.shadow import draw

    config = ShadowStudyConfig(store="none", seed=seed, **settings)
    data = setup.load_data(config)
    plan, trainer = draw.plan_for(data, config), setup.trainer_for(config, config)
    _, data = draw.with_noise(data, plan, config)
    members, shown = [plan.members(k) for k in range(plan.n_models)], data
    if on_copies:
        n = len(plan.records)
        copies = np.concatenate(list(queries.augmentations(data.x[plan.records], TRAINED_ON)))
        shown = dataclasses.replace(data, x=copies, y=np.tile(data.y[plan.records], TRAINED_ON))
        members = [np.concatenate([np.flatnonzero(row) + n * copy for copy in range(TRAINED_ON)]) for row in plan.member]
    fleet = setup.train_fleet(trainer, shown, members, draw.model_seeds(plan, seed), config, StopFlag())
    several = None
    if queries.is_image(data.x):
        several = np.stack([fleet.outputs(x) for x in queries.augmentations(data.x[plan.records], QUERIES)], axis=2)
    return Fleet(
        name=name, scores=fleet.outputs(data.x[plan.records]), outside=fleet.outputs(data.x[plan.population]),
        labels=data.y[plan.records], theirs=data.y[plan.population], member=plan.member, copies=several,
    )  # fmt: skip


def fleets(*, quick: bool, seed: int, only: str) -> Iterator[Fleet]:
    archive, tfds = os.environ.get("MEMBERSCOPE_ARCHIVE_DIR", ""), os.environ.get("TFDS_DATA_DIR", "")
    wanted: list[tuple[str, dict[str, object]]] = [("digits, mlp", {"dataset": "digits", "shadows": 4 if quick else 16})]
    if not quick:
        wanted.append(("digits, conv", {"dataset": "digits", "model": "conv", "shadows": 16}))
        if archive:
            wanted.append(("location30, mlp", {"dataset": "location30", "shadows": 16, "archive_dir": archive}))
        else:
            print("location30 left out: MEMBERSCOPE_ARCHIVE_DIR names no folder", flush=True)
        if tfds:
            dense = {"dataset": "cifar10", "model": "dense", "depth": 3, "width": 64, "members": 2500, "population": 2500}
            wanted.append(("cifar10, dense", {**dense, "shadows": 16}))
            wanted.append(("cifar10, dense, trained on copies", {**dense, "shadows": 16, "epochs": 12, "on_copies": True}))
        else:
            print("cifar10 left out: TFDS_DATA_DIR names no folder", flush=True)
    for name, settings in wanted:
        if name.startswith(only):
            yield network(name, seed=seed, **settings)  # type: ignore[arg-type]  # settings by name


def shadows_of(fleet: Fleet, t: int, count: int):
    return np.array([k for k in range(len(fleet.member)) if k // 2 != t // 2])[:count]


def targets_of(fleet: Fleet) -> range:
    return range(0, 2 * min(TARGETS, len(fleet.member) // 2), 2)


def cells(fleet: Fleet, name: str, count: int) -> tuple[dict[str, np.ndarray], int]:
    """(targets, 2) AUC and TPR by cell, `default` among them, and on how many targets the default votes."""
    from memberscope.attacks import registry, rmia_settings
    from settings import figures

    found: dict[str, list[np.ndarray]] = {}
    votes = 0
    for t in targets_of(fleet):
        rows, member = shadows_of(fleet, t, count), fleet.member[t]
        evidence = fleet.evidence(t, rows, several=fleet.copies is not None)
        made = rmia_settings.choose(
            evidence.shadows,
            evidence.population.models(slice(1, None)),
            online=name.endswith("online"),
            temperature=None,
            a=None,
        )
        scores = {}
        for gamma, attack in ((2, registry.get(name)), (1, registry.get(f"{name}_gamma_1"))):
            attack = dataclasses.replace(attack, temperature=made.temperature, a=made.a)
            scores[f"1 query, gamma {gamma}"] = dataclasses.replace(attack, queries="one").score(evidence, seed=0).scores
            if fleet.copies is not None:
                voted = dataclasses.replace(attack, queries="vote").score(evidence, seed=0).scores
                scores[f"{QUERIES} queries, gamma {gamma}"] = voted
            if gamma == 2:
                scores["default"] = attack.score(evidence, seed=0).scores
        several = scores.get(f"{QUERIES} queries, gamma 2")
        votes += several is not None and np.array_equal(scores["default"], several)
        for cell, values in scores.items():
            found.setdefault(cell, []).append(figures(values, member))
    return {cell: np.array(values) for cell, values in found.items()}, votes


def with_width(values: np.ndarray) -> str:
    """Means over targets of AUC and TPR, each with half the width of its interval."""
    from memberscope.metrics import paired_seeds

    means = [paired_seeds(column) for column in values.T]
    return " / ".join(f"{mean.mean:.3f} ± {(mean.ci_high - mean.ci_low) / 2:.3f}" for mean in means)


def difference(first: np.ndarray, second: np.ndarray) -> list[str]:
    """Mean paired difference over targets of AUC and of TPR, each with its interval."""
    from memberscope.metrics import paired_seeds

    means = [paired_seeds(column) for column in (first - second).T]
    return [f"{mean.mean:+.3f} ({mean.ci_low:+.3f} to {mean.ci_high:+.3f})" for mean in means]


def with_one_reference(fleet: Fleet) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """What is compared, and (targets, 2) AUC and TPR of RMIA and of LiRA, both offline with one query and a pair of shadows."""
    from memberscope.attacks import registry
    from settings import figures, public_lira, public_rmia, scaled

    attacks = ("rmia_offline", "lira_offline", "lira_offline_two_sided")
    ours: dict[str, list[np.ndarray]] = {name: [] for name in attacks}
    public: dict[str, dict[str, list[np.ndarray]]] = {"rmia": {}, "lira": {}}
    phi = scaled(fleet.scores, fleet.labels, logits=True)
    for t in targets_of(fleet):
        rows, member = shadows_of(fleet, t, 2), fleet.member[t]
        evidence = fleet.evidence(t, rows, several=False)
        for name in attacks:
            ours[name].append(figures(registry.get(name).score(evidence, seed=0).scores, member))
        tried = {
            "rmia": public_rmia(fleet.scores, fleet.labels, fleet.member, t, rows, logits=True, online=False),
            "lira": public_lira(phi, fleet.member, t, rows, online=False),
        }
        for kind, settings in tried.items():
            for setting, scores in settings:
                public[kind].setdefault(setting, []).append(figures(scores, member))
    rmia = np.array(ours["rmia_offline"])
    yield "default against one-sided", rmia, np.array(ours["lira_offline"])
    yield "default against two-sided", rmia, np.array(ours["lira_offline_two_sided"])
    best = {}
    for kind, settings_of in public.items():
        arrays = {setting: np.array(values) for setting, values in settings_of.items()}
        name = max(arrays, key=lambda setting: arrays[setting][:, 0].mean())
        best[kind] = (name, arrays[name])
    yield f"best published ({best['rmia'][0]}) against best published ({best['lira'][0]})", best["rmia"][1], best["lira"][1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="use only digits, with 4 shadows")
    parser.add_argument("--seed", type=int, default=0, help="seed of the fleets")
    parser.add_argument("--only", default="", help="use only fleets whose names start with this, such as cifar10")
    arguments = parser.parse_args()
    lowest, start, compared = math.inf, time.time(), []
    shown = [f"{queries}, gamma {gamma}" for gamma in (2, 1) for queries in ("1 query", f"{QUERIES} queries")]
    print(
        f"| fleet | attack | shadows | {' | '.join(shown)} | 5 less 1, gamma 2 | the default votes |\n| {' | '.join(['---'] * 9)} |"
    )
    for fleet in fleets(quick=arguments.quick, seed=arguments.seed, only=arguments.only):
        for name in ("rmia_online", "rmia_offline"):
            for count in (2, len(fleet.member) - 2):
                found, votes = cells(fleet, name, count)
                best = max(values[:, 0].mean() for cell, values in found.items() if cell != "default")
                lowest = min(lowest, found["default"][:, 0].mean() / best)
                texts = [with_width(found[cell]) if cell in found else "no copies" for cell in shown]
                texts += ["no copies", "no copies"]
                if fleet.copies is not None:
                    texts[-2:] = [
                        " / ".join(difference(found[shown[1]], found[shown[0]])), f"on {votes} of {len(targets_of(fleet))} targets",
                    ]  # fmt: skip
                print(f"| {fleet.name} | `{name}` | {count} | {' | '.join(texts)} |", flush=True)
        for what, first, second in with_one_reference(fleet):
            pairs = [f"{one:.3f}, {other:.3f}" for one, other in zip(first.mean(axis=0), second.mean(axis=0), strict=True)]
            texts = [f"{pair}: {text}" for pair, text in zip(pairs, difference(first, second), strict=True)]
            compared.append(f"| {fleet.name} | {what} | {' | '.join(texts)} |")
    print("\n| fleet | RMIA against LiRA, one reference | AUC | TPR at FPR 0.01 |\n| --- | --- | --- | --- |")
    print("\n".join(compared))
    print(f"{time.time() - start:.0f} s")
    print(last_line("rmia", lowest, quick=arguments.quick, digits=3))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
