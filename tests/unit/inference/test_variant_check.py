"""The check of variants before the work, and those that are refused."""

import pytest

from hyena_dist.inference.sequences import encoded
from hyena_dist.inference.variant_check import ref_agrees, survey
from hyena_dist.inference.vcf import Record, Variants, as_variants
from tests.configs import refusal

GENOME = encoded("g.fa", [("chr1", "ACGTTGCANNR"), ("2", "TTTT")])


def given(*lines: str, header: tuple[str, ...] = ("#CHROM",)) -> Variants:
    return Variants("x.vcf", list(header), lambda: enumerate((f"{line}\t.\t.\t." for line in lines), 10))


def test_records_are_counted_by_block() -> None:
    found = survey(given("chr1\t1\t.\tA\tC,G", "chr1\t3\t.\tg\t<DEL>", "2\t1\t.\tTT\tT"), GENOME, "refuse", block=2)
    assert (found.records, found.alternatives, found.sizes, found.is_sorted) == (3, 4, [5, 2], True)
    other = survey(given("chr1\t1\t.\tA\tC,T", "chr1\t3\t.\tg\t<DEL>", "2\t1\t.\tTT\tT"), GENOME, "refuse", block=2)
    assert found.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    "lines",
    [("chr1\t3\t.\tG\tC", "chr1\t1\t.\tA\tC"), ("chr1\t1\t.\tA\tC", "2\t1\t.\tT\tC", "chr1\t3\t.\tG\tC")],
)
def test_records_that_cannot_be_indexed(lines: tuple[str, ...]) -> None:
    assert not survey(given(*lines), GENOME, "refuse", 9).is_sorted


@pytest.mark.parametrize(
    ("position", "ref", "agrees"), [(8, "NN", True), (10, "Y", True), (10, "A", False), (-1, "N", False)]
)
def test_ambiguity_codes_are_n_in_both(position: int, ref: str, agrees: bool) -> None:
    assert ref_agrees(Record(1, "chr1", position, ".", ref, ("A",), ""), GENOME) == agrees


def test_a_ref_that_disagrees_is_refused_with_its_line_or_passed_over() -> None:
    lines = ("chr1\t1\t.\tA\tC", "chr1\t3\t.\tT\tC", "chr1\t4\t.\tA\tC")
    assert refusal(lambda: survey(given(*lines), GENOME, "refuse", 9)) == (
        "x.vcf, line 11: REF 'T' at chr1:3 is 'G' in g.fa (so are 2 of 3 records); mend it, or pass over such with "
        "--ref-mismatch skip"
    )
    assert survey(given(*lines), GENOME, "skip", 9).records == 3


def test_another_assembly_is_said_in_a_sentence() -> None:
    wrong = [f"chr1\t3\t.\tT\t{alt}" for alt in "ACG"] * 3
    says = "x.vcf is of another assembly than g.fa: 9 of 10 records have another REF, the first in line 11"
    for mode in ("refuse", "skip"):
        assert says in refusal(lambda mode=mode: survey(given("chr1\t1\t.\tA\tC", *wrong), GENOME, mode, 9))
    header = ("##contig=<ID=chr1,length=249250621,assembly=b37>", "##contig=<ID=unused,length=5>", "#CHROM")
    assert "'chr1' has 249,250,621 bases, as its header says, and the genome's 11" in refusal(
        lambda: survey(given("chr1\t1\t.\tA\tC", header=header), GENOME, "skip", 9)
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1\t1\t.\tA\tC", "x.vcf, line 10: g.fa has no sequence '1'; it calls it 'chr1'"),
        ("X\t1\t.\tA\tC", "x.vcf, line 10: g.fa has no sequence 'X'; it has chr1, 2"),
        ("chr1\t12\t.\tA\tC", "x.vcf, line 10: chr1:12 is not inside 'chr1' of g.fa, which has 11 bases"),
        ("chr1\t0\t.\tN\tC", "x.vcf, line 10: chr1:0 is not inside 'chr1'"),
    ],
)
def test_places_that_the_genome_does_not_have(line: str, says: str) -> None:
    assert says in refusal(lambda: survey(given(line), GENOME, "refuse", 9))


def test_no_records() -> None:
    assert "the given variants has no records" in refusal(lambda: survey(as_variants([]), GENOME, "refuse", 9))
