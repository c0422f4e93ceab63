"""Entry point `mitigate`: what each defence buys and costs, against an attacker who knows of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memberscope import metrics, plots, seeds, signals
from memberscope.attacks import registry
from memberscope.audit import AuditReport, run_audit
from memberscope.config import MitigateConfig, groups
from memberscope.datasets import LabeledData, duplicates, load_dataset
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.interrupt import StopFlag
from memberscope.plan import replace_labels
from memberscope.predictions import Predictions, ShadowPredictions
from memberscope.progress import Progress
from memberscope.release import parse_release
from memberscope.release.apply import release_evidence
from memberscope.release.undo import temperature_of, undo
from memberscope.shadow_plan import make_shadow_plan
from memberscope.studies.audited import markdown
from memberscope.studies.defended import TARGET, Bench, Defended, defend, number, promised
from memberscope.studies.ladder import UNDEFENDED, Rung, check_attacks, check_releases, rungs
from memberscope.studies.ladder_verdicts import DISAGREE, AttackChange, attack_changes, changes_table, opposed
from memberscope.studies.reading import log_reading, with_reading
from memberscope.studies.result import StudyResult
from memberscope.tracking import Tracker, as_json
from memberscope.training.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd

ATTACKS = (
    "threshold_loss", "trained_lr", "trained_mlp", "metric_correctness", "metric_entropy", "metric_modified_entropy", "shadow_shokri",
    "lira_online", "lira_offline", "rmia_online", "label_only_gap", "label_only_robust",
)  # fmt: skip
CHANGED = ("auc", "advantage_heldout", "tpr_at_fpr_0_01")
BOUND = ("epsilon_lower_bound", "epsilon_lower_bound_ceiling")
LEAST_PART = 50  # records of the population, of validation, and of the defender's reference, each


@dataclass(frozen=True, kw_only=True, eq=False)
class Climb:
    """One rung at one seed: the audit of what is published, and the utility."""

    rung: Rung
    seed: int
    report: AuditReport
    utility: Mapping[str, float]
    defended: Defended


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What the bounds of epsilon of all rungs are compared with.

    Attributes:
        delta: of every bound in the ladder: that of DP-SGD's promise if a rung makes one.
        epsilon: what DP-SGD promises; None if no rung promises a finite epsilon.
    """

    delta: float = 1e-5
    epsilon: float | None = None


def run(config: MitigateConfig, tracker: Tracker, stop: StopFlag) -> StudyResult:
    """Run the ladder; `tracker` is the parent, with a child a rung.

    Raises:
        UserError: before anything trains, for whatever would fail later.
        Interrupted: rungs that were trained stay in the store.
    """
    ladder = rungs(config)
    data = load_dataset(config.dataset, data_dir=config.data_dir, archive_dir=config.archive_dir, duplicates=config.duplicates)
    duplicates.check_each_once(data)
    data = data.choose(config.classes, choice=config.class_choice, seed=config.seed)
    recipe = Recipe.of(config, config)
    recipe.check(data.shape)
    check_releases(ladder, classes=data.classes)
    names = attack_names(ladder)
    check_attacks(ladder)
    for seed in range(config.seed, config.seed + config.seeds):
        check_batches(prepare(data, config, seed), recipe, config, ladder)
    promise = Promise() if number(config.delta) is None else Promise(delta=float(config.delta))
    if any(rung.training == "dp" for rung in ladder):
        private = promised(prepare(data, config, config.seed), recipe, config)
        promise = Promise(delta=private.delta, epsilon=private.epsilon if np.isfinite(private.epsilon) else None)
        config = replace(config, delta=private.delta)
    tracker.text(as_json(groups(config)), "study.json")
    said = log_reading(data, tracker)
    climbs: dict[str, list[Climb]] = {rung.name: [] for rung in ladder}
    with Progress(len(ladder) * config.seeds, "ladder", unit="rung") as progress:
        for seed in range(config.seed, config.seed + config.seeds):
            bench = prepare(data, config, seed)
            trained: dict[str, Defended] = {}
            for rung in ladder:
                stop.check()
                if rung.training not in trained:
                    trained[rung.training] = defend(rung.training, bench, recipe, config, stop, shadows=rung.shadows)
                climbs[rung.name].append(climb(rung, trained[rung.training], bench, names, promise))
                progress.advance(note=f"{rung.name}, seed {seed}")
    return with_reading(conclude(config, ladder, climbs, tracker), said)


