"""The phase that a rank is in: the watchdog reads it, and the switches between phases time every part of a step."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

import torch

Phase = Literal["start", "data", "forward", "backward", "reduce", "optimizer", "other", "checkpoint", "evaluation"]
"""What a rank can be doing. A step has the phases from "data" to "other": "data" is the wait for the next batch,
"reduce" is communication that nothing hides and the wait for other ranks in it, "optimizer" is clipping and the update,
which ends with the gathering of parameters under ZeRO, and "other" is the rest of a step. "start" is getting ready."""

PHASES: tuple[Phase, ...] = get_args(Phase)
STEP_PHASES: tuple[Phase, ...] = ("data", "forward", "backward", "reduce", "optimizer", "other")
"""The phases that rates count, which are those of steps."""

_MANY_MARKS = 4096
"""Switches after which times are added up although no lap has asked for them, which bounds the memory they take."""


class Where(NamedTuple):
    """A place in a run."""

    step: int
    """The optimizer step, counted from 1, that is under way or was the last."""
    place: str
    """The phase, and a detail where there is one: "forward, micro-batch 2 of 4"."""
    since: float
    """The reading of `time.monotonic` when the rank came here."""


@dataclass(frozen=True)
class Lap:
    """The work of one rank between two calls of `Phases.lap`, and the time that it took."""

    steps: int
    """The number of optimizer steps."""
    tokens: int
    """Tokens of these steps, over all ranks."""
    seconds: float
    """Time between the two calls."""
    by_phase: dict[Phase, float]
    """Seconds in each phase, which add up to `seconds`."""

    @property
    def step_s(self) -> float:
        """Mean seconds of a step; start, evaluation and checkpoints do not count."""
        return sum(self.by_phase[phase] for phase in STEP_PHASES) / max(1, self.steps)

    @property
    def data_share(self) -> float:
        """The part of the steps' time that was spent waiting for data, 0 to 1."""
        return self._per_step("data") / max(1e-9, self.step_s)

    @property
    def tokens_per_second(self) -> float:
        """Tokens over all ranks per second of the steps' time."""
        return self.tokens / max(1e-9, self.step_s * max(1, self.steps))

    def metrics(self) -> dict[str, float]:
        """Return `time/step_s` and `time/<phase>_s`, all in seconds per step, by the names that trackers know."""
        return {"time/step_s": self.step_s} | {
            f"time/{phase}_s": self._per_step(phase) for phase in PHASES if phase != "start"
        }

    def _per_step(self, phase: Phase) -> float:
        return self.by_phase[phase] / max(1, self.steps)


class Phases:
    """Knows the phase that this rank is in and how long it has been in each.

    One thread, the one that trains, enters phases; any thread may ask where it is. A switch takes under 1 us on
    a CPU, so that the ten of a step are a 3,000th of a step of 30 ms. On a GPU a phase lasts as long as its kernels
    take: a switch records an event in the current stream, and only `lap` waits for the device. Work that a GPU does
    in other streams counts for the phase whose kernels wait for it.

    Args:
        device: where the work of the phases runs.
        step: optimizer steps done before.
        clock: a reading of time in seconds, for a device that works while the host waits; given by tests.

    Attributes:
        on_switch: called with the new phase at each change of phase, if it is set.
    """

    def __init__(self, device: torch.device, step: int = 0, clock: Callable[[], float] = time.perf_counter) -> None:
        self._timer: _HostTimer | _CudaTimer = _CudaTimer() if device.type == "cuda" else _HostTimer(clock)
        self.on_switch: Callable[[Phase], None] | None = None
        self.phase: Phase = "start"
        self._where = Where(step, "start", time.monotonic())
        # Where each phase since the last addition began; the device may not have come to the latest of them yet.
        self._begun: list[tuple[Phase, Any]] = [("start", self._timer.mark())]
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._steps = 0
        self._tokens = 0

    def enter(self, phase: Phase, step: int | None = None, detail: str = "") -> None:
        """Say where training is, which is progress; entering the same phase again goes on with it.

        Args:
            phase: what begins now.
            step: the optimizer step that it belongs to; the one given last if it is left out.
            detail: what people should know besides.
        """
        step = self._where.step if step is None else step
        self._where = Where(step, f"{phase}, {detail}" if detail else phase, time.monotonic())
        if phase == self.phase:
            return
        self.phase = phase
        self._begun.append((phase, self._timer.mark()))
        if self.on_switch:
            self.on_switch(phase)
        if len(self._begun) > _MANY_MARKS:
            self._add_up()

    def where(self) -> Where:
        """Return the place that was entered last; any thread may ask."""
        return self._where

    def add(self, tokens: int) -> None:
        """Count a step of `tokens` tokens over all ranks."""
        self._steps += 1
        self._tokens += tokens

    def lap(self) -> Lap:
        """Return what was done since the last lap, or since the beginning, and start the next."""
        self._add_up()
        lap = Lap(self._steps, self._tokens, sum(self._seconds.values()), self._seconds)
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._steps = 0
        self._tokens = 0
        return lap

    def _add_up(self) -> None:
        """Add the time of every phase until now to its sum."""
        self._begun.append((self.phase, self._timer.mark()))
        lengths = self._timer.lengths([mark for _, mark in self._begun])
        for (phase, _), seconds in zip(self._begun, lengths, strict=False):  # the last has just begun
            self._seconds[phase] += seconds
        del self._begun[:-1]


class _HostTimer:
    """Marks are readings of a clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.mark = clock

    def lengths(self, marks: Sequence[float]) -> list[float]:
        """Return the seconds from each mark to the next."""
        return [end - begin for begin, end in pairwise(marks)]


class _CudaTimer:
    """Marks are events in the stream that kernels go to."""

    def mark(self) -> torch.cuda.Event:
        """Record where the stream is."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def lengths(self, marks: Sequence[torch.cuda.Event]) -> list[float]:
        """Wait for the last mark and return the seconds from each mark to the next."""
        marks[-1].synchronize()
        return [begin.elapsed_time(end) / 1e3 for begin, end in pairwise(marks)]
