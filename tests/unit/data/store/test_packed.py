"""Packing four bases into a byte loses nothing, gives the bytes of the specification, and is a codec that zarr has."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hyena_dist.data.store.packed import pack, parse_runs, unpack, unpack_range

BASES = st.integers(7, 10)
TOKENS = arrays.arrays(np.uint8, st.integers(0, 300), elements=st.one_of(BASES, st.integers(0, 255)))
FEW_VALUES = arrays.arrays(np.uint8, st.integers(0, 300), elements=st.sampled_from([7, 8, 9, 10, 11, 255]))


@given(TOKENS | FEW_VALUES)
def test_any_array_comes_back(tokens: np.ndarray) -> None:
    chunk = pack(tokens)
    assert np.array_equal(unpack(chunk, tokens.size), tokens)
    assert np.array_equal(unpack(np.frombuffer(chunk, np.uint8), tokens.size), tokens)


def test_the_bytes_are_those_of_the_specification() -> None:
    tokens = np.array([8, 9, 10, 7, 11, 11, 10, 255], np.uint8)  # C G T A, N N T fill
    expected = bytes([0b00_11_10_01, 0b00_11_00_00])
    expected += bytes([4, 0, 0, 0, 2, 0, 0, 0, 11, 0, 0, 0])
    expected += bytes([7, 0, 0, 0, 1, 0, 0, 0, 255, 0, 0, 0])
    assert pack(tokens) == expected + bytes([2, 0, 0, 0])
    assert pack(np.empty(0, np.uint8)) == bytes(4)
    assert pack(np.full(65_536, 7, np.uint8)) == bytes(16_384 + 4)


@given(FEW_VALUES)
def test_runs_are_the_longest_ranges_of_other_values(tokens: np.ndarray) -> None:
    runs = parse_runs(pack(tokens), tokens.size)
    covered = np.zeros(tokens.size, bool)
    for start, length, value in zip(*runs, strict=True):
        assert (tokens[start : start + length] == value).all()
        assert start == 0 or tokens[start - 1] != value
        assert start + length == tokens.size or tokens[start + length] != value
        covered[start : start + length] = True
    assert np.array_equal(covered, ~np.isin(tokens, [7, 8, 9, 10]))


@given(FEW_VALUES.filter(lambda tokens: tokens.size), st.data())
def test_a_range_is_read_without_the_rest(tokens: np.ndarray, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, tokens.size))
    start = data.draw(st.integers(0, end))
    payload = np.frombuffer(pack(tokens), np.uint8, -(-tokens.size // 4))
    expected = np.where(np.isin(tokens, [7, 8, 9, 10]), tokens, 7)
    read = unpack_range(payload, start, end)
    assert np.array_equal(read, expected[start:end])
    read[:] = 0  # a new array, which the caller may change
    assert np.array_equal(unpack_range(payload, start, end), expected[start:end])


@pytest.mark.parametrize(
    "damage",
    [
        lambda chunk: b"",
        lambda chunk: chunk[:3],
        lambda chunk: chunk[:-1],
        lambda chunk: chunk + b"\0",
        lambda chunk: chunk[:-4] + bytes([9, 0, 0, 0]),
        lambda chunk: chunk[:2] + bytes([7]) + chunk[3:],  # the first run starts at 7 and leaves the chunk
    ],
)
def test_a_chunk_of_another_size_is_refused(damage) -> None:
    chunk = pack(np.array([11, 11, 8, 9, 10, 10, 7, 11], np.uint8))
    with pytest.raises(ValueError, match="packed chunk"):
        unpack(damage(chunk), 8)


@pytest.mark.parametrize("shape", [(1000,), (37, 20)])
def test_plain_zarr_has_the_codec(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.save(tmp_path / "values.npy", values)
    from hyena_dist.data.store.codec import PackedNucleotides

    array = zarr.create_array(
        str(tmp_path / "a"), shape=shape, dtype="uint8", chunks=(16,) * len(shape), serializer=PackedNucleotides()
    )
    array[...] = values
    # A process that has not imported hyena_dist finds the codec by the entry point.
    script = (
        "import sys, zarr, numpy; "
        "assert (zarr.open_array('a', mode='r')[...] == numpy.load('values.npy')).all(); "
        "print('hyena_dist.data.store.codec' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_other_types_are_refused(tmp_path: Path) -> None:
    from hyena_dist.data.store.codec import PackedNucleotides

    with pytest.raises(ValueError, match="stores uint8"):
        zarr.create_array(str(tmp_path / "a"), shape=(8,), dtype="uint16", chunks=(8,), serializer=PackedNucleotides())
