"""Proof that a folder of shards is what its writer wrote, and that it has all that training may read."""

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from data_prep.damage import Bad, StoreFile, bad_part, check_file, report_bad
from data_prep.splits import merge
from data_prep.workers import Report, grouped, run_tasks
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.manifest import SHARD_INDEX, SPLITS, Interval, Sample, fingerprint, free_ranges
from hyena_dist.data.tokenizer import VOCAB, VOCAB_SIZE, A, N
from hyena_dist.errors import UserError
from hyena_dist.tracking.work_progress import Say, WorkProgress

_TASK_BASES = 2**24
"""Bases of the contigs that one task verifies at least, except for the last task."""
_BLOCK = 2**22
"""Bases that are read at once."""


@dataclass(frozen=True)
class _Task:
    """Verification of one tar.

    Attributes:
        folder: folder of the shards.
        file: the tar, as the manifest says it must be.
        split: split of its samples.
        samples: rows of the index that are of the tar.
        species: species of each contig, by its name.
        against: the store whose tokens the samples must have; None compares with none.
    """

    folder: Path
    file: StoreFile
    split: str
    samples: list[Sample]
    species: dict[str, str | None]
    against: Path | None


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
    if against:
        store = GenomeStore.open(against).manifest
        if fingerprint(store) != fingerprint(manifest) or store["contigs"] != manifest["contigs"]:
            raise UserError(
                f"{folder} holds other contigs or splits than {against}; name the store that the shards were made from"
            )
    entry = manifest["shard_index"]
    index_file = StoreFile(entry["path"], entry["bytes"], entry["sha256"])
    total = len(manifest["shards"]) + 1
    bad_index = check_file(folder, index_file)
    if bad_index:
        report_bad(folder, manifest, [bad_index], total)
    index = json.loads((folder / SHARD_INDEX).read_text(encoding="utf-8"))
    samples = {path: [Sample(*row) for row in rows] for path, rows in index.items()}
    _verify_coverage(folder, manifest, samples)

    species = {contig["name"]: contig["species"] for contig in manifest["contigs"]}
    tasks = [
        _Task(
            folder,
            StoreFile(shard["path"], shard["bytes"], shard["sha256"]),
            shard["split"],
            samples[shard["path"]],
            species,
            against,
        )
        for shard in manifest["shards"]
    ]
    with WorkProgress("verifying", sum(shard["bytes"] for shard in manifest["shards"]), "bytes") as progress:
        found: list[Bad | None] = run_tasks(_verify_tar, tasks, processes, progress.advance)
    for task, bad in zip(tasks, found, strict=True):
        say(f"BAD {bad.what} {bad.reason}" if bad else f"ok {task.file.path}, {len(task.samples)} samples")
    report_bad(folder, manifest, [bad for bad in found if bad], total)
    _verify_contigs(folder, manifest, processes)
    return f"{total} files, {sum(map(len, samples.values()))} samples"


def _verify_coverage(folder: Path, manifest: dict[str, Any], samples: dict[str, list[Sample]]) -> None:
    """Raise UserError if the samples of a split, by the paths of their tars, leave the contigs or miss a base."""
    lengths = {contig["name"]: contig["length"] for contig in manifest["contigs"]}
    free = [region for ranges in free_ranges(lengths, manifest["splits"]).values() for region in ranges]
    for split in SPLITS:
        rows = [
            sample.interval
            for shard in manifest["shards"]
            if shard["split"] == split
            for sample in samples.get(shard["path"], [])
        ]
        unknown = next((row for row in rows if not 0 <= row.start < row.end <= lengths.get(row.contig, 0)), None)
        if unknown:
            raise bad_part(manifest, f"{split} sample {unknown} of {folder}", "is not inside a contig")
        regions = free if split == "train" else [Interval(*region) for region in manifest["splits"][split]]
        # Neighbours share a base, so that the samples of a region merge to it; regions may touch as well.
        if merge(rows, lengths) != merge(regions, lengths):
            raise bad_part(manifest, f"the {split} samples of {folder}", "do not cover the regions of that split")


