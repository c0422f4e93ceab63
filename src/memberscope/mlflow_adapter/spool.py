"""The spool: a folder of this machine in which everything that a process logs is written down before it is sent to the store.

A spool is made for one process and one store. It holds ``spool.json`` (which store, which study), ``operations.jsonl`` (what was logged, a
line each), ``delivered.jsonl`` (the numbers of those that the store has, with the ids of the runs that they created) and the files among
them. The spools of a sweep's worker processes lie in that of the sweep. Its owner holds a lock on it to the end of its process: whoever
can take the lock finds a spool that nobody is going to deliver.

No password gets into a spool: the store's address is kept without it, and what is logged is masked before it is written down.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from memberscope.errors import UserError
from memberscope.mlflow_adapter.process import is_running, this_process
from memberscope.redact import redact

VARIABLE = "MEMBERSCOPE_SPOOL"
PARENT = "MEMBERSCOPE_SPOOL_OF"  # in the environment of a worker process: the spool of the process that started it
FORMAT = 1
ABOUT, OPERATIONS, DELIVERED, FILES, WORKERS, LOCK = (
    "spool.json", "operations.jsonl", "delivered.jsonl", "files", "workers", "lock",
)  # fmt: skip
Operation = dict[str, Any]


def root() -> Path:
    """Where spools lie: in the folder that ``MEMBERSCOPE_SPOOL`` names, else in ``memberscope/spool`` of the user's folder for such state:
    ``XDG_STATE_HOME``, or ``~/.local/state``.
    """
    if given := os.environ.get(VARIABLE, ""):
        return Path(given).expanduser().absolute()
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "memberscope" / "spool"


@dataclass(kw_only=True)
class Spool:
    """An open spool, whose lock this process holds. See the module.

    Attributes:
        folder: where it lies.
        uri: the store's address, without a password.
        study: the entry point, for people.
        pending: the operations that the store does not have yet, in order; each has its number under ``n``.
        ids: the ids of the runs that its operations created, by the keys that the operations name them with.
        ended: the keys of runs that its operations ended, delivered or not.
    """

    folder: Path
    uri: str
    study: str = ""
    pending: dict[int, Operation] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    _next: int = 1
    _lock: IO[str] | None = None
    _logs: dict[str, IO[str]] = field(default_factory=dict)

    @classmethod
    def create(cls, uri: str, *, study: str, within: Path | None = None) -> Self:
        """A new spool for a store, in the usual place or in the spool of a parent process.

        Raises:
            UserError: it cannot be written.
        """
        place = root() if within is None else within / WORKERS
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{study or 'run'}-{secrets.token_hex(4)}"
        made = place / f".{name}"  # until it is locked, nobody else sees it
        try:
            made.mkdir(parents=True, mode=0o700)
            about = {"format": FORMAT, "store": redact(uri), "study": study, "process": this_process()}
            (made / ABOUT).write_text(json.dumps(about, indent=2) + "\n")
            lock = _locked(made)
            made.rename(place / name)
        except OSError as error:
            raise UserError(
                f"spool {place}: cannot be written ({error.strerror}); what is logged is kept there until the tracking store has it; "
                f"allowed: a folder that can be written, or another one in {VARIABLE}"
            ) from None
        return cls(folder=place / name, uri=redact(uri), study=study, _lock=lock)

    @classmethod
    def take(cls, folder: Path) -> Self | None:
        """The spool in a folder that a process has left behind; None if its owner is still running, or another process has taken it.

        Raises:
            UserError: the folder holds no spool, or a damaged one, or one of another version.
        """
        about = _about(folder)
        try:
            lock = _locked(folder)
        except OSError as error:
            raise UserError(f"folder={folder}: cannot be written ({error.strerror}); allowed: a spool of this user") from None
        if lock is None:
            return None
        found = cls(folder=folder, uri=str(about["store"]), study=str(about.get("study", "")), _lock=lock)
        try:
            if not (folder / ABOUT).exists():  # it has been delivered and removed in the meantime
                found.close(remove=False)
                return None
            found._read()
        except BaseException:
            found.close(remove=False)
            raise
        return found

    def _read(self) -> None:
        try:
            for operation in _lines(self.folder / OPERATIONS):
                number, run = int(operation["n"]), str(operation["run"])
                self._next = number + 1
                self.pending[number] = operation
                if operation["kind"] == "end":
                    self.ended.add(run)
            for line in _lines(self.folder / DELIVERED):
                done = self.pending.pop(int(line["n"]), None)
                if done is not None and "id" in line:
                    self.ids[str(done["run"])] = str(line["id"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"folder={self.folder}: damaged ({type(error).__name__}: {error}); allowed: a spool as memberscope left it"
            ) from None

    @contextlib.contextmanager
    def files(self) -> Iterator[tuple[int, Path]]:
        """A number for the next operation, and a folder for its files; removed again if the block fails."""
        number = self._next
        self._next += 1
        folder = self.folder / FILES / str(number)
        try:
            folder.mkdir(parents=True)
            yield number, folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def add(self, operation: Operation, *, number: int | None = None) -> Operation:
        """Write an operation down, at its number if it has files; returns it as written.

        Raises:
            UserError: it cannot be written.
        """
        if number is None:
            number, self._next = self._next, self._next + 1
        operation = {"n": number, **operation}
        self._append(OPERATIONS, operation)
        self.pending[number] = operation
        if operation["kind"] == "end":
            self.ended.add(operation["run"])
        return operation

    def delivered(self, number: int, run_id: str | None = None) -> None:
        """Note that the store has an operation, and the id of the run that it created; its files are removed."""
        done = self.pending.pop(number)
        if run_id is not None:
            self.ids[done["run"]] = run_id
        self._append(DELIVERED, {"n": number} if run_id is None else {"n": number, "id": run_id})
        if "files" in done:
            shutil.rmtree(self.folder / FILES / str(number), ignore_errors=True)

    def _append(self, name: str, line: Mapping[str, Any]) -> None:
        try:
            if name not in self._logs:
                self._logs[name] = (self.folder / name).open("a", encoding="utf-8")
            self._logs[name].write(json.dumps(line) + "\n")
            self._logs[name].flush()
        except OSError as error:
            raise UserError(
                f"spool {self.folder}: cannot be written ({error.strerror}); allowed: free space on its disk, or another folder "
                f"in {VARIABLE}"
            ) from None

    def others(self) -> list[Path]:
        """The spools of worker processes in it."""
        return spools_in(self.folder / WORKERS)

    def close(self, *, remove: bool) -> None:
        """Give the lock back; `remove` removes the folder first."""
        for log in self._logs.values():
            with contextlib.suppress(OSError):
                log.close()
        self._logs.clear()
        if remove:
            (self.folder / ABOUT).unlink(missing_ok=True)  # first: it is no spool any more, whatever happens to the rest
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def spools_in(folder: Path) -> list[Path]:
    """The spools in a folder, the oldest first."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and (path / ABOUT).is_file())
    except OSError:
        return []


def store_of(folder: Path) -> str:
    """The address, without a password, of the store that a spool is for.

    Raises:
        UserError: the folder holds no spool.
    """
    return str(_about(folder)["store"])


def _about(folder: Path) -> Mapping[str, Any]:
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        written, _, _ = about["format"], str(about["store"]), str(about["process"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(
            f"folder={folder}: holds nothing that memberscope left to be sent; allowed: a folder that an earlier run named"
        ) from None
    if written != FORMAT:
        raise UserError(f"folder={folder}: has format {written}; allowed: {FORMAT}, that of this version") from None
    return dict(about)


def _lines(path: Path) -> Iterator[Operation]:
    """The operations in a file; the last line may be half written, by a process that was killed, and counts as not there."""
    if path.exists():
        whole = path.read_bytes().split(b"\n")[:-1]
        for line in whole:
            yield json.loads(line)


def _locked(folder: Path) -> IO[str] | None:
    """The lock of a spool's folder, taken; None if another process has it. Without such locks (Windows), its process decides."""
    try:
        import fcntl
    except ImportError:
        process = str(_about(folder)["process"])
        return None if process != this_process() and is_running(process) else io.StringIO()
    file = (folder / LOCK).open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
