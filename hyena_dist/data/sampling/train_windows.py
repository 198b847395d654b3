"""Which window is read when: a pure function of (seed, stage, number of the sample), whatever the ranks or workers.

Nothing is stored: orders are keyed permutations.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.config.data import DataConfig
from hyena_dist.data.permutation import key_of, mix, permute
from hyena_dist.data.sampling.valid_starts import (
    Genome,
    Positions,
    Ranges,
    Starts,
    interval_starts,
    n_ranges,
    uniform_starts,
    with_little_n,
)
from hyena_dist.data.store.store import GenomeStore
from hyena_dist.errors import UserError

BLOCK = 1024
"""Samples in which every species has exactly its share."""

_SPECIES, _ORDER, _CROP, _STRAND = range(4)  # what a key is for


class Windows(NamedTuple):
    """Windows of one size; arrays of one shape."""

    contig: Positions
    """int64, numbers of contigs in the order of the store."""
    start: Positions
    """int64, the first base on the contig."""
    reverse: NDArray[np.bool_]
    """Whether it is read from the other strand."""

    def part(self, seq_length: int, index: int, count: int) -> "Windows":
        """The windows of part `index` of `count` equal parts of the inputs, and the targets of those."""
        size = seq_length // count
        first = np.where(self.reverse, seq_length - (index + 1) * size, index * size)
        return self._replace(start=self.start + first)


class Sampler:
    """The windows of one stage, by the number of the sample in the stage. Picklable.

    The samples of a species go through its units in epochs, each a permutation of all of them. A unit is an interval,
    in which the window's place is drawn anew each time, or, if uniform, a window.

    Args:
        store: has the training intervals and the free ranges.
        seq_length: bases of a window but one, the last target.
        data: how windows are chosen.
        seed: of the run.
        stage: number of the curriculum stage.
        n: where the free ranges hold N, if known; otherwise looked up when it matters.

    Raises:
        UserError: no window of this length, or species weights that do not fit the store.
    """

    def __init__(
        self, store: GenomeStore, seq_length: int, data: DataConfig, *, seed: int, stage: int, n: Ranges | None = None
    ) -> None:
        genome = Genome(store)
        starts = training_starts(store, genome, seq_length, data, n)
        self._uniform, self._both_strands = data.sampling == "uniform", data.reverse_complement
        self._offset = genome.offset
        self._keys = [key_of(seed, stage, purpose) for purpose in (_SPECIES, _ORDER, _CROP, _STRAND)]

        species, shares = _species_of(store, genome, starts, data.species_weights, seq_length)
        rows = np.flatnonzero(species >= 0)
        rows = rows[np.argsort(species[rows], kind="stable")]
        self._low, self._count = starts.low[rows], starts.windows[rows]
        units = np.cumsum(self._count) if self._uniform else np.arange(1, rows.size + 1)
        self._unit = np.append(0, units)  # first unit of each row, and the number of units
        bounds = self._unit[np.searchsorted(species[rows], np.arange(len(shares) + 1))]
        self._first_unit, self._units = bounds[:-1], np.diff(bounds)
        self._in_block = np.append(0, np.cumsum(shares))

    def windows(self, samples: Positions) -> Windows:
        """The windows of samples, int64 of any shape."""
        i = np.ravel(samples)
        species, number = self._by_species(i)
        epoch, element = np.divmod(number, self._units[species])
        keys = mix(epoch, mix(species, self._keys[_ORDER]))
        unit = self._first_unit[species] + permute(element, self._units[species], keys)
        row = np.searchsorted(self._unit, unit, side="right") - 1
        if self._uniform:
            start = self._low[row] + unit - self._unit[row]
        else:
            start = self._low[row] + (mix(i, self._keys[_CROP]) % self._count[row].astype(np.uint64)).astype(np.int64)
        contig = np.searchsorted(self._offset, start, side="right") - 1
        reverse = (mix(i, self._keys[_STRAND]) >> np.uint64(63)).astype(bool) & self._both_strands
        shape = np.shape(samples)
        return Windows(contig.reshape(shape), (start - self._offset[contig]).reshape(shape), reverse.reshape(shape))

    def _by_species(self, samples: Positions) -> tuple[Positions, Positions]:
        """Species of each sample, and its number among the samples of that species; int64 [n]."""
        if self._units.size == 1:
            return np.zeros_like(samples), samples
        block, place = np.divmod(samples, BLOCK)
        place = permute(place, np.full_like(samples, BLOCK), mix(block, self._keys[_SPECIES]))
        species = np.searchsorted(self._in_block, place, side="right") - 1
        first, last = self._in_block[species], self._in_block[species + 1]
        return species, block * (last - first) + place - first


def training_starts(
    store: GenomeStore, genome: Genome, seq_length: int, data: DataConfig, n: Ranges | None = None
) -> Starts:
    """Where the training windows of `seq_length` inputs and one more target may start.

    Raises:
        UserError: nowhere.
    """
    size, free = seq_length + 1, genome.free
    if n is None and data.max_n_fraction < 1:
        n = n_ranges(store, genome)
    if data.sampling == "uniform":
        starts = uniform_starts(free, size)
        if n is not None and starts.low.size:
            starts = with_little_n(starts, size, n, data.max_n_fraction)
    else:
        intervals = genome.ranges(store.intervals["train"])
        if n is not None:
            keep = n.inside(intervals) <= data.max_n_fraction * intervals.size
            intervals = Ranges(intervals.start[keep], intervals.end[keep])
        starts, _ = interval_starts(free, intervals, size, data.sampling)
    if not starts.low.size:
        longest = int(free.size.max(initial=0))
        fix = "shorten the stage or build the store with longer stretches between held-out regions"
        if not store.intervals["train"]:
            fix = "build the store with intervals for training"
        elif longest >= size:
            fix = "raise data.max_n_fraction or take data.sampling=uniform"
        raise UserError(
            f"no training window has the {size:,} bases of seq_length {seq_length}: there are "
            f"{len(store.intervals['train']):,} training intervals, and the longest range around them without held-out "
            f"bases has {longest:,}; {fix}"
        )
    return starts


def _species_of(
    store: GenomeStore, genome: Genome, starts: Starts, weights: Mapping[str, float] | None, seq_length: int
) -> tuple[Positions, list[int]]:
    """Number of the species of each row, -1 where it is not sampled; and samples of each species in a block."""
    if not weights:
        return np.zeros_like(starts.low), [BLOCK]
    if unknown := [name for name in weights if name not in store.species]:
        has = f"has {', '.join(store.species)}" if store.species else "has no species labels"
        raise UserError(f"data.species_weights names {unknown[0]!r}, and the store {has}; name species of the store")
    number = {name: i for i, name in enumerate(weights)}
    of_contig = np.array([number.get(store.species_of(contig) or "", -1) for contig in store.contigs])
    species = of_contig[genome.contig(starts.low)]
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
    """Whole numbers in proportion to the weights that add up to `total`, by the largest remainder."""
    exact = [weight / sum(weights) * total for weight in weights]
    shares = [int(x) for x in exact]
    by_remainder = sorted(range(len(weights)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares
