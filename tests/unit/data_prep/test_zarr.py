"""Our writers of Zarr files write what zarr-python writes, byte for byte."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from data_prep.zarr_metadata import write_groups
from data_prep.zarr_tokens import TokenWriter
from hyena_dist.data.store import manifest
from hyena_dist.data.store.manifest import ZARR_CHUNK
from hyena_dist.data.tokenizer import VOCAB


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def cut(values: np.ndarray, seed: int) -> list[np.ndarray]:
    """Cut an array into blocks of any size, some of them empty."""
    ends = np.sort(np.random.default_rng(seed).integers(0, values.size + 1, 20))
    return np.split(values, ends)


@pytest.mark.parametrize("codec", ["packed", "none"])
@pytest.mark.parametrize("length", [1, 65_535, 65_536, 65_537, 262_144, 262_145, 700_001])
def test_tokens(tmp_path: Path, length: int, codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Small files, so that a small array has several.
    monkeypatch.setattr(manifest, "ZARR_SHARD", 4 * ZARR_CHUNK)
    tokens = np.random.default_rng(0).integers(7, 11, length, np.uint8)
    tokens[length // 3 : length // 2] = 11
    tokens[-1] = 11
    writer = TokenWriter(tmp_path / "ours/tokens/0", codec)
    for block in cut(tokens, length):
        writer.write(block)
    files = writer.close()
    write_groups(tmp_path / "ours")
    assert set(files) == set(content(tmp_path / "ours/tokens/0"))

    ours = zarr.open_array(str(tmp_path / "ours/tokens/0"), mode="r")
    assert np.array_equal(ours[:], tokens)
    theirs = zarr.open_group(str(tmp_path / "theirs"), mode="w", zarr_format=3)
    theirs.attrs.update({"format": "hyena-dist-store", "version": 3, "tokenizer": VOCAB})
    theirs.create_group("tokens", attributes=dict(zarr.open_group(str(tmp_path / "ours/tokens"), mode="r").attrs))
    array = theirs.create_array(
        "tokens/0",
        shape=(length,),
        dtype="uint8",
        chunks=(ZARR_CHUNK,),
        shards=(min(4 * ZARR_CHUNK, -(-length // ZARR_CHUNK) * ZARR_CHUNK),),
        serializer=ours.serializer,
        compressors=zarr.codecs.Crc32cCodec(),
        fill_value=255,
    )
    array[:] = tokens
    assert content(tmp_path / "ours") == content(tmp_path / "theirs")
