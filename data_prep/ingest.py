"""The tasks of a build, each of which reads inputs, or a part of one, into a part (part.py)."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from data_prep.inputs import Input, Rename, contig_name
from data_prep.part import PartWriter, is_whole, names_of, read_done
from data_prep.twobit import Entry, read_index, read_twobit
from data_prep.workers import Report, grouped
from hyena_dist.data.text.fasta import Record, read_fasta
from hyena_dist.data.text.files import ahead, describe_file, read_text

_TASK_BYTES = 2**24
"""Bytes of small inputs that one task reads at least; each task makes an array."""
_TASK_BASES = 2**28
"""Bases of a 2bit file that one task reads at least, except for the file's last task."""
_MOST_TASKS = 64
"""About how many tasks there are at most, but for those of large inputs."""
_NAMES = 2**10
"""Names that are reported at a time."""


@dataclass(frozen=True)
class Task:
    """The reading of some inputs, or of some sequences of one.

    Attributes:
        part: folder of the part.
        inputs: the files to read, in order.
        species: number of the species of each input, or -1.
        entries: the sequences to read of a 2bit file, which is the only input then. Without any, a FASTA file is read
            whole, and a 2bit file is hashed, which is a task of its own.
        soft_mask: whether to write which bases are lower-case.
        codec: how tokens are stored.
        rename: other names for contigs; None keeps those of the input.
    """

    part: Path
    inputs: tuple[Input, ...]
    species: tuple[int, ...]
    entries: tuple[Entry, ...]
    soft_mask: bool
    codec: str
    rename: Rename | None

    @property
    def bytes(self) -> int:
        """How many bytes of the inputs the task reads."""
        return sum(entry.bytes for entry in self.entries) or sum(each.bytes for each in self.inputs)


def tasks_of(
    inputs: Sequence[Input], parts: Path, *, soft_mask: bool, codec: str = "packed", rename: Rename | None = None
) -> list[Task]:
    """Return the tasks of a build, in the order of the contigs.

    A FASTA file is one task, or small ones together; a 2bit file is one task for its hash, and one for each group of
    sequences.

    Args:
        inputs: the input files.
        parts: folder for the parts.
        soft_mask: whether to write which bases are lower-case.
        codec: how tokens are stored.
        rename: other names for contigs; None keeps those of the input.

    Raises:
        UserError: The index of a 2bit file is bad.
    """
    least = max(_TASK_BYTES, sum(each.bytes for each in inputs) // _MOST_TASKS)
    groups: list[tuple[tuple[Input, ...], tuple[Entry, ...]]] = []
    room = 0  # what the last task lacks
    for each in inputs:
        if each.is_twobit:
            groups.append(((each,), ()))
            # Four bases lie in a byte.
            parted = grouped(read_index(each.path), lambda entry: 4 * entry.bytes, _TASK_BASES)
            groups += [((each,), tuple(entries)) for entries in parted]
            room = 0
            continue
        if room <= 0:
            groups.append(((), ()))
            room = least
        groups[-1] = ((*groups[-1][0], each), ())
        room -= each.bytes
    species = {name: number for number, name in enumerate(species_of(inputs))}
    return [
        Task(
            parts / str(number),
            members,
            tuple(species.get(each.species or "", -1) for each in members),
            entries,
            soft_mask,
            codec,
            rename,
        )
        for number, (members, entries) in enumerate(groups)
    ]


def species_of(inputs: Iterable[Input]) -> list[str]:
    """Return the names of the species of inputs, in their order."""
    return list(dict.fromkeys(each.species for each in inputs if each.species))


def run(task: Task, report: Report) -> None:
    """Do a task, unless its part is there already.

    Args:
        task: the task.
        report: called with ("contigs", path of an input, names) for contigs, and with ("block", bases, bytes of input)
            for each block.

    Raises:
        UserError: The input is bad.
        OSError: The part cannot be written.
    """
    inputs = [each.describe() for each in task.inputs]
    done = read_done(task.part)
    if done and done.inputs == inputs and is_whole(task.part, done):
        for some in _some(names_of(task.part)):
            report("contigs", task.inputs[0].path, some)
        report("block", done.bases, task.bytes)
        return
    part = PartWriter(task.part, task.codec, soft_mask=task.soft_mask)
    sources: list[dict[str, Any]] = []
    for each, species in zip(task.inputs, task.species, strict=True):
        if task.entries:
            _write(task, each, species, part, report, read_twobit(each.path, task.entries), None)
            continue
        source = _Source(each)
        if each.is_twobit:
            sources.append(describe_file(each.path, lambda count: report("block", 0, count)))
        else:
            records = read_fasta(each.path, ahead(read_text(each.path, source.read)))
            _write(task, each, species, part, report, records, source)
            sources.append(source.describe())
        sources[-1]["species"] = each.species
    part.close(inputs, sources)


class _Source:
    """The bytes of a FASTA file, hashed and counted while they are read."""

    def __init__(self, file: Input) -> None:
        self._name = file.path.name
        self._digest = hashlib.sha256()
        self._reported = 0
        self.size = 0

    def read(self, data: bytes) -> None:
        """Hash and count bytes."""
        self._digest.update(data)
        self.size += len(data)

    def unreported(self) -> int:
        """Return how many bytes were read since the last call."""
        new = self.size - self._reported
        self._reported = self.size
        return new

    def describe(self) -> dict[str, Any]:
        """Return the file's entry in the manifest, without its species."""
        return {"name": self._name, "bytes": self.size, "sha256": self._digest.hexdigest()}


def _write(
    task: Task,
    file: Input,
    species: int,
    part: PartWriter,
    report: Report,
    records: Iterable[Record],
    source: _Source | None,
) -> None:
    """Write the records of an input to a part; `source` is None for a 2bit file."""
    waiting = 0  # bases of records that were not reported

    def watched(blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield blocks, and report them once they are used and there are enough."""
        nonlocal waiting
        for block in blocks:
            yield block
            waiting += len(block)
            if waiting >= 2**20:
                report("block", waiting, source.unreported() if source else waiting // 4)
                waiting = 0

    names: list[str] = []
    for record in records:
        if len(names) == _NAMES:
            report("contigs", file.path, names)
            names = []
        names.append(contig_name(file.species, record.name, task.rename))
        part.write(names[-1], species, watched(record.blocks))
    report("contigs", file.path, names)
    report("block", waiting, source.unreported() if source else waiting // 4)


def _some(names: Iterator[str]) -> Iterator[list[str]]:
    """Yield names, some at a time."""
    while some := list(islice(names, _NAMES)):
        yield some
