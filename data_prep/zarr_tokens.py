"""Writing of a Zarr array of tokens, block by block."""

import hashlib
from pathlib import Path

import numpy as np

from data_prep.zarr_metadata import CRC32C, LITTLE, FileTable, array_metadata, write_node
from hyena_dist.data.store import manifest
from hyena_dist.data.store.manifest import ZARR_CHUNK, ZARR_FILL
from hyena_dist.data.store.packed import CODEC, pack
from hyena_dist.data.store.shard_file import CRC_BYTES, MISSING, checksum
from hyena_dist.data.tokenizer import Tokens


class TokenWriter:
    """Writes an array of tokens, whose length becomes known only at the end, into a new folder.

    Attributes:
        length: number of tokens so far.

    Args:
        folder: folder of the array.
        codec: how tokens are stored, of CODECS.
    """

    def __init__(self, folder: Path, codec: str) -> None:
        (folder / "c").mkdir(parents=True)
        self._folder = folder
        self._codec = codec
        self._files: FileTable = {}
        self._chunk = np.empty(ZARR_CHUNK, np.uint8)
        self._filled = 0  # how many tokens of the present chunk are there
        self._shard = _ShardFile(folder / "c" / "0")
        self.length = 0

    def write(self, tokens: Tokens) -> None:
        """Append tokens: A, C, G, T or N, uint8 [any length]."""
        self.length += tokens.size
        while tokens.size:
            taken = min(tokens.size, ZARR_CHUNK - self._filled)
            self._chunk[self._filled : self._filled + taken] = tokens[:taken]
            self._filled += taken
            tokens = tokens[taken:]
            if self._filled == ZARR_CHUNK:
                self._write_chunk()

    def close(self) -> FileTable:
        """Finish the array, and return the files that were written."""
        if self._filled:
            self._chunk[self._filled :] = ZARR_FILL  # the value with which Zarr fills up the last chunk
            self._write_chunk()
        shard_length = manifest.zarr_shard_length(self.length, manifest.ZARR_SHARD)
        self._end_shard(shard_length // ZARR_CHUNK)
        inner = {
            "chunk_shape": [ZARR_CHUNK],
            "codecs": [{"name": CODEC} if self._codec == "packed" else {"name": "bytes"}, CRC32C],
            "index_codecs": [LITTLE, CRC32C],
            "index_location": "end",
        }
        codecs = [{"name": "sharding_indexed", "configuration": inner}]
        metadata = array_metadata([self.length], "uint8", [shard_length], ZARR_FILL, codecs, {})
        self._files["zarr.json"] = write_node(self._folder, metadata)
        return self._files

    def _write_chunk(self) -> None:
        """Pack the present chunk into the present file, or into a new one if that is full."""
        if self._shard.chunks == manifest.ZARR_SHARD // ZARR_CHUNK:
            self._end_shard(self._shard.chunks)
            self._shard = _ShardFile(self._folder / "c" / str(len(self._files)))
        self._shard.write(pack(self._chunk) if self._codec == "packed" else self._chunk.tobytes())
        self._filled = 0

    def _end_shard(self, chunks: int) -> None:
        """Finish the present file with the index of `chunks` chunks."""
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
