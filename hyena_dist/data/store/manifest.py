"""The names and rules of the data formats that writers (data_prep) and readers (this package) share.

A reader finds here what is where in a store and in a folder of shards, and how a manifest is read and checked.
data_prep/README.md is the specification.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from hyena_dist.errors import UserError
from hyena_dist.system.urls import as_url

STORE_FORMAT = "hyena-dist-store"
SHARDS_FORMAT = "hyena-dist-shards"
VERSION = 3
MANIFEST = "manifest.json"
ZARR = "genome.zarr"
INDEX = "index"
"""Folder of the arrays that say what is where, a file of the form .npy each."""
SAMPLES = "samples"
"""The array of the index of shards that says where each window is."""
SPLITS = ("train", "valid", "test")
CODECS = ("packed", "none")
"""How tokens are stored: four bases in a byte, or a byte each, which any reader of Zarr knows."""

ZARR_CHUNK = 2**16
"""Tokens in a chunk, which is packed and has a checksum of its own; reading any of them checks the whole chunk."""
ZARR_SHARD = 2**29
"""Largest number of tokens in one file of the Zarr store, unless the manifest names another."""
ZARR_FILL = 255
"""The value that Zarr returns for missing chunks; no token has it, so that a hole is noticed."""

_COMMON_KEYS = (
    "tokenizer", "command", "created", "options", "sources", "species", "contigs", "bases", "splits", "fingerprint",
    "files",
)  # fmt: skip
_KEYS = {STORE_FORMAT: (*_COMMON_KEYS, "zarr"), SHARDS_FORMAT: (*_COMMON_KEYS, "shards")}
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


def index_path(column: str) -> str:
    """Return the path of an array of the index inside a store or a folder of shards."""
    return f"{INDEX}/{column}.npy"


def intervals_column(split: str) -> str:
    """Return the name of the array that holds the intervals of a split, where they are not its regions cut evenly."""
    return f"{split}_intervals"


def array_path(number: int) -> str:
    """Return the path of a token array inside the Zarr group, such as "tokens/0"."""
    return f"tokens/{number}"


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
    version = manifest.get("version")
    if version != VERSION:
        fix = f"rebuild it with `{maker}`"
        if version == 2 and manifest["format"] == STORE_FORMAT:
            fix = f"convert it with `hyena-dist data convert {Path(where).parent} --out NEW`"
        raise UserError(f"{where} has format version {version!r}, and this program reads version {VERSION}; {fix}")
    missing = [key for key in _KEYS[manifest["format"]] if key not in manifest]
    if missing:
        raise UserError(f"{where} lacks {missing[0]!r}; rebuild it with `{maker}`")
    return manifest


def zarr_shard_length(length: int, most: int) -> int:
    """Return how many tokens a file of an array of `length` tokens has room for.

    It is `most` or, for a shorter array, the length rounded up to whole chunks.
    """
    return min(most, -(-length // ZARR_CHUNK) * ZARR_CHUNK)
