"""Writes and reads the Zarr v3 files of a store, block by block.

This is the part of the Zarr format that the store has, written directly: zarr-python would need a contig's length
before its first base, and the time to import it in every process. A test compares the bytes with zarr-python's.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store.manifest import STORE_FORMAT, VERSION, ZARR_CHUNK, ZARR_FILL, ZARR_SHARD, zarr_shard_length
from hyena_dist.data.store.packed import pack, parse_runs
from hyena_dist.data.tokenizer import VOCAB, N, Tokens

MASK_CHUNK = 2**16
"""Lower-case ranges in one file of a soft mask."""

_CRC32C: dict[str, Any] = {"name": "crc32c"}
_LITTLE: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
_ZSTD_LEVEL = 3
_GROUPS: dict[str, dict[str, Any]] = {
    "": {"format": STORE_FORMAT, "version": VERSION, "tokenizer": VOCAB},
    "contigs/": {"description": "tokens of each contig, one per base; the parent's attribute 'tokenizer' says which"},
    "soft_mask/": {"description": "lower-case ranges [start, end) of each contig, sorted: repeats, by convention"},
}
# Byte of a payload -> how many of its bases are A, C, G, T.
_BASES_IN_BYTE = (np.arange(256)[:, None, None] >> np.arange(0, 8, 2)[:, None] & 3 == np.arange(4)).sum(1)

FileTable = dict[str, tuple[int, str]]
"""Path of a file, relative to the array -> its bytes and sha256."""


def write_groups(folder: Path, *, soft_mask: bool) -> FileTable:
    """Write the metadata of the groups of a store whose arrays are there already."""
    return {
        f"{group}zarr.json": _write_json(folder / group, {"attributes": attributes} | _node("group"))
        for group, attributes in _GROUPS.items()
        if soft_mask or not group.startswith("soft_mask")
    }


class TokenWriter:
    """Writes the array of one contig, in a new folder, whose length is known at the end only.

    Args:
        folder: of the array.
        attributes: for zarr.json.
    """

    def __init__(self, folder: Path, attributes: dict[str, Any]) -> None:
        (folder / "c").mkdir(parents=True)
        self._folder, self._attributes = folder, attributes
        self._files: FileTable = {}
        self._chunk, self._filled = np.empty(ZARR_CHUNK, np.uint8), 0
        self._shard = _ShardFile(folder / "c" / "0")
        self._digest, self._payload_bytes, self._n, self.length = hashlib.sha256(), np.zeros(256, np.int64), 0, 0

    def write(self, tokens: Tokens) -> None:
        """Append tokens (A, C, G, T or N), uint8 [any length]."""
        self._digest.update(tokens.data)
        self.length += tokens.size
        while tokens.size:
            taken = min(tokens.size, ZARR_CHUNK - self._filled)
            self._chunk[self._filled : self._filled + taken] = tokens[:taken]
            self._filled += taken
            tokens = tokens[taken:]
            if self._filled == ZARR_CHUNK:
                self._write_chunk()

    def close(self) -> dict[str, Any]:
        """Finish the array.

        Returns:
            What the manifest says of a contig's content ("length", "sha256", "composition"), and "files".
        """
        if self._filled:
            self._chunk[self._filled :] = ZARR_FILL  # as Zarr fills up the last chunk
            self._write_chunk()
        length = zarr_shard_length(self.length)
        self._end_shard(length // ZARR_CHUNK)
        inner = {
            "chunk_shape": [ZARR_CHUNK],
            "codecs": [{"name": "hyena_dist.packed_nucleotides"}, _CRC32C],
            "index_codecs": [_LITTLE, _CRC32C],
            "index_location": "end",
        }
        codecs = [{"name": "sharding_indexed", "configuration": inner}]
        metadata = _array([self.length], "uint8", [length], ZARR_FILL, codecs, self._attributes)
        self._files["zarr.json"] = _write_json(self._folder, metadata)
        a, c, g, t = (self._payload_bytes @ _BASES_IN_BYTE).tolist()
        # Where a base is N, and after the last one, the payload says A.
        a -= self._n + -self.length % ZARR_CHUNK
        return {
            "length": self.length,
            "sha256": self._digest.hexdigest(),
            "composition": {"A": a, "C": c, "G": g, "T": t, "N": self._n},
            "files": self._files,
        }

    def _write_chunk(self) -> None:
        if self._shard.chunks == ZARR_SHARD // ZARR_CHUNK:
            self._end_shard(self._shard.chunks)
            self._shard = _ShardFile(self._folder / "c" / str(len(self._files)))
        packed = pack(self._chunk)
        payload = np.frombuffer(packed, np.uint8, ZARR_CHUNK // 4)
        self._payload_bytes += np.bincount(payload, minlength=256)
        runs = parse_runs(packed, ZARR_CHUNK)
        self._n += int(runs.lengths[runs.values == N].sum())
        self._shard.write(packed)
        self._filled = 0

    def _end_shard(self, chunks: int) -> None:
        self._files[f"c/{len(self._files)}"] = self._shard.close(chunks)


class RangeWriter:
    """Writes the soft mask of one contig: its lower-case ranges, in a new folder.

    Args:
        folder: of the array.
        attributes: for zarr.json.
    """

    def __init__(self, folder: Path, attributes: dict[str, Any]) -> None:
        from numcodecs.zstd import Zstd

        folder.mkdir(parents=True)
        self._folder, self._attributes, self._zstd = folder, attributes, Zstd(_ZSTD_LEVEL)
        self._files: FileTable = {}
        self._edges: list[NDArray[np.int64]] = []  # where case changes, not yet written
        self._held = self._rows = self._bases = 0
        self._inside = False

    def write(self, lower_case: NDArray[np.bool_]) -> None:
        """Append which bases are lower-case, bool [any length]."""
        if not lower_case.size:
            return
        edges = np.flatnonzero(lower_case[1:] != lower_case[:-1]) + 1
        if bool(lower_case[0]) != self._inside:
            edges = np.concatenate([[0], edges])
        self._inside = bool(lower_case[-1])
        self._add(edges + self._bases)
        self._bases += lower_case.size

    def close(self) -> FileTable:
        """Finish the array and return its files."""
        if self._inside:
            self._add(np.array([self._bases]))
        edges = self._pop_edges()
        if edges.size:
            self._write_chunk(edges)
        codecs = [_LITTLE, {"name": "zstd", "configuration": {"level": _ZSTD_LEVEL, "checksum": False}}, _CRC32C]
        metadata = _array([self._rows, 2], "int64", [MASK_CHUNK, 2], 0, codecs, self._attributes)
        self._files["zarr.json"] = _write_json(self._folder, metadata)
        return self._files

    def _add(self, edges: NDArray[np.int64]) -> None:
        self._edges.append(edges)
        self._held += edges.size
        if self._held >= 2 * MASK_CHUNK:
            held = self._pop_edges()
            whole = held.size - held.size % (2 * MASK_CHUNK)
            for first in range(0, whole, 2 * MASK_CHUNK):
                self._write_chunk(held[first : first + 2 * MASK_CHUNK])
            self._edges, self._held = [held[whole:]], held.size - whole

    def _pop_edges(self) -> NDArray[np.int64]:
        edges, self._edges = self._edges, []
        return np.concatenate(edges) if edges else np.empty(0, np.int64)

    def _write_chunk(self, edges: NDArray[np.int64]) -> None:
        chunk = np.zeros(2 * MASK_CHUNK, "<i8")
        chunk[: edges.size] = edges
        self._rows += edges.size // 2
        data = self._zstd.encode(chunk.tobytes())
        name = f"c/{len(self._files)}/0"
        (self._folder / name).parent.mkdir(parents=True)
        self._files[name] = _write_file(self._folder / name, data + _checksum(data))


class _ShardFile:
    """A file of chunks in a row, each with its checksum, then the index, as sharding_indexed defines it."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("xb")
        self._digest = hashlib.sha256()
        self._sizes: list[int] = []

    @property
    def chunks(self) -> int:
        return len(self._sizes)

    def write(self, chunk: bytes) -> None:
        data = chunk + _checksum(chunk)
        self._write(data)
        self._sizes.append(len(data))

    def close(self, chunks: int) -> tuple[int, str]:
        """Write the index of `chunks` chunks, of which those after the last written one are missing."""
        index = np.full((chunks, 2), 2**64 - 1, "<u8")
        ends = np.cumsum(self._sizes)
        index[: self.chunks, 0], index[: self.chunks, 1] = ends - self._sizes, self._sizes
        self._write(index.tobytes() + _checksum(index.tobytes()))
        self._stream.close()
        return int(ends[-1]) + index.nbytes + 4, self._digest.hexdigest()

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._digest.update(data)


