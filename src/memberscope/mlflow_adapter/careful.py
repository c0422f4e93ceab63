"""A client whose writes are not left in their midst when a stop comes: half an artifact would look like a whole one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from mlflow import MlflowClient

WRITES = ("create_", "log_", "set_", "update_", "finalize_")  # how MLflow's methods that write are called


class _Careful:
    """See `careful`."""

    def __init__(self, client: MlflowClient, writing: Callable[[], AbstractContextManager[None]]) -> None:
        self._client = client
        self._writing = writing

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not name.startswith(WRITES) or not callable(found):
            return found

        @functools.wraps(found)
        def write(*args: Any, **options: Any) -> Any:
            with self._writing():
                return found(*args, **options)

        return write


def careful(client: MlflowClient, writing: Callable[[], AbstractContextManager[None]]) -> MlflowClient:
    """The same client; each of its writes runs in a context that `writing` makes."""
    return cast("MlflowClient", _Careful(client, writing))
