"""GenomeStore, which opens a store that `hyena-dist data build` made, or the shards of one, and reads any range of it.

Both return the same tokens for the same range, so that training may sample the same windows from either.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store.fetch import ShardCache, is_remote, join
from hyena_dist.data.store.files import StoreFiles
from hyena_dist.data.store.manifest import (
    MANIFEST,
    STORE_FORMAT,
    Interval,
    by_split,
    fingerprint,
    free_ranges,
    parse_manifest,
    read_manifest,
)
from hyena_dist.data.store.soft_mask import SoftMask
from hyena_dist.data.store.tar import TarReader
from hyena_dist.data.store.zarr import ZarrReader
from hyena_dist.data.tokenizer import Tokens
from hyena_dist.errors import UserError


class TokenReader(Protocol):
    """A back end of GenomeStore: reads tokens from one of the two data formats."""

    def read_into(self, contigs: NDArray[np.int64], starts: NDArray[np.int64], out: Tokens) -> None:
        """Read windows of one size.

        Args:
            contigs: number of each window's contig in the order of the manifest, int64 [n].
            starts: first base of each window, int64 [n]; every window lies inside its contig.
            out: array to fill, uint8 [n, size].

        Raises:
            UserError: A window is not stored, or a file is missing or damaged.
        """


class GenomeStore:
    """A store or a folder of shards, opened for reading.

    A GenomeStore can be pickled for worker processes: files are mapped into memory at the first read, and what is
    mapped does not travel with the pickle.

    Attributes:
        location: folder or URL, as given to `open`.
        path: the folder; for a remote one, the folder that holds copies of its files.
        manifest: content of manifest.json.
        contigs: length of each contig in bases by its name, in the order of the input.
        species: names of the species; none where the input had no labels.
        splits: regions of "train", "valid" and "test", which are sorted and do not overlap.
        intervals: units of sampling of each split, which may overlap each other.
        free: ranges of each contig that training may read, sorted: all outside of "valid" and "test".
    """

    def __init__(self, location: str | Path, cache: Path | None = None) -> None:
        self.location = str(location)
        self.path = Path(self.location)
        remote = None
        if is_remote(self.location):
            self.path = cache or Path(os.environ.get("HYENA_DIST_CACHE") or Path.home() / ".cache" / "hyena-dist")
            remote = ShardCache(self.location, self.path)
            self.manifest = parse_manifest(remote.read(MANIFEST), join(self.location, MANIFEST))
        else:
            self.manifest = read_manifest(self.path)
        try:
            self._files = StoreFiles(self.location, self.manifest, remote)
            contigs = self.manifest["contigs"]
            self.contigs: dict[str, int] = {contig["name"]: contig["length"] for contig in contigs}
            self.species: list[str] = list(self.manifest["species"])
            self._species_of: dict[str, str | None] = {contig["name"]: contig["species"] for contig in contigs}
            self.splits = by_split(self.manifest["splits"])
            self.intervals = by_split(self.manifest["intervals"])
            self.free = free_ranges(self.contigs, self.splits)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{join(self.location, MANIFEST)} is damaged ({error!r}); rebuild it with `hyena-dist data build`"
            ) from error
        self._open_readers()

    @classmethod
    def open(cls, location: str | Path, cache: Path | None = None) -> "GenomeStore":
        """Open a store or a folder of shards.

        Args:
            location: a folder that `hyena-dist data build` or `hyena-dist data shards` made. For a remote folder, its
                http(s) URL, or `pipe:COMMAND {}`, a command that writes the file with relative path {} to its output.
            cache: folder for copies of remote files; $HYENA_DIST_CACHE or ~/.cache/hyena-dist by default.

        Raises:
            UserError: No store or shards can be read there, or this program does not know their version.
        """
        return cls(location, cache)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that training samples depend on, 16 hexadecimal digits; a store and its shards have the same."""
        return fingerprint(self.manifest)

    def species_of(self, contig: str) -> str | None:
        """Return the species of a contig, or None if the contig's input had no label."""
        return self._species_of[contig]

    @property
    def has_soft_mask(self) -> bool:
        """Whether `soft_mask` can be read: only from the folder of a store that was built with --soft-mask."""
        return self._mask is not None

    def read(self, contig: str, start: int, end: int) -> Tokens:
        """Read the tokens of [start, end) on a contig.

        Returns:
            A new array, uint8 [end - start].

        Raises:
            UserError: The contig is unknown, the range leaves it, or a file is missing or damaged.
        """
        return self.read_many([contig], [start], end - start)[0]

    def read_many(
        self,
        contigs: Sequence[str] | NDArray[np.integer],
        starts: Sequence[int] | NDArray[np.integer],
        size: int,
        out: Tokens | None = None,
    ) -> Tokens:
        """Read n windows of one size, which is much faster than n calls of `read` where windows are small.

        Args:
            contigs: contig of each window: a list of n names, or an integer array [n] of places in `self.contigs`.
            starts: first base of each window, [n].
            size: bases in a window.
            out: array to fill, uint8 [n, size]; None makes a new one.

        Returns:
            Tokens, uint8 [n, size].

        Raises:
            UserError: A contig is unknown, a window leaves its contig, or a file is missing or damaged.
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
            UserError: The contig is unknown, the range leaves it, a file is missing or damaged, or there is no soft
                mask (see `has_soft_mask`).
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
        """Make the back ends, which read nothing before they are asked to."""
        self._numbers = {name: number for number, name in enumerate(self.contigs)}
        self._lengths = np.array(list(self.contigs.values()), dtype=np.int64)
        self._reader: TokenReader
        self._mask: SoftMask | None = None
        if self.manifest["format"] == STORE_FORMAT:
            self._reader = ZarrReader(self._files, self.contigs)
            if self.manifest["options"]["soft_mask"] and not is_remote(self.location):
                masked = {
                    contig["name"]: (contig["length"], contig["soft_masked"]) for contig in self.manifest["contigs"]
                }
                self._mask = SoftMask(self.path, self._files, masked)
        else:
            self._reader = TarReader(self._files, list(self.contigs))

    def _number_of(self, contig: str) -> int:
        """Return the place of a contig in the order of the manifest."""
        number = self._numbers.get(contig)
        if number is None:
            raise UserError(
                f"contig {contig!r} is not in {self.location}, which has {len(self.contigs)} contigs; "
                f"`hyena-dist data stats {self.location}` lists them"
            )
        return number

    def _outside(self, contig: int, start: int, end: int) -> UserError:
        """Return the error for a range that is not inside its contig."""
        name, length = list(self.contigs.items())[contig]
        return UserError(
            f"range {start}-{end} is not inside contig {name!r} of {length} bases; choose 0 <= start <= end <= {length}"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_reader", "_mask")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open_readers()
