"""GenomeStore, which opens a store that `hyena-dist data build` made, or the shards of one, and reads any range of it.

Both return the same tokens for the same range, so that training may sample the same windows from either.
"""

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store.contigs import Contigs
from hyena_dist.data.store.fetch import ShardCache, is_remote, join
from hyena_dist.data.store.files import StoreFiles
from hyena_dist.data.store.index import Index
from hyena_dist.data.store.manifest import (
    MANIFEST,
    SAMPLES,
    SPLITS,
    STORE_FORMAT,
    intervals_column,
    parse_manifest,
    read_manifest,
)
from hyena_dist.data.store.ranges import Ranges, Regions
from hyena_dist.data.store.soft_mask import MASK, soft_mask
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
    mapped does not travel with the pickle. Nothing is made for each contig, of which there may be millions.

    Attributes:
        location: folder or URL, as given to `open`.
        path: the folder; for a remote one, the folder that holds copies of its files.
        manifest: content of manifest.json.
        contigs: length of each contig in bases by its name, in the order of the input, and the arrays of the index.
        species: names of the species; none where the input had no labels.
        index: the arrays of the index.
        fingerprint: hash of all that training samples depend on, 16 hexadecimal digits; a store and its shards have the
            same.
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
            self.species: list[str] = list(self.manifest["species"])
            self.fingerprint: str = self.manifest["fingerprint"]
            self._open()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{join(self.location, MANIFEST)} is damaged ({error!r}); rebuild it with `hyena-dist data build`"
            ) from error

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
    def splits(self) -> dict[str, Regions]:
        """Regions of "train", "valid" and "test", which are sorted and do not overlap."""
        return {split: self._regions(split) for split in SPLITS}

    @cached_property
    def intervals(self) -> dict[str, Regions]:
        """Units of sampling of each split, which may overlap each other."""
        columns = {split: intervals_column(split) for split in SPLITS}
        length = self.manifest["options"]["interval_length"]
        return {
            split: self._regions(column)
            if column in self.index
            else Regions(self.contigs, self.splits[split].ranges.cut(length))
            for split, column in columns.items()
        }

    @cached_property
    def free(self) -> Regions:
        """The ranges that training may read, sorted: all of each contig outside of "valid" and "test"."""
        return free_ranges(self.contigs, self.splits)

    def species_of(self, contig: str) -> str | None:
        """Return the species of a contig, or None if the contig's input had no label."""
        return self.contigs.species_of(self._number_of(contig))

    @property
    def has_soft_mask(self) -> bool:
        """Whether `soft_mask` can be read: only from the folder of a store that was built with --soft-mask."""
        return MASK in self.index

    def read(self, contig: str | int, start: int, end: int) -> Tokens:
        """Read the tokens of [start, end) on a contig, named or numbered.

        Returns:
            A new array, uint8 [end - start].

        Raises:
            UserError: The contig is unknown, the range leaves it, or a file is missing or damaged.
        """
        number = self._number_of(contig) if isinstance(contig, str) else contig
        return self.read_many(np.array([number]), [start], end - start)[0]

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
        inside = (firsts >= 0) & (size >= 0) & (firsts + size <= self._lengths(numbers))
        if not inside.all():
            window = int(np.argmin(inside))
            raise self._outside(int(numbers[window]), int(firsts[window]), int(firsts[window]) + size)
        if out is None:
            out = np.empty((numbers.size, size), dtype=np.uint8)
        self._reader.read_into(numbers, firsts, out)
        return out

    def soft_mask(self, contig: str | int, start: int, end: int) -> NDArray[np.bool_]:
        """Read which bases of [start, end) on a contig, named or numbered, were lower-case in the FASTA file.

        Returns:
            A new array, bool [end - start].

        Raises:
            UserError: The contig is unknown, the range leaves it, a file is missing or damaged, or there is no soft
                mask (see `has_soft_mask`).
        """
        number = self._number_of(contig) if isinstance(contig, str) else contig
        offset = int(self.contigs.offset[number])
        if not 0 <= start <= end <= int(self.contigs.offset[number + 1]) - offset:
            raise self._outside(number, start, end)
        if not self.has_soft_mask:
            raise UserError(
                f"{self.location} has no lower-case mask; open the folder of a store that was built with --soft-mask"
            )
        return soft_mask(self.index[MASK], offset + start, offset + end)  # type: ignore[arg-type]

    def _open(self) -> None:
        """Make what reads the files, which reads nothing before it is asked to."""
        self.index = Index(self._files)
        self.contigs = Contigs(self.index, self.species)

    @cached_property
    def _reader(self) -> TokenReader:
        if self.manifest["format"] == STORE_FORMAT:
            return ZarrReader(self._files, self.contigs, self.manifest["zarr"])
        paths = [tar["path"] for tar in self.manifest["shards"]]
        return TarReader(self._files, self.contigs, paths, self.index[SAMPLES])  # type: ignore[arg-type]

    def _regions(self, column: str) -> Regions:
        """Read ranges from the index."""
        start, end = self.index[column].astype(np.int64).T
        return Regions(self.contigs, Ranges(np.ascontiguousarray(start), np.ascontiguousarray(end)))

    def _lengths(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the lengths of contigs by their numbers, int64 [n]."""
        offset = self.contigs.offset
        return offset[numbers + 1] - offset[numbers]

    def _number_of(self, contig: str) -> int:
        """Return the place of a contig in the order of the store."""
        try:
            return self.contigs.number[contig]
        except KeyError:
            raise UserError(
                f"contig {contig!r} is not in {self.location}, which has {len(self.contigs):,} contigs; "
                f"`hyena-dist data stats {self.location}` lists them"
            ) from None

    def _outside(self, contig: int, start: int, end: int) -> UserError:
        """Return the error for a range that is not inside its contig."""
        name = self.contigs.name(contig)
        length = self.contigs[name]
        return UserError(
            f"range {start}-{end} is not inside contig {name!r} of {length} bases; choose 0 <= start <= end <= {length}"
        )

    def __getstate__(self) -> dict[str, Any]:
        kept = ("location", "path", "manifest", "species", "fingerprint", "_files")
        return {key: self.__dict__[key] for key in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


def free_ranges(contigs: Contigs, splits: Mapping[str, Regions]) -> Regions:
    """Find where training may read: what the regions for validation and test leave of each contig.

    Args:
        contigs: the contigs.
        splits: regions of each split.

    Returns:
        The free ranges, sorted; they are not empty, and those of a contig do not touch.
    """
    held_out = (splits["valid"] + splits["test"]).merged().ranges
    # Between the ends of contigs and of held-out regions and what follows them lies what is free.
    starts = np.sort(np.concatenate([contigs.offset[:-1], held_out.end]))
    ends = np.sort(np.concatenate([held_out.start, contigs.offset[1:]]))
    some = starts < ends
    return Regions(contigs, Ranges(starts[some], ends[some]))
