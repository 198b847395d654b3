"""Direct reading of any range from the WebDataset tars that `hyena-dist data shards` wrote.

The samples in the tars cover the contigs, one plain byte for each base. Tars are mapped into memory, and a sample's
checksum is computed when this process first touches it.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store.files import StoreFiles
from hyena_dist.data.store.manifest import SHARD_INDEX, Interval, Sample
from hyena_dist.data.tokenizer import Tokens
from hyena_dist.errors import UserError


class _Contig:
    """The samples that lie on one contig, in the order of their positions.

    Attributes:
        samples: path of the tar and row of the index of each sample.
        starts: first base of each sample.
        tokens: tokens of each sample that has been checked, uint8 [end - start], and None for the others.
    """

    def __init__(self, samples: Iterable[tuple[str, Sample]]) -> None:
        self.samples = sorted(samples, key=lambda row: (row[1].start, row[1].end))
        self.starts = [sample.start for _, sample in self.samples]
        self.tokens: list[Tokens | None] = [None] * len(self.samples)


class TarReader:
    """Reads windows of tokens from the tars of a folder of shards.

    Args:
        files: the tars and their index.
        contigs: names of the contigs, in the order of the manifest.
    """

    def __init__(self, files: StoreFiles, contigs: Sequence[str]) -> None:
        self._files = files
        self._names = contigs
        self._contigs: list[_Contig] | None = None  # read with the index, at the first read
        self._maps: dict[str, NDArray[np.uint8]] = {}  # content of the tars that are mapped, by their paths

    def read_into(self, contigs: NDArray[np.int64], starts: NDArray[np.int64], out: Tokens) -> None:
        """Read windows of one size, as the protocol TokenReader says."""
        if self._contigs is None:
            self._contigs = self._load_index()
        size = out.shape[1]
        for contig, start, row in zip(contigs.tolist(), starts.tolist(), out, strict=True):
            on_contig = self._contigs[contig]
            at = start
            stop = start + size
            while at < stop:
                number = bisect_right(on_contig.starts, at) - 1
                if number < 0 or on_contig.samples[number][1].end <= at:
                    raise UserError(
                        f"{Interval(self._names[contig], at, stop)} is not in the shards of {self._files.location}; "
                        f"read it from the store that they were made of"
                    )
                tokens = on_contig.tokens[number]
                if tokens is None:
                    tokens = self._check(*on_contig.samples[number])
                    on_contig.tokens[number] = tokens
                first = at - on_contig.starts[number]
                piece = tokens[first : first + stop - at]
                row[at - start : at - start + piece.size] = piece
                at += piece.size

    def _check(self, path: str, sample: Sample) -> Tokens:
        """Check a sample that is touched for the first time.

        Args:
            path: path of the tar, relative to the folder.
            sample: the sample's row of the index.

        Returns:
            The sample's tokens in the mapped tar, uint8 [end - start].

        Raises:
            UserError: The tar is missing or damaged.
        """
        data = self._maps.get(path)
        if data is None:
            data = self._files.map(path, sample.interval)
            self._maps[path] = data
        size = sample.end - sample.start
        tokens = data[sample.offset : sample.offset + size]
        if tokens.size != size or google_crc32c.value(tokens) != sample.crc32c:
            raise self._files.damaged(path, "is damaged (a sample has another crc32c)", sample.interval)
        return tokens

    def _load_index(self) -> list[_Contig]:
        """Read which samples lie on each contig, in the order of the manifest's contigs."""
        content = self._files.read(SHARD_INDEX)
        by_contig: dict[str, list[tuple[str, Sample]]] = {}
        try:
            for path, rows in json.loads(content).items():
                for row in rows:
                    sample = Sample(*row)
                    by_contig.setdefault(sample.contig, []).append((path, sample))
        except (ValueError, TypeError, AttributeError) as error:
            raise self._files.damaged(SHARD_INDEX, f"cannot be read ({error})") from error
        return [_Contig(by_contig.get(name, ())) for name in self._names]
