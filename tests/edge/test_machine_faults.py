"""Full disks, read-only folders and arguments that are no text end in one line and exit code 2, before or after a study begins."""

from __future__ import annotations

import errno
import os
import tempfile
from typing import Any

import pytest

from memberscope import cli
from memberscope.errors import MOST_LINE, UserError, of_the_machine


def _end(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = cli.main(["plan", *words])
    line = capsys.readouterr().err.strip()
    assert "\n" not in line
    return code, line


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EMFILE])
def test_a_fault_of_the_disk_is_one_line(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from memberscope.studies import plan

    def fail(*arguments: Any) -> None:
        raise OSError(number, os.strerror(number), "/data/plan.npz")

    monkeypatch.setattr(plan, "run", fail)
    code, line = _end(capsys)
    assert code == 2
    assert f"/data/plan.npz: cannot be used ({os.strerror(number)}); allowed: a disk with free space" in line


def test_too_little_memory_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from memberscope.studies import plan

    def fail(*arguments: Any) -> None:
        raise MemoryError("Unable to allocate 14.9 GiB")

    monkeypatch.setattr(plan, "run", fail)
    code, line = _end(capsys)
    assert code == 2
    assert "memory: not enough on this machine (Unable to allocate 14.9 GiB)" in line


def test_other_errors_stay_errors_of_ours(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from memberscope.studies import plan

    def fail(*arguments: Any) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "shadow.npy")

    monkeypatch.setattr(plan, "run", fail)
    code, line = _end(capsys)
    assert code == 1
    assert "unexpected FileNotFoundError" in line
    assert of_the_machine(ValueError()) is None


def test_a_full_folder_for_temporary_files_is_told_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    code, line = _end(capsys)
    assert code == 2
    assert f"TMPDIR={tempfile.gettempdir()}: cannot be written (No space left on device)" in line

    def none() -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    monkeypatch.setenv("TMPDIR", "/full")
    code, line = _end(capsys)
    assert code == 2
    assert "TMPDIR=/full: no folder for temporary files" in line


@pytest.mark.parametrize(
    ("word", "part"), [("\udcff.npz", r"\udcff.npz: not text in UTF-8"), ("a\0b", "contains a null character")]
)
def test_an_argument_that_is_no_text_is_one_line(word: str, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = _end(capsys, "--dataset", word)
    assert code == 2
    assert part in line


def test_the_line_of_an_error_is_one_line_that_can_be_stored() -> None:
    line = str(UserError("a=\ud800\nb: " + "9" * 10_000 + "; allowed: c"))
    assert line.startswith(r"a=\ud800 b: 9")
    assert line.endswith("9; allowed: c")
    assert len(line) < MOST_LINE
    assert "\n" not in line
    line.encode("utf-8")
    assert str(UserError("short: as it is")) == "short: as it is"
