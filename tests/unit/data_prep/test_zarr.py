"""Our writers of Zarr files write what zarr-python writes, byte for byte."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from data_prep import zarr_mask, zarr_tokens
from data_prep.zarr_mask import RangeWriter
from data_prep.zarr_metadata import write_groups
from data_prep.zarr_tokens import TokenWriter
from hyena_dist.data.tokenizer import VOCAB


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def cut(values: np.ndarray, seed: int) -> list[np.ndarray]:
    """Cut an array into blocks of any size, some of them empty."""
    ends = np.sort(np.random.default_rng(seed).integers(0, values.size + 1, 20))
    return np.split(values, ends)


@pytest.mark.parametrize("length", [1, 65_535, 65_536, 65_537, 262_144, 262_145, 700_001])
def test_tokens(tmp_path: Path, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Small shard files, so that a small contig has several.
    monkeypatch.setattr(zarr_tokens, "ZARR_SHARD", 4 * zarr_tokens.ZARR_CHUNK)
    shard = min(4 * zarr_tokens.ZARR_CHUNK, -(-length // zarr_tokens.ZARR_CHUNK) * zarr_tokens.ZARR_CHUNK)
    monkeypatch.setattr(zarr_tokens, "zarr_shard_length", lambda _: shard)
    tokens = np.random.default_rng(0).integers(7, 11, length, np.uint8)
    tokens[length // 3 : length // 2] = 11
    tokens[-1] = 11
    writer = TokenWriter(tmp_path / "ours/contigs/x", {"contig": "x", "species": None})
    for block in cut(tokens, length):
        writer.write(block)
    described = writer.close()
    write_groups(tmp_path / "ours", soft_mask=False)
    assert described["composition"]["N"] == np.count_nonzero(tokens == 11)
    assert described["composition"]["A"] == np.count_nonzero(tokens == 7)

    ours = zarr.open_array(str(tmp_path / "ours/contigs/x"), mode="r")
    assert np.array_equal(ours[:], tokens)
    theirs = zarr.open_group(str(tmp_path / "theirs"), mode="w", zarr_format=3)
    theirs.attrs.update({"format": "hyena-dist-store", "version": 2, "tokenizer": VOCAB})
    theirs.create_group("contigs", attributes=dict(zarr.open_group(str(tmp_path / "ours/contigs"), mode="r").attrs))
    array = theirs.create_array(
        "contigs/x",
        shape=(length,),
        dtype="uint8",
        chunks=(zarr_tokens.ZARR_CHUNK,),
        shards=(shard,),
        serializer=ours.serializer,
        compressors=zarr.codecs.Crc32cCodec(),
        fill_value=255,
        attributes={"contig": "x", "species": None},
    )
    array[:] = tokens
    assert content(tmp_path / "ours") == content(tmp_path / "theirs")


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_ranges(tmp_path: Path, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zarr_mask, "MASK_CHUNK", 100)
    draw = np.random.default_rng(0)
    mask = np.repeat(draw.random(700) < share, draw.integers(1, 9, 700))
    writer = RangeWriter(tmp_path / "ours", {"contig": "x"})
    for block in cut(mask, 1):
        writer.write(block)
    files = writer.close()
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False)).reshape(-1, 2)
    assert len(files) == 1 + -(-len(edges) // 100)
    ours = zarr.open_array(str(tmp_path / "ours"), mode="r")
    assert np.array_equal(ours[:], edges)
    assert np.array_equal(np.concatenate([edges[:0], *zarr_mask.read_ranges(tmp_path / "ours")]), edges)
    theirs = zarr.create_array(
        str(tmp_path / "theirs"),
        shape=edges.shape,
        dtype="int64",
        chunks=(100, 2),
        compressors=[zarr.codecs.ZstdCodec(level=3), zarr.codecs.Crc32cCodec()],
        fill_value=0,
        attributes={"contig": "x"},
        zarr_format=3,
    )
    theirs[:] = edges
    assert content(tmp_path / "ours") == content(tmp_path / "theirs")
