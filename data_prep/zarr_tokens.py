"""Writing of the Zarr array of a contig's tokens, block by block, and reading of its files for `data verify`."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.zarr_metadata import CRC32C, LITTLE, FileTable, array_metadata, write_node
from hyena_dist.data.store.manifest import ZARR_CHUNK, ZARR_FILL, ZARR_SHARD, zarr_shard_length
from hyena_dist.data.store.packed import CODEC, pack, parse_runs
from hyena_dist.data.store.shard_file import CRC_BYTES, MISSING, checksum, read_index, without_checksum
from hyena_dist.data.tokenizer import N, Tokens

# How many of the four bases in each byte of a payload are A, C, G and T; [256, 4].
_BASES_IN_BYTE = (np.arange(256)[:, None, None] >> np.arange(0, 8, 2)[:, None] & 3 == np.arange(4)).sum(1)


class TokenWriter:
    """Writes the array of one contig's tokens, whose length becomes known only at the end, into a new folder.

    Attributes:
        length: number of tokens so far.

    Args:
        folder: folder of the array.
        attributes: attributes of the array, for zarr.json.
    """

    def __init__(self, folder: Path, attributes: dict[str, Any]) -> None:
        (folder / "c").mkdir(parents=True)
        self._folder = folder
        self._attributes = attributes
        self._files: FileTable = {}
        self._chunk = np.empty(ZARR_CHUNK, np.uint8)
        self._filled = 0  # how many tokens of the present chunk are there
        self._shard = _ShardFile(folder / "c" / "0")
        self._digest = hashlib.sha256()
        self._payload_counts = np.zeros(256, np.int64)  # how often each byte occurs in the payloads
        self._n = 0  # how many tokens are N
        self.length = 0

    def write(self, tokens: Tokens) -> None:
        """Append tokens: A, C, G, T or N, uint8 [any length]."""
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
            The contig's entry of the manifest as far as it is about the content: "length", "sha256" of the tokens and
            "composition"; and the "files" that were written.
        """
        if self._filled:
            self._chunk[self._filled :] = ZARR_FILL  # the value with which Zarr fills up the last chunk
            self._write_chunk()
        shard_length = zarr_shard_length(self.length)
        self._end_shard(shard_length // ZARR_CHUNK)
        inner = {
            "chunk_shape": [ZARR_CHUNK],
            "codecs": [{"name": CODEC}, CRC32C],
            "index_codecs": [LITTLE, CRC32C],
            "index_location": "end",
        }
        codecs = [{"name": "sharding_indexed", "configuration": inner}]
        metadata = array_metadata([self.length], "uint8", [shard_length], ZARR_FILL, codecs, self._attributes)
        self._files["zarr.json"] = write_node(self._folder, metadata)
        a, c, g, t = (self._payload_counts @ _BASES_IN_BYTE).tolist()
        # The payload says A where a base is N, and after the last base.
        a -= self._n + -self.length % ZARR_CHUNK
        return {
            "length": self.length,
            "sha256": self._digest.hexdigest(),
            "composition": {"A": a, "C": c, "G": g, "T": t, "N": self._n},
            "files": self._files,
        }

    def _write_chunk(self) -> None:
        """Pack the present chunk into the present shard file, or into a new one if that is full."""
        if self._shard.chunks == ZARR_SHARD // ZARR_CHUNK:
            self._end_shard(self._shard.chunks)
            self._shard = _ShardFile(self._folder / "c" / str(len(self._files)))
        packed = pack(self._chunk)
        payload = np.frombuffer(packed, np.uint8, ZARR_CHUNK // 4)
        self._payload_counts += np.bincount(payload, minlength=256)
        runs = parse_runs(packed, ZARR_CHUNK)
        self._n += int(runs.lengths[runs.values == N].sum())
        self._shard.write(packed)
        self._filled = 0

    def _end_shard(self, chunks: int) -> None:
        """Finish the present shard file with the index of `chunks` chunks."""
        self._files[f"c/{len(self._files)}"] = self._shard.close(chunks)


class _ShardFile:
    """Writes one shard file: chunks in a row, then their index (shard_file.py has the layout)."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("xb")
        self._digest = hashlib.sha256()
        self._sizes: list[int] = []

    @property
    def chunks(self) -> int:
        """Number of chunks so far."""
        return len(self._sizes)

    def write(self, chunk: bytes) -> None:
        """Append a packed chunk."""
        data = chunk + checksum(chunk)
        self._write(data)
        self._sizes.append(len(data))

    def close(self, chunks: int) -> tuple[int, str]:
        """Finish the file with an index of `chunks` chunks, in which those that were not written are missing.

        Returns:
            Size of the file in bytes, and its sha256.
        """
        index = np.full((chunks, 2), MISSING, "<u8")
        ends = np.cumsum(self._sizes)
        index[: self.chunks, 0] = ends - self._sizes
        index[: self.chunks, 1] = self._sizes
        self._write(index.tobytes() + checksum(index.tobytes()))
        self._stream.close()
        return int(ends[-1]) + index.nbytes + CRC_BYTES, self._digest.hexdigest()

    def _write(self, data: bytes) -> None:
        """Append bytes to the file and to its hash."""
        self._stream.write(data)
        self._digest.update(data)


def read_shard(data: bytes, chunks: int) -> Iterator[bytes | None]:
    """Yield the packed chunks of a shard file, without their checksums; None for a chunk that is damaged.

    Args:
        data: content of the file.
        chunks: how many chunks there must be.

    Raises:
        ValueError: The index is damaged.
    """
    for offset, size in read_index(data, chunks).tolist():
        yield without_checksum(data[offset : offset + size])
