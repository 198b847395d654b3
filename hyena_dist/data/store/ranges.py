"""Ranges of positions as arrays, and as the sequence of Interval that they are on the contigs of a store."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store.contigs import Contigs, Positions
from hyena_dist.data.store.manifest import Interval


class Ranges(NamedTuple):
    """Half-open ranges of positions, as two arrays int64 [n]."""

    start: Positions
    """First position of each range."""
    end: Positions
    """Position after the last of each range."""

    @classmethod
    def none(cls) -> "Ranges":
        """Return no range."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64))

    @classmethod
    def joined(cls, parts: Iterable["Ranges"]) -> "Ranges":
        """Return the ranges of all parts, one part after the other."""
        starts, ends = zip(cls.none(), *parts, strict=True)
        return cls(np.concatenate(starts), np.concatenate(ends))

    @property
    def size(self) -> Positions:
        """Number of positions in each range, int64 [n]."""
        return self.end - self.start

    def before(self, positions: Positions) -> Positions:
        """Count how many positions of these ranges lie before each of `positions`.

        The ranges must be sorted and disjoint.

        Args:
            positions: int64 [m].

        Returns:
            Counts, int64 [m].
        """
        total = np.concatenate(([0], np.cumsum(self.size)))
        row = np.searchsorted(self.start, positions, side="right")
        # How far the range that begins before the position reaches beyond it.
        beyond = np.append(self.end, 0)[row - 1] - positions
        return total[row] - np.where(row > 0, np.maximum(beyond, 0), 0)

    def inside(self, others: "Ranges") -> Positions:
        """Count how many positions of these ranges, sorted and disjoint, each of the other ranges holds."""
        return self.before(others.end) - self.before(others.start)

    def sorted(self) -> "Ranges":
        """Return the same ranges in the order of their starts."""
        order = np.argsort(self.start, kind="stable")
        return Ranges(self.start[order], self.end[order])

    def merged(self) -> "Ranges":
        """Return the same positions as sorted ranges that neither touch nor overlap."""
        start, end = self.sorted()
        end = np.maximum.accumulate(end)
        begins = np.append(True, start[1:] > end[:-1])[: start.size]  # whether a row begins a merged range
        ends = np.append(begins[1:], True)[: start.size]
        return Ranges(start[begins], end[ends])

    def cut(self, length: int) -> "Ranges":
        """Cut each range into pieces of `length` positions; the last of each may be shorter."""
        pieces = -(-self.size // length)
        row = np.repeat(np.arange(pieces.size), pieces)
        number = np.arange(row.size) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        start = self.start[row] + number * length
        return Ranges(start, np.minimum(start + length, self.end[row]))


class Regions(Sequence[Interval]):
    """Ranges on the contigs of a store: arrays for what counts, and a sequence of Interval for what names.

    Attributes:
        contigs: the contigs that the ranges lie on.
        ranges: the ranges on the axis of all contigs end to end; none is empty, and each lies on one contig.

    Args:
        contigs: the contigs.
        ranges: the ranges.
    """

    def __init__(self, contigs: Contigs, ranges: Ranges) -> None:
        self.contigs = contigs
        self.ranges = ranges

    @classmethod
    def of(cls, contigs: Contigs, intervals: Iterable[Sequence[object]]) -> "Regions":
        """Return intervals, rows of contig, start and end, in the same order.

        Raises:
            KeyError: An interval's contig is not one of them.
        """
        if isinstance(intervals, Regions):
            return intervals
        numbered = [(contigs.number[contig], start, end) for contig, start, end in intervals]  # type: ignore[index]
        rows = np.array(numbered, dtype=np.int64).reshape(-1, 3)
        offset = contigs.offset[rows[:, 0]]
        return cls(contigs, Ranges(offset + rows[:, 1], offset + rows[:, 2]))

    @property
    def contig(self) -> NDArray[np.int64]:
        """Number of each range's contig, int64 [n]."""
        return self.contigs.at(self.ranges.start)

    def merged(self) -> "Regions":
        """Return the same positions as sorted ranges; those of two contigs stay apart."""
        contig = self.contig  # as many positions lie between two contigs then
        merged = Ranges(self.ranges.start + contig, self.ranges.end + contig).merged()
        gap = np.searchsorted(self.contigs.offset + np.arange(len(self.contigs) + 1), merged.start, side="right") - 1
        return Regions(self.contigs, Ranges(merged.start - gap, merged.end - gap))

    def on(self, chosen: NDArray[np.bool_]) -> "Regions":
        """Return the ranges that are on chosen contigs, bool [contigs]."""
        keep = chosen[self.contig]
        return Regions(self.contigs, Ranges(self.ranges.start[keep], self.ranges.end[keep]))

    def __len__(self) -> int:
        return self.ranges.start.size

    @overload
    def __getitem__(self, place: int) -> Interval: ...

    @overload
    def __getitem__(self, place: slice) -> "Regions": ...

    def __getitem__(self, place: int | slice) -> "Interval | Regions":
        if isinstance(place, slice):
            return Regions(self.contigs, Ranges(self.ranges.start[place], self.ranges.end[place]))
        start, end = int(self.ranges.start[place]), int(self.ranges.end[place])
        contig = int(self.contigs.at(start))
        offset = int(self.contigs.offset[contig])
        return Interval(self.contigs.name(contig), start - offset, end - offset)

    def __iter__(self) -> Iterator[Interval]:
        contig = self.contig
        offset = self.contigs.offset[contig]
        rows = zip(
            contig.tolist(), (self.ranges.start - offset).tolist(), (self.ranges.end - offset).tolist(), strict=True
        )
        for number, start, end in rows:
            yield Interval(self.contigs.name(number), start, end)

    def __add__(self, other: "Regions") -> "Regions":
        return Regions(self.contigs, Ranges.joined([self.ranges, other.ranges]))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Regions) and other.contigs is self.contigs:
            return all(map(np.array_equal, self.ranges, other.ranges))
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(tuple.__eq__, self, other))

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"Regions({', '.join(map(str, self[:3]))}{', ...' if len(self) > 3 else ''})"
