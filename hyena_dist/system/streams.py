"""Standard output and standard error whose reader may leave, such as `head`, without an end to the work."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class _Stream:
    """A text stream that goes on into nothing once its reader has closed the pipe."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.reader_left = False

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._discard()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._discard()

    def writelines(self, lines: list[str]) -> None:
        self.write("".join(lines))

    def _discard(self) -> None:
        self.reader_left = True
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self._stream.fileno())
        os.close(nothing)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def readers_may_leave() -> Iterator[None]:
    """Within the block, what is printed after its reader has closed the pipe is dropped, and the work goes on.

    A file that a verb writes beside what it prints is whole, therefore, whoever reads.
    """
    before = sys.stdout, sys.stderr
    streams = [_Stream(stream) for stream in before]
    sys.stdout, sys.stderr = streams
    try:
        yield
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before
