"""The name of every file that an audit leaves with a run, once: who writes one and who reads it take the name from here."""

from __future__ import annotations

STUDY = "study.json"  # the configuration, in groups
CONFIG = "config.json"  # what it was resolved to
ATTACKS = "attacks.csv"  # every attack on every slice, each metric a row
ATTACKS_TABLE = "attacks.json"  # a row an attack, to be compared across runs
HEADLINE = "headline.json"  # the primary attack, how it was chosen, and its metrics
CONTROLS = "controls.json"
SCORES = "scores.npz"  # every record's rank under every attack
ROC, ROC_BAND, ROC_FIGURE = "roc.csv", "roc_band.csv", "roc.png"
SCORE_FIGURES = "scores"  # a folder with a histogram an attack
MOST_EXPOSED, MOST_EXPOSED_FIGURE = "most_exposed.csv", "most_exposed.png"
DISPERSION, DISPERSION_FIGURE = "dispersion.csv", "dispersion.png"
EXPERIMENTS, ORDERINGS = "experiments.csv", "orderings.csv"  # of the case study: the verdicts
HISTORY = "history.csv"  # training, epoch by epoch
SUMMARY = "summary.md"
GATE = "gate.csv"
FOLDER = "memberscope"  # of all these in a run that belongs to someone else
