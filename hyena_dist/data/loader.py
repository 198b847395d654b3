"""The batches of a run in the order of its steps, read ahead of training by a thread or by worker processes."""

import queue
import re
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from hyena_dist.errors import TemporaryError, UserError
from hyena_dist.system.processes import die_with_parent

T = TypeVar("T")
"""The type of a batch, such as StepBatch."""
Read = Callable[[int], T]
"""A function that returns the batch of the step with a given number, such as a StepReader."""

_DYING_S = 1.0
"""How long to wait until a dying worker process is seen to be dead, in seconds."""


class Loader(Generic[T]):
    """Iterates over the batches of a range of steps; a context manager around the loop that trains on them.

    Args:
        read: reads the batch of a step; each worker process has a copy of it.
        steps: numbers of the steps, in the order of training.
        workers: how many processes read; with 0, a thread of this process reads.
        prefetch: how many steps the thread, or each process, reads ahead.
        timeout_s: how long to wait for a batch, in seconds.

    Raises:
        UserError: `read` raised it; the words are the same.
        TemporaryError: A batch did not come in time, or a worker process died. Torch learns of a death from a signal,
            so that error may come from anywhere in the `with` block.
    """

    def __init__(self, read: Read[T], steps: range, *, workers: int, prefetch: int, timeout_s: float = 600.0) -> None:
        self._batches = (
            _by_processes(read, steps, workers, prefetch, timeout_s)
            if workers
            else _by_a_thread(read, steps, prefetch, timeout_s)
        )

    def __enter__(self) -> "Loader[T]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._batches.close()
        died = re.search(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) ([^.]*)", str(error))
        if isinstance(error, RuntimeError) and died:
            raise TemporaryError(
                f"the data worker with process id {died[1]} {died[2].strip()}, perhaps because memory ran out; lower "
                f"data.workers or data.prefetch and resume, which changes no sample"
            ) from error

    def __iter__(self) -> Iterator[T]:
        return self._batches


def _by_a_thread(read: Read[T], steps: range, prefetch: int, timeout_s: float) -> Generator[T, None, None]:
    """Yield the batches, read by a thread that is up to `prefetch` steps ahead."""
    room = threading.Semaphore(prefetch)
    filled = queue.SimpleQueue[T | BaseException]()
    closed = threading.Event()

    def work() -> None:
        """Read the steps in order, in the thread, each as soon as there is room for its batch."""
        for step in steps:
            room.acquire()
            if closed.is_set():
                return
            try:
                filled.put(read(step))
            except BaseException as error:
                filled.put(error)
                return

    # The thread is a daemon, so that a read that never ends does not keep the process from ending.
    thread = threading.Thread(target=work, name="data", daemon=True)
    thread.start()
    try:
        for step in steps:
            try:
                batch = filled.get(timeout=timeout_s)
            except queue.Empty:
                raise _stalled(step, timeout_s) from None
            if isinstance(batch, BaseException):
                raise batch
            room.release()
            yield batch
    finally:
        closed.set()
        room.release()
        thread.join(timeout=1.0)


def _stalled(step: int, timeout_s: float) -> TemporaryError:
    """Return the error of a step whose batch did not come in time."""
    return TemporaryError(
        f"the data of step {step + 1} did not come within data.timeout_s = {timeout_s:g} s: storage is stuck or slow; "
        f"look at it, or raise data.timeout_s or data.prefetch, and resume"
    )


def _by_processes(
    read: Read[T], steps: range, workers: int, prefetch: int, timeout_s: float
) -> Generator[T, None, None]:
    """Yield the batches, read by worker processes that are up to `prefetch` steps ahead each.

    A thread takes them from torch: its own limit covers the queue, and not the socket by which a worker hands over the
    memory that a message in the queue names, where a worker that has stopped keeps whoever asks for ever.
    """
    batches = DataLoader(
        _Steps(read),
        sampler=steps,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=prefetch,
        collate_fn=_unchanged,
        worker_init_fn=_die_with_parent,
        generator=torch.Generator(),  # its seed for workers, which is not used, else moves torch's global generator
    )
    iterator: Any = iter(batches)

    def take(step: int) -> T:
        batch: T | UserError = next(iterator)
        if isinstance(batch, UserError):
            raise batch
        return batch

    try:
        yield from _by_a_thread(take, steps, 1, timeout_s)
    except (EOFError, OSError) as error:  # a connection that a dying worker broke can show before its death does
        time.sleep(_DYING_S)
        dead = [str(worker.pid) for worker in iterator._workers if not worker.is_alive()]
        if dead:
            raise RuntimeError(f"DataLoader worker (pid(s) {', '.join(dead)}) exited unexpectedly") from error
        raise
    finally:
        # Not left to the garbage collector: an error's traceback would keep workers, and torch's watch over them,
        # alive.
        iterator._shutdown_workers()
        for worker in iterator._workers:
            worker.kill()  # one that is stopped, which would keep this process from ending, takes no other signal


class _Steps(Dataset[Any]):
    """Reads batches for torch's DataLoader, and returns a UserError as a value.

    An error that a worker raises, torch raises again with a traceback in place of the words, which would hide them.
    """

    def __init__(self, read: Read[Any]) -> None:
        self._read = read

    def __getitem__(self, step: int) -> Any:
        try:
            return self._read(step)
        except UserError as error:
            return error


def _unchanged(batch: Any) -> Any:
    """Return a batch as it is, where torch's DataLoader would convert it."""
    return batch


def _die_with_parent(worker: int) -> None:
    """End this worker process when its parent ends, for torch, which passes the worker's number, and not before.

    A terminal sends Ctrl-C and its own end to all processes: the parent then saves, for which it may need data.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    die_with_parent()
