"""Contigs of the same sequence, by which training may read held-out bases although no window holds a held-out place."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hyena_dist.tracking.work_progress import Say

_SHOWN = 5
"""Number of twins that are named; draft assemblies may have very many."""


class Twins(NamedTuple):
    """Contigs that have one sequence."""

    names: list[str]
    """Names of the contigs."""
    exposed: int
    """Number of positions that are held out on one of them at least, and that training can read on another."""


def find_twins(contigs: Iterable[Mapping[str, Any]], splits: Mapping[str, Sequence[Sequence[Any]]]) -> Iterator[Twins]:
    """Yield contigs of the same sequence of which training can read held-out bases.

    Contigs of N alone are left out, since nothing can be learnt from them.

    Args:
        contigs: entries of the manifest.
        splits: regions of each split, disjoint, as (contig, start, end).
    """
    same: dict[str, list[str]] = {}
    for contig in contigs:
        if contig["composition"]["N"] < contig["length"]:
            same.setdefault(contig["sha256"], []).append(contig["name"])
    groups = [names for names in same.values() if len(names) > 1]
    held_out: dict[str, list[tuple[int, int]]] = {name: [] for names in groups for name in names}
    for split in ("valid", "test"):
        for name, start, end in splits[split]:
            if name in held_out:
                held_out[name].append((start, end))
    for names in groups:
        exposed = _exposed([held_out[name] for name in names])
        if exposed:
            yield Twins(names, exposed)


def warn_of_twins(
    contigs: Iterable[Mapping[str, Any]], splits: Mapping[str, Sequence[Sequence[Any]]], say: Say
) -> None:
    """Say which contigs of the same sequence let training read held-out bases.

    Args:
        contigs: entries of the manifest.
        splits: regions of each split, disjoint, as (contig, start, end).
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
