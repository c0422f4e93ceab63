"""What a file takes is held against the memory that there is, and a system that gives none is one line."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memberscope import npz
from memberscope.errors import UserError
from memberscope.reading import files


def test_a_whole_file_that_the_system_gives_no_memory_for_says_how_much_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "t.npy", np.zeros((1000, 5)))
    np.savez(tmp_path / "t.npz", logits=np.zeros((1000, 5)))

    def none_left(*given: Any, **options: Any) -> None:
        raise MemoryError("Unable to allocate 39.1 KiB")

    def not_mapped(*given: Any, **options: Any) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(npz.npy, "read_array", none_left)
    monkeypatch.setattr(npz.npy, "open_memmap", not_mapped)
    told = "takes 40,000 bytes, and the system gives this process less; allowed: a smaller file, or more free memory"
    for read, name, what in (
        (lambda path: npz.read_npy(path, where="x", allowed="y"), "t.npy", "x: its array"),
        (lambda path: npz.map_npy(path, where="x", allowed="y"), "t.npy", "x: its array"),
        (npz.read_npz, "t.npz", f"{tmp_path / 't.npz'}: logits"),
    ):
        with pytest.raises(UserError) as error:
            read(tmp_path / name)
        assert str(error.value) == f"{what} {told}"


def test_a_limit_of_the_process_is_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    whole = files.memory_bytes()
    monkeypatch.setattr(resource, "getrlimit", lambda which: (10**6, 10**7))
    assert files.memory_bytes() == 10**6
    with pytest.raises(UserError, match=r"^x: its array takes 2\.0 MB, and this machine has 1\.0 MB; allowed"):
        files.check_memory(2 * 10**6, where="x", what="its array")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY,) * 2)
    assert files.memory_bytes() == whole


def test_files_that_a_containers_system_keeps_in_memory_are_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = "anon 90000\nactive_file 500000\ninactive_file 400000\n"
    for name, text in (("CGROUP", "1000000"), ("CGROUP_USED", "990000"), ("CGROUP_STAT", stat)):
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(files, name, tmp_path / name)
    assert files.free_memory_bytes() == 1_000_000 - 90_000
