"""stats counts what the sequences hold."""

import csv
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., str]


def test_stats(tmp_path: Path, run: Run, refuse: Callable[..., str]) -> None:
    fasta, out = tmp_path / "x.fa", tmp_path / "s"
    fasta.write_text(">a\nAACGTNnnac\n>b\nNN\n")
    run("build", fasta, "--out", out, "--split-fractions", "0.8,0.2")
    table = run("stats", out, "--csv", tmp_path / "x.csv")
    rows = {(row["kind"], row["name"]): row for row in csv.DictReader((tmp_path / "x.csv").open())}
    a = rows["contig", "a"]
    assert [int(a[key]) for key in ("bases", "A", "C", "G", "T", "N")] == [10, 3, 2, 1, 1, 3]
    assert float(a["gc"]) == 3 / 7
    assert float(a["soft_masked_share"]) == 0.4
    assert rows["contig", "b"]["gc"] == ""
    assert (rows["total", ""]["bases"], rows["total", ""]["N"]) == ("12", "5")
    assert (rows["split", "train"]["bases"], rows["split", "train"]["regions"]) == ("10", "2")
    lines = table.splitlines()
    assert len(lines) == 1 + len(rows)
    assert len({line.index(number) + len(number) for line, number in zip(lines[1:3], ("10", " 2"), strict=True)}) == 1
    assert "cannot be written" in refuse("stats", out, "--csv", tmp_path / "none" / "x.csv")
