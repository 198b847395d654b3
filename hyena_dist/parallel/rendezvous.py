"""The meeting of all ranks at one address, before there is any group: who is missing is said, and Ctrl-C is heard.

torch's own rendezvous waits in C++, where no signal of Python's is heard, and says nothing until its time is up.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import FrameType
from typing import Any

import torch.distributed as dist

from hyena_dist.errors import TemporaryError
from hyena_dist.system.launch import Launch, meeting_place

_FIRST_WORD_S = 10.0
"""Seconds until a wait is spoken of; each later word comes after twice as long."""

_ANSWER_S = 10.0
_LOOK_S = (0.02, 0.5)
_NAMED = 8


def meet(launch: Launch, timeout_s: float) -> Any:
    """Wait until every rank is there.

    Args:
        launch: this process's place.
        timeout_s: how long to wait, in seconds.

    Returns:
        The store that all ranks see, which rank 0 keeps, or torchrun.

    Raises:
        UserError: nothing says where to meet, as in `meeting_place`.
        TemporaryError: the port is taken, a rank does not come or goes again, or SIGUSR1 came.
    """
    host, port = meeting_place()
    # DeepSpeed, for one, reads them.
    os.environ |= {"MASTER_ADDR": host, "MASTER_PORT": str(port)}
    wait = _Wait(f"{host}:{port}", timeout_s)
    with _ends_by_sigusr1(wait.place), all_stay(launch.world_size):
        if launch.rank == 0 and not _by_torchrun():
            store: Any = _serve(host, port, launch.world_size)
        else:
            wait.until(lambda: _answers(host, port), lambda: f"rank {launch.rank} waits for rank 0 at {wait.place}")
            store = _store(host, port, launch.world_size)
        # torchrun's store outlives the ranks that it starts again.
        store = dist.PrefixStore(f"ranks/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        _gather(launch, store, wait)
    store.set_timeout(timedelta(seconds=timeout_s))
    return store


@contextlib.contextmanager
def all_stay(world_size: int) -> Iterator[None]:
    """Within the block, what torch raises when a rank goes while they meet becomes a TemporaryError."""
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise TemporaryError(
            f"the meeting of {world_size} ranks broke off ({reason}): one is gone, whose log says why, or another "
            f"program has their port"
        ) from error


def _gather(launch: Launch, store: Any, wait: "_Wait") -> None:
    """Sign in, and wait until all have."""
    if store.add(f"rank {launch.rank}", 1) > 1 and not _by_torchrun():  # whose store may remember earlier ranks
        raise TemporaryError(
            f"rank {launch.rank} is at {wait.place} already: another run meets there; choose another MASTER_PORT"
        )
    store.add("count", 1)

    def missing() -> str:
        there = [store.check([f"rank {rank}"]) for rank in range(launch.world_size)]
        if there.index(True) != launch.rank:
            return ""  # one speaks for all
        absent = [str(rank) for rank, is_there in enumerate(there) if not is_there]
        names = ", ".join(absent[:_NAMED]) + (", ..." if absent[_NAMED:] else "")
        return f"waiting for {len(absent)} of {launch.world_size} ranks at {wait.place}: {names}"

    wait.until(lambda: store.add("count", 0) >= launch.world_size, missing)


class _Wait:
    """A wait with an end, in which what is waited for is said now and then."""

    def __init__(self, place: str, timeout_s: float) -> None:
        self.place = place
        self._timeout_s = timeout_s
        self._begin = time.monotonic()

    def until(self, come: Callable[[], bool], describe: Callable[[], str]) -> None:
        """Return when `come` does; `describe` says what is waited for, or nothing.

        Raises:
            TemporaryError: it took too long.
        """
        word, pause = _FIRST_WORD_S, _LOOK_S[0]
        while not come():
            waited = time.monotonic() - self._begin
            if waited > self._timeout_s:
                what = describe() or f"waiting for ranks at {self.place}"
                raise TemporaryError(f"{what}: they did not come in {self._timeout_s:g} s; their logs may say why")
            if waited > word:
                word = 2 * waited
                if text := describe():
                    print(text, file=sys.stderr, flush=True)
            time.sleep(pause)
            pause = min(2 * pause, _LOOK_S[1])


def _by_torchrun() -> bool:
    """Return whether torchrun keeps the store, in place of rank 0."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _serve(host: str, port: int, world_size: int) -> Any:
    """Return rank 0's store, which others reach at `host`."""
    try:
        return _store("127.0.0.1", port, world_size, is_master=True)
    except dist.DistNetworkError as error:
        if "EADDRINUSE" not in str(error) and "in use" not in str(error):
            raise
        raise TemporaryError(
            f"port {port} of {host}, where ranks meet, is taken by another program; choose another: "
            f"--master_port of the launcher, or MASTER_PORT"
        ) from error


def _store(host: str, port: int, world_size: int, is_master: bool = False) -> Any:
    answer = timedelta(seconds=_ANSWER_S)
    return dist.TCPStore(host, port, world_size, is_master, answer, wait_for_workers=False, multi_tenant=True)


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:  # a name that is not known is one that a name server may not know yet
        return False
    return True


@contextlib.contextmanager
def _ends_by_sigusr1(place: str) -> Iterator[None]:
    """Let SIGUSR1, which asks training to save and stop, end the block, in which there is nothing to save."""

    def end(number: int, frame: FrameType | None) -> None:
        raise TemporaryError(f"asked to stop while ranks met at {place}: nothing was trained; the same command goes on")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGUSR1, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)
