"""Signals that ask a run to save and stop: SIGUSR1 (a time limit is near) and SIGTERM (preempted, or cancelled)."""

import signal
from types import FrameType, TracebackType
from typing import Any

from hyena_dist.system.stop_signals import stop_signals


class StopSignal:
    """Remembers whether a signal to stop came, instead of dying of it; a context manager around training.

    Training asks once a step and all ranks stop after the same one, so it is enough that one rank was told.
    """

    SIGNALS = (*stop_signals(), signal.SIGTERM)

    def __init__(self) -> None:
        self.name: str | None = None
        """The signal that came first; None as long as none has."""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignal":
        for number in self.SIGNALS:
            self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.name = self.name or signal.Signals(number).name
