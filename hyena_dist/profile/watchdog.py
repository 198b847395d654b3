"""A thread of each rank that notices when training stands still, says which rank it stands still for, and ends it.

Every rank tells the others through the store of the process group where it is, every few seconds. A collective waits
for its slowest rank: when one hangs, all others wait inside torch.distributed, and the one that does not is the one.
"""

import contextlib
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from types import FrameType, TracebackType
from typing import Any, NamedTuple

from hyena_dist.errors import TEMPORARY, TemporaryError
from hyena_dist.parallel.world import World
from hyena_dist.profile.phases import Phases

_WAITING = re.compile(r"/torch/distributed/|/deepspeed/comm/")
_SILENT = 3
"""Reports that a rank misses before it counts as gone or stopped."""

_SPEECH_S = 10.0
"""Seconds that saying which rank is stuck may take."""

_PREFIX = "watchdog/"


class Report(NamedTuple):
    """A message in which a rank tells the others where it is."""

    rank: int
    host: str
    pid: int
    step: int
    place: str
    """The phase that the rank entered last, with its detail."""
    since_s: float
    """Seconds since it did."""
    line: str
    """The innermost line of this package that the main thread is at, as file:line."""
    waits: bool
    """Whether the main thread is inside a collective that it called there."""
    number: int
    """Reports that the rank has made, with this one."""

    def describe(self) -> str:
        """Name the rank and where it is, for people."""
        return f"rank {self.rank} ({self.host}, process {self.pid}) at step {self.step:,}, {self.place}, {self.line}"


class Watchdog:
    """Ends this process if it makes no progress; a context manager around training, on every rank.

    Args:
        world: all ranks, whose store holds what they report.
        phases: what this rank enters phases of; each entry is progress.
        timeout_s: seconds without progress after which the process ends.
        say: gets the sentence that names the stuck rank, on one rank.
        on_end: gets the same sentence, before the process ends with exit code 75.
    """

    def __init__(
        self,
        world: World,
        phases: Phases,
        timeout_s: float,
        say: Callable[[str], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._world = world
        self._phases = phases
        self._timeout_s = timeout_s
        self._say = say
        self._on_end = on_end
        self._every_s = min(5.0, timeout_s / 8)
        self._rank = world.rank
        self._store: Any = world.store
        self._number = 0
        self._main = threading.get_ident()
        self._begin = time.monotonic()
        self._over = threading.Event()
        self._asked = threading.Event()
        self._heard: list[list[Report]] = []
        # Two threads, since a store that does not answer holds whoever asks it.
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._tell, self._watch)]

    def __enter__(self) -> "Watchdog":
        self._begin = time.monotonic()
        self._publish()  # a rank that stops at once has a name too
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=2 * self._every_s)

    def _tell(self) -> None:
        """Report where this rank is, and read the reports of the others once `_end` asks for them."""
        while not self._over.wait(self._every_s):
            with contextlib.suppress(RuntimeError):  # the store is gone
                self._publish()
                if self._asked.is_set():
                    self._heard.append(self._reports())

    def _watch(self) -> None:
        while not self._over.wait(self._every_s):
            if self._stands_still():
                self._end()

    def _stands_still(self) -> bool:
        # A phase may have begun long before the watchdog, as loading a model did.
        since = max(self._begin, self._phases.where().since)
        return not self._over.is_set() and time.monotonic() - since > self._timeout_s

    def _end(self) -> None:
        # Other ranks need a moment to report that they wait too; one that reports nothing new in it is gone.
        self._asked.set()
        if self._over.wait((_SILENT + 2) * self._every_s) or not self._stands_still():
            return
        reports = None
        living = {self._rank}
        if len(self._heard) > 1:
            before = self._heard[0]
            reports = self._heard[-1]
            living = {r.rank for r in reports} - {r.rank for r in before if r in reports}
        sentence = explain(self._report(), reports, living, self._timeout_s)
        if self._rank == min(living, default=self._rank):
            # In a thread of its own: an error in it, or storage that hangs, must not keep this process alive.
            speaker = threading.Thread(target=self._speak, args=(sentence,), daemon=True)
            speaker.start()
            speaker.join(timeout=_SPEECH_S)
        # Ranks decide up to a period apart, and a launcher ends all when one ends: the speaker must have been heard.
        time.sleep(3 * self._every_s)
        os._exit(TEMPORARY)

    def _speak(self, sentence: str) -> None:
        self._say(sentence)
        sys.stdout.flush()
        sys.stderr.flush()
        self._on_end(sentence)

    def _report(self) -> Report:
        step, place, since = self._phases.where()
        line, waits = _innermost_line(sys._current_frames().get(self._main))
        since_s = time.monotonic() - since
        return Report(self._rank, socket.gethostname(), os.getpid(), step, place, since_s, line, waits, self._number)

    def _publish(self) -> None:
        self._number += 1
        self._store.set(f"{_PREFIX}{self._rank}", json.dumps(self._report()))

    def _reports(self) -> list[Report]:
        """Return the last report of every rank that has made one."""
        keys = [f"{_PREFIX}{rank}" for rank in range(self._world.size)]
        return [Report(*json.loads(self._store.get(key))) for key in keys if self._store.check([key])]


def explain(mine: Report, reports: Sequence[Report] | None, living: Collection[int], timeout_s: float) -> str:
    """Return the sentence that says which rank the others wait for.

    Args:
        mine: the report of the rank that asks.
        reports: the reports of all ranks; None if the store, which rank 0 or its launcher keeps, does not answer.
        living: the ranks whose watchdogs still report.
        timeout_s: seconds without progress that have passed.
    """
    if reports is None:
        stuck = "rank 0, or the launcher on its machine, does not answer"
    elif silent := [r for r in reports if r.rank not in living]:
        stuck = f"{_some(silent)} is stopped or gone"
    else:
        first = min(r.step for r in reports)
        behind = [r for r in reports if not r.waits]
        if len(behind) in (0, len(reports)):  # a rank that waits for its GPU shows no collective
            behind = [r for r in reports if r.step == first]
        others = [str(r.rank) for r in reports if r not in behind]
        stuck = f"{_some(behind)} is stuck" + (f", and rank {', '.join(others[:16])} waits for it" if others else "")
    return (
        f"no progress for {timeout_s:g} s at step {mine.step:,}: {stuck}; look at that machine, or raise "
        f"train.timeout_s if steps can take so long"
    )


def _some(reports: Sequence[Report]) -> str:
    return "; ".join(r.describe() for r in reports[:4]) + ("; ..." if len(reports) > 4 else "")


def describe_collective_failure(error: RuntimeError) -> TemporaryError | None:
    """Return a sentence for what a collective raises when another rank has gone; None for other errors."""
    text = " ".join(str(error).split())
    if not re.search(
        r"gloo|nccl|connection (was )?(closed|reset)|broken pipe|timed out|recvvalue", text, re.IGNORECASE
    ):
        return None
    said = re.sub(r"^\[[^\]]*:\d+\] ", "", text).split(". ")[0]  # without the line of torch's source
    return TemporaryError(
        f"another rank is gone or does not answer ({said[:160]}); its own log says why, and the run can be resumed"
    )


def _innermost_line(frame: FrameType | None) -> tuple[str, bool]:
    """Return the innermost line of this package in a thread's stack, and whether it has called a collective."""
    waits = False
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    while frame is not None:
        path = frame.f_code.co_filename
        waits = waits or bool(_WAITING.search(path))
        if path.startswith(package):
            return f"{os.path.relpath(path, os.path.dirname(package))}:{frame.f_lineno}", waits
        frame = frame.f_back
    return "outside of hyena_dist", waits
