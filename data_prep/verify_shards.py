"""Proof that a folder of shards is what its writer wrote, and that it has all that training may read."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from data_prep.damage import Bad, StoreFile, bad_part, check_file, check_files, known_files, known_tars, report_bad
from data_prep.shard_tar import describe_sample
from data_prep.workers import Report, contig_groups, run_tasks
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.manifest import SAMPLES, SPLITS, Interval
from hyena_dist.data.store.ranges import Ranges, Regions
from hyena_dist.data.store.tar import Sample, sample_key
from hyena_dist.data.tokenizer import VOCAB_SIZE, A, N
from hyena_dist.errors import UserError
from hyena_dist.tracking.work_progress import Say, WorkProgress

_TASK_BASES = 2**24
"""Bases of the contigs that one task verifies at least, except for the last task."""
_BLOCK = 2**22
"""Bases that are read at once."""


class _Task(NamedTuple):
    """Verification of one tar."""

    file: StoreFile
    """The tar, as the manifest says it must be."""
    split: str
    """Split of its samples."""
    first: int
    """Number of its first sample among those of the split."""
    rows: slice
    """The rows of the index that are of the tar."""


def verify_shards(folder: Path, manifest: dict[str, Any], against: Path | None, processes: int, say: Say) -> str:
    """Check every tar and every sample.

    Checked are size and sha256 of each tar and of the index; each sample against its row (place, name, description,
    crc32c) and, if asked, the tokens of the store; that the samples cover the splits; and the hash and composition of
    each contig's tokens, which the samples make up.

    Args:
        folder: folder of the shards.
        manifest: its manifest.
        against: the store that must have the same tokens; None compares with none.
        processes: how many processes work at a time.
        say: receives a line for each tar.

    Returns:
        How many files and samples were verified, in words.

    Raises:
        UserError: A file is bad; the error names the first and says how many are bad.
    """
    total = len(manifest["shards"]) + len(manifest["files"])
    bad = check_files(folder, list(known_files(manifest)))
    report_bad(folder, manifest, bad, total)
    store = GenomeStore.open(folder)
    source = GenomeStore.open(against) if against else None
    if source and source.fingerprint != store.fingerprint:
        raise UserError(
            f"{folder} holds other contigs or splits than {against}; name the store that the shards were made from"
        )
    samples: NDArray[np.void] = store.index[SAMPLES]  # type: ignore[assignment]
    _verify_coverage(folder, manifest, store, samples)

    ends = np.searchsorted(samples["tar"], np.arange(len(manifest["shards"])), side="right").tolist()
    tasks = []
    counts = dict.fromkeys(SPLITS, 0)
    for shard, file, first, end in zip(manifest["shards"], known_tars(manifest), [0, *ends], ends, strict=False):
        split = shard["split"]
        tasks.append(_Task(file, split, counts[split], slice(first, end)))
        counts[split] += end - first

    def verify(task: _Task, report: Report) -> Bad | None:
        """Return what is wrong with a tar, or None; reports how many bytes were read."""
        return _verify_tar(folder, store, source, task, [Sample(*row.item()) for row in samples[task.rows]], report)

    with WorkProgress("verifying", sum(shard["bytes"] for shard in manifest["shards"]), "bytes") as progress:
        found: list[Bad | None] = run_tasks(verify, tasks, processes, progress.advance)
    for task, wrong in zip(tasks, found, strict=True):
        count = task.rows.stop - task.rows.start
        say(f"BAD {wrong.what} {wrong.reason}" if wrong else f"ok {task.file.path}, {count} samples")
    report_bad(folder, manifest, [wrong for wrong in found if wrong], total)
    _verify_contigs(folder, manifest, store, processes)
    return f"{total} files, {samples.size} samples"


def _verify_coverage(folder: Path, manifest: dict[str, Any], store: GenomeStore, samples: NDArray[np.void]) -> None:
    """Raise UserError if the samples of a split leave the contigs or miss a base."""
    contigs = store.contigs
    of_tar = np.array([SPLITS.index(shard["split"]) for shard in manifest["shards"]])
    for number, split in enumerate(SPLITS):
        rows = samples[of_tar[samples["tar"]] == number] if of_tar.size else samples[:0]
        contig, start, end = (rows[field].astype(np.int64) for field in ("contig", "start", "end"))
        inside = (contig < len(contigs)) & (start < end)
        inside[inside] = end[inside] <= contigs.lengths[contig[inside]]
        if not inside.all():
            key = sample_key(split, int(np.argmin(inside)))
            raise bad_part(manifest, f"{split} sample {key} of {folder}", "is not inside a contig")
        regions = store.free if split == "train" else store.splits[split]
        covered = Regions(contigs, Ranges(contigs.offset[contig] + start, contigs.offset[contig] + end))
        # Neighbours share a base, so that the samples of a region merge to it; regions may touch as well.
        if covered.merged() != regions.merged():
            raise bad_part(manifest, f"the {split} samples of {folder}", "do not cover the regions of that split")


def _verify_contigs(folder: Path, manifest: dict[str, Any], store: GenomeStore, processes: int) -> None:
    """Raise UserError if the samples make up other contigs than the manifest says."""

    def verify(numbers: range, report: Report) -> tuple[int, str] | None:
        """Return the first contig that is wrong and what is wrong with it, and report how many bases were read."""
        for number in numbers:
            if reason := _wrong_contig(store, number, report):
                return number, reason
        return None

    groups = list(contig_groups(store.contigs, _TASK_BASES))
    with WorkProgress("verifying contigs", manifest["bases"]) as progress:
        found: list[tuple[int, str] | None] = run_tasks(verify, groups, processes, progress.advance)
    for wrong in filter(None, found):
        raise bad_part(manifest, f"contig {store.contigs.name(wrong[0])!r} of {folder}", wrong[1])


def _wrong_contig(store: GenomeStore, number: int, report: Report) -> str | None:
    """Return what the index says wrongly of a contig's tokens, as a predicate, or None."""
    digest = hashlib.sha256()
    counts = np.zeros(VOCAB_SIZE, np.int64)
    length = int(store.contigs.offset[number + 1] - store.contigs.offset[number])
    for start in range(0, length, _BLOCK):
        tokens = store.read(number, start, min(start + _BLOCK, length))
        digest.update(tokens.data)
        counts += np.bincount(tokens, minlength=VOCAB_SIZE)
        report(tokens.size)
    if digest.digest() != store.index["sha256"][number].tobytes():
        return "holds other tokens than the index says"
    if (counts[A : N + 1] != store.index["composition"][number]).any():
        return "has another composition than the index says"
    return None


