"""Sequences of every kind of file are the same as of Python, and mistakes are one sentence with the place."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pysam
import pytest

from hyena_dist.data.tokenizer import decode
from hyena_dist.errors import UserError
from hyena_dist.inference.sequences import Sequences, as_sequences
from tests.outside import outside

TEXTS = {"first": "ACGTNACGT", "second": "GG", "third": "TTTACA" * 30}


def as_dict(sequences: Sequences) -> dict[str, str]:
    assert [len(sequences.tokens(i)) for i in range(len(sequences.names))] == sequences.lengths.tolist()
    return {name: decode(sequences.tokens(i)) for i, name in enumerate(sequences.names)}


def fasta(folder: Path, name: str = "x.fa", pack: Callable[[bytes], bytes] = bytes, end: str = "\n") -> Path:
    text = "".join(f">{n} about it{end}{t[:7].lower()}{end}{t[7:]}{end}" for n, t in TEXTS.items())
    (folder / name).write_bytes(pack(text.encode()))
    return folder / name


def test_every_format_holds_the_same(tmp_path: Path) -> None:
    files = [fasta(tmp_path), fasta(tmp_path, "x.fasta.gz", gzip.compress), fasta(tmp_path, "crlf", end="\r\n")]
    pysam.tabix_compress(str(files[0]), str(tmp_path / "x.fa.bgz"))
    files.append(tmp_path / "x.fa.bgz")
    rows = [("id", "label", "Sequence"), *((name, "7", text.lower()) for name, text in TEXTS.items())]
    for name, mark in (("x.csv", ","), ("x.TSV", "\t")):
        (tmp_path / name).write_text("".join(mark.join(row) + "\n" for row in rows))
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
        files += [tmp_path / name, tmp_path / f"{name}.gz"]
    found = [as_sequences(source) for source in (TEXTS, *files)]
    for sequences in found:
        assert as_dict(sequences) == TEXTS
        assert sequences.fingerprint == found[0].fingerprint


def test_texts_and_rows_without_names_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("sequence\nACG\nTT\n")
    for source in (["ACG", "TT"], tmp_path / "x.csv"):
        assert as_dict(as_sequences(source)) == {"0": "ACG", "1": "TT"}


def test_fingerprints_tell_apart() -> None:
    given = [{"a": "AC", "b": "G"}, {"a": "A", "b": "CG"}, {"b": "AC", "a": "G"}, {"a": "AC", "c": "G"}, {"a": "ACG"}]
    assert len({as_sequences(source).fingerprint for source in given}) == len(given)


def test_intervals(tmp_path: Path) -> None:
    genome = fasta(tmp_path)
    bed = tmp_path / "x.bed"
    bed.write_bytes(
        b"# a comment\ntrack name=x\nfirst\t0\t4\r\nfirst\t2\t6\tpeak\n"
        b"third\t1\t4\t.\t0\t-\n\nthird\t1\t4\tb\t0\t+\t9\n"
    )
    packed = tmp_path / "y.bed.gz"
    packed.write_bytes(gzip.compress(bed.read_bytes()))
    expected = {"first:0-4": "ACGT", "peak": "GTNA", "third:1-4(-)": "TAA", "b": "TTA"}
    assert as_dict(as_sequences(bed, genome)) == as_dict(as_sequences(packed, str(genome))) == expected


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.fa", "", "x.fa is empty"),
        ("x.fa", ">a\nACGT\n>a\nAC\n", "two sequences of the name 'a'"),
        ("x.fa", ">a\n>b\nAC\n", "record 'a' of .* has no sequence"),
        ("x.fa", ">a\nACGT\nACQT\n", "line 3: base 7 of record 'a' is 'Q'"),
        ("x.csv", "name,sequence\na,ACGZ\n", "sequence 'a' of .*x.csv: letter 'Z' at position 3"),
        ("x.csv", "name,sequence\na,\n", "sequence 'a' of .* is empty"),
        ("x.csv", "name,sequence\na,AC\na,G\n", "two sequences of the name 'a'"),
        ("x.csv", "name,text\na,AC\n", "no column 'sequence' .* name, text"),
        ("x.csv", "name,sequence\na,AC,3\n", "row 1: 3 columns where the first line has 2"),
        ("x.csv", "name,sequence\n", "has no sequence"),
        ("x.csv", "", "has no column 'sequence'"),
        ("x.bed", "first\t0\t400\n", "line 1: first:0-400 is not inside 'first' .* 9 bases"),
        ("x.bed", "\nfirst\t4\t4\n", "line 2: first:4-4 is not inside"),
        ("x.bed", "first\t-1\t4\n", "line 1: first:-1-4 is not inside"),
        ("x.bed", "first\t1\n", "line 1: .* has no contig, start and end"),
        ("x.bed", "first\t1\t2\nfirst\t1\t2\n", "line 2: 'first:1-2' comes twice"),
        ("x.bed", "# nothing\n", "has no interval"),
        ("x.bed", "chrfirst\t0\t4\n", "no sequence 'chrfirst'; it calls it 'first'"),
        ("x.bed", "other\t0\t4\n", "no sequence 'other'; it has first, second, third"),
    ],
)
def test_mistakes(name: str, content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    genome = fasta(tmp_path, "genome.fa") if name.endswith("bed") else None
    with pytest.raises(UserError, match=words) as error:
        as_sequences(tmp_path / name, genome)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "genome", "words"),
    [
        ("none.fa", None, "there is no file none.fa"),
        ("x.bed", None, "--genome"),
        ("x.bed", "none.fa", "there is no file none.fa"),
        ("x.fa", "x.fa", "leave --genome out"),
        ({}, None, "the given sequences has no sequence|no sequence"),
        ([""], None, "'0' of the given sequences is empty"),
        ({"a": "AC-é"}, None, "'a' of the given sequences: letter 'é' at position 3"),
    ],
)
def test_mistakes_of_what_is_named(
    source: object, genome: str | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fasta(tmp_path)
    (tmp_path / "x.bed").write_text("first\t0\t4\n")
    with pytest.raises(UserError, match=words):
        as_sequences(source, genome)  # type: ignore[arg-type]


def test_a_human_chromosome(tmp_path: Path) -> None:
    """A chromosome of 63 Mb, whose intervals on the other strand are the reverse complement of those on this one."""
    genome = outside("HYENA_DIST_SHARED_DATA", "the shared data") / "genomes/human_chr20_GRCh37.fa.gz"
    (name, *_), lengths = (whole := as_sequences(genome)).names, whole.lengths
    assert lengths.tolist() == [63_025_520]
    (tmp_path / "x.bed").write_text(f"{name}\t60000000\t60000050\ta\t0\t-\n{name}\t63025519\t63025520\tend\n")
    found = as_sequences(tmp_path / "x.bed", genome)
    here = whole.tokens(0)[60_000_000:60_000_050]
    assert np.array_equal(found.tokens(0)[::-1][here < 11], (17 - here)[here < 11])
    assert found.lengths.tolist() == [50, 1]
