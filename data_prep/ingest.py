"""From input files to arrays: the tasks of a build, each of which writes one part and may be interrupted."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.fasta import LOWER, Record, read_fasta
from data_prep.files import ahead, describe_file, read_text
from data_prep.inputs import Input, Rename, contig_name
from data_prep.partial import PartJournal
from data_prep.twobit import Entry, read_index, read_twobit
from data_prep.workers import Report
from data_prep.zarr_store import RangeWriter, TokenWriter
from hyena_dist.data.store.manifest import array_path
from hyena_dist.errors import UserError

_PART_BASES = 2**26
"""Bases of a 2bit file in one task, at least (but for the last)."""
_LONGEST_FILE_NAME = 255


@dataclass(frozen=True)
class Task:
    """Work on one input, or on some sequences of it.

    Attributes:
        part: folder for the arrays and the journal.
        input: what to read.
        entries: of a 2bit file, which sequences; none for its hash alone, and for FASTA.
        soft_mask: whether to write which bases are lower-case.
        rename: other names for contigs.
    """

    part: Path
    input: Input
    entries: tuple[Entry, ...]
    soft_mask: bool
    rename: Rename | None

    @property
    def bytes(self) -> int:
        """How much of the input the task reads."""
        return sum(entry.bytes for entry in self.entries) or self.input.bytes


def tasks_of(inputs: Sequence[Input], parts: Path, *, soft_mask: bool, rename: Rename | None) -> list[Task]:
    """Return the tasks of a build, in the order of the contigs: FASTA by file, 2bit by groups of sequences.

    Raises:
        UserError: a bad 2bit file.
    """
    tasks = []
    for number, each in enumerate(inputs):
        groups: list[tuple[Entry, ...]] = [()]  # of a 2bit file, its hash
        if each.is_twobit:
            groups += _groups(read_index(each.path))
        tasks += [
            Task(parts / f"{number}-{group}", each, entries, soft_mask, rename) for group, entries in enumerate(groups)
        ]
    return tasks


def run(task: Task, report: Report) -> None:
    """Do a task, or what is left of it, and write the journal of its part.

    The journal has a record for each contig ("contig": for the manifest, "files"), and one for the end ("source": for
    the manifest, or None).

    Args:
        task: the task.
        report: called with the path and each contig's name ("contig", path, name) and, for each block, with the bases
            and the bytes of input in it ("block", bases, bytes).

    Raises:
        UserError: bad input.
        OSError: the part cannot be written.
    """
    journal = PartJournal(task.part)
    finished = journal.recover()
    if finished and "source" in finished[-1]:
        for record in finished[:-1]:
            report("contig", task.input.path, record["contig"]["name"])
        report("block", sum(record["contig"]["length"] for record in finished[:-1]), task.bytes)
        return
    source: dict[str, Any] | None
    if task.input.is_twobit and not task.entries:
        source = describe_file(task.input.path, lambda count: report("block", 0, count))
    else:
        source = _run(task, journal, finished, report)
    journal.add({"source": source and source | {"species": task.input.species}, "files": {}})
    journal.write()


def _run(task: Task, journal: PartJournal, finished: list[dict[str, Any]], report: Report) -> dict[str, Any] | None:
    path, digest, size, reported = task.input.path, hashlib.sha256(), 0, 0

    def on_raw(data: bytes) -> None:
        nonlocal size
        digest.update(data)
        size += len(data)

    is_fasta = not task.entries
    records = read_fasta(path, ahead(read_text(path, on_raw))) if is_fasta else read_twobit(path, task.entries)

    def watched(blocks: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal reported
        for block in blocks:
            yield block
            read = size - reported if is_fasta else len(block) // 4
            reported += read
            report("block", len(block), read)

    names: set[str] = set()
    for number, record in enumerate(records):
        name = contig_name(task.input.species, record.name, task.rename)
        if name in names:
            raise UserError(
                f"record name {name!r} occurs a second time in {path}, and names must be unique; rename or remove one"
            )
        names.add(name)
        report("contig", path, name)
        blocks = watched(record.blocks)
        if number >= len(finished):
            journal.add(_write(task, name, Record(record.name, blocks)))
        elif finished[number]["contig"]["name"] == name:
            for _ in blocks:  # it is there; only the hash of the input needs it
                pass
        else:
            raise UserError(f"{path} has changed since {task.part} was written; discard that with --overwrite")
    return {"name": path.name, "bytes": size, "sha256": digest.hexdigest()} if is_fasta else None


def _write(task: Task, name: str, record: Record) -> dict[str, Any]:
    """Write the arrays of one contig, and return its record for the journal."""
    if len(Path(array_path("contigs", name)).name) > _LONGEST_FILE_NAME:
        raise UserError(f"record name {name!r} of {task.input.path} is too long for a file; use --rename FILE")
    attributes = {"contig": name, "species": task.input.species}
    arrays = {kind: array_path(kind, name) for kind in ("contigs", "soft_mask")}
    tokens = TokenWriter(task.part / arrays["contigs"], attributes)
    ranges = RangeWriter(task.part / arrays["soft_mask"], attributes) if task.soft_mask else None
    soft_masked = 0
    for block in record.blocks:
        codes = np.frombuffer(block, np.uint8)
        lower_case = codes >= LOWER
        count = int(np.count_nonzero(lower_case))
        soft_masked += count
        tokens.write(codes & np.uint8(LOWER - 1) if count else codes)
        if ranges:
            ranges.write(lower_case)
    content = tokens.close()
    files = {f"{arrays['contigs']}/{file}": described for file, described in content.pop("files").items()}
    if ranges:
        files |= {f"{arrays['soft_mask']}/{file}": described for file, described in ranges.close().items()}
    contig = {"name": name, "species": task.input.species, **content, "soft_masked": soft_masked}
    return {"contig": contig, "files": files}


def _groups(entries: Sequence[Entry]) -> list[tuple[Entry, ...]]:
    groups: list[list[Entry]] = [[]]
    size = 0
    for entry in entries:
        if size >= _PART_BASES:
            groups.append([])
            size = 0
        groups[-1].append(entry)
        size += 4 * entry.bytes
    return [tuple(group) for group in groups]
