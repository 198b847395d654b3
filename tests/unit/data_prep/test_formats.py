"""Input of other formats, and what is no file, is named for what it is, by every option that takes input."""

import bz2
import gzip
import io
import lzma
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numcodecs
import pytest

from hyena_dist.data.store import GenomeStore

Run = Callable[..., str]
TEXT = b">a\nACGTACGTAC\n"
BED = b"a 0 10 test\n"


def zipped(text: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.fa", text)
    return stream.getvalue()


def tarred(text: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("x.fa")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    return stream.getvalue()


FORMATS = {
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda text: numcodecs.Zstd().encode(text),
    "zip": zipped,
    "tar": tarred,
    "gzip inside gzip": lambda text: gzip.compress(gzip.compress(text)),
    "UTF-16 text": lambda text: text.decode().encode("utf-16"),
    "2bit inside gzip": lambda text: gzip.compress(bytes.fromhex("4327411a") + text),
}


@pytest.mark.parametrize("name", FORMATS)
def test_other_formats_are_named(tmp_path: Path, refuse: Run, name: str) -> None:
    good, bad = tmp_path / "good.fa", tmp_path / "bad"
    good.write_bytes(TEXT)
    bad.write_bytes(FORMATS[name](TEXT))
    assert f"{bad} is {name}, and plain text" in refuse("build", bad, "--out", tmp_path / "s")
    bad.write_bytes(FORMATS[name](BED))
    for option in ("--bed", "--rename"):
        assert f"{bad} is {name}, and plain text" in refuse("build", good, "--out", tmp_path / "s", option, bad)
    bad.write_bytes(gzip.compress(FORMATS[name](TEXT)))
    assert f"{bad} is " in refuse("build", bad, "--out", tmp_path / "s")


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path, run: Run) -> None:
    mark = b"\xef\xbb\xbf"
    (tmp_path / "x.fa").write_bytes(mark + TEXT)
    (tmp_path / "x.bed").write_bytes(mark + b"b 0 10 test\n")
    (tmp_path / "names").write_bytes(mark + b"a b\n")
    run(
        "build", tmp_path / "x.fa", "--out", tmp_path / "s", "--bed", tmp_path / "x.bed", "--rename", tmp_path / "names"
    )
    store = GenomeStore.open(tmp_path / "s")
    assert store.contigs == {"b": 10}
    assert store.splits["test"] == [("b", 0, 10)]
    assert store.read("b", 0, 10).tolist() == [7, 8, 9, 10, 7, 8, 9, 10, 7, 8]


def test_pipes_and_devices_are_refused_at_once(tmp_path: Path, refuse: Run) -> None:
    good, pipe = tmp_path / "good.fa", tmp_path / "pipe"
    good.write_bytes(TEXT)
    os.mkfifo(pipe)  # nobody ever writes to it
    says = "is a pipe or a device, and input is read more than once; write it to a file first"
    pipe_says = [
        refuse("build", pipe, "--out", tmp_path / "s"),
        refuse("build", f"human={pipe}", "--out", tmp_path / "s"),
        refuse("build", good, "--out", tmp_path / "s", "--bed", pipe),
        refuse("build", good, "--out", tmp_path / "s", "--rename", pipe),
    ]
    assert all(f"{pipe} {says}" in message for message in pipe_says)
    assert f"/dev/null {says}" in refuse("build", "/dev/null", "--out", tmp_path / "s")
    assert "- means standard input, and input is read more than once" in refuse("build", "-", "--out", tmp_path / "s")


def test_a_pipe_as_standard_input_is_refused(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "data_prep", "build", "/dev/stdin", "--out", str(tmp_path / "s")]
    done = subprocess.run(words, input=TEXT, capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert b"/dev/stdin is a pipe or a device, and input is read more than once; write it" in done.stderr
    assert not list(tmp_path.iterdir())


def test_urls_as_input_are_refused(tmp_path: Path, refuse: Run) -> None:
    for url in ("https://host/x.fa.gz", "s3://bucket/x.fa"):
        for words in ([url], [f"human={url}"]):
            assert f"error: {url} is a URL, and input is read" in refuse("build", *words, "--out", tmp_path / "s")


def test_protein_of_nucleotide_letters_is_warned_of(tmp_path: Path, run: Run) -> None:
    """All letters are IUPAC codes of nucleotides, so that nothing can be refused."""
    (tmp_path / "x.fa").write_text(">p\nMKVRSHDWNAGTCYBKRMSDHVWGACTKRSYDHMVN\n>dna\nACGTRNNNNNNNNNNNNNNN\n>q\nmk\n")
    said = run("build", tmp_path / "x.fa", "--out", tmp_path / "s")
    assert "warning: contig 'p' is 72% ambiguity codes (RYSWKMBDHV), which become N, and may be protein" in said
    assert "may be protein, like 1 more; leave" in said
    (tmp_path / "y.fa").write_text(">dna\nACGTACGTACGRNNNNNNNNNNNNNNNXXX---...nnnnacgu\n")
    assert "warning" not in run("build", tmp_path / "y.fa", "--out", tmp_path / "t")
