"""FASTA -> store -> FASTA gives the same sequences back."""

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.build import BuildOptions, build_store
from data_prep.export_fasta import export_fasta
from hyena_dist.data.store import GenomeStore

Run = Callable[..., str]
Refuse = Callable[..., str]
NORMAL = str.maketrans("RYSWKMBDHVXryswkmbdhvxUu", "NNNNNNNNNNNnnnnnnnnnnnTt")


@settings(max_examples=40, deadline=None)
@given(
    contigs=st.lists(st.text("ACGTNacgtnRyUu", min_size=1, max_size=90), min_size=1, max_size=4),
    width=st.integers(0, 70), soft_mask=st.booleans(),
)  # fmt: skip
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, contigs: list[str], width: int, soft_mask: bool) -> None:
    path = tmp_path_factory.mktemp("fasta")
    (path / "x.fa").write_text("".join(f">c{i} comment\n{text}\n" for i, text in enumerate(contigs)))
    options = BuildOptions(soft_mask=soft_mask)
    build_store([path / "x.fa"], path / "s", options, say=lambda _: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_prep.export_fasta._BLOCK", 20)  # several blocks to a contig
        export_fasta(path / "s", path / "y.fa", line_width=width)
    records = (path / "y.fa").read_text().split(">")[1:]
    expected = [text.translate(NORMAL) if soft_mask else text.translate(NORMAL).upper() for text in contigs]
    assert [record.partition("\n")[0] for record in records] == [f"c{i}" for i in range(len(contigs))]
    assert [record.partition("\n")[2].replace("\n", "") for record in records] == expected
    lines = [line for record in records for line in record.splitlines()[1:]]
    assert not width or max(map(len, lines)) <= width
    build_store([path / "y.fa"], path / "again", options, say=lambda _: None)
    first, second = (GenomeStore.open(path / name) for name in ("s", "again"))
    same = [name for name in first.index.names if name != "soft_masked" or soft_mask]
    assert all(np.array_equal(first.index[name], second.index[name]) for name in same)
    assert first.fingerprint == second.fingerprint


def test_regions_contigs_and_compression(genome: Path, tmp_path: Path, run: Run) -> None:
    run("build", genome, "--out", tmp_path / "s", "--soft-mask")
    whole = "".join(genome.read_text().split(">")[1].splitlines()[1:])
    for name in ("a.fa.gz", "b.fa.gz"):
        run("export-fasta", tmp_path / "s", "--out", tmp_path / name, "--region", "1:100-250")  # chr1, as BED may say
    assert gzip.decompress((tmp_path / "a.fa.gz").read_bytes()).decode().replace("\n", "") == (
        ">chr1:100-250" + whole[100:250]
    )
    assert (tmp_path / "a.fa.gz").read_bytes() == (tmp_path / "b.fa.gz").read_bytes()
    run("export-fasta", tmp_path / "s", "--out", tmp_path / "c.fa", "--contigs", "chr2")
    assert (tmp_path / "c.fa").read_text() == ">chr2\n" + genome.read_text().split(">")[2].partition("\n")[2]


def test_a_reader_that_stops_early_is_no_error(genome: Path, tmp_path: Path, run: Run) -> None:
    run("build", genome, "--out", tmp_path / "s")
    command = [sys.executable, "-m", "data_prep", "export-fasta", str(tmp_path / "s")]
    reading, writing = os.pipe()
    os.close(reading)  # so that every write fails, as it does sooner or later in `... | head`
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_mistakes(genome: Path, tmp_path: Path, run: Run, refuse: Refuse) -> None:
    run("build", genome, "--out", tmp_path / "s")
    store = tmp_path / "s"
    assert "is not inside contig 'chr1' of 3000 bases" in refuse("export-fasta", store, "--region", "chr1:5-3001")
    assert "is not contig:start-end" in refuse("export-fasta", store, "--region", "chr1")
    assert "'chr9'" in refuse("export-fasta", store, "--contigs", "chr9")
    assert "two choices" in refuse("export-fasta", store, "--contigs", "chr1", "--region", "chr1:0-1")
    assert "negative" in refuse("export-fasta", store, "--line-width", -1)
    assert "it is a folder" in refuse("export-fasta", store, "--out", tmp_path)
    assert not list(tmp_path.glob("*.partial*"))
