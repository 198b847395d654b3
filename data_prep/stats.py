"""The numbers of a store, for `data stats`: contigs, species, splits and k-mers, as tables and CSV files."""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.kmers import KmerTable, both_strands, count_kmers, kmer_names
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.manifest import Interval
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
    rows = store_stats(store)
    print_table(COLUMNS, _shortened(rows), say)
    if csv_file:
        write_csv(csv_file, COLUMNS, ([row[column] for column in COLUMNS] for row in rows))
    bases = sum(store.contigs.values())
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
    entries = store.manifest["contigs"]
    genome = sum(store.contigs.values())
    rows = [_sequence_row("contig", entry["name"], [entry], genome) for entry in entries]
    for species in store.species:
        of_species = [entry for entry in entries if entry["species"] == species]
        rows.append(_sequence_row("species", species, of_species, genome))
    rows.append(_sequence_row("total", "", entries, genome))
    for species in ("", *store.species):
        for split, regions in store.splits.items():
            rows.append(_split_row(store, split, species, regions, genome))
    return rows


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


def _sequence_row(kind: str, name: str, entries: Sequence[dict[str, Any]], genome: int) -> dict[str, Any]:
    """Return the row of some contigs together, from their entries in the manifest."""
    bases = sum(entry["length"] for entry in entries)
    composition = {letter: sum(entry["composition"][letter] for entry in entries) for letter in "ACGTN"}
    known = bases - composition["N"]
    row = {
        "kind": kind,
        "name": name,
        "species": entries[0]["species"] or "" if kind != "total" else "",
        "bases": bases,
        **composition,
        "gc": (composition["G"] + composition["C"]) / known if known else "",
        "n_share": composition["N"] / bases,
        "soft_masked_share": sum(entry["soft_masked"] for entry in entries) / bases,
        "share": bases / genome,
    }
    return dict.fromkeys(COLUMNS, "") | row


def _split_row(
    store: GenomeStore, split: str, species: str, regions: Sequence[Interval], genome: int
) -> dict[str, Any]:
    """Return the row of one split, of one species or of all (""), whose regions are given."""

    def lengths(intervals: Iterable[Interval]) -> list[int]:
        """Return the lengths of the intervals that are of the species."""
        return [end - start for contig, start, end in intervals if species in ("", store.species_of(contig))]

    merged = lengths(regions)
    sampled = lengths(store.intervals[split])
    row = {
        "kind": "split",
        "name": split,
        "species": species,
        "bases": sum(merged),
        "share": sum(merged) / genome,
        "regions": len(merged),
        "intervals": len(sampled),
        "median_interval": int(np.median(sampled)) if sampled else "",
    }
    return dict.fromkeys(COLUMNS, "") | row


def _shortened(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with only the longest contigs, and one row for all the shorter ones."""
    contigs = [row for row in rows if row["kind"] == "contig"]
    if len(contigs) <= _SHOWN_CONTIGS:
        return rows
    shortest = sorted(contigs, key=lambda row: row["bases"], reverse=True)[_SHOWN_CONTIGS:]
    left_out = {row["name"] for row in shortest}
    kept = [row for row in contigs if row["name"] not in left_out]
    others = dict.fromkeys(COLUMNS, "") | {"kind": "contig", "name": f"({len(shortest):,} shorter ones)"}
    others |= {key: sum(row[key] for row in shortest) for key in ("bases", *"ACGTN", "share")}
    return [*kept, others, *rows[len(contigs) :]]


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
