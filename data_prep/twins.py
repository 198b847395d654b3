"""Contigs of the same sequence, by which training may read held-out bases although no window holds a held-out place."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hyena_dist.data.store.contigs import Contigs
from hyena_dist.data.store.ranges import Regions
from hyena_dist.tracking.work_progress import Say

_SHOWN = 5
"""Number of twins that are named; draft assemblies may have very many."""


class Twins(NamedTuple):
    """Contigs that have one sequence."""

    names: list[str]
    """Names of the contigs."""
    exposed: int
    """Number of positions that are held out on one of them at least, and that training can read on another."""


def find_twins(contigs: Contigs, splits: Mapping[str, Regions]) -> Iterator[Twins]:
    """Yield contigs of the same sequence of which training can read held-out bases.

    Contigs of N alone are left out, since nothing can be learnt from them.

    Args:
        contigs: the contigs.
        splits: regions of each split, disjoint.
    """
    some = np.flatnonzero(contigs.composition[:, 4] < contigs.lengths)
    hashes = np.ascontiguousarray(contigs.sha256[some]).view("S32").ravel()
    order = np.argsort(hashes, kind="stable")
    begins = np.flatnonzero(np.append(True, hashes[order][1:] != hashes[order][:-1])[: order.size])
    sizes = np.diff(begins, append=order.size)
    groups = [some[order[begins[i] : begins[i] + sizes[i]]] for i in np.flatnonzero(sizes > 1)]
    has_twin = np.zeros(len(contigs), bool)
    has_twin[np.concatenate([[], *groups]).astype(np.int64)] = True
    held_out: dict[int, list[tuple[int, int]]] = {}
    regions = (splits["valid"] + splits["test"]).on(has_twin)
    start = regions.ranges.start - contigs.offset[regions.contig]
    for contig, first, size in zip(regions.contig.tolist(), start.tolist(), regions.ranges.size.tolist(), strict=True):
        held_out.setdefault(contig, []).append((first, first + size))
    for group in sorted(groups, key=lambda group: int(group[0])):
        exposed = _exposed([held_out.get(contig, []) for contig in group.tolist()])
        if exposed:
            yield Twins([contigs.name(contig) for contig in group.tolist()], exposed)


def warn_of_twins(contigs: Contigs, splits: Mapping[str, Regions], say: Say) -> None:
    """Say which contigs of the same sequence let training read held-out bases.

    Args:
        contigs: the contigs.
        splits: regions of each split, disjoint.
        say: receives a line of text for each group of contigs, up to some.
    """
    twins = list(find_twins(contigs, splits))
    for names, exposed in twins[:_SHOWN]:
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        say(
            f"warning: contigs {names[0]!r} and {names[1]!r}{more} have the same sequence, and training can read "
            f"{exposed:,} bases of it on one that are held out on another; hold out all of them, or leave one in"
        )
    if len(twins) > _SHOWN:
        say(f"warning: so have {len(twins) - _SHOWN:,} more groups of contigs")


def _exposed(held_out: Sequence[Sequence[tuple[int, int]]]) -> int:
    """Count the positions that are in the ranges of some contigs and not of all.

    Args:
        held_out: ranges of each contig, disjoint.
    """
    steps: Counter[int] = Counter()  # change of the number of contigs that hold a position out
    for ranges in held_out:
        for start, end in ranges:
            steps[start] += 1
            steps[end] -= 1
    count = depth = last = 0
    for at in sorted(steps):
        if 0 < depth < len(held_out):
            count += at - last
        depth += steps[at]
        last = at
    return count
