"""The tasks of a build, each of which reads an input, or a part of one, into arrays and can be interrupted.

The arrays of a task and its journal (partial.py) lie in a folder of their own, its part.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.inputs import Input, Rename, contig_name
from data_prep.partial import PartJournal
from data_prep.twobit import Entry, read_index, read_twobit
from data_prep.workers import Report, grouped
from data_prep.zarr_mask import RangeWriter
from data_prep.zarr_tokens import TokenWriter
from hyena_dist.data.store.manifest import array_path
from hyena_dist.data.text.fasta import AMBIGUOUS, LOWER, TOKEN, Record, read_fasta
from hyena_dist.data.text.files import ahead, describe_file, read_text
from hyena_dist.errors import UserError

_PART_BASES = 2**26
"""Bases of a 2bit file that one task reads at least, except for the file's last task."""
_LONGEST_FILE_NAME = 255
"""Longest file name that file systems allow, in bytes."""


@dataclass(frozen=True)
class Task:
    """The reading of one input, or of some sequences of it.

    Attributes:
        part: folder for the arrays and the journal.
        input: the file to read.
        entries: the sequences of a 2bit file to read. Without any, a FASTA file is read whole, and a 2bit file is
            hashed, which is a task of its own.
        soft_mask: whether to write which bases are lower-case.
        rename: other names for contigs; None keeps those of the input.
    """

    part: Path
    input: Input
    entries: tuple[Entry, ...]
    soft_mask: bool
    rename: Rename | None

    @property
    def bytes(self) -> int:
        """How many bytes of the input the task reads."""
        return sum(entry.bytes for entry in self.entries) or self.input.bytes


def tasks_of(inputs: Sequence[Input], parts: Path, *, soft_mask: bool, rename: Rename | None) -> list[Task]:
    """Return the tasks of a build, in the order of the contigs.

    A FASTA file is one task; a 2bit file is one task for its hash, and one for each group of sequences.

    Args:
        inputs: the input files.
        parts: folder for the parts.
        soft_mask: whether to write which bases are lower-case.
        rename: other names for contigs; None keeps those of the input.

    Raises:
        UserError: The index of a 2bit file is bad.
    """
    tasks = []
    for number, each in enumerate(inputs):
        groups: list[tuple[Entry, ...]] = [()]
        if each.is_twobit:
            # Four bases lie in a byte.
            groups += map(tuple, grouped(read_index(each.path), lambda entry: 4 * entry.bytes, _PART_BASES))
        tasks += [
            Task(parts / f"{number}-{group}", each, entries, soft_mask, rename) for group, entries in enumerate(groups)
        ]
    return tasks


def run(task: Task, report: Report) -> None:
    """Do a task, or what an interruption has left of it, and write the journal of its part.

    The journal gets a record for each contig ("contig", its entry of the manifest, "files", and "ambiguous", how many
    letters are codes of two or three bases), and one for the end
    ("source", the input's entry of the manifest, or None where another task has that).

    Args:
        task: the task.
        report: called with ("contig", path of the input, name) for each contig, and with ("block", bases, bytes of
            input) for each block.

    Raises:
        UserError: The input is bad.
        OSError: The part cannot be written.
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
    """Write the arrays of a task's contigs.

    Args:
        task: the task.
        journal: the journal of its part, which gets a record for each contig that is not finished.
        finished: records of the contigs that an interrupted build has finished.
        report: called with what `run` says.

    Returns:
        The input's entry of the manifest, or None if the input is a 2bit file, which another task hashes.
    """
    path = task.input.path
    digest = hashlib.sha256()
    size = 0  # bytes of the input that were read
    reported = 0  # how many of these were reported

    def on_raw(data: bytes) -> None:
        """Hash and count the bytes of a FASTA file."""
        nonlocal size
        digest.update(data)
        size += len(data)

    is_fasta = not task.entries
    records = read_fasta(path, ahead(read_text(path, on_raw))) if is_fasta else read_twobit(path, task.entries)

    def watched(blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield blocks, and report each of them once it is used."""
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
            for _ in blocks:  # its arrays are there, and only the hash of the input needs its bytes
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
    ambiguous = 0
    for block in record.blocks:
        codes = np.frombuffer(block, np.uint8)
        lower_case = codes >= LOWER
        count = int(np.count_nonzero(lower_case))
        soft_masked += count
        if int(codes.max(initial=0)) > TOKEN:
            ambiguous += int(np.count_nonzero(codes & np.uint8(AMBIGUOUS)))
            codes = codes & np.uint8(TOKEN)
        tokens.write(codes)
        if ranges:
            ranges.write(lower_case)
    content = tokens.close()
    files = {f"{arrays['contigs']}/{file}": described for file, described in content.pop("files").items()}
    if ranges:
        files |= {f"{arrays['soft_mask']}/{file}": described for file, described in ranges.close().items()}
    contig = {"name": name, "species": task.input.species, **content, "soft_masked": soft_masked}
    return {"contig": contig, "files": files, "ambiguous": ambiguous}
