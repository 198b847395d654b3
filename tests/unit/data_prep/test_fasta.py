"""FASTA is read in all its forms, and the error of a bad file says what is wrong with it."""

import gzip
import re
import string
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import demo_corpus
from data_prep.build import BuildOptions, build_store
from hyena_dist.data.text import files
from hyena_dist.data.text.fasta import LOWER, TOKEN, read_fasta
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


def codes(path: Path) -> dict[str, np.ndarray]:
    """Return the codes of each record of a file: token | LOWER | AMBIGUOUS."""
    text = files.ahead(files.read_text(path))
    return {name: np.frombuffer(b"".join(blocks), np.uint8) for name, blocks in read_fasta(path, text)}


def records(path: Path) -> dict[str, str]:
    return {name: decode(found & TOKEN) for name, found in codes(path).items()}


TEXT = b">a first\nACGT\nRYKM\n\n>b\nacgun\n"


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bgzip], ids=["plain", "gzip", "bgzip"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
def test_formats(tmp_path: Path, pack, newline: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(pack(TEXT.replace(b"\n", newline)))
    assert records(path) == {"a": "ACGTNNNN", "b": "ACGTN"}


@pytest.mark.parametrize("block", [1, 2, 3, 7, 100])
def test_line_ends_may_be_mixed(block: int) -> None:
    """A lone CR ends a header as well, so that the line after it is sequence; CRLF is one end, also between blocks."""
    text = b">a\rACGT\nTT\r\n\r>b\r\nGG\rCC\n\r\n>c\nA\r\nC\r"
    blocks = [text[at : at + block] for at in range(0, len(text), block)]
    read = {name: decode(np.frombuffer(b"".join(parts), np.uint8)) for name, parts in read_fasta(Path("x"), blocks)}
    assert read == {"a": "ACGTTT", "b": "GGCC", "c": "AC"}


def test_lower_case_is_kept_as_a_mask(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_bytes(b">a\nACgtn\nN-y\n")
    assert (codes(path)["a"] >= LOWER).tolist() == [False, False, True, True, True, False, False, True]


names = st.text(string.ascii_letters + string.digits + "|/.:_-#é", min_size=1, max_size=12)


line_ends = st.sampled_from(["\n", "\r\n", "\r", "\n\n"])
genomes = st.dictionaries(names, st.text("ACGTUNRYacgtunx", min_size=1, max_size=200), min_size=1, max_size=5)


def written(genome: dict[str, str], width: int, end: str, final_newline: bool) -> bytes:
    lines = []
    for name, sequence in genome.items():
        lines += [f">{name} text"] + [sequence[at : at + width] for at in range(0, len(sequence), width)]
    return (end.join(lines) + end * final_newline).encode()


@settings(max_examples=100, deadline=None)
@given(genomes, st.integers(1, 80), line_ends, st.integers(1, 64), st.booleans())
def test_any_wrapping_and_any_block_size_read_the_same(
    genome: dict[str, str], width: int, end: str, block: int, final_newline: bool
) -> None:
    text = written(genome, width, end, final_newline)
    blocks = [text[at : at + block] for at in range(0, len(text), block)]
    read = {name: np.frombuffer(b"".join(parts), np.uint8) for name, parts in read_fasta(Path("x"), blocks)}
    assert {name: decode(found & TOKEN) for name, found in read.items()} == {
        name: decode(encode(sequence)) for name, sequence in genome.items()
    }
    for name, sequence in genome.items():
        assert (read[name] >= LOWER).tolist() == [letter.islower() for letter in sequence]


@settings(max_examples=25, deadline=None)
@given(genomes, st.integers(1, 80), line_ends, st.booleans(), st.sampled_from([bytes, gzip.compress, bgzip]))
def test_any_fasta_comes_back_from_a_store_by_plain_zarr(
    tmp_path_factory: pytest.TempPathFactory, genome: dict[str, str], width: int, end: str, final: bool, pack
) -> None:
    folder = tmp_path_factory.mktemp("fasta")
    (folder / "x.fa").write_bytes(pack(written(genome, width, end, final)))
    build_store([folder / "x.fa"], folder / "s", BuildOptions(soft_mask=True), say=lambda _: None)
    tokens = zarr.open_array(str(folder / "s/genome.zarr/tokens/0"), mode="r")[:]
    ends = np.load(folder / "s/index/end.npy").astype(int).tolist()
    mask = np.load(folder / "s/index/soft_mask.npy").astype(int).reshape(-1, 2)
    assert len(ends) == len(genome)
    for sequence, start, end in zip(genome.values(), [0, *ends], ends, strict=False):
        assert np.array_equal(tokens[start:end], encode(sequence))
        lower_case = np.zeros(len(sequence), bool)
        for first, last in mask[(mask[:, 0] >= start) & (mask[:, 0] < end)] - start:
            assert not lower_case[max(0, first - 1) : last].any()
            lower_case[first:last] = True
        assert lower_case.tolist() == [letter.islower() for letter in sequence]


def test_demo_corpus_is_the_slice_its_origin_states() -> None:
    (found,) = codes(demo_corpus()).values()
    assert found.size == 5_000_000
    assert int((found == 11).sum()) == 50_000
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
        pytest.param(b">a\nACGT\n\nACLGT\n", "line 4: base 7 of record 'a' is 'L'", id="protein"),
        pytest.param(b">a\r\nAC GT\r\nAC*\r\n", "line 3: base 7 of record 'a' is '\\*'", id="stop codon"),
        pytest.param(b">a\rAC\rGT\r\rAC*\r", "line 5: base 7 of record 'a' is '\\*'", id="stop codon after CR"),
        pytest.param(b">a\nAC>GT\n", "line 2: base 3 of record 'a' is '>'", id="header inside a line"),
        pytest.param(b">a\nACGT\n>b\nA\n>a\nACGT\n", "record name 'a' occurs a second time", id="duplicate"),
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


@pytest.mark.parametrize("processes", [1, 2])
def test_duplicate_name_in_another_file(tmp_path: Path, processes: int) -> None:
    for name in ("x.fa", "y.fa"):
        (tmp_path / name).write_bytes(b">a\nACGT\n")
    with pytest.raises(UserError, match=r"record name 'a' is in .*\.fa and in .*\.fa, .* human="):
        build_store([tmp_path / "x.fa", tmp_path / "y.fa"], tmp_path / "s", processes=processes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.fa", "y.fa"]


def test_text_that_gzip_holds_back_is_not_lost(tmp_path: Path) -> None:
    """A highly compressed file gives many full blocks for one piece of input; zeros may fill up its end."""
    path = tmp_path / "x.fa.gz"
    text = b">a\n" + b"A" * (5 * files.BLOCK + 17) + b"\n"
    path.write_bytes(gzip.compress(text) + gzip.compress(b"CC\n") + bytes(1000))
    assert codes(path)["a"].size == 5 * files.BLOCK + 17 + 2


def test_blocks_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "x.fa.gz"
    path.write_bytes(bgzip(b">a\n" + b"ACGT" * files.BLOCK, block=50_000))
    sizes = [len(block) for block in files.read_text(path)]
    assert sum(sizes) == 3 + 4 * files.BLOCK
    assert max(sizes) < 2 * files.BLOCK


def test_ahead_ends_when_its_user_does() -> None:
    made = []

    def blocks():
        for number in range(1000):
            made.append(number)
            yield number

    for number in files.ahead(blocks(), depth=2):
        if number == 3:
            break
    assert len(made) < 10
