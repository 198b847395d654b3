"""Does to a run what happens to runs: kills its processes, console and MLflow at random moments, fills its disk."""

import contextlib
import random
import resource
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil

from hyena_dist.train.checkpoint.format import check, list_checkpoints
from hyena_dist.train.outcome import read
from tests.chaos.mlflow_server import MlflowServer

VICTIMS = ("rank", "worker", "launcher", "supervisor", "disk", "console", "mlflow")
_SURVIVED = ("disk", "console", "mlflow")
"""Victims whose end is none of the run's."""
_TINY = 2048
"""Bytes that a file may have on a full disk."""


class Monkey:
    """Brings a run to its end, against itself.

    Args:
        command: the supervisor's; it is started again where it has ended.
        run_dir: the run's folder.
        boundaries: steps at which the curriculum changes.
        server: the MLflow server that the run sends to.
        seed: what all that is random begins from.
    """

    def __init__(
        self, command: Sequence[str], run_dir: Path, boundaries: Sequence[int], server: MlflowServer, seed: int
    ) -> None:
        self.command, self.run_dir, self.boundaries = list(command), run_dir, list(boundaries)
        self.server = server
        self.random = random.Random(seed)
        self.strikes: Counter[str] = Counter()
        self.moments: Counter[str] = Counter()
        self.newest = 0
        self.round: list[str] = []
        """Victims that are still to be struck before one is struck again."""

    @property
    def kills(self) -> int:
        """Strikes that the run had to be started again after."""
        return self.strikes.total() - sum(self.strikes[victim] for victim in _SURVIVED)

    def finish(self, kills: int, limit_s: float) -> None:
        """Strike until so many processes were killed, then let the run end.

        Raises:
            AssertionError: it does not end in time, ends before, or a checkpoint has gone.
        """
        deadline = time.monotonic() + limit_s
        while True:
            with (
                subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as supervisor,
                subprocess.Popen(["cat"], stdin=supervisor.stdout, stdout=subprocess.DEVNULL) as self.console,
            ):
                assert supervisor.stdout is not None
                supervisor.stdout.close()  # the console alone reads it
                try:
                    while supervisor.poll() is None:
                        assert time.monotonic() < deadline, f"struck {self.strikes}, now at {self._step()}"
                        if self.kills < kills:
                            self._strike(supervisor)
                        else:
                            time.sleep(0.05)
                        self._look()
                finally:
                    if supervisor.poll() is None:
                        kill(psutil.Process(supervisor.pid))
            ended = read(self.run_dir)
            if supervisor.returncode == 0 and ended is not None and ended.outcome == "finished":
                assert self.kills >= kills, f"ended after {self.strikes}"
                return

    def _strike(self, supervisor: "subprocess.Popen[bytes]") -> None:
        """Wait for a moment of a random kind, then hit a random victim."""
        moment = self.random.choice(("starting", "training", "training", "saving", "boundary"))
        if not self._wait_for(moment, supervisor):
            return
        if not self.round:
            self.round = self.random.sample(VICTIMS, len(VICTIMS))
        victim = self.round.pop()
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            hit = self._find(supervisor.pid, victim)
            if victim == "mlflow":
                self.server.kill(away_s=self.random.uniform(0, 5))
            elif victim == "disk":
                _, hard = hit.rlimit(resource.RLIMIT_FSIZE)
                hit.rlimit(resource.RLIMIT_FSIZE, (_TINY, hard))
            else:
                hit.kill()
            self.strikes[victim] += 1
            self.moments[moment] += 1

    def _wait_for(self, moment: str, supervisor: "subprocess.Popen[bytes]") -> bool:
        """Return whether the moment came before the supervisor ended; the wait is some seconds at most."""
        began, first = time.monotonic(), self._step()
        delay = self.random.uniform(0, 3.0 if moment == "starting" else 0.3)
        partial = self.run_dir / "checkpoints"
        while supervisor.poll() is None:
            waited, step = time.monotonic() - began, self._step()
            near = any(0 <= boundary - step <= 3 for boundary in self.boundaries)
            moving = step != first
            come = {
                "starting": waited > delay,
                "training": moving,
                "saving": moving and any(partial.glob(".step-*")),
                "boundary": moving and near,
            }[moment]
            if come or waited > 12:
                time.sleep(0 if moment in ("starting", "saving") else delay)
                return supervisor.poll() is None
            time.sleep(0.002)
        return False

    def _find(self, pid: int, victim: str) -> psutil.Process:
        """A living process of a kind.

        Raises:
            IndexError: there is none now.
        """
        supervisor = psutil.Process(pid)
        below = supervisor.children(recursive=True)
        ranks = [p for p in below if "RANK" in p.environ() and "tests.chaos.train" in p.cmdline()]
        found = {
            "supervisor": [supervisor],
            "launcher": [p for p in below if "spawn" in p.cmdline()],
            "rank": [p for p in ranks if "RANK" not in p.parent().environ()],
            "worker": [p for p in ranks if "RANK" in p.parent().environ()],
            "console": [psutil.Process(self.console.pid)] if self.console.poll() is None else [],
            # Once the run has a record there, without which it would rightly be refused.
            "mlflow": [self.server.process] if self.server.up and (self.run_dir / "mlflow.json").exists() else [],
        }
        return self.random.choice(found["rank" if victim == "disk" else victim])

    def _step(self) -> int:
        """The number of rows of metrics, about that of steps."""
        with contextlib.suppress(OSError):
            return (self.run_dir / "metrics.jsonl").read_bytes().count(b"\n")
        return 0

    def _look(self) -> None:
        """Whole checkpoints stay, and are what they were saved as; the server comes back."""
        self.server.look()
        found = list_checkpoints(self.run_dir / "checkpoints")
        newest = max((int(p.name.removeprefix("step-")) for p in found), default=0)
        assert newest >= self.newest, f"step {self.newest} was saved, {newest} is left"
        if newest > self.newest:
            self.newest = newest
            check(found[-1])


def kill(process: psutil.Process) -> None:
    """End a process and all below it."""
    for each in (*process.children(recursive=True), process):
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
