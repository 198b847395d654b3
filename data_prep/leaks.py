"""Proof that training windows do not leak: what they can read at each context length, and what published ones would.

A window leaks if it holds bases of a validation or test region, which are called held out here.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.stats import print_table, write_csv
from data_prep.twins import warn_of_twins
from hyena_dist.data.sampling.valid_starts import GenomeAxis, Ranges, Sampling, interval_starts, uniform_starts
from hyena_dist.data.store import GenomeStore
from hyena_dist.errors import UserError
from hyena_dist.system.urls import check_local
from hyena_dist.tracking.work_progress import Say

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
    say: Say = print,
) -> None:
    """Show the table of `leaks` with what its columns mean, and write it to a CSV file if one is named.

    Args:
        path: folder of a store, or of its shards.
        lengths: context lengths, in bases.
        sampling: how training chooses windows.
        csv_file: CSV file to write; None writes none.
        say: receives lines of text for the user.

    Raises:
        UserError: There is no store, a length is below 1, or the CSV file cannot be written.
    """
    if csv_file:
        check_local(csv_file)
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
    warn_of_twins(store.contigs, store.splits, say)
    if csv_file:
        write_csv(csv_file, COLUMNS, [list(row.values()) for row in rows])


def leaks(store: GenomeStore, lengths: Sequence[int], sampling: Sampling) -> list[dict[str, Any]]:
    """Count what training windows of each length can read.

    Args:
        store: genome store with the splits and the intervals.
        lengths: context lengths, in bases; a window has one base more, the last target.
        sampling: how training chooses windows.

    Returns:
        A row with the keys of COLUMNS for each length, which `print_leaks` explains. A value is "" where there is
        nothing to divide by, or no held-out base to be near to.

    Raises:
        UserError: A length is below 1.
    """
    wrong = [length for length in lengths if length < 1]
    if wrong:
        raise UserError(f"length {wrong[0]} is not a context length; choose 1 or more")
    axis = GenomeAxis(store)
    train = axis.ranges(store.splits["train"]).merged()
    # Contigs lie end to end, so that merged ranges, which are only counted here, may go on over the end of a contig.
    regions = axis.ranges(store.splits["valid"] + store.splits["test"]).sorted()
    held_out = regions.merged()
    n_held_out = _total(held_out.size)
    intervals = axis.ranges(store.intervals["train"])
    rows = []
    for length in lengths:
        size = length + 1
        if sampling == "uniform":
            units = axis.free
            starts = uniform_starts(units, size)
            fits = units.size >= size
        else:
            units = intervals
            starts, fits = interval_starts(axis.free, units, size, sampling)
        reach = starts.reach(size)
        published = as_published(axis, intervals, size)
        n_leaked = _total(held_out.inside(published.merged()))
        row = {
            "seq_length": length,
            "windows": _total(Ranges(starts.low, starts.high + 1).merged().size),
            "used": _total(fits),
            "left_out": _total(~fits),
            "bases_left_out": _total(units.size[~fits]),
            "reachable": _total(train.inside(reach.merged())) / _total(train.size) if train.size.size else "",
            "distance": _distance(axis, reach, regions),
            "overlap": _total(held_out.inside(reach.merged())),
            "published_leaking": _total(held_out.inside(published) > 0),
            "published_overlap": n_leaked,
            "published_share": n_leaked / n_held_out if n_held_out else "",
        }
        rows.append(row)
    return rows


def as_published(axis: GenomeAxis, intervals: Ranges, size: int) -> Ranges:
    """Return the windows of training intervals as the published dataset chooses them.

    A window is the interval's first bases or, if it is longer, the interval and equally much on both sides of it, cut
    at the ends of the contig. Held-out regions do not stop it, as in the class HG38Dataset of the HyenaDNA paper's
    code.

    Args:
        axis: the contigs as one axis of positions.
        intervals: training intervals.
        size: bases in a window.
    """
    start = intervals.start + np.minimum(0, intervals.size - size) // 2
    contig = axis.contig(intervals.start)
    return Ranges(np.maximum(start, axis.offset[contig]), np.minimum(start + size, axis.offset[contig + 1]))


def _total(numbers: np.ndarray) -> int:
    """Return the sum of numbers, or the count of what is true, as a Python number."""
    return int(numbers.sum())


def _distance(axis: GenomeAxis, reach: Ranges, held_out: Ranges) -> int | str:
    """Return the least number of bases between a range of `reach` and a held-out range of the same contig.

    Args:
        axis: the contigs as one axis of positions.
        reach: ranges of training windows, each on one contig.
        held_out: ranges, sorted and disjoint, each on one contig as well.

    Returns:
        The distance, or "" if no contig has both.
    """
    after = np.searchsorted(held_out.start, reach.start, side="right")  # the next held-out range after each start
    contig = axis.contig(reach.start)
    gaps = []
    for neighbour in (after, after - 1):
        there = np.flatnonzero((neighbour >= 0) & (neighbour < held_out.start.size))
        there = there[axis.contig(held_out.start[neighbour[there]]) == contig[there]]
        start = held_out.start[neighbour[there]]
        end = held_out.end[neighbour[there]]
        gaps.append(np.maximum(start - reach.end[there], reach.start[there] - end))
    return int(np.concatenate(gaps).min()) if sum(map(len, gaps)) else ""
