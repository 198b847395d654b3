"""Standard output and standard error that may fail, as a closed pipe or a full disk does, while the work goes on."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class LossyStream:
    """A text stream that drops what cannot be written: a reader left, a disk is full, a terminal is gone."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.reader_left = False
        self.error: OSError | None = None
        """What first kept output from being written, but for a reader that left, which is no error."""

    def write(self, text: str) -> int:
        """Write text, or drop it."""
        try:
            written: int = self._stream.write(text)
        except OSError as error:
            self._drop(error)
            return len(text)
        return written

    def flush(self) -> None:
        """Write what is in the buffer if that can be written; a disk that is full may have room the next time."""
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def writelines(self, lines: list[str]) -> None:
        """Write lines, which have their ends."""
        for line in lines:
            self.write(line)

    def finish(self) -> None:
        """Write what is in the buffer or drop it, so that the end of the process does not stumble over it."""
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)
            self._discard()
            self._stream.flush()

    def _drop(self, error: OSError) -> None:
        if isinstance(error, BrokenPipeError):
            self._discard()  # nobody ever reads it again, whereas a disk may have room later
        else:
            self.error = self.error or error

    def _discard(self) -> None:
        self.reader_left = True
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self._stream.fileno())
        os.close(nothing)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def output_may_fail() -> Iterator[LossyStream]:
    """Within the block, what is printed and cannot be written is dropped, and the work goes on.

    A file that a verb writes beside what it prints is whole, therefore, whoever reads. Yields standard output, whose
    `error` says whether anything was lost.
    """
    before = sys.stdout, sys.stderr
    streams = [LossyStream(stream) for stream in before]
    sys.stdout, sys.stderr = streams
    try:
        yield streams[0]
    finally:
        for stream in streams:
            stream.finish()
        sys.stdout, sys.stderr = before


def lost(output: LossyStream) -> int:
    """Say on standard error if a part of what was printed is lost, and return the exit code: 2 if so, else 0."""
    output.flush()
    if output.error is None:
        return 0
    reason = output.error.strerror or str(output.error)
    print(f"error: the output could not be written ({reason}); free some space, or send it elsewhere", file=sys.stderr)
    return 2
