"""Sweeps: grids and searches as Optuna studies, and the answers that their finished trials allow."""