def attack_names(ladder: Sequence[Rung]) -> tuple[str, ...]:
    """The attacks of every rung: `ATTACKS` and what the rungs are judged by."""
    primary = [registry.get(rung.primary).name for rung in ladder]
    return tuple(dict.fromkeys([*ATTACKS, *primary]))


def check_batches(bench: Bench, recipe: Recipe, config: MitigateConfig, ladder: Sequence[Rung]) -> None:
    """Raise UserError for a batch larger than a model's members."""
    least = int(bench.plan.member.sum(axis=1).min())
    for name, size in (("batch_size", recipe.batch_size), ("private_batch_size", config.private_batch_size)):
        if size > least and (name == "batch_size" or any(rung.training == "dp" for rung in ladder)):
            raise UserError(f"{name}={size}: more than the members of a model; allowed: 1 to {least}")


def prepare(data: LabeledData, config: MitigateConfig, seed: int) -> Bench:
    """The seed's plan (design half), labels after noise, and what is outside the plan in three parts."""
    usual, largest = (data.sizes.members if data.sizes else 0), len(data) // 4
    members = (min(usual, largest) if usual else largest) if config.members == "auto" else int(config.members)
    plan = make_shadow_plan(
        data.y, design="half", members=members, population=3 * LEAST_PART, shadows=max(2, config.shadows), targets=1,
        coin_flips=config.coin_flips == "yes", seed=seed,
    )  # fmt: skip
    outside = np.setdiff1d(np.arange(len(data)), plan.records)
    parts = np.array_split(seeds.stream(seed, "mitigate", "outside").permutation(outside), 3)
    noise = data.label_noise if config.label_noise == "auto" else float(config.label_noise)
    sides = {"records": plan.records, "outside": outside}
    noisy = data.with_labels(replace_labels(data.y, sides, share=noise, classes=data.classes, seed=seed))
    return Bench(data=noisy, plan=plan, population=parts[0], validation=parts[1], reference=parts[2], seed=seed)


def climb(rung: Rung, defended: Defended, bench: Bench, names: Sequence[str], promise: Promise) -> Climb:
    """Release what the models said, audit it, and measure what is left of its use."""
    plan, data = bench.plan, bench.data
    labels, ids = data.y[plan.records], plan.records
    whole = Predictions(logits=defended.logits[TARGET], labels=labels, member=plan.member[TARGET], record_ids=ids)
    rows = plan.shadows_of(TARGET) if rung.shadows else np.empty(0, dtype=np.intp)
    models = 1 + len(rows)
    evidence = Evidence(
        target=whole,
        shadows=ShadowPredictions(logits=defended.logits[1:models], labels=labels, member=plan.member[rows], record_ids=ids)
        if len(rows)
        else None,
        population=ShadowPredictions(
            logits=defended.population[:models], labels=data.y[bench.population],
            member=np.zeros((models, len(bench.population)), dtype=np.bool_),
        ),
        perturbed_labels=defended.perturbed,
    )  # fmt: skip
    asked = parse_release(rung.release)
    release = asked.fit(defence_data(defended, bench), seed=bench.seed) if asked.unfitted else asked
    published = whole
    if release.steps:
        evidence = release_evidence(evidence, release, shadow_release=asked, seed=bench.seed)
        published, evidence = evidence.target, undo(evidence, release)
    # All rungs' bounds are at the promise's delta: at a smaller one, a bound may exceed the promise without contradicting it, and
    # bounds at different deltas cannot be compared.
    report = run_audit(
        evidence, attacks=names, slices=("entire",), seed=bench.seed, coin_flips=plan.coin_flips, delta=promise.delta,
        promise=promise.epsilon,
    )  # fmt: skip
    return Climb(rung=rung, seed=bench.seed, report=report, utility=utility(published), defended=defended)


