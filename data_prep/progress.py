"""WorkProgress of long work: a bar on a terminal, a plain line every few seconds elsewhere."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 5.0


class WorkProgress:
    """Counts work that has a name and a unit, on stderr; used as a context manager.

    Args:
        label: what is being done.
        total: amount of work, in `unit`; None where only the share done is known.
        unit: "bases" or "bytes".
    """

    def __init__(self, label: str, total: int | None = None, unit: str = "bases") -> None:
        self._label = label
        self._total = total
        self._unit = unit
        self._done = 0
        self._start = self._last_line = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, unit=f" {unit}", unit_scale=True, desc=label, leave=False)

    def __enter__(self) -> "WorkProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, amount: int, share: float | None = None) -> None:
        """Report work done.

        Args:
            amount: work since the last call.
            share: share of all work done so far (0 to 1), which stands in for an unknown total.
        """
        self._done += amount
        if share:
            self._total = round(self._done / share)
        if self._bar is not None:
            self._bar.total = self._total
            self._bar.update(amount)
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)

    def _line(self) -> str:
        rate = self._done / (time.monotonic() - self._start)
        line = f"{self._label}: {self._done:,} {self._unit}, {rate / 1e6:.1f} M{self._unit}/s"
        if self._total:
            left = max(0, self._total - self._done) / max(rate, 1)
            line += f", {min(1.0, self._done / self._total):.0%}, {left:.0f} s left"
        return line
