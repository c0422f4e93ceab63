"""Keep MLflow's autologging away from models that are ours.

With ``mlflow.autolog()`` on, every ``fit`` of scikit-learn, Keras or XGBoost in the process is patched: the attack models of an audit would
become runs and logged models in the user's experiment, and they were trained on membership. Nothing here imports MLflow: where it has not
been imported, nothing is patched.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.Lock()
_FLAG = "_AUTOLOGGING_GLOBALLY_DISABLED"


@contextmanager
def unlogged() -> Iterator[None]:
    """Autologging off in all threads of this process, for a block or, as a decorator, for each call of a function.

    MLflow's own `disable_autologging` puts its flag to false when it ends, whatever it was before; blocks that overlap in two threads, or
    stand inside each other, would switch autologging on too early. Here the flag itself counts the blocks that hold it, on top of what
    it was, so that it is as before when the last one ends. The user's configuration of autologging is not touched.
    """
    patches = sys.modules.get("mlflow.utils.autologging_utils")
    if patches is None or not hasattr(patches, _FLAG):
        yield
        return
    with _LOCK:
        setattr(patches, _FLAG, getattr(patches, _FLAG) + 1)
    try:
        yield
    finally:
        with _LOCK:
            left = getattr(patches, _FLAG) - 1
            setattr(patches, _FLAG, left if left > 0 else False)
