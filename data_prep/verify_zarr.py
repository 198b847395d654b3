"""Proof that the arrays of a store are what the build wrote: every file, every chunk, every contig's tokens."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.damage import Bad, StoreFile, check_file, check_files, known_files, report_bad, wrong_size
from data_prep.workers import Report, contig_groups, run_tasks
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.contigs import Contigs
from hyena_dist.data.store.manifest import ZARR, ZARR_CHUNK, Interval
from hyena_dist.data.store.packed import unpack
from hyena_dist.data.store.shard_file import read_index, without_checksum
from hyena_dist.data.store.soft_mask import MASK
from hyena_dist.data.store.zarr import token_files
from hyena_dist.data.tokenizer import A, N, Tokens
from hyena_dist.tracking.work_progress import Say, WorkProgress

_TASK_BASES = 2**24
"""Bases that one task verifies at least, except for the last task."""
_NAMED = 1000
"""Contigs up to which each good one is named."""
_NOTHING: Tokens = np.empty(0, np.uint8)


def verify_zarr(folder: Path, manifest: dict[str, Any], processes: int, say: Say) -> str:
    """Check the arrays of a store.

    Checked are the size and sha256 of each file, the checksum of each chunk, the hash and composition of each contig's
    tokens, and the ranges of the soft mask.

    Args:
        folder: folder of the store.
        manifest: its manifest.
        processes: how many processes work at a time.
        say: receives a line for each contig of a few, and for each bad file.

    Returns:
        How many files and bytes were verified, in words.

    Raises:
        UserError: A file is bad; the error names the first and says how many are bad.
    """
    files = list(known_files(manifest))
    tokens = [file for file in files if file.path.startswith(f"{ZARR}/")]
    others = [file for file in files if file not in tokens]
    bad = check_files(folder, others)
    report_bad(folder, manifest, bad, len(files))  # without its index, a store cannot be read
    store = GenomeStore.open(folder)
    contigs = store.contigs
    reader = _Chunks(folder, manifest["zarr"], {file.path: file for file in tokens})
    tasks: list[StoreFile | range] = [*tokens, *contig_groups(contigs, _TASK_BASES)]

    def verify(task: StoreFile | range, report: Report) -> list[Bad]:
        """Check a file or contigs, and report how many bases were checked and what to say."""
        if isinstance(task, range):
            return _verify_contigs(contigs, reader, task, report)
        found = check_file(folder, task)
        return [found] if found else []

    with WorkProgress("verifying", manifest["bases"]) as progress:

        def on_report(kind: str, content: Any) -> None:
            if kind == "bases":
                progress.advance(content)
            else:
                say(content)

        each = run_tasks(verify, tasks, processes, on_report)
    of_contigs = list(dict.fromkeys(found for several in each[len(tokens) :] for found in several))
    located = {found.what for found in of_contigs}
    bad = of_contigs + [found for several in each[: len(tokens)] for found in several if found.what not in located]
    if not bad and manifest["options"]["soft_mask"]:
        bad = list(_wrong_mask(store))
    for found in bad:
        say(f"BAD {found.what} {found.reason}")
    report_bad(folder, manifest, bad, len(files))
    return f"{len(files)} files, {sum(file.bytes for file in files):,} bytes"


def _verify_contigs(contigs: Contigs, reader: "_Chunks", numbers: range, report: Report) -> list[Bad]:
    """Return what is wrong with the contigs of some numbers.

    Reports ("bases", how many were checked) and ("line", text for the user).
    """
    bad: list[Bad] = []
    named = len(contigs) <= _NAMED
    hashes = contigs.sha256[numbers.start : numbers.stop]
    composition = contigs.composition[numbers.start : numbers.stop]
    waiting = 0
    for number in numbers:
        place = int(contigs.place[number])
        length = int(contigs.offset[number + 1] - contigs.offset[number])
        digest = hashlib.sha256()
        counts = np.zeros(256, np.int64)
        found: list[Bad] = []
        at = 0
        while at < length:
            chunk, begin = divmod(place + at, ZARR_CHUNK)
            size = min(ZARR_CHUNK - begin, length - at)
            where = Interval(contigs.name(number), at, at + size) if reader.is_bad(chunk) else None
            if where:
                found.append(reader.bad(chunk, where))
            else:
                tokens = reader.tokens[begin : begin + size]
                digest.update(tokens.data)
                counts += np.bincount(tokens, minlength=256)
            at += size
            waiting += size
            if waiting >= ZARR_CHUNK:
                report("bases", waiting)
                waiting = 0
        row = number - numbers.start
        if not found and (digest.digest() != hashes[row].tobytes() or (counts[A : N + 1] != composition[row]).any()):
            found.append(Bad(f"contig {contigs.name(number)!r}", "holds other tokens than the index says"))
        if named and not found:
            report("line", f"ok contig {contigs.name(number)}")
        bad += found
    report("bases", waiting)
    return _merged(bad)


class _Chunks:
    """The chunks of a store, one at a time, each checked.

    Attributes:
        tokens: tokens of the chunk that `is_bad` was last called for, uint8 [ZARR_CHUNK].

    Args:
        folder: folder of the store.
        zarr: what the manifest says of the arrays.
        known: the files, as the manifest says they must be, by their paths.
    """

    def __init__(self, folder: Path, zarr: Mapping[str, Any], known: Mapping[str, StoreFile]) -> None:
        self._folder = folder
        self._known = known
        self._is_packed = zarr["codec"] == "packed"
        self._files = token_files(zarr)
        self._per_file = zarr["shard"] // ZARR_CHUNK
        self._file = -1  # number of the file that is open
        self._data: NDArray[np.uint8] = _NOTHING
        self._index: NDArray[np.uint64] = np.empty((0, 2), np.uint64)
        self._reason: str | None = None  # what is wrong with the file as a whole
        self._chunk = -1
        self._is_bad = False
        self.tokens: Tokens = _NOTHING

    def is_bad(self, chunk: int) -> bool:
        """Read a chunk, and tell whether it is damaged or holds anything but A, C, G, T and N."""
        if chunk != self._chunk:
            self._chunk = chunk
            self._is_bad = not self._read(chunk)
        return self._is_bad

    def bad(self, chunk: int, where: Interval) -> Bad:
        """Return what is wrong with a chunk that is bad, which holds `where`."""
        path = self._files[chunk // self._per_file].path
        return Bad(path, f"{self._reason}, with {where}" if self._reason else f"is damaged at {where}")

    def _read(self, chunk: int) -> bool:
        file = self._files[chunk // self._per_file]
        if chunk // self._per_file != self._file:
            self._file = chunk // self._per_file
            self._reason = self._open(file.path, file.chunks)
        if self._reason:
            return False
        offset, size = self._index[chunk % self._per_file].tolist()
        content = without_checksum(self._data[offset : offset + size]) if size <= self._data.size else None
        bases = min(ZARR_CHUNK, file.left - chunk % self._per_file * ZARR_CHUNK)
        try:
            if content is None:
                return False
            self.tokens = unpack(content, ZARR_CHUNK) if self._is_packed else content
        except ValueError:
            return False
        used = self.tokens[:bases]
        return used.size == bases and int(used.min()) >= A and int(used.max()) <= N

    def _open(self, path: str, chunks: int) -> str | None:
        """Map a file, and return what is wrong with it as a whole."""
        if bad := wrong_size(self._folder, self._known[path]):
            return bad.reason
        try:
            self._data = np.memmap(self._folder / path, np.uint8, "r").view(np.ndarray)
            self._index = read_index(self._data, chunks)
        except ValueError as error:
            return f"is damaged ({error})"
        return None


def _merged(bad: list[Bad]) -> list[Bad]:
    """Return what is wrong, without the further ranges of a file whose whole is bad."""
    seen: set[str] = set()
    kept = []
    for each in bad:
        whole = ", with " in each.reason
        if not whole or each.what not in seen:
            kept.append(each)
        if whole:
            seen.add(each.what)
    return kept


def _wrong_mask(store: GenomeStore) -> Iterator[Bad]:
    """Yield what is wrong with the soft mask."""
    path = f"index/{MASK}.npy"
    edges = store.index[MASK].astype(np.int64)
    contigs = store.contigs
    # Ranges of two contigs may touch, and those of one may not.
    contig = contigs.at(edges[::2])
    apart = (edges[2::2] > edges[1:-1:2]) | (contig[1:] > contig[:-1])
    if edges.size % 2 or (edges[1::2] <= edges[::2]).any() or not apart.all() or (edges[2::2] < edges[1:-1:2]).any():
        yield Bad(path, "has ranges that are empty, overlap or are not sorted")
        return
    counts = np.bincount(contig, edges[1::2] - edges[::2], len(contigs)).astype(np.int64)
    wrong = np.flatnonzero(counts != contigs.soft_masked)
    if wrong.size or (contigs.at(edges[1::2] - 1) != contig).any():
        number = int(wrong[0]) if wrong.size else 0
        yield Bad(
            path, f"marks {counts[number]} bases of {contigs.name(number)} instead of {contigs.soft_masked[number]}"
        )
