"""The WebDataset half of a store: tars of windows that tile the regions of the splits."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from data_prep.splits import Splits
from hyena_dist.data.manifest import SHARDS, Interval
from hyena_dist.data.tokenizer import Tokens

_TAR_BLOCK = 512
_SAMPLE_OVERHEAD = 4 * _TAR_BLOCK  # two tar headers, the .npy header and the JSON, each filled up to a block


class Sample(NamedTuple):
    """One window in a shard; a row of the shard index.

    Attributes:
        key: name of the sample, without an extension.
        contig: the window's contig.
        start: its first base.
        end: the base after its last.
        offset: where its tokens begin in the tar, in bytes; they are plain, one byte each.
    """

    key: str
    contig: str
    start: int
    end: int
    offset: int


ShardIndex = dict[str, list[Sample]]
"""Path of a tar, relative to the store -> its samples in their order in the tar."""


def windows(region: Interval, window: int) -> Iterator[Interval]:
    """Tile a region with windows of `window` bases; the last may be shorter.

    Neighbours share one base: the last of a window is only a target of the next-token loss, so it is also the first
    of the next window, as an input.
    """
    for start in range(region.start, max(region.end - 1, region.start + 1), window - 1):
        yield Interval(region.contig, start, min(start + window, region.end))


def write_shards(
    store: Path,
    splits: Splits,
    read: Callable[[Interval], Tokens],
    window: int,
    shard_bytes: int,
    on_bases: Callable[[int], object],
) -> ShardIndex:
    """Write the tars of all splits into `store`/shards; the same input gives the same bytes.

    Args:
        store: the store's folder.
        splits: regions to tile.
        read: returns the tokens of a range.
        window: bases in a window, at least 2.
        shard_bytes: size of a tar, about.
        on_bases: called with the number of bases after each window.

    Returns:
        The samples of each tar.
    """
    index: ShardIndex = {}
    (store / SHARDS).mkdir()
    per_shard = max(1, shard_bytes // (window + _SAMPLE_OVERHEAD))
    for split, regions in splits.items():
        tiles = [tile for region in regions for tile in windows(region, window)]
        for shard, first in enumerate(range(0, len(tiles), per_shard)):
            path = f"{SHARDS}/{split}-{shard:06d}.tar"
            samples = index[path] = []
            with (store / path).open("wb") as raw, _tar_writer(raw) as tar:
                for number, tile in enumerate(tiles[first : first + per_shard], start=first):
                    key = f"{split}-{number:08d}"
                    samples.append(Sample(key, *tile, _add_sample(tar, raw.tell(), key, split, tile, read(tile))))
                    on_bases(tile.end - tile.start)
    return index


def _tar_writer(raw: IO[bytes]) -> tarfile.TarFile:
    return tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT)


def _add_sample(tar: tarfile.TarFile, position: int, key: str, split: str, tile: Interval, tokens: Tokens) -> int:
    array = io.BytesIO()
    np.lib.format.write_array(array, tokens, version=(1, 0))
    _add_file(tar, f"{key}.tokens.npy", array.getvalue())
    _add_file(tar, f"{key}.json", json.dumps({**tile._asdict(), "split": split}).encode())
    return position + _TAR_BLOCK + array.tell() - tokens.size


def _add_file(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # owner, group and time are 0, so that the tar depends on its content only
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
