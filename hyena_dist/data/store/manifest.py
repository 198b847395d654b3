"""The names and rules of the data formats that writers (data_prep) and readers (this package) share.

A reader finds here what is where in a store and in a folder of shards, and how a manifest is read, checked and
fingerprinted. data_prep/README.md is the specification.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from hyena_dist.errors import UserError
from hyena_dist.system.urls import as_url

STORE_FORMAT = "hyena-dist-store"
SHARDS_FORMAT = "hyena-dist-shards"
VERSION = 2
MANIFEST = "manifest.json"
ZARR = "genome.zarr"
SHARD_INDEX = "index.json"
SPLITS = ("train", "valid", "test")

ZARR_CHUNK = 2**16
"""Tokens in a chunk, which is packed and has a checksum of its own; reading any of them checks the whole chunk."""
ZARR_SHARD = 2**24
"""Largest number of tokens in one file of the Zarr store."""
ZARR_FILL = 255
"""The value that Zarr returns for missing chunks; no token has it, so that a hole is noticed."""

_NODE = "zarr.json"
"""Name of the file that describes a group, in the folder that holds the group's arrays."""
_COMMON_KEYS = ("tokenizer", "command", "created", "options", "sources", "species", "contigs", "splits", "intervals")
_KEYS = {STORE_FORMAT: (*_COMMON_KEYS, "zarr"), SHARDS_FORMAT: (*_COMMON_KEYS, "shards", "shard_index")}
_MAKERS = {STORE_FORMAT: "hyena-dist data build", SHARDS_FORMAT: "hyena-dist data shards"}


class Interval(NamedTuple):
    """A half-open range of positions on one contig, in bases, counted from 0."""

    contig: str
    """Name of the contig."""
    start: int
    """First position of the range."""
    end: int
    """Position after the last."""

    def __str__(self) -> str:
        return f"{self.contig}:{self.start}-{self.end}"


class Sample(NamedTuple):
    """One window in a tar of shards: a row of the shard index."""

    key: str
    """Name of the sample in the tar, without an extension."""
    contig: str
    """Name of the contig that the window lies on."""
    start: int
    """First position of the window."""
    end: int
    """Position after the window's last."""
    offset: int
    """Where the window's tokens begin in the tar, in bytes; they are plain, one byte each."""
    crc32c: int
    """Checksum of the tokens."""

    @property
    def interval(self) -> Interval:
        """Range of positions that the sample holds."""
        return Interval(self.contig, self.start, self.end)


def array_path(kind: str, contig: str) -> str:
    """Return the path of a contig's array inside the Zarr group, such as "contigs/chr20".

    Names are percent-encoded, since a contig name may hold '/', '|' or ':', and Zarr reserves '.', '..' and '__*', and
    'zarr.json', the file that lies beside the arrays.

    Args:
        kind: "contigs" for the tokens or "soft_mask" for the lower-case ranges.
        contig: name of the contig, as in the manifest.
    """
    encoded = quote(contig, safe="")
    if encoded[0] in "._" or encoded == _NODE:
        encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}"
    return f"{kind}/{encoded}"


def zarr_shard_length(length: int) -> int:
    """Return how many tokens a shard file of a contig of `length` bases has room for.

    It is ZARR_SHARD or, for a shorter contig, the length rounded up to whole chunks.
    """
    return min(ZARR_SHARD, -(-length // ZARR_CHUNK) * ZARR_CHUNK)


def by_split(rows: Mapping[str, Sequence[Sequence[Any]]]) -> dict[str, list[Interval]]:
    """Return a manifest's "splits" or "intervals", rows of contig, start and end for each split, as intervals."""
    return {split: [Interval(*row) for row in rows[split]] for split in SPLITS}


def free_ranges(contigs: Mapping[str, int], splits: Mapping[str, Sequence[Sequence[Any]]]) -> dict[str, list[Interval]]:
    """Find where training may read: what the regions for validation and test leave of each contig.

    Args:
        contigs: length of each contig in bases, by its name.
        splits: regions of each split as (contig, start, end), inside the contigs.

    Returns:
        Free ranges of every contig, in the order of `contigs`; they are sorted, not empty, and do not touch.
    """
    held_out: dict[str, list[tuple[int, int]]] = {contig: [] for contig in contigs}
    for split in ("valid", "test"):
        for contig, start, end in splits[split]:
            held_out[contig].append((start, end))
    free: dict[str, list[Interval]] = {}
    for contig, length in contigs.items():
        at = 0
        ranges = []
        for start, end in [*sorted(held_out[contig]), (length, length)]:
            if start > at:
                ranges.append(Interval(contig, at, start))
            at = max(at, end)
        free[contig] = ranges
    return free


def fingerprint(manifest: Mapping[str, Any]) -> str:
    """Hash all that training samples depend on: the contigs' names and tokens, the splits and the intervals.

    Returns:
        16 hexadecimal digits, the same for a store and the shards made from it.
    """
    contigs = [[contig["name"], contig["sha256"]] for contig in manifest["contigs"]]
    parts = [contigs, manifest["splits"], manifest["intervals"]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def read_manifest(path: Path) -> dict[str, Any]:
    """Read and check the manifest of the store or the folder of shards at `path`.

    Raises:
        UserError: There is no manifest, it is damaged, or this program does not know its version.
    """
    file = path / MANIFEST
    try:
        text = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        url = as_url(path)
        if url:
            raise UserError(
                f"{url} is not on this machine; copy it here, or let training read shards there, "
                f"with data.path an http(s) URL or 'pipe:COMMAND {{}}'"
            ) from None
        raise UserError(
            f"{path} is not a hyena-dist store, because it has no {MANIFEST}; "
            f"make one with `hyena-dist data build FASTA... --out {path}`"
        ) from None
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror or error}); check its permissions") from error
    return parse_manifest(text, str(file))


def parse_manifest(text: str | bytes, where: str) -> dict[str, Any]:
    """Parse and check the content of a manifest.

    Args:
        text: content of the file, JSON.
        where: path or URL of the file, for the error.

    Returns:
        The manifest; its "format" is STORE_FORMAT or SHARDS_FORMAT, and every key that the format requires is there.

    Raises:
        UserError: The manifest is damaged, or this program does not know its version.
    """
    try:
        manifest = json.loads(text)
    except ValueError as error:
        raise UserError(f"{where} cannot be read ({error}); rebuild the store with `hyena-dist data build`") from error
    if not isinstance(manifest, dict) or manifest.get("format") not in _KEYS:
        raise UserError(
            f"{where} is not the manifest of a hyena-dist store, because its format is neither {STORE_FORMAT!r} nor "
            f"{SHARDS_FORMAT!r}; give a folder that `hyena-dist data build` or `hyena-dist data shards` made"
        )
    maker = _MAKERS[manifest["format"]]
    if manifest.get("version") != VERSION:
        raise UserError(
            f"{where} has format version {manifest.get('version')!r}, and this program reads version {VERSION}; "
            f"rebuild it with `{maker}`"
        )
    missing = [key for key in _KEYS[manifest["format"]] if key not in manifest]
    if missing:
        raise UserError(f"{where} lacks {missing[0]!r}; rebuild it with `{maker}`")
    return manifest
