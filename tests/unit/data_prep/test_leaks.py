"""The leak report counts what a count of windows one by one gives."""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_prep.build import BuildOptions, build_store
from data_prep.leaks import COLUMNS, leaks
from data_prep.splits import BedSplits, BlockSplits
from hyena_dist.data.store import GenomeStore
from hyena_dist.errors import UserError

BED = {
    "train": [("a", 10, 40), ("a", 50, 80), ("a", 130, 190), ("b", 0, 30), ("c", 0, 25)],
    "valid": [("a", 90, 120), ("b", 30, 60)],
    "test": [("a", 200, 210)],
}
CONTIGS = {"a": 260, "b": 75, "c": 30}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "x.fa").write_text(
        "".join(f">{name}\n{'ACGT' * 65}"[: size + 3] + "\n" for name, size in CONTIGS.items())
    )
    rows = [f"{c}\t{start}\t{end}\t{split}\n" for split, intervals in BED.items() for c, start, end in intervals]
    (tmp_path / "x.bed").write_text("".join(rows))
    build_store([tmp_path / "x.fa"], tmp_path / "s", BuildOptions(BedSplits(tmp_path / "x.bed")), say=lambda _: None)
    return tmp_path / "s"


def bases(intervals: list[tuple[str, int, int]]) -> set[tuple[str, int]]:
    return {(c, at) for c, start, end in intervals for at in range(start, end)}


def counted(size: int) -> dict[str, Any]:
    """Return the row of one length, from every window of every interval."""
    held_out, train = bases(BED["valid"] + BED["test"]), bases(BED["train"])
    windows = set()
    used = []
    for c, start, end in BED["train"]:
        ok = {
            first
            for first in range(CONTIGS[c] - size + 1)
            if (
                (start <= first and first + size <= end)
                or (first <= start and end <= first + size)
                or abs(first - (start + end - size) // 2) <= (end - start) // 4
            )
            and not held_out & bases([(c, first, first + size)])
        }
        windows |= {(c, first, first + size) for first in ok}
        used += [(c, start, end)] * bool(ok)
    read = bases(list(windows))
    left_out = [interval for interval in BED["train"] if interval not in used]
    published = []
    for c, start, end in BED["train"]:
        extra = max(0, size - (end - start))
        first = start - -(-extra // 2)
        published.append((c, max(0, first), min(CONTIGS[c], first + size)))
    leaked = bases(published) & held_out
    return {
        "seq_length": size - 1,
        "windows": len(windows),
        "used": len(used),
        "left_out": len(left_out),
        "bases_left_out": len(bases(left_out)),
        "reachable": pytest.approx(len(read & train) / len(train)),
        "distance": min(abs(at - other) - 1 for c, at in read for d, other in held_out if c == d),
        "overlap": 0,
        "published_leaking": sum(bool(bases([window]) & held_out) for window in published),
        "published_overlap": len(leaked),
        "published_share": pytest.approx(len(leaked) / len(held_out)),
    }


@pytest.mark.parametrize("size", [2, 20, 30, 31, 45, 60, 75, 89])
def test_every_window(folder: Path, size: int) -> None:
    assert leaks(GenomeStore.open(folder), [size - 1], "interval") == [counted(size)]


def test_the_published_way_leaks_and_ours_does_not(folder: Path) -> None:
    [row] = leaks(GenomeStore.open(folder), [79], "published")
    assert row["overlap"] == 0
    assert row["published_leaking"] == 2
    assert row["published_share"] > 0.5
    assert row["windows"] == row["used"] == 3  # a:0-90 and a:120-200 have room for 80 bases, and hold three intervals


def test_uniform_counts_the_free_ranges(folder: Path) -> None:
    [row] = leaks(GenomeStore.open(folder), [15], "uniform")
    assert (row["used"], row["left_out"], row["bases_left_out"]) == (5, 1, 15)


def test_distance_where_contigs_with_held_out_ends_follow_each_other(tmp_path: Path) -> None:
    """The end of a and the start of b are one range of the axis, and yet lie on two contigs."""
    (tmp_path / "x.fa").write_text(f">a\n{'ACGT' * 25}\n>b\n{'ACGT' * 75}\n")
    (tmp_path / "x.bed").write_text("a 0 50 train\na 50 100 valid\nb 0 50 valid\nb 60 300 train\n")
    build_store([tmp_path / "x.fa"], tmp_path / "s", BuildOptions(BedSplits(tmp_path / "x.bed")), say=lambda _: None)
    # Windows of 61 bases of b may start at 60 at the earliest; those of a, which has room for 50, nowhere.
    rows = leaks(GenomeStore.open(tmp_path / "s"), [60, 20], "interval")
    assert [row["distance"] for row in rows] == [10, 0]


def test_no_window_fits_and_nothing_is_held_out(folder: Path, tmp_path: Path) -> None:
    [row] = leaks(GenomeStore.open(folder), [500], "interval")
    assert (row["windows"], row["used"], row["left_out"], row["reachable"]) == (0, 0, 5, 0)
    assert row["distance"] == ""
    build_store([tmp_path / "x.fa"], tmp_path / "all", BuildOptions(BlockSplits((1.0, 0.0))), say=lambda _: None)
    [row] = leaks(GenomeStore.open(tmp_path / "all"), [9], "interval")
    assert (row["reachable"], row["distance"], row["overlap"], row["published_share"]) == (1, "", 0, "")


def test_the_command(folder: Path, tmp_path: Path, run: Callable[..., str]) -> None:
    text = run("leaks", folder, "--lengths", "19,74", "--csv", tmp_path / "leaks.csv")
    assert text.splitlines()[0].split() == list(COLUMNS)
    assert re.search(r"^ +74 +", text, re.M)
    with open(tmp_path / "leaks.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["seq_length"] for row in rows] == ["19", "74"]
    assert all(row["overlap"] == "0" for row in rows)


def test_refusals(folder: Path, refuse: Callable[..., str]) -> None:
    assert "--lengths 1k is not a list of numbers" in refuse("leaks", folder, "--lengths", "1k")
    assert "length 0 is not a context length" in refuse("leaks", folder, "--lengths", "9,0")
    with pytest.raises(UserError, match="is not a hyena-dist store"):
        GenomeStore.open(folder.parent / "nowhere")
