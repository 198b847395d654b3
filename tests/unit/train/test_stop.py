"""Signals are remembered while training, and work as before around it."""

import os
import signal
import time

import pytest

from hyena_dist.errors import UserError
from hyena_dist.system.stop_signals import VARIABLE, stop_signals
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


def test_a_signal_of_the_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert stop_signals() == (signal.SIGUSR1,)
    for name in ("USR2", "SIGUSR2"):
        monkeypatch.setenv(VARIABLE, name)
        assert stop_signals() == (signal.SIGUSR1, signal.SIGUSR2)
    monkeypatch.setenv(VARIABLE, "USR3")
    with pytest.raises(UserError, match="HYENA_DIST_STOP_SIGNAL=USR3 is no signal; write for example USR2"):
        stop_signals()


def test_a_second_ctrl_c_does_not_wait(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """A launcher passes on the SIGINT that the terminal has sent already, which is no second one."""
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.name == "SIGINT"
        assert capfd.readouterr().err.count("Ctrl-C: saving, then stopping; once more ends without saving") == 1
        now += 5
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_was_ignored_is(number: signal.Signals) -> None:
    """The background of a shell and nohup ignore signals, which must not change that."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with StopSignal() as stop:
            os.kill(os.getpid(), number)
            assert stop.name is None
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)
