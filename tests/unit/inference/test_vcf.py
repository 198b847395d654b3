"""Reading of variants: what files and tuples hold, and what is refused."""

import gzip
from pathlib import Path

import pysam
import pytest

from hyena_dist.inference.vcf import as_variants
from tests.configs import refusal

HEADER = "##fileformat=VCFv4.2\n##contig=<ID=a,length=40>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
TEXT = HEADER + "a\t3\trs1\tG\tT,<DEL>\t.\tPASS\tAC=1\na\t9\t.\tac\t*\t5\t.\t.\n"


def written(folder: Path, text: str = TEXT) -> Path:
    path = folder / "x.vcf"
    path.write_text(text)
    return path


@pytest.mark.parametrize("how", ["plain", "crlf", "gzip", "bgzip"])
def test_records_of_a_file(tmp_path: Path, how: str) -> None:
    path = written(tmp_path)
    if how == "crlf":
        path.write_bytes(TEXT.replace("\n", "\r\n").encode())
    elif how == "gzip":
        path = tmp_path / "x.vcf.gz"
        path.write_bytes(gzip.compress(TEXT.encode()))
    elif how == "bgzip":
        pysam.tabix_compress(str(path), str(tmp_path / "x.vcf.gz"))
        path = tmp_path / "x.vcf.gz"
    variants = as_variants(path)
    assert variants.header == HEADER.splitlines()
    for _ in range(2):  # it can be read again
        first, second = variants.records()
        assert first[:-1] == (4, "a", 2, "rs1", "G", ("T", "<DEL>"))
        assert first.text == "a\t3\trs1\tG\tT,<DEL>\t.\tPASS\tAC=1"
        assert (second.line, second.position, second.ref, second.alts) == (5, 8, "ac", ("*",))


def test_tuples_are_records() -> None:
    (record,) = as_variants([("a", 1_234, "G", "T,GA")]).records()
    assert (record.chrom, record.position, record.ref, record.alts) == ("a", 1_233, "G", ("T", "GA"))
    assert record.place == "a:1,234"


def test_a_region_of_an_indexed_file(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert "has no index beside it" in refusal(lambda: list(as_variants(path, "a:1-5").records()))
    indexed = pysam.tabix_index(str(path), preset="vcf")
    assert [record.position for record in as_variants(indexed, "a:4-9").records()] == [8]
    assert "has nothing at 'b:1-2'" in refusal(lambda: list(as_variants(indexed, "b:1-2").records()))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no VCF file"),
        (">a\nACGT\n", "is no VCF file"),
        (HEADER.replace("#CHROM", "CHROM"), "is no VCF file"),
        (HEADER + "a\t3\t.\tG\tT\n", "line 4: 5 columns where VCF has 8 or more"),
        (HEADER + "a\t3 \t.\tG\tT\t.\t.\t.\n", "line 4: POS '3 ' is no whole number"),
        (HEADER + "a\t3\t.\t<X>\tT\t.\t.\t.\n", "line 4: REF '<X>' is no sequence of bases"),
    ],
)
def test_what_is_no_vcf_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = written(tmp_path, text)
    assert says in refusal(lambda: list(as_variants(path).records()))
    assert "there is no file" in refusal(lambda: as_variants(tmp_path / "y.vcf"))
