"""The windows that an evaluation scores: fixed places side by side over the regions of a split."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store.manifest import Interval


def tile(regions: Sequence[Interval], seq_length: int, max_windows: int) -> list[Interval]:
    """Cover regions with windows side by side, of `seq_length` inputs and one more target each.

    Each base is a target at most once. Neighbours share one base: the last target of a window is the first input of the
    next. What is left at a region's end and is too short for a window is left out.

    Args:
        regions: half-open ranges, such as those of the validation split.
        seq_length: inputs in a window, in bases.
        max_windows: how many windows to return at the most; of more, evenly spaced ones are chosen.

    Returns:
        Windows of `seq_length` + 1 bases, in the order of the regions.
    """
    windows = [
        Interval(region.contig, start, start + seq_length + 1)
        for region in regions
        for start in range(region.start, region.end - seq_length, seq_length)
    ]
    if len(windows) > max_windows:
        chosen: NDArray[np.int64] = np.linspace(0, len(windows) - 1, max_windows).astype(np.int64)
        windows = [windows[i] for i in chosen]
    return windows
