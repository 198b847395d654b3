"""The window of the genome that each training sample is: a pure function of (seed, stage, number of the sample).

The ranks and workers that share the reading change nothing. No order is stored, since orders are keyed permutations.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.config.data import DataConfig
from hyena_dist.data.permutation import key_of, mix, permute
from hyena_dist.data.sampling.valid_starts import (
    GenomeAxis,
    Positions,
    Ranges,
    Starts,
    common_starts,
    interval_starts,
    n_ranges,
    uniform_starts,
    with_little_n,
)
from hyena_dist.data.store import GenomeStore
from hyena_dist.errors import UserError

BLOCK = 1024
"""How many samples in a row hold exactly each species' share."""

INTERVALS_VERSION = 2
"""Number of the way in which windows of intervals are sampled: a run continues in its own way or not at all.

In the first, each interval had one sample an epoch, however short, and was left out whole for too much N.
"""

_SPECIES, _ORDER, _CROP, _STRAND, _PLACE = range(5)  # the purposes that a stage has a key for


class Windows(NamedTuple):
    """Windows of one size, as three arrays of one shape."""

    contig: Positions
    """Number of the window's contig in the order of the store, int64."""
    start: Positions
    """Position of the window's first base on the contig, int64."""
    reverse: NDArray[np.bool_]
    """Whether the window is read from the opposite strand, bool."""

    def part(self, seq_length: int, index: int, count: int) -> "Windows":
        """Return the windows that hold part `index` of `count` equal parts of the inputs, and the targets of that part.

        Args:
            seq_length: inputs in a whole window.
            index: number of the part in the order of reading, so that on the opposite strand part 0 lies last.
            count: how many parts there are; it divides `seq_length`.
        """
        size = seq_length // count
        first = np.where(self.reverse, seq_length - (index + 1) * size, index * size)
        return self._replace(start=self.start + first)


