"""Fuzzes every reader by hand, guided by coverage: changed files that reach new lines of memberscope are kept and changed further.

    .venv/bin/python tests/tools/fuzz_readers.py [--seconds 30] [--seed 0] [WORD]

Each reader (or those whose names contain WORD) gets so many seconds. Lines are traced in the package alone, by `sys.settrace`. It prints
each distinct fault with the file that causes it, in `--keep`, and for each reader how many files it made and kept, the lines that they
reached and the longest time.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
os.environ.setdefault("MEMBERSCOPE_KEY", "the key of the hostile set")

import numpy as np
from hostile import fuzz

import memberscope

PACKAGE = str(Path(memberscope.__file__).parent)


class Coverage:
    """The lines of the package that a call reaches."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int]] = set()
        self.found: set[tuple[str, int]] = set()

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        self.found.add((frame.f_code.co_filename, frame.f_lineno))
        return self._line

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if frame.f_code.co_filename.startswith(PACKAGE) else None

    def new_lines(self, name: str, content: bytes) -> tuple[int, str]:
        """The number of lines that no earlier file reached, and the fault."""
        self.found = set()
        sys.settrace(self._call)
        try:
            fault = fuzz.fault(name, content)
        finally:
            sys.settrace(None)
        new = self.found - self.seen
        self.seen |= new
        return len(new), fault


def fuzz_reader(name: str, *, seconds: float, seed: int, keep: Path) -> int:
    """Fuzz one reader; returns the number of distinct faults."""
    rng, coverage = np.random.default_rng([seed, *name.encode()]), Coverage()
    corpus = [fuzz.good(name)]
    coverage.new_lines(name, corpus[0])
    faults: dict[str, Path] = {}
    slowest, count, end = 0.0, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        parent = corpus[int(rng.integers(0, len(corpus)))]
        if fuzz.READERS[name].suffix == ".json" and rng.random() < 0.5:
            content = fuzz.changed_value(corpus[0], rng)
        else:
            content = fuzz.mutated(parent, rng)
        start = time.monotonic()
        new, fault = coverage.new_lines(name, content)
        slowest, count = max(slowest, time.monotonic() - start), count + 1
        if new:
            corpus.append(content)
        if fault and fault[:60] not in faults:
            path = keep / f"{hashlib.sha256(content).hexdigest()[:12]}{fuzz.READERS[name].suffix}"
            path.write_bytes(content)
            faults[fault[:60]] = path
            print(f"  {name}: {fault[:200]} ({path})", flush=True)
    print(
        f"{name}: {count} files, {len(corpus)} kept, {len(coverage.seen)} lines, slowest {slowest:.2f} s, {len(faults)} faults",
        flush=True,
    )
    return len(faults)


def main() -> int:
    """Fuzz the readers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("word", nargs="?", default="")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("/tmp/fuzzed"))
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    names = [name for name in fuzz.READERS if options.word in name]
    return min(1, sum(fuzz_reader(name, seconds=options.seconds, seed=options.seed, keep=options.keep) for name in names))


if __name__ == "__main__":
    raise SystemExit(main())
