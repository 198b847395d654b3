"""The division of a genome into training, validation and test: by BED files, by contig, or by blocks of each contig.

Each way gives intervals, the units that training samples; the regions of a split are its intervals, merged.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from data_prep.inputs import parse_labelled
from hyena_dist.data.store.contigs import Contigs
from hyena_dist.data.store.manifest import SPLITS, Interval
from hyena_dist.data.store.ranges import Ranges, Regions
from hyena_dist.data.text.files import describe_file, read_text
from hyena_dist.errors import UserError

_COMPARED = 10_000
"""How many names are looked through for the one nearest to a wrong name."""

Splits = dict[str, Regions]
"""Intervals or regions of "train", "valid" and "test"."""


class SplitPlan(Protocol):
    """A way to split a genome."""

    def describe(self) -> dict[str, Any]:
        """Return the plan as JSON; two plans that are equal here split a genome in the same way."""

    def intervals(self, contigs: Contigs, length: int) -> Splits:
        """Return the intervals of each split, half-open, inside the contigs.

        Args:
            contigs: the contigs to split.
            length: bases in an interval, where the plan has none of its own.

        Raises:
            UserError: The plan does not fit these contigs.
        """


@dataclass(frozen=True)
class BlockSplits:
    """A plan in which each contig's first part trains, its next part validates, and its last part tests.

    Attributes:
        fractions: share of a contig that is for train, valid and, if given, test; the shares add up to 1.

    Raises:
        UserError: The fractions are no such shares.
    """

    fractions: tuple[float, ...] = (0.9, 0.05, 0.05)

    def __post_init__(self) -> None:
        text = ",".join(f"{fraction:g}" for fraction in self.fractions)
        if len(self.fractions) not in (2, 3) or min(self.fractions) < 0:
            raise UserError(f"split fractions {text} are not two or three shares from 0 to 1; try 0.9,0.05,0.05")
        # This form, unlike `sum > 1e-6`, refuses nan too.
        if not abs(sum(self.fractions) - 1) < 1e-6:
            raise UserError(
                f"split fractions {text} add up to {sum(self.fractions):g}, and every base needs exactly one split; "
                f"make them add up to 1, such as 0.9,0.05,0.05"
            )

    def describe(self) -> dict[str, Any]:  # noqa: D102
        return {"by": "blocks", "fractions": list(self.fractions)}

    def intervals(self, contigs: Contigs, length: int) -> Splits:  # noqa: D102
        start = contigs.offset[:-1]
        intervals = dict.fromkeys(SPLITS, Ranges.none())
        at = start
        share = 0.0
        for split, fraction in zip(SPLITS, self.fractions, strict=False):
            share += fraction
            end = start + np.minimum(contigs.lengths, np.rint(contigs.lengths * share).astype(np.int64))
            intervals[split] = Ranges(at, end)
            at = end
        return _cut(contigs, intervals, length)


@dataclass(frozen=True)
class ContigSplits:
    """A plan in which named contigs validate or test, and all others train.

    Attributes:
        valid: names of the contigs that validate; a missing or extra leading "chr" is accepted.
        test: names of the contigs that test, in the same forms.
    """

    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:  # noqa: D102
        return {"by": "contigs", "valid": sorted(set(self.valid)), "test": sorted(set(self.test))}

    def intervals(self, contigs: Contigs, length: int) -> Splits:  # noqa: D102
        valid = {find_contig(name, contigs, "--valid-contigs") for name in self.valid}
        test = {find_contig(name, contigs, "--test-contigs") for name in self.test}
        both = sorted(valid & test)
        if both:
            raise UserError(f"contig {both[0]!r} is in --valid-contigs and in --test-contigs; name it in one of them")
        split = np.zeros(len(contigs), np.int64)
        for number, names in enumerate((valid, test), start=1):
            split[np.array([contigs.number[name] for name in names], np.int64)] = number
        whole = Ranges(contigs.offset[:-1], contigs.offset[1:])
        each = {name: Ranges(*(edge[split == i] for edge in whole)) for i, name in enumerate(SPLITS)}
        return _cut(contigs, each, length)


class _Row(NamedTuple):
    """A row of a BED file."""

    where: str
    """The file and the line, for errors."""
    species: str | None
    """Species that the file is labelled with."""
    contig: str
    """Name of the contig, as the file has it."""
    start: int
    """First position of the row's range."""
    end: int
    """Position after the last."""
    split: str
    """The split that the row is for: "train", "valid" or "test"."""


