"""Direct reading of the packed Zarr arrays of a store: any range, without zarr-python, which takes 1 ms a read.

A contig's array is cut into shard files, a shard file into chunks (data_prep/README.md has the bytes):

    chunk 0, chunk 1, ..., offset and size of each chunk (u64, u64), crc32c of these

and each chunk ends with its crc32c. Files are mapped into memory. A chunk's checksum is computed when this process
first touches it; after that, base p of a chunk lies in byte p // 4 of its payload.
"""

from collections.abc import Mapping
from typing import NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store.manifest import ZARR, ZARR_CHUNK, Interval, array_path, zarr_shard_length
from hyena_dist.data.store.packed import parse_runs, unpack_range
from hyena_dist.data.store.reader import Files
from hyena_dist.data.tokenizer import VOCAB_SIZE, Tokens

_CRC_BYTES = 4
_MISSING = 2**64 - 1
"""Offset and size of a chunk that was never written."""


class _Shard(NamedTuple):
    """A mapped shard file."""

    path: str
    data: Tokens
    """uint8 [bytes of the file]"""
    chunks: NDArray[np.uint64]
    """[n, 2], offset and size of each chunk"""


class _Runs(NamedTuple):
    """The ranges of a chunk that hold another value than A, C, G or T, in order; all [runs]."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    values: Tokens


class ZarrReader:
    """Reads windows from the arrays contigs/<name>.

    Args:
        files: the files of the store.
        contigs: length of each contig in bases, in the order of the manifest.
    """

    def __init__(self, files: Files, contigs: Mapping[str, int]) -> None:
        self._files = files
        self._names, self._lengths = list(contigs), list(contigs.values())
        chunks = [-(-length // ZARR_CHUNK) for length in self._lengths]
        self._first_chunk: list[int] = [0, *np.cumsum(chunks, dtype=np.int64).tolist()]
        # For every chunk of the genome, once it has been checked, its mapped file, and its first base counted in
        # that file as if all of it were payload. Lists, because read_into takes single elements: arrays are slower.
        self._data: list[Tokens | None] = [None] * self._first_chunk[-1]
        self._origin = [0] * self._first_chunk[-1]
        self._runs: dict[int, _Runs] = {}  # of checked chunks that have any
        self._shards: dict[tuple[int, int], _Shard] = {}  # (contig, number in contig)

    def read_into(self, contigs: NDArray[np.int64], starts: NDArray[np.int64], out: Tokens) -> None:
        """Read windows of one size; see Reader."""
        size = out.shape[1]
        for contig, start, row in zip(contigs.tolist(), starts.tolist(), out, strict=True):
            chunk, begin = divmod(start, ZARR_CHUNK)
            chunk += self._first_chunk[contig]
            done = 0
            while done < size:
                end = min(ZARR_CHUNK, begin + size - done)
                data = self._data[chunk]
                if data is None:
                    data = self._check(contig, chunk)
                origin = self._origin[chunk]
                piece = row[done : done + end - begin]
                piece[:] = unpack_range(data, origin + begin, origin + end)
                if chunk in self._runs:
                    _fill_runs(self._runs[chunk], begin, end, piece)
                done += end - begin
                begin = 0
                chunk += 1

    def _check(self, contig: int, chunk: int) -> Tokens:
        """Check a chunk of the genome that is touched for the first time, and return its file's bytes."""
        number = chunk - self._first_chunk[contig]
        name, length = self._names[contig], self._lengths[contig]
        per_shard = zarr_shard_length(length) // ZARR_CHUNK
        shard = self._shard(contig, number // per_shard)
        where = Interval(name, number * ZARR_CHUNK, min(length, (number + 1) * ZARR_CHUNK))
        offset, size = shard.chunks[number % per_shard].tolist()
        if offset == _MISSING:
            raise self._files.damaged(shard.path, "lacks a chunk", where)
        if offset + size > shard.data.size or size < _CRC_BYTES:
            raise self._files.damaged(shard.path, "is damaged (a chunk leaves the file)", where)
        content = _without_crc(shard.data[offset : offset + size])
        if content is None:
            raise self._files.damaged(shard.path, "is damaged (a chunk has another crc32c)", where)
        try:
            starts, lengths, values = parse_runs(content, ZARR_CHUNK)
        except ValueError as error:
            raise self._files.damaged(shard.path, f"is damaged ({error})", where) from error
        if np.any(values[starts < where.end - where.start] >= VOCAB_SIZE):
            raise self._files.damaged(shard.path, "has values that are no tokens", where)
        if starts.size:
            self._runs[chunk] = _Runs(starts.astype(np.int64), starts.astype(np.int64) + lengths, values)
        self._origin[chunk] = 4 * offset
        self._data[chunk] = shard.data  # last, since another thread takes it as the sign that the chunk is checked
        return shard.data

    def _shard(self, contig: int, number: int) -> _Shard:
        found = self._shards.get((contig, number))
        if found:
            return found
        name, length = self._names[contig], self._lengths[contig]
        shard_length = zarr_shard_length(length)
        where = Interval(name, number * shard_length, min(length, (number + 1) * shard_length))
        path = f"{ZARR}/{array_path('contigs', name)}/c/{number}"
        data = self._files.map(path, where)
        chunks = shard_length // ZARR_CHUNK
        index = _without_crc(data[-(16 * chunks + _CRC_BYTES) :])
        if index is None or index.size != 16 * chunks:
            raise self._files.damaged(path, "is damaged (its index of chunks has another crc32c)", where)
        shard = self._shards[contig, number] = _Shard(path, data, index.view("<u8").reshape(chunks, 2))
        return shard


def _without_crc(content: Tokens) -> Tokens | None:
    """`content` without the crc32c at its end; None if that is not right."""
    body, crc = content[:-_CRC_BYTES], content[-_CRC_BYTES:]
    return body if google_crc32c.value(body) == int.from_bytes(crc.tobytes(), "little") else None


def _fill_runs(runs: _Runs, begin: int, end: int, piece: Tokens) -> None:
    """Write what the runs say about [begin, end) of a chunk into `piece`, uint8 [end - begin]."""
    first = int(np.searchsorted(runs.ends, begin, side="right"))
    last = int(np.searchsorted(runs.starts, end, side="left"))
    for start, stop, value in zip(
        runs.starts[first:last].tolist(), runs.ends[first:last].tolist(), runs.values[first:last].tolist(), strict=True
    ):
        piece[max(0, start - begin) : stop - begin] = value
