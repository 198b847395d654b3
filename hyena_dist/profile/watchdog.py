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

_WAITING = re.compile(r"/torch/distributed/|/deepspeed/comm/")
_SILENT = 3
"""Reports that a rank misses before it counts as gone or stopped."""

_SPEECH_S = 10.0
"""How long saying so may take."""

_PREFIX = "watchdog/"


class Report(NamedTuple):
    """Where a rank is."""

    rank: int
    host: str
    pid: int
    step: int
    place: str
    """What the loop said last."""
    since_s: float
    """How long ago it said so."""
    line: str
    """Where the main thread is, file:line of this package."""
    waits: bool
    """Whether it is inside a collective there."""
    number: int
    """How many reports the rank has made."""

    def describe(self) -> str:
        """For people."""
        return f"rank {self.rank} ({self.host}, process {self.pid}) at step {self.step:,}, {self.place}, {self.line}"


class Watchdog:
    """Ends this process if it makes no progress; a context manager around training, on every rank.

    Args:
        world: its store is where ranks report.
        timeout_s: how long a step may stand still.
        say: gets the sentence, on one rank.
        on_end: gets it too, before the process ends with exit code 75.
    """

    def __init__(
        self, world: World, timeout_s: float, say: Callable[[str], None], on_end: Callable[[str], None]
    ) -> None:
        self._world, self._timeout_s, self._say, self._on_end = world, timeout_s, say, on_end
        self._every_s = min(5.0, timeout_s / 8)
        self._rank = world.rank
        self._store: Any = world.store
        self._number = 0
        self._main = threading.get_ident()
        self._at = (0, "start", time.monotonic())
        self._over, self._asked = threading.Event(), threading.Event()
        self._heard: list[list[Report]] = []
        # Two threads, since a store that does not answer holds whoever asks it.
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._tell, self._watch)]

    def __enter__(self) -> "Watchdog":
        self._at = (*self._at[:2], time.monotonic())
        self._publish()  # one that stops at once has a name too
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=2 * self._every_s)

    def at(self, place: str, step: int) -> None:
        """Say where training is; that is progress."""
        self._at = (step, place, time.monotonic())

    def _tell(self) -> None:
        """Report, and listen to the others when asked to."""
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
        return not self._over.is_set() and time.monotonic() - self._at[2] > self._timeout_s

    def _end(self) -> None:
        # Others need a moment to report that they wait too; who reports nothing new in it is gone, whatever its clock.
        self._asked.set()
        if self._over.wait((_SILENT + 2) * self._every_s) or not self._stands_still():
            return
        reports, living = None, {self._rank}
        if len(self._heard) > 1:
            before, reports = self._heard[0], self._heard[-1]
            living = {r.rank for r in reports} - {r.rank for r in before if r in reports}
        sentence = explain(self._report(), reports, living, self._timeout_s)
        if self._rank == min(living, default=self._rank):
            # Aside: neither an error there nor storage that hangs, perhaps the reason of it all, may keep us here.
            speaker = threading.Thread(target=self._speak, args=(sentence,), daemon=True)
            speaker.start()
            speaker.join(timeout=_SPEECH_S)
        # Who speaks is heard before launchers end all ranks, which decide up to a period apart.
        time.sleep(3 * self._every_s)
        os._exit(TEMPORARY)

    def _speak(self, sentence: str) -> None:
        self._say(sentence)
        sys.stdout.flush()
        sys.stderr.flush()
        self._on_end(sentence)

    def _report(self) -> Report:
        step, place, said = self._at
        line, waits = _where(sys._current_frames().get(self._main))
        since_s = time.monotonic() - said
        return Report(self._rank, socket.gethostname(), os.getpid(), step, place, since_s, line, waits, self._number)

    def _publish(self) -> None:
        self._number += 1
        self._store.set(f"{_PREFIX}{self._rank}", json.dumps(self._report()))

    def _reports(self) -> list[Report]:
        """Of every rank that has reported."""
        keys = [f"{_PREFIX}{rank}" for rank in range(self._world.size)]
        return [Report(*json.loads(self._store.get(key))) for key in keys if self._store.check([key])]


def explain(mine: Report, reports: Sequence[Report] | None, living: Collection[int], timeout_s: float) -> str:
    """The sentence that says which rank the others wait for.

    Args:
        mine: of the rank that asks.
        reports: of all ranks; None if the store, which rank 0 or its launcher keeps, does not answer.
        living: the ranks whose watchdogs still report.
        timeout_s: what has passed.
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
    """A sentence for what a collective raises when another rank has gone; None for other errors."""
    text = " ".join(str(error).split())
    if not re.search(
        r"gloo|nccl|connection (was )?(closed|reset)|broken pipe|timed out|recvvalue", text, re.IGNORECASE
    ):
        return None
    said = re.sub(r"^\[[^\]]*:\d+\] ", "", text).split(". ")[0]  # without the line of torch's source
    return TemporaryError(
        f"another rank is gone or does not answer ({said[:160]}); its own log says why, and the run can be resumed"
    )


def _where(frame: FrameType | None) -> tuple[str, bool]:
    """(innermost line of ours, whether a collective is called below it) of a thread."""
    waits = False
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    while frame is not None:
        path = frame.f_code.co_filename
        waits = waits or bool(_WAITING.search(path))
        if path.startswith(package):
            return f"{os.path.relpath(path, os.path.dirname(package))}:{frame.f_lineno}", waits
        frame = frame.f_back
    return "outside of hyena_dist", waits
