"""Sweeps: grids and searches as Optuna studies, and the conclusions from their finished trials."""
