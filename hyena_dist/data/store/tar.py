"""Reading of ranges from WebDataset tars, whose samples tile the contigs as plain bytes.

A sample's checksum is computed when this process first touches it.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store.manifest import SHARD_INDEX, Interval
from hyena_dist.data.store.reader import Files
from hyena_dist.data.tokenizer import Tokens
from hyena_dist.errors import UserError


class _Tile(NamedTuple):
    """A sample: a range of a contig, and where its tokens are."""

    start: int
    end: int
    path: str
    """of the tar"""
    offset: int
    """of the tokens in the tar, in bytes"""
    crc: int
    """crc32c of the tokens"""


class _Contig:
    """The samples on one contig."""

    def __init__(self, tiles: Iterable[_Tile] = ()) -> None:
        self.tiles = sorted(tiles)
        self.starts = [tile.start for tile in self.tiles]
        self.tokens: list[Tokens | None] = [None] * len(self.tiles)  # of the samples that have been checked


class ShardReader:
    """Reads windows from tars.

    Args:
        files: the tars and their index.
        contigs: the names of the contigs, in the order of the manifest.
    """

    def __init__(self, files: Files, contigs: Sequence[str]) -> None:
        self._files, self._names = files, contigs
        self._contigs: list[_Contig] | None = None
        self._maps: dict[str, Tokens] = {}

    def read_into(self, contigs: NDArray[np.int64], starts: NDArray[np.int64], out: Tokens) -> None:
        """Read windows of one size; see Reader."""
        if self._contigs is None:
            self._contigs = self._load_index()
        size = out.shape[1]
        for contig, start, row in zip(contigs.tolist(), starts.tolist(), out, strict=True):
            samples = self._contigs[contig]
            at, stop = start, start + size
            while at < stop:
                number = bisect_right(samples.starts, at) - 1
                if number < 0 or samples.tiles[number].end <= at:
                    raise UserError(
                        f"{Interval(self._names[contig], at, stop)} is not in the shards of {self._files.location}; "
                        f"read it from the store that they were made of"
                    )
                tokens = samples.tokens[number]
                if tokens is None:
                    tokens = samples.tokens[number] = self._check(self._names[contig], samples.tiles[number])
                first = at - samples.starts[number]
                piece = tokens[first : first + stop - at]
                row[at - start : at - start + piece.size] = piece
                at += piece.size

    def _check(self, contig: str, tile: _Tile) -> Tokens:
        """Check a sample that is touched for the first time, and return its tokens, uint8 [end - start]."""
        where = Interval(contig, tile.start, tile.end)
        data = self._maps.get(tile.path)
        if data is None:
            data = self._maps[tile.path] = self._files.map(tile.path, where)
        tokens = data[tile.offset : tile.offset + tile.end - tile.start]
        if tokens.size != tile.end - tile.start or google_crc32c.value(tokens) != tile.crc:
            raise self._files.damaged(tile.path, "is damaged (a sample has another crc32c)", where)
        return tokens

    def _load_index(self) -> list[_Contig]:
        content = self._files.read(SHARD_INDEX)
        tiles: dict[str, list[_Tile]] = {}
        try:
            for path, samples in json.loads(content).items():
                for _key, contig, start, end, offset, crc in samples:
                    tiles.setdefault(contig, []).append(_Tile(start, end, path, offset, crc))
        except (ValueError, TypeError, AttributeError) as error:
            raise self._files.damaged(SHARD_INDEX, f"cannot be read ({error})") from error
        return [_Contig(tiles.get(name, ())) for name in self._names]
