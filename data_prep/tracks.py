"""Counts of bases in windows along the contigs of a store: what the picture of `data stats --plot` shows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store import GenomeStore
from hyena_dist.data.tokenizer import VOCAB

WINDOW_COLUMNS = ("track", "start", "end", *"ACGTN", "soft_masked")
"""Columns of the rows of `window_rows`."""
WINDOWS = 800
"""Largest number of windows in a track, about one for each pixel of its row."""
_TRACKS = 24
"""Number of contigs that have a track of their own; rows of more could not be told apart."""
_BLOCK = 2**22
"""Bases that are read at once."""


@dataclass(frozen=True)
class Track:
    """One contig, or several laid end to end, cut into windows: one row of the picture.

    Attributes:
        name: name of the track.
        contigs: numbers of the contigs, ascending, int64.
        starts: where each of them starts in the track, in bases, int64.
        length: length of the track in bases.
        edges: where the windows begin and, last, the length of the track; int64 [windows + 1].
        counts: how many bases of each window are A, C, G, T, N and lower-case, int64 [windows, 6].
    """

    name: str
    contigs: NDArray[np.int64]
    starts: NDArray[np.int64]
    length: int
    edges: NDArray[np.int64]
    counts: NDArray[np.int64]

    @property
    def gc(self) -> NDArray[np.float64]:
        """Share of G and C in the known bases, float64 [windows]; nan where nine tenths of a window or more are N."""
        known = self.counts[:, :4].sum(axis=1)
        enough = known * 10 > np.diff(self.edges)
        return np.where(enough, self.counts[:, 1:3].sum(axis=1) / np.maximum(known, 1), np.nan)

    def share(self, column: int) -> NDArray[np.float64]:
        """Return the share of all bases that `counts[:, column]` is, float64 [windows]."""
        return self.counts[:, column] / np.diff(self.edges)


def read_tracks(store: GenomeStore, on_bases: Callable[[int], object] = lambda count: None) -> list[Track]:
    """Count the bases in windows along the contigs.

    Args:
        store: genome store to count.
        on_bases: called with the number of bases after each block that was counted.

    Returns:
        A track for each of the longest contigs, in the order of the store, and a last one for all others end to end.

    Raises:
        UserError: A file of the store is missing or damaged.
    """
    lengths = store.contigs.lengths
    longest = np.argsort(-lengths, kind="stable")
    groups = [(store.contigs.name(number), np.array([number])) for number in np.sort(longest[:_TRACKS]).tolist()]
    others = np.sort(longest[_TRACKS:])
    if others.size:
        groups.append((f"{others.size:,} others", others))
    size = round_up(int(lengths[longest[0]]) / WINDOWS)
    return [_read_track(store, name, contigs, size, on_bases) for name, contigs in groups]


def window_rows(tracks: Sequence[Track]) -> Iterator[tuple[object, ...]]:
    """Yield the counts of each window of each track, in the columns of WINDOW_COLUMNS."""
    for track in tracks:
        for start, end, counts in zip(track.edges, track.edges[1:], track.counts.tolist(), strict=False):
            yield track.name, int(start), int(end), *counts


def _read_track(
    store: GenomeStore, name: str, contigs: NDArray[np.int64], size: int, on_bases: Callable[[int], object]
) -> Track:
    """Count the bases of contigs end to end, in windows of `size` bases, or of more if there were too many windows."""
    lengths = store.contigs.lengths[contigs]
    ends = np.cumsum(lengths)
    length = int(ends[-1])
    size = max(size, round_up(length / WINDOWS))
    counts = np.zeros((-(-length // size), 6), np.int64)
    masked = store.has_soft_mask
    for contig, origin, bases in zip(contigs.tolist(), (ends - lengths).tolist(), lengths.tolist(), strict=True):
        for at in range(0, bases, _BLOCK):
            tokens = store.read(contig, at, min(bases, at + _BLOCK))
            first = (origin + at) // size
            # The places in the block at which windows begin; the first window may have begun before the block.
            begins = np.arange(first * size, origin + at + tokens.size, size) - (origin + at)
            begins[0] = 0
            kinds = [tokens == VOCAB[letter] for letter in "ACGTN"]
            if masked:
                kinds.append(store.soft_mask(contig, at, at + tokens.size))
            for column, kind in enumerate(kinds):
                counts[first : first + begins.size, column] += np.add.reduceat(kind, begins, dtype=np.int64)
            on_bases(tokens.size)
    edges = np.append(np.arange(0, length, size), length)
    return Track(name, contigs, ends - lengths, length, edges, counts)


def round_up(bases: float) -> int:
    """Return the least of 1, 2, 5, 10, 20, 50, ... that is not below `bases`."""
    unit = 1
    while True:
        for factor in (1, 2, 5):
            if unit * factor >= bases:
                return unit * factor
        unit *= 10
