"""Runs the hostile set by hand, each case in a process of its own: what fails, the longest time and the most memory.

    .venv/bin/python tests/tools/hostile_inputs.py [WORDS] [--seconds 20]

WORDS choose the cases whose names contain them. It prints each case that ends in anything but a result or a
`UserError` of one line, and each that must be refused and is not; then a summary. It exits with 1 if there is any.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
os.environ.setdefault("MEMBERSCOPE_KEY", "the key of the hostile set")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import hostile


@dataclass(frozen=True, kw_only=True)
class End:
    """How a case ended: ``result``, ``refused``, ``unexpected``, ``memory``, ``hang``, ``accepted`` or ``died``."""

    kind: str
    detail: str = ""
    seconds: float = 0.0  # of its own work
    megabytes: float = 0.0


def run_case(case: hostile.Case, seconds: float) -> End:
    """Run a case in a child, and end it if it takes too long."""
    reading, writing = os.pipe()
    start = time.monotonic()
    child = os.fork()
    if not child:
        os.close(reading)
        _in_child(case, writing, seconds)
    os.close(writing)
    ready, _, _ = select.select([reading], [], [], hostile.PATIENCE * seconds + 5)
    content = os.read(reading, 1 << 16) if ready else b""
    os.close(reading)
    if not content:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    took = time.monotonic() - start
    if not content:
        return End(kind="died" if ready else "hang", detail=f"status {status}", seconds=took, megabytes=usage.ru_maxrss / 1024)
    kind, detail, took = json.loads(content)
    return End(kind=kind, detail=detail, seconds=took, megabytes=usage.ru_maxrss / 1024)


def _in_child(case: hostile.Case, writing: int, seconds: float) -> None:
    folder = Path(tempfile.mkdtemp())
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    warnings.simplefilter("ignore")
    warnings.filterwarnings("error", category=RuntimeWarning, module=r"(numpy|memberscope)")
    start = time.process_time()
    try:
        with hostile.bounded(seconds):
            case.act(folder)
        kind, detail = ("accepted", "must be refused") if case.refused else ("result", "")
    except hostile.TooLong:
        kind, detail = "hang", ""
    except MemoryError as error:
        kind, detail = "memory", str(error)
    except BaseException as error:
        detail = hostile.problem(error)
        kind = "unexpected" if detail else "refused"
        detail = detail or str(error)
    os.write(writing, json.dumps([kind, detail[:2000], time.process_time() - start]).encode())
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def main() -> int:
    """Run the cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="?", default="")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--every", action="store_true", help="print each case")
    options = parser.parse_args()
    import matplotlib  # noqa: F401  # heavy modules, once for all children
    import mlflow  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    import memberscope.report  # noqa: F401

    chosen = [case for case in hostile.cases() if options.words in case.name]
    hostile.runs.good()  # type: ignore[attr-defined]
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    counts: Counter[str] = Counter()
    slowest, largest = End(kind=""), End(kind="")
    names = {"slowest": "", "largest": ""}
    start = time.monotonic()
    for case in chosen:
        end = run_case(case, options.seconds)
        counts[end.kind] += 1
        if end.kind not in ("result", "refused") or options.every:
            print(f"{end.kind:10} {end.seconds:5.1f} s  {case.name}: {end.detail[:200]}", flush=True)
        if end.seconds > slowest.seconds:
            slowest, names["slowest"] = end, case.name
        if end.megabytes > largest.megabytes:
            largest, names["largest"] = end, case.name
    bad = sum(count for kind, count in counts.items() if kind not in ("result", "refused"))
    print(f"{len(chosen)} inputs in {time.monotonic() - start:.0f} s: {dict(counts)}; {bad} bad")
    print(f"slowest {slowest.seconds:.1f} s ({names['slowest']})")
    print(f"most memory {largest.megabytes - base:.0f} MB beyond {base:.0f} ({names['largest']})")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
