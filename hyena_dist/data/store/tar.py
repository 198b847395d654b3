"""Direct reading of any range from the WebDataset tars that `hyena-dist data shards` wrote.

Samples in the tars cover the contigs, one plain byte for each base. Tars are mapped into memory, some at a time, and a
sample's checksum is computed when this process first touches it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store.contigs import Contigs
from hyena_dist.data.store.files import StoreFiles
from hyena_dist.data.store.manifest import Interval
from hyena_dist.data.tokenizer import Tokens
from hyena_dist.errors import UserError

SAMPLE = np.dtype(
    [("tar", "<u4"), ("crc32c", "<u4"), ("contig", "<u8"), ("start", "<u8"), ("end", "<u8"), ("offset", "<u8")]
)
"""A row of the index of samples; rows are in the order of the tars."""
MAPS = 64
"""How many tars are mapped at a time, each of which takes a descriptor."""


class Sample(NamedTuple):
    """One window in a tar of shards: a row of the index."""

    tar: int
    """Number of the tar in the manifest."""
    crc32c: int
    """Checksum of the tokens."""
    contig: int
    """Number of the contig that the window lies on."""
    start: int
    """First position of the window on its contig."""
    end: int
    """Position after the window's last."""
    offset: int
    """Where the window's tokens begin in the tar, in bytes; they are plain, one byte each."""


def sample_key(split: str, number: int) -> str:
    """Return the name of a sample in its tar, without an extension, by its number among those of its split."""
    return f"{split}-{number:08d}"


class TarReader:
    """Reads windows of tokens from the tars of a folder of shards.

    Args:
        files: the tars.
        contigs: the contigs.
        paths: paths of the tars, in the order of the manifest.
        samples: the index of samples, SAMPLE [samples].
    """

    def __init__(self, files: StoreFiles, contigs: Contigs, paths: Sequence[str], samples: NDArray[np.void]) -> None:
        self._files = files
        self._contigs = contigs
        self._paths = paths
        self._samples = samples
        starts = contigs.offset[samples["contig"]] + samples["start"].astype(np.int64)
        self._order = np.argsort(starts, kind="stable")
        self._starts = starts[self._order]
        self._is_checked = bytearray(samples.size)
        self._maps: dict[int, NDArray[np.uint8]] = {}  # content of the tars that are mapped, by their numbers

    def read_into(self, contigs: NDArray[np.int64], starts: NDArray[np.int64], out: Tokens) -> None:
        """Read windows of one size, as the protocol TokenReader says."""
        size = out.shape[1]
        at_sample = np.searchsorted(self._starts, self._contigs.offset[contigs] + starts, side="right") - 1
        for number, contig, start, row in zip(at_sample.tolist(), contigs.tolist(), starts.tolist(), out, strict=True):
            at = start
            stop = start + size
            while at < stop:
                place = int(self._order[number]) if 0 <= number < self._order.size else -1
                sample = Sample(*self._samples[place].item())
                if place < 0 or sample.contig != contig or not sample.start <= at < sample.end:
                    raise UserError(
                        f"{Interval(self._contigs.name(contig), at, stop)} is not in the shards of "
                        f"{self._files.location}; read it from the store that they were made of"
                    )
                first = at - sample.start
                piece = self._tokens(place, sample)[first : first + stop - at]
                row[at - start : at - start + piece.size] = piece
                at += piece.size
                number += 1

    def _tokens(self, place: int, sample: Sample) -> Tokens:
        """Return the tokens of a sample in its mapped tar, uint8 [end - start], which are checked at the first touch.

        Args:
            place: row of the sample in the index.
            sample: the row.

        Raises:
            UserError: The tar is missing or damaged.
        """
        data = self._maps.get(sample.tar)
        path = self._paths[sample.tar]
        if data is None:
            data = self._files.map(path, self._where(sample))
            while len(self._maps) >= MAPS:
                self._maps.pop(next(iter(self._maps), -1), None)
            self._maps[sample.tar] = data
        size = sample.end - sample.start
        tokens = data[sample.offset : sample.offset + size]
        if not self._is_checked[place]:
            if tokens.size != size or google_crc32c.value(tokens) != sample.crc32c:
                raise self._files.damaged(path, "is damaged (a sample has another crc32c)", self._where(sample))
            self._is_checked[place] = 1
        return tokens

    def _where(self, sample: Sample) -> Interval:
        """Return the range of a contig that a sample holds."""
        return Interval(self._contigs.name(sample.contig), sample.start, sample.end)
