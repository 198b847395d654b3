"""Proves that a store is what its builder wrote: every file, every contig, and that they fit together."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.files import describe_file
from data_prep.progress import WorkProgress
from data_prep.splits import check_disjoint, merge
from data_prep.workers import Report, cores, run_tasks
from data_prep.zarr_store import read_ranges, read_shard
from hyena_dist.data.store.manifest import (
    MANIFEST,
    SHARDS_FORMAT,
    SPLITS,
    ZARR_CHUNK,
    Interval,
    array_path,
    read_manifest,
    zarr_shard_length,
)
from hyena_dist.data.store.packed import unpack
from hyena_dist.data.tokenizer import VOCAB, A, N
from hyena_dist.errors import UserError

Say = Callable[[str], object]
_TASK_BASES = 2**24


class StoreFile(NamedTuple):
    """What the manifest says about a file; `path` is relative to the folder."""

    path: str
    bytes: int
    sha256: str


class Bad(NamedTuple):
    """A file or a part of the folder, and what is wrong with it."""

    what: str
    reason: str


def check_sizes(path: Path, manifest: dict[str, Any]) -> None:
    """Look quickly whether every file of the store is there with its size.

    Raises:
        UserError: a file is missing or has another size.
    """
    files = list(zarr_files(manifest))
    report_bad(path, manifest, [bad for file in files if (bad := _wrong_size(path, file))], len(files))


def verify_store(path: Path, *, against: Path | None = None, processes: int | None = None, say: Say = print) -> None:
    """Check every file of a store or a folder of shards against its manifest, and the parts against each other.

    Checked are, of a store, the size and sha256 of each file, the checksum of each chunk, and the hash and composition
    of each contig's tokens; of shards, what `verify_shards` says; of both, the splits and intervals.

    Args:
        path: the folder.
        against: for shards, the store whose tokens they must have.
        processes: how many at a time; as many as there are cores by default.
        say: receives a line for each contig and each bad file, and the summary.

    Raises:
        UserError: naming the first bad file or part, and how many are bad.
    """
    from data_prep.verify_shards import verify_shards

    manifest = read_manifest(path)
    try:
        _verify_splits(path, manifest)
        if manifest["format"] == SHARDS_FORMAT:
            done = verify_shards(path, manifest, against, processes or cores(), say)
        elif against:
            raise UserError(f"--against is for shards, and {path} is a store; leave it out")
        else:
            done = _verify_zarr(path, manifest, processes or cores(), say)
    except (KeyError, TypeError) as error:
        raise bad_part(manifest, path / MANIFEST, f"is damaged ({error!r})") from error
    bases = sum(contig["length"] for contig in manifest["contigs"])
    say(f"verified: {done}, {len(manifest['contigs'])} contigs, {bases:,} bases")


def zarr_files(manifest: dict[str, Any]) -> Iterator[StoreFile]:
    """The files of the Zarr group of a store."""
    for name, (size, sha256) in manifest["zarr"]["files"].items():
        yield StoreFile(f"{manifest['zarr']['path']}/{name}", size, sha256)


def check_file(folder: Path, file: StoreFile, on_bytes: Callable[[int], object] = lambda count: None) -> Bad | None:
    """Compare size and sha256 of a file with the manifest."""
    bad = _wrong_size(folder, file)
    if not bad and describe_file(folder / file.path, on_bytes)["sha256"] != file.sha256:
        bad = Bad(file.path, "has another sha256 than the manifest says")
    return bad


def report_bad(folder: Path, manifest: Mapping[str, Any], bad: Sequence[Bad], total: int) -> None:
    """Raise UserError that names the first of `bad`, if there is one."""
    if bad:
        count = len({each.what for each in bad})
        raise bad_part(manifest, folder / bad[0].what, f"{bad[0].reason} ({count} of {total} files are bad)")


def bad_part(manifest: Mapping[str, Any], what: Path | str, reason: str) -> UserError:
    """The error of a bad part of a folder."""
    return UserError(f"{what} {reason}; rebuild it with `{manifest['command']} --overwrite`")


def _wrong_size(folder: Path, file: StoreFile) -> Bad | None:
    try:
        size = (folder / file.path).stat().st_size
    except OSError:
        return Bad(file.path, "is missing")
    return None if size == file.bytes else Bad(file.path, f"has {size} bytes instead of {file.bytes}")


def _verify_splits(folder: Path, manifest: dict[str, Any]) -> None:
    lengths = {contig["name"]: contig["length"] for contig in manifest["contigs"]}
    splits, intervals = (
        {split: [Interval(*row) for row in manifest[key][split]] for split in SPLITS} for key in ("splits", "intervals")
    )
    for split in SPLITS:
        for region in (*splits[split], *intervals[split]):
            if not 0 <= region.start < region.end <= lengths.get(region.contig, 0):
                raise bad_part(manifest, f"{split} interval {region} of {folder}", "is not inside a contig")
        # The regions are the intervals merged, so that no interval leaves its split.
        if merge(intervals[split], lengths) != splits[split]:
            raise bad_part(manifest, f"the {split} intervals of {folder}", "do not make up the regions of that split")
    check_disjoint(splits)


@dataclass(frozen=True)
class _Task:
    """Some contigs, and the files of their arrays."""

    folder: Path
    contigs: list[dict[str, Any]]
    files: dict[str, dict[str, StoreFile]]
    soft_mask: bool


def _verify_zarr(folder: Path, manifest: dict[str, Any], processes: int, say: Say) -> str:
    arrays: dict[str, dict[str, StoreFile]] = {}
    others = []
    for file in zarr_files(manifest):
        parts = file.path.split("/", 3)
        if len(parts) == 4:
            arrays.setdefault("/".join(parts[1:3]), {})[parts[3]] = file
        else:
            others.append(file)
    bad = [wrong for file in others if (wrong := check_file(folder, file))]
    tasks = [_Task(folder, group, arrays, manifest["options"]["soft_mask"]) for group in _groups(manifest["contigs"])]
    with WorkProgress("verifying", sum(contig["length"] for contig in manifest["contigs"])) as progress:

        def on_report(kind: str, content: Any) -> None:
            if kind == "bases":
                progress.advance(content)
            else:
                say(content)

        bad += [each for group in run_tasks(_verify_contigs, tasks, processes, on_report) for each in group]
    total = len(others) + sum(map(len, arrays.values()))
    report_bad(folder, manifest, bad, total)
    return f"{total} files, {sum(file.bytes for file in zarr_files(manifest)):,} bytes"


def _groups(contigs: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    groups: list[list[dict[str, Any]]] = [[]]
    size = 0
    for contig in contigs:
        if size >= _TASK_BASES:
            groups.append([])
            size = 0
        groups[-1].append(contig)
        size += contig["length"]
    return groups


def _verify_contigs(task: _Task, report: Report) -> list[Bad]:
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
    name, length = contig["name"], contig["length"]
    array = array_path("contigs", name)
    files = dict(task.files.get(array, {}))
    digest, counts, good = hashlib.sha256(), np.zeros(256, np.int64), True
    shard_length = zarr_shard_length(length)
    for number, start in enumerate(range(0, length, shard_length)):
        file = files.pop(f"c/{number}", None)
        where = Interval(name, start, min(start + shard_length, length))
        if file is None:
            yield Bad(f"genome.zarr/{array}/c/{number}", f"is not in the manifest, and should have {where}")
            return
        for tokens, bad in _shard_tokens(task.folder, file, where, shard_length // ZARR_CHUNK):
            if bad:
                good = False
                yield bad
            digest.update(tokens.data)
            counts += np.bincount(tokens, minlength=256)
            report("bases", tokens.size)
    for file in files.values():
        if bad := check_file(task.folder, file):
            good = False
            yield bad
    composition = {letter: int(counts[VOCAB[letter]]) for letter in "ACGTN"}
    if good and (digest.hexdigest() != contig["sha256"] or composition != contig["composition"]):
        yield Bad(f"genome.zarr/{array}", "holds other tokens than the manifest says")
    if task.soft_mask:
        yield from _verify_mask(task, contig)


def _shard_tokens(
    folder: Path, file: StoreFile, where: Interval, chunks: int
) -> Iterator[tuple[np.ndarray, Bad | None]]:
    """Yield the tokens of each chunk of a file and what is wrong there; what is wrong with the file, without tokens."""
    nothing = np.empty(0, np.uint8)
    if bad := _wrong_size(folder, file):
        yield nothing, Bad(file.path, f"{bad.reason}, with {where}")
        return
    data = (folder / file.path).read_bytes()
    located = False
    try:
        for number, chunk in enumerate(read_shard(data, chunks)):
            at = where.start + number * ZARR_CHUNK
            if at >= where.end:
                break
            part = where._replace(start=at, end=min(at + ZARR_CHUNK, where.end))
            tokens = _tokens(chunk, part)
            if tokens is None:
                located = True
                yield nothing, Bad(file.path, f"is damaged at {part}")
            else:
                yield tokens, None
    except ValueError as error:
        located = True
        yield nothing, Bad(file.path, f"is damaged ({error}), with {where}")
    if not located and hashlib.sha256(data).hexdigest() != file.sha256:
        yield nothing, Bad(file.path, f"has another sha256 than the manifest says, with {where}")


def _tokens(chunk: bytes | None, where: Interval) -> np.ndarray | None:
    """The tokens of a chunk; None if it is damaged or holds anything but A, C, G, T and N."""
    if chunk is None:
        return None
    try:
        tokens = unpack(chunk, ZARR_CHUNK)[: where.end - where.start]
    except ValueError:
        return None
    return tokens if tokens.min() >= A and tokens.max() <= N else None


def _verify_mask(task: _Task, contig: dict[str, Any]) -> Iterator[Bad]:
    array = array_path("soft_mask", contig["name"])
    bad = [wrong for file in task.files.get(array, {}).values() if (wrong := check_file(task.folder, file))]
    yield from bad
    if bad:
        return
    path = f"genome.zarr/{array}"
    total = end = 0
    try:
        for ranges in read_ranges(task.folder / path):
            edges = np.concatenate([[end - 1], ranges.ravel()])
            if (np.diff(edges) <= 0).any():
                yield Bad(path, "has ranges that are empty, overlap or are not sorted")
            total += int((ranges[:, 1] - ranges[:, 0]).sum())
            end = int(edges[-1]) + 1
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        yield Bad(path, f"is damaged ({error})")
        return
    if end > contig["length"] + 1 or total != contig["soft_masked"]:
        yield Bad(path, f"marks {total} bases instead of {contig['soft_masked']}")
