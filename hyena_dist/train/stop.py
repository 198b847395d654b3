"""Signals that ask a run to save and stop: SIGUSR1, SIGTERM, SIGHUP and Ctrl-C.

SIGUSR1 says that a time limit is near, SIGTERM that the run is preempted or cancelled, SIGHUP that its terminal has
gone.
"""

import os
import signal
import time
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

from hyena_dist.system.stop_signals import stop_signals

_SAME_S = 1.0
"""Seconds in which a further SIGINT counts as the same Ctrl-C, which the terminal and a launcher both pass on."""


class InterruptedRun(KeyboardInterrupt):
    """Ctrl-C ended a run, and all that it had done is saved."""


class StopSignal:
    """Remembers whether a signal to stop came, instead of dying of it; a context manager around training.

    Training asks once a step and all ranks stop after the same one, so it is enough that one rank was told. A second
    Ctrl-C does not wait for that. SIGINT and SIGHUP that were ignored before, as in the background or under nohup, are
    still ignored.
    """

    SIGNALS = (*stop_signals(), signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

    def __init__(self) -> None:
        self.name: str | None = None
        """The signal that came first; None as long as none has."""
        self._before: dict[signal.Signals, Any] = {}
        self._interrupted = float("inf")

    def __enter__(self) -> "StopSignal":
        for number in self.SIGNALS:
            before = signal.getsignal(number)
            if before != signal.SIG_IGN or number not in (signal.SIGINT, signal.SIGHUP):
                self._before[number] = before
                signal.signal(number, self._interrupt if number == signal.SIGINT else self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.name = self.name or signal.Signals(number).name

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now > self._interrupted + _SAME_S:
            raise KeyboardInterrupt
        if self._interrupted > now:
            self._interrupted = now
            if os.environ.get("RANK", "0") == "0":
                with suppress(OSError):  # not by print, which may be at work below this handler
                    os.write(2, b"\nCtrl-C: saving, then stopping; once more ends without saving\n")
        self._remember(number, frame)