class Sampler:
    """Tells the window of any training sample of one stage by the sample's number in the stage.

    The samples of a species go through its units of sampling in epochs, each epoch a permutation of all units. With
    uniform sampling, a unit is a window. Otherwise the intervals of a species lie end to end on an axis, each as long
    as its weight, which equal parts of about the longest interval cut into units; a sample draws a place in its unit,
    and a window of the interval there. So intervals of one size have a sample each in every epoch, and a small one as
    much less often as it has fewer bases. A Sampler can be pickled.

    Args:
        store: genome store with the training intervals and the free ranges.
        seq_length: inputs in a window, which has one base more, the last target.
        data: how windows are chosen.
        seed: seed of the run.
        stage: number of the curriculum stage.
        n: where the free ranges hold N, from `n_ranges`; None reads them from the store if they matter.

    Raises:
        UserError: No window has this length, or the species weights do not fit the store.
    """

    def __init__(
        self, store: GenomeStore, seq_length: int, data: DataConfig, *, seed: int, stage: int, n: Ranges | None = None
    ) -> None:
        axis = GenomeAxis(store)
        starts = training_starts(store, axis, seq_length, data, n)
        self._uniform = data.sampling == "uniform"
        self._both_strands = data.reverse_complement
        self._contig_offset = axis.offset
        self._keys = [key_of(seed, stage, purpose) for purpose in (_SPECIES, _ORDER, _CROP, _STRAND, _PLACE)]

        # Intervals of one species after those of another, with their rows of starts in the same order. Windows are
        # numbered along all rows, and weights add up along all intervals.
        species, shares = _species_of(store, axis, starts, data.species_weights, seq_length)
        intervals = np.flatnonzero(species >= 0)
        intervals = intervals[np.argsort(species[intervals], kind="stable")]
        rows = np.argsort(species[starts.interval], kind="stable")
        rows = rows[species[starts.interval[rows]] >= 0]
        weight = starts.weight[intervals]
        self._row_low = starts.rows.low[rows]
        self._row_window = _sums(starts.rows.windows[rows])
        self._interval_windows = starts.windows[intervals]
        self._interval_window = _sums(self._interval_windows)
        self._interval_place = _sums(weight)
        bounds = np.searchsorted(species[intervals], np.arange(len(shares) + 1))
        self._species_place = self._interval_place[bounds]
        longest = np.array([1 if self._uniform else weight[a:b].max() for a, b in pairwise(bounds)])
        self._species_units = -(-np.diff(self._species_place) // longest)
        self._place_in_block = np.append(0, np.cumsum(shares))

    def windows(self, samples: Positions) -> Windows:
        """Return the windows of samples.

        Args:
            samples: numbers of samples in the stage, counted from 0; int64 of any shape.

        Returns:
            Windows, whose arrays have the shape of `samples`.
        """
        numbers = np.ravel(samples)
        species, number_in_species = self._by_species(numbers)
        units = self._species_units[species]
        epoch, element = np.divmod(number_in_species, units)
        keys = mix(epoch, mix(species, self._keys[_ORDER]))
        window = self._window(numbers, species, permute(element, units, keys))
        row = np.searchsorted(self._row_window, window, side="right") - 1
        start = self._row_low[row] + window - self._row_window[row]
        contig = np.searchsorted(self._contig_offset, start, side="right") - 1
        reverse = (mix(numbers, self._keys[_STRAND]) >> np.uint64(63)).astype(bool) & self._both_strands
        shape = np.shape(samples)
        return Windows(
            contig=contig.reshape(shape),
            start=(start - self._contig_offset[contig]).reshape(shape),
            reverse=reverse.reshape(shape),
        )

    def _window(self, samples: Positions, species: Positions, unit: Positions) -> Positions:
        """Return the number of each sample's window, given the unit of its species; int64 [n] each."""
        first = self._species_place[species]
        if self._uniform:
            return first + unit
        size = self._species_place[species + 1] - first
        units = self._species_units[species]
        begin, end = size * unit // units, size * (unit + 1) // units
        place = first + begin + self._draw(_PLACE, samples, end - begin)
        interval = np.searchsorted(self._interval_place, place, side="right") - 1
        return self._interval_window[interval] + self._draw(_CROP, samples, self._interval_windows[interval])

    def _draw(self, purpose: int, samples: Positions, below: Positions) -> Positions:
        """Draw a number from 0 to `below` - 1 for each sample, int64 [n]."""
        return (mix(samples, self._keys[purpose]) % below.astype(np.uint64)).astype(np.int64)

    def _by_species(self, samples: Positions) -> tuple[Positions, Positions]:
        """Return the species of each sample, and the sample's number among those of its species; int64 [n] each."""
        if self._species_units.size == 1:
            return np.zeros_like(samples), samples
        block, place = np.divmod(samples, BLOCK)
        place = permute(place, np.full_like(samples, BLOCK), mix(block, self._keys[_SPECIES]))
        species = np.searchsorted(self._place_in_block, place, side="right") - 1
        first = self._place_in_block[species]
        share = self._place_in_block[species + 1] - first
        return species, block * share + place - first


def _sums(numbers: Positions) -> Positions:
    """Return the sum of all numbers before each and, last, of all; int64 [n + 1]."""
    return np.append(0, np.cumsum(numbers))


class TrainingStarts(NamedTuple):
    """The places where training windows of one size may start, by interval; with uniform sampling, by row."""

    rows: Starts
    """Rows of starts, several for an interval in which some windows have too much N."""
    interval: Positions
    """Number of the interval that each row belongs to, int64 [rows], ascending from 0 without gaps."""
    weight: Positions
    """Share of the samples, int64 [intervals]: windows with uniform sampling, 1 with published, and otherwise bases of
    the interval, as many fewer as N takes windows away."""
    windows: Positions
    """Number of windows of each interval, int64 [intervals]."""


def training_starts(
    store: GenomeStore, axis: GenomeAxis, seq_length: int, data: DataConfig, n: Ranges | None = None
) -> TrainingStarts:
    """Find where the training windows of `seq_length` inputs and one more target may start.

    Args:
        store: genome store with the training intervals.
        axis: the store's contigs as one axis of positions.
        seq_length: inputs in a window, in bases.
        data: how windows are chosen, and how much of a window may be N.
        n: where the free ranges hold N, from `n_ranges`; None reads them from the store if they matter.

    Raises:
        UserError: A window of this length can start nowhere.
    """
    size = seq_length + 1
    free = axis.free
    if n is None and data.max_n_fraction < 1:
        n = n_ranges(store, axis)
    everywhere = uniform_starts(free, size)
    allowed = everywhere
    if n is not None and everywhere.low.size:
        allowed = with_little_n(everywhere, size, n, data.max_n_fraction)
    if data.sampling == "uniform":
        rows = allowed
        interval = np.arange(rows.low.size)
        weight = windows = rows.windows
    else:
        intervals = axis.ranges(store.intervals["train"])
        each, fits = interval_starts(free, intervals, size, data.sampling)
        rows, interval = common_starts(each, allowed)
        kept = np.bincount(interval, rows.windows, each.low.size).astype(np.int64)
        weight = np.maximum(intervals.size[fits] * kept // each.windows, 1)
        if data.sampling == "published":
            weight = np.ones_like(kept)
        some = kept > 0
        interval = (np.cumsum(some) - 1)[interval]
        weight, windows = weight[some], kept[some]
    if not rows.low.size:
        longest = int(free.size.max(initial=0))
        fix = "shorten the stage or build the store with longer stretches between held-out regions"
        if not store.intervals["train"]:
            fix = "build the store with intervals for training"
        elif longest >= size:
            fix = f"all that would fit are more than {data.max_n_fraction:g} N: raise data.max_n_fraction"
        raise UserError(
            f"no training window has the {size:,} bases of seq_length {seq_length}: there are "
            f"{len(store.intervals['train']):,} training intervals, and the longest range around them without held-out "
            f"bases has {longest:,}; {fix}"
        )
    return TrainingStarts(rows, interval, weight, windows)


def _species_of(
    store: GenomeStore, axis: GenomeAxis, starts: TrainingStarts, weights: Mapping[str, float] | None, seq_length: int
) -> tuple[Positions, list[int]]:
    """Number the species of each interval, and count the samples of each species in a block of samples.

    Returns:
        int64 [intervals], the place of the interval's species in `weights`, or -1 where its species is not sampled; and
        the number of samples of each species in BLOCK samples. Without weights, all count as one species.

    Raises:
        UserError: The weights name a species that the store or the starts do not have, or that gets no sample.
    """
    if not weights:
        return np.zeros_like(starts.weight), [BLOCK]
    unknown = [name for name in weights if name not in store.species]
    if unknown:
        has = f"has {', '.join(store.species)}" if store.species else "has no species labels"
        raise UserError(f"data.species_weights names {unknown[0]!r}, and the store {has}; name species of the store")
    number = {name: i for i, name in enumerate(weights)}
    # The place in the weights of each species of the store, and -1 for those that are not sampled.
    of_species = np.array([*(number.get(name, -1) for name in store.species), -1])
    of_contig = of_species[store.contigs.species]
    first_row = np.searchsorted(starts.interval, np.arange(starts.weight.size))
    species = of_contig[axis.contig(starts.rows.low[first_row])]
    for name, i in number.items():
        if not (species == i).any():
            raise UserError(
                f"data.species_weights names {name!r}, which has no training window of seq_length {seq_length}; "
                f"leave it out or shorten the stage"
            )
    shares = apportion(list(weights.values()), BLOCK)
    if 0 in shares:
        name = list(weights)[shares.index(0)]
        raise UserError(
            f"data.species_weights gives {name!r} less than one of {BLOCK} samples; raise its weight or leave it out"
        )
    return species, shares


def apportion(weights: list[float], total: int) -> list[int]:
    """Return whole numbers in proportion to the weights that add up to `total`, by the largest-remainder method."""
    exact = [weight / sum(weights) * total for weight in weights]
    shares = [int(share) for share in exact]
    by_remainder = sorted(range(len(weights)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares
