"""`bench data`: what it compares reads the same bases, and what it writes is what it found."""

import csv
import gzip
import json
from pathlib import Path

import pytest
import torch

from hyena_dist import UserError
from hyena_dist.bench import data as bench
from hyena_dist.bench.reference_data import PublishedDataset, PublishedTokenizer
from hyena_dist.data.store.manifest import Interval
from hyena_dist.data.tokenizer import PAD, SEP, UNK, encode


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    (tmp_path / "x.fa").write_text(">a\n" + "ACGTNacgtn" * 20 + "\n>b\nGATTACA\n")
    return tmp_path / "x.fa"


def test_the_published_tokens() -> None:
    tokenizer = PublishedTokenizer()
    assert tokenizer("ACGTNx", 6) == {"input_ids": [7, 8, 9, 10, 11, UNK], "attention_mask": [1] * 6}
    assert tokenizer("A[SEP]C[Px", 8)["input_ids"] == [PAD, PAD, 7, SEP, 8, UNK, UNK, UNK]
    assert tokenizer("ACGT", 2)["input_ids"] == [7, 8]
    assert tokenizer("AC", 4) == {"input_ids": [PAD, PAD, 7, 8], "attention_mask": [0, 0, 1, 1]}


def test_the_published_windows(fasta: Path) -> None:
    """First bases of the interval; beyond its length, as much on both sides; padding on the left at a contig's end."""
    text = "ACGTNACGTN" * 20
    for interval, length, start, end in (
        (Interval("a", 50, 90), 30, 50, 80),
        (Interval("a", 50, 90), 60, 40, 100),
        (Interval("a", 5, 15), 60, 0, 40),
    ):
        inputs, targets = PublishedDataset(fasta, [interval], length).batch([0, 0])
        assert inputs.shape == targets.shape == (2, length)
        assert inputs.dtype == torch.int64
        expected = [PAD] * (length - (end - start)) + encode(text[start:end]).tolist()
        assert inputs[0].tolist() == expected
        assert targets[1].tolist() == [*expected[1:], SEP]


def test_table_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "SECONDS", 0.01)
    bench.bench_data(None, None, [512, 64], workers=0, repeats=1, out=tmp_path)
    with open(tmp_path / "data.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["what"], row["length"]) for row in rows] == [
        (what, length) for length in ("64", "512") for what in ("ours", "ours, int64", "published")
    ]
    for row in rows:
        assert float(row["tokens_per_s"]) == pytest.approx(int(row["length"]) / float(row["us_per_window"]) * 1e6)
    assert [float(row["ratio"]) for row in rows[2::3]] == [1, 1]
    assert float(rows[3]["ratio"]) > 5, "the loader is far ahead"
    assert json.loads((tmp_path / "data.json").read_text())["workers"] == 0
    assert capsys.readouterr().out.count("\n") == 2 + 6


def test_a_fasta_that_pyfaidx_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "x.fa.gz").write_bytes(gzip.compress(b">a\nACGT\n"))
    with pytest.raises(UserError, match=r"pyfaidx cannot read .*x\.fa\.gz .*; give a plain FASTA file"):
        PublishedDataset(tmp_path / "x.fa.gz", [], 8)
    (tmp_path / "y.fa").write_text(">a\nACGT\n")
    with pytest.raises(UserError, match=r"y\.fa lacks contig 'chr1' of the store"):
        PublishedDataset(tmp_path / "y.fa", [Interval("chr1", 0, 3)], 2)
    with pytest.raises(UserError, match="pyfaidx cannot read"):
        PublishedDataset(tmp_path / "nowhere.fa", [], 8)
