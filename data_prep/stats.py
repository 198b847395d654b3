"""What a store holds, in numbers: its contigs, species and splits, its k-mers, and a picture along the contigs."""

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.kmers import KmerTable, both_strands, count_kmers, kmer_names
from data_prep.progress import WorkProgress
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.manifest import Interval
from hyena_dist.errors import UserError

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
_SHOWN_CONTIGS = 40
"""Rows for contigs on the screen; the CSV file has all."""
_SHOWN_KMERS = 10
_PICTURES = (".png", ".pdf", ".svg")

Say = Callable[[str], object]


def print_stats(
    path: str | Path, csv_file: Path | None = None, kmers: int | None = None, plot: Path | None = None, say: Say = print
) -> None:
    """Show a store's statistics as tables, and write them to files that are named.

    Args:
        path: folder of a store, or of its shards.
        csv_file: gets the rows of `store_stats`; the k-mer table goes beside it, to <stem>.kmers.csv.
        kmers: also count the k-mers of this length.
        plot: gets the picture (.png, .pdf or .svg); what it shows goes beside it, to <stem>.windows.csv.
        say: receives lines of text.

    Raises:
        UserError: no store at `path`, a k out of range, or a file that cannot be written.
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
        from data_prep.stats_plot import WINDOW_COLUMNS, draw, read_tracks, window_rows

        with WorkProgress("counting windows", bases) as progress:
            tracks = read_tracks(store, progress.advance)
        write_csv(plot.with_suffix(".windows.csv"), WINDOW_COLUMNS, window_rows(tracks))
        try:
            draw(store, tracks, plot)
        except OSError as error:
            raise _unwritable(plot, error.strerror or str(error)) from error
        say(f"drawn {plot}")


def store_stats(store: GenomeStore) -> list[dict[str, Any]]:
    """Return a row for each contig, each species, the total, and each split: of all, then of each species.

    Returns:
        Rows with the keys of COLUMNS. `gc` is (G + C) / (A + C + G + T); `n_share` and `soft_masked_share` are of the
        row's bases, `share` is of the genome's. Splits alone have `regions` (how many, merged), `intervals` (how
        many, as they are sampled) and `median_interval` (bases). What a row lacks, or what would be 0 / 0, is "".
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
    """Write a table.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with file.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([columns, *rows])
    except OSError as error:
        raise _unwritable(file, error.strerror or str(error)) from error


def _check_outputs(csv_file: Path | None, plot: Path | None) -> None:
    if plot and plot.suffix not in _PICTURES:
        raise UserError(f"{plot} is not the name of a picture; end it in {', '.join(_PICTURES)}")
    for file in (csv_file, plot):
        if file and not file.parent.is_dir():
            raise _unwritable(file, f"there is no folder {file.parent}")


def _unwritable(file: Path, reason: str) -> UserError:
    return UserError(f"{file} cannot be written ({reason}); choose another path")


def _sequence_row(kind: str, name: str, entries: Sequence[dict[str, Any]], genome: int) -> dict[str, Any]:
    """A row of contigs taken together, from what the manifest says of each."""
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
    def chosen(intervals: Iterable[Interval]) -> list[int]:
        """Lengths of the intervals of this species, or of all."""
        return [end - start for contig, start, end in intervals if species in ("", store.species_of(contig))]

    merged, sampled = chosen(regions), chosen(store.intervals[split])
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
    """The rows with the longest contigs alone, and one row that counts the others."""
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
    """Print aligned columns, text left and numbers right, without columns that are empty."""
    columns = [column for column in columns if any(row[column] != "" for row in rows)]
    cells = {column: [column, *(_shown(row[column]) for row in rows)] for column in columns}
    for column, lines in cells.items():
        width = max(map(len, lines))
        is_text = all(isinstance(row[column], str) for row in rows)
        cells[column] = [line.ljust(width) if is_text else line.rjust(width) for line in lines]
    for line in zip(*cells.values(), strict=True):
        say("  ".join(line).rstrip())


def _shown(value: str | int | float) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else value


def _print_kmers(table: KmerTable, say: Say) -> None:
    counts, names = table.total, kmer_names(table.k)
    both, total = both_strands(counts), int(counts.sum())
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
            "per_million": round(1e6 * counts[code] / max(1, total)),
            "both_strands": int(both[code]),
        }
        for kind, codes in (("most frequent", order[:shown]), ("least frequent", order[-shown:]))
        for code in codes
    ]
    print_table(list(rows[0]), rows, say)
    ratios = ", ".join(f"{species} {ratio:.3f}".strip() for species, ratio in table.cpg.items())
    say(f"CpG observed/expected: {ratios}")


def _write_kmers(file: Path, table: KmerTable) -> None:
    """Write all k-mers with their counts: of all, of both strands, and of each species if there are any."""
    counts = table.total
    species = [name for name in table.counts if name]
    columns = zip(
        kmer_names(table.k),
        counts.tolist(),
        both_strands(counts).tolist(),
        (counts / max(1, counts.sum())).tolist(),
        *(table.counts[name].tolist() for name in species),
        strict=True,
    )
    write_csv(file, ("kmer", "count", "both_strands", "frequency", *species), columns)
