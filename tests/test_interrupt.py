from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable

import pytest

from memberscope import interrupt
from memberscope.errors import Interrupted
from memberscope.interrupt import StopFlag

BUSY = 4  # how many times longer a busy machine may take


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sets_the_flag_and_what_follows_at_once_is_no_repeat(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopFlag() as stop:
        stop.check()
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGTERM)  # MLflow follows at once; nothing may die of it
        os.kill(os.getpid(), number)
        assert stop.requested
        assert stop.received == number.name
        with pytest.raises(Interrupted, match=number.name):
            stop.check()
    assert signal.getsignal(number) is before
    assert signal.set_wakeup_fd(-1) == -1


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(interrupt, "UNWINDING_SECONDS", 0.5)


def _spin(seconds: float, each: Callable[[], object] = lambda: None) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        each()


@pytest.mark.parametrize(
    "work", [lambda: _spin(20), lambda: time.sleep(20), threading.Event().wait], ids=["code", "sleep", "lock"]
)
@pytest.mark.parametrize("by_hand", [False, True], ids=["signal", "by hand"])
@pytest.mark.usefixtures("hurried")
def test_work_that_never_checks_is_left(work: Callable[[], object], by_hand: bool) -> None:
    with StopFlag() as stop:
        if by_hand:
            stop.set("the end of mlflow run")
        else:
            os.kill(os.getpid(), signal.SIGINT)
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt, match="stopped by the end of" if by_hand else "stopped by SIGINT"):
            work()
        assert 0.15 < time.monotonic() - start < 0.2 * BUSY + 1
        assert stop.left


@pytest.mark.usefixtures("hurried")
def test_work_that_checks_has_time_to_unwind() -> None:
    with StopFlag() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Interrupted):
            stop.check()
        _spin(0.35)  # longer than the grace, and not left
        assert not stop.left
        with pytest.raises(KeyboardInterrupt):  # but not for ever
            _spin(20)


@pytest.mark.usefixtures("hurried")
def test_a_patient_block_is_left_after_its_end() -> None:
    with StopFlag() as stop:
        done = False
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012, the second statement must not be reached
            with stop.patient():
                os.kill(os.getpid(), signal.SIGINT)
                _spin(0.5)
                done = True
            _spin(20)
        assert done


@pytest.mark.usefixtures("hurried")
@pytest.mark.usefixtures("hurried")
def test_a_write_that_was_begun_is_ended_and_left_after_it() -> None:
    ended = []

    def work(stop: StopFlag) -> None:
        with stop.writing():
            _spin(1.0)
            ended.append(time.monotonic() - start)
        _spin(20)

    with StopFlag() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            work(stop)
        assert ended[0] >= 1.0
        assert time.monotonic() - start < 3 * BUSY


@pytest.mark.usefixtures("hurried")
def test_a_write_to_a_store_that_does_not_answer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "WRITE_SECONDS", 0.8)
    with StopFlag() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt), stop.writing():
            time.sleep(20)
        assert 0.8 <= time.monotonic() - start < 3 * BUSY


def test_after_release_and_after_the_block_nothing_is_left() -> None:
    with StopFlag() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        stop.release()
        _spin(0.5)
    with StopFlag() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received == "SIGTERM"
    _spin(0.4)
    assert not stop.left


def test_without_a_signal_nothing_happens_and_other_threads_set_by_hand() -> None:
    with StopFlag() as stop:
        thread = threading.Thread(target=lambda: stop.set("another thread"))
        thread.start()
        thread.join()
        with pytest.raises(Interrupted, match="stopped by another thread"):
            stop.check()
    found = []

    def elsewhere() -> None:
        with StopFlag() as flag:
            flag.set()
            found.append(flag.requested)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [True]


PROGRAM = """
import sys, time, threading
from memberscope.errors import Interrupted
from memberscope.interrupt import StopFlag

def last_words():
    print("last words", flush=True)
    {words}

with StopFlag() as stop:
    stop.last_words = last_words
    with stop.patient():
        print("ready", flush=True)
        {work}
        print("worked to the end", flush=True)
"""