class BedSplits:
    """A plan that takes the intervals from BED files with Basenji's four columns: contig, start, end, split.

    Args:
        files: paths, or "species=path" for a file that names contigs without their species.
    """

    def __init__(self, *files: str | Path) -> None:
        self.files = tuple(parse_labelled(file) for file in files)

    def describe(self) -> dict[str, Any]:
        """Return the plan as JSON, for which the files are read, so that a bad one is noticed before long work.

        Raises:
            UserError: A file cannot be read or is not such a table.
        """
        described = [{"species": species, "sha256": describe_file(path)["sha256"]} for species, path in self.files]
        return {"by": "bed", "files": described, "rows": len(self._rows)}

    def intervals(self, contigs: Contigs, length: int) -> Splits:
        """Return the rows of each split in their order; `length` is not used.

        Raises:
            UserError: A row names an unknown contig, or leaves its contig.
        """
        intervals: dict[str, list[Interval]] = {split: [] for split in SPLITS}
        for row in self._rows:
            contig = find_contig(row.contig, contigs, row.where, row.species)
            if row.end > contigs[contig]:
                raise UserError(
                    f"{row.where}: interval {row.start}-{row.end} is not inside contig {contig!r} of {contigs[contig]} "
                    f"bases; keep 0 <= start < end <= {contigs[contig]}, or use the assembly that the file was made for"
                )
            intervals[row.split].append(Interval(contig, row.start, row.end))
        return {split: Regions.of(contigs, rows) for split, rows in intervals.items()}

    @cached_property
    def _rows(self) -> list[_Row]:
        """Rows of all files, read once."""
        return [row for species, path in self.files for row in _read_bed(path, species)]


def assign(plan: SplitPlan, contigs: Contigs, length: int) -> tuple[Splits, Splits]:
    """Split a genome.

    Args:
        plan: how to split.
        contigs: the contigs to split.
        length: bases in an interval, where the plan has none of its own.

    Returns:
        The regions of each split (sorted, merged where they touch or overlap, disjoint), and its intervals.

    Raises:
        UserError: The plan does not fit these contigs, or two splits overlap.
    """
    intervals = plan.intervals(contigs, length)
    splits = {split: rows.merged() for split, rows in intervals.items()}
    check_disjoint(splits)
    return splits, intervals


def _cut(contigs: Contigs, each: dict[str, Ranges], length: int) -> Splits:
    """Cut the ranges of each split, of which some may be empty, into intervals of `length` bases."""
    return {split: Regions(contigs, ranges.cut(length)) for split, ranges in each.items()}


def find_contig(name: str, contigs: Mapping[str, int], where: str, species: str | None = None) -> str:
    """Return the contig that `name` means: the one of that name, or the one that differs only by a leading "chr".

    Args:
        name: the name as the user wrote it.
        contigs: the contigs that exist.
        where: place in the input that has the name, for the error.
        species: species of the contig if `name` may lack it, None otherwise.

    Raises:
        UserError: There is no such contig.
    """
    full = f"{species}.{name}" if species and not name.startswith(f"{species}.") else name
    head, dot, tail = full.partition(".")
    without_species = _with_and_without_chr(full)
    with_species = [head + dot + each for each in _with_and_without_chr(tail)]
    for candidate in (full, *without_species, *with_species):
        if candidate in contigs:
            return candidate
    nearest = difflib.get_close_matches(name, islice(contigs, _COMPARED), n=1, cutoff=0)
    raise UserError(
        f"{where}: contig {name!r} is not in the FASTA files, where the nearest name is {nearest[0]!r}; "
        f"correct the name or leave it out"
    )


def check_disjoint(splits: Mapping[str, Regions]) -> None:
    """Raise UserError if a base is in two splits, which would make the held-out score a lie."""
    names = list(splits)
    regions = Ranges.joined(each.ranges for each in splits.values())
    split = np.repeat(np.arange(len(names)), [len(each) for each in splits.values()])
    order = np.argsort(regions.start, kind="stable")
    overlaps = np.flatnonzero(regions.start[order][1:] < regions.end[order][:-1])
    if overlaps.size:
        before, after = order[overlaps[0]], order[overlaps[0] + 1]
        first, second = Regions(splits["train"].contigs, Ranges(*(edge[[before, after]] for edge in regions)))
        raise UserError(
            f"{names[split[before]]} interval {first} overlaps {names[split[after]]} interval {second}, and a base can "
            f"be in one split only; move or remove one of them"
        )


def _with_and_without_chr(name: str) -> tuple[str, str]:
    """Return a name with "chr" put before it, and without the "chr" that it begins with."""
    return f"chr{name}", name.removeprefix("chr")


def _read_bed(path: Path, species: str | None) -> Iterator[_Row]:
    """Yield the rows of a BED file, without comments and track lines."""
    lines = b"".join(read_text(path)).decode("utf-8", "replace").splitlines()
    is_empty = True
    for number, line in enumerate(lines, start=1):
        columns = line.split()
        is_row = len(columns) >= 4 and columns[1].isdecimal() and columns[2].isdecimal()
        # A contig may be called "track" as well, or by a name that begins so.
        if not columns or line.startswith("#") or (columns[0] in ("track", "browser") and not is_row):
            continue
        is_empty = False
        where = f"{path} line {number}"
        if not is_row:
            raise UserError(f"{where}: {line.strip()!r} is not a row of contig, start, end and split; correct it")
        contig, split = columns[0], columns[3]
        start, end = int(columns[1]), int(columns[2])
        if split not in SPLITS:
            raise UserError(f"{where}: split {split!r} is not one of {', '.join(SPLITS)}; use one of these")
        if start >= end:
            raise UserError(f"{where}: interval {start}-{end} has no base; write start before end")
        yield _Row(where, species, contig, start, end, split)
    if is_empty:
        raise UserError(f"{path} has no intervals; write rows of contig, start, end and split")
