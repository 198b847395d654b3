"""Which bases are for training, validation and test: by a BED file, by contig or by blocks of each contig."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from data_prep.files import describe_file, whole_lines
from hyena_dist.data.manifest import SPLITS, Interval
from hyena_dist.errors import UserError

Splits = dict[str, list[Interval]]
Contigs = Mapping[str, int]
"""Name of a contig -> its length in bases, in the order of the FASTA files."""


class SplitPlan(Protocol):
    """A way to split a genome."""

    def describe(self) -> dict[str, Any]:
        """Return the plan as JSON; two plans that are equal here split a genome in the same way."""

    def assign(self, contigs: Contigs) -> Splits:
        """Return the regions of each split, sorted, half-open, merged where they touch or overlap.

        Raises:
            UserError: the plan does not fit these contigs, or two splits overlap.
        """


@dataclass(frozen=True)
class BlockSplits:
    """Each contig's first part trains, its next part validates, its last part tests.

    Attributes:
        fractions: share of train, valid and, if given, test; they add up to 1.
    """

    fractions: tuple[float, ...] = (0.9, 0.05, 0.05)

    def __post_init__(self) -> None:
        text = ",".join(f"{fraction:g}" for fraction in self.fractions)
        if len(self.fractions) not in (2, 3) or min(self.fractions) < 0:
            raise UserError(f"split fractions {text} are not two or three shares from 0 to 1; try 0.9,0.05,0.05")
        # Written so that nan fails too.
        if not abs(sum(self.fractions) - 1) < 1e-6:
            raise UserError(
                f"split fractions {text} add up to {sum(self.fractions):g}, and every base needs exactly one split; "
                f"make them add up to 1, such as 0.9,0.05,0.05"
            )

    def describe(self) -> dict[str, Any]:  # noqa: D102
        return {"by": "blocks", "fractions": list(self.fractions)}

    def assign(self, contigs: Contigs) -> Splits:  # noqa: D102
        splits: Splits = {split: [] for split in SPLITS}
        for contig, length in contigs.items():
            start, share = 0, 0.0
            for split, fraction in zip(SPLITS, self.fractions, strict=False):
                share += fraction
                end = min(length, round(length * share))
                if end > start:
                    splits[split].append(Interval(contig, start, end))
                start = end
        return splits


@dataclass(frozen=True)
class ContigSplits:
    """Whole contigs validate or test; all others train."""

    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:  # noqa: D102
        return {"by": "contigs", "valid": sorted(set(self.valid)), "test": sorted(set(self.test))}

    def assign(self, contigs: Contigs) -> Splits:  # noqa: D102
        valid = {find_contig(name, contigs, "--valid-contigs") for name in self.valid}
        test = {find_contig(name, contigs, "--test-contigs") for name in self.test}
        both = sorted(valid & test)
        if both:
            raise UserError(f"contig {both[0]!r} is in --valid-contigs and in --test-contigs; name it in one of them")
        splits: Splits = {split: [] for split in SPLITS}
        for contig, length in contigs.items():
            split = "valid" if contig in valid else "test" if contig in test else "train"
            splits[split].append(Interval(contig, 0, length))
        return splits


@dataclass(frozen=True)
class BedSplits:
    """Regions from a file with Basenji's four columns: contig, start, end, split."""

    path: Path

    def describe(self) -> dict[str, Any]:  # noqa: D102
        return {"by": "bed", "sha256": describe_file(self.path)["sha256"]}

    def assign(self, contigs: Contigs) -> Splits:  # noqa: D102
        found: Splits = {split: [] for split in SPLITS}
        lines = (line for block, _ in whole_lines(self.path) for line in block.decode("utf-8", "replace").splitlines())
        for number, line in enumerate(lines, start=1):
            if line.strip() and not line.startswith(("#", "track", "browser")):
                split, interval = _bed_row(f"{self.path} line {number}", line, contigs)
                found[split].append(interval)
        if not any(found.values()):
            raise UserError(f"{self.path} has no intervals; write rows of contig, start, end and split")
        splits = {split: merge(intervals, contigs) for split, intervals in found.items()}
        check_disjoint(splits)
        return splits


def find_contig(name: str, contigs: Contigs, where: str) -> str:
    """Return the contig that `name` means: itself, or the one that differs by a leading "chr" only.

    Args:
        name: the name as the user wrote it.
        contigs: the contigs that exist.
        where: what to name in the error.

    Raises:
        UserError: no such contig.
    """
    for candidate in (name, f"chr{name}", name.removeprefix("chr")):
        if candidate in contigs:
            return candidate
    nearest = difflib.get_close_matches(name, contigs, n=1, cutoff=0)
    raise UserError(
        f"{where}: contig {name!r} is not in the FASTA files, where the nearest name is {nearest[0]!r}; "
        f"correct the name or leave it out"
    )


def merge(intervals: Iterable[Interval], contigs: Contigs) -> list[Interval]:
    """Sort intervals (contigs in their order in `contigs`) and join those that touch or overlap."""
    order = {contig: number for number, contig in enumerate(contigs)}
    merged: list[Interval] = []
    for interval in sorted(intervals, key=lambda i: (order[i.contig], i.start, i.end)):
        last = merged[-1] if merged else None
        if last and last.contig == interval.contig and interval.start <= last.end:
            merged[-1] = last._replace(end=max(last.end, interval.end))
        else:
            merged.append(interval)
    return merged


def check_disjoint(splits: Mapping[str, Iterable[Interval]]) -> None:
    """Raise UserError if a base is in two splits, which would make the held-out score a lie."""
    regions = sorted((interval, split) for split, intervals in splits.items() for interval in intervals)
    for (before, split), (after, other) in pairwise(regions):
        if before.contig == after.contig and after.start < before.end:
            raise UserError(
                f"{split} interval {before} overlaps {other} interval {after}, and a base can be in one split only; "
                f"move or remove one of them"
            )


def _bed_row(where: str, line: str, contigs: Contigs) -> tuple[str, Interval]:
    columns = line.split()
    if len(columns) < 4 or not (columns[1].isdecimal() and columns[2].isdecimal()):
        raise UserError(f"{where}: {line.strip()!r} is not a row of contig, start, end and split; correct it")
    contig, start, end, split = find_contig(columns[0], contigs, where), int(columns[1]), int(columns[2]), columns[3]
    if split not in SPLITS:
        raise UserError(f"{where}: split {split!r} is not one of {', '.join(SPLITS)}; use one of these")
    if not start < end <= contigs[contig]:
        raise UserError(
            f"{where}: interval {start}-{end} is not inside contig {contig!r} of {contigs[contig]} bases; "
            f"keep 0 <= start < end <= {contigs[contig]}, or use the assembly that the file was made for"
        )
    return split, Interval(contig, start, end)
