"""The names of all files that an audit logs with its run. Code that writes or reads one takes the name from here."""

from __future__ import annotations

STUDY = "study.json"  # the configuration, in groups
CONFIG = "config.json"  # the options as they were resolved
ATTACKS = "attacks.csv"  # every attack on every slice, one row per metric
ATTACKS_TABLE = "attacks.json"  # one row per attack, to be compared across runs
HEADLINE = "headline.json"  # the primary attack, how it was chosen, and its metrics
CONTROLS = "controls.json"
SCORES = "scores.npz"  # every record's rank under every attack
ROC, ROC_BAND, ROC_FIGURE = "roc.csv", "roc_band.csv", "roc.png"
SCORE_FIGURES = "scores"  # a folder with one histogram per attack
MOST_EXPOSED, MOST_EXPOSED_FIGURE = "most_exposed.csv", "most_exposed.png"
DISPERSION, DISPERSION_FIGURE = "dispersion.csv", "dispersion.png"
EXPERIMENTS, ORDERINGS = "experiments.csv", "orderings.csv"  # the case study's verdicts
HISTORY = "history.csv"  # training, epoch by epoch
SUMMARY = "summary.md"
GATE = "gate.csv"
FOLDER = "memberscope"  # where all of these lie in a run that another program started
