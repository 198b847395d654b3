"""Proof that the Zarr arrays of a store are what the build wrote: every file, every chunk, every contig's tokens."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.damage import Bad, StoreFile, check_files, report_bad, wrong_size, zarr_files
from data_prep.workers import Report, grouped, run_tasks
from data_prep.zarr_mask import read_ranges
from data_prep.zarr_tokens import read_shard
from hyena_dist.data.store.manifest import ZARR, ZARR_CHUNK, Interval, array_path, zarr_shard_length
from hyena_dist.data.store.packed import unpack
from hyena_dist.data.tokenizer import VOCAB, A, N, Tokens
from hyena_dist.tracking.work_progress import Say, WorkProgress

_TASK_BASES = 2**24
"""Bases that one task verifies at least, except for the last task."""


@dataclass(frozen=True)
class _Task:
    """Verification of some contigs.

    Attributes:
        folder: folder of the store.
        contigs: the manifest's entries of the contigs to verify.
        files: files of each array of the store, such as "contigs/chr20", by their paths in the array.
        soft_mask: whether the store has soft masks.
    """

    folder: Path
    contigs: list[dict[str, Any]]
    files: dict[str, dict[str, StoreFile]]
    soft_mask: bool


class _Checked(NamedTuple):
    """The result of reading a piece of a shard file."""

    tokens: Tokens
    """Tokens of one chunk, uint8 [bases]; none where they cannot be read."""
    bad: Bad | None
    """Damage that was found."""


def verify_zarr(folder: Path, manifest: dict[str, Any], processes: int, say: Say) -> str:
    """Check the arrays of a store.

    Checked are the size and sha256 of each file, the checksum of each chunk, the hash and composition of each contig's
    tokens, and the ranges of each soft mask.

    Args:
        folder: folder of the store.
        manifest: its manifest.
        processes: how many processes work at a time.
        say: receives a line for each contig and each bad file.

    Returns:
        How many files and bytes were verified, in words.

    Raises:
        UserError: A file is bad; the error names the first and says how many are bad.
    """
    arrays: dict[str, dict[str, StoreFile]] = {}
    others = []
    for file in zarr_files(manifest):
        parts = file.path.split("/", 3)  # genome.zarr, contigs or soft_mask, the contig's name, the path in the array
        if len(parts) == 4:
            arrays.setdefault("/".join(parts[1:3]), {})[parts[3]] = file
        else:
            others.append(file)
    bad = check_files(folder, others)
    groups = grouped(manifest["contigs"], lambda contig: contig["length"], _TASK_BASES)
    tasks = [_Task(folder, contigs, arrays, manifest["options"]["soft_mask"]) for contigs in groups]
    with WorkProgress("verifying", sum(contig["length"] for contig in manifest["contigs"])) as progress:

        def on_report(kind: str, content: Any) -> None:
            if kind == "bases":
                progress.advance(content)
            else:
                say(content)

        for found in run_tasks(_verify_contigs, tasks, processes, on_report):
            bad += found
    total = len(others) + sum(map(len, arrays.values()))
    report_bad(folder, manifest, bad, total)
    return f"{total} files, {sum(file.bytes for file in zarr_files(manifest)):,} bytes"


def _verify_contigs(task: _Task, report: Report) -> list[Bad]:
    """Verify the contigs of a task, and report ("bases", how many were checked) and ("line", text for the user)."""
    found = []
    for contig in task.contigs:
        bad = list(_verify_contig(task, contig, report))
        for each in bad:
            report("line", f"BAD {each.what} {each.reason}")
        if not bad:
            report("line", f"ok contig {contig['name']}")
        found += bad
    return found


def _verify_contig(task: _Task, contig: dict[str, Any], report: Report) -> Iterator[Bad]:
    """Yield what is wrong with the arrays of one contig."""
    name = contig["name"]
    length = contig["length"]
    array = array_path("contigs", name)
    files = dict(task.files.get(array, {}))  # those that are still to be checked
    digest = hashlib.sha256()
    counts = np.zeros(256, np.int64)
    is_good = True
    shard_length = zarr_shard_length(length)
    for number, start in enumerate(range(0, length, shard_length)):
        file = files.pop(f"c/{number}", None)
        where = Interval(name, start, min(start + shard_length, length))
        if file is None:
            yield Bad(f"{ZARR}/{array}/c/{number}", f"is not in the manifest, and should have {where}")
            return
        for tokens, bad in _check_shard(task.folder, file, where, shard_length // ZARR_CHUNK):
            if bad:
                is_good = False
                yield bad
            digest.update(tokens.data)
            counts += np.bincount(tokens, minlength=256)
            report("bases", tokens.size)
    for bad in check_files(task.folder, list(files.values())):
        is_good = False
        yield bad
    composition = {letter: int(counts[VOCAB[letter]]) for letter in "ACGTN"}
    if is_good and (digest.hexdigest() != contig["sha256"] or composition != contig["composition"]):
        yield Bad(f"{ZARR}/{array}", "holds other tokens than the manifest says")
    if task.soft_mask:
        yield from _verify_mask(task, contig)


def _check_shard(folder: Path, file: StoreFile, where: Interval, chunks: int) -> Iterator[_Checked]:
    """Read one shard file of a contig, chunk by chunk.

    Args:
        folder: folder of the store.
        file: the file, as the manifest says it must be.
        where: the positions that it holds.
        chunks: how many chunks it has.

    Yields:
        The tokens of each good chunk, the damage of each bad one, and the damage of the file as a whole.
    """
    nothing = np.empty(0, np.uint8)
    if bad := wrong_size(folder, file):
        yield _Checked(nothing, Bad(file.path, f"{bad.reason}, with {where}"))
        return
    data = (folder / file.path).read_bytes()
    is_located = False  # whether the damage, if there is any, was found in a chunk or in the index
    try:
        for number, chunk in enumerate(read_shard(data, chunks)):
            start = where.start + number * ZARR_CHUNK
            if start >= where.end:
                break
            part = where._replace(start=start, end=min(start + ZARR_CHUNK, where.end))
            tokens = _unpacked(chunk, part)
            if tokens is None:
                is_located = True
                yield _Checked(nothing, Bad(file.path, f"is damaged at {part}"))
            else:
                yield _Checked(tokens, None)
    except ValueError as error:
        is_located = True
        yield _Checked(nothing, Bad(file.path, f"is damaged ({error}), with {where}"))
    if not is_located and hashlib.sha256(data).hexdigest() != file.sha256:
        yield _Checked(nothing, Bad(file.path, f"has another sha256 than the manifest says, with {where}"))


def _unpacked(chunk: bytes | None, where: Interval) -> Tokens | None:
    """Return the tokens of a chunk, or None if it is damaged or holds anything but A, C, G, T and N."""
    if chunk is None:
        return None
    try:
        tokens = unpack(chunk, ZARR_CHUNK)[: where.end - where.start]
    except ValueError:
        return None
    return tokens if tokens.min() >= A and tokens.max() <= N else None


def _verify_mask(task: _Task, contig: dict[str, Any]) -> Iterator[Bad]:
    """Yield what is wrong with the soft mask of one contig."""
    array = array_path("soft_mask", contig["name"])
    bad = check_files(task.folder, list(task.files.get(array, {}).values()))
    yield from bad
    if bad:
        return
    path = f"{ZARR}/{array}"
    total = 0
    least_start = 0  # ranges do not touch, so the next one begins after the end of the last
    try:
        for ranges in read_ranges(task.folder / path):
            edges = np.concatenate([[least_start - 1], ranges.ravel()])
            if (np.diff(edges) <= 0).any():
                yield Bad(path, "has ranges that are empty, overlap or are not sorted")
            total += int((ranges[:, 1] - ranges[:, 0]).sum())
            least_start = int(edges[-1]) + 1
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        yield Bad(path, f"is damaged ({error})")
        return
    if least_start > contig["length"] + 1 or total != contig["soft_masked"]:
        yield Bad(path, f"marks {total} bases instead of {contig['soft_masked']}")
