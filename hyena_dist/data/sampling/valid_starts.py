"""Where windows may start: inside the free ranges, which no validation or test region touches, at every length.

Positions are counted here along all contigs laid end to end, so that one array holds places of a whole genome.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store.manifest import Interval
from hyena_dist.data.store.store import GenomeStore
from hyena_dist.data.tokenizer import N

Sampling = Literal["interval", "published", "uniform"]
Positions = NDArray[np.int64]

_PIECE = 2**24
"""Bases looked through for N at a time."""


class Ranges(NamedTuple):
    """Half-open ranges; int64 [n] each."""

    start: Positions
    end: Positions

    @property
    def size(self) -> Positions:
        """Positions in each."""
        return self.end - self.start

    def before(self, positions: Positions) -> Positions:
        """How many positions of these ranges, sorted and disjoint, lie before each of `positions`."""
        total = np.concatenate(([0], np.cumsum(self.size)))
        row = np.searchsorted(self.start, positions, side="right")
        beyond = np.append(self.end, 0)[row - 1] - positions  # of the range that begins before the position
        return total[row] - np.where(row > 0, np.maximum(beyond, 0), 0)

    def inside(self, others: "Ranges") -> Positions:
        """How many positions of these ranges, sorted and disjoint, each of the other ranges holds."""
        return self.before(others.end) - self.before(others.start)

    def merged(self) -> "Ranges":
        """The same positions as sorted ranges that neither touch nor overlap."""
        order = np.argsort(self.start, kind="stable")
        start, end = self.start[order], np.maximum.accumulate(self.end[order])
        first = np.append(True, start[1:] > end[:-1])[: start.size]
        return Ranges(start[first], end[np.append(first[1:], True)[: start.size]])


class Genome:
    """A store's contigs laid end to end.

    Attributes:
        number: name of a contig -> its number.
        offset: int64 [contigs + 1], where each contig begins.
        free: the free ranges.
    """

    def __init__(self, store: GenomeStore) -> None:
        self.number = {name: i for i, name in enumerate(store.contigs)}
        self.offset: Positions = np.cumsum([0, *store.contigs.values()], dtype=np.int64)
        self.free = self.ranges(region for name in store.contigs for region in store.free.get(name, ()))

    def ranges(self, intervals: Iterable[Interval]) -> Ranges:
        """Intervals, in the order given."""
        rows = np.array([(self.number[c], start, end) for c, start, end in intervals], dtype=np.int64).reshape(-1, 3)
        offset = self.offset[rows[:, 0]]
        return Ranges(offset + rows[:, 1], offset + rows[:, 2])

    def contig(self, positions: Positions) -> Positions:
        """Number of the contig that holds each position."""
        return np.searchsorted(self.offset, positions, side="right") - 1


class Starts(NamedTuple):
    """Starts of windows of one size, a row for each unit of sampling; int64 [n] each."""

    low: Positions
    high: Positions
    """The last start, included."""

    @property
    def windows(self) -> Positions:
        """How many in each row."""
        return self.high - self.low + 1

    def reach(self, size: int) -> Ranges:
        """What the windows of each row cover together."""
        return Ranges(self.low, self.high + size)


def interval_starts(free: Ranges, intervals: Ranges, size: int, sampling: Sampling) -> tuple[Starts, NDArray[np.bool_]]:
    """Starts for each interval whose free range is long enough.

    interval: every start at which the window is part of the interval or, if it is longer, holds it, and stays in the
    free range. published: the interval's first bases; for a longer window, it and what extends it equally on both
    sides, moved into the free range.

    Args:
        free: the free ranges.
        intervals: each inside a free range.
        size: bases of a window.
        sampling: interval or published.

    Returns:
        The starts, and bool [intervals], which intervals they are of.
    """
    around = np.searchsorted(free.start, intervals.start, side="right") - 1
    first, last = free.start[around], free.end[around] - size
    fits = first <= last
    first, last, spare = first[fits], last[fits], (intervals.size - size)[fits]
    start, less, more = intervals.start[fits], np.minimum(spare, 0), np.maximum(spare, 0)
    if sampling == "published":
        at = np.clip(start + less // 2, first, last)
        return Starts(at, at), fits
    return Starts(np.maximum(start + less, first), np.minimum(start + more, last)), fits


def uniform_starts(free: Ranges, size: int) -> Starts:
    """Every start in the free ranges."""
    fits = free.size >= size
    return Starts(free.start[fits], free.end[fits] - size)


def with_little_n(starts: Starts, size: int, n: Ranges, max_fraction: float) -> Starts:
    """Those of some starts, sorted and disjoint, at which at most this share of the window is N."""
    # Between these places, the number of N in the window changes by the same 0, 1 or -1 from start to start.
    low = np.unique(np.concatenate((starts.low, *n, n.start - size, n.end - size)))
    row = np.searchsorted(starts.low, low, side="right") - 1
    inside = (row >= 0) & (low <= starts.high[row])
    high = np.minimum(np.append(low[1:] - 1, starts.high[-1]), starts.high[row])[inside]
    low = low[inside]
    most = int(max_fraction * size)
    at_low, at_high = n.inside(Ranges(low, low + size)), n.inside(Ranges(high, high + size))
    last = np.where(at_high > most, low + most - at_low, high)
    first = np.where(at_low > most, high - most + at_high, low)
    some = np.minimum(at_low, at_high) <= most
    return Starts(first[some], last[some])


def n_ranges(store: GenomeStore, genome: Genome) -> Ranges:
    """Where the free ranges hold N; reads those of every contig that has any."""
    edges = [np.empty((0, 2), dtype=np.int64)]
    for contig in store.manifest["contigs"]:
        name, offset = contig["name"], genome.offset[genome.number[contig["name"]]]
        for region in store.free.get(name, ()) if contig["composition"]["N"] else ():
            for start in range(region.start, region.end, _PIECE):
                is_n = store.read(name, start, min(region.end, start + _PIECE)) == N
                changes = np.flatnonzero(np.diff(is_n, prepend=False, append=False))
                edges.append(changes.reshape(-1, 2) + offset + start)
    return Ranges(*np.concatenate(edges).T)
