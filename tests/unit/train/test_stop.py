"""Signals are remembered while training, and work as before around it."""

import os
import signal

import pytest

from hyena_dist.train.stop import StopSignal


@pytest.mark.parametrize("number", StopSignal.SIGNALS)
def test_remembered(number: signal.Signals) -> None:
    before = [signal.getsignal(n) for n in StopSignal.SIGNALS]
    with StopSignal() as stop:
        assert stop.name is None
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop.name == number.name
    assert [signal.getsignal(n) for n in StopSignal.SIGNALS] == before
