"""A web server on this machine that has faults on demand."""

import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from email.utils import formatdate
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


class Site(ThreadingHTTPServer):
    """Serves the files of a folder, with ranges and ETags as object stores do.

    Attributes:
        folder: what is served.
        faults: path -> faults of the next requests for it, in order; the last stays if it is "...".
            An int is answered with; "stall" sends half and is silent; "truncate" sends half and hangs up; "trickle"
            sends the rest byte by byte; "whole" ignores the range; "wrong" sends as many other bytes; "change" first
            replaces the file by another of its size, "forget" tells no ETag; "" is no fault.
        asked: (path, Range or "") of every request.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.faults: dict[str, list[int | str]] = {}
        self.asked: list[tuple[str, str]] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def next_fault(self, path: str) -> int | str:
        with self._lock:
            faults = self.faults.get(path, [])
            if not faults:
                return ""
            return faults[0] if faults[1:] == ["..."] else faults.pop(0)


class _Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        path, wanted = self.path.lstrip("/"), self.headers.get("Range", "")
        self.server.asked.append((path, wanted))
        fault = self.server.next_fault(path)
        file = self.server.folder / path
        if isinstance(fault, int):
            self.send_error(fault)
            return
        if not file.is_file():
            self.send_error(404)
            return
        if fault == "change":
            file.write_bytes(file.read_bytes().translate(bytes(byte ^ 1 for byte in range(256))))
        content = file.read_bytes()
        etag = f'"{sha256(content).hexdigest()[:8]}"'
        if fault == "wrong":
            content = bytes(len(content))
        start = 0
        found = re.fullmatch(r"bytes=(\d+)-", wanted)
        if found and fault != "whole" and self.headers.get("If-Range", etag) == etag:
            start = int(found[1])
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if fault != "forget":
            self.send_header("ETag", etag)
            self.send_header("Last-Modified", formatdate(file.stat().st_mtime, usegmt=True))
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        if fault in ("stall", "truncate", "forget", "trickle"):
            self.wfile.write(rest[: len(rest) // 2])
            self.wfile.flush()
        if fault == "stall":
            self.server.closing.wait(60)
        elif fault == "trickle":
            for at in range(len(rest) // 2, len(rest)):
                self.wfile.write(rest[at : at + 1])
                if self.server.closing.wait(0.05):
                    return
        elif fault not in ("truncate", "forget"):
            self.wfile.write(rest)

    def log_message(self, *args: object) -> None:
        """Say nothing about requests."""

    def handle(self) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # a client that gave up is part of the tests
            super().handle()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A web server for the folder tmp_path/site."""
    folder = tmp_path / "site"
    folder.mkdir()
    server = Site(folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()
