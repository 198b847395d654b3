"""Which window is read when: a pure function of (seed, step, sample), whatever the number of ranks."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store import Interval
from hyena_dist.errors import UserError


class Window(NamedTuple):
    """Half-open range of one contig; `reverse` asks for the other strand."""

    contig: str
    start: int
    end: int
    reverse: bool = False

    def part(self, index: int, count: int) -> "Window":
        """The window of inputs `index` of `count` equal parts and their targets; a window is inputs and one more."""
        size = (self.end - self.start - 1) // count
        start = self.end - 1 - (index + 1) * size if self.reverse else self.start + index * size
        return self._replace(start=start, end=start + size + 1)


class WindowSampler:
    """Uniform over every start at which a window of `seq_length` inputs and its last target fit into a region."""

    def __init__(self, regions: Sequence[Interval], seq_length: int, seed: int, reverse_complement: bool) -> None:
        self.size = seq_length + 1
        self.seed, self.reverse_complement = seed, reverse_complement
        self.regions = [r for r in regions if r.end - r.start >= self.size]
        if not self.regions:
            longest = max((r.end - r.start for r in regions), default=0)
            raise UserError(
                f"seq_length {seq_length} needs regions of {self.size} bases, the longest for training has {longest}; "
                f"shorten the stage or build the store with larger regions"
            )
        self._ends = np.cumsum([r.end - r.start - self.size + 1 for r in self.regions])

    def window(self, step: int, sample: int) -> Window:
        """The window of one sample of the global batch of one step."""
        rng = np.random.default_rng((self.seed, step, sample))
        place = int(rng.integers(self._ends[-1]))
        index = int(np.searchsorted(self._ends, place, side="right"))
        offset = place - (int(self._ends[index - 1]) if index else 0)
        region = self.regions[index]
        start = region.start + offset
        reverse = self.reverse_complement and bool(rng.integers(2))
        return Window(region.contig, start, start + self.size, reverse)


def tile(regions: Sequence[Interval], seq_length: int, max_windows: int) -> list[Window]:
    """Windows side by side over the regions, each target once; evenly thinned to at most `max_windows`."""
    windows = [
        Window(r.contig, start, start + seq_length + 1)
        for r in regions
        for start in range(r.start, r.end - seq_length, seq_length)
    ]
    if len(windows) > max_windows:
        chosen: NDArray[np.int64] = np.linspace(0, len(windows) - 1, max_windows).astype(np.int64)
        windows = [windows[i] for i in chosen]
    return windows
