"""What a store holds, in numbers: each contig, all of them, and each split."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hyena_dist.data.store import GenomeStore
from hyena_dist.errors import UserError

COLUMNS = ("kind", "name", "bases", "A", "C", "G", "T", "N", "gc", "n_share", "soft_masked_share", "regions", "share")


def store_stats(path: Path) -> list[dict[str, Any]]:
    """Return a row for each contig, one for the total, and one for each split.

    Returns:
        Rows with the keys of COLUMNS. `gc` is (G + C) / (A + C + G + T); the other shares are of all bases. A split
        has only its name, its bases, the number of its regions and its share of the genome; contigs lack the regions.
        What a row lacks, or what would be 0 / 0, is "".

    Raises:
        UserError: no store at `path`.
    """
    store = GenomeStore.open(path)
    contigs = store.manifest["contigs"]
    genome = sum(store.contigs.values())
    total = {
        "name": "",
        "length": genome,
        "composition": {letter: sum(contig["composition"][letter] for contig in contigs) for letter in "ACGTN"},
        "soft_masked": sum(contig["soft_masked"] for contig in contigs),
    }
    rows = [_sequence_row("contig", contig, genome) for contig in contigs]
    rows.append(_sequence_row("total", total, genome))
    for split, regions in store.splits.items():
        bases = sum(region.end - region.start for region in regions)
        row = {"kind": "split", "name": split, "bases": bases, "regions": len(regions), "share": bases / genome}
        rows.append(dict.fromkeys(COLUMNS, "") | row)
    return rows


def print_stats(path: Path, csv_file: Path | None = None, say: Callable[[str], object] = print) -> None:
    """Show a store's statistics as a table, and write them to a CSV file if one is named.

    Raises:
        UserError: no store at `path`, or a CSV file that cannot be written.
    """
    rows = store_stats(path)
    table = [COLUMNS, *(tuple(_shown(row[column]) for column in COLUMNS) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(COLUMNS))]
    for row in table:
        left = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        say("  ".join([*left, *right]).rstrip())
    if csv_file:
        try:
            with csv_file.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, COLUMNS)
                writer.writeheader()
                writer.writerows(rows)
        except OSError as error:
            raise UserError(
                f"{csv_file} cannot be written ({error.strerror or error}); choose another path with --csv"
            ) from error


def _sequence_row(kind: str, contig: dict[str, Any], genome: int) -> dict[str, Any]:
    composition, bases = contig["composition"], contig["length"]
    known = bases - composition["N"]
    row = {
        "kind": kind,
        "name": contig["name"],
        "bases": bases,
        **composition,
        "gc": (composition["G"] + composition["C"]) / known if known else "",
        "n_share": composition["N"] / bases,
        "soft_masked_share": contig["soft_masked"] / bases,
        "share": bases / genome,
    }
    return dict.fromkeys(COLUMNS, "") | row


def _shown(value: str | int | float) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else value
