"""A real MLflow server that is killed, and comes back."""

import contextlib
import os
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import psutil

from hyena_dist.system.hosts import free_port
from hyena_dist.system.programs import program


class MlflowServer:
    """Serves a store in a folder, at the same port whenever it is up; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._command = [
            *(program("mlflow"), "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"),
            *(
                "--backend-store-uri",
                f"sqlite:///{folder}/server.db",
                "--artifacts-destination",
                str(folder / "served"),
            ),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._back = 0.0

    @property
    def up(self) -> bool:
        """Whether it has been started and not been killed; it answers some seconds later."""
        return self._process is not None

    @property
    def process(self) -> psutil.Process:
        """The server, while it is up."""
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def start(self) -> None:
        if self._process is None:
            quiet = subprocess.DEVNULL
            self._process = subprocess.Popen(self._command, stdout=quiet, stderr=quiet, start_new_session=True)

    def wait(self) -> None:
        """Wait until it answers.

        Raises:
            AssertionError: it does not within a minute and a half.
        """
        deadline = time.monotonic() + 90
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                return
            assert time.monotonic() < deadline, "the MLflow server does not answer"
            time.sleep(0.2)

    def kill(self, away_s: float) -> None:
        """Kill it with its workers; `look` starts it again after so many seconds."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
            self._back = time.monotonic() + away_s

    def look(self) -> None:
        """Start it again if it is time."""
        if self._process is None and time.monotonic() > self._back:
            self.start()

    def __enter__(self) -> "MlflowServer":
        self.start()
        self.wait()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill(0)
