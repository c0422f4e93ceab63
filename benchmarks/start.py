"""Compares the time to `--help` of every entry point with the time that importing NumPy and pandas takes.

    python benchmarks/start.py            eleven times; half a minute
    python benchmarks/start.py --quick    three times; ten seconds

A program that imports its libraries at its top makes its reader wait that long for its options. Each time is the processor time of one
process, the ways in turn; a bare interpreter and `import memberscope` are shown beside. The last line is the ratio of the slowest entry
point: the median over the rounds of NumPy's and pandas' time divided by its own.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from shared.targets import last_line

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = "import numpy, pandas"


def seconds(*arguments: str) -> float:
    """The processor time of one run of Python with these arguments."""

    def of_children() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    start = of_children()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return of_children() - start


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three rounds")
    quick = parser.parse_args().quick
    scripts = sorted(path.name for path in (ROOT / "entrypoints").glob("[a-z]*.py"))
    ways = {
        "python -c pass": ("-c", "pass"),
        "import memberscope": ("-c", "import memberscope"),
        LIBRARIES: ("-c", LIBRARIES),
        **{f"{script} --help": (f"entrypoints/{script}", "--help") for script in scripts},
    }
    for arguments in ways.values():
        seconds(*arguments)  # compiles what was never imported
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(3 if quick else 11):
        for name, arguments in ways.items():
            taken[name].append(seconds(*arguments))
    for name, values in taken.items():
        print(f"{name}: {statistics.median(values):.3f} s ({min(values):.3f} to {max(values):.3f})")
    ratios = {
        script: statistics.median(
            libraries / ours for libraries, ours in zip(taken[LIBRARIES], taken[f"{script} --help"], strict=True)
        )
        for script in scripts
    }
    print(last_line("start", min(ratios.values()), quick=quick))
    return 0


if __name__ == "__main__":
    sys.exit(main())
