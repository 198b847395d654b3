"""A UCSC 2bit file is read as the FASTA file that it was made from."""

import re
import struct
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import ingest, twobit
from data_prep.build import BuildOptions, build_store
from data_prep.twobit import read_index, read_twobit
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.text.fasta import read_fasta
from hyena_dist.data.tokenizer import decode, encode

Refuse = Callable[..., str]


def ranges(of: str, wanted: Callable[[str], bool]) -> list[tuple[int, int]]:
    """Return start and size of the ranges of letters for which `wanted` is true."""
    found = []
    at = 0
    for is_wanted, letters in groupby(of, wanted):
        size = len(list(letters))
        if is_wanted:
            found.append((at, size))
        at += size
    return found


def to_twobit(genome: dict[str, str], order: str = "<") -> bytes:
    """Write a 2bit file, as faToTwoBit does."""

    def blocks(of: list[tuple[int, int]]) -> bytes:
        starts, sizes = zip(*of, strict=True) if of else ((), ())
        return struct.pack(f"{order}{1 + 2 * len(of)}I", len(of), *starts, *sizes)

    index, records = b"", b""
    first = 16 + sum(5 + len(name.encode()) for name in genome)
    for name, sequence in genome.items():
        index += bytes([len(name.encode())]) + name.encode() + struct.pack(f"{order}I", first + len(records))
        codes = ["TCAG".index(letter) if letter in "TCAG" else 0 for letter in sequence.upper()]
        codes += [0] * (-len(codes) % 4)
        packed = bytes(a << 6 | b << 4 | c << 2 | d for a, b, c, d in np.reshape(codes, (-1, 4)).tolist())
        records += struct.pack(f"{order}I", len(sequence)) + blocks(ranges(sequence, lambda letter: letter in "nN"))
        records += blocks(ranges(sequence, str.islower)) + bytes(4) + packed
    return struct.pack(f"{order}4I", 0x1A412743, 0, len(genome), 0) + index + records


GENOME = {"chr1": "NNACGTacgtnnACGTN", "chr2": "T", "chrM": "gattaca" * 50}
genomes = st.dictionaries(
    st.text("chr0123XYé_.", min_size=1, max_size=8), st.text("ACGTNacgtn", min_size=1, max_size=100), min_size=1
)


@settings(max_examples=50, deadline=None)
@given(genomes, st.sampled_from("<>"), st.integers(1, 20))
def test_a_2bit_file_reads_as_its_fasta(
    tmp_path_factory: pytest.TempPathFactory, genome: dict[str, str], order: str, block: int
) -> None:
    path = tmp_path_factory.mktemp("2bit") / "x.2bit"
    path.write_bytes(to_twobit(genome, order))
    fasta = "".join(f">{name}\n{sequence}\n" for name, sequence in genome.items()).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twobit, "BLOCK", 4 * block)
        found = {name: b"".join(blocks) for name, blocks in read_twobit(path, read_index(path))}
    assert found == {name: b"".join(blocks) for name, blocks in read_fasta(path, [fasta])}
    assert {name: len(codes) for name, codes in found.items()} == {name: len(text) for name, text in genome.items()}


def test_known_bytes(tmp_path: Path) -> None:
    """A file written by hand from the published format, and not by the writer above."""
    path = tmp_path / "x.2bit"
    path.write_bytes(
        bytes.fromhex("4327411a" + "00000000" + "01000000" + "00000000")
        + bytes.fromhex("01" + "61" + "16000000")
        + bytes.fromhex("05000000" + "01000000" + "04000000" + "01000000" + "00000000" + "00000000" + "1b" + "00")
    )
    found = {name: b"".join(blocks) for name, blocks in read_twobit(path, read_index(path))}
    assert {name: decode(np.frombuffer(codes, np.uint8)) for name, codes in found.items()} == {"a": "TCAGN"}


@pytest.mark.parametrize("processes", [1, 2])
def test_a_store_from_2bit(tmp_path: Path, processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "_TASK_BASES", 1)  # each sequence is a task
    (tmp_path / "x.2bit").write_bytes(to_twobit(GENOME))
    options = BuildOptions(soft_mask=True)
    build_store([tmp_path / "x.2bit"], tmp_path / "s", options, processes=processes, say=lambda _: None)
    store = GenomeStore.open(tmp_path / "s")
    assert store.contigs == {name: len(sequence) for name, sequence in GENOME.items()}
    for name, sequence in GENOME.items():
        assert np.array_equal(store.read(name, 0, len(sequence)), encode(sequence))
        assert store.soft_mask(name, 0, len(sequence)).tolist() == [letter.islower() for letter in sequence]
    (source,) = store.manifest["sources"]
    assert source["bytes"] == (tmp_path / "x.2bit").stat().st_size


def swapped(at: int, value: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + struct.pack("<I", value) + data[at + 4 :]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: data[:-1], "truncated or damaged"),
        (lambda data: data[:40], "truncated or damaged"),
        (lambda data: data[:10], "truncated or damaged"),
        (swapped(4, 1), "is 2bit version 1"),
        (swapped(8, 0), "is empty"),
        (swapped(18, 2**31), "truncated or damaged"),  # the record lies behind the end
        (swapped(22, 0), "has no bases"),
        (swapped(26, 2**31), "truncated or damaged"),  # more ranges than the file can hold
        (swapped(30, 1), "truncated or damaged"),  # a range of N that leaves the sequence
    ],
)
def test_bad_2bit(tmp_path: Path, refuse: Refuse, damage: Callable[[bytes], bytes], says: str) -> None:
    path = tmp_path / "x.2bit"
    good = to_twobit({"a": "N"})
    assert struct.unpack("<4I", good[22:38]) == (1, 1, 0, 1)
    path.write_bytes(damage(good))
    message = refuse("build", path, "--out", tmp_path / "s")
    assert re.search(says, message), message
    assert str(path) in message
