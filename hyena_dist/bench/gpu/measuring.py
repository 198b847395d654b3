"""Milliseconds, memory and launches of something that a device is asked to do.

Work on a GPU is timed by its own events, and only after it has been busy for a while: its clock rises under load.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from hyena_dist.bench.gpu.plan import Sizes
from hyena_dist.bench.process import now
from hyena_dist.profile.memory import peak_bytes

WARM_UP_S = 0.05
REPEATS_S = 0.2
"""How long repeats take in all, of which the median is taken: 3 to 100 of them, but 1 of what takes over 2 s."""


def milliseconds(action: Callable[[], object], sizes: Sizes) -> float:
    """Return the median of the milliseconds that the device takes for an action."""
    device = torch.device(sizes.device)
    begin = now(device)
    for calls in itertools.count():
        start = now(device)
        action()
        end = now(device)
        # The first call compiles kernels and asks for memory, so that one more tells how long a call takes.
        if sizes.dry or end - begin > max(WARM_UP_S, 4.0) or (calls and end - begin > WARM_UP_S):
            break
    once = end - start
    repeats = 1 if sizes.dry or once > 2 else min(100, max(3, int(REPEATS_S / once)))
    if device.type == "cpu":
        return 1e3 * statistics.median(_seconds(action) for _ in range(repeats))
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
    for before, after in events:
        before.record()
        action()
        after.record()
    torch.cuda.synchronize()
    return statistics.median(before.elapsed_time(after) for before, after in events)


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def peak_gb(action: Callable[[], object], device: torch.device) -> float:
    """Return the most memory, in 10^9 bytes, that an action takes over what is there before it.

    On a CPU this is what the process's peak grows by.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before = peak_bytes(device)
    action()
    now(device)
    return (peak_bytes(device) - before) / 1e9


def launches(action: Callable[[], object], device: torch.device) -> int:
    """Return how many kernels an action runs on a GPU, by torch's profiler; on a CPU, how many of torch's operators."""
    on_gpu = device.type == "cuda"
    activity = torch.profiler.ProfilerActivity.CUDA if on_gpu else torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity]) as profiler:
        action()
        now(device)
    events = profiler.events() or []
    if on_gpu:
        kernels = [e for e in events if e.device_type == torch.autograd.DeviceType.CUDA]
        return sum(not e.name.startswith("Mem") for e in kernels)
    return sum(not e.cpu_children for e in events)


@contextmanager
def setting(where: object, **values: object) -> Iterator[None]:
    """Let attributes of a module have these values within the block."""
    before = {name: getattr(where, name) for name in values}
    try:
        for name, value in values.items():
            setattr(where, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(where, name, value)
