"""What is where in a store and in a folder of shards: the names shared by writers (data_prep) and readers (store.py).

data_prep/README.md is the specification.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from hyena_dist.errors import UserError

STORE_FORMAT = "hyena-dist-store"
SHARDS_FORMAT = "hyena-dist-shards"
VERSION = 2
MANIFEST = "manifest.json"
ZARR = "genome.zarr"
SHARD_INDEX = "index.json"
SPLITS = ("train", "valid", "test")

ZARR_CHUNK = 2**16
"""Tokens that are packed and have a checksum together: what the first read of any of them checks."""
ZARR_SHARD = 2**24
"""Tokens in one file of the Zarr store, at most."""
ZARR_FILL = 255
"""What Zarr returns for missing chunks. No token has this value, so that a hole is noticed."""

_COMMON_KEYS = ("tokenizer", "command", "created", "options", "sources", "species", "contigs", "splits", "intervals")
_KEYS = {STORE_FORMAT: (*_COMMON_KEYS, "zarr"), SHARDS_FORMAT: (*_COMMON_KEYS, "shards", "shard_index")}
_MAKERS = {STORE_FORMAT: "hyena-dist data build", SHARDS_FORMAT: "hyena-dist data shards"}


class Interval(NamedTuple):
    """A half-open range of positions on one contig, in bases, counted from 0."""

    contig: str
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.contig}:{self.start}-{self.end}"


def array_path(kind: str, contig: str) -> str:
    """Path of a contig's array inside the Zarr group, such as "contigs/chr20".

    Names are percent-encoded, since a contig name may hold '/', '|' or ':', and Zarr reserves '.', '..' and '__*'.

    Args:
        kind: "contigs" or "soft_mask".
        contig: the contig's name, as in the manifest.
    """
    encoded = quote(contig, safe="")
    if encoded[0] in "._":
        encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}"
    return f"{kind}/{encoded}"


def zarr_shard_length(length: int) -> int:
    """Tokens in one Zarr shard file of a contig of `length` bases: whole chunks, no more than are needed."""
    return min(ZARR_SHARD, -(-length // ZARR_CHUNK) * ZARR_CHUNK)


def free_ranges(contigs: Mapping[str, int], splits: Mapping[str, Sequence[Sequence[Any]]]) -> dict[str, list[Interval]]:
    """Where training may read: each contig without all regions for validation and test.

    Args:
        contigs: name -> length in bases.
        splits: split -> regions of (contig, start, end), inside the contigs.

    Returns:
        Contig (every one, in the order of `contigs`) -> its free ranges, sorted, not empty, not touching.
    """
    held_out: dict[str, list[tuple[int, int]]] = {contig: [] for contig in contigs}
    for split in ("valid", "test"):
        for contig, start, end in splits[split]:
            held_out[contig].append((start, end))
    free: dict[str, list[Interval]] = {}
    for contig, length in contigs.items():
        at, ranges = 0, []
        for start, end in [*sorted(held_out[contig]), (length, length)]:
            if start > at:
                ranges.append(Interval(contig, at, start))
            at = max(at, end)
        free[contig] = ranges
    return free


def fingerprint(manifest: Mapping[str, Any]) -> str:
    """Changes with anything that samples depend on; equal for a store and its shards.

    Returns:
        16 hexadecimal digits, of the contigs' tokens, the splits and the intervals.
    """
    contigs = [[contig["name"], contig["sha256"]] for contig in manifest["contigs"]]
    parts = [contigs, manifest["splits"], manifest["intervals"]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def read_manifest(path: Path) -> dict[str, Any]:
    """Read and check the manifest of the store or the folder of shards at `path`.

    Raises:
        UserError: none there, a damaged manifest, or a version that this program does not know.
    """
    file = path / MANIFEST
    try:
        text = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{path} is not a hyena-dist store, because it has no {MANIFEST}; "
            f"make one with `hyena-dist data build FASTA... --out {path}`"
        ) from None
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror or error}); check its permissions") from error
    return parse_manifest(text, str(file))


def parse_manifest(text: str | bytes, where: str) -> dict[str, Any]:
    """Check the content of a manifest, which `manifest["format"]` then tells to be of a store or of shards.

    Args:
        text: JSON.
        where: path or URL, for the error.

    Raises:
        UserError: a damaged manifest, or a version that this program does not know.
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
