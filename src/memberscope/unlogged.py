"""Keeps MLflow's autologging away from our own models.

``mlflow.autolog()`` patches every ``fit`` of scikit-learn, Keras or XGBoost in the process: the attack models of an audit, which are
trained on membership, would become runs and logged models in the user's experiment. Nothing here imports MLflow: unless the user has
imported it, nothing is patched.
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
    """Turn autologging off in all threads of this process, for a block or, as a decorator, for each call of a function.

    MLflow's own `disable_autologging` sets its flag to false when it ends, whatever it was before; with blocks that are nested, or overlap
    in two threads, autologging would be back on too early. Here the flag counts the active blocks on top of its former value, which is thus
    restored when the last block ends. The user's configuration of autologging is not touched.
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
