"""Checks of a file before it is read: that it is a regular one, and that this machine's memory can hold it."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from memberscope.errors import UserError

MOST_TEXT = 64 << 20  # bytes of a text that is parsed as a whole, such as JSON or YAML
KINDS = (
    (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)  # fmt: skip
CGROUP = Path("/sys/fs/cgroup/memory.max")  # a container's own limit
CGROUP_USED = Path("/sys/fs/cgroup/memory.current")
CGROUP_STAT = Path("/sys/fs/cgroup/memory.stat")
CACHED = ("active_file ", "inactive_file ")  # bytes of files that the system keeps only while nobody needs the memory
MEMINFO = Path("/proc/meminfo")


def check_file(path: Path, *, where: str, allowed: str) -> int:
    """The size in bytes of a regular file that exists; links are followed.

    Args:
        path: the file.
        where: the beginning of an error, such as ``space=grid.yaml``.
        allowed: the end of an error: what may be given.

    Raises:
        UserError: there is no such file, or it is a folder, pipe, socket or device.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: cannot be read ({reason(error)}); allowed: {allowed}") from None
    if not stat.S_ISREG(found.st_mode):
        kind = next((word for test, word in KINDS if test(found.st_mode)), "not a regular file")
        raise UserError(f"{where}: cannot be read ({kind}); allowed: {allowed}")
    return found.st_size


def is_folder(path: Path) -> bool:
    """Whether there is a folder at a path; False also for a path that no file can have."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def read_text(path: Path, *, where: str, allowed: str, most: int = MOST_TEXT) -> str:
    """The text of a regular file in UTF-8, of at most `most` bytes. For the arguments see `check_file`.

    Raises:
        UserError: see `check_file`; or it cannot be read, is larger, or is not UTF-8.
    """
    size = check_file(path, where=where, allowed=allowed)
    if size > most:
        raise UserError(f"{where}: {size:,} bytes; allowed: {allowed}, of at most {most:,} bytes")
    try:
        with open(path, "rb") as file:
            return decoded(file.read(most + 1), where=where, allowed=allowed)
    except OSError as error:
        raise UserError(f"{where}: cannot be read ({reason(error)}); allowed: {allowed}") from None


def decoded(content: bytes, *, where: str, allowed: str) -> str:
    """UTF-8 as text; UserError for bytes that are not."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{where}: cannot be read (it is not text in UTF-8); allowed: {allowed}") from None


def reason(error: Exception) -> str:
    """Why a file could not be opened, in a few words."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def memory_bytes() -> int:
    """The memory that this process may have at most: the machine's, its container's, or its own limit (``ulimit -v``); 2^62 where the
    system does not tell.
    """
    try:
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return 2**62
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        own = resource.getrlimit(resource.RLIMIT_AS)[0]
        found = found if own == resource.RLIM_INFINITY else min(found, own)
    try:
        limit = CGROUP.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return found
    return min(found, int(limit)) if limit.isdecimal() else found


def free_memory_bytes() -> int:
    """The memory that is free for this process, without writing others' to disk; that of the machine where the system does not tell."""
    free = memory_bytes()
    with contextlib.suppress(OSError, ValueError, StopIteration, IndexError):
        line = next(line for line in MEMINFO.read_text(encoding="ascii").splitlines() if line.startswith("MemAvailable:"))
        free = min(free, int(line.split()[1]) * 1024)
    with contextlib.suppress(OSError, ValueError):
        limit, used = (path.read_text(encoding="ascii").strip() for path in (CGROUP, CGROUP_USED))
        lines = CGROUP_STAT.read_text(encoding="ascii").splitlines()
        cached = sum(int(line.split()[1]) for line in lines if line.startswith(CACHED))
        free = min(free, max(0, int(limit) - int(used) + cached))
    return free


def check_memory(size: int, *, where: str, what: str, allowed: str = "a smaller file, or a machine with more memory") -> None:
    """Raise UserError if `size` bytes are more than this machine has; `what` says what takes them, such as ``its array x``."""
    most = memory_bytes()
    if size > most:
        raise UserError(
            f"{where}: {what} takes {shown_bytes(size)}, and this machine has {shown_bytes(most)}; allowed: {allowed}"
        )


def too_large(size: int, *, where: str, what: str) -> UserError:
    """The error where the system did not give `size` bytes, though the machine has them; `what` says what takes them."""
    return UserError(
        f"{where}: {what} takes {shown_bytes(size)}, and the system gives this process less; allowed: a smaller file, or more free memory"
    )


def shown_bytes(size: int) -> str:
    """A number of bytes for people, such as ``10.7 GB``."""
    for unit, scale in (("PB", 10**15), ("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if size >= scale:
            return f"more than {10**6:,} PB" if size >= 10**21 else f"{size / scale:.1f} {unit}"
    return f"{size:,} bytes"
