"""The processes below this one: they are started so that none outlives it, are signalled, and are ended."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from hyena_dist.system.processes import adopt_orphans, signal_when_parent_dies
from hyena_dist.system.stop_signals import asking, stop_signals


class Tree:
    """A context manager around a command and all that it starts, whichever sessions those make for themselves.

    While it is entered, the signals of `asking` do not interrupt this process: `wait` returns them. Orphans of the
    command become children of this process (Linux' child subreaper), so that none is lost from sight.

    Args:
        mark: name and value of an environment variable. Processes of this machine that have it belong to the tree as
            well, though a daemon has started them: pdsh's ranks are below sshd.
    """

    def __init__(self, mark: tuple[str, str] | None = None) -> None:
        self._mark = mark
        self.codes: dict[int, int] = {}
        """Pid -> exit code of children that have ended; for those that were killed, minus the signal's number."""

    def __enter__(self) -> "Tree":
        # A shell's background job ignores Ctrl-C, one under nohup the end of its terminal: so do we.
        ignored = {s for s in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(s) == signal.SIG_IGN}
        self._awaited = {*(asking() - ignored), signal.SIGCHLD}
        self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, self._awaited)
        adopt_orphans(True)
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        adopt_orphans(False)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)

    def start(self, command: Sequence[str], env: Mapping[str, str], output: Path | None = None) -> int:
        """Start a command in a session of its own; returns its pid.

        Signals to stop are ignored in it until it says otherwise, which programs inherit from each other: launchers and
        ranks that are still importing would die of them. It gets SIGTERM when this process dies.

        Args:
            command: program and arguments.
            env: the whole environment.
            output: a file to append its output to; this process's output if not given.

        Raises:
            OSError: there is no such program, or its output cannot be written.
        """
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(output.open("ab")) if output else None
            # `wait` reaps it, not Popen.
            process = subprocess.Popen(
                command, env=env, stdout=log, stderr=log, start_new_session=True, preexec_fn=_prepare
            )
        process.returncode = 0
        return process.pid

    def wait(self, timeout_s: float) -> signal.Signals | None:
        """Sleep until a child ends, time is up, or a signal of `asking` comes, which is returned."""
        info = signal.sigtimedwait(self._awaited, timeout_s)
        self._reap()
        if info is None or info.si_signo == signal.SIGCHLD:
            return None
        return signal.Signals(info.si_signo)

    def living(self) -> list[psutil.Process]:
        """Return all processes of the tree but this one."""
        self._reap()
        return [p for p in [*psutil.Process().children(recursive=True), *self._elsewhere()] if p.is_running()]

    def taking(self, number: signal.Signals) -> list[int]:
        """Return the pids of the topmost processes that have a handler for a signal, or wait for it.

        For SIGUSR1 those are ranks, or a program that hands it to its ranks, such as srun. What ranks have started
        is not among them. Those that a daemon has started are asked if there are no others.
        """
        if below := list(_takers(psutil.Process().children(), number)):
            return below
        elsewhere = self._elsewhere()
        pids, topmost = {p.pid for p in elsewhere}, []
        for process in elsewhere:
            with contextlib.suppress(psutil.Error):  # it has just ended
                if process.ppid() not in pids:
                    topmost.append(process)
        return list(_takers(topmost, number))

    def pass_on(self, number: signal.Signals) -> None:
        """Send a signal to the processes that `taking` finds."""
        for pid in self.taking(number):
            _kill(pid, number)

    def kill(self) -> None:
        """Kill everything below this process; returns when nothing is left, or after 30 s with what cannot die."""
        deadline = time.monotonic() + 30
        while (living := self.living()) and time.monotonic() < deadline:
            for process in living:
                _kill(process.pid, signal.SIGKILL)
            self.wait(0.02)

    def _elsewhere(self) -> list[psutil.Process]:
        """Return the processes that have the mark and are not below this one."""
        if self._mark is None:
            return []
        below = {p.pid for p in psutil.Process().children(recursive=True)}
        return [p for p in with_variable(*self._mark) if p.pid not in below]

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self.codes[ended[0]] = os.waitstatus_to_exitcode(ended[1])


