"""The soft mask of a store: which bases were lower-case in the FASTA file, which marks repeats by convention."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store.files import StoreFiles
from hyena_dist.data.store.manifest import ZARR, Interval, array_path


class SoftMask:
    """Reads the lower-case ranges of contigs from the arrays soft_mask/<name> of a store.

    A contig's array is read whole, with zarr-python, when the contig is first asked for.

    Args:
        store: folder of the store.
        files: the files of the store.
        contigs: length and number of lower-case bases of each contig, by its name.
    """

    def __init__(self, store: Path, files: StoreFiles, contigs: Mapping[str, tuple[int, int]]) -> None:
        self._store = store
        self._files = files
        self._contigs = contigs
        self._edges: dict[str, NDArray[np.int64]] = {}

    def read(self, interval: Interval) -> NDArray[np.bool_]:
        """Return which bases of a range inside its contig are lower-case, bool [end - start].

        Raises:
            UserError: The contig's array is missing or damaged.
        """
        contig, start, end = interval
        edges = self._edges.get(contig)
        if edges is None:
            edges = self._load(contig)
            self._edges[contig] = edges
        # Lower case begins at edges 0, 2, 4 ..., so base p is lower-case if an odd number of edges is <= p.
        first = int(edges.searchsorted(start, "right"))
        last = int(edges.searchsorted(end, "right"))
        borders = np.empty(last - first + 2, dtype=np.int64)
        borders[0] = start
        borders[1:-1] = edges[first:last]
        borders[-1] = end
        return (np.arange(first, last + 1) & 1).astype(np.bool_).repeat(borders[1:] - borders[:-1])

    def _load(self, contig: str) -> NDArray[np.int64]:
        """Read all edges between upper and lower case on a contig, int64 [2 * ranges], ascending."""
        import zarr  # imported here, because it takes half a second, which most readers need not spend

        length, masked = self._contigs[contig]
        path = f"{ZARR}/{array_path('soft_mask', contig)}"
        where = Interval(contig, 0, length)
        try:
            array: Any = zarr.open_array(str(self._store / path), mode="r", zarr_format=3)
            ranges = np.asarray(array[...], dtype=np.int64).reshape(-1, 2)
        except Exception as error:  # json, zarr and its codecs raise many types for damaged bytes
            raise self._files.damaged(path, f"is damaged ({' '.join(str(error).split())})", where) from error
        # Zarr fills in for files that are not there, but not with what the manifest counted.
        edges = ranges.ravel()
        if int(np.diff(ranges).sum()) != masked or np.any(np.diff(edges) <= 0):
            raise self._files.damaged(path, "does not hold the lower-case bases that the manifest counts", where)
        return edges
