"""Writing of the index of a store: the arrays that say which contig lies where, and which split has which regions."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.part import Done, read_contigs, read_edges, read_names
from data_prep.zarr_metadata import FileTable
from hyena_dist.data.store import manifest
from hyena_dist.data.store.manifest import intervals_column
from hyena_dist.data.store.ranges import Regions
from hyena_dist.data.store.soft_mask import MASK
from hyena_dist.data.text.files import describe_file
from hyena_dist.errors import UserError

Columns = dict[str, NDArray[np.generic]]
"""Arrays of the index by their names."""


def contig_columns(parts: Sequence[tuple[Path, Done]], *, soft_mask: bool) -> Columns:
    """Return the arrays on the contigs of all parts, in the order of the parts.

    Args:
        parts: the folder of each finished part, and what it says of itself.
        soft_mask: whether the parts have soft masks.

    Raises:
        UserError: Two contigs have the same name.
    """
    contigs = np.concatenate([read_contigs(folder) for folder, _ in parts])
    names = b"".join(read_names(folder) for folder, _ in parts)
    name_end = np.cumsum(contigs["name"])
    end = np.cumsum(contigs["length"])
    bases = int(end[-1])
    columns: Columns = {
        "names": np.frombuffer(names, np.uint8),
        "name_end": _smallest(name_end, len(names)),
        "by_name": _smallest(_by_name(names, name_end), len(contigs)),
        "end": _smallest(end, bases),
        "place": _smallest(_places(contigs["length"], [done for _, done in parts])),
        "sha256": contigs["sha256"],
        "composition": _smallest(contigs["composition"]),
        "soft_masked": _smallest(contigs["soft_masked"]),
    }
    if (contigs["species"] >= 0).all():
        columns["species"] = _smallest(contigs["species"])
    if soft_mask:
        starts = np.cumsum([0, *(done.bases for _, done in parts)])
        edges = [read_edges(folder) + start for (folder, _), start in zip(parts, starts.tolist(), strict=False)]
        columns[MASK] = _smallest(np.concatenate(edges), bases)
    return columns


def split_columns(splits: Mapping[str, Regions], intervals: Mapping[str, Regions], length: int) -> Columns:
    """Return the arrays on the splits.

    Args:
        splits: regions of each split.
        intervals: intervals of each split, which have an array where they are not the regions cut into `length` bases.
        length: bases in an interval.
    """
    columns: Columns = {}
    for split, regions in splits.items():
        bases = int(regions.contigs.offset[-1])
        columns[split] = _smallest(np.stack(regions.ranges, axis=1), bases)
        sampled = intervals[split].ranges
        if not all(map(np.array_equal, sampled, regions.ranges.cut(length))):
            columns[intervals_column(split)] = _smallest(np.stack(sampled, axis=1), bases)
    return columns


def write_columns(folder: Path, columns: Columns) -> FileTable:
    """Write arrays into the index of a store or of shards.

    Args:
        folder: folder of the store or the shards.
        columns: the arrays.

    Returns:
        The files that were written, by their paths in `folder`.
    """
    files: FileTable = {}
    for name, array in columns.items():
        path = folder / manifest.index_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, array, allow_pickle=False)
        described = describe_file(path)
        files[manifest.index_path(name)] = (described["bytes"], described["sha256"])
    return files


def _smallest(values: NDArray[np.integer], most: int | None = None) -> NDArray[np.generic]:
    """Return whole numbers in the smallest type that holds `most`, which is the greatest of them if None."""
    most = int(values.max(initial=0)) if most is None else most
    return values.astype(np.min_scalar_type(most).newbyteorder("<"))


def _places(lengths: NDArray[np.int64], parts: Sequence[Done]) -> NDArray[np.int64]:
    """Return where each contig begins, when the files of all arrays lie end to end and all count as full."""
    ends = np.cumsum(lengths)
    starts = ends - lengths
    before = np.cumsum([0, *(done.bases for done in parts)])
    shard = manifest.ZARR_SHARD
    base = np.cumsum([0, *(-(-done.bases // shard) * shard for done in parts)])
    contigs = np.cumsum([0, *(done.contigs for done in parts)])
    part = np.searchsorted(contigs, np.arange(lengths.size), side="right") - 1
    places: NDArray[np.int64] = starts - before[part] + base[part]
    return places


def _by_name(names: bytes, ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the numbers of the contigs in the order of their names' bytes, int64 [contigs]."""
    bounds = [0, *ends.tolist()]
    each = [names[start:end] for start, end in pairwise(bounds)]
    order = sorted(range(len(each)), key=each.__getitem__)
    for one, other in pairwise(order):
        if each[one] == each[other]:
            raise UserError(
                f"record name {each[one].decode()!r} occurs twice, and names must be unique; label the inputs, or use "
                f"--rename FILE"
            )
    return np.array(order, np.int64)
