"""Which windows training can read at each length, how far from held-out bases; what the published ones would leak."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.stats import print_table, write_csv
from hyena_dist.data.sampling.valid_starts import GenomeAxis, Ranges, Sampling, interval_starts, uniform_starts
from hyena_dist.data.store import GenomeStore
from hyena_dist.errors import UserError

COLUMNS = (
    "seq_length",
    "windows",
    "used",
    "left_out",
    "bases_left_out",
    "reachable",
    "distance",
    "overlap",
    "published_leaking",
    "published_overlap",
    "published_share",
)


def print_leaks(
    path: str,
    lengths: Sequence[int],
    sampling: Sampling,
    csv_file: Path | None = None,
    say: Callable[[str], object] = print,
) -> None:
    """Show the table of `leaks` with what its columns mean, and write it to a CSV file if one is named.

    Raises:
        UserError: no store, a length below 1, or a CSV file that cannot be written.
    """
    store = GenomeStore.open(path)
    rows = leaks(store, lengths, sampling)
    units = "free ranges" if sampling == "uniform" else "training intervals"
    print_table(COLUMNS, rows, say)
    say("")
    say(f"windows      different ones of seq_length + 1 bases that training can read ({sampling})")
    say(f"used         {units} long enough; left_out, bases_left_out: the others")
    say("reachable    share of the bases of the training split that some window holds")
    say("distance     bases between a window and a validation or test region, at the least; none held out: empty")
    say("overlap      validation and test bases that some window holds")
    say("published    the way of the HyenaDNA paper's code, which extends intervals over what is around them:")
    say("             training intervals whose windows hold held-out bases, how many those are, their share of all")
    if csv_file:
        write_csv(csv_file, COLUMNS, [list(row.values()) for row in rows])


def leaks(store: GenomeStore, lengths: Sequence[int], sampling: Sampling) -> list[dict[str, Any]]:
    """A row with the keys of COLUMNS for each length; "" where there is nothing to divide by or to be near to."""
    if wrong := [length for length in lengths if length < 1]:
        raise UserError(f"length {wrong[0]} is not a context length; choose 1 or more")
    genome = GenomeAxis(store)
    train = genome.ranges(store.splits["train"]).merged()
    held_out = genome.ranges([*store.splits["valid"], *store.splits["test"]]).merged()
    intervals = genome.ranges(store.intervals["train"])
    rows = []
    for length in lengths:
        size = length + 1
        units = genome.free if sampling == "uniform" else intervals
        if sampling == "uniform":
            starts, fits = uniform_starts(genome.free, size), genome.free.size >= size
        else:
            starts, fits = interval_starts(genome.free, intervals, size, sampling)
        reach = starts.reach(size)
        published = as_published(genome, intervals, size)
        leaked, all_held_out = _total(held_out.inside(published.merged())), _total(held_out.size)
        values = (
            length,
            _total(Ranges(starts.low, starts.high + 1).merged().size),
            _total(fits),
            _total(~fits),
            _total(units.size[~fits]),
            _total(train.inside(reach.merged())) / _total(train.size) if train.size.size else "",
            _distance(genome, reach, held_out),
            _total(held_out.inside(reach.merged())),
            _total(held_out.inside(published) > 0),
            leaked,
            leaked / all_held_out if all_held_out else "",
        )
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def as_published(genome: GenomeAxis, intervals: Ranges, size: int) -> Ranges:
    """The published dataset's windows: an interval's first bases, or it and as much on both sides, cut at the ends.

    Facts of HG38Dataset in the paper's code; held-out intervals do not stop it.
    """
    start = intervals.start + np.minimum(0, intervals.size - size) // 2
    contig = genome.contig(intervals.start)
    return Ranges(np.maximum(start, genome.offset[contig]), np.minimum(start + size, genome.offset[contig + 1]))


def _total(numbers: np.ndarray) -> int:
    return int(numbers.sum())


def _distance(genome: GenomeAxis, reach: Ranges, held_out: Ranges) -> int | str:
    """Bases between a range and a held-out one of the same contig, at the least; "" if no contig has both."""
    after = np.searchsorted(held_out.start, reach.start, side="right")
    contig = genome.contig(reach.start)
    gaps = []
    for neighbour in (after, after - 1):
        there = np.flatnonzero((neighbour >= 0) & (neighbour < held_out.start.size))
        there = there[genome.contig(held_out.start[neighbour[there]]) == contig[there]]
        start, end = (edge[neighbour[there]] for edge in held_out)
        gaps.append(np.maximum(start - reach.end[there], reach.start[there] - end))
    return int(np.concatenate(gaps).min()) if sum(map(len, gaps)) else ""
