"""Batches are read ahead in order, by a thread or by processes, and a failure of one of them is said."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

from hyena_dist.config.parallel import ParallelConfig
from hyena_dist.config.schedule import StagePlan
from hyena_dist.data.batches import StepBatch
from hyena_dist.data.loader import Loader
from hyena_dist.errors import TemporaryError, UserError

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
STAGE = StagePlan(0, 2, 1, 1, 1, 1, 0, 100, 0, ParallelConfig())
WORKERS = [0, 1, 3]


def read(step: int) -> StepBatch:
    """A batch that tells its step and who read it."""
    return StepBatch(STAGE, step, torch.full((1, 1, 3), step, dtype=torch.uint8), None, float(os.getpid()), (0,))


def read_slowly(step: int) -> StepBatch:
    time.sleep(0.05)
    return read(step)


def fail(step: int) -> StepBatch:
    if step == 5:
        raise UserError("contig chr1:5-6 is damaged; rebuild it")
    return read(step)


def break_down(step: int) -> StepBatch:
    raise ZeroDivisionError(f"at step {step}")


def die(step: int) -> StepBatch:
    if step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(step)


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def leaves_as_before(before: tuple[set[int], int]) -> None:
    """Check that, after some seconds at the latest, the processes and threads are those of before."""
    deadline = time.monotonic() + 10
    while (children(), threading.active_count()) != before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("prefetch", [1, 5])
def test_all_steps_in_order(workers: int, prefetch: int) -> None:
    before = children(), threading.active_count()
    with Loader(read, range(3, 20), workers=workers, prefetch=prefetch) as loader:
        batches = list(loader)
    assert [b.step for b in batches] == list(range(3, 20))
    assert all(b.tokens.tolist() == [[[b.step] * 3]] for b in batches)
    assert all(b.stage == STAGE and b.first_samples == (0,) for b in batches)
    readers = {int(b.total_weight) for b in batches}
    assert len(readers) == max(1, workers)
    assert (os.getpid() in readers) == (workers == 0)
    leaves_as_before(before)


@pytest.mark.parametrize("workers", WORKERS)
def test_no_steps(workers: int) -> None:
    with Loader(read, range(4, 4), workers=workers, prefetch=2) as loader:
        assert list(loader) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_leaving_early_leaves_nothing_behind(workers: int) -> None:
    before = children(), threading.active_count()
    with Loader(read_slowly, range(1000), workers=workers, prefetch=3) as loader:
        assert next(iter(loader)).step == 0
    leaves_as_before(before)


@pytest.mark.parametrize("workers", [0, 1])
def test_waits_are_those_of_the_reader_alone(workers: int) -> None:
    """A loop slower than the reading waits for the first batch only, one that is faster for every batch."""
    with Loader(read_slowly, range(12), workers=workers, prefetch=2) as loader:
        waits = []
        begin = time.perf_counter()
        for batch in loader:
            waits.append(time.perf_counter() - begin)
            time.sleep(0.3 if batch.step < 6 else 0)
            begin = time.perf_counter()
    assert waits[0] > 0.04
    assert sum(waits[1:6]) < 0.1
    assert sum(waits[8:]) > 0.1


def consume(read: Callable[[int], StepBatch], workers: int, act: Callable[[StepBatch], object]) -> None:
    with Loader(read, range(50), workers=workers, prefetch=2) as loader:
        for batch in loader:
            act(batch)


@pytest.mark.parametrize("workers", WORKERS)
def test_an_error_of_the_store_comes_in_its_own_words(workers: int) -> None:
    seen: list[int] = []
    with pytest.raises(UserError, match=r"^contig chr1:5-6 is damaged; rebuild it$"):
        consume(fail, workers, lambda batch: seen.append(batch.step))
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_ours_keeps_its_type(workers: int) -> None:
    with pytest.raises(ZeroDivisionError, match="at step 0"):
        consume(break_down, workers, print)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_killed_worker_is_named(workers: int) -> None:
    with pytest.raises(TemporaryError, match=r"data worker with process id \d+ .*data\.workers or data\.prefetch"):
        consume(die, workers, lambda _: time.sleep(0.01))


def test_a_worker_killed_while_the_loop_computes() -> None:
    """Torch raises from a signal, wherever the main thread is."""
    started = children()
    killed: list[int] = []

    def kill_worker(_: StepBatch) -> None:
        killed.extend(children() - started)
        os.kill(killed[0], signal.SIGKILL)
        time.sleep(30)

    begin = time.monotonic()
    with pytest.raises(TemporaryError, match=r"process id \d+ is killed by signal: Killed") as caught:
        consume(read, 1, kill_worker)
    assert f"process id {killed[0]} " in str(caught.value)
    assert time.monotonic() - begin < 20


def test_other_errors_of_the_loop_pass() -> None:
    def complain(_: StepBatch) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match=r"^mine$"):
        consume(read, 1, complain)


def test_workers_do_not_move_the_random_numbers_of_training() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with Loader(read, range(3), workers=1, prefetch=1) as loader:
        list(loader)
    assert torch.equal(torch.rand(3), expected)


def test_workers_do_not_outlive_a_killed_process(tmp_path: Path) -> None:
    """A rank is killed, so that nobody is left to stop its workers, not even one that has only begun."""
    script = (
        "import os, signal, time, psutil\n"
        "from hyena_dist.data import loader\n"
        "from hyena_dist.data.loader import Loader\n"
        "from tests.unit.data.test_loader import read\n"
        "init = loader._die_with_parent\n"
        "loader._die_with_parent = lambda worker: (time.sleep(2 * worker), init(worker))\n"
        "with Loader(read, range(100), workers=2, prefetch=2) as batches:\n"
        "    next(iter(batches))\n"
        "    print(*(child.pid for child in psutil.Process().children()), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    # Not through a pipe, which living workers would hold open.
    with open(tmp_path / "out", "w") as out:
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], stdout=out, timeout=60)
    assert done.returncode == -signal.SIGKILL
    workers = [int(pid) for pid in (tmp_path / "out").read_text().split()]
    assert len(workers) >= 2
    end = time.monotonic() + 10
    while any(psutil.pid_exists(pid) and _runs(pid) for pid in workers):
        assert time.monotonic() < end, workers
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def stall(step: int) -> StepBatch:
    if step == 4:
        time.sleep(60)
    return read(step)


@pytest.mark.parametrize("workers", WORKERS)
def test_storage_that_does_not_answer(workers: int) -> None:
    """Batches that were read before are used; the error names the step that stalled, and another attempt may follow."""
    with Loader(stall, range(2, 9), workers=workers, prefetch=2, timeout_s=1) as loader:
        batches = iter(loader)
        assert [next(batches).step for _ in range(2)] == [2, 3]
        with pytest.raises(TemporaryError, match=r"the data of step 5 did not come within data\.timeout_s = 1 s"):
            next(batches)
    with Loader(stall, range(2, 4), workers=workers, prefetch=2, timeout_s=1) as loader:
        assert [batch.step for batch in loader] == [2, 3]


def test_a_worker_that_stops_after_it_has_read() -> None:
    """A worker announces batches in a queue, and hands their memory over by a socket: it no longer answers there."""
    script = (
        "import os, signal, sys, time, psutil\n"
        "from hyena_dist.data.loader import Loader\n"
        "from hyena_dist.errors import TemporaryError\n"
        "from tests.unit.data.test_loader import read\n"
        "with Loader(read, range(9), workers=1, prefetch=4, timeout_s=1) as batches:\n"
        "    next(iter(batches))\n"
        "    time.sleep(1)\n"
        "    [worker] = [p.pid for p in psutil.Process().children() if p.cmdline() == psutil.Process().cmdline()]\n"
        "    os.kill(worker, signal.SIGSTOP)\n"
        "    try: list(batches)\n"
        "    except TemporaryError as error: print(error)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "did not come within data.timeout_s = 1 s" in done.stdout, done.stderr
    assert done.returncode == 0
