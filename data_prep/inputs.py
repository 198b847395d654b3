"""What a build reads: input files with the species they are of, and what their contigs are called."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.files import describe_file, read_text, unreadable
from hyena_dist.errors import UserError

_LABEL = re.compile(r"([A-Za-z0-9_-]+)=(.+)", re.DOTALL)
# What assemblies call chromosomes: numbers (with an arm or a part), Roman numbers, sex chromosomes, mitochondrion.
_CHROMOSOME = re.compile(r"\d{1,2}[A-Za-z]?|[IVX]+|[XYZWUM]|MT")
_TWOBIT = (b"\x43\x27\x41\x1a", b"\x1a\x41\x27\x43")


def parse_labelled(text: str | Path) -> tuple[str | None, Path]:
    """Split "species=path"; a path alone, or one that exists as it is written, has no species."""
    match = _LABEL.fullmatch(text) if isinstance(text, str) else None
    if match and not Path(text).exists():
        return match[1], Path(match[2])
    return None, Path(text)


@dataclass(frozen=True)
class Input:
    """One input file.

    Attributes:
        species: its label, or None.
        path: the file.
        bytes: its size.
        modified: time of its last change, in ns.
        is_twobit: whether it is UCSC 2bit; else it is FASTA.
    """

    species: str | None
    path: Path
    bytes: int
    modified: int
    is_twobit: bool

    @classmethod
    def parse(cls, text: str | Path) -> "Input":
        """Look at the file that `text` names ("species=path" or a path).

        Raises:
            UserError: a file that cannot be read.
        """
        species, path = parse_labelled(text)
        try:
            with path.open("rb") as stream:
                head = stream.read(4)
            status = path.stat()
        except OSError as error:
            raise unreadable(path, error) from error
        return cls(species, path, status.st_size, status.st_mtime_ns, head in _TWOBIT)

    def describe(self) -> dict[str, Any]:
        """Return what tells this input from another, as JSON."""
        return {"species": self.species, "name": self.path.name, "bytes": self.bytes, "modified": self.modified}


def parse_inputs(texts: Iterable[str | Path]) -> list[Input]:
    """Look at all input files.

    Raises:
        UserError: a file that cannot be read, or labels on some files only.
    """
    inputs = [Input.parse(text) for text in texts]
    without = [each.path for each in inputs if each.species is None]
    if without and len(without) < len(inputs):
        raise UserError(f"{without[0]} has no label and other inputs have; write species={without[0]}, or no label")
    return inputs


class Rename:
    """Other names for contigs.

    Args:
        rule: "ucsc" (chr20, chrM), "ensembl" (20, MT), or a file with two columns, old and new name. Names that the
            rule or the file does not know stay.
    """

    def __init__(self, rule: str | Path) -> None:
        self._rule = str(rule)
        self._names: dict[str, str] = {}
        if self._rule not in ("ucsc", "ensembl"):
            self._names = _read_names(Path(rule))

    def describe(self) -> Any:
        """Return the rule as JSON."""
        return {"sha256": describe_file(Path(self._rule))["sha256"]} if self._names else self._rule

    def __call__(self, name: str) -> str:
        """Return the new name of a contig."""
        if self._names:
            return self._names.get(name, name)
        bare = name.removeprefix("chr")
        if not _CHROMOSOME.fullmatch(bare):
            return name
        bare = "MT" if bare == "M" else bare
        if self._rule == "ensembl":
            return bare
        return "chrM" if bare == "MT" else f"chr{bare}"


def contig_name(species: str | None, name: str, rename: Rename | None) -> str:
    """Return what a record is called in the store."""
    new = rename(name) if rename else name
    return f"{species}.{new}" if species else new


def _read_names(path: Path) -> dict[str, str]:
    names: dict[str, str] = {}
    lines = b"".join(read_text(path)).decode("utf-8", "replace").splitlines()
    for number, line in enumerate(lines, start=1):
        columns = line.split()
        if not columns or line.startswith("#"):
            continue
        if len(columns) != 2:
            raise UserError(f"{path} line {number}: {line.strip()!r} is not an old and a new name; write two columns")
        old, new = columns
        if names.setdefault(old, new) != new:
            raise UserError(f"{path} line {number}: {old!r} has two new names, {names[old]!r} and {new!r}; keep one")
    if not names:
        raise UserError(f"{path} has no names; write rows of an old and a new name, or use ucsc or ensembl")
    return names
