"""Outboxes without pauses, and what a study leaves in a store without outages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from memberscope import outages

if TYPE_CHECKING:
    from fake_store import FakeStore


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No pause anywhere, and a spool of the test's own."""
    from fake_store import save_plain

    from memberscope.mlflow_adapter import log_model, outbox, spool
    from memberscope.mlflow_adapter.spool import Spool

    monkeypatch.setattr(outages, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(outbox, "SECOND_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(outbox, "PAUSE_SECONDS", 0.0)
    monkeypatch.setenv(spool.VARIABLE, str(tmp_path / "spool"))
    monkeypatch.setitem(log_model.FRAMEWORKS, "plain", save_plain)  # type: ignore[arg-type]  # no framework
    spools: list[Spool] = []
    initialize = Spool.__init__

    def remembered(self: Spool, **values: Any) -> None:
        initialize(self, **values)
        spools.append(self)

    monkeypatch.setattr(Spool, "__init__", remembered)
    yield
    for one in spools:
        one.close(remove=False)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> FakeStore:
    """The store of a study without outages."""
    from fake_store import FakeStore, log_study, opened, save_plain

    from memberscope.mlflow_adapter import log_model, spool

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(spool.VARIABLE, str(tmp_path_factory.mktemp("spool")))
        patch.setitem(log_model.FRAMEWORKS, "plain", save_plain)  # type: ignore[arg-type]  # no framework
        store = FakeStore()
        box = opened(store)
        log_study(box)
        box.finish()
    return store
