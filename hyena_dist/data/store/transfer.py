"""One attempt at bringing a file, by http(s) or through a command, and the part that it leaves for the next attempt.

`receive_http` and `receive_pipe` append to a Part until the file is complete, or raise TryAgainError where another
attempt may go better and UserError where none can. fetch.py decides how often to try.
"""

import http.client
import json
import os
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from select import select
from signal import SIGKILL
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from hyena_dist.errors import UserError
from hyena_dist.system.files import replace_atomically

PIPE = "pipe:"
"""Start of a source that is a command, whose output is the file."""
_BLOCK = 2**20
"""Largest number of bytes that are read at once."""
_RETRIED = (408, 425, 429)
"""HTTP status codes below 500 after which another attempt may go better: timeout, too early, too many requests."""


@dataclass(frozen=True)
class Limits:
    """The patience of a fetch: how long to go on trying to bring a file.

    Attributes:
        attempts: number of attempts in a row that bring less than 1 MiB, after which the fetch fails.
        wait_s: pause after the first such attempt, in seconds; it doubles after each, to 60 at most.
        timeout_s: silence of the source after which an attempt is given up, in seconds.
        min_rate: rate below which an attempt is given up, in bytes/s, measured over `rate_s`.
        rate_s: time over which the rate is measured, in seconds.
    """

    attempts: int = 6
    wait_s: float = 1.0
    timeout_s: float = 30.0
    min_rate: int = 10_000
    rate_s: float = 30.0


class NotThereError(UserError):
    """The server answers that it has no such file."""


class TryAgainError(Exception):
    """An attempt failed in a way that may pass."""


class WrongContentError(TryAgainError):
    """An attempt brought all bytes, and they are not the expected ones."""


class Part:
    """The bytes of a file that have come so far, in FILE.part, and a note of what they are a part of.

    Attributes:
        file: path of the complete file.
        path: path of the bytes that have come.
        size: how many bytes have come.
        note: where they came from ("source"), which version of the source they are of, by its ETag or its time of
            change ("validator"), and how many bytes the complete file has ("total", None if unknown). It is empty where
            nothing is known.

    Args:
        file: path of the complete file.
        on_bytes: called with the change of `size`, which is negative at a restart.
    """

    def __init__(self, file: Path, on_bytes: Callable[[int], object]) -> None:
        self.file = file
        self._on_bytes = on_bytes
        self._reported = 0
        self.path = file.with_name(f"{file.name}.part")
        self._note_path = file.with_name(f"{file.name}.part.json")
        self.size = self.path.stat().st_size if self.path.exists() else 0
        self.note: dict[str, Any] = {}
        with suppress(FileNotFoundError, ValueError):
            self.note = dict(json.loads(self._note_path.read_text(encoding="utf-8")))
        self._report()

    def _report(self) -> None:
        """Tell how many bytes have come since the last report."""
        self._on_bytes(self.size - self._reported)
        self._reported = self.size

    def restart(self, note: dict[str, Any] | None = None) -> None:
        """Discard the bytes that came, and note what the next bytes will be a part of."""
        self.path.write_bytes(b"")
        self.size = 0
        self.note = note or {}
        self._note_path.write_text(json.dumps(self.note), encoding="utf-8")
        self._report()

    def append(self, read: Callable[[], bytes], limits: Limits) -> None:
        """Append the blocks that `read` returns, until it returns an empty one.

        Raises:
            TryAgainError: `read` failed, or blocks came too slowly.
            UserError: `read` failed in a way that another attempt cannot mend.
        """
        since = time.monotonic()
        before = self.size
        with self.path.open("ab", buffering=0) as stream:
            while block := _network(read, limits):
                rest = memoryview(block)
                while rest:
                    rest = rest[stream.write(rest) :]
                self.size += len(block)
                self._report()
                elapsed = time.monotonic() - since
                if elapsed >= limits.rate_s:
                    if self.size - before < limits.min_rate * elapsed:
                        raise TryAgainError(f"slower than {limits.min_rate:,} bytes/s")
                    since = time.monotonic()
                    before = self.size

    def finish(self) -> None:
        """Give the file its name, now that it is complete."""
        replace_atomically(self.path, self.file)
        self._note_path.unlink(missing_ok=True)