def _verify_tar(
    folder: Path, store: GenomeStore, source: GenomeStore | None, task: _Task, samples: list[Sample], report: Report
) -> Bad | None:
    """Return what is wrong with a tar, or None.

    Args:
        folder: folder of the shards.
        store: the shards.
        source: the store whose tokens the samples must have; None compares with none.
        task: the tar.
        samples: the rows of the index that are of the tar.
        report: called with how many bytes were read.
    """
    bad = check_file(folder, task.file, lambda count: report(count))
    if bad:
        number = _first_damaged(folder / task.file.path, samples)
        if number is not None:
            key = sample_key(task.split, task.first + number)
            return Bad(task.file.path, f"{bad.reason}, at sample {key} with {_where(store, samples[number])}")
        return bad
    try:
        with tarfile.open(folder / task.file.path) as tar:
            for number, sample in enumerate(samples):
                key = sample_key(task.split, task.first + number)
                about = describe_sample(store.contigs, _where(store, sample), sample.contig, task.split)
                if reason := _wrong_sample(tar, key, sample, about, source):
                    return Bad(task.file.path, f"{reason} at sample {key} with {_where(store, sample)}")
            if tar.next() is not None:
                return Bad(task.file.path, "holds more samples than its index says")
    except tarfile.TarError as error:
        return Bad(task.file.path, f"is no whole tar ({error})")
    return None


def _where(store: GenomeStore, sample: Sample) -> Interval:
    """Return the range that a sample holds."""
    return Interval(store.contigs.name(sample.contig), sample.start, sample.end)


def _first_damaged(path: Path, samples: list[Sample]) -> int | None:
    """Return the number of the first sample of a damaged tar whose tokens have another checksum, if any has."""
    try:
        stream = path.open("rb")
    except OSError:  # the tar is missing, and all its samples with it
        return 0 if samples else None
    with stream:
        for number, sample in enumerate(samples):
            stream.seek(sample.offset)
            if google_crc32c.value(stream.read(sample.end - sample.start)) != sample.crc32c:
                return number
    return None


def _wrong_sample(
    tar: tarfile.TarFile, key: str, sample: Sample, about: dict[str, Any], source: GenomeStore | None
) -> str | None:
    """Read the next two members of a tar, and return what is wrong with them as a predicate, or None.

    Args:
        tar: the tar, open at the sample's first member.
        key: name of the sample.
        sample: the row of the index that the members must be of.
        about: what its description must say.
        source: the store whose tokens the sample must have; None compares with none.
    """
    array = tar.next()
    description = tar.next()
    if not array or not description:
        return "holds other files than its index says"
    if (array.name, description.name) != (f"{key}.tokens.npy", f"{key}.json"):
        return "holds other files than its index says"
    content = _content(tar, array)
    try:
        tokens = np.load(io.BytesIO(content), allow_pickle=False)
    except ValueError:
        return "is damaged"
    if tokens.dtype != np.uint8 or tokens.shape != (sample.end - sample.start,):
        return "has an array of another type or length"
    if sample.offset != array.offset_data + len(content) - tokens.size:
        return "has tokens in another place than its index says"
    if google_crc32c.value(tokens.tobytes()) != sample.crc32c:
        return "has tokens of another crc32c than its index says"
    if tokens.min() < A or tokens.max() > N:
        return "has tokens other than A, C, G, T and N"
    if json.loads(_content(tar, description)) != about:
        return "has another description than its index"
    if source and not np.array_equal(tokens, source.read(sample.contig, sample.start, sample.end)):
        return f"has other tokens than {source.location}"
    return None


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Return the content of a member of a tar."""
    stream = tar.extractfile(member)
    return stream.read() if stream else b""
