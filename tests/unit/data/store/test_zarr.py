"""Direct reading of the packed Zarr arrays gives what zarr-python reads, and no damage passes."""

import json
import re
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.build import BuildOptions, build_store
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.tokenizer import encode
from hyena_dist.errors import UserError

FILE = "genome.zarr/tokens/0/c/0"
CHUNK = 65_536
CHUNKS = 4  # in FILE: 200,500 bases


def _index(content: bytes) -> np.ndarray:
    """Return offset and size of each chunk in a shard file, int [chunks, 2]."""
    return np.frombuffer(content[-(16 * CHUNKS + 4) : -4], "<u8").reshape(CHUNKS, 2).astype(int)


def _write_index(path: Path, content: bytes, index: np.ndarray) -> None:
    """Replace the index of a shard file by another one, with a checksum that is right."""
    table = index.astype("<u8").tobytes()
    crc = google_crc32c.value(table).to_bytes(4, "little")
    path.write_bytes(content[: -(16 * CHUNKS + 4)] + table + crc)


def test_equals_zarr_python(store_folder: Path) -> None:
    array = zarr.open_array(str(store_folder / "genome.zarr/tokens/0"), mode="r")
    store = GenomeStore.open(store_folder)
    np.testing.assert_array_equal(np.concatenate([store.read("big", 0, 200_000), store.read("small", 0, 500)]), array)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_every_flipped_byte_is_named(store_folder: Path, tmp_path_factory: pytest.TempPathFactory, data) -> None:
    good = (store_folder / FILE).read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    flip = data.draw(st.integers(1, 255))
    copy = tmp_path_factory.mktemp("flip") / "s"
    _link(store_folder, copy)
    (copy / FILE).unlink()
    (copy / FILE).write_bytes(good[:at] + bytes([good[at] ^ flip]) + good[at + 1 :])
    index = _index(good)
    damaged = np.flatnonzero((index[:, 0] <= at) & (at < index.sum(axis=1)))
    start, end = (damaged[0] * CHUNK, min(200_000, (damaged[0] + 1) * CHUNK)) if damaged.size else (0, 200_000)
    reader = GenomeStore.open(copy)
    position = data.draw(st.integers(start, end - 1))
    message = (
        f"{FILE} .*crc32c.*, so that big:{start}-{end} cannot be read; `hyena-dist data verify {re.escape(str(copy))}`"
    )
    for _ in range(2):  # it stays an error
        with pytest.raises(UserError, match=message):
            reader.read("big", position, position + 1)
    if damaged.size:  # and what is whole can be read
        whole = 0 if start else CHUNK
        expected = GenomeStore.open(store_folder).read("big", whole, whole + CHUNK)
        np.testing.assert_array_equal(reader.read("big", whole, whole + CHUNK), expected)


