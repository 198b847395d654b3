"""Random access to the tokens of a store that `hyena-dist data build` made, or of the shards made from one.

Both return the same tokens for the same range, so that training may sample the same windows from either.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store.fetch import ShardCache, is_remote, join
from hyena_dist.data.store.manifest import (
    MANIFEST,
    SPLITS,
    STORE_FORMAT,
    Interval,
    fingerprint,
    free_ranges,
    parse_manifest,
    read_manifest,
)
from hyena_dist.data.store.reader import Files, Reader
from hyena_dist.data.store.soft_mask import SoftMask
from hyena_dist.data.store.tar import ShardReader
from hyena_dist.data.store.zarr import ZarrReader
from hyena_dist.data.tokenizer import Tokens
from hyena_dist.errors import UserError


class GenomeStore:
    """A store or a folder of shards, opened for reading.

    Files are mapped at the first read, and no map travels with a pickle, so it can be handed to worker processes.

    Attributes:
        location: the folder or URL, as given.
        path: the folder; where it is remote, the folder that holds copies of its files.
        manifest: the content of manifest.json.
        contigs: length of each contig in bases, in the order of the input.
        species: names of the species, none where the input had no labels.
        splits: regions of "train", "valid" and "test": sorted, not overlapping, half-open.
        intervals: the units of sampling of each split; they may overlap.
        free: contig -> its ranges outside of "valid" and "test", sorted: all that training may read.
    """

    def __init__(self, location: str | Path, cache: Path | None = None) -> None:
        self.location = str(location)
        self.path, remote = Path(self.location), None
        if is_remote(self.location):
            self.path = cache or Path(os.environ.get("HYENA_DIST_CACHE") or Path.home() / ".cache" / "hyena-dist")
            remote = ShardCache(self.location, self.path)
            self.manifest = parse_manifest(remote.read(MANIFEST), join(self.location, MANIFEST))
        else:
            self.manifest = read_manifest(self.path)
        try:
            self._files = Files(self.location, self.manifest, remote)
            contigs = self.manifest["contigs"]
            self.contigs: dict[str, int] = {contig["name"]: contig["length"] for contig in contigs}
            self.species: list[str] = list(self.manifest["species"])
            self._species_of: dict[str, str | None] = {contig["name"]: contig["species"] for contig in contigs}
            self.splits, self.intervals = (
                {split: [Interval(*row) for row in self.manifest[key][split]] for split in SPLITS}
                for key in ("splits", "intervals")
            )
            self.free = free_ranges(self.contigs, self.splits)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{join(self.location, MANIFEST)} is damaged ({error!r}); rebuild it with `hyena-dist data build`"
            ) from error
        self._open_readers()

    @classmethod
    def open(cls, location: str | Path, cache: Path | None = None) -> "GenomeStore":
        """Open a store or shards.

        Args:
            location: a folder that `hyena-dist data build` or `hyena-dist data shards` made, or where such a folder
                is remote: its http(s) URL, or `pipe:COMMAND {}` that writes the file with relative path {} to stdout.
            cache: folder for copies of remote files; $HYENA_DIST_CACHE or ~/.cache/hyena-dist by default.

        Raises:
            UserError: nothing that can be read there, or an unknown version.
        """
        return cls(location, cache)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with anything that samples depend on; equal for a store and its shards."""
        return fingerprint(self.manifest)

    def species_of(self, contig: str) -> str | None:
        """Return the species of a contig, or None where the input had no label."""
        return self._species_of[contig]

    @property
    def has_soft_mask(self) -> bool:
        """Whether `soft_mask` can be read here: not in shards, in a remote store, or where it was not asked for."""
        return self._mask is not None

    def read(self, contig: str, start: int, end: int) -> Tokens:
        """Read the tokens of [start, end) on a contig.

        Returns:
            A new array, uint8 [end - start].

        Raises:
            UserError: an unknown contig, a range that leaves it, or a missing or damaged file.
        """
        return self.read_many([contig], [start], end - start)[0]

    def read_many(
        self,
        contigs: Sequence[str] | NDArray[np.integer],
        starts: Sequence[int] | NDArray[np.integer],
        size: int,
        out: Tokens | None = None,
    ) -> Tokens:
        """Read n windows of one size; for small windows much faster than n calls of `read`.

        Args:
            contigs: [n], a list of names, or an integer array of positions in list(self.contigs).
            starts: [n], first base of each window.
            size: bases in a window.
            out: uint8 [n, size] to fill.

        Returns:
            uint8 [n, size]: `out`, or else a new array.

        Raises:
            UserError: as `read`.
        """
        named = not isinstance(contigs, np.ndarray)
        numbers = np.array([self._number_of(name) for name in contigs] if named else contigs, dtype=np.int64)
        firsts = np.asarray(starts, dtype=np.int64)
        inside = (firsts >= 0) & (size >= 0) & (firsts + size <= self._lengths[numbers])
        if not inside.all():
            window = int(np.argmin(inside))
            raise self._outside(int(numbers[window]), int(firsts[window]), int(firsts[window]) + size)
        if out is None:
            out = np.empty((numbers.size, size), dtype=np.uint8)
        self._reader.read_into(numbers, firsts, out)
        return out

    def soft_mask(self, contig: str, start: int, end: int) -> NDArray[np.bool_]:
        """Read which bases of [start, end) were lower-case in the FASTA file (repeats, by convention).

        Returns:
            A new array, bool [end - start].

        Raises:
            UserError: as `read`, and where there is none (see `has_soft_mask`).
        """
        number = self._number_of(contig)
        if not 0 <= start <= end <= self.contigs[contig]:
            raise self._outside(number, start, end)
        if self._mask is None:
            raise UserError(
                f"{self.location} has no lower-case mask; open the folder of a store that was built with --soft-mask"
            )
        return self._mask.read(Interval(contig, start, end))

    def _open_readers(self) -> None:
        self._numbers = {name: number for number, name in enumerate(self.contigs)}
        self._lengths = np.array(list(self.contigs.values()), dtype=np.int64)
        self._reader: Reader
        self._mask: SoftMask | None = None
        if self.manifest["format"] == STORE_FORMAT:
            self._reader = ZarrReader(self._files, self.contigs)
            if self.manifest["options"]["soft_mask"] and not is_remote(self.location):
                masked = {c["name"]: (c["length"], c["soft_masked"]) for c in self.manifest["contigs"]}
                self._mask = SoftMask(self.path, self._files, masked)
        else:
            self._reader = ShardReader(self._files, list(self.contigs))

    def _number_of(self, contig: str) -> int:
        number = self._numbers.get(contig)
        if number is None:
            raise UserError(
                f"contig {contig!r} is not in {self.location}, which has {len(self.contigs)} contigs; "
                f"`hyena-dist data stats {self.location}` lists them"
            )
        return number

    def _outside(self, contig: int, start: int, end: int) -> UserError:
        name, length = list(self.contigs.items())[contig]
        return UserError(
            f"range {start}-{end} is not inside contig {name!r} of {length} bases; choose 0 <= start <= end <= {length}"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_reader", "_mask")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open_readers()
