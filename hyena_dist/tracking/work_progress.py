"""WorkProgress, which shows long work: a bar on a terminal, a plain line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

from hyena_dist.system.pacing import LinePacer
from hyena_dist.tracking.progress import human

Say = Callable[[str], object]
"""A function that receives lines of text for the user, such as print."""


class WorkProgress:
    """A context manager around long work, which shows on stderr how much is done, at which rate and what is left.

    Args:
        label: name of the work.
        total: amount of work in `unit`; None where only the share that is done becomes known.
        unit: "bases" or "bytes".
        enabled: False shows nothing; all but one of several processes pass it.
    """

    def __init__(self, label: str, total: int | None = None, unit: str = "bases", enabled: bool = True) -> None:
        self._label = label
        self._total = total
        self._unit = unit
        self._enabled = enabled
        self._done = 0
        self._start = time.monotonic()
        self._pacer = LinePacer()
        self._bar = None
        if enabled and sys.stderr.isatty():
            self._bar = tqdm(total=total, unit=f" {unit}", unit_scale=True, desc=label, leave=False)

    def __enter__(self) -> "WorkProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, amount: int, share: float | None = None) -> None:
        """Add to the work that is done.

        Args:
            amount: work that was done since the last call, in `unit`.
            share: share of all work that is done so far, from 0 to 1; the total follows from it where it is unknown.
        """
        self._done += amount
        if share:
            self._total = round(self._done / share)
        if self._bar is not None:
            self._bar.total = self._total
            self._bar.update(amount)
        elif self._enabled and self._pacer.due():
            print(self._line(), file=sys.stderr, flush=True)
            self._pacer.printed()

    def _line(self) -> str:
        """Return the plain line."""
        rate = self._done / (time.monotonic() - self._start)
        line = f"{self._label}: {self._done:,} {self._unit}, {human(rate)} {self._unit}/s"
        if self._total:
            left = max(0, self._total - self._done) / max(rate, 1)
            line += f", {min(1.0, self._done / self._total):.0%}, {left:.0f} s left"
        return line