def read_shard(data: bytes, chunks: int) -> Iterator[bytes | None]:
    """Yield the packed chunks of a shard file, without their checksums; None for a chunk that is damaged.

    Args:
        data: the file's content.
        chunks: how many chunks there must be.

    Raises:
        ValueError: a damaged index.
    """
    index = _checked(data[-(16 * chunks + 4) :])
    if index is None or len(index) != 16 * chunks:
        raise ValueError("its index of chunks has another crc32c")
    for offset, size in np.frombuffer(index, "<u8").reshape(-1, 2).tolist():
        yield _checked(data[offset : offset + size])


def read_ranges(folder: Path) -> Iterator[NDArray[np.int64]]:
    """Yield the ranges of a soft mask, int64 [k, 2], file by file.

    Raises:
        ValueError, KeyError, OSError: damaged or missing files.
    """
    from numcodecs.zstd import Zstd

    rows = json.loads((folder / "zarr.json").read_bytes())["shape"][0]
    for number in range(-(-rows // MASK_CHUNK)):
        data = _checked((folder / f"c/{number}/0").read_bytes())
        if data is None:
            raise ValueError(f"c/{number}/0 has another crc32c")
        chunk = np.frombuffer(Zstd().decode(data), "<i8").reshape(-1, 2)
        yield chunk[: rows - number * MASK_CHUNK]


def _checked(data: bytes) -> bytes | None:
    """`data` without the crc32c at its end, or None if that is not right."""
    return data[:-4] if _checksum(data[:-4]) == data[-4:] else None


def _checksum(data: bytes) -> bytes:
    return int(google_crc32c.value(data)).to_bytes(4, "little")


def _node(kind: str) -> dict[str, Any]:
    return {"zarr_format": 3, "node_type": kind}


def _array(
    shape: list[int], data_type: str, chunk: list[int], fill: int, codecs: list[dict[str, Any]], attributes: Any
) -> dict[str, Any]:
    return {
        "shape": shape,
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": codecs,
        "attributes": attributes,
        **_node("array"),
        "storage_transformers": [],
    }


def _write_json(folder: Path, content: dict[str, Any]) -> tuple[int, str]:
    return _write_file(folder / "zarr.json", json.dumps(content, indent=2).encode())


def _write_file(path: Path, data: bytes) -> tuple[int, str]:
    path.write_bytes(data)
    return len(data), hashlib.sha256(data).hexdigest()
