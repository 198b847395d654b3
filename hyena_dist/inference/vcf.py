"""Variants as people have them: a VCF file, or tuples of Python; read as text, so that nothing of a record is lost."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pysam

from hyena_dist.data.text.files import read_lines
from hyena_dist.errors import UserError

COLUMNS = 8
"""Columns that every record has: CHROM, POS, ID, REF, ALT, QUAL, FILTER, INFO."""
BYTES = "surrogateescape"
"""How bytes that are not UTF-8 come through reading and writing unchanged."""
_LETTERS = frozenset("ACGTUNRYSWKMBDHVacgtunryswkmbdhv")

VariantSource = str | Path | Iterable[tuple[str, int, str, str]]
"""A VCF file, or variants as (contig, position from 1, REF, ALT), where ALT may be several with commas between."""


class Record(NamedTuple):
    """A record of a VCF file."""

    line: int
    """The number of its line in the file, from 1; of records that an index found, their number."""
    chrom: str
    position: int
    """Position of the first base of `ref`, from 0."""
    name: str
    ref: str
    alts: tuple[str, ...]
    """The alternatives as written; "." if the record says that there is none."""
    text: str
    """The line itself."""

    @property
    def place(self) -> str:
        """Return the record's place as people write it, with positions from 1."""
        return f"{self.chrom}:{self.position + 1:,}"


class Variants(NamedTuple):
    """Records in the order of their source, which may be read any number of times."""

    source: str
    """Where they come from, for errors."""
    header: list[str]
    """The lines that begin with #, the last of which names the columns."""
    lines: Callable[[], Iterator[tuple[int, str]]]
    """Returns an iterator over the other lines with their numbers."""

    def records(self) -> Iterator[Record]:
        """Yield the records.

        Raises:
            UserError: a line that is no record.
        """
        for number, line in self.lines():
            yield _record(self.source, number, line)


def as_variants(source: VariantSource, region: str | None = None) -> Variants:
    """Return the variants of a VCF file, plain, gzip or bgzip, or those given.

    Args:
        source: the file, or tuples.
        region: contig:start-end, from 1, both ends included; an indexed file's records that touch it, and no others.

    Raises:
        UserError: the file cannot be read or is no VCF, or there is no index or no such region.
    """
    if not isinstance(source, str | Path):
        given = [f"{chrom}\t{position}\t.\t{ref}\t{alt}\t.\t.\t." for chrom, position, ref, alt in source]
        header = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
        return Variants("the given variants", header, lambda: enumerate(given, 1))
    path = Path(source)
    if not path.exists():
        raise UserError(f"there is no file {path}; check the path")
    header = []
    for line in read_lines(path, BYTES):
        if not line.startswith("#"):
            break
        header.append(line)
    if not header or not header[0].startswith("##fileformat=VCF") or not header[-1].startswith("#CHROM\tPOS\tID\tREF"):
        raise UserError(
            f"{path} is no VCF file, which begins with ##fileformat=VCF and has a line of columns, #CHROM and so on; "
            f"convert others first, as by `bcftools view`"
        )
    if region is not None:
        return Variants(f"{path} ({region})", header, lambda: enumerate(_in_region(path, region), 1))

    def numbered() -> Iterator[tuple[int, str]]:
        return ((n, line) for n, line in enumerate(read_lines(path, BYTES), 1) if line and not line.startswith("#"))

    return Variants(str(path), header, numbered)


def _in_region(path: Path, region: str) -> Iterator[str]:
    try:
        with pysam.TabixFile(str(path), encoding="utf-8") as file:
            yield from file.fetch(region=region)
    except OSError as error:
        raise UserError(
            f"{path} has no index beside it, which a region needs; make one by `tabix -p vcf` after bgzip"
        ) from error
    except ValueError as error:
        raise UserError(f"{path} has nothing at {region!r} ({error}); write contig:start-end") from error


def _record(source: str, number: int, line: str) -> Record:
    columns = line.split("\t", COLUMNS)
    if len(columns) < COLUMNS:
        raise UserError(
            f"{source}, line {number}: {len(columns)} columns where VCF has {COLUMNS} or more, with tabs between; "
            f"mend the line"
        )
    chrom, position, name, ref, alts = columns[:5]
    if not position.isdecimal():
        raise UserError(f"{source}, line {number}: POS {position!r} is no whole number; mend the line")
    if not ref or not _LETTERS.issuperset(ref):
        raise UserError(f"{source}, line {number}: REF {ref[:40]!r} is no sequence of bases; mend the line")
    return Record(number, chrom, int(position) - 1, name, ref, tuple(alts.split(",")), line)
