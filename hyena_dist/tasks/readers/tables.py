"""Tables of labelled sequences, or of labelled intervals of a genome: CSV, TSV, Parquet and BED."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hyena_dist.config.task_data import TaskData
from hyena_dist.data.text.contigs import Contigs, read_contigs
from hyena_dist.data.text.table import read_table, suffix_of
from hyena_dist.errors import UserError
from hyena_dist.inference.sequences import NAMES, Interval, Sequences, encoded, of_intervals, read_bed, whole
from hyena_dist.tasks.readers.rows import Rows, distinct, splits_in
from hyena_dist.tracking.work_progress import Say

LABELS = ("label", "labels", "class", "target")
"""Columns of which the first that is there has the labels, where nobody names columns."""
_PLACES = {
    "contig": ("chrom", "chr", "contig", "#chrom", "seqname", "chromosome"),
    "start": ("start", "chromstart"),
    "end": ("end", "stop", "chromend"),
    "strand": ("strand",),
}
_SCORES = ("score",)
Columns = Mapping[str, list[Any]]
"""Values by the name of the column."""


def read_columns(path: Path) -> dict[str, list[Any]]:
    """Return a table by columns; of BED, whose lines have no names, contig, start, end, strand and the fourth as label.

    Raises:
        UserError: The file cannot be read, has no row, or a name twice in its first line.
    """
    suffix = suffix_of(path)
    if suffix == ".parquet":
        return _parquet(path)
    if suffix == ".bed":
        rows: list[list[Any]] = [[i.contig, i.start, i.end, "-" if i.turned else "+", i.name] for i in read_bed(path)]
        names = ["chrom", "start", "end", "strand", "label"]
    else:
        names, lines = read_table(path)
        rows = [*lines]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path} has two columns of the name {twice!r}; give each a name of its own")
    if not rows:
        raise UserError(f"{path} has no row of labelled sequences; give one for each sequence")
    return {name: list(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}


def read_labelled_table(path: Path, split: str | None, settings: TaskData, say: Say) -> Rows:
    """Return the rows of a table.

    Args:
        path: the file.
        split: the split of all, if it is known; otherwise the table may have a column that says it.
        settings: the names of columns, and the genome of intervals.
        say: receives lines of text for the user.

    Raises:
        UserError: A column is missing, a sequence is empty or has letters of no nucleotide, an interval is not in the
            genome, or there is no genome.
    """
    columns = read_columns(path)
    source = str(path)
    sequence = _find(columns, (settings.sequence,))
    places = {role: _find(columns, names) for role, names in _PLACES.items()}
    split_column = _find(columns, (settings.split,))
    name = _find(columns, NAMES)
    others = [sequence, *places.values(), split_column, name, *(_find(columns, (each,)) for each in _SCORES)]
    labels = _label_columns(source, columns, settings, [column for column in others if column])
    given = None if name is None else [str(value) for value in columns[name]]
    if sequence and settings.format != "intervals":
        texts = [str(value or "").strip() for value in columns[sequence]]
        sequences = whole(encoded(source, zip(_names(given, len(texts)), texts, strict=True)))
    elif all(places[role] for role in ("contig", "start", "end")):
        sequences = _of_genome(source, columns, places, given, settings, say)
    else:
        raise UserError(
            f"{source} has no column {settings.sequence!r} and no columns chrom, start and end, but "
            f"{_some(columns)}; name the column of sequences with task.data.sequence"
        )
    splits = [split] * len(sequences.names) if split else None
    if split_column and not split:
        splits = splits_in(source, map(str, columns[split_column]))
    return Rows(source, sequences, {column: columns[column] for column in labels}, splits)


def _of_genome(
    source: str,
    columns: Columns,
    places: Mapping[str, str | None],
    names: list[str] | None,
    settings: TaskData,
    say: Say,
) -> Sequences:
    """Return the sequences of intervals, and say where the genome has other names for its contigs."""
    if settings.genome is None:
        raise UserError(f"{source} has intervals; name the FASTA file that they are of with task.data.genome")
    genome = read_contigs(Path(settings.genome))
    contigs, starts, ends = (columns[str(places[role])] for role in ("contig", "start", "end"))
    strands = columns[places["strand"]] if places["strand"] else ["+"] * len(contigs)
    called = {str(contig): _name_in(genome, str(contig)) for contig in contigs}
    other = [f"{contig} is {name}" for contig, name in called.items() if contig != name]
    if other:
        more = f" and {len(other) - 3} others" if len(other) > 3 else ""
        say(f"{source}: contigs have other names in {settings.genome}: {', '.join(other[:3])}{more}")
    if names is None:
        turned = ("(-)" if strand == "-" else "" for strand in strands)
        names = [f"{c}:{s}-{e}{t}" for c, s, e, t in zip(contigs, starts, ends, turned, strict=True)]

    def intervals() -> Iterator[Interval]:
        for number, name in enumerate(distinct(names)):
            where = f"{source}, row {number + 1}"
            try:
                start, end = int(starts[number]), int(ends[number])
            except (TypeError, ValueError):
                raise UserError(
                    f"{where}: {starts[number]!r} to {ends[number]!r} is no interval; write whole numbers from 0 on"
                ) from None
            yield Interval(where, name, called[str(contigs[number])], start, end, strands[number] == "-")

    return of_intervals(source, genome, intervals())


def _name_in(genome: Contigs, contig: str) -> str:
    """Return the name of a contig in a genome, which may write chr20 for 20, 20 for chr20, or Human:chr20:1 for chr20.

    A name of which nobody can say which contig it means is returned as it is.
    """
    other = contig.removeprefix("chr") if contig.startswith("chr") else f"chr{contig}"
    for name in (contig, other):
        if name in genome.numbers:
            return name
    parts = [name for name in genome.numbers if contig in re.split(r"[:|]", name) or name.endswith(f".{contig}")]
    return parts[0] if len(parts) == 1 else contig


def _label_columns(source: str, columns: Columns, settings: TaskData, others: list[str]) -> list[str]:
    """Return the columns of labels: those that are named, that called label, or all of which nothing else is known."""
    if settings.labels:
        missing = next((label for label in settings.labels if label not in columns), None)
        if missing is not None:
            raise UserError(
                f"{source} has no column {missing!r}, but {_some(columns)}; name the labels by one of these"
            )
        return list(settings.labels)
    called = _find(columns, LABELS)
    rest = [called] if called else [column for column in columns if column and column not in others]
    if not rest:
        raise UserError(f"{source} has no column of labels, but {_some(columns)}; add a column `label`")
    return rest


def _find(columns: Columns, names: tuple[str, ...]) -> str | None:
    """Return the column of the first of some names, in whatever case."""
    lower = {column.lower(): column for column in columns}
    return next((lower[name.lower()] for name in names if name.lower() in lower), None)


def _names(given: list[str] | None, count: int) -> list[str]:
    return [str(i) for i in range(count)] if given is None else distinct(given)


def _some(columns: Columns) -> str:
    names = list(columns)
    return ", ".join(names[:8]) + (f" and {len(names) - 8} others" if len(names) > 8 else "")


def _parquet(path: Path) -> dict[str, list[Any]]:
    import pyarrow.lib
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.lib.ArrowException) as error:
        raise UserError(f"{path} is no Parquet file that can be read ({error}); write it again") from error
    if not table.num_rows:
        raise UserError(f"{path} has no row of labelled sequences; give one for each sequence")
    return {name: table[name].to_pylist() for name in table.column_names}
