"""What several threads log at once."""

from __future__ import annotations

import threading

from fake_store import FakeStore, opened

from memberscope.clock import Clock
from memberscope.mlflow_adapter.tracker import PendingTracker


def test_operations_from_several_threads_are_all_there() -> None:
    store = FakeStore()
    box = opened(store)
    tracker = PendingTracker(outbox=box, experiment_id="1", name="r", first_tags={}, clock=Clock())
    tracker.tags({})
    threads = [
        threading.Thread(target=lambda k=k: [tracker.metrics({f"m{k}": float(step)}, step=step) for step in range(20)])
        for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    box.finish()
    assert len(store._contents()[0][0]["metrics"]) == 80
