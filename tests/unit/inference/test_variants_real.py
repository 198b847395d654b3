"""Variants of people: the 1000 Genomes' on a megabase of chr20, indels on all of it, and BRCA1's by experiment."""

import csv
import gzip
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import hyena_dist
from hyena_dist.config.model import ModelConfig
from hyena_dist.data.text.contigs import read_contigs
from hyena_dist.data.tokenizer import decode, reverse_complement
from hyena_dist.inference.sequences import encoded
from hyena_dist.inference.variant_check import survey
from hyena_dist.inference.vcf import as_variants
from hyena_dist.models.lm import HyenaDNA
from tests.configs import refusal
from tests.outside import outside

CHR20 = "genomes/human_chr20_GRCh37.fa.gz"
THOUSAND = "variants/1000genomes_chr20_1M-2M.GRCh37.vcf.gz"
INDELS = "variants/indels_chr20.GRCh37.vcf.gz"
HG38 = 1_847_983
"""What is added to positions of hg19 around BRCA1."""


@pytest.fixture
def data() -> Path:
    return outside("HYENA_DIST_SHARED_DATA", "the folder with genomes and variants")


@pytest.fixture
def model() -> HyenaDNA:
    """A model so small that scores say nothing and come soon."""
    torch.manual_seed(0)
    return HyenaDNA(ModelConfig(d_model=8, n_layer=1, l_max=256)).eval()


def test_all_records_of_the_thousand_genomes_are_scored_or_refused_by_name(
    data: Path, model: HyenaDNA, tmp_path: Path
) -> None:
    piece = read_contigs(data / CHR20).tokens(0)[1_000_000:2_000_000]
    (tmp_path / "z.fa").write_text(f">z\n{decode(piece)}\n")
    outs = [tmp_path / "o.parquet", tmp_path / "o.vcf"]
    said: list[str] = []
    hyena_dist.score_variants(
        model, data / THOUSAND, tmp_path / "z.fa", out=outs, window=64, strands="one", say=said.append
    )
    # Windows of 1,024 leave nothing but the symbolic ones.
    refused = "not scored: 2 no_window, 24 symbolic"
    assert said == [f"scored 29,118 of 29,144 alternatives in windows of 64 bases; {refused}"]
    rows = pq.read_table(outs[0]).to_pylist()
    assert Counter(row["skipped"] for row in rows) == {None: 29_118, "no_window": 2, "symbolic": 24}
    for row in rows:
        assert (row["skipped"] == "symbolic") == row["alt"].startswith("<")
        assert (row["skipped"] == "no_window") == (
            len(row["ref"]) > 32 or (len(row["alt"]) > 32 and row["alt"][0] != "<")
        )
        assert (row["skipped"] is None) == (row["delta"] is not None and math.isfinite(row["delta"]))
    with gzip.open(data / THOUSAND, "rt") as before, outs[1].open() as after:
        old, new = ([line for line in file if not line.startswith("#")] for file in (before, after))
    assert len(old) == len(new) == 28_998
    assert all(a.rstrip("\n") == b.split(";HYENA_")[0].rstrip("\n") for a, b in zip(old, new, strict=True))


def test_all_indels_are_scored(data: Path, model: HyenaDNA) -> None:
    found = hyena_dist.score_variants(model, data / INDELS, data / CHR20, window=256)
    assert found is not None
    assert len(found.delta) == 194
    assert np.isfinite(found.delta).all()
    assert not any(found.skipped)


def test_a_vcf_of_another_piece_is_said_in_a_sentence(data: Path, tmp_path: Path) -> None:
    other = read_contigs(data / CHR20).tokens(0)[3_000_000:4_000_000]
    (tmp_path / "z.fa").write_text(f">z\n{decode(other)}\n")
    said = refusal(lambda: survey(as_variants(data / THOUSAND), read_contigs(tmp_path / "z.fa"), "skip", 64))
    assert "is of another assembly" in said
    assert "of 28,998 records have another REF, the first in line" in said
    said = refusal(lambda: survey(as_variants(data / THOUSAND), read_contigs(data / CHR20), "refuse", 64))
    assert "has no sequence 'z'; it has 20" in said


def test_all_reference_bases_of_brca1_agree(data: Path) -> None:
    """The gene's FASTA is of the minus strand of hg38 and has CRLF; the experiment counts along hg19."""
    (name,) = (data / "variants").glob("brca1_17_*.minus.fa.gz")
    first = int(name.name.split("_")[2].split("-")[0])
    plus = reverse_complement(read_contigs(name).tokens(0))
    with gzip.open(data / "variants/brca1_sge.hg19.csv.gz", "rt") as file:
        rows = list(csv.DictReader(list(file)[2:]))  # two lines of headings are above
    assert len(rows) == 3_893

    def variants(shift: int) -> list[tuple[str, int, str, str]]:
        columns = ("position (hg19)", "reference", "alt")
        found = [[row[column] for column in columns] for row in rows]
        return [("17", int(at) + HG38 - first + 1 + shift, ref, alt) for at, ref, alt in found]

    genome = encoded("BRCA1", [("17", decode(plus))])
    assert survey(as_variants(variants(0)), genome, "refuse", 64).alternatives == 3_893
    assert "is of another assembly" in refusal(lambda: survey(as_variants(variants(1)), genome, "refuse", 64))
