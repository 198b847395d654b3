"""The numbers of a store, for `data stats`: contigs, species, splits and k-mers, as tables and CSV files."""

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.kmers import KmerTable, both_strands, count_kmers, kmer_names
from hyena_dist.data.store import GenomeStore
from hyena_dist.errors import UserError
from hyena_dist.system.urls import check_local
from hyena_dist.tracking.work_progress import Say, WorkProgress

COLUMNS = (
    "kind",
    "name",
    "species",
    "bases",
    *"ACGTN",
    "gc",
    "n_share",
    "soft_masked_share",
    "share",
    "regions",
    "intervals",
    "median_interval",
)
"""Columns of the table of `store_stats`."""
_SHOWN_CONTIGS = 40
"""Number of contigs that the screen shows; the CSV file has all."""
_SHOWN_KMERS = 10
"""Number of the most frequent k-mers, and of the least frequent ones, that the screen shows."""
_PICTURES = (".png", ".pdf", ".svg")


def print_stats(
    path: str | Path, csv_file: Path | None = None, kmers: int | None = None, plot: Path | None = None, say: Say = print
) -> None:
    """Show a store's statistics as tables, and write them to the files that are named.

    Args:
        path: folder of a store, or of its shards.
        csv_file: CSV file for the rows of `store_stats`; the k-mer table goes beside it, to <stem>.kmers.csv.
        kmers: length of the k-mers to count as well; None counts none.
        plot: file for a picture along the contigs (.png, .pdf or .svg); its numbers go beside it, to
            <stem>.windows.csv.
        say: receives lines of text for the user.

    Raises:
        UserError: There is no store at `path`, `kmers` is out of range, or a file cannot be written.
    """
    store = GenomeStore.open(path)
    _check_outputs(csv_file, plot)  # before the long work
    print_table(COLUMNS, _shown_rows(store), say)
    if csv_file:
        rows = chain(_contig_rows(store, np.arange(len(store.contigs))), _other_rows(store))
        write_csv(csv_file, COLUMNS, ([row[column] for column in COLUMNS] for row in rows))
    bases = int(store.contigs.offset[-1])
    if kmers is not None:
        with WorkProgress(f"counting {kmers}-mers", bases) as progress:
            table = count_kmers(store, kmers, progress.advance)
        _print_kmers(table, say)
        if csv_file:
            _write_kmers(csv_file.with_suffix(".kmers.csv"), table)
    if plot:
        from data_prep.stats_plot import draw
        from data_prep.tracks import WINDOW_COLUMNS, read_tracks, window_rows

        with WorkProgress("counting windows", bases) as progress:
            tracks = read_tracks(store, progress.advance)
        write_csv(plot.with_suffix(".windows.csv"), WINDOW_COLUMNS, window_rows(tracks))
        try:
            draw(store, tracks, plot)
        except OSError as error:
            raise _unwritable(plot, error.strerror or str(error)) from error
        say(f"drawn {plot}")


def store_stats(store: GenomeStore) -> list[dict[str, Any]]:
    """Count what a store holds.

    Returns:
        A row with the keys of COLUMNS for each contig, each species, the total, each split of the genome, and each
        split of each species. `gc` is (G + C) / (A + C + G + T); `n_share` and `soft_masked_share` are shares of the
        row's bases, and `share` is the row's share of the genome. Only splits have `regions` (how many there are,
        merged), `intervals` (how many there are, as they are sampled) and `median_interval` (in bases). What a row
        lacks, or what would be 0 / 0, is "".
    """
    return [*_contig_rows(store, np.arange(len(store.contigs))), *_other_rows(store)]


def _other_rows(store: GenomeStore) -> list[dict[str, Any]]:
    """Return the rows that are not of single contigs."""
    contigs = store.contigs
    rows = [
        _sequence_row(store, "species", name, name, np.flatnonzero(contigs.species == number))
        for number, name in enumerate(store.species)
    ]
    rows.append(_sequence_row(store, "total", "", "", np.arange(len(contigs))))
    for species in ("", *store.species):
        rows += [_split_row(store, split, species) for split in store.splits]
    return rows


