"""The files that a set of labelled sequences consists of, and the reader of each."""

from pathlib import Path
from typing import NamedTuple

from hyena_dist.config.task_data import TaskData
from hyena_dist.data.text.files import read_lines
from hyena_dist.data.text.table import suffix_of
from hyena_dist.errors import UserError
from hyena_dist.tasks.readers.class_folders import is_class_folders, read_class_folders
from hyena_dist.tasks.readers.fasta import has_label, read_labelled_fasta
from hyena_dist.tasks.readers.rows import Rows, split_named
from hyena_dist.tasks.readers.tables import read_labelled_table
from hyena_dist.tracking.work_progress import Say

FORMATS = {
    ".csv": "table",
    ".tsv": "table",
    ".parquet": "table",
    ".bed": "intervals",
    ".fa": "fasta",
    ".fasta": "fasta",
    ".fna": "fasta",
}
"""The format of a file by its suffix; .txt may be FASTA, which its first letter tells."""


class _File(NamedTuple):
    path: Path
    split: str | None
    label: str | None = None


def read_rows(settings: TaskData, say: Say) -> list[Rows]:
    """Return what each file has.

    Raises:
        UserError: There is no such file, it is of no format that can be read, or its reader refuses it.
    """
    if settings.path is not None:
        path = _existing(settings.path)
        if settings.format == "class_folders" or (
            settings.format == "auto" and path.is_dir() and is_class_folders(path)
        ):
            return [read_class_folders(path)]
        files = _files_in(path) if path.is_dir() else [_File(path, None)]
    else:
        named = {"train": settings.train, "valid": settings.valid, "test": settings.test}
        files = [_File(_existing(path), split) for split, path in named.items() if path]
    return [_read(file, settings, say) for file in files]


def _read(file: _File, settings: TaskData, say: Say) -> Rows:
    if _format(file.path, settings) == "fasta":
        return read_labelled_fasta(file.path, file.split, file.label)
    return read_labelled_table(file.path, file.split, settings, say)


def _format(path: Path, settings: TaskData) -> str:
    """Return the format of a file: the one that is named, or the one that it looks like."""
    if settings.format != "auto":
        return settings.format
    found = FORMATS.get(suffix_of(path))
    if found is None and next(read_lines(path), "").startswith(">"):
        found = "fasta"
    if found is None:
        raise UserError(
            f"{path} is of no known format; name it {', '.join(FORMATS)}, perhaps with .gz, or set task.data.format"
        )
    return found


def _files_in(folder: Path) -> list[_File]:
    """Return the files of a folder whose names have a split, such as train.csv, x.train.csv.gz, or class.test.fa."""
    files = []
    for path in sorted(folder.iterdir()):
        words = path.name.split(".")
        at = next((i for i, word in enumerate(words) if split_named(word)), None)
        if at is not None and path.is_file() and (suffix_of(path) in FORMATS or suffix_of(path) == ".txt"):
            files.append((_File(path, split_named(words[at])), ".".join(words[:at])))
    if not files:
        some = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
        raise UserError(
            f"{folder} has no files called train and test, nor folders, but {some}; name one file with "
            f"task.data.path, or one for each split with task.data.train and task.data.test"
        )
    return [
        file._replace(label=stem)
        if stem and FORMATS.get(suffix_of(file.path), "fasta") == "fasta" and not has_label(file.path)
        else file
        for file, stem in files
    ]


def _existing(path: str) -> Path:
    if not Path(path).exists():
        raise UserError(f"there is no {path}; check the path of the labelled sequences")
    return Path(path)
