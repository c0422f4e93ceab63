"""Workers of a sweep that cannot start, or die: begun again a few times, and then told in the worker's own words."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.training.execution import jobs as execution

HEAD = """
import os, sys, time
from pathlib import Path
job = Path(sys.argv[1])
with (job.parent / "begun").open("a") as file:
    file.write(job.stem + "\\n")
first = len([line for line in (job.parent / "begun").read_text().splitlines() if line == job.stem]) == 1
ready = job.with_suffix(".ready").touch
"""


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr(execution, "POLL_SECONDS", 0.05)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return [tmp_path / f"worker-{number}.json" for number in range(2)]


def _write(jobs: list[Path], body: str) -> None:
    (jobs[0].parent / "stand_in_worker.py").write_text(HEAD + body)


def _begun(jobs: list[Path]) -> int:
    return len((jobs[0].parent / "begun").read_text().splitlines())


def _run(jobs: list[Path]) -> list[int]:
    starting: list[int] = []
    execution.run_workers(jobs, StopFlag(), module="stand_in_worker", on_poll=starting.append)
    return starting


def test_workers_that_cannot_start_end_the_sweep_with_their_last_line(
    jobs: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    _write(jobs, "raise ImportError('libgomp is missing')\n")
    with pytest.raises(RuntimeError) as caught:
        _run(jobs)
    assert str(caught.value).endswith("the last with exit code 1: ImportError: libgomp is missing")
    assert "Traceback" in str(caught.value.__cause__), "--verbose shows all that the worker wrote"
    assert execution.FALSE_STARTS <= _begun(jobs) <= execution.FALSE_STARTS + len(jobs)
    assert "Traceback" not in capfd.readouterr().err


def test_what_the_user_can_mend_stays_a_users_mistake(jobs: list[Path]) -> None:
    _write(jobs, "print('memberscope: storage=x: does not answer', file=sys.stderr)\nsys.exit(2)\n")
    with pytest.raises(UserError, match=r"^storage=x: does not answer$"):
        _run(jobs)
    assert _begun(jobs) <= execution.FALSE_STARTS + len(jobs)


def test_a_place_that_cannot_be_filled_leaves_the_work_to_the_others(jobs: list[Path]) -> None:
    _write(jobs, "if job.stem == 'worker-0': sys.exit(1)\nready()\ntime.sleep(1.5)\n")
    _run(jobs)
    assert _begun(jobs) == execution.FALSE_STARTS + 1


def test_a_worker_that_dies_at_work_is_replaced_and_its_words_are_passed_on(
    jobs: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    body = (
        "if job.stem == 'worker-0' and first: os.kill(os.getpid(), 9)\nprint('memberscope: trial 3 failed', file=sys.stderr)\n"
    )
    _write(jobs, "time.sleep(0.3)\nready()\n" + body)
    starting = _run(jobs)
    assert _begun(jobs) == 3
    assert capfd.readouterr().err.count("memberscope: trial 3 failed\n") == 2
    assert starting[0] == 2, "neither is ready at once"


def test_workers_that_die_at_work_again_and_again_are_given_up(jobs: list[Path]) -> None:
    _write(jobs, "ready()\nsys.exit('out of memory')\n")
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r"workers died 7 times, the last with exit code 1: out of memory"):
        _run(jobs)
    assert _begun(jobs) <= 8
    assert time.monotonic() - start < 60
