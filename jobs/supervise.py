"""`jobs supervise` keeps a run going: it starts the launcher, passes signals on, and starts or queues it again."""

import contextlib
import os
import re
import shlex
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hyena_dist.errors import TEMPORARY, UserError
from hyena_dist.system.hosts import first_host, free_port
from hyena_dist.system.launch import RUN_VARIABLE
from hyena_dist.system.process_tree import Stopping, Tree, exit_code
from hyena_dist.system.stop_signals import stop_signals
from hyena_dist.train import outcome
from hyena_dist.train.outcome import Outcome
from jobs import slurm_queue
from jobs.run_state import cancelled, claim, is_done, standing

_LONGEST_PAUSE_S = 60.0
_LOOK_S = 5.0
"""Seconds between looks for a request to cancel, which may come from a machine whose signals do not reach this one."""


class Slurm(NamedTuple):
    """The SLURM job that this process is the batch script of."""

    job_id: str
    number: str
    """What sbatch said: of an array, the number of the whole."""
    more_tasks: bool | None
    """Whether later tasks of an array of jobs take their turns; None if the job is in no array."""

    @classmethod
    def of(cls, env: Mapping[str, str]) -> "Slurm | None":
        """Return the job whose batch script this process is, or was started by; None in a step or a shell of a job."""
        script = int(env.get("SLURM_TASK_PID", os.getpid()))
        if "SLURM_JOB_ID" not in env or "SLURM_STEP_ID" in env or script not in (os.getpid(), os.getppid()):
            return None
        task, last = env.get("SLURM_ARRAY_TASK_ID"), env.get("SLURM_ARRAY_TASK_MAX")
        number = env.get("SLURM_ARRAY_JOB_ID", env["SLURM_JOB_ID"])
        return cls(env["SLURM_JOB_ID"], number, int(task) < int(last) if task and last else None)


class _Ended(NamedTuple):
    """The end of an attempt."""

    code: int
    outcome: Outcome | None
    """What its processes left word of; None if they were killed."""
    asked: signal.Signals | None
    """The signal that asked this process to stop meanwhile, if one did."""

    @property
    def kind(self) -> str:
        return self.outcome.outcome if self.outcome else "crashed"


