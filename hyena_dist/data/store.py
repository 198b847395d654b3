"""Random access to the tokens of a store that `hyena-dist data build` made.

A store holds the same tokens twice: as Zarr arrays (compressed, any range) and as WebDataset tars (plain bytes, the
regions of the splits). Both sources return the same tokens for the same range, so that training may sample the same
windows from either.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.manifest import (
    MANIFEST,
    SHARD_INDEX,
    SPLITS,
    ZARR,
    Interval,
    array_path,
    read_manifest,
    zarr_shard_length,
)
from hyena_dist.data.tokenizer import VOCAB_SIZE, Tokens
from hyena_dist.errors import UserError

Source = Literal["zarr", "webdataset"]


class _Reader(Protocol):
    """One of the two ways to the tokens."""

    def read(self, interval: Interval) -> Tokens:
        """Return the tokens of a range that lies inside its contig."""


class GenomeStore:
    """A store folder, opened for reading.

    Files are opened at the first read, and none travels with a pickle, so a store can be handed to worker processes.

    Attributes:
        path: the store's folder.
        source: "zarr" or "webdataset".
        manifest: the content of manifest.json.
        contigs: length of each contig in bases, in the order of the FASTA files.
        splits: regions of "train", "valid" and "test": sorted, not overlapping, half-open.
    """

    def __init__(self, path: Path, source: Source) -> None:
        self.path = path
        self.source = source
        self.manifest: dict[str, Any] = read_manifest(path)
        try:
            self.contigs: dict[str, int] = {contig["name"]: contig["length"] for contig in self.manifest["contigs"]}
            self.splits: dict[str, list[Interval]] = {
                split: [Interval(*region) for region in self.manifest["splits"][split]] for split in SPLITS
            }
        except (KeyError, TypeError) as error:
            raise _damaged(path / MANIFEST, f"is damaged ({error!r})", path) from error
        self._open_readers()

    @classmethod
    def open(cls, path: str | Path, source: Source = "zarr") -> "GenomeStore":
        """Open the store in folder `path`.

        Args:
            path: a folder that `hyena-dist data build` made.
            source: where `read` takes tokens from: the Zarr arrays ("zarr") or the tar shards ("webdataset").

        Raises:
            UserError: no store there, an unknown version, or an unknown source.
        """
        if source not in ("zarr", "webdataset"):
            raise UserError(f"source {source!r} is not a way to read a store; use zarr or webdataset")
        return cls(Path(path), source)

    @property
    def fingerprint(self) -> str:
        """Changes with anything that samples depend on: the contigs' tokens and the splits."""
        parts = [[[c["name"], c["sha256"]] for c in self.manifest["contigs"]], self.manifest["splits"]]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def read(self, contig: str, start: int, end: int) -> Tokens:
        """Read the tokens of [start, end) on a contig.

        With source "webdataset" the range must lie inside the regions of the splits.

        Returns:
            A new array, uint8 [end - start].

        Raises:
            UserError: an unknown contig, a range that leaves it, or a missing or damaged file.
        """
        return self._tokens.read(self._checked(contig, start, end))

    def soft_mask(self, contig: str, start: int, end: int) -> NDArray[np.bool_]:
        """Read which bases of [start, end) were lower-case in the FASTA file (repeats, by convention).

        Returns:
            A new array, bool [end - start].

        Raises:
            UserError: as `read`, and when the store was built without --soft-mask.
        """
        interval = self._checked(contig, start, end)
        if not self.manifest["options"]["soft_mask"]:
            raise UserError(f"{self.path} was built without the lower-case mask; rebuild it with --soft-mask")
        return self._mask.read(interval).astype(np.bool_)

    def _open_readers(self) -> None:
        self._tokens: _Reader = (
            _ZarrReader(self.path, "contigs", self.contigs)
            if self.source == "zarr"
            else _ShardReader(self.path, self.manifest)
        )
        self._mask = _ZarrReader(self.path, "soft_mask", self.contigs)

    def _checked(self, contig: str, start: int, end: int) -> Interval:
        length = self.contigs.get(contig)
        if length is None:
            raise UserError(
                f"contig {contig!r} is not in {self.path}, which has {len(self.contigs)} contigs; "
                f"`hyena-dist data stats {self.path}` lists them"
            )
        if not 0 <= start <= end <= length:
            raise UserError(
                f"range {start}-{end} is not inside contig {contig!r} of {length} bases; "
                f"choose 0 <= start <= end <= {length}"
            )
        return Interval(contig, start, end)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_tokens", "_mask")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open_readers()


