"""Batches of a run, in order, read ahead by a thread or by processes."""

import queue
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from hyena_dist.data.batches import StepBatch
from hyena_dist.errors import TemporaryError, UserError
from hyena_dist.system.processes import die_with_parent

Read = Callable[[int], StepBatch]

_DYING_S = 1.0
"""How long a worker can take to die."""


class Loader:
    """Iterates over the batches of some steps; a context manager around the loop that trains on them.

    Args:
        read: the batch of a step; every worker has a copy.
        steps: in order.
        workers: processes that read; 0 for a thread of this process.
        prefetch: steps that the thread, or each process, reads ahead.
        timeout_s: how long to wait for a batch.

    Raises:
        UserError: what `read` raised, in the same words.
        TemporaryError: a batch did not come in time; and, from anywhere in the `with` block, since torch learns it
            from a signal, that a worker has died.
    """

    def __init__(self, read: Read, steps: range, *, workers: int, prefetch: int, timeout_s: float = 600.0) -> None:
        self._batches = (
            _by_processes(read, steps, workers, prefetch, timeout_s)
            if workers
            else _by_a_thread(read, steps, prefetch, timeout_s)
        )

    def __enter__(self) -> "Loader":
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

    def __iter__(self) -> Iterator[StepBatch]:
        return self._batches


def _by_a_thread(read: Read, steps: range, prefetch: int, timeout_s: float) -> Generator[StepBatch, None, None]:
    room, filled = threading.Semaphore(prefetch), queue.SimpleQueue[StepBatch | BaseException]()
    closed = threading.Event()

    def work() -> None:
        for step in steps:
            room.acquire()
            if closed.is_set():
                return
            try:
                filled.put(read(step))
            except BaseException as error:
                filled.put(error)
                return

    # A daemon: a read that never ends does not keep the process from ending.
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
    return TemporaryError(
        f"the data of step {step + 1} did not come within data.timeout_s = {timeout_s:g} s: storage is stuck or slow; "
        f"look at it, or raise data.timeout_s or data.prefetch, and resume"
    )


def _by_processes(
    read: Read, steps: range, workers: int, prefetch: int, timeout_s: float
) -> Generator[StepBatch, None, None]:
    batches = DataLoader(
        _Steps(read),
        sampler=steps,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=prefetch,
        timeout=timeout_s,
        collate_fn=_unchanged,
        worker_init_fn=_die_with_parent,
        generator=torch.Generator(),  # its seed for workers, which is not used, else moves torch's global generator
    )
    iterator: Any = iter(batches)
    ahead = iter(steps)
    try:
        for batch in iterator:
            next(ahead)
            if isinstance(batch, UserError):
                raise batch
            yield batch
    except RuntimeError as error:
        if "DataLoader timed out" in str(error):
            raise _stalled(next(ahead), timeout_s) from error
        raise
    except (EOFError, OSError) as error:  # what a dying worker leaves broken can show before its death does
        time.sleep(_DYING_S)
        if dead := [str(worker.pid) for worker in iterator._workers if not worker.is_alive()]:
            raise RuntimeError(f"DataLoader worker (pid(s) {', '.join(dead)}) exited unexpectedly") from error
        raise
    finally:
        iterator._shutdown_workers()  # now: an error's traceback would keep workers, and torch's watch over them, alive


class _Steps(Dataset[StepBatch | UserError]):
    """Torch raises a worker's error again with a traceback for a text, so that a UserError comes as a value."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def __getitem__(self, step: int) -> StepBatch | UserError:
        try:
            return self._read(step)
        except UserError as error:
            return error


def _unchanged(batch: Any) -> Any:
    return batch


def _die_with_parent(worker: int) -> None:
    die_with_parent()
