"""Silences the libraries' start-up lines and warnings that are of no use to our users, in every process that runs a study."""

from __future__ import annotations

import logging
import os
import warnings


def quiet_libraries() -> None:
    """Silence TensorFlow's start-up lines, and a Google client library's warning about Python 3.11; call it before they are imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*Google will stop supporting.*")
    os.environ.setdefault("PYTHONWARNINGS", "ignore:You are using a Python version:FutureWarning")  # in worker processes
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns about each retraced program
