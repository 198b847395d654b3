"""Windows at known places: what an evaluation scores."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store.manifest import Interval


class Window(NamedTuple):
    """Half-open range of one contig."""

    contig: str
    start: int
    end: int


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
