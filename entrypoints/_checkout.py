"""Makes the entry points, and processes that they start, use the code of their own checkout.

``mlflow run`` keeps one environment for each content of conda.yaml, in which the project is an editable install of the checkout that
created the environment. Without this module, a second checkout would run the code of the first, or fail once the first is deleted.
"""

import os
import sys
from pathlib import Path

SOURCES = str(Path(__file__).resolve().parents[1] / "src")

sys.path.insert(0, SOURCES)
os.environ["PYTHONPATH"] = os.pathsep.join(path for path in (SOURCES, os.environ.get("PYTHONPATH")) if path)
