"""The sequences that people have: FASTA, intervals in BED, tables, or texts of Python; all with random access."""

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.text.contigs import Contigs, collect, read_contigs
from hyena_dist.data.text.files import read_lines
from hyena_dist.data.tokenizer import Tokens, encode, reverse_complement
from hyena_dist.errors import UserError

_TABLES = {".csv": ",", ".tsv": "\t"}
_NAMES = ("name", "id")
_LONGEST_FIELD = 2**31 - 1  # what the csv module can take


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
        return _whole(encoded("the given sequences", texts))
    path = Path(source)
    if not path.exists():
        raise UserError(f"there is no file {path}; check the path")
    kind = _kind(path)
    if genome is not None and kind != ".bed":
        raise UserError(f"a genome is for the intervals of a BED file, and {path} has sequences; leave --genome out")
    if kind == ".bed":
        if genome is None:
            raise UserError(f"{path} has intervals; name the FASTA file that they are of with --genome")
        return _intervals(path, read_contigs(Path(genome)))
    if kind in _TABLES:
        return _whole(encoded(str(path), _table(path, _TABLES[kind])))
    return _whole(read_contigs(path))


def _kind(path: Path) -> str:
    """Return the suffix of a file in lower case, that before .gz or .bgz if it has one of these."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in (".gz", ".bgz"):
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _whole(contigs: Contigs) -> Sequences:
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


def _table(path: Path, delimiter: str) -> Iterator[tuple[str, str]]:
    """Yield name and sequence of each row; rows without a name have their number, from 0 on."""
    csv.field_size_limit(_LONGEST_FIELD)
    rows = csv.reader(read_lines(path), delimiter=delimiter)
    header = [column.strip().lower() for column in next(rows, [])]
    if "sequence" not in header:
        found = ", ".join(header[:8]) or "nothing"
        raise UserError(f"{path} has no column 'sequence' in its first line, which has {found}; name the columns there")
    at = header.index("sequence")
    name_at = next((header.index(name) for name in _NAMES if name in header), None)
    for number, row in enumerate(filter(None, rows)):
        if len(row) != len(header):
            raise UserError(
                f"{path}, row {number + 1}: {len(row)} columns where the first line has {len(header)}; mend the row"
            )
        yield str(number) if name_at is None else row[name_at], row[at].strip()


class _Interval(NamedTuple):
    contig: int
    start: int
    end: int
    turned: bool


def _intervals(path: Path, genome: Contigs) -> Sequences:
    """Return the intervals of a BED file: three to six columns or more, those on the minus strand turned."""
    found: dict[str, _Interval] = {}
    lengths = genome.lengths
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
        of = genome.number_of(contig)
        if not 0 <= start < end <= lengths[of]:
            raise UserError(
                f"{path}, line {number}: {contig}:{start}-{end} is not inside {contig!r} of {genome.source}, which has "
                f"{lengths[of]:,} bases; intervals are half-open and count from 0"
            )
        turned = len(columns) > 5 and columns[5] == "-"
        given = columns[3] if len(columns) > 3 and columns[3] not in ("", ".") else None
        name = given or f"{contig}:{start}-{end}" + ("(-)" if turned else "")
        if name in found:
            raise UserError(f"{path}, line {number}: {name!r} comes twice; give each interval a name of its own")
        found[name] = _Interval(of, start, end, turned)
    if not found:
        raise UserError(f"{path} has no interval; give one at least")
    intervals = list(found.values())

    def tokens(number: int) -> Tokens:
        interval = intervals[number]
        within = genome.tokens(interval.contig)[interval.start : interval.end]
        return reverse_complement(within) if interval.turned else within

    about = io.StringIO()
    about.write(genome.fingerprint)
    for name, interval in found.items():
        about.write(f"{name}\0{interval}\0")
    fingerprint = hashlib.sha256(about.getvalue().encode()).hexdigest()
    return Sequences(list(found), np.array([i.end - i.start for i in intervals], np.int64), tokens, fingerprint)
