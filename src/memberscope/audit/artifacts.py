"""The names of all files that a study logs with its run. Code that writes or reads one takes the name from here."""

from __future__ import annotations

# An audit
STUDY = "study.json"  # the configuration, in groups
CONFIG = "config.json"  # the options as they were resolved
ATTACKS = "attacks.csv"  # every attack on every slice, one row per metric
ATTACKS_TABLE = "attacks.json"  # one row per attack, to be compared across runs
HEADLINE = "headline.json"  # the primary attack, how it was chosen, and its metrics
RISK_STATEMENT = "risk_statement.json"  # measured, declared and combined; see memberscope.audit.statement
CONTROLS = "controls.json"
SCORES = "scores.npz"  # every record's rank under every attack
LOSS_TRACE = "loss_trace.npz"  # every record's loss by epoch
ROC, ROC_BAND, ROC_FIGURE = "roc.csv", "roc_band.csv", "roc.png"
SCORE_FIGURES = "scores"  # a folder with one histogram per attack
MOST_EXPOSED, MOST_EXPOSED_FIGURE = "most_exposed.csv", "most_exposed.png"
DISPERSION, DISPERSION_FIGURE = "dispersion.csv", "dispersion.png"
HISTORY = "history.csv"  # training, epoch by epoch
SUMMARY = "summary.md"
GATE = "gate.csv"
BOUNDS, BOUNDS_TABLE = "bounds.csv", "bounds.json"  # lower bounds on epsilon; the table has the primary ones
CANARIES = "canaries.csv"  # every attack on the canaries, one row per metric
CANARY_COST = "canary_cost.csv"  # the model with canaries beside the same model without them
FOLDER = "memberscope"  # where all of these lie in a run that another program started

# The model and its data
MODEL_SUMMARY = "model_summary.txt"
DATA_SAMPLE = "data_sample.png"
DATA_NOTES = "records.md"  # how the data set was read

# The case study
EXPERIMENTS, EXPERIMENTS_TABLE = "experiments.csv", "experiments.json"  # its verdicts
BY_EPOCH = "by_epoch.csv"  # in a folder for each experiment, as the next two
TRAINING_FIGURE, LEAKAGE_FIGURE = "training.png", "leakage.png"

# Shadow models; the case study logs the second too, with a row per model of its own
MODELS, MODELS_TABLE = "models.csv", "models.json"
SWAPS = "outputs_check.json"  # which outputs of models that were trained elsewhere are likely another model's
SECOND_DATASET = "other_data.csv"  # the audit with a shadow of another data set
TARGETS = "targets.csv"  # every attack on every target
BY_SHADOWS = "by_shadows.csv"  # means over targets by number of shadows
ORDERINGS, ORDERINGS_TABLE = "orderings.csv", "orderings.json"  # verdicts on the literature's orderings
EXPOSURE, EXPOSURE_TABLE = (
    "exposure.csv",
    "exposure.json",
)  # a row per record, the most exposed first; the table has the first hundred
EXPOSURE_FIGURE, EXPOSURE_SCATTER = "exposure.png", "exposure_scatter.png"
EXPOSURE_PICTURES = "most_memorized.png"
EXPOSURE_SUMMARY = "exposure_summary.csv"  # how many members each attack finds
EXPOSURE_CORRELATIONS = "exposure_correlations.csv"  # rank correlations of the measures
EXPOSURE_GROUPS = "exposure_groups.csv"  # means by class, and by whether the label was replaced
AGREEMENT, AGREEMENT_SETS = "agreement.csv", "agreement_sets.csv"  # which attacks find the same members
ENSEMBLE = "ensemble.csv"  # chosen on half of the targets, reported on the other half
FIDELITY, FIDELITY_FIGURE = "fidelity.csv", "fidelity.png"

# Mitigations; two names are older than the word
BY_SEED = "by_seed.csv"
MITIGATIONS, MITIGATIONS_TABLE = "ladder.csv", "ladder.json"
ATTACK_CHANGES, ATTACK_CHANGES_TABLE = "attack_changes.csv", "attack_changes.json"
UTILITY_FIGURE = "utility_privacy.png"

# Shadow data that an attacker makes; the first five in a folder for each method
BY_CLASS = "by_class.csv"
SYNTHETIC_RECORDS, SYNTHETIC_FIGURE = "records.npz", "records.png"
CARD, CARD_JSON = "card.csv", "card.json"
CARDS, CARDS_TABLE = "cards.csv", "cards.json"
FLEETS = "fleets.csv"
TRANSFER, TRANSFER_TABLE, TRANSFER_FIGURE = "transfer.csv", "transfer.json", "transfer.png"

# Sweeps
SPACE = "space.json"
ANSWER = "answer.md"
RESULTS, RESULTS_TABLE = "results.csv", "results.json"
VERDICTS, VERDICTS_TABLE = "verdicts.csv", "verdicts.json"
EFFECTS_FIGURE = "effects.png"
LEVELS, LEVELS_FIGURE = "levels.csv", "levels.png"  # in a folder for each factor, as the next two
HEAT_FIGURE = "heat.png"
SCALING_FIGURE = "scaling.png"
IMPORTANCES, PARETO_FIGURE = "importances.csv", "pareto.png"

# Reports, in the formats in which they are shared
REPORT = "report.html"
EVIDENCE = "evidence.json"  # every study writes it as well
GATE_JUNIT = "gate.junit.xml"  # so does every study with a gate
MODEL_CARD, MODEL_CARD_CYCLONEDX = "model_card.md", "model_card.cdx.json"


def inside(folder: str, name: str) -> str:
    """A file in a folder of the run: of an experiment, a method or a factor."""
    return f"{folder}/{name}"


def trainer_source(name: str) -> str:
    """A file of the source code of a user's own trainer, by its path beside the function's file."""
    return inside("trainer", name)


def score_figure(attack: str) -> str:
    """The histogram of an attack's scores."""
    return inside(SCORE_FIGURES, f"{attack}.png")


def by_shadows_figure(metric: str) -> str:
    """A metric by number of shadows."""
    return f"{metric}_by_shadows.png"


def matched(factor: str, control: str) -> str:
    """The epochs of a sweep's models under a control that compares them at an equal loss or accuracy."""
    return inside(factor, f"{control}.csv")


def matched_figure(factor: str, control: str) -> str:
    """The figure of `matched`."""
    return inside(factor, f"{control}.png")


def importances_figure(objective: str) -> str:
    """Optuna's plot of the importance of each factor for an objective of a search."""
    return f"importances_{objective}.png"


def slice_figure(objective: str) -> str:
    """Optuna's plot of an objective of a search against each factor."""
    return f"slice_{objective}.png"
