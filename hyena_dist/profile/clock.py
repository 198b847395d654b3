"""How fast training goes and how much memory it takes."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


class Clock:
    """Rates since the last lap, without evaluation and saving."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.begin, self.tokens, self.steps, self.wait, self.pause = time.perf_counter(), 0, 0, 0.0, 0.0
        self.last = self.begin

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of the block as waiting for data."""
        begin = time.perf_counter()
        yield
        self.wait += time.perf_counter() - begin

    def add(self, tokens: int) -> None:
        """Count one step of `tokens` tokens."""
        self.tokens += tokens
        self.steps += 1
        self.last = time.perf_counter()

    def exclude_pause(self) -> None:
        """What happened since the last step does not count."""
        self.pause += time.perf_counter() - self.last
        self.last = time.perf_counter()

    def lap(self) -> tuple[float, float, float, float]:
        """(tokens per second, seconds per step, seconds waited for data per step, its share), then start again."""
        seconds = max(1e-9, time.perf_counter() - self.begin - self.pause)
        steps = max(1, self.steps)
        result = (self.tokens / seconds, seconds / steps, self.wait / steps, self.wait / seconds)
        self._reset()
        return result


def peak_bytes(device: torch.device) -> int:
    """Most memory of this process so far: allocated on a GPU, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    # Not ru_maxrss there, which begins with that of the process that started this one.
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
