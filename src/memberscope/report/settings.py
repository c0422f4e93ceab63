"""Groups runs that differ only in their seed into settings, summarizes a setting over its seeds, and compares two settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from memberscope import metrics
from memberscope.audit.headline import Headline, summarized, verdict_on
from memberscope.metrics import registry
from memberscope.report import facts
from memberscope.report.facts import Figure
from memberscope.tracking import KeptRun

MARGIN = 0.02  # a difference in AUC smaller than this does not matter, for the verdict "no difference"
BY_SEED = {"study.seed", "plan.digest", "data.digest"}  # parameters that a seed changes

VERDICTS = ("leaks", "doubt", "odd", "quiet", "none")  # the most serious first
MOST_DIGITS = 19  # of a seed; a longer one is no seed of ours
REPLICATE = (
    "memberscope.replicate"  # the tag of a run that was read from an evidence file, which numbers seeds and does not name them
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way of training and auditing, and its runs.

    Attributes:
        name: the name of the setting, or of its only run.
        runs: one run per seed, in order of seed; or a single run that shares its setting with no other.
        seeds: the seeds of the runs; empty for a single run.
    """

    name: str
    runs: tuple[KeptRun, ...]
    seeds: tuple[int, ...] = ()

    @property
    def several(self) -> bool:
        """Whether it has more than one seed."""
        return len(self.runs) > 1

    @property
    def labels(self) -> tuple[str, ...]:
        """What its seeds are called: themselves or, where an evidence file only numbers them, ``no. 1`` and so on."""
        return tuple(
            f"no. {seed}" if seed_of(run) is None else str(seed) for seed, run in zip(self.seeds, self.runs, strict=True)
        )

    @property
    def headlines(self) -> list[Headline]:
        """The headlines of the runs in which an attack ran."""
        return [found for run in self.runs if (found := facts.headline(run)) is not None]

    @property
    def attack(self) -> str:
        """The primary attacks of its runs, the most frequent first; empty if none ran."""
        return summarized(self.headlines) if self.headlines else ""

    def mean(self, metric: str) -> Figure:
        """A metric of the headline: that of the single run, or the mean over seeds with its t interval."""
        if not self.several:
            return facts.headline_metric(self.runs[0], metric)
        return mean_over([facts.headline_metric(run, metric) for run in self.runs], metric)

    @property
    def judged(self) -> str:
        """The verdict: that of a single run, or for several seeds that of the mean AUC's interval; ``doubt`` in place of ``leaks`` if a run
        is in doubt.
        """
        if not self.several:
            return facts.judged(self.runs[0])
        verdict = verdict_on(self.mean("auc"))
        return "doubt" if verdict == "leaks" and any(facts.doubted(run) for run in self.runs) else verdict

    def mean_of(self, attack: str, metric: str) -> Figure:
        """A metric of one attack on all records: the mean over seeds with its t interval."""
        return mean_over([facts.figure(run, attack, metric) for run in self.runs], metric)


def mean_over(found: Sequence[Figure], metric: str) -> Figure:
    """The mean of a metric over seeds with its 95% t interval (none from one seed), clipped to the metric's range; empty if no run has the
    metric.
    """
    values = [one.value for one in found if one.value is not None]
    if not values:
        return Figure(status="missing")
    seen = metrics.paired_seeds(values)
    if seen.ci_low is None or seen.ci_high is None:
        return Figure(value=seen.mean)
    spec = registry.find(metric)
    lowest, highest = (-math.inf, math.inf) if spec is None else spec.range
    return Figure(value=seen.mean, ci_low=max(seen.ci_low, lowest), ci_high=min(seen.ci_high, highest))


def settings_of(runs: Sequence[KeptRun]) -> list[Setting]:
    """Settings in the order of their first runs. Runs of one setting agree in all parameters except those that a seed changes."""
    together: dict[object, dict[int, KeptRun]] = {}
    for run in runs:
        name, seed = run.tags.get("memberscope.setting", ""), _told_apart(run)
        key: object = (name, tuple(sorted((key, value) for key, value in run.params.items() if key not in BY_SEED)))
        if not name or seed is None or seed in together.get(key, {}):
            key, seed = run.id, 0
        together.setdefault(key, {})[seed] = run
    found: list[Setting] = []
    for of_setting in together.values():
        seeds = tuple(sorted(of_setting))
        ordered = tuple(of_setting[seed] for seed in seeds)
        one = ordered[0]
        if len(ordered) > 1:
            found.append(Setting(name=one.tags["memberscope.setting"], runs=ordered, seeds=seeds))
        else:
            found.append(Setting(name=one.name, runs=ordered, seeds=() if (own := _told_apart(one)) is None else (own,)))
    return _unique_names(found)


def _unique_names(settings: Sequence[Setting]) -> list[Setting]:
    """Append the start of the first run's id to the names of settings that share a name."""
    names = [setting.name for setting in settings]
    return [
        replace(setting, name=f"{setting.name} ({setting.runs[0].id[:8]})") if names.count(setting.name) > 1 else setting
        for setting in settings
    ]


def seed_of(run: KeptRun) -> int | None:
    """The seed of the study that made a run; None where the run does not state it."""
    return _whole(str(run.params.get("study.seed", run.tags.get("memberscope.seed", ""))))


def _told_apart(run: KeptRun) -> int | None:
    """What tells a run from others of its setting: its seed or, in an evidence file, its number."""
    seed = seed_of(run)
    return _whole(run.tags.get(REPLICATE, "")) if seed is None else seed


def _whole(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) <= MOST_DIGITS else None


@dataclass(frozen=True, kw_only=True)
class OverSeeds:
    """Two settings compared, paired by seed: the AUC of one attack on all records, second minus first.

    Attributes:
        first, second: the settings.
        attack: the attack that is primary in most of their runs, among those that ran in all of them.
        verdict: the verdict, with the difference over the seeds that both have; adjusted over all comparisons of the page (Holm).
    """

    first: Setting
    second: Setting
    attack: str
    verdict: metrics.Verdict


def compare_settings(reference: Setting, others: Sequence[Setting]) -> list[OverSeeds]:
    """Compare every setting with the reference, where the two share at least two seeds and an attack."""
    attacks: dict[int, str] = {}
    differences: dict[str, list[float]] = {}
    for place, other in enumerate(others):
        shared = sorted(set(reference.seeds) & set(other.seeds))
        pairs = [(reference.runs[reference.seeds.index(seed)], other.runs[other.seeds.index(seed)]) for seed in shared]
        attack = _common([run for pair in pairs for run in pair]) if len(shared) > 1 else ""
        if attack:
            attacks[place] = attack
            differences[str(place)] = [_auc(second, attack) - _auc(first, attack) for first, second in pairs]
    judged = metrics.verdicts(differences, margin=MARGIN) if differences else {}
    return [
        OverSeeds(first=reference, second=others[place], attack=attack, verdict=judged[str(place)])
        for place, attack in attacks.items()
    ]


def _common(runs: Sequence[KeptRun]) -> str:
    """The attack that is primary in most runs, among those that ran in all of them; empty if none did."""
    names = [name for name in facts.attacks(runs[0]) if all(name in facts.attacks(run) for run in runs)]
    primary = [found.attack for run in runs if (found := facts.headline(run)) is not None]
    return max(names, key=primary.count, default="")


def _auc(run: KeptRun, attack: str) -> float:
    found = facts.figure(run, attack, "auc").value
    assert found is not None  # the attack ran
    return found
