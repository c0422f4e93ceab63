"""Puts the code beside these scripts first, here and in processes started from here.

``mlflow run`` keeps one environment for each content of conda.yaml, and the project is installed there in place, from the checkout that
made it: without this, a second checkout would run the first one's code, or none once the first is gone.
"""

import os
import sys
from pathlib import Path

SOURCES = str(Path(__file__).resolve().parents[1] / "src")

sys.path.insert(0, SOURCES)
os.environ["PYTHONPATH"] = os.pathsep.join(path for path in (SOURCES, os.environ.get("PYTHONPATH")) if path)
