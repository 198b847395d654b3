"""Statistics count what the sequences hold, k-mers included, and are drawn."""

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.build import build_store
from data_prep.kmers import both_strands, count_kmers, kmer_names, window_codes
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.tokenizer import encode

Run = Callable[..., str]
Refuse = Callable[..., str]


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open() as stream:
        return list(csv.DictReader(stream))


def test_composition_and_splits(tmp_path: Path, run: Run, refuse: Refuse) -> None:
    fasta, out = tmp_path / "x.fa", tmp_path / "s"
    fasta.write_text(">a\nAACGTNnnac\n>b\nNN\n")
    run("build", fasta, "--out", out, "--split-fractions", "0.8,0.2", "--interval-length", 3)
    table = run("stats", out, "--csv", tmp_path / "x.csv")
    rows = {(row["kind"], row["name"]): row for row in rows_of(tmp_path / "x.csv")}
    a = rows["contig", "a"]
    assert [int(a[key]) for key in ("bases", "A", "C", "G", "T", "N")] == [10, 3, 2, 1, 1, 3]
    assert float(a["gc"]) == 3 / 7
    assert float(a["soft_masked_share"]) == 0.4
    assert rows["contig", "b"]["gc"] == ""
    assert (rows["total", ""]["bases"], rows["total", ""]["N"]) == ("12", "5")
    train = rows["split", "train"]
    assert [train[key] for key in ("bases", "regions", "intervals", "median_interval")] == ["10", "2", "4", "2"]
    assert table.count("\n") == 1 + len(rows)
    assert "cannot be written" in refuse("stats", out, "--csv", tmp_path / "none" / "x.csv")
    assert "end it in .png" in refuse("stats", out, "--plot", tmp_path / "x.jpeg")
    assert "choose 1 to 8" in refuse("stats", out, "--kmers", 9)


def test_species_have_rows_and_columns(tmp_path: Path, run: Run) -> None:
    (tmp_path / "x.fa").write_text(">1\nACGTACGTAC\n")
    (tmp_path / "y.fa").write_text(">1\nCGCGCG\n>2\nTT\n")
    run("build", f"x={tmp_path / 'x.fa'}", f"y={tmp_path / 'y.fa'}", "--out", tmp_path / "s")
    shown = run("stats", tmp_path / "s", "--csv", tmp_path / "t.csv", "--kmers", 2)
    rows = {(row["kind"], row["name"], row["species"]): row for row in rows_of(tmp_path / "t.csv")}
    assert rows["species", "y", "y"]["bases"] == "8"
    assert rows["contig", "y.1", "y"]["bases"] == "6"
    assert int(rows["split", "train", "x"]["bases"]) + int(rows["split", "train", "y"]["bases"]) == int(
        rows["split", "train", ""]["bases"]
    )
    counts = {row["kmer"]: row for row in rows_of(tmp_path / "t.kmers.csv")}
    assert (counts["CG"]["x"], counts["CG"]["y"], counts["CG"]["count"]) == ("2", "3", "5")
    assert "CpG observed/expected: x 3.333, y 2.667" in shown


def test_without_a_base_there_are_no_frequencies(tmp_path: Path, run: Run) -> None:
    (tmp_path / "x.fa").write_text(">n\n" + 60 * "N" + "\n")
    run("build", tmp_path / "x.fa", "--out", tmp_path / "s")
    shown = run("stats", tmp_path / "s", "--csv", tmp_path / "t.csv", "--kmers", 1)
    assert {(row["count"], row["frequency"]) for row in rows_of(tmp_path / "t.kmers.csv")} == {("0", "")}
    assert "CpG observed/expected: -\n" in shown


@settings(max_examples=30, deadline=None)
@given(contigs=st.lists(st.text("ACGTN", min_size=1, max_size=60), min_size=1, max_size=3), k=st.integers(1, 8))
def test_kmers_equal_a_naive_count(tmp_path_factory: pytest.TempPathFactory, contigs: list[str], k: int) -> None:
    path = tmp_path_factory.mktemp("kmers")
    (path / "x.fa").write_text("".join(f">{i}\n{text}\n" for i, text in enumerate(contigs)))
    build_store([path / "x.fa"], path / "s", say=lambda _: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_prep.kmers._BLOCK", 7)  # blocks of which each reaches into the next
        table = count_kmers(GenomeStore.open(path / "s"), k)
    windows = [text[i : i + k] for text in contigs for i in range(len(text) - k + 1)]
    expected = Counter(window for window in windows if "N" not in window)
    names = kmer_names(k)
    assert {names[i]: int(n) for i, n in enumerate(table.total) if n} == dict(expected)
    pairs = sum(text.count("CG") for text in contigs)
    c, g, known = (sum(text.count(letter) for text in contigs for letter in which) for which in ("C", "G", "ACGT"))
    assert np.isnan(table.cpg[""]) if c * g == 0 else table.cpg[""] == pytest.approx(pairs * known / (c * g))


def test_both_strands_count_the_reverse_complement() -> None:
    counts = np.bincount(window_codes(encode("AACCG"), 2), minlength=16)  # AA AC CC CG
    both = dict(zip(kmer_names(2), both_strands(counts).tolist(), strict=True))
    assert {name: n for name, n in both.items() if n} == {
        "AA": 1, "TT": 1, "AC": 1, "GT": 1, "CC": 1, "GG": 1, "CG": 2,
    }  # fmt: skip


@pytest.mark.parametrize("contigs", [1, 30])
def test_picture(tmp_path: Path, run: Run, contigs: int) -> None:
    draw = np.random.default_rng(0)
    with (tmp_path / "x.fa").open("wb") as stream:
        for i in range(contigs):
            stream.write(b">%d\n%s\n" % (i, draw.choice(np.frombuffer(b"ACGTacgtN", np.uint8), 1200).tobytes()))
    run("build", tmp_path / "x.fa", "--out", tmp_path / "s", "--soft-mask")
    run("stats", tmp_path / "s", "--plot", tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 20_000
    rows = rows_of(tmp_path / "x.windows.csv")
    assert len({row["track"] for row in rows}) == min(contigs, 25)
    for key in ("A", "C", "G", "T", "N"):
        total = next(row for row in _total(tmp_path, run) if row["kind"] == "total")
        assert sum(int(row[key]) for row in rows) == int(total[key])


def _total(folder: Path, run: Run) -> list[dict[str, str]]:
    run("stats", folder / "s", "--csv", folder / "all.csv")
    return rows_of(folder / "all.csv")
