"""Direct reading of any range from the packed Zarr arrays of a store, without zarr-python, which takes 1 ms a read.

A contig's array is cut into shard files, and a shard file into chunks (shard_file.py says how). Files are mapped into
memory. A chunk's checksum is computed when this process first touches it; after that, base p of a chunk is found in
byte p // 4 of its payload (packed.py).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store.files import StoreFiles
from hyena_dist.data.store.manifest import ZARR, ZARR_CHUNK, Interval, array_path, zarr_shard_length
from hyena_dist.data.store.packed import parse_runs, unpack_range
from hyena_dist.data.store.shard_file import CRC_BYTES, MISSING, read_index, without_checksum
from hyena_dist.data.tokenizer import VOCAB_SIZE, Tokens


class _Shard(NamedTuple):
    """A shard file that is mapped into memory."""

    path: str
    """Path of the file, relative to the store."""
    data: NDArray[np.uint8]
    """Content of the file, uint8 [bytes of the file]."""
    chunks: NDArray[np.uint64]
    """Offset and size of each chunk in bytes, uint64 [chunks, 2]."""


class _Runs(NamedTuple):
    """The ranges of a chunk whose value is not A, C, G or T, in the order of their positions."""

    starts: NDArray[np.int64]
    """First position of each range in the chunk, int64 [runs]."""
    ends: NDArray[np.int64]
    """Position after the last of each range, int64 [runs]."""
    values: Tokens
    """Value of each range, uint8 [runs]."""


class ZarrReader:
    """Reads windows of tokens from a store's Zarr arrays contigs/<name>.

    Args:
        files: the files of the store.
        contigs: length of each contig in bases by its name, in the order of the manifest.
    """

    def __init__(self, files: StoreFiles, contigs: Mapping[str, int]) -> None:
        self._files = files
        self._names = list(contigs)
        self._lengths = list(contigs.values())
        chunks = [-(-length // ZARR_CHUNK) for length in self._lengths]
        self._first_chunk: list[int] = [0, *np.cumsum(chunks, dtype=np.int64).tolist()]
        # For every chunk of the genome, once it has been checked, the content of its mapped file, and its first base
        # counted in that file as if all of it were payload. These are lists, because read_into takes single elements,
        # which are slower to take from arrays.
        self._data: list[NDArray[np.uint8] | None] = [None] * self._first_chunk[-1]
        self._origin = [0] * self._first_chunk[-1]
        self._runs: dict[int, _Runs] = {}  # by the number of the chunk, for checked chunks that have runs
        self._shards: dict[tuple[int, int], _Shard] = {}  # by the numbers of the contig and of the file in the contig

    def read_into(self, contigs: NDArray[np.int64], starts: NDArray[np.int64], out: Tokens) -> None:
        """Read windows of one size, as the protocol TokenReader says."""
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

    def _check(self, contig: int, chunk: int) -> NDArray[np.uint8]:
        """Check a chunk that is touched for the first time, and note where its payload and its runs are.

        Args:
            contig: number of the contig.
            chunk: number of the chunk, counted over the whole genome.

        Returns:
            Content of the file that holds the chunk, uint8 [bytes of the file].

        Raises:
            UserError: The chunk or its file is missing or damaged.
        """
        number = chunk - self._first_chunk[contig]
        name = self._names[contig]
        length = self._lengths[contig]
        per_shard = zarr_shard_length(length) // ZARR_CHUNK
        shard = self._shard(contig, number // per_shard)
        where = Interval(name, number * ZARR_CHUNK, min(length, (number + 1) * ZARR_CHUNK))
        offset, size = shard.chunks[number % per_shard].tolist()
        if offset == MISSING:
            raise self._files.damaged(shard.path, "lacks a chunk", where)
        if offset + size > shard.data.size or size < CRC_BYTES:
            raise self._files.damaged(shard.path, "is damaged (a chunk leaves the file)", where)
        content = without_checksum(shard.data[offset : offset + size])
        if content is None:
            raise self._files.damaged(shard.path, "is damaged (a chunk has another crc32c)", where)
        try:
            starts, lengths, values = parse_runs(content, ZARR_CHUNK)
        except ValueError as error:
            raise self._files.damaged(shard.path, f"is damaged ({error})", where) from error
        if np.any(values[starts < where.end - where.start] >= VOCAB_SIZE):
            raise self._files.damaged(shard.path, "has values that are no tokens", where)
        if starts.size:
            first = starts.astype(np.int64)
            self._runs[chunk] = _Runs(first, first + lengths, values)
        self._origin[chunk] = 4 * offset
        # This comes last, since another thread takes it as the sign that the chunk is checked.
        self._data[chunk] = shard.data
        return shard.data

    def _shard(self, contig: int, number: int) -> _Shard:
        """Return shard file `number` of a contig, after mapping it at the first call."""
        found = self._shards.get((contig, number))
        if found:
            return found
        name = self._names[contig]
        length = self._lengths[contig]
        shard_length = zarr_shard_length(length)
        where = Interval(name, number * shard_length, min(length, (number + 1) * shard_length))
        path = f"{ZARR}/{array_path('contigs', name)}/c/{number}"
        data = self._files.map(path, where)
        try:
            chunks = read_index(data, shard_length // ZARR_CHUNK)
        except ValueError as error:
            raise self._files.damaged(path, f"is damaged ({error})", where) from error
        shard = _Shard(path, data, chunks)
        self._shards[contig, number] = shard
        return shard


def _fill_runs(runs: _Runs, begin: int, end: int, piece: Tokens) -> None:
    """Write the values of the runs that lie in [begin, end) of a chunk into `piece`, uint8 [end - begin]."""
    first = int(np.searchsorted(runs.ends, begin, side="right"))
    last = int(np.searchsorted(runs.starts, end, side="left"))
    for start, stop, value in zip(
        runs.starts[first:last].tolist(), runs.ends[first:last].tolist(), runs.values[first:last].tolist(), strict=True
    ):
        piece[max(0, start - begin) : stop - begin] = value