def _contig_rows(store: GenomeStore, numbers: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    """Yield the rows of contigs with these numbers, ascending."""
    contigs = store.contigs
    genome = int(contigs.offset[-1])
    columns = (contigs.species, contigs.lengths, contigs.composition, contigs.soft_masked)
    some = contigs if numbers.size == len(contigs) else map(contigs.name, numbers.tolist())
    for name, species, *counted in zip(some, *(column[numbers].tolist() for column in columns), strict=True):
        yield _row("contig", name, store.species[species] if species >= 0 else "", genome, *counted)


def write_csv(file: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table to a CSV file.

    Raises:
        UserError: The file cannot be written.
    """
    try:
        with file.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([columns, *rows])
    except OSError as error:
        raise _unwritable(file, error.strerror or str(error)) from error


def _check_outputs(csv_file: Path | None, plot: Path | None) -> None:
    """Raise UserError if a file to write has no folder, or a picture has an unknown ending."""
    if plot and plot.suffix not in _PICTURES:
        raise UserError(f"{plot} is not the name of a picture; end it in {', '.join(_PICTURES)}")
    for file in (csv_file, plot):
        if file:
            check_local(file)
        if file and not file.parent.is_dir():
            raise _unwritable(file, f"there is no folder {file.parent}")


def _unwritable(file: Path, reason: str) -> UserError:
    """Return the error for a file that cannot be written."""
    return UserError(f"{file} cannot be written ({reason}); choose another path")


def _sequence_row(store: GenomeStore, kind: str, name: str, species: str, numbers: NDArray[np.int64]) -> dict[str, Any]:
    """Return the row of some contigs together, by their numbers."""
    contigs = store.contigs
    return _row(
        kind,
        name,
        species,
        int(contigs.offset[-1]),
        int(contigs.lengths[numbers].sum()),
        contigs.composition[numbers].sum(axis=0).tolist(),
        int(contigs.soft_masked[numbers].sum()),
    )


def _row(
    kind: str, name: str, species: str, genome: int, bases: int, counts: list[int], soft_masked: int
) -> dict[str, Any]:
    """Return the row of a sequence of so many bases, and of so many of A, C, G, T and N."""
    composition = dict(zip("ACGTN", counts, strict=True))
    known = bases - composition["N"]
    row = {
        "kind": kind,
        "name": name,
        "species": species,
        "bases": bases,
        **composition,
        "gc": (composition["G"] + composition["C"]) / known if known else "",
        "n_share": composition["N"] / bases,
        "soft_masked_share": soft_masked / bases,
        "share": bases / genome,
    }
    return dict.fromkeys(COLUMNS, "") | row


def _split_row(store: GenomeStore, split: str, species: str) -> dict[str, Any]:
    """Return the row of one split, of one species or of all ("")."""
    regions, intervals = store.splits[split], store.intervals[split]
    if species:
        chosen = store.contigs.species == store.species.index(species)
        regions, intervals = regions.on(chosen), intervals.on(chosen)
    bases = int(regions.ranges.size.sum())
    row = {
        "kind": "split",
        "name": split,
        "species": species,
        "bases": bases,
        "share": bases / int(store.contigs.offset[-1]),
        "regions": len(regions),
        "intervals": len(intervals),
        "median_interval": int(np.median(intervals.ranges.size)) if len(intervals) else "",
    }
    return dict.fromkeys(COLUMNS, "") | row


def _shown_rows(store: GenomeStore) -> list[dict[str, Any]]:
    """Return the rows with only the longest contigs, and one row for all the shorter ones."""
    lengths = store.contigs.lengths
    if lengths.size <= _SHOWN_CONTIGS:
        return store_stats(store)
    order = np.argsort(-lengths, kind="stable")
    longest, shortest = np.sort(order[:_SHOWN_CONTIGS]), order[_SHOWN_CONTIGS:]
    together = _sequence_row(store, "contig", f"({len(shortest):,} shorter ones)", "", shortest)
    others = dict.fromkeys(COLUMNS, "") | {key: together[key] for key in ("kind", "name", "bases", *"ACGTN", "share")}
    return [*_contig_rows(store, longest), others, *_other_rows(store)]


def print_table(columns: Sequence[str], rows: Sequence[dict[str, Any]], say: Say) -> None:
    """Print a table with aligned columns, text to the left and numbers to the right, without columns that are empty."""
    columns = [column for column in columns if any(row[column] != "" for row in rows)]
    cells = {column: [column, *(_shown(row[column]) for row in rows)] for column in columns}
    for column, lines in cells.items():
        width = max(map(len, lines))
        is_text = all(isinstance(row[column], str) for row in rows)
        cells[column] = [line.ljust(width) if is_text else line.rjust(width) for line in lines]
    for line in zip(*cells.values(), strict=True):
        say("  ".join(line).rstrip())


def _shown(value: str | int | float) -> str:
    """Return a value as the table shows it."""
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else value


def _print_kmers(table: KmerTable, say: Say) -> None:
    """Print the most and the least frequent k-mers, and the CpG of each species."""
    counts = table.total
    names = kmer_names(table.k)
    both = both_strands(counts)
    total = int(counts.sum())
    say("")
    say(
        f"{table.k}-mers on the stored strand: {total:,} windows without N; {np.count_nonzero(counts):,} of "
        f"{counts.size:,} k-mers occur"
    )
    order = np.argsort(-counts, kind="stable")
    shown = min(_SHOWN_KMERS, counts.size // 2)
    rows = [
        {
            "": kind,
            "kmer": names[code],
            "count": int(counts[code]),
            "per_million": round(1e6 * counts[code] / total) if total else "",
            "both_strands": int(both[code]),
        }
        for kind, codes in (("most frequent", order[:shown]), ("least frequent", order[-shown:]))
        for code in codes
    ]
    print_table(list(rows[0]), rows, say)
    ratios = ", ".join(
        f"{species} {'-' if math.isnan(ratio) else f'{ratio:.3f}'}".strip() for species, ratio in table.cpg.items()
    )
    say(f"CpG observed/expected: {ratios}")


def _write_kmers(file: Path, table: KmerTable) -> None:
    """Write a CSV file of all k-mers with their counts on one strand, on both strands and in each labelled species."""
    counts = table.total
    species = [name for name in table.counts if name]
    columns = zip(
        kmer_names(table.k),
        counts.tolist(),
        both_strands(counts).tolist(),
        (counts / counts.sum()).tolist() if counts.any() else [""] * counts.size,  # of no windows, there is no share
        *(table.counts[name].tolist() for name in species),
        strict=True,
    )
    write_csv(file, ("kmer", "count", "both_strands", "frequency", *species), columns)