def _link(folder: Path, copy: Path) -> None:
    """Copy a folder with hard links, which takes no time."""
    for file in folder.rglob("*"):
        if file.is_file():
            (copy / file.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            (copy / file.relative_to(folder)).hardlink_to(file)


def test_a_missing_file(store_copy: Path) -> None:
    (store_copy / FILE).unlink()
    reader = GenomeStore.open(store_copy)
    with pytest.raises(UserError, match=f"{FILE} is missing, so that big:0-200000 cannot be read; .*data verify"):
        reader.read("big", 70_000, 70_001)
    with pytest.raises(UserError, match=f"{FILE} is missing, so that small:0-500 cannot be read; .*data verify"):
        reader.read("small", 7, 8)


@pytest.mark.parametrize("keep", [0, 1, 30_000, -1])
def test_a_truncated_file(store_copy: Path, keep: int) -> None:
    good = (store_copy / FILE).read_bytes()
    (store_copy / FILE).write_bytes(good[:keep])
    size = len(good[:keep])
    with pytest.raises(UserError, match=f"{FILE} has {size} bytes instead of {len(good)}, so that big:0-200000 cannot"):
        GenomeStore.open(store_copy).read("big", 70_000, 70_001)


def test_a_chunk_that_was_never_written(store_copy: Path) -> None:
    good = (store_copy / FILE).read_bytes()
    index = _index(good).astype(np.uint64)
    index[1] = 2**64 - 1
    _write_index(store_copy / FILE, good, index)
    reader = GenomeStore.open(store_copy)
    with pytest.raises(UserError, match=f"{FILE} lacks a chunk, so that big:65536-131072 cannot be read"):
        reader.read("big", 0, 100_000)
    assert reader.read("big", 0, CHUNK).size == CHUNK


@pytest.mark.parametrize(
    ("entry", "reason"),
    [((10**9, 16_392), "a chunk leaves the file"), ((0, 3), "a chunk leaves the file"), ((0, 100), "crc32c")],
)
def test_an_index_that_points_elsewhere(store_copy: Path, entry: tuple[int, int], reason: str) -> None:
    good = (store_copy / FILE).read_bytes()
    index = _index(good)
    index[0] = entry
    _write_index(store_copy / FILE, good, index)
    with pytest.raises(UserError, match=f"{FILE} is damaged .*{reason}.*big:0-65536"):
        GenomeStore.open(store_copy).read("big", 0, 1)


@pytest.mark.parametrize(
    ("payload", "reason"), [(b"", "bytes are no packed chunk"), (None, "values that are no tokens")]
)
def test_chunks_that_hold_no_tokens_with_right_checksums(store_copy: Path, payload: bytes | None, reason: str) -> None:
    if payload is None:  # a run of the fill value, as a writer would leave that skipped a chunk
        run = np.array([(5, 3, 255)], [("start", "<u4"), ("length", "<u4"), ("value", "<u4")]).tobytes()
        payload = bytes(CHUNK // 4) + run + (1).to_bytes(4, "little")
    good = (store_copy / FILE).read_bytes()
    chunk = payload + google_crc32c.value(payload).to_bytes(4, "little")
    index = _index(good)
    index[0] = (0, len(chunk))
    _write_index(store_copy / FILE, chunk + good[len(chunk) :], index)
    with pytest.raises(UserError, match=f"{FILE} .*{reason}.*big:0-65536"):
        GenomeStore.open(store_copy).read("big", 0, 1)


def test_a_file_that_the_manifest_does_not_name(store_copy: Path) -> None:
    manifest = store_copy / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"{FILE}"', f'"{FILE}7"'))
    with pytest.raises(UserError, match=rf"manifest\.json does not name {FILE}"):
        GenomeStore.open(store_copy).read("big", 0, 1)


def test_plain_tokens_are_read_too_and_by_any_zarr(tmp_path: Path, letters: dict[str, bytes]) -> None:
    """There are more contigs than chunks, and more files than are mapped at a time."""
    fasta = tmp_path / "x.fa"
    fasta.write_bytes(b"".join(b">%d\n%s\n" % (i, letters["big"][i * 50 : i * 1000 + 1]) for i in range(150)))
    for codec in ("packed", "none"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("hyena_dist.data.store.manifest.ZARR_SHARD", CHUNK)
            build_store([fasta], tmp_path / codec, BuildOptions(codec=codec), say=lambda _: None)
    plain = json.loads((tmp_path / "none/genome.zarr/tokens/0/zarr.json").read_text())
    assert plain["codecs"][0]["configuration"]["codecs"] == [{"name": "bytes"}, {"name": "crc32c"}]
    both = [GenomeStore.open(tmp_path / codec) for codec in ("packed", "none")]
    assert both[0].fingerprint == both[1].fingerprint
    array = zarr.open_array(str(tmp_path / "none/genome.zarr/tokens/0"), mode="r")[:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hyena_dist.data.store.zarr.MAPS", 3)
        for store in both:
            at = 0
            for name, length in store.contigs.items():
                tokens = store.read(name, 0, length)
                np.testing.assert_array_equal(tokens, encode(letters["big"][int(name) * 50 : int(name) * 1000 + 1]))
                np.testing.assert_array_equal(tokens, array[at : at + length])
                at += length
            assert len(store._reader._maps) == 3  # of 171