def _verify_contigs(folder: Path, manifest: dict[str, Any], processes: int) -> None:
    """Raise UserError if the samples make up other contigs than the manifest says."""

    def verify(contigs: list[dict[str, Any]], report: Report) -> list[str | None]:
        """Return what is wrong with each contig, and report how many bases were read."""
        store = GenomeStore.open(folder)  # of this process, which maps the tars
        return [_wrong_contig(store, contig, report) for contig in contigs]

    groups = grouped(manifest["contigs"], lambda contig: contig["length"], _TASK_BASES)
    with WorkProgress("verifying contigs", sum(contig["length"] for contig in manifest["contigs"])) as progress:
        found: list[list[str | None]] = run_tasks(verify, groups, processes, progress.advance)
    for contig, reason in zip(manifest["contigs"], chain.from_iterable(found), strict=True):
        if reason:
            raise bad_part(manifest, f"contig {contig['name']!r} of {folder}", reason)


def _wrong_contig(store: GenomeStore, contig: dict[str, Any], report: Report) -> str | None:
    """Return what the manifest says wrongly of a contig's tokens, as a predicate, or None."""
    digest = hashlib.sha256()
    counts = np.zeros(VOCAB_SIZE, np.int64)
    for start in range(0, contig["length"], _BLOCK):
        tokens = store.read(contig["name"], start, min(start + _BLOCK, contig["length"]))
        digest.update(tokens.data)
        counts += np.bincount(tokens, minlength=VOCAB_SIZE)
        report(tokens.size)
    if digest.hexdigest() != contig["sha256"]:
        return "holds other tokens than the manifest says"
    if {letter: int(counts[VOCAB[letter]]) for letter in "ACGTN"} != contig["composition"]:
        return "has another composition than the manifest says"
    return None


def _verify_tar(task: _Task, report: Report) -> Bad | None:
    """Return what is wrong with a tar, or None; reports how many bytes were read."""
    bad = check_file(task.folder, task.file, lambda count: report(count))
    if bad:
        sample = _first_damaged(task)
        if sample:
            return Bad(task.file.path, f"{bad.reason}, at sample {sample.key} with {sample.interval}")
        return bad
    store = GenomeStore.open(task.against) if task.against else None
    try:
        with tarfile.open(task.folder / task.file.path) as tar:
            for sample in task.samples:
                reason = _wrong_sample(tar, sample, task, store)
                if reason:
                    return Bad(task.file.path, f"{reason} at sample {sample.key} with {sample.interval}")
            if tar.next() is not None:
                return Bad(task.file.path, "holds more samples than its index says")
    except tarfile.TarError as error:
        return Bad(task.file.path, f"is no whole tar ({error})")
    return None


def _first_damaged(task: _Task) -> Sample | None:
    """Return the first sample of a damaged tar whose tokens have another checksum, if the damage is in any of them."""
    try:
        stream = (task.folder / task.file.path).open("rb")
    except OSError:  # the tar is missing, and all its samples with it
        return task.samples[0] if task.samples else None
    with stream:
        for sample in task.samples:
            stream.seek(sample.offset)
            if google_crc32c.value(stream.read(sample.end - sample.start)) != sample.crc32c:
                return sample
    return None


def _wrong_sample(tar: tarfile.TarFile, sample: Sample, task: _Task, store: GenomeStore | None) -> str | None:
    """Read the next two members of a tar, and return what is wrong with them as a predicate, or None.

    Args:
        tar: the tar, open at the sample's first member.
        sample: the row of the index that the members must be of.
        task: the task that the tar is of.
        store: the store whose tokens the sample must have; None compares with none.
    """
    array = tar.next()
    description = tar.next()
    if not array or not description:
        return "holds other files than its index says"
    if (array.name, description.name) != (f"{sample.key}.tokens.npy", f"{sample.key}.json"):
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
    about = {**sample.interval._asdict(), "species": task.species[sample.contig], "split": task.split}
    if json.loads(_content(tar, description)) != about:
        return "has another description than its index"
    if store and not np.array_equal(tokens, store.read(*sample.interval)):
        return f"has other tokens than {task.against}"
    return None


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Return the content of a member of a tar."""
    stream = tar.extractfile(member)
    return stream.read() if stream else b""