def defence_data(defended: Defended, bench: Bench) -> Predictions:
    """What MemGuard's classifier learns from: the members, and the reference records, which are never audited."""
    member = bench.plan.member[TARGET]
    inside = bench.plan.records[member]
    return Predictions(
        logits=np.concatenate([defended.logits[TARGET][member], defended.reference]),
        labels=bench.data.y[np.concatenate([inside, bench.reference])],
        member=np.arange(len(inside) + len(bench.reference)) < len(inside),
    )


def utility(target: Predictions) -> dict[str, float]:
    """Accuracy on members and non-members; of the non-members' confidences the loss in nats and the expected calibration error."""
    outside = ~target.member
    right = signals.correctness(target)
    found = {"train/accuracy": float(right[target.member].mean()), "val/accuracy": float(right[outside].mean())}
    if target.form in ("logits", "probs"):
        found["val/loss"] = float(signals.loss_nats(target)[outside].mean())
        found["val/ece"] = calibration_error(target, outside)
    return found


def calibration_error(target: Predictions, outside: NDArray[np.bool_]) -> float:
    """The expected calibration error of what is published; rows that sum to less than one are scaled up to it."""
    assert target.labels is not None
    if target.logits is not None:
        shifted = target.logits[outside].astype(np.float64)
        probs = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    else:
        assert target.probs is not None
        probs = target.probs[outside].astype(np.float64)
    probs = probs / probs.sum(axis=1, keepdims=True)
    return metrics.expected_calibration_error(probs, target.labels[outside], rng=seeds.stream(0, "ece"), draws=1).value


def estimate_of(one: Climb, attack: str, figure: str) -> metrics.Estimate | None:
    """A figure of a rung's audit, with its interval over the records; None where the attack was skipped."""
    estimate = one.report.cell(attack).figures.get(figure)
    return None if estimate is None or estimate.status == "skipped" else estimate


def figure_of(one: Climb, attack: str, figure: str) -> float | None:
    """The value of such a figure."""
    estimate = estimate_of(one, attack, figure)
    return None if estimate is None else float(estimate.value)


def ladder_frame(ladder: Sequence[Rung], climbs: Mapping[str, list[Climb]]) -> pd.DataFrame:
    """A row per rung and seed: utility, each changed figure of its primary attack, and of `Rung.against` on the undefended model."""
    import pandas as pd

    rows = []
    for rung in ladder:
        for one, plain in zip(climbs[rung.name], climbs[UNDEFENDED], strict=True):
            row: dict[str, Any] = {
                "rung": rung.name,
                "seed": one.seed,
                "primary": rung.primary,
                "against": rung.against,
                **one.utility,
            }
            for figure in CHANGED:
                own = estimate_of(one, rung.primary, figure)
                row[figure] = None if own is None else float(own.value)
                row |= {f"{figure}_{end}": None if own is None else getattr(own, end) for end in ("ci_low", "ci_high")}
                row[f"undefended_{figure}"] = figure_of(plain, rung.against, figure)
            cell = one.report.cell(rung.primary)
            for figure in BOUND:
                row[figure] = figure_of(one, rung.primary, figure)
            row["epsilon"] = one.defended.epsilon
            row["delta"] = one.defended.delta if cell.one_run is None else cell.one_run.delta
            row["seconds"] = one.defended.seconds
            rows.append(row)
    return pd.DataFrame(rows)


def attack_frame(ladder: Sequence[Rung], climbs: Mapping[str, list[Climb]]) -> pd.DataFrame:
    """Columns rung, seed, attack, auc; a row for each attack that could be made on a rung with a seed."""
    import pandas as pd

    rows = [
        (rung.name, one.seed, cell.attack, figure_of(one, cell.attack, "auc"))
        for rung in ladder
        for one in climbs[rung.name]
        for cell in one.report.whole()
        if cell.status == "ok"
    ]
    return pd.DataFrame(rows, columns=["rung", "seed", "attack", "auc"]).dropna()


