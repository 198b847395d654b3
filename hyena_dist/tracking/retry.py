"""The pauses between attempts at something that fails, such as a server that does not answer."""

import time

FIRST_PAUSE_S = 30.0
LONGEST_PAUSE_S = 600.0


class Retry:
    """Tells when the next attempt is due: at once, and after failures after pauses that double.

    Attributes:
        failing: whether the last attempt failed.
    """

    def __init__(self) -> None:
        self.failing = False
        self._at = 0.0
        self._pause = FIRST_PAUSE_S

    def due(self) -> bool:
        """Return whether the pause since the last failure is over."""
        return time.monotonic() >= self._at

    def hurry(self) -> None:
        """End the pause."""
        self._at = 0.0

    def failed(self) -> None:
        """Note that an attempt failed."""
        self.failing = True
        self._at = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE_S)

    def worked(self) -> None:
        """Note that an attempt worked."""
        self.failing = False
        self._at = 0.0
        self._pause = FIRST_PAUSE_S
