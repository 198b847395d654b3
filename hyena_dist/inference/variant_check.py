"""The check of variants before the work: they are of this genome, so many, and have this hash."""

import hashlib
import re
from collections import Counter
from typing import NamedTuple

import numpy as np

from hyena_dist.data.text.contigs import Contigs
from hyena_dist.data.tokenizer import decode, encode
from hyena_dist.errors import UserError
from hyena_dist.inference.variant_windows import WindowShape, why_not
from hyena_dist.inference.vcf import BYTES, Record, Variants

REF_MISMATCH = ("refuse", "skip")
_OTHER_ASSEMBLY = 0.2
"""The share of records with another REF from which on the genome is another; of random bases, it is 0.75."""
_FEW = 5
"""Mismatches up to which nothing can be said of the whole."""


class Survey(NamedTuple):
    """The findings of a pass over all records."""

    records: int
    alternatives: int
    sizes: list[int]
    """Alternatives and references of each block of records."""
    fingerprint: str
    """A hash of header and records."""
    is_sorted: bool
    """Whether records can be indexed: each contig in one piece, by position."""


def survey(variants: Variants, genome: Contigs, ref_mismatch: str, block: int) -> Survey:
    """Read all records once, and compare every REF with the genome.

    Args:
        variants: the records.
        genome: what they are of.
        ref_mismatch: `refuse`, or `skip` to pass over records whose REF is not the genome's.
        block: records of a block.

    Raises:
        UserError: there is no record, one that is no record or of no contig of the genome, another REF, or a genome of
            another assembly.
    """
    digest = hashlib.sha256("\n".join(variants.header).encode("utf-8", BYTES))
    sizes: list[int] = []
    alternatives = wrong = 0
    first: Record | None = None
    last = ("", 0)
    finished: set[str] = set()
    is_sorted = True
    lengths = _header_lengths(variants)
    number = -1
    for number, record in enumerate(variants.records()):
        digest.update(b"\n" + record.text.encode("utf-8", BYTES))
        if number % block == 0:
            sizes.append(0)
        sizes[-1] += len(record.alts) + 1
        alternatives += len(record.alts)
        if record.chrom != last[0]:
            _check_contig(variants, record, genome, lengths)
            finished.add(last[0])
            is_sorted = is_sorted and record.chrom not in finished
        elif record.position < last[1]:
            is_sorted = False
        last = record.chrom, record.position
        if not ref_agrees(record, genome):
            wrong += 1
            first = first or record
    if number < 0:
        raise UserError(f"{variants.source} has no records; give one at least")
    if first is not None:
        _refuse(variants, genome, first, wrong, number + 1, ref_mismatch)
    return Survey(number + 1, alternatives, sizes, digest.hexdigest(), is_sorted)


def ref_agrees(record: Record, genome: Contigs) -> bool:
    """Return whether REF is what the genome has there; ambiguity codes are N in both."""
    there = genome.tokens(genome.number_of(record.chrom))[max(0, record.position) : record.position + len(record.ref)]
    return record.position >= 0 and bool(np.array_equal(there, encode(record.ref)))


def reasons(record: Record, genome: Contigs, scored: set[int]) -> list[str]:
    """Return for each alternative why it is not among those that were scored; "" for these.

    Args:
        record: the variant.
        genome: what it is of.
        scored: numbers of the alternatives that have windows.
    """
    if not ref_agrees(record, genome):
        return ["reference_mismatch"] * len(record.alts)
    return ["" if number in scored else why_not(record, alt) or "no_window" for number, alt in enumerate(record.alts)]


def describe(counts: Counter[str], shape: WindowShape) -> str:
    """Return the sentence that says how many alternatives were scored and why the others were not."""
    skipped = ", ".join(f"{count:,} {why}" for why, count in sorted(counts.items()) if why)
    return f"scored {counts['']:,} of {counts.total():,} alternatives in windows of {shape.length:,} bases" + (
        f"; not scored: {skipped}" if skipped else ""
    )


def _header_lengths(variants: Variants) -> dict[str, int]:
    """Return the lengths of contigs by name, of those that the header gives."""
    lines = (line for line in variants.header if line.startswith("##contig=<"))
    found = ((re.search(r"[<,]ID=([^,>]+)", line), re.search(r"[<,]length=(\d+)", line)) for line in lines)
    return {name[1]: int(length[1]) for name, length in found if name and length}


def _check_contig(variants: Variants, record: Record, genome: Contigs, lengths: dict[str, int]) -> None:
    where = f"{variants.source}, line {record.line}"
    try:
        number = genome.number_of(record.chrom)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    has = int(genome.lengths[number])
    said = lengths.get(record.chrom, has)
    if said != has:
        raise UserError(
            f"{variants.source} is of another assembly than {genome.source}: its {record.chrom!r} has {said:,} bases, "
            f"as its header says, and the genome's {has:,}; give the FASTA that the variants were called on"
        )


def _refuse(variants: Variants, genome: Contigs, first: Record, wrong: int, records: int, ref_mismatch: str) -> None:
    where = f"{variants.source}, line {first.line}"
    contig = genome.tokens(genome.number_of(first.chrom))
    if not 0 <= first.position < len(contig):
        what = f"{first.place} is not inside {first.chrom!r} of {genome.source}, which has {len(contig):,} bases"
    else:
        there = decode(contig[first.position : first.position + len(first.ref)])
        what = f"REF {first.ref[:20]!r} at {first.place} is {there[:20]!r} in {genome.source}"
    if wrong > _FEW and wrong > _OTHER_ASSEMBLY * records:
        raise UserError(
            f"{variants.source} is of another assembly than {genome.source}: {wrong:,} of {records:,} records have "
            f"another REF, the first in line {first.line}; give the FASTA that the variants were called on"
        )
    if ref_mismatch == "refuse":
        others = f" (so are {wrong:,} of {records:,} records)" if wrong > 1 else ""
        raise UserError(f"{where}: {what}{others}; mend it, or pass over such with --ref-mismatch skip")