def judge(frame: pd.DataFrame, *, margin: float) -> dict[str, dict[str, metrics.Verdict]]:
    """For each changed figure, the verdict on each rung's per-seed change from the undefended model; Holm over the rungs."""
    found: dict[str, dict[str, metrics.Verdict]] = {}
    for figure in CHANGED:
        changes: dict[str, list[float]] = {}
        for rung, part in frame.groupby("rung", sort=False):
            change = (part[figure] - part[f"undefended_{figure}"]).dropna()
            if rung != UNDEFENDED and len(change):
                changes[str(rung)] = change.tolist()
        found[figure] = metrics.verdicts(changes, margin=margin) if changes else {}
    return found


def table_of(frame: pd.DataFrame, judged: Mapping[str, Mapping[str, metrics.Verdict]]) -> pd.DataFrame:
    """The ladder table: a row per rung; means over seeds with t intervals, changes with verdicts.

    Of one seed there is no interval over seeds: a figure of its audit keeps the one over its records.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for rung, part in frame.groupby("rung", sort=False):
        row: dict[str, Any] = {
            "rung": rung,
            "primary": part["primary"].iloc[0],
            "against": part["against"].iloc[0],
            "seeds": len(part),
        }
        row["delta"] = part["delta"].iloc[0]
        for name in ("train/accuracy", "val/accuracy", "val/loss", "val/ece", *CHANGED, "seconds"):
            values = part[name].dropna().to_numpy(dtype=float) if name in part else np.empty(0)
            if len(values):
                seen = metrics.paired_seeds(values)
                row |= {name: seen.mean, f"{name}_ci_low": seen.ci_low, f"{name}_ci_high": seen.ci_high}
        if len(part) == 1:
            row |= {f"{figure}_{end}": part[f"{figure}_{end}"].iloc[0] for figure in CHANGED for end in ("ci_low", "ci_high")}
        for figure in CHANGED:
            verdict = judged.get(figure, {}).get(str(rung))
            if verdict is not None:
                change = verdict.difference
                row |= {
                    f"{figure}_change": change.mean,
                    f"{figure}_change_ci_low": change.ci_low,
                    f"{figure}_change_ci_high": change.ci_high,
                }
                row |= {f"{figure}_verdict": verdict.verdict}
        row["epsilon"] = part["epsilon"].max()
        row |= {
            figure: part[figure].iloc[0] for figure in BOUND
        }  # those of the first seed: the best of several would not be a bound
        rows.append(row)
    return pd.DataFrame(rows)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The ladder table for people: figures with intervals as text."""
    import pandas as pd

    def text(row: Mapping[str, Any], name: str, *, signed: bool = False) -> str:
        value, low, high = (row.get(key) for key in (name, f"{name}_ci_low", f"{name}_ci_high"))
        if value is None or value != value:
            return ""
        form = "+.3f" if signed else ".3f"
        return f"{value:{form}}" + ("" if low is None or low != low else f" ({low:{form}} to {high:{form}})")

    rows = []
    for row in table.to_dict("records"):
        shown_row = {
            "rung": row["rung"],
            "accuracy": text(row, "val/accuracy"),
            "loss": text(row, "val/loss"),
            "ECE": text(row, "val/ece"),
        }
        shown_row |= {"primary attack": row["primary"], "AUC": text(row, "auc"), "advantage": text(row, "advantage_heldout")}
        shown_row |= {"TPR at FPR 0.01": text(row, "tpr_at_fpr_0_01"), "AUC change": text(row, "auc_change", signed=True)}
        shown_row |= {"verdict": row.get("auc_verdict") if isinstance(row.get("auc_verdict"), str) else ""}
        bound, ceiling = (row[figure] for figure in BOUND)
        shown_row["epsilon"] = "" if row["epsilon"] != row["epsilon"] else f"{row['epsilon']:.2f}"
        shown_row["delta"] = "" if row["delta"] != row["delta"] else f"{row['delta']:.1e}"
        shown_row["epsilon at least"] = "" if bound is None or bound != bound else f"{bound:.2f} of at most {ceiling:.2f}"
        seconds = row.get("seconds")
        shown_row["seconds"] = "" if seconds is None or seconds != seconds else f"{seconds:.1f}"
        rows.append(shown_row)
    return pd.DataFrame(rows)


