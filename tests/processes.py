"""Real processes for tests: ranks over gloo, and the command line.

They start in a twentieth of a second, because they fork from a server that has already imported what they need. A rank
that lives on and takes one case after another would save little more (0.15 s of CPU time instead of 0.2 s for a small
case), and each case would see what those before it have left behind in torch, DeepSpeed and megatron-core.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from hyena_dist.system.hosts import free_port

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.preload"])


class Ranks:
    """`world_size` processes that each run `target(*args)`; the results come back in rank order."""

    def __init__(self, world_size: int, target: Callable[..., Any], *args: Any) -> None:
        port = free_port()
        self.pipes: list[Connection] = []
        self.processes = []
        for rank in range(world_size):
            receive, send = SERVER.Pipe(duplex=False)
            process = SERVER.Process(target=_rank_main, args=(rank, world_size, port, send, target, args))
            process.start()
            send.close()
            self.pipes.append(receive)
            self.processes.append(process)

    def results(self, timeout: float = 400) -> list[Any]:
        """Return what each rank returned; the first failure is raised here with its traceback."""
        results: dict[int, Any] = {}
        try:
            while len(results) < len(self.pipes):
                open_pipes = [p for i, p in enumerate(self.pipes) if i not in results]
                ready = wait(open_pipes, timeout)
                assert ready, f"no rank answered within {timeout} s"
                for pipe in ready:
                    rank = self.pipes.index(pipe)
                    ok, value = pipe.recv()
                    assert ok, f"rank {rank} failed:\n{value}"
                    results[rank] = value
        finally:
            self.kill()
        return [results[i] for i in range(len(self.pipes))]

    def kill(self) -> None:
        """Kill all by SIGKILL, as a crashed node or an out-of-memory killer would."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()


def run_ranks(world_size: int, target: Callable[..., Any], *args: Any) -> list[Any]:
    return Ranks(world_size, target, *args).results()


def run_cli(
    *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 250
) -> "subprocess.CompletedProcess[str]":
    """Run `hyena-dist ARGUMENTS` without the seconds of its imports: it forks from the same server as ranks do."""
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder) / "output", Path(folder) / "errors"
        environment = {**os.environ, **(env or {})}
        process = SERVER.Process(target=cli_main, args=(arguments, cwd or Path.cwd(), environment, output, errors))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(arguments, timeout, output.read_text(), errors.read_text())
        return subprocess.CompletedProcess(arguments, process.exitcode, output.read_text(), errors.read_text())


def _start_processes_as_usual() -> None:
    """Undo what a child of a server inherits: its own children, data workers, would fork from another, empty server."""
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)


def cli_main(arguments: tuple[str, ...], cwd: Path, environment: dict[str, str], output: Path, errors: Path) -> None:
    """Become the command line, in a child of the server; the output may be whatever can be opened by a path."""
    for path, descriptor in ((output, 1), (errors, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    _start_processes_as_usual()
    sys.argv = ["hyena-dist", *arguments]
    from hyena_dist.cli import main

    sys.exit(main())


def _rank_main(
    rank: int, world_size: int, port: int, send: Connection, target: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    _start_processes_as_usual()
    import torch

    torch.set_num_threads(1)
    try:
        result = (True, target(*args))
    except BaseException:
        result = (False, traceback.format_exc())
    for child in multiprocessing.active_children():  # megatron-core's checkpoints leave a manager of queues behind
        child.kill()
    send.send(result)
    # No clean-up: a process group that a dead peer left half-open would hang in its destructor.
    os._exit(0)
