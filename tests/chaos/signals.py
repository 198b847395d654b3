"""Sends signals to the processes of runs, one after the other, and watches what becomes of them."""

import contextlib
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from hyena_dist.system.process_tree import kill, with_variable
from hyena_dist.train.checkpoint.format import check, list_checkpoints
from hyena_dist.train.outcome import read

MARK = "CHAOS_SIGNALS_RUN"
"""The variable by which the processes of a run are found, whatever becomes of their parents."""

SIGNALS: dict[str, Sequence[signal.Signals]] = {
    "TERM": [signal.SIGTERM],
    "INT": [signal.SIGINT],
    "INT twice": [signal.SIGINT, signal.SIGINT],
    "HUP": [signal.SIGHUP],
    "USR1": [signal.SIGUSR1],
    "KILL": [signal.SIGKILL],
}
_WORD = re.compile(r"sav|stop|interrupt|gone|exit|ended|kill|SIG|signal|terminat|crash|broke off", re.IGNORECASE)
_LATEST_S = 25.0
"""The longest time from a start to a signal, in seconds: in it a run imports, meets and trains."""
_LIMIT_S = 150.0
_GOES_ON = 10
"""Steps after a signal by which a run that has survived it is known."""


class Target:
    """A run under a launcher, started again whenever it has ended.

    Args:
        name: the launcher's name, for messages.
        run_dir: the run's folder.
        command: what starts it, or goes on with it.
        draw: what all that is random comes from.
    """

    def __init__(self, name: str, run_dir: Path, command: Sequence[str], draw: random.Random) -> None:
        self.name, self.run_dir, self.command, self.draw = name, run_dir, command, draw
        self.strikes: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()
        self._newest = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self._silent = False

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end."""
        ended = read(self.run_dir)
        return ended is not None and ended.outcome == "finished"

    def strike(self) -> None:
        """Send a random signal to a random process at a random moment, and see it through.

        Raises:
            AssertionError: something is left running, a checkpoint is lost, or an end is not said.
        """
        if self._process is None:
            self._start()
        time.sleep(self.draw.uniform(0, max(1.0, self._began + _LATEST_S - time.monotonic())))
        living = with_variable(MARK, str(self.run_dir))
        if not living:
            self._see_through("nothing", self._said())
            return
        victim, name = self.draw.choice(living), self.draw.choice(list(SIGNALS))
        what, said = f"{name} to {_describe(victim)}", self._said()
        self._silent = not any(process.is_running() and _is_ours(process) for process in living)
        for number in SIGNALS[name]:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.send_signal(number)
            time.sleep(0.3)
        self.strikes[name] += 1
        self._see_through(what, said)

    def finish(self) -> None:
        """Let the run come to its end, undisturbed."""
        while not self.finished:
            if self._process is None:
                self._start()
            self._wait_for(lambda: not with_variable(MARK, str(self.run_dir)), "nothing")
            self._process = None

    def kill(self) -> None:
        """End all processes of the run."""
        kill(with_variable(MARK, str(self.run_dir)))
        if self._process:
            self._process.wait()

    def _start(self) -> None:
        env = os.environ | {MARK: str(self.run_dir), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
        with (self.run_dir / "console").open("ab") as console:
            self._process = subprocess.Popen(
                self.command, env=env, stdout=console, stderr=console, start_new_session=True
            )
        self._began = time.monotonic()

    def _see_through(self, what: str, said: int) -> None:
        """Wait until the run has ended or has gone on, after `said` characters of words."""
        rows, process = self._rows(), self._process
        assert process is not None

        def settled() -> bool:
            return not with_variable(MARK, str(self.run_dir)) or self._rows() > rows + _GOES_ON

        self._wait_for(settled, what)
        self._look()
        if process.poll() is None and self._rows() > rows + _GOES_ON:
            self.endings["went on"] += 1
            return
        self._wait_for(lambda: not with_variable(MARK, str(self.run_dir)), what)
        code = process.wait()
        self._process = None
        self.endings[f"exit code {code}"] += 1
        # What a shell says of a command that a signal has ended counts: it has no last words itself. Before a bare
        # deepspeed has started anything of ours, nobody speaks for its launch process.
        assert code < 0 or self._silent or _WORD.search(self._words()[said:]) or self.finished, (
            f"{what}: {self._words()[said:]!r}"
        )

    def _wait_for(self, come: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _LIMIT_S
        while not come():
            left = [_describe(process) for process in with_variable(MARK, str(self.run_dir))]
            assert time.monotonic() < deadline, f"{self.name}, after {what}: {left}\n{self._words()[-3000:]}"
            self._look()
            time.sleep(0.2)

    def _look(self) -> None:
        """Whole checkpoints stay, and are what they were saved as."""
        found = list_checkpoints(self.run_dir / "checkpoints")
        newest = max((int(p.name.removeprefix("step-")) for p in found), default=0)
        assert newest >= self._newest, f"{self.name}: step {self._newest} was saved, {newest} is left"
        if newest > self._newest:
            self._newest = newest
            with contextlib.suppress(FileNotFoundError):
                check(found[-1])

    def _rows(self) -> int:
        with contextlib.suppress(OSError):
            return (self.run_dir / "metrics.jsonl").read_bytes().count(b"\n")
        return 0

    def _words(self) -> str:
        """All that the run has said, on the console and in its logs."""
        files = [self.run_dir / "console", *sorted((self.run_dir / "logs").glob("supervisor.log"))]
        return "".join(file.read_text(errors="replace") for file in files if file.exists())

    def _said(self) -> int:
        return len(self._words())


def _is_ours(process: psutil.Process) -> bool:
    """Return whether a process is a rank, or one of `hyena-dist jobs`."""
    with contextlib.suppress(psutil.Error):
        return "RANK" in process.environ() or "jobs" in process.cmdline() or "-m" in process.cmdline()[1:2]
    return False


def _describe(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} ({' '.join(process.cmdline())[-120:]})"
    return f"{process.pid} (gone)"
