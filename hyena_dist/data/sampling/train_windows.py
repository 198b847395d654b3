"""The window of the genome that each training sample is: a pure function of (seed, stage, number of the sample).

The ranks and workers that share the reading change nothing. No order is stored, since orders are keyed permutations.
"""

from collections.abc import Mapping
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
    interval_starts,
    n_ranges,
    uniform_starts,
    with_little_n,
)
from hyena_dist.data.store import GenomeStore
from hyena_dist.errors import UserError

BLOCK = 1024
"""How many samples in a row hold exactly each species' share."""

_SPECIES, _ORDER, _CROP, _STRAND = range(4)  # the purposes that a stage has a key for


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

    The samples of a species go through its units of sampling in epochs, each epoch a permutation of all units. A unit
    is a training interval, in which the window's place is drawn anew for each sample; with uniform sampling, a unit is
    a window. A Sampler can be pickled.

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
        self._keys = [key_of(seed, stage, purpose) for purpose in (_SPECIES, _ORDER, _CROP, _STRAND)]

        # Rows of starts, those of one species after those of another, and the units of sampling in the same order.
        species, shares = _species_of(store, axis, starts, data.species_weights, seq_length)
        rows = np.flatnonzero(species >= 0)
        rows = rows[np.argsort(species[rows], kind="stable")]
        self._low = starts.low[rows]
        self._windows_in_row = starts.windows[rows]
        last_units = np.cumsum(self._windows_in_row) if self._uniform else np.arange(1, rows.size + 1)
        self._row_first_unit = np.append(0, last_units)  # and, after the last row, how many units there are
        bounds = self._row_first_unit[np.searchsorted(species[rows], np.arange(len(shares) + 1))]
        self._species_first_unit = bounds[:-1]
        self._species_units = np.diff(bounds)
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
        unit = self._species_first_unit[species] + permute(element, units, keys)
        row = np.searchsorted(self._row_first_unit, unit, side="right") - 1
        if self._uniform:
            place_in_row = unit - self._row_first_unit[row]
        else:
            drawn = mix(numbers, self._keys[_CROP]) % self._windows_in_row[row].astype(np.uint64)
            place_in_row = drawn.astype(np.int64)
        start = self._low[row] + place_in_row
        contig = np.searchsorted(self._contig_offset, start, side="right") - 1
        reverse = (mix(numbers, self._keys[_STRAND]) >> np.uint64(63)).astype(bool) & self._both_strands
        shape = np.shape(samples)
        return Windows(
            contig=contig.reshape(shape),
            start=(start - self._contig_offset[contig]).reshape(shape),
            reverse=reverse.reshape(shape),
        )

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


def training_starts(
    store: GenomeStore, axis: GenomeAxis, seq_length: int, data: DataConfig, n: Ranges | None = None
) -> Starts:
    """Find where the training windows of `seq_length` inputs and one more target may start.

    Args:
        store: genome store with the training intervals.
        axis: the store's contigs as one axis of positions.
        seq_length: inputs in a window, in bases.
        data: how windows are chosen, and how much of a window or interval may be N.
        n: where the free ranges hold N, from `n_ranges`; None reads them from the store if they matter.

    Returns:
        Starts, a row for each training interval that is kept, or for each stretch of starts with uniform sampling.

    Raises:
        UserError: A window of this length can start nowhere.
    """
    size = seq_length + 1
    free = axis.free
    if n is None and data.max_n_fraction < 1:
        n = n_ranges(store, axis)
    if data.sampling == "uniform":
        starts = uniform_starts(free, size)
        if n is not None and starts.low.size:
            starts = with_little_n(starts, size, n, data.max_n_fraction)
    else:
        intervals = axis.ranges(store.intervals["train"])
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
    store: GenomeStore, axis: GenomeAxis, starts: Starts, weights: Mapping[str, float] | None, seq_length: int
) -> tuple[Positions, list[int]]:
    """Number the species of each row of starts, and count the samples of each species in a block of samples.

    Returns:
        int64 [rows], the place of the row's species in `weights`, or -1 where its species is not sampled; and the
        number of samples of each species in BLOCK samples. Without weights, all rows count as one species.

    Raises:
        UserError: The weights name a species that the store or the starts do not have, or that gets no sample.
    """
    if not weights:
        return np.zeros_like(starts.low), [BLOCK]
    unknown = [name for name in weights if name not in store.species]
    if unknown:
        has = f"has {', '.join(store.species)}" if store.species else "has no species labels"
        raise UserError(f"data.species_weights names {unknown[0]!r}, and the store {has}; name species of the store")
    number = {name: i for i, name in enumerate(weights)}
    of_contig = np.array([number.get(store.species_of(contig) or "", -1) for contig in store.contigs])
    species = of_contig[axis.contig(starts.low)]
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