def receive_http(url: str, part: Part, size: int | None, limits: Limits) -> None:
    """Bring the rest of a file, or all of it if the server does not know ranges or its file has changed.

    Args:
        url: http(s) URL of the file.
        part: what has come so far, to which the rest is appended.
        size: expected size of the complete file in bytes; None if unknown.
        limits: when to give up.

    Raises:
        TryAgainError: Another attempt may go better.
        UserError: The file cannot be had.
    """
    request = Request(url, headers={"User-Agent": "hyena-dist"})
    total = part.note.get("total")
    resume = part.size > 0 and part.note.get("source") == url and bool(part.note.get("validator"))
    if resume and part.size == total:
        return  # an earlier program was killed after the last byte came
    if resume:
        request.add_header("Range", f"bytes={part.size}-")
        request.add_header("If-Range", part.note["validator"])
    with _network(lambda: urlopen(request, timeout=limits.timeout_s), limits, url, part) as answer:
        headers = answer.headers
        length = headers.get("Content-Length")
        etag = headers.get("ETag", "")
        validator = etag if etag.startswith('"') else headers.get("Last-Modified", "")
        if answer.status == 206:
            asked = f"bytes {part.size}-{total - 1}/{total}" if total else ""
            if headers.get("Content-Range") != asked or validator not in ("", part.note["validator"]):
                part.restart()
                raise TryAgainError("the file changed while it was fetched")
        else:
            total = int(length) if length else None
            if size is not None and total not in (None, size):
                raise WrongContentError(f"it has {total} bytes instead of {size}")
            part.restart({"source": url, "validator": validator, "total": total})
        part.append(lambda: answer.read1(_BLOCK), limits)
    if total is not None and part.size != total:
        raise TryAgainError(f"the connection ended after {part.size} of {total} bytes")


def _network(call: Callable[[], Any], limits: Limits, url: str = "", part: Part | None = None) -> Any:
    """Return what `call` returns, and turn errors of the network into errors that say whether to try again.

    Args:
        call: does something on the network.
        limits: the patience that `call` has, for errors.
        url: address, for errors.
        part: discarded if the server answers that its file is shorter than the part.

    Raises:
        TryAgainError: Another attempt may go better.
        UserError: Another attempt is of no use.
    """
    try:
        return call()
    except HTTPError as error:
        error.close()
        reason = f"HTTP {error.code} {error.reason}"
        if error.code == 416 and part:
            part.restart()  # the server's file has become shorter than what came of it
        elif error.code < 500 and error.code not in _RETRIED:
            kind = NotThereError if error.code in (404, 410) else UserError
            raise kind(f"{url} cannot be fetched ({reason}); check the address and who may read it") from error
        raise TryAgainError(reason) from error
    except (OSError, http.client.HTTPException) as error:
        cause = error.reason if isinstance(error, URLError) else error
        if isinstance(cause, socket.gaierror):
            raise UserError(
                f"{url} cannot be fetched, because the name {urlsplit(url).hostname!r} cannot be resolved; "
                f"connect this machine to the internet, or use a copy in its reach (`data download --source PLACE`)"
            ) from error
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise UserError(
                f"{url} cannot be fetched ({cause.verify_message}); install the certificate authority of this "
                f"network, or correct this machine's clock"
            ) from error
        if isinstance(cause, TimeoutError):
            raise TryAgainError(f"silent for {limits.timeout_s:g} s") from error
        raise TryAgainError(" ".join(str(cause).split()) or type(cause).__name__) from error


def receive_pipe(source: str, part: Part, size: int | None, limits: Limits) -> None:
    """Bring the output of a command, from its first byte.

    Args:
        source: "pipe:" and the command, for the shell.
        part: replaced by the output.
        size: not used, since a command does not say beforehand how much it will write.
        limits: when to give up.

    Raises:
        TryAgainError: The command failed, was silent or was too slow.
        UserError: The command cannot be run.
    """
    part.restart()
    with tempfile.TemporaryFile() as complaints:
        command = subprocess.Popen(
            source.removeprefix(PIPE), shell=True, stdout=subprocess.PIPE, stderr=complaints, start_new_session=True
        )
        output: IO[bytes] = command.stdout  # type: ignore[assignment]

        def read() -> bytes:
            """Read what the command has written, or raise if it writes nothing for too long."""
            if not select([output], [], [], limits.timeout_s)[0]:
                raise TimeoutError
            return os.read(output.fileno(), _BLOCK)

        try:
            part.append(read, limits)
            command.wait(limits.timeout_s)
        except subprocess.TimeoutExpired as error:
            raise TryAgainError(f"the command did not end within {limits.timeout_s:g} s after its output") from error
        finally:
            output.close()
            if command.poll() is None:
                os.killpg(command.pid, SIGKILL)  # ends the shell and what it started
                command.wait()
        complaints.seek(0)
        said = complaints.read().decode("utf-8", "replace").split("\n")
    if command.returncode:
        last = next((line.strip() for line in reversed(said) if line.strip()), "it says nothing")
        if command.returncode == 127:  # the shell's code for a program that is not there
            raise UserError(f"{source} cannot be run ({last}); install that program or correct the command")
        raise TryAgainError(f"the command ended with code {command.returncode}: {last}")
