from __future__ import annotations

import os
import signal

import pytest

from memberscope.errors import Interrupted
from memberscope.interrupt import StopFlag


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sets_the_flag_and_repeats_are_ignored(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopFlag() as stop:
        stop.check()
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGTERM)  # MLflow follows at once; nothing may die of it
        assert stop.requested
        assert stop.received == number.name
        with pytest.raises(Interrupted, match=number.name):
            stop.check()
    assert signal.getsignal(number) is before