def pareto(table: pd.DataFrame) -> list[str]:
    """Rungs that no other beats in both accuracy and AUC of its primary attack, among those judged by the same attack as most."""
    part = table.dropna(subset=["auc"])
    common = part["primary"].mode().iloc[0] if len(part) else ""
    part = part[part["primary"] == common]
    front = []
    for row in part.to_dict("records"):
        better = (part["val/accuracy"] >= row["val/accuracy"]) & (part["auc"] <= row["auc"])
        strictly = (part["val/accuracy"] > row["val/accuracy"]) | (part["auc"] < row["auc"])
        if not (better & strictly).any():
            front.append(str(row["rung"]))
    return front


def conclude(
    config: MitigateConfig, ladder: Sequence[Rung], climbs: Mapping[str, list[Climb]], tracker: Tracker
) -> StudyResult:
    """A child a rung, the ladder table, the plot, the page."""
    frame = ladder_frame(ladder, climbs)
    judged = judge(frame, margin=config.margin)
    changes = attack_changes(attack_frame(ladder, climbs), undefended=UNDEFENDED, margin=config.margin)
    disagreeing = opposed(changes, judged["auc"])
    table = table_of(frame, judged)
    if disagreeing:
        table.loc[table["rung"].isin(disagreeing), "auc_verdict"] = DISAGREE
    for rung in ladder:
        log_rung(rung, climbs[rung.name], table, tracker)
    front = pareto(table)
    people = shown(table)
    tracker.table(frame, "by_seed.csv")
    tracker.table(table, "ladder.csv")
    tracker.table(people, "ladder.json")
    every = changes_table(changes)
    tracker.table(every, "attack_changes.csv")
    tracker.table(every.astype(object).where(every.notna(), None), "attack_changes.json")
    tracker.figure(plots.pareto_figure(table, front), "utility_privacy.png")
    plain = table.set_index("rung").loc[UNDEFENDED]
    tracker.metrics(
        {f"{name}/undefended": float(plain[name]) for name in ("auc", "val/accuracy") if plain[name] == plain[name]}
    )
    verdicts = {rung: DISAGREE if rung in disagreeing else verdict.verdict for rung, verdict in judged["auc"].items()}
    tracker.tags({f"memberscope.verdict.{rung}": verdict for rung, verdict in verdicts.items()})
    lines = [sentence(rung, judged, disagreeing.get(rung.name, ())) for rung in ladder if rung.name in judged["auc"]]
    notes = [*bound_lines(ladder, climbs), *skipped_lines(ladder, climbs)]
    tracker.describe(page(config, ladder, people, front, lines, notes))
    return StudyResult(table=people.to_string(index=False), answer="\n".join([*lines, *notes]))


def log_rung(rung: Rung, seen: Sequence[Climb], table: pd.DataFrame, tracker: Tracker) -> None:
    """A rung's child run: every attack at every seed, the mean figures, epsilon by epoch."""
    import pandas as pd

    tags = {"memberscope.kind": "mitigation", "memberscope.rung": rung.name, "memberscope.primary": rung.primary}
    with tracker.child(rung.name, tags=tags, description=f"{rung.about}. Judged by `{rung.primary}`.") as child:
        child.params({"mitigate.rung": rung.name, "mitigate.training": rung.training, "mitigate.release": rung.release})
        frames = [one.report.to_frame().assign(seed=one.seed) for one in seen]
        child.table(pd.concat(frames, ignore_index=True), "attacks.csv")
        for one in seen:
            child.metrics({**one.report.headlines(), **one.utility}, step=one.seed)
        for epoch, epsilon in enumerate(seen[0].defended.epsilons.tolist(), start=1):
            if np.isfinite(epsilon):
                child.metrics({"epsilon": epsilon}, step=epoch)
        row = table.set_index("rung").loc[rung.name]
        means = {f"{name}_mean/{rung.primary}": row[name] for name in CHANGED} | {"accuracy_mean": row["val/accuracy"]}
        child.metrics({name: float(value) for name, value in means.items() if value == value and value is not None})