class Stopping:
    """The way to an end after a signal: ranks are asked to save and stop until they do, and killed if they do not.

    Whatever the signal was, ranks get SIGUSR1, of which launchers do not die (Tree.start).

    Args:
        tree: the ranks and what started them.
        grace_s: how long they may take to save, in seconds.
        say: receives a line for each decision.
    """

    AGAIN_S = 2.0
    """Seconds until ranks are asked again: those that are still importing do not hear."""

    def __init__(self, tree: Tree, grace_s: float, say: Callable[[str], object]) -> None:
        self._tree, self._grace_s, self._say = tree, grace_s, say
        self.signal: signal.Signals | None = None
        """The signal that came first; None before one has."""
        self._deadline = self._next = 0.0

    def begin(self, number: signal.Signals, why: str) -> None:
        """Ask for an end, as if a signal had come."""
        self._say(f"{why}: asking the ranks to save and stop")
        now = time.monotonic()
        self.signal, self._deadline, self._next = number, now + self._grace_s, now

    def wait(self, timeout_s: float) -> None:
        """Wait as Tree.wait does, and then ask or kill the ranks if that is due."""
        if self.signal:
            timeout_s = max(0.0, min(timeout_s, min(self._next, self._deadline) - time.monotonic()))
        number, now = self._tree.wait(timeout_s), time.monotonic()
        if number and self.signal is None:
            self.begin(number, number.name)
        elif number == signal.SIGINT:
            self._say("SIGINT again: ending without saving")
            self._deadline = now
        if self.signal and now >= self._deadline:
            if self._tree.living():
                self._say("killing the ranks")
            self._tree.kill()
        elif self.signal and now >= self._next:
            self._tree.pass_on(signal.SIGUSR1)
            self._next = now + self.AGAIN_S


class Identity(NamedTuple):
    """A name of a process that no other process ever has: pids are used again, start times are not."""

    host: str
    pid: int
    started: float
    """When the process was started, in seconds since 1970."""

    @classmethod
    def of(cls, pid: int) -> "Identity":
        """Return the identity of a process of this machine.

        Raises:
            psutil.Error: there is no such process.
        """
        return cls(os.uname().nodename, pid, psutil.Process(pid).create_time())

    @property
    def here(self) -> bool:
        """Whether the process is, or was, one of this machine."""
        return self.host == os.uname().nodename

    @property
    def alive(self) -> bool:
        """Whether that very process lives; False for those of other machines."""
        try:
            # The start time is reckoned from the boot's, which a corrected clock moves a little.
            return self.here and abs(psutil.Process(self.pid).create_time() - self.started) < 2
        except psutil.Error:
            return False


def with_variable(name: str, value: str) -> list[psutil.Process]:
    """Return this machine's processes that were started with an environment variable, but no ancestors of this one."""
    me = psutil.Process()
    ours = {me.pid, *(parent.pid for parent in me.parents())}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid not in ours and process.environ().get(name) == value:
                found.append(process)
    return found


def exit_code(code: int) -> int:
    """Return a process's exit code as a shell does: 128 + N if signal N ended it."""
    return code if code >= 0 else 128 - code


def kill(processes: Sequence[psutil.Process]) -> None:
    """Kill processes, and wait until they are gone."""
    for process in processes:
        _kill(process.pid, signal.SIGKILL)
    psutil.wait_procs(processes, timeout=10)


def _takers(processes: Sequence[psutil.Process], number: signal.Signals) -> Iterator[int]:
    for process in processes:
        if _takes(process.pid, number):
            yield process.pid
        else:
            with contextlib.suppress(psutil.Error):
                yield from _takers(process.children(), number)


def _takes(pid: int, number: signal.Signals) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    masks = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigCgt:", "SigBlk:"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


def _kill(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _prepare() -> None:
    """Set up a child between fork and exec."""
    for number in stop_signals():
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, asking() | {signal.SIGCHLD})
    signal_when_parent_dies(signal.SIGTERM)
