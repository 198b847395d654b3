"""Windows of genomes as labelled sequences, whose class is the file that they are cut from."""

import csv
import gzip
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hyena_dist.data.text.contigs import read_contigs
from hyena_dist.data.tokenizer import decode
from hyena_dist.errors import UserError
from hyena_dist.system.files import write_atomically


class Windows(NamedTuple):
    """The windows that are cut."""

    folder: Path
    """The folder of genomes, a FASTA file for each class."""
    length: int
    most: int
    """The most windows of a class; of more, these are spread evenly."""


def write_windows(windows: Windows, out: Path) -> None:
    """Write a table of sequence, label and split, unless it is there.

    Windows lie side by side, so that no two have a base in common; of each sequence of a genome the last tenth is test,
    and the tenth before it valid.

    Raises:
        UserError: the folder has no FASTA file.
    """
    if out.exists():
        return
    files = sorted(windows.folder.glob("*.fa.gz")) if windows.folder.is_dir() else []
    if not files:
        raise UserError(f"{windows.folder} has no *.fa.gz file, of which each would be a class; name another folder")
    rows = []
    for file in files:
        contigs = read_contigs(file)
        places = [
            (number, start)
            for number, size in enumerate(contigs.lengths)
            for start in range(0, size - windows.length + 1, windows.length)
        ]
        kept = np.unique(np.linspace(0, len(places) - 1, min(len(places), windows.most)).round().astype(int))
        for number, start in (places[i] for i in kept):
            sequence = decode(contigs.tokens(number)[start : start + windows.length])
            place = (start + windows.length) / contigs.lengths[number]
            split = "train" if place <= 0.8 else "valid" if place <= 0.9 else "test"
            rows.append((sequence, file.name.removesuffix(".fa.gz"), split))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("sequence", "label", "split"), *rows])
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, gzip.compress(text.getvalue().encode(), mtime=0))
