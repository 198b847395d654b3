"""The sequences that people have: FASTA, intervals in BED, tables, or texts of Python; all with random access."""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.text.contigs import Contigs, collect, read_contigs
from hyena_dist.data.text.files import read_lines
from hyena_dist.data.text.table import DELIMITERS, read_table, suffix_of
from hyena_dist.data.tokenizer import Tokens, encode, reverse_complement
from hyena_dist.errors import UserError

NAMES = ("name", "id")
"""Columns that may have the names of sequences, the first that is there."""


class Sequences(NamedTuple):
    """Named sequences with random access."""

    names: list[str]
    lengths: NDArray[np.int64]
    """Tokens of each of N sequences, [N]."""
    tokens: Callable[[int], Tokens]
    """Returns a sequence by its number, uint8 [L]."""
    fingerprint: str
    """A hash of names and tokens."""


Source = Sequences | str | Path | Mapping[str, str] | Iterable[str]
"""Sequences, a FASTA, BED, CSV or TSV file, texts by their names, or texts alone."""


def as_sequences(source: Source, genome: str | Path | None = None) -> Sequences:
    """Return sequences as they are, or those of a file, of a dict from names to text, or of texts (named by number).

    Files are told by their suffix, before .gz or .bgz: .bed is BED (needs `genome`), .csv and .tsv are tables with a
    column `sequence` and perhaps `name` or `id`, everything else is FASTA.

    Raises:
        UserError: The file cannot be read, there is no sequence, an empty one, a name that comes twice, a letter that
            is no nucleotide, or an interval that the genome does not have.
    """
    if isinstance(source, Sequences):
        return source
    if not isinstance(source, str | Path):
        texts = source.items() if isinstance(source, Mapping) else ((str(i), text) for i, text in enumerate(source))
        return whole(encoded("the given sequences", texts))
    path = Path(source)
    if not path.exists():
        raise UserError(f"there is no file {path}; check the path")
    kind = suffix_of(path)
    if genome is not None and kind != ".bed":
        raise UserError(f"a genome is for the intervals of a BED file, and {path} has sequences; leave --genome out")
    if kind == ".bed":
        if genome is None:
            raise UserError(f"{path} has intervals; name the FASTA file that they are of with --genome")
        return of_intervals(str(path), read_contigs(Path(genome)), read_bed(path))
    if kind in DELIMITERS:
        return whole(encoded(str(path), _table(path)))
    return whole(read_contigs(path))


def whole(contigs: Contigs) -> Sequences:
    """Return the sequences of a file as they are."""
    return Sequences(contigs.names, contigs.lengths, contigs.tokens, contigs.fingerprint)


def encoded(source: str, texts: Iterable[tuple[str, str]]) -> Contigs:
    """Return texts given by their names as tokens.

    Raises:
        UserError: a letter that is no nucleotide, or what `collect` refuses.
    """

    def tokens(name: str, text: str) -> Tokens:
        try:
            return encode(text)
        except UserError as error:
            raise UserError(f"sequence {name!r} of {source}: {error}") from error

    return collect(source, ((name, (tokens(name, text),)) for name, text in texts))


def _table(path: Path) -> Iterator[tuple[str, str]]:
    """Yield name and sequence of each row; rows without a name have their number, from 0 on."""
    columns, rows = read_table(path)
    header = [column.lower() for column in columns]
    if "sequence" not in header:
        found = ", ".join(header[:8]) or "nothing"
        raise UserError(f"{path} has no column 'sequence' in its first line, which has {found}; name the columns there")
    at = header.index("sequence")
    name_at = next((header.index(name) for name in NAMES if name in header), None)
    for number, row in enumerate(rows):
        yield str(number) if name_at is None else row[name_at], row[at].strip()


class Interval(NamedTuple):
    """A place in a genome, as a file has it."""

    where: str
    """The line of the file, for errors."""
    name: str | None
    """The name that the file gives, or None."""
    contig: str
    start: int
    """The first base, counted from 0."""
    end: int
    """The base after the last."""
    turned: bool
    """Whether it is read from the minus strand."""


def read_bed(path: Path) -> Iterator[Interval]:
    """Yield the intervals of a BED file of three to six columns or more.

    Raises:
        UserError: The file cannot be read, or a line has no contig, start and end.
    """
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip() or line.startswith(("#", "track", "browser")):
            continue
        columns = line.split("\t") if "\t" in line else line.split()
        try:
            contig, start, end = columns[0], int(columns[1]), int(columns[2])
        except (IndexError, ValueError):
            raise UserError(
                f"{path}, line {number}: {line[:60]!r} has no contig, start and end; BED has them in three columns"
            ) from None
        given = columns[3] if len(columns) > 3 and columns[3] not in ("", ".") else None
        turned = len(columns) > 5 and columns[5] == "-"
        yield Interval(f"{path}, line {number}", given, contig, start, end, turned)


def of_intervals(source: str, genome: Contigs, places: Iterable[Interval]) -> Sequences:
    """Return the sequences of intervals; those without a name are called contig:start-end, (-) after a turned one.

    Args:
        source: where the intervals come from, for errors.
        genome: what they are intervals of.
        places: the intervals.

    Raises:
        UserError: There is none, a name comes twice, or an interval is not inside a contig of the genome.
    """
    found: dict[str, tuple[int, int, int, bool]] = {}
    lengths = genome.lengths
    for where, given, contig, start, end, turned in places:
        of = genome.number_of(contig)
        if not 0 <= start < end <= lengths[of]:
            raise UserError(
                f"{where}: {contig}:{start}-{end} is not inside {contig!r} of {genome.source}, which has "
                f"{lengths[of]:,} bases; intervals are half-open and count from 0"
            )
        name = given or f"{contig}:{start}-{end}" + ("(-)" if turned else "")
        if name in found:
            raise UserError(f"{where}: {name!r} comes twice; give each interval a name of its own")
        found[name] = (of, start, end, turned)
    if not found:
        raise UserError(f"{source} has no interval; give one at least")
    intervals = list(found.values())

    def tokens(number: int) -> Tokens:
        contig, start, end, turned = intervals[number]
        within = genome.tokens(contig)[start:end]
        return reverse_complement(within) if turned else within

    about = io.StringIO()
    about.write(genome.fingerprint)
    for name, interval in found.items():
        about.write(f"{name}\0{interval}\0")
    fingerprint = hashlib.sha256(about.getvalue().encode()).hexdigest()
    return Sequences(
        list(found), np.array([end - start for _, start, end, _ in intervals], np.int64), tokens, fingerprint
    )
