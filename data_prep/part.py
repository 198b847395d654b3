"""A part of a build: the tokens of some contigs in an array, and what is known of each contig, in files beside it.

A part is written by one process in one go, and is finished when its file done.json is there.
"""

import hashlib
import json
import shutil
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.mask_edges import EdgeWriter
from data_prep.zarr_tokens import TokenWriter
from hyena_dist.data.text.fasta import AMBIGUOUS, LOWER, TOKEN
from hyena_dist.data.text.files import describe_file
from hyena_dist.data.tokenizer import A, N, Tokens
from hyena_dist.system.files import sync, write_atomically

TOKENS = "tokens"
"""Folder of a part's array of tokens; there is none if the part has no contigs."""
CONTIG = np.dtype(
    [
        ("length", "<i8"),
        ("sha256", "u1", 32),
        ("composition", "<i8", 5),
        ("soft_masked", "<i8"),
        ("ambiguous", "<i8"),
        ("species", "<i8"),
        ("name", "<i8"),
    ]
)
"""What a part knows of a contig; `name` is the number of bytes of its name, `species` -1 without a label."""
_ROW = struct.Struct("<q32s9q")
_DONE = "done.json"
_CONTIGS, _NAMES, _EDGES = "contigs.bin", "names.bin", "mask.bin"
_FEW = 2**14
"""Bases up to which one pass that counts all tokens is faster than a pass for each."""


class Done(NamedTuple):
    """The description of a finished part."""

    inputs: list[dict[str, Any]]
    """The inputs that it was made of, in their state at that time."""
    sources: list[dict[str, Any]]
    """Entries of the manifest for these inputs."""
    contigs: int
    """How many contigs it has."""
    bases: int
    """How many bases these have."""
    files: dict[str, tuple[int, str]]
    """Size and sha256 of its files, by their paths."""


class PartWriter:
    """Writes a part into a new folder, one contig after the other.

    Args:
        folder: folder of the part, whose content is replaced.
        codec: how tokens are stored, of CODECS.
        soft_mask: whether to write which bases are lower-case.
    """

    def __init__(self, folder: Path, codec: str, *, soft_mask: bool) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder = folder
        self._codec = codec
        self._tokens: TokenWriter | None = None
        self._rows = (folder / _CONTIGS).open("wb")
        self._names = (folder / _NAMES).open("wb")
        self._edges = EdgeWriter(folder / _EDGES) if soft_mask else None
        self._contigs = 0

    def write(self, name: str, species: int, blocks: Iterable[bytes]) -> None:
        """Write a contig.

        Args:
            name: its name in the store.
            species: number of its species, or -1.
            blocks: codes of its bases in order, one byte each.
        """
        if self._tokens is None:
            self._tokens = TokenWriter(self._folder / TOKENS, self._codec)
        start = self._tokens.length
        digest = hashlib.sha256()
        counts = np.zeros(5, np.int64)
        soft_masked = ambiguous = 0
        for block in blocks:
            codes = np.frombuffer(block, np.uint8)
            lower_case = None if block.isascii() else codes >= LOWER  # the bit that says so is that of non-ASCII
            if lower_case is not None:
                soft_masked += int(np.count_nonzero(lower_case))
            if self._edges:
                self._edges.write(codes.size, lower_case)
            if codes.size and int(codes.max()) > TOKEN:
                ambiguous += int(np.count_nonzero(codes & np.uint8(AMBIGUOUS)))
                codes = codes & np.uint8(TOKEN)
            digest.update(codes.data)
            counts += _composition(codes)
            self._tokens.write(codes)
        if self._edges:
            self._edges.end_contig()
        encoded = name.encode()
        self._names.write(encoded)
        length = self._tokens.length - start
        numbers = (*counts.tolist(), soft_masked, ambiguous, species, len(encoded))
        self._rows.write(_ROW.pack(length, digest.digest(), *numbers))
        self._contigs += 1

    def close(self, inputs: list[dict[str, Any]], sources: list[dict[str, Any]]) -> None:
        """Finish the part, and wait until it is on the disk.

        Args:
            inputs: the inputs that it was made of.
            sources: their entries in the manifest.
        """
        self._rows.close()
        self._names.close()
        if self._edges:
            self._edges.close()
        files = {path.name: _described(path) for path in sorted(self._folder.glob("*.bin"))}
        if self._tokens:
            files |= {f"{TOKENS}/{path}": described for path, described in self._tokens.close().items()}
        for path in [self._folder / path for path in files]:
            sync(path)
        for folder in (self._folder, *filter(Path.is_dir, self._folder.rglob("*"))):
            sync(folder)
        done = Done(inputs, sources, self._contigs, self._tokens.length if self._tokens else 0, files)
        write_atomically(self._folder / _DONE, json.dumps(done._asdict()))


def read_done(folder: Path) -> Done | None:
    """Return what a part says of itself, or None if it is not finished."""
    try:
        return Done(**json.loads((folder / _DONE).read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):  # a power cut may leave anything
        return None


def is_whole(folder: Path, done: Done) -> bool:
    """Tell whether the files of a part are there as it was written."""
    return all((folder / path).is_file() and _described(folder / path) == (*each,) for path, each in done.files.items())


def read_contigs(folder: Path) -> NDArray[np.void]:
    """Return what a part knows of its contigs, CONTIG [contigs]."""
    return np.fromfile(folder / _CONTIGS, CONTIG)


def read_names(folder: Path) -> bytes:
    """Return the names of a part's contigs, one after the other."""
    return (folder / _NAMES).read_bytes()


def names_of(folder: Path) -> Iterator[str]:
    """Yield the names of a part's contigs."""
    names = read_names(folder)
    at = 0
    for size in read_contigs(folder)["name"].tolist():
        yield names[at : at + size].decode()
        at += size


def read_edges(folder: Path) -> NDArray[np.int64]:
    """Return where lower case begins and ends in a part's bases end to end, int64 [2 * ranges]."""
    return np.fromfile(folder / _EDGES, "<i8")


def _composition(codes: Tokens) -> NDArray[np.int64]:
    """Count A, C, G, T and N, int64 [5]."""
    if codes.size < _FEW:
        return np.bincount(codes, minlength=N + 1)[A : N + 1]
    counts = [int(np.count_nonzero(codes == token)) for token in range(A, N)]
    return np.array([*counts, codes.size - sum(counts)], np.int64)


def _described(path: Path) -> tuple[int, str]:
    """Return the size and the sha256 of a file."""
    described = describe_file(path)
    return described["bytes"], described["sha256"]
