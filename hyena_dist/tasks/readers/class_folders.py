"""Folders of classes, as GenomicBenchmarks publishes its sets: train/CLASS/*.txt and test/CLASS/*.txt."""

from collections.abc import Iterator
from pathlib import Path

from hyena_dist.data.text.files import read_lines
from hyena_dist.errors import UserError
from hyena_dist.inference.sequences import encoded, whole
from hyena_dist.tasks.readers.rows import Rows, split_named


def is_class_folders(folder: Path) -> bool:
    """Return whether a folder has a folder for a split, which has one for a class."""
    return any(each.is_dir() for split in _split_folders(folder) for each in split.iterdir())


def read_class_folders(folder: Path) -> Rows:
    """Return the sequences of all files, one each, whose name is the sequence's.

    Raises:
        UserError: A class has no file, or a file has no sequence, or letters that no nucleotide has.
    """
    labels: list[str] = []
    splits: list[str] = []

    def sequences() -> Iterator[tuple[str, str]]:
        for split in _split_folders(folder):
            for each in sorted(path for path in split.iterdir() if path.is_dir()):
                files = sorted(path for path in each.iterdir() if not path.name.startswith("."))
                if not files:
                    raise UserError(f"class {each.name!r} has no file in {each}; put its sequences there, or remove it")
                for file in files:
                    labels.append(each.name)
                    splits.append(str(split_named(split.name)))
                    yield str(file.relative_to(folder)), "".join(line.strip() for line in read_lines(file))

    found = whole(encoded(str(folder), sequences()))
    return Rows(str(folder), found, {"label": labels}, splits)


def _split_folders(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir() and split_named(each.name))
