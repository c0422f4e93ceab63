"""First starts that are interrupted at random moments, and several at once: ``python tests/tools/first_starts.py [MOMENTS [ROUNDS]]``.

It starts on a new store as the Makefile does, sends SIGKILL or SIGINT while MLflow's tables are made, and starts again: the second start
must end with 0, or with 2 and one line. The same, for half as many moments, where MLflow itself was making the tables in their place. Then
six start at once on a new store, several times. It prints the counts and ends with 1 if any start failed. Every start is a fork of this
process, which has imported MLflow, so that all of them spend their time on the tables.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
import warnings
from contextlib import closing
from pathlib import Path

from memberscope.mlflow_adapter import store

SEED = 4
AT_ONCE = 6


def start(folder: Path, uri: str) -> int:
    """The id of a process that starts on a store; what it says goes to a file that is named after it."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ["MLFLOW_TRACKING_URI"] = uri
        said = os.open(folder / f"said-{os.getpid()}", os.O_CREAT | os.O_WRONLY)
        os.dup2(said, 1)
        os.dup2(said, 2)
        code = store.main(["memberscope"])
    finally:
        sys.stderr.flush()
        os._exit(code)


def finish(folder: Path, child: int) -> tuple[int, str]:
    """The exit code of a started process, and what it said."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said = folder / f"said-{child}"
    return code, said.read_text() if said.exists() else ""


def is_whole(path: Path) -> bool:
    """Whether a store has its experiment."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM experiments WHERE name = 'memberscope'").fetchone() == (1,)


def interrupted(folder: Path, number: signal.Signals, after: float) -> tuple[bool, str]:
    """Whether the start after an interrupted one is all right, and how the two ended."""
    folder.mkdir()
    uri = f"sqlite:///{folder}/mlflow.db"
    first = start(folder, uri)
    time.sleep(after)
    os.kill(first, number)
    ended, _ = finish(folder, first)
    code, said = finish(folder, start(folder, uri))
    good = (code == 0 and is_whole(folder / "mlflow.db")) or (code == 2 and said.count("\n") == 1)
    left = [path.name for path in folder.iterdir() if path.name.endswith((".new", "-journal"))]
    return good and not left, f"{number.name} after {after:.2f} s: {ended}, then {code} {said.strip()} {' '.join(left)}"


def left_by_mlflow(folder: Path, after: float) -> tuple[bool, str]:
    """As `interrupted`, where it was MLflow itself that was making the tables in their place, as older versions let it."""
    folder.mkdir()
    path = folder / "mlflow.db"
    child = os.fork()
    if not child:
        from mlflow import MlflowClient

        os.close(2)
        MlflowClient(f"sqlite:///{path}")
        os._exit(0)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    code, said = finish(folder, start(folder, f"sqlite:///{path}"))
    aside = [found.name for found in folder.iterdir() if ".unfinished-" in found.name and not found.name.endswith("-journal")]
    good = code == 0 and is_whole(path) and said.count("\n") == len(aside) <= 1
    return good, f"MLflow killed after {after:.2f} s: {code} {said.strip()}"


def at_once(folder: Path, many: int = AT_ONCE) -> tuple[int, list[str]]:
    """How many of several starts at once succeed, and what the others said."""
    folder.mkdir()
    ended = [finish(folder, child) for child in [start(folder, f"sqlite:///{folder}/mlflow.db") for _ in range(many)]]
    return sum(code == 0 for code, _ in ended) * is_whole(folder / "mlflow.db"), [said for code, said in ended if code]


def main(moments: int = 40, rounds: int = 10) -> int:
    """Run both, and print the counts."""
    warnings.simplefilter("ignore")
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401, before the forks

    drawn = random.Random(SEED)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        (root / "whole").mkdir()
        begun = time.monotonic()
        assert finish(root / "whole", start(root / "whole", f"sqlite:///{root}/whole/mlflow.db"))[0] == 0
        took = time.monotonic() - begun
        good = 0
        for moment in range(moments):
            number = (signal.SIGKILL, signal.SIGINT)[moment % 2]
            fine, how = interrupted(root / f"moment-{moment}", number, drawn.uniform(0, took))
            good += fine
            print("  " if fine else "! ", how, flush=True)
        print(f"a start takes {took:.1f} s; of {moments} starts after an interrupted one, {good} are all right", flush=True)
        recognized = 0
        for moment in range(moments // 2):
            fine, how = left_by_mlflow(root / f"mlflow-{moment}", drawn.uniform(0, took))
            recognized += fine
            print("  " if fine else "! ", how, flush=True)
        print(f"of {moments // 2} starts on what MLflow left, {recognized} are all right", flush=True)
        succeeded = 0
        for turn in range(rounds):
            many, failures = at_once(root / f"round-{turn}")
            succeeded += many
            print("\n".join(failures), end="", flush=True)
        print(f"of {rounds * AT_ONCE} starts, {AT_ONCE} at once on each new store, {succeeded} succeed", flush=True)
    return int(good < moments or recognized < moments // 2 or succeeded < rounds * AT_ONCE)


if __name__ == "__main__":
    raise SystemExit(main(*map(int, sys.argv[1:])))
