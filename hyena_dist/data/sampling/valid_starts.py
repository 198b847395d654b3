"""The places where training windows may start, so that none of any length touches a validation or test region.

Windows lie inside the free ranges, which are what the validation and test regions leave of the contigs. Positions are
counted here along all contigs laid end to end (GenomeAxis), so that one array holds places of the whole genome.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.contigs import Positions
from hyena_dist.data.store.manifest import Interval
from hyena_dist.data.store.ranges import Ranges, Regions
from hyena_dist.data.tokenizer import N

Sampling = Literal["interval", "published", "uniform"]
"""How windows are chosen; `interval_starts` and `uniform_starts` say what each way means."""

_PIECE = 2**24
"""How many bases are looked through for N at a time."""


class GenomeAxis:
    """One axis of positions for a whole genome: the contigs of a store, laid end to end in the order of the store.

    Attributes:
        offset: position at which each contig begins and, last, the length of the axis; int64 [contigs + 1].
        free: the store's free ranges on this axis, which training may read, sorted and disjoint.
    """

    def __init__(self, store: GenomeStore) -> None:
        self._contigs = store.contigs
        self.offset = store.contigs.offset
        self.free = store.free.ranges

    def ranges(self, intervals: Iterable[Interval]) -> Ranges:
        """Return intervals of contigs as ranges on this axis, in the same order."""
        return Regions.of(self._contigs, intervals).ranges

    def contig(self, positions: Positions) -> Positions:
        """Return the number of the contig that holds each position, int64 of the same shape."""
        return self._contigs.at(positions)


class Starts(NamedTuple):
    """The places where windows of one size may start: rows of successive starts, as two arrays int64 [rows]."""

    low: Positions
    """First start of each row."""
    high: Positions
    """Last start of each row, included."""

    @property
    def windows(self) -> Positions:
        """Number of windows in each row, int64 [rows]."""
        return self.high - self.low + 1

    def reach(self, size: int) -> Ranges:
        """Return the range that the windows of each row, of `size` bases, cover together."""
        return Ranges(self.low, self.high + size)


def interval_starts(free: Ranges, intervals: Ranges, size: int, sampling: Sampling) -> tuple[Starts, NDArray[np.bool_]]:
    """Find where the windows of each training interval may start.

    With sampling "interval", a window may start wherever it stays in the free range and is part of the interval or, if
    it is longer than the interval, holds it. A window of about the interval's size, which could hardly move, may also
    start where the middles of the two are at most a quarter of the interval apart. With "published", as in the HyenaDNA
    paper's code, an interval has one window: its first bases or, if the window is longer, the interval and equally much
    on both sides of it; unlike there, the window is moved into the free range.

    Args:
        free: the free ranges, sorted and disjoint.
        intervals: training intervals, each inside a free range.
        size: bases in a window.
        sampling: "interval" or "published".

    Returns:
        Starts, a row for each interval whose free range is long enough for a window; and which intervals these are,
        bool [intervals].
    """
    around = np.searchsorted(free.start, intervals.start, side="right") - 1
    first = free.start[around]
    last = free.end[around] - size
    fits = first <= last
    first = first[fits]
    last = last[fits]
    start = intervals.start[fits]
    spare = (intervals.size - size)[fits]  # bases of the interval that a window leaves over; negative if it is longer
    if sampling == "published":
        at = np.clip(start + np.minimum(spare, 0) // 2, first, last)
        return Starts(at, at), fits
    quarter = intervals.size[fits] // 4
    low = start + np.minimum(np.minimum(spare, 0), spare // 2 - quarter)
    high = start + np.maximum(np.maximum(spare, 0), spare // 2 + quarter)
    return Starts(np.clip(low, first, last), np.clip(high, first, last)), fits


def uniform_starts(free: Ranges, size: int) -> Starts:
    """Return every start of a window of `size` bases in the free ranges, a row for each range that is long enough."""
    fits = free.size >= size
    return Starts(free.start[fits], free.end[fits] - size)


def with_little_n(starts: Starts, size: int, n: Ranges, max_fraction: float) -> Starts:
    """Keep the starts at which at most a share of the window is N.

    Args:
        starts: rows of starts, sorted and disjoint.
        size: bases in a window.
        n: where N is, sorted and disjoint.
        max_fraction: the share of a window, from 0 to 1, that may be N.
    """
    # Rows are cut where N begins or ends at a window's edge: between these places, the number of N in the window
    # changes by the same 0, 1 or -1 from start to start.
    low = np.unique(np.concatenate((starts.low, *n, n.start - size, n.end - size)))
    row = np.searchsorted(starts.low, low, side="right") - 1
    inside = (row >= 0) & (low <= starts.high[row])
    high = np.minimum(np.append(low[1:] - 1, starts.high[-1]), starts.high[row])[inside]
    low = low[inside]
    most = int(max_fraction * size)
    at_low = n.inside(Ranges(low, low + size))
    at_high = n.inside(Ranges(high, high + size))
    last = np.where(at_high > most, low + most - at_low, high)
    first = np.where(at_low > most, high - most + at_high, low)
    some = np.minimum(at_low, at_high) <= most
    return Starts(first[some], last[some])


def common_starts(starts: Starts, allowed: Starts) -> tuple[Starts, Positions]:
    """Cut rows of starts down to those that are allowed, which can leave several rows of one.

    Args:
        starts: rows of starts, in any order; they may overlap.
        allowed: the starts that stay, rows sorted and disjoint.

    Returns:
        Starts, and the number of the row that each of them comes from, int64, ascending.
    """
    first = np.searchsorted(allowed.high, starts.low)
    pieces = np.maximum(np.searchsorted(allowed.low, starts.high, side="right") - first, 0)
    row = np.repeat(np.arange(pieces.size), pieces)
    piece = first[row] + np.arange(row.size) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    return Starts(
        np.maximum(starts.low[row], allowed.low[piece]), np.minimum(starts.high[row], allowed.high[piece])
    ), row


def n_ranges(store: GenomeStore, axis: GenomeAxis) -> Ranges:
    """Find where the free ranges hold N, by reading the free ranges of every contig that has any N."""
    has_n = store.contigs.composition[:, 4] > 0
    edges = [np.empty((0, 2), dtype=np.int64)]
    for name, start, end in Regions(store.contigs, Ranges(*store.free.on(has_n).ranges).cut(_PIECE)):
        is_n = store.read(name, start, end) == N
        changes = np.flatnonzero(np.diff(is_n, prepend=False, append=False))
        edges.append(changes.reshape(-1, 2) + axis.offset[store.contigs.number[name]] + start)
    return Ranges(*np.concatenate(edges).T)