@dataclass(frozen=True)
class Supervision:
    """A launcher that is run again and again until the run, or a segment of its curriculum, is done."""

    run_dir: Path
    """The run's folder: its outcome.json and checkpoints tell how it went."""
    command: Sequence[str]
    """The command that trains; $MASTER_ADDR, $MASTER_PORT and other variables in it are filled in at each start."""
    segment: int | None = None
    """This job's part of a chain of jobs, counted from 1: it ends where other processes are needed."""
    segments: int | None = None
    """How many jobs the chain has."""
    last_stage: int | None = None
    """The last stage of that segment, counted from 1."""
    slurm_steps: str | None = None
    """The name of the steps that the command starts, in a batch script that was rendered for this run: the script owns
    its SLURM job. None elsewhere, also in jobs of SLURM that were made for something else."""
    max_restarts: int = 3
    """How many attempts in a row, after the first, may end without a new checkpoint."""
    grace_s: float = 300.0
    """How long ranks that were asked to stop may take to save, in seconds."""
    pause_s: float = 1.0
    """Seconds before the attempt after one that failed; they double with each that made no progress."""

    def run(self) -> int:
        """Make one attempt after the other until one of them is the last.

        Returns:
            The exit code: 0 if the run is done, stopped by a signal, or queued again; 2 after a mistake of the user;
            75 after a fault that another attempt may overcome; else the launcher's.

        Raises:
            UserError: another process supervises the run, or the command cannot be started.
        """
        if cancelled(self.run_dir):
            if self._slurm:
                self.say("cancelled: `jobs submit` starts the run again")
                return 0
            (self.run_dir / "job/cancel").unlink()
        job_id = self._slurm.number if self._slurm else None
        with claim(self.run_dir, list(self.command), job_id), Tree((RUN_VARIABLE, self._mark)) as tree:
            return self._to_the_end(tree)

    def say(self, text: str) -> None:
        """Write a line with the time to the terminal and to logs/supervisor.log; a full disk is no reason to stop."""
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n"
        with contextlib.suppress(OSError):
            print(f"supervisor: {line}", end="", flush=True)
        with contextlib.suppress(OSError):
            path = self.run_dir / "logs/supervisor.log"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(line)

    @property
    def _what(self) -> str:
        if self.segment is None:
            return "the run"
        return f"segment {self.segment}" + (f" of {self.segments}" if self.segments else "")

    @property
    def _mark(self) -> str:
        return str(self.run_dir.resolve())

    @property
    def _slurm(self) -> Slurm | None:
        """The SLURM job that is this run's own."""
        return Slurm.of(os.environ) if self.slurm_steps else None

    def _to_the_end(self, tree: Tree) -> int:
        if is_done(self.run_dir, self.last_stage):
            self.say(f"{self._what} is done")
            return 0
        if left := tree.living():  # two sets of ranks would be in one folder
            tree.kill()
            self.say(f"killed {len(left)} processes that an earlier supervisor had left")
        in_vain = 0  # crashes since the last progress
        while True:
            before = standing(self.run_dir)
            ended = self._attempt(tree)
            if ended.kind == "finished" or (ended.kind == "stage" and self._segment_is_done()):
                self.say(f"{self._what} is done")
                return 0
            if ended.kind == "failed":
                return 2
            if ended.asked or ended.kind == "stopped":
                return self._stopped(ended)
            after = standing(self.run_dir)
            in_vain = 0 if (after.step, after.stage) > (before.step, before.stage) else in_vain + 1
            if ended.kind == "stage" and not in_vain:
                continue
            if in_vain > self.max_restarts:
                self.say(f"giving up after {in_vain} attempts without progress (step {after.step:,})")
                return TEMPORARY if ended.kind == "fault" else exit_code(ended.code) or 1
            if asked := self._pause(tree, in_vain):
                return self._stopped(ended._replace(asked=asked))

    def _segment_is_done(self) -> bool:
        if self.last_stage is None:
            return self.segment is not None
        return is_done(self.run_dir, self.last_stage)

    # --- an attempt ---

    def _attempt(self, tree: Tree) -> _Ended:
        """Start the launcher and wait for its end."""
        nodes = os.environ.get("SLURM_JOB_NODELIST") if self._slurm else None
        env = {**os.environ, RUN_VARIABLE: self._mark, **rendezvous(nodes)}
        command = [expand(word, env) for word in self.command]
        outcome.clear(self.run_dir)
        self.say(f"starting: {shlex.join(command)}")
        try:
            pid = tree.start(command, env)
        except OSError as error:
            raise UserError(f"cannot start {command[0]} ({error.strerror}); mend the script or its PATH") from error
        asked = self._wait_for(tree, pid)
        code = tree.codes[pid]
        if left := tree.living():
            self.say(f"the launcher left {len(left)} processes: killed")
            tree.kill()
        if self._slurm and self.slurm_steps and code:
            slurm_queue.kill_steps(self._slurm.job_id, self.slurm_steps)
        ended = _Ended(code, outcome.read(self.run_dir), asked)
        message = f": {ended.outcome.message}" if ended.outcome else ""
        self.say(f"{ended.kind}, exit code {exit_code(code)}{message}")
        return ended

    def _wait_for(self, tree: Tree, pid: int) -> signal.Signals | None:
        """Wait until the launcher has ended, and pass signals on; returns the first that asked this process to stop."""
        stopping = Stopping(tree, self.grace_s, self.say)
        while pid not in tree.codes or (stopping.signal and tree.taking(signal.SIGUSR1)):
            stopping.wait(_LOOK_S)
            if stopping.signal is None and cancelled(self.run_dir):
                stopping.begin(signal.SIGUSR1, "cancelled")
        return stopping.signal

    def _pause(self, tree: Tree, in_vain: int) -> signal.Signals | None:
        """Wait before the next attempt; a signal that asks us to stop ends the wait and is returned."""
        seconds = min(self.pause_s * 2 ** max(0, in_vain - 1), _LONGEST_PAUSE_S)
        self.say(f"starting again in {seconds:g} s")
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if number := tree.wait(left):
                return number
        return signal.SIGUSR1 if cancelled(self.run_dir) else None

    # --- after a signal ---

    def _stopped(self, ended: _Ended) -> int:
        """Arrange how the run goes on after its ranks were asked to stop; returns the exit code."""
        code = 0 if ended.kind in ("stopped", "stage") else exit_code(ended.code) or 1
        if cancelled(self.run_dir):
            self.say("cancelled")
            return code
        if self._slurm is None or ended.asked == signal.SIGINT:
            return code
        if self._slurm.more_tasks is not None:
            self.say("the next task of the array goes on" if self._slurm.more_tasks else "no task of the array is left")
            return 0 if self._slurm.more_tasks else TEMPORARY
        if ended.asked not in stop_signals():
            state, reason = slurm_queue.state(self._slurm.job_id)
            if state != "RUNNING" and reason != "TimeLimit":
                # Whoever cancels or preempts a job decides whether it comes back. A chain must not go on without it.
                self.say(f"the job is {state or 'ending'}: SLURM decides whether it comes back")
                return TEMPORARY
        if slurm_queue.requeue(self._slurm.job_id, self.say):
            self.say(f"job {self._slurm.job_id} is queued again")
            return 0
        self.say("SLURM did not queue the job again: `jobs submit` goes on from the newest checkpoint")
        return TEMPORARY


def rendezvous(nodes: str | None = None) -> dict[str, str]:
    """Return the variables that tell ranks where to meet: on the first of a SLURM list of nodes or this machine."""
    return {"MASTER_ADDR": first_host(nodes) if nodes else "127.0.0.1", "MASTER_PORT": str(free_port(""))}


def expand(word: str, env: Mapping[str, str]) -> str:
    """Fill in $NAME and ${NAME}; names that `env` lacks stay as they are."""
    return re.sub(r"\$(?:(\w+)|\{(\w+)\})", lambda m: env.get(m[1] or m[2], m[0]), word)
