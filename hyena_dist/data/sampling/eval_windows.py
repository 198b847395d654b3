"""The windows that an evaluation scores: fixed places side by side over the regions of a split."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store.manifest import Interval
from hyena_dist.data.store.ranges import Regions


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
    return [window for window, _ in pieces(regions, seq_length, max_windows, whole=True)]


def pieces(regions: Sequence[Interval], length: int, most: int, *, whole: bool) -> list[tuple[Interval, int]]:
    """Cut regions into pieces of `length` targets side by side, each with one base before them.

    Args:
        regions: half-open ranges.
        length: targets in a piece.
        most: how many pieces to return at the most; of more, evenly spaced ones are chosen.
        whole: whether a region's last targets, too few for a piece, are left out or make a shorter one.

    Returns:
        Each piece with the start of its region.
    """
    size = _sizes(regions)
    counts = np.maximum((size - 1) // length if whole else -(-(size - 1) // length), 0)
    ends = np.cumsum(counts)
    total = int(ends[-1]) if ends.size else 0
    chosen = np.arange(total) if total <= most else np.linspace(0, total - 1, most).astype(np.int64)
    row = np.searchsorted(ends, chosen, side="right")
    found = []
    for region, number in zip(
        (regions[i] for i in row.tolist()), (chosen - (ends - counts)[row]).tolist(), strict=True
    ):
        start = region.start + number * length
        found.append((Interval(region.contig, start, min(start + length + 1, region.end)), region.start))
    return found


def _sizes(regions: Sequence[Interval]) -> NDArray[np.int64]:
    """Return the number of bases in each region, int64 [regions]."""
    if isinstance(regions, Regions):
        return regions.ranges.size
    return np.array([end - start for _, start, end in regions], np.int64)
