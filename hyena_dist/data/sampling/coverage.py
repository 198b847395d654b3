"""The share of a genome that windows of one length reach: short contigs and ends fall out, which must be said."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hyena_dist.config.data import DataConfig
from hyena_dist.data.sampling.train_windows import TrainingStarts, training_starts
from hyena_dist.data.sampling.valid_starts import GenomeAxis
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.manifest import Interval
from hyena_dist.data.store.ranges import Ranges

NAMED = 3
"""How many contigs without a window are named; of more, the number is told."""


class Coverage(NamedTuple):
    """The bases and contigs that windows reach, of those that there are."""

    bases: int
    all_bases: int
    contigs: int
    all_contigs: int
    left_out: tuple[str, ...]
    """The first contigs that no window reaches, in the order of the store, at most NAMED."""

    def __str__(self) -> str:
        share = f" ({100 * self.bases / self.all_bases:.1f} %)" if self.all_bases else ""
        text = f"{self.bases:,} of {self.all_bases:,} bases{share} on {self.contigs:,} of {self.all_contigs:,} contigs"
        if not self.left_out:
            return text
        names = ", ".join(self.left_out)
        more = self.all_contigs - self.contigs - NAMED
        return f"{text}; without: {names}" + (f" and {more:,} more" if more > 0 else "")


class Density(NamedTuple):
    """The contig of which training reads each base most often."""

    contig: str
    times: float
    """How often that is, beside the mean over all bases that there are."""

    def __str__(self) -> str:
        return f"{self.contig} is read most often, {self.times:.2f} times the mean"


def coverage(store: GenomeStore, reached: Ranges, regions: Ranges) -> Coverage:
    """Count what windows reach of regions, both on the store's GenomeAxis and in any order."""
    axis = GenomeAxis(store)
    # A gap between contigs, so that ranges at their ends do not merge.
    reached, regions = (Ranges(*(edge + axis.contig(r.start) for edge in r)) for r in (reached, regions))
    merged = regions.merged()
    per_region = reached.merged().inside(merged)
    contig = np.searchsorted(axis.offset + np.arange(axis.offset.size), merged.start, side="right") - 1
    has = np.unique(contig)
    seen = np.unique(contig[per_region > 0])
    left_out = np.setdiff1d(has, seen)
    named = tuple(store.contigs.name(int(i)) for i in left_out[:NAMED])
    return Coverage(int(per_region.sum()), int(merged.size.sum()), seen.size, has.size, named)


def training_coverage(
    store: GenomeStore, seq_length: int, data: DataConfig, n: Ranges | None = None
) -> tuple[Coverage, Density]:
    """Count what training windows reach of the training intervals or, with uniform sampling, of the free ranges.

    Args:
        store: genome store with the training intervals.
        seq_length: inputs in a window, in bases.
        data: how windows are chosen.
        n: where the free ranges hold N, from `n_ranges`; None reads them from the store if they matter.

    Returns:
        What windows reach, and the contig that they read most often. Of several species, both tell of those that are
        sampled.

    Raises:
        UserError: A window of this length can start nowhere.
    """
    axis = GenomeAxis(store)
    starts = training_starts(store, axis, seq_length, data, n)
    reach = starts.rows.reach(seq_length + 1)
    regions = axis.free if data.sampling == "uniform" else axis.ranges(store.intervals["train"])
    if data.species_weights:
        sampled = np.array([*(name in data.species_weights for name in store.species), False])
        wanted = sampled[store.contigs.species]
        reach, regions = (Ranges(*(edge[wanted[axis.contig(r.start)]] for edge in r)) for r in (reach, regions))
    return coverage(store, reach, regions), _density(store, axis, starts, data, regions)


def _density(
    store: GenomeStore, axis: GenomeAxis, starts: TrainingStarts, data: DataConfig, regions: Ranges
) -> Density:
    """Find the contig with the most samples per base of its regions."""
    bases = np.bincount(axis.contig(regions.start), regions.size, len(store.contigs))
    first_row = np.searchsorted(starts.interval, np.arange(starts.weight.size))
    contig = axis.contig(starts.rows.low[first_row])
    samples = np.bincount(contig, starts.weight, len(store.contigs))
    if data.species_weights:
        share = np.zeros_like(samples)
        for name, weight in data.species_weights.items():
            of = store.contigs.species == store.species.index(name)
            share[of] = samples[of] * (weight / samples[of].sum())
        samples = share
    times = np.divide(samples, bases, out=np.zeros_like(samples), where=bases > 0) * (bases.sum() / samples.sum())
    return Density(store.contigs.name(int(times.argmax())), float(times.max()))


def target_coverage(store: GenomeStore, windows: Sequence[Interval], split: str) -> Coverage:
    """Count what the targets of windows, every position but the first of each, hold of a split."""
    axis = GenomeAxis(store)
    targets = axis.ranges(Interval(w.contig, w.start + 1, w.end) for w in windows)
    return coverage(store, targets, axis.ranges(store.splits[split]))