def _damaged(file: Path, reason: str, store: Path) -> UserError:
    return UserError(
        f"{file} {reason}; `hyena-dist data verify {store}` lists what is damaged, "
        f"and `hyena-dist data build ... --overwrite` rebuilds the store"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


class _ZarrReader:
    """Reads one kind of array ("contigs" or "soft_mask") of the Zarr group."""

    def __init__(self, store: Path, kind: str, lengths: dict[str, int]) -> None:
        self._store = store
        self._kind = kind
        self._lengths = lengths
        self._arrays: dict[str, Any] = {}

    def read(self, interval: Interval) -> Tokens:
        """Return the values of a range that lies inside its contig, uint8 [end - start]."""
        array = self._array(interval.contig)
        try:
            tokens = np.asarray(array[interval.start : interval.end])
        except Exception as error:  # zarr and its codecs raise many types for damaged bytes
            raise self._damaged(interval, f"is damaged ({_one_line(error)})") from error
        # Zarr fills in for files that are not there, with a value that no token has.
        if tokens.size != interval.end - interval.start or (tokens.size and tokens.max() >= VOCAB_SIZE):
            raise self._damaged(interval, "is damaged or incomplete")
        return tokens

    def _array(self, contig: str) -> Any:
        if contig not in self._arrays:
            import zarr  # takes half a second, which readers of the tar shards need not spend

            folder = self._folder(contig)
            try:
                self._arrays[contig] = zarr.open_array(str(folder), mode="r", zarr_format=3)
            except Exception as error:  # json, zarr and the file system raise many types here
                reason = "cannot be read" if (folder / "zarr.json").exists() else "is missing"
                raise _damaged(folder / "zarr.json", f"{reason} ({_one_line(error)})", self._store) from error
        return self._arrays[contig]

    def _folder(self, contig: str) -> Path:
        return self._store / ZARR / array_path(self._kind, contig)

    def _damaged(self, interval: Interval, reason: str) -> UserError:
        length = zarr_shard_length(self._lengths[interval.contig])
        first, last = interval.start // length, max(interval.start, interval.end - 1) // length
        files = [self._folder(interval.contig) / "c" / str(number) for number in range(first, last + 1)]
        missing = [file for file in files if not file.exists()]
        return _damaged(missing[0], "is missing", self._store) if missing else _damaged(files[0], reason, self._store)


class _Tiles(NamedTuple):
    """The shard samples on one contig, sorted by start; all int64 [number of samples]."""

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    shard: NDArray[np.int64]
    offset: NDArray[np.int64]


class _ShardReader:
    """Reads ranges from the tars, whose samples tile the regions of the splits."""

    def __init__(self, store: Path, manifest: dict[str, Any]) -> None:
        self._store = store
        self._shards: list[dict[str, Any]] = manifest["shards"]
        self._tiles: dict[str, _Tiles] | None = None
        self._maps: dict[int, np.memmap] = {}

    def read(self, interval: Interval) -> Tokens:
        """Return the tokens of a range that lies inside its contig, uint8 [end - start]."""
        if self._tiles is None:
            self._tiles = self._load_index()
        contig, start, end = interval
        tokens = np.empty(end - start, dtype=np.uint8)
        at = start
        while at < end:
            tiles = self._tiles.get(contig)
            tile = -1 if tiles is None else int(np.searchsorted(tiles.start, at, side="right")) - 1
            if tiles is None or tile < 0 or tiles.end[tile] <= at:
                raise UserError(
                    f"{contig}:{start}-{end} leaves the regions of the splits at {at}, and the shards hold only "
                    f"those; read it with source zarr"
                )
            stop = min(end, int(tiles.end[tile]))
            shard = int(tiles.shard[tile])
            first = int(tiles.offset[tile]) + at - int(tiles.start[tile])
            piece = self._map(shard)[first : first + stop - at]
            if piece.max() >= VOCAB_SIZE:
                raise _damaged(self._store / self._shards[shard]["path"], "is damaged", self._store)
            tokens[at - start : stop - start] = piece
            at = stop
        return tokens

    def _load_index(self) -> dict[str, _Tiles]:
        file = self._store / SHARD_INDEX
        number = {shard["path"]: i for i, shard in enumerate(self._shards)}
        rows: dict[str, list[tuple[int, int, int, int]]] = {}
        try:
            for path, samples in json.loads(file.read_text(encoding="utf-8")).items():
                for _key, contig, start, end, offset in samples:
                    rows.setdefault(contig, []).append((start, end, number[path], offset))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(file, f"cannot be read ({error})", self._store) from error
        return {contig: _Tiles(*np.array(sorted(tiles), dtype=np.int64).T) for contig, tiles in rows.items()}

    def _map(self, shard: int) -> np.memmap:
        if shard not in self._maps:
            file = self._store / self._shards[shard]["path"]
            expected = self._shards[shard]["bytes"]
            if not file.is_file():
                raise _damaged(file, "is missing", self._store)
            if file.stat().st_size != expected:
                raise _damaged(file, f"has {file.stat().st_size} bytes instead of {expected}", self._store)
            self._maps[shard] = np.memmap(file, dtype=np.uint8, mode="r")
        return self._maps[shard]
