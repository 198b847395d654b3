"""The pace of progress lines without a terminal: one every few seconds at first, fewer in long work."""

import time

SHORTEST_S = 5.0
LONGEST_S = 30.0
_SHARE = 1 / 20  # of the time that the work has taken: 10 minutes of it until lines are 30 s apart


class LinePacer:
    """Tells when the next line of a log is due, by the wall clock: fast work fills it no faster than slow work."""

    def __init__(self) -> None:
        self._begin = self._last = time.monotonic()

    def due(self) -> bool:
        """Return whether the last line is old enough: 5 s, or later on a twentieth of all the time, at most 30 s."""
        now = time.monotonic()
        return now - self._last >= min(LONGEST_S, max(SHORTEST_S, _SHARE * (now - self._begin)))

    def printed(self) -> None:
        """Note that a line was printed now."""
        self._last = time.monotonic()
