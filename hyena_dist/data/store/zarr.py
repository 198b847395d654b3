"""Direct reading of any range from the Zarr arrays of a store, without zarr-python, which takes 1 ms a read.

Contigs lie end to end in arrays, an array is cut into files, and a file into chunks (shard_file.py says how). A place
is a position in all files end to end, as if all were full. Files are mapped into memory, some at a time. A chunk's
checksum is computed when this process first touches it; after that, base p of a packed chunk is found in byte p // 4 of
its payload (packed.py).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store.contigs import Contigs
from hyena_dist.data.store.files import StoreFiles
from hyena_dist.data.store.manifest import ZARR, ZARR_CHUNK, Interval, array_path, zarr_shard_length
from hyena_dist.data.store.packed import parse_runs, unpack_range
from hyena_dist.data.store.shard_file import CRC_BYTES, MISSING, read_index, without_checksum
from hyena_dist.data.tokenizer import VOCAB_SIZE, Tokens

MAPS = 64
"""How many files are mapped at a time, each of which takes a descriptor."""


class _File(NamedTuple):
    """A file of an array."""

    path: str
    """Path of the file, relative to the store."""
    chunks: int
    """How many chunks its index has."""
    left: int
    """Bases of the array from the file's first on, which may be more than the file holds."""


def token_files(zarr: Mapping[str, Any]) -> list[_File]:
    """Return the files of all arrays in the order of the places, as the key "zarr" of a manifest says."""
    return [
        _File(
            f"{ZARR}/{array_path(number)}/c/{file}",
            zarr_shard_length(length, zarr["shard"]) // ZARR_CHUNK,
            length - file * zarr["shard"],
        )
        for number, length in enumerate(zarr["arrays"])
        for file in range(-(-length // zarr["shard"]))
    ]


class _Runs(NamedTuple):
    """The ranges of a chunk whose value is not A, C, G or T, in the order of their positions."""

    starts: NDArray[np.int64]
    """First position of each range in the chunk, int64 [runs]."""
    ends: NDArray[np.int64]
    """Position after the last of each range, int64 [runs]."""
    values: Tokens
    """Value of each range, uint8 [runs]."""


class ZarrReader:
    """Reads windows of tokens from a store's Zarr arrays.

    Args:
        files: the files of the store.
        contigs: the contigs of the store.
        zarr: what the manifest says of the arrays.
    """

    def __init__(self, files: StoreFiles, contigs: Contigs, zarr: Mapping[str, Any]) -> None:
        self._files = files
        self._contigs = contigs
        self._is_packed = zarr["codec"] == "packed"
        self._token_files = token_files(zarr)
        self._per_file: int = zarr["shard"] // ZARR_CHUNK
        # For every chunk, once it has been checked, its first base counted in its file as if all of that were payload,
        # and -1 before. This is a list, because read_into takes single elements.
        self._origin = [-1] * (self._per_file * len(self._token_files))
        self._runs: dict[int, _Runs] = {}  # by the number of the chunk, for checked chunks that have runs
        # Content of the mapped files, uint8, and where their chunks are, uint64 [chunks, 2]; by the file's number.
        self._maps: dict[int, NDArray[np.uint8]] = {}
        self._chunks: dict[int, NDArray[np.uint64]] = {}

    def read_into(self, contigs: NDArray[np.int64], starts: NDArray[np.int64], out: Tokens) -> None:
        """Read windows of one size, as the protocol TokenReader says."""
        size = out.shape[1]
        per_file = self._per_file
        places = (self._contigs.place[contigs] + starts).tolist()
        for window, (place, row) in enumerate(zip(places, out, strict=True)):
            chunk, begin = divmod(place, ZARR_CHUNK)
            done = 0
            while done < size:
                end = min(ZARR_CHUNK, begin + size - done)
                data = self._maps.get(chunk // per_file)
                origin = self._origin[chunk]
                if data is None or origin < 0:
                    data = self._check(int(contigs[window]), chunk)
                    origin = self._origin[chunk]
                piece = row[done : done + end - begin]
                if self._is_packed:
                    piece[:] = unpack_range(data, origin + begin, origin + end)
                    if chunk in self._runs:
                        _fill_runs(self._runs[chunk], begin, end, piece)
                else:
                    piece[:] = data[origin + begin : origin + end]
                done += end - begin
                begin = 0
                chunk += 1

    def _check(self, contig: int, chunk: int) -> NDArray[np.uint8]:
        """Check a chunk that is touched for the first time, and note where its payload and its runs are.

        Args:
            contig: number of the contig that is read.
            chunk: number of the chunk, counted over all files.

        Returns:
            Content of the file that holds the chunk, uint8 [bytes of the file].

        Raises:
            UserError: The chunk or its file is missing or damaged.
        """
        where = self._on_contig(contig, chunk * ZARR_CHUNK, (chunk + 1) * ZARR_CHUNK)
        data = self._map(contig, chunk // self._per_file)
        if self._origin[chunk] >= 0:  # the file was mapped before, and the chunk checked then
            return data
        file = self._token_files[chunk // self._per_file]
        number = chunk % self._per_file
        offset, size = self._chunks[chunk // self._per_file][number].tolist()
        if offset == MISSING:
            raise self._files.damaged(file.path, "lacks a chunk", where)
        if offset + size > data.size or size < CRC_BYTES:
            raise self._files.damaged(file.path, "is damaged (a chunk leaves the file)", where)
        content = without_checksum(data[offset : offset + size])
        if content is None:
            raise self._files.damaged(file.path, "is damaged (a chunk has another crc32c)", where)
        bases = min(ZARR_CHUNK, file.left - number * ZARR_CHUNK)
        if self._is_packed:
            try:
                starts, lengths, values = parse_runs(content, ZARR_CHUNK)
            except ValueError as error:
                raise self._files.damaged(file.path, f"is damaged ({error})", where) from error
            others = values[starts < bases]
            if starts.size:
                first = starts.astype(np.int64)
                self._runs[chunk] = _Runs(first, first + lengths, values.copy())  # no views, which would keep the map
        else:
            others = content[:bases]
        if content.size < bases // 4 or np.any(others >= VOCAB_SIZE):
            raise self._files.damaged(file.path, "has values that are no tokens", where)
        # This comes last, since another thread takes it as the sign that the chunk is checked.
        self._origin[chunk] = 4 * offset if self._is_packed else offset
        return data

    def _map(self, contig: int, number: int) -> NDArray[np.uint8]:
        """Return the content of a file, after mapping it in the place of the one that was mapped longest ago."""
        data = self._maps.get(number)
        if data is not None:
            return data
        file = self._token_files[number]
        bases = self._per_file * ZARR_CHUNK
        where = self._on_contig(contig, number * bases, (number + 1) * bases)
        data = self._files.map(file.path, where)
        if number not in self._chunks:
            try:
                self._chunks[number] = read_index(data, file.chunks).copy()
            except ValueError as error:
                raise self._files.damaged(file.path, f"is damaged ({error})", where) from error
        while len(self._maps) >= MAPS:
            self._maps.pop(next(iter(self._maps), -1), None)
        self._maps[number] = data
        return data

    def _on_contig(self, contig: int, start: int, end: int) -> Interval:
        """Return the part of a contig that lies between two places, for errors."""
        place = int(self._contigs.place[contig])
        name = self._contigs.name(contig)
        return Interval(name, max(0, start - place), min(self._contigs[name], end - place))


def _fill_runs(runs: _Runs, begin: int, end: int, piece: Tokens) -> None:
    """Write the values of the runs that lie in [begin, end) of a chunk into `piece`, uint8 [end - begin]."""
    first = int(np.searchsorted(runs.ends, begin, side="right"))
    last = int(np.searchsorted(runs.starts, end, side="left"))
    for start, stop, value in zip(
        runs.starts[first:last].tolist(), runs.ends[first:last].tolist(), runs.values[first:last].tolist(), strict=True
    ):
        piece[max(0, start - begin) : stop - begin] = value
