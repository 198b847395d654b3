"""Stores of several species, from the genomes beside the repository."""

import csv
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from hyena_dist.data.store import GenomeStore
from tests.outside import outside


@pytest.mark.parametrize(("kind", "count"), [("vertebrates", 8), ("bacteria", 5)])
def test_one_store_of_many_species(kind: str, count: int, tmp_path: Path, run: Callable[..., str]) -> None:
    folder = outside("HYENA_DIST_SHARED_DATA", "the folder with genomes of several species") / "species"
    files = {file.name.partition(".")[0]: file for file in sorted((folder / kind).glob("*.fa.gz"))}
    assert len(files) == count
    run("build", *(f"{name}={file}" for name, file in files.items()), "--out", tmp_path / "s", "--soft-mask")
    assert "verified" in run("verify", tmp_path / "s")
    store = GenomeStore.open(tmp_path / "s")
    assert store.species == list(files)
    run("stats", tmp_path / "s", "--csv", tmp_path / "stats.csv")
    with (tmp_path / "stats.csv").open() as stream:
        bases = {row["name"]: int(row["bases"]) for row in csv.DictReader(stream) if row["kind"] == "species"}
    assert list(bases) == list(files)
    for name, file in files.items():
        with gzip.open(file, "rt") as stream:
            letters = "".join(line.strip() for line in stream if not line.startswith(">")).upper()
        own = [contig for contig in store.contigs if store.species_of(contig) == name]
        assert own
        assert all(contig.startswith(f"{name}.") for contig in own)
        assert sum(store.contigs[contig] for contig in own) == bases[name] == len(letters)
        exported = tmp_path / "x.fa"
        run("export-fasta", tmp_path / "s", "--contigs", ",".join(own), "--out", exported)
        back = "".join(line for line in exported.read_text().splitlines() if not line.startswith(">")).upper()
        assert len(back) == len(letters)
        assert all(b in (a, "N") or (a, b) == ("U", "T") for a, b in zip(letters, back, strict=True))
        assert back.count("N") <= sum(letters.count(code) for code in "NRYSWKMBDHVX-.")
