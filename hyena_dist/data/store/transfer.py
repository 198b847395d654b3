"""One attempt at bringing a file, by http(s) or through a command, and what is left of it for the next attempt."""

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
_BLOCK = 2**20
_RETRIED = (408, 425, 429)
"""Codes of HTTP below 500 after which another attempt may go better."""


@dataclass(frozen=True)
class Limits:
    """How long to go on trying.

    Attributes:
        attempts: attempts in a row that bring less than 1 MiB of a file, after which the fetch fails.
        wait_s: pause after the first of them, in seconds; it doubles after each, to 60 at most.
        timeout_s: silence after which an attempt is given up.
        min_rate: bytes/s, over each `rate_s` seconds, below which an attempt is given up.
        rate_s: see `min_rate`.
    """

    attempts: int = 6
    wait_s: float = 1.0
    timeout_s: float = 30.0
    min_rate: int = 10_000
    rate_s: float = 30.0


class NotThereError(UserError):
    """The server answers, and has no such file."""


class TryAgainError(Exception):
    """An attempt failed in a way that may pass."""


class WrongContentError(TryAgainError):
    """All bytes came, and they are not the expected ones."""


class Part:
    """What has come of a file so far, and a note of what it is a part of: {"source", "validator", "total"}."""

    def __init__(self, file: Path, on_bytes: Callable[[int], object]) -> None:
        self.file, self._on_bytes, self._reported = file, on_bytes, 0
        self.path = file.with_name(f"{file.name}.part")
        self._note_path = file.with_name(f"{file.name}.part.json")
        self.size = self.path.stat().st_size if self.path.exists() else 0
        self.note: dict[str, Any] = {}
        with suppress(FileNotFoundError, ValueError):
            self.note = dict(json.loads(self._note_path.read_text(encoding="utf-8")))
        self._report()

    def _report(self) -> None:
        self._on_bytes(self.size - self._reported)
        self._reported = self.size

    def restart(self, note: dict[str, Any] | None = None) -> None:
        """Forget what came, and note what comes next."""
        self.path.write_bytes(b"")
        self.size, self.note = 0, note or {}
        self._note_path.write_text(json.dumps(self.note), encoding="utf-8")
        self._report()

    def append(self, read: Callable[[], bytes], limits: Limits) -> None:
        """Add blocks until `read` returns an empty one or is too slow."""
        since, before = time.monotonic(), self.size
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
                    since, before = time.monotonic(), self.size

    def finish(self) -> None:
        """Give the complete file its name."""
        replace_atomically(self.path, self.file)
        self._note_path.unlink(missing_ok=True)


def receive_http(url: str, part: Part, size: int | None, limits: Limits) -> None:
    """Bring the rest of the file, or the whole of it where the server does not know ranges or the file has changed."""
    request = Request(url, headers={"User-Agent": "hyena-dist"})
    total = part.note.get("total")
    resume = part.size > 0 and part.note.get("source") == url and bool(part.note.get("validator"))
    if resume and part.size == total:
        return  # complete, and then this program was killed
    if resume:
        request.add_header("Range", f"bytes={part.size}-")
        request.add_header("If-Range", part.note["validator"])
    with _network(lambda: urlopen(request, timeout=limits.timeout_s), limits, url, part) as answer:
        headers, length = answer.headers, answer.headers.get("Content-Length")
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
    """Do `call`, turning errors of the network into TryAgainError, or into UserError where patience is of no use."""
    try:
        return call()
    except HTTPError as error:
        error.close()
        reason = f"HTTP {error.code} {error.reason}"
        if error.code == 416 and part:
            part.restart()  # it has become shorter than what came before
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
    """Bring the output of a command."""
    part.restart()
    with tempfile.TemporaryFile() as complaints:
        command = subprocess.Popen(
            source.removeprefix(PIPE), shell=True, stdout=subprocess.PIPE, stderr=complaints, start_new_session=True
        )
        output: IO[bytes] = command.stdout  # type: ignore[assignment]

        def read() -> bytes:
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
                os.killpg(command.pid, SIGKILL)  # the shell and what it started
                command.wait()
        complaints.seek(0)
        said = complaints.read().decode("utf-8", "replace").split("\n")
    if command.returncode:
        last = next((line.strip() for line in reversed(said) if line.strip()), "it says nothing")
        if command.returncode == 127:  # the shell's code for a program that is not there
            raise UserError(f"{source} cannot be run ({last}); install that program or correct the command")
        raise TryAgainError(f"the command ended with code {command.returncode}: {last}")