def _signalled(work: str, signals: list[tuple[float, signal.Signals]], words: str = "pass") -> tuple[int, float, str, str]:
    """The exit code, the seconds after the last signal, and the output of a program that gets signals after pauses."""
    code = textwrap.dedent(PROGRAM).format(work=work, words=words)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for pause, number in signals:
        time.sleep(pause)
        process.send_signal(number)
    start = time.monotonic()
    out, err = process.communicate(timeout=60)
    return process.returncode, time.monotonic() - start, out, err


IN_PYTHON = "time.sleep(30)"
IN_C = "import hashlib; hashlib.pbkdf2_hmac('sha256', b'a', b'b', 10**8)"
IN_ONE_CALL = "threading.Thread(target=time.sleep, args=(30,)).start(); threading.Event().wait(30)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "number"),
    [  # `make test` has every place with one signal at least, and the first with both
        pytest.param(work, number, id=f"{name}-{number.name}", marks=pytest.mark.thorough if number == left else ())
        for name, work, left in (("sleep", IN_PYTHON, None), ("hash", IN_C, signal.SIGINT), ("lock", IN_ONE_CALL, signal.SIGTERM))
        for number in (signal.SIGINT, signal.SIGTERM)
    ],
)  # fmt: skip
def test_a_second_signal_ends_the_process_at_once(work: str, number: signal.Signals) -> None:
    code, seconds, out, err = _signalled(work, [(0.1, number), (2.0, number)])
    assert (code, out, err) == (130, "last words\n", f"memberscope: stopped at once by a second {number.name}\n")
    assert seconds < 2 * BUSY


@pytest.mark.slow
def test_last_words_that_do_not_end_are_cut() -> None:
    code, seconds, out, _ = _signalled(IN_PYTHON, [(0.1, signal.SIGINT), (2.0, signal.SIGINT)], words="time.sleep(30)")
    assert (code, out) == (130, "last words\n")
    assert 2.5 < seconds < 3 * BUSY


@pytest.mark.slow
@pytest.mark.parametrize(
    "signals",
    [
        [(0.1, signal.SIGINT), (0.05, signal.SIGTERM)],  # mlflow run
        [(0.1, signal.SIGINT), (0.05, signal.SIGINT), (0.05, signal.SIGINT)],  # an impatient hand
        [(0.1, signal.SIGINT), (1.2, signal.SIGTERM)],  # a supervisor after a person
    ],
    ids=["mlflow", "burst", "supervisor"],
)
def test_what_is_no_repeat(signals: list[tuple[float, signal.Signals]]) -> None:
    code, _, out, err = _signalled("time.sleep(2)", signals)
    assert (code, out, err) == (0, "worked to the end\n", "")


@pytest.mark.slow
def test_signals_of_a_forked_child_are_its_own() -> None:
    work = """
        import os, signal, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, from CPython 3.12 on
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, lambda *_: None)
            time.sleep(2)
            os._exit(0)
        time.sleep(0.3)
        for _ in range(2):
            os.kill(child, signal.SIGTERM)
            time.sleep(1.1)
        assert not stop.requested"""
    code, _, out, err = _signalled(textwrap.indent(textwrap.dedent(work), " " * 8).strip(), [])
    assert (code, out, err) == (0, "worked to the end\n", "")


def test_a_study_that_ended_leaves_the_interpreter_no_garbage_to_look_for() -> None:
    """Looking took a second once MLflow and pandas were imported, of the five within which Ctrl-C is to end a study."""
    code = """
        import atexit, gc, sys
        atexit.register(lambda: print(gc.get_freeze_count() > 1000))  # the first to be registered is the last to be called
        from memberscope import cli
        found = cli.run_study("attack", ["--predictions"])
        print(found, gc.get_freeze_count())
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["2", "0", "True"], done.stderr
