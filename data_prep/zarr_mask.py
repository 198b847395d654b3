"""Writing of the Zarr array of a contig's soft mask, block by block, and reading of its files for `data verify`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.zarr_metadata import CRC32C, LITTLE, FileTable, array_metadata, write_file, write_node
from hyena_dist.data.store.shard_file import checksum, without_checksum

MASK_CHUNK = 2**16
"""Number of lower-case ranges in one file of a soft mask."""
_ZSTD_LEVEL = 3


class RangeWriter:
    """Writes the soft mask of one contig, the array of its lower-case ranges, into a new folder.

    Args:
        folder: folder of the array.
        attributes: attributes of the array, for zarr.json.
    """

    def __init__(self, folder: Path, attributes: dict[str, Any]) -> None:
        from numcodecs.zstd import Zstd

        folder.mkdir(parents=True)
        self._folder = folder
        self._attributes = attributes
        self._zstd = Zstd(_ZSTD_LEVEL)
        self._files: FileTable = {}
        self._edges: list[NDArray[np.int64]] = []  # positions at which case changes, not yet written
        self._n_edges = 0  # how many these are
        self._rows = 0  # how many ranges are written
        self._bases = 0
        self._is_lower = False  # whether the last base was lower-case

    def write(self, lower_case: NDArray[np.bool_]) -> None:
        """Append which bases are lower-case, bool [any length]."""
        if not lower_case.size:
            return
        edges = np.flatnonzero(lower_case[1:] != lower_case[:-1]) + 1
        if bool(lower_case[0]) != self._is_lower:
            edges = np.concatenate([[0], edges])
        self._is_lower = bool(lower_case[-1])
        self._add(edges + self._bases)
        self._bases += lower_case.size

    def close(self) -> FileTable:
        """Finish the array, and return the files that were written."""
        if self._is_lower:
            self._add(np.array([self._bases]))
        edges = self._pop_edges()
        if edges.size:
            self._write_chunk(edges)
        codecs = [LITTLE, {"name": "zstd", "configuration": {"level": _ZSTD_LEVEL, "checksum": False}}, CRC32C]
        metadata = array_metadata([self._rows, 2], "int64", [MASK_CHUNK, 2], 0, codecs, self._attributes)
        self._files["zarr.json"] = write_node(self._folder, metadata)
        return self._files

    def _add(self, edges: NDArray[np.int64]) -> None:
        """Hold edges back until there are enough for a file."""
        self._edges.append(edges)
        self._n_edges += edges.size
        if self._n_edges >= 2 * MASK_CHUNK:
            held = self._pop_edges()
            whole = held.size - held.size % (2 * MASK_CHUNK)
            for first in range(0, whole, 2 * MASK_CHUNK):
                self._write_chunk(held[first : first + 2 * MASK_CHUNK])
            self._edges = [held[whole:]]
            self._n_edges = held.size - whole

    def _pop_edges(self) -> NDArray[np.int64]:
        """Return the edges that are held back, and hold none any more."""
        edges = self._edges
        self._edges = []
        return np.concatenate(edges) if edges else np.empty(0, np.int64)

    def _write_chunk(self, edges: NDArray[np.int64]) -> None:
        """Write a file of ranges, filled up with 0."""
        chunk = np.zeros(2 * MASK_CHUNK, "<i8")
        chunk[: edges.size] = edges
        self._rows += edges.size // 2
        data = self._zstd.encode(chunk.tobytes())
        name = f"c/{len(self._files)}/0"
        (self._folder / name).parent.mkdir(parents=True)
        self._files[name] = write_file(self._folder / name, data + checksum(data))


def read_ranges(folder: Path) -> Iterator[NDArray[np.int64]]:
    """Yield the lower-case ranges of a soft mask file by file, int64 [ranges, 2].

    Args:
        folder: folder of the array.

    Raises:
        ValueError, KeyError, RuntimeError: A file is damaged.
        OSError: A file is missing or cannot be read.
    """
    from numcodecs.zstd import Zstd

    rows = json.loads((folder / "zarr.json").read_bytes())["shape"][0]
    for number in range(-(-rows // MASK_CHUNK)):
        data = without_checksum((folder / f"c/{number}/0").read_bytes())
        if data is None:
            raise ValueError(f"c/{number}/0 has another crc32c")
        chunk = np.frombuffer(Zstd().decode(data), "<i8").reshape(-1, 2)
        yield chunk[: rows - number * MASK_CHUNK]
