"""The input files of a build, the species that they are labelled with, and the names that their contigs get."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyena_dist.data.text.files import describe_file, read_text, unreadable
from hyena_dist.data.text.formats import check_file
from hyena_dist.errors import UserError

_LABEL = re.compile(r"([A-Za-z0-9_-]+)=(.+)", re.DOTALL)
# The names that assemblies give to chromosomes: numbers (with an arm or a part), Roman numbers, sex chromosomes,
# mitochondrion.
_CHROMOSOME = re.compile(r"\d+[A-Za-z]?|[IVX]+|[XYZWUM]|MT")
_TWOBIT = (b"\x43\x27\x41\x1a", b"\x1a\x41\x27\x43")


def parse_labelled(text: str | Path) -> tuple[str | None, Path]:
    """Split "species=path" into the species and the path.

    A path alone, or a text that exists as a path, "=" and all, has no species.
    """
    match = _LABEL.fullmatch(text) if isinstance(text, str) else None
    if match and not Path(text).exists():
        return match[1], Path(match[2])
    return None, Path(text)


@dataclass(frozen=True)
class Input:
    """One input file.

    Attributes:
        species: species that the file is labelled with, or None.
        path: path of the file.
        bytes: size of the file.
        modified: time of the file's last change, in ns since the epoch.
        is_twobit: whether the file is UCSC 2bit; otherwise it is FASTA.
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
            UserError: The file cannot be read.
        """
        species, path = parse_labelled(text)
        try:
            check_file(path)
            with path.open("rb") as stream:
                head = stream.read(4)
            status = path.stat()
        except OSError as error:
            raise unreadable(path, error) from error
        return cls(species, path, status.st_size, status.st_mtime_ns, head in _TWOBIT)

    def describe(self) -> dict[str, Any]:
        """Return what tells this input from another one or from an older state of it, as JSON."""
        return {"species": self.species, "name": self.path.name, "bytes": self.bytes, "modified": self.modified}


def parse_inputs(texts: Iterable[str | Path]) -> list[Input]:
    """Look at all input files.

    Raises:
        UserError: A file cannot be read, or some files have labels and others have none.
    """
    inputs = [Input.parse(text) for text in texts]
    without = [each.path for each in inputs if each.species is None]
    if without and len(without) < len(inputs):
        raise UserError(f"{without[0]} has no label and other inputs have; write species={without[0]}, or no label")
    return inputs


class Rename:
    """A function that gives contigs other names.

    Args:
        rule: "ucsc" (chr20, chrM), "ensembl" (20, MT), or a file with two columns, old and new name. Names that the
            rule or the file does not know stay.

    Raises:
        UserError: The file cannot be read or is not such a table.
    """

    def __init__(self, rule: str | Path) -> None:
        self._rule = str(rule)
        self._names: dict[str, str] = {}
        if self._rule not in ("ucsc", "ensembl"):
            self._names = _read_names(Path(rule))

    def describe(self) -> Any:
        """Return the rule as JSON, a file by its hash."""
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
    """Return the name of a record in the store: renamed if there is a rule, with its species before it if labelled."""
    new = rename(name) if rename else name
    return f"{species}.{new}" if species else new


def _read_names(path: Path) -> dict[str, str]:
    """Read the new name of each old one from a file of two columns."""
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
