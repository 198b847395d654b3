"""Reading FASTA: what is accepted, and what each bad file is told."""

import gzip
import re
import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import demo_corpus, files
from data_prep.fasta import read_fasta
from hyena_dist.data.tokenizer import decode, encode
from hyena_dist.errors import UserError

BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def bgzip(text: bytes, block: int = 40) -> bytes:
    """Compress as bgzip does: members with a BC extra field, then an empty member."""
    members = b""
    for at in range(0, len(text), block):
        plain = gzip.compress(text[at : at + block], mtime=0)
        body = plain[10:]
        size = len(body) + 18 - 1
        members += b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff\x06\x00BC\x02\x00" + size.to_bytes(2, "little") + body
    return members + BGZIP_END


def records(path: Path) -> dict[str, str]:
    return {record.name: decode(record.tokens) for record in read_fasta([path])}


TEXT = b">a first\nACGT\nRYKM\n\n>b\nacgun\n"


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bgzip], ids=["plain", "gzip", "bgzip"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_formats(tmp_path: Path, pack, newline: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(pack(TEXT.replace(b"\n", newline)))
    assert records(path) == {"a": "ACGTNNNN", "b": "ACGTN"}


def test_lower_case_is_kept_as_a_mask(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_bytes(b">a\nACgtn\nN-y\n")
    (record,) = read_fasta([path])
    assert record.lower_case.tolist() == [0, 0, 1, 1, 1, 0, 0, 1]


names = st.text(string.ascii_letters + string.digits + "|/.:_-#é", min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    genome=st.dictionaries(names, st.text("ACGTUNRYacgtn", min_size=1, max_size=200), min_size=1, max_size=5),
    width=st.integers(1, 80),
    block=st.integers(1, 64),
    final_newline=st.booleans(),
)
def test_any_wrapping_and_any_block_size_read_the_same(
    tmp_path_factory: pytest.TempPathFactory, genome: dict[str, str], width: int, block: int, final_newline: bool
) -> None:
    lines = []
    for name, sequence in genome.items():
        lines += [f">{name} text"] + [sequence[at : at + width] for at in range(0, len(sequence), width)]
    path = tmp_path_factory.mktemp("fasta") / "x.fa"
    path.write_text("\n".join(lines) + "\n" * final_newline, encoding="utf-8")
    progress: list[tuple[int, float]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK", block)
        read = list(read_fasta([path], lambda bases, share: progress.append((bases, share))))
    assert {record.name: decode(record.tokens) for record in read} == {n: decode(encode(s)) for n, s in genome.items()}
    assert all(
        np.array_equal(record.lower_case, [letter.islower() for letter in genome[record.name]]) for record in read
    )
    assert sum(bases for bases, _ in progress) == sum(len(sequence) for sequence in genome.values())
    assert progress[-1][1] == 1


def test_demo_corpus_is_the_slice_its_origin_states() -> None:
    (record,) = read_fasta([demo_corpus()])
    assert record.tokens.size == 5_000_000
    assert int((record.tokens == 11).sum()) == 50_000
    origin = (demo_corpus().parent / "ORIGIN.md").read_text()
    assert files.describe_file(demo_corpus())["sha256"] in origin


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"\n\n", "is empty", id="blank"),
        pytest.param(b"\nACGT\n", "no '>' header before line 1", id="no header"),
        pytest.param(b">a\n>b\nACGT\n", "record 'a' of .* has no sequence", id="no sequence"),
        pytest.param(b">b\nACGT\n>a\n\n", "record 'a' of .* has no sequence", id="no sequence at the end"),
        pytest.param(b">\nACGT\n", "line 1 is a '>' header without a name", id="no name"),
        pytest.param(b">a\nACGT\n\nACLGT\n", "line 4 column 3: record 'a' has letter 'L'", id="protein"),
        pytest.param(b">a\r\nAC GT\r\nAC*\r\n", "line 3 column 3: record 'a' has letter '\\*'", id="stop codon"),
        pytest.param(b">a\nAC>GT\n", "line 2 column 3: record 'a' has letter '>'", id="header inside a line"),
        pytest.param(b">a\nACGT\n>b\nA\n>a\nACGT\n", "record name 'a' .* second time", id="duplicate"),
        pytest.param(gzip.compress(TEXT * 50)[:-20], "truncated gzip", id="truncated gzip"),
        pytest.param(gzip.compress(TEXT)[:5], "truncated gzip", id="truncated gzip header"),
        pytest.param(gzip.compress(TEXT)[:-8] + b"12345678", "corrupt gzip", id="gzip with a wrong checksum"),
        pytest.param(gzip.compress(TEXT)[:10] + b"\xff" * 30, "corrupt gzip", id="corrupt gzip"),
        pytest.param(bgzip(TEXT)[: -len(BGZIP_END)], "truncated gzip", id="bgzip cut between blocks"),
    ],
)
def test_bad_fasta(tmp_path: Path, refuse, content: bytes, says: str) -> None:
    path = tmp_path / "x.fa"
    path.write_bytes(content)
    message = refuse("build", path, "--out", tmp_path / "out")
    assert re.search(says, message), message
    assert str(path) in message


def test_missing_file_and_folder(tmp_path: Path, refuse) -> None:
    assert "No such file" in refuse("build", tmp_path / "none.fa", "--out", tmp_path / "out")
    assert "Is a directory" in refuse("build", tmp_path, "--out", tmp_path / "out")


def test_duplicate_name_in_another_file(tmp_path: Path) -> None:
    for name in ("x.fa", "y.fa"):
        (tmp_path / name).write_bytes(b">a\nACGT\n")
    with pytest.raises(UserError, match=r"record name 'a' of .*y\.fa occurs a second time \(first in .*x\.fa\)"):
        list(read_fasta([tmp_path / "x.fa", tmp_path / "y.fa"]))