def sentence(rung: Rung, judged: Mapping[str, Mapping[str, metrics.Verdict]], disagreeing: Sequence[AttackChange] = ()) -> str:
    """One line: how the rung changes its primary attack's AUC, or what each attack shows if they disagree."""
    verdict = judged["auc"][rung.name]
    if disagreeing:
        shown = ", ".join(f"{one.attack} {one.change.mean:+.3f}" for one in disagreeing)
        primary = f"primary {rung.primary} {verdict.difference.mean:+.3f}"
        return f"{rung.name}: {DISAGREE} ({shown}; each shown at 95%, Holm over the ladder); {primary}."
    change = verdict.difference
    if temperature_of(parse_release(rung.release)) is not None:
        mean = f"{change.mean:+.3f} over {change.n_seeds} seed{'s' if change.n_seeds > 1 else ''}"
        return f"{rung.name}: {verdict.verdict} ({mean}): whoever sees the confidences and knows the temperature undoes it exactly."
    against = "" if rung.against == rung.primary else f" from that of {rung.against} on the undefended model"
    line = f"{rung.name}: AUC of {rung.primary} {verdict.verdict}{against} ({change.mean:+.3f}"
    if change.ci_low is not None and change.ci_high is not None:
        line += f", 95% {change.ci_low:+.3f} to {change.ci_high:+.3f} over {change.n_seeds} seeds"
    return line + (f"; {verdict.reason})." if verdict.reason else ").")


def bound_lines(ladder: Sequence[Rung], climbs: Mapping[str, list[Climb]]) -> list[str]:
    """A line on the bounds of epsilon: their delta, how large they can be, and whether they could refute the promise."""
    first = [climbs[rung.name][0].report.cell(rung.primary) for rung in ladder]
    plan = next((cell.one_run for cell in first if cell.one_run is not None), None)
    if plan is None:
        return []
    ceiling = plan.ceiling(0.95)
    line = (
        f"Bounds of epsilon: 95% lower bounds from the first seed, at delta {plan.delta:.2g}, from {plan.n_guesses} guesses on "
        f"{plan.n_flips} coin flips, a number fixed before any outcome; all guesses right would give {ceiling:.2f}, the largest possible."
    )
    if plan.promise is not None and plan.cannot_refute(0.95):
        line += (
            f" That is not above the promised epsilon {plan.promise:.2g}, so this audit cannot refute it and is no test of it."
        )
    elif plan.promise is not None:
        line += f" That is above the promised epsilon {plan.promise:.2g}, which this audit could therefore refute."
    return [line]


def skipped_lines(ladder: Sequence[Rung], climbs: Mapping[str, list[Climb]]) -> list[str]:
    """Attacks that a rung's release leaves nothing for, and why."""
    lines = []
    for rung in ladder:
        cells = climbs[rung.name][0].report.cells
        missing = {cell.attack: cell.reason for cell in cells if cell.status != "ok"}
        if missing:
            reasons = dict.fromkeys(missing.values())
            text = "; ".join(f"{', '.join(a for a, r in missing.items() if r == reason)}: {reason}" for reason in reasons)
            lines.append(f"Skipped on {rung.name}: {text}.")
    return lines


def page(
    config: MitigateConfig,
    ladder: Sequence[Rung],
    people: pd.DataFrame,
    front: Sequence[str],
    lines: Sequence[str],
    notes: Sequence[str],
) -> str:
    """The parent run's page."""
    parts = [
        f"# Mitigations on {config.dataset}, {config.seeds} seed{'s' if config.seeds > 1 else ''}",
        "Figures are of each rung's primary attack, named before anything ran; every attack sees only what is published, and shadows "
        "are trained and released as the target is. If a release can be inverted (a temperature), the attacker inverts it. "
        "Changes are from the same attack on the undefended model, paired by seed; for labels only, from the attack that judges the "
        "undefended model, for which labels leave nothing. Verdicts: Holm over the rungs, margin "
        f"{config.margin:g}; at least 5 seeds. Every attack's change is in `attack_changes.csv`; if attacks are shown to change in "
        f"opposite directions, the rung has no verdict (*{DISAGREE}*).",
        markdown(people),
        f"Not beaten in both accuracy and AUC (by their means): {', '.join(front)}.",
        "\n".join(f"- {line}" for line in lines),
        "\n".join(f"- **{rung.name}**: {rung.about}." for rung in ladder),
        "\n".join(f"- {line}" for line in notes),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
